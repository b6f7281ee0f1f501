# Both commands set up everything on a bare machine: Python >= 3.11 and the package index are all they need.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: bench test lint types docs clean

# The main job: six objectives x 8 seeds on handwritten digits, ranked by reconstruction error on held-out images.
bench: $(STAMP)
	$(VENV)/bin/ganzoo bench

# Lint, types, the documentation and every test, three files at a time, for many of them wait; warnings are errors.
test: $(STAMP) lint types docs
	$(VENV)/bin/python -m pytest -n 3 --dist loadfile

# Style and the house's import rules.
lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# mypy, strict.
types: $(STAMP)
	$(VENV)/bin/mypy

# The documentation as a site in site/, which asks no other machine for anything; a dead link or an omitted page ends it.
# Not --quiet: it would also silence the warnings that end a strict build. The variable silences an announcement of
# mkdocs-material's authors, nothing of ours.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# The environment: made when missing, renewed when pyproject.toml changes.
$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): torch, torchvision and the rest, about 5 GB, a few minutes ..."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

# Remove the environment and the caches; runs/ stays.
clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis site
