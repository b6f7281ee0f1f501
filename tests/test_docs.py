"""The documentation says what is so: its blocks run, its helps are the commands', its links lead somewhere."""

import contextlib
import html
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown import Markdown
from markdown.extensions.toc import slugify

import ganzoo
import screens
from ganzoo.cli import main
from ganzoo.config import PLANS, Plan, read_plan
from ganzoo.errors import UserError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("benchmarks/**/README.md")),
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Blocks


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def said_by(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a line typed in a terminal prints."""
    words = shlex.split(line)
    if words[0] != "ganzoo":
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        main()
    return "".join(capsys.readouterr())


def test_every_block_of_the_footguns_prints_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    said = ""
    for language, text in blocks_of((DOCS / "footguns.md").read_text(encoding="utf-8")):
        if (file := re.match(r"# file: (\S+)\n", text)) is not None:
            Path(file[1]).write_text(text.partition("\n")[2], encoding="utf-8")
        elif language == "python":
            assert said == "", "what the block above printed stands nowhere"
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(text, "footguns.md", "exec"), names)
            said = printed.getvalue()
        elif language == "text":
            assert said == text
            said = ""
        else:
            for line, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                assert said_by(line, capsys, monkeypatch) == expected
    assert said == ""


def test_there_are_footguns_enough_and_each_says_how_it_shows_and_what_ganzoo_does() -> None:
    page = (DOCS / "footguns.md").read_text(encoding="utf-8")
    traps = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert len(traps) >= 20
    for trap in traps:
        title = trap.partition("\n")[0]
        assert "**Symptom:**" in trap, title
        assert "**Here:**" in trap, title
        assert "Source: " in trap or "```" in trap, title


# Commands


@pytest.fixture(scope="module")
def commands_page() -> str:
    return (DOCS / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(screens.commands()))
def test_the_page_of_commands_has_the_help_of_each(name: str, commands_page: str) -> None:
    heading = f"## `ganzoo {name}".rstrip() + "`"
    assert heading in commands_page, "run: python benchmarks/screens.py --only " + name
    section = commands_page.partition(heading + "\n")[2].partition("\n## `")[0]
    shown = re.search(r"```text\n(.*?)\n```", section, re.DOTALL)
    assert shown is not None
    current = screens.help_of(name, screens.commands()[name])
    assert shown[1].split() == current.split(), "run: python benchmarks/screens.py --only"


def test_the_page_of_commands_has_a_screen_of_each_and_of_nothing_else(commands_page: str) -> None:
    shown = screens.screens_of(commands_page)
    assert set(shown) == set(screens.commands()) == set(screens.SCREENS)
    for name, screen in shown.items():
        lines = screen.splitlines()
        assert any(line.startswith("$ ") and f"ganzoo {name}".strip() in line for line in lines), name
        assert len(lines) >= 2, f"ganzoo {name} printed next to nothing"
        assert "/tmp/" not in screen
        assert str(ROOT) not in screen


@pytest.mark.parametrize("name", list(screens.SCREENS))
def test_each_line_of_a_screen_still_parses(name: str) -> None:
    root = screens.commands()[""]
    for line in [*screens.SCREENS[name].lines, *screens.BEFORE]:
        for part in re.split(r"&&|;|\|", line):
            words = shlex.split(part.partition(">")[0])
            if words and words[0] == "ganzoo":
                with root.make_context("ganzoo", words[1:], resilient_parsing=False) as context:
                    command = screens.commands().get(words[1] if len(words) > 1 else "")
                    if len(words) > 1 and command is not None:
                        command.make_context(words[1], words[2:], parent=context)


# The plan's schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads((DOCS / "plan.schema.json").read_text(encoding="utf-8"))


def test_the_schema_in_the_docs_is_the_plans() -> None:
    kept = (DOCS / "plan.schema.json").read_text(encoding="utf-8")
    assert kept == json.dumps(Plan.schema_of_toml(), indent=1) + "\n", (
        "run: ganzoo show plan --json > docs/plan.schema.json"
    )


def test_show_plan_prints_the_schema(
    schema: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(said_by("ganzoo show plan --json", capsys, monkeypatch)) == schema
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schema_tells_editors_of_every_key() -> None:
    schema = Plan.schema_of_toml()
    for place, model in {"": schema, **schema["$defs"]}.items():
        for key, content in model["properties"].items():
            assert content.get("description"), f"{place}.{key}"


TOMLS = [
    *PLANS.glob("*.toml"),
    *sorted(ROOT.glob("benchmarks/*.toml")),
    *sorted(ROOT.glob("benchmarks/results/**/*plan.toml")),
]


@pytest.mark.parametrize("path", TOMLS, ids=named)
def test_every_plan_that_comes_with_ganzoo_fits_the_schema(path: Path, schema: dict[str, Any]) -> None:
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema)


WRONG = [
    "seeds = 0", "seeds = 1.5", 'seeds = "8"', "seed = 3", "recipe = 'mine'", "epochs = 2_000_000", "z_dim = -1",
    "[data]\nset = 3", "[data]\nsplit = [1, 2]", "[data]\nsize = 5000", "[data]\nfolder = 'x'", "[shared]\nbeta1 = 1.0",
    "[shared]\noptimizer = 'sgd'", "[test_mre]\nhalvings = 9", "[labels]\nfolds = 1", "objectives = 'ls-gan'",
    "precision = 'fp8'", "plugins = [3]", "processes = 5000",
]  # fmt: skip
RIGHT = [
    "",
    "seeds = 8",
    "[data]\nsplit = [64, 16, 16]",
    "[generator]\nwidth = 8\nanything = [1, 2]",
    "data.set = 'npz'",
]


@pytest.mark.parametrize("text", [*WRONG, *RIGHT])
def test_the_schema_and_the_plan_judge_alike(text: str, schema: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    refused = False
    try:
        read_plan(tmp_path / "plan.toml")
    except UserError:
        refused = True
    fits = jsonschema.Draft202012Validator(schema).is_valid(tomllib.loads(text))
    assert fits != refused
    assert fits == (text in RIGHT)


# Links


def links_of(text: str) -> list[str]:
    """Targets of a page's links, outside code."""
    text = re.sub(r"^```[\s\S]*?^```|^(?: {4}.*\n)+|`[^`\n]*`", "`code`", text, flags=re.MULTILINE)
    return re.findall(r"\]\(([^()\s]+)\)", text)


def anchors_of(path: Path) -> set[str]:
    """Of a page's headings, both as GitHub and as the site make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = [re.sub(r"[`*]", "", found) for found in re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE)]
    on_github = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return on_github | {slugify(heading, "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_of_a_page_leads_to_a_file_and_an_anchor(path: Path) -> None:
    made_by_the_site = {DOCS / "benchmarks.md", DOCS / "changelog.md", DOCS / "storm.md", DOCS / "tour.md"}
    for link in links_of(path.read_text(encoding="utf-8")):
        if re.match(r"https?://|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        there = Path(os.path.normpath(path.parent / target)) if target else path
        if there in made_by_the_site:
            continue
        assert there.exists(), link
        assert there.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors_of(there), link


def test_the_look_for_links_would_see_dead_ones(tmp_path: Path) -> None:
    text = "# One `two`\n[a](b.md) `[c](d.md)`\n```text\n# No\n[e](f.md)\n```\n\n    [code](i.md)\n\n[g](h.md)\n"
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    assert links_of(text) == ["b.md", "h.md"]
    assert anchors_of(tmp_path / "a.md") == {"one-two"}


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does; a warning ends it."""
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def referenced(site: Path) -> set[str]:
    """The names of the reference, of Sphinx's inventory that the site brings for other projects' links."""
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    return {line.partition(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    there = referenced(site)
    assert [name for name in ganzoo.__all__ if f"ganzoo.{name}" not in there] == []
    assert "ganzoo.theory.optimum.solve" in there
    assert "ganzoo.config.Plan.z_dim" in there


def with_parameters() -> dict[str, Any]:
    """Public functions but for the decorators, and for those of (critic, real, fake), of which `GameLoss` tells."""
    functions = {name: getattr(ganzoo, name) for name in ganzoo.__all__ if inspect.isfunction(getattr(ganzoo, name))}
    return {
        name: function
        for name, function in functions.items()
        if function.__module__ != "ganzoo.hooks" and [*inspect.signature(function).parameters] != GAME_LOSS
    }


GAME_LOSS = ["critic", "real", "fake"]


@pytest.mark.parametrize("name", with_parameters())
def test_a_public_functions_docstring_tells_of_each_parameter(name: str) -> None:
    function = with_parameters()[name]
    said = inspect.getdoc(function) or ""
    parameters = set(inspect.signature(function).parameters)
    assert [parameter for parameter in parameters if not re.search(rf"\b{parameter}\b", said)] == []


@pytest.mark.parametrize("name", ganzoo.__all__)
def test_every_public_name_has_words_of_its_own_in_the_reference(name: str, site: Path) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html")]
    (page,) = [page for page in pages if f'id="ganzoo.{name}"' in page]  # documented in one place
    contents = page.partition(f'id="ganzoo.{name}"')[2].partition('<div class="doc doc-contents')[2]
    assert len(re.sub(r"<[^>]*>|\s", "", contents.partition("<h2")[0].partition("<h3")[0])) > 30


def test_the_site_asks_no_other_machine_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>", text) == [], (
            page.name
        )
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def as_markdown() -> Callable[[str, set[str]], str]:
    sys.path.insert(0, str(DOCS))
    try:
        from docstrings import markdown
    finally:
        sys.path.remove(str(DOCS))
    return markdown


@pytest.mark.parametrize(
    "text",
    [
        "G: (N, *shape) -> (N, *shape), `a*b*`, [-1, 1]   (Qi 2017).",
        "m^2 <= l_{m+i} and __x__ <b>bold</b> &amp; | $x$ ~~y~~ \\n [text](link) [a][b] # not a heading",
        "# a reason\n> no quotation\nE ||grad_x L(x)||_2^2 and *this* is not emphasis",
    ],
)
def test_a_docstring_reads_in_the_site_as_it_was_written(
    text: str, as_markdown: Callable[[str, set[str]], str]
) -> None:
    rendered = html.unescape(re.sub(r"<[^>]*>", "", Markdown().convert(as_markdown(text, set()))))
    assert rendered.split() == text.replace("`", "").split()


def test_what_a_docstring_tells_of_parameters_becomes_a_list(as_markdown: Callable[[str, set[str]], str]) -> None:
    told = as_markdown("Does.\nsteps: how\n    many\nleast, most: range\nThe end.", {"steps", "least", "most", "x"})
    assert told == "Does.\n\n- `steps`: how\n    many\n- `least`, `most`: range\n\nThe end."
    assert "- " not in as_markdown("steps: how many", {"x"})
    assert as_markdown("A table:\n\n    a_b  *\n        c\nend", set()) == "A table:\n\n    a_b  *\n        c\nend"
