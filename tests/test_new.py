"""`ganzoo new`: what it writes passes its checks, its test, the linter and the types as it is written."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from commands import Command

from ganzoo import new as making
from ganzoo.checks import CHECKS, Report, run_checks
from ganzoo.errors import UserError
from ganzoo.hooks import KINDS
from ganzoo.testing import entries_of
from ganzoo.zoo import Zoo
from ganzoo.zoo.listing import Listed, Listing, listing
from ganzoo.zoo.origin import Broken, Origin

HOUSE = ["--isolated", "--line-length", "120"]
RULES = ["--select", "E,F,W,I,B,UP,SIM,RUF,PT,TID,N,C4,PIE,RET,BLE", "--ignore", "RUF002"]


@pytest.fixture(scope="module")
def there() -> Listing:
    return listing()


def python(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python as in a stranger's folder: nothing of this checkout but what is installed."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory, there: Listing) -> Path:
    """A folder with a new plugin of each kind: one_word and two_words."""
    folder = tmp_path_factory.mktemp("every")
    for kind in KINDS:
        for name in (f"mine-{kind}", f"mine{kind}"):
            new = making.named(kind, name, there)
            making.write(folder, {new.file: making.plugin_file(new)})
    return folder


# One file


@pytest.fixture(scope="module")
def report(every: Path) -> Callable[[str], Report]:
    """report("cost") on the new plugin of that kind; checked once."""

    def of(kind: str) -> Report:
        (entry,) = entries_of(every / f"mine_{kind}.py")
        return run_checks(entry)

    return cache(of)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_every_check_of_its_kind_with_nothing_to_advise(
    kind: str, report: Callable[[str], Report]
) -> None:
    found = report(kind)
    assert found.passed, found.text()
    assert not found.failures, found.text()
    ids = {check.id for check in CHECKS if check.kind == kind}
    assert {result.check_id for result in found.results} >= ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_has_a_formula_a_domain_and_a_test_of_two_lines(kind: str, every: Path) -> None:
    text = (every / f"mine_{kind}.py").read_text(encoding="utf-8")
    code, test = text.split("\ndef test_")
    assert "from annotated_types import " in code
    assert "Annotated[" in code
    assert code.count("@ganzoo.") == 1
    body = test.splitlines()[1:]
    assert 1 <= len(body) <= 2
    assert body[-1].lstrip().startswith("assert ")
    zoo = Zoo()
    zoo.add_file(every / f"mine_{kind}.py")
    (entry,) = zoo
    assert entry.kind == kind
    assert " = " in entry.doc or ": nice" in entry.doc
    assert any(">= " in h.domain for h in entry.hyperparameters.values())


def test_the_tests_of_new_plugins_pass_where_nothing_is_configured(every: Path) -> None:
    ran = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *every.glob("*.py"), cwd=every)
    assert f"{2 * len(KINDS)} passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_tests_of_new_plugins_fail_where_their_formulas_are_wrong(every: Path, tmp_path: Path) -> None:
    wrong = {
        "cost": ("min=-floor", "min=floor"),
        "margin": (".mean(dim=1)", ".sum(dim=1)"),
        "generator": (", image_shape)", ", (1, *image_shape))"),
        "critic": ("nn.Flatten(0)", "nn.Identity()"),
        "objective": ("critic(real)", "1 + critic(real)"),
        "engine": ("(place, slots)", "(place, 1)"),
        "listener": ("{digits}f", "1f"),
    }
    assert set(wrong) == set(KINDS)
    for kind, (right, mistaken) in wrong.items():
        text = (every / f"mine_{kind}.py").read_text(encoding="utf-8")
        assert text.count(right) == 1
        (tmp_path / f"{kind}.py").write_text(text.replace(right, mistaken), encoding="utf-8")
    ran = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *tmp_path.glob("*.py"), cwd=tmp_path)
    assert f"{len(KINDS)} failed in" in ran.stdout, ran.stdout + ran.stderr


def test_new_plugins_are_clean_to_the_linter_and_the_formatter(every: Path) -> None:
    for arguments in (("check", "--isolated"), ("check", *HOUSE, *RULES), ("format", "--check", *HOUSE)):
        ran = python("-m", "ruff", *arguments, "--no-cache", *every.glob("*.py"), cwd=every)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_ends_with_the_commands_to_type_next_and_they_are_right(ganzoo: Command) -> None:
    said = ganzoo("new", "cost", "mine", "--out", "some where")
    assert said.status == 0
    assert "wrote some where/mine.py\n" in said.out
    assert "  pytest 'some where/mine.py'" in said.out
    check = next(line.strip() for line in said.out.splitlines() if line.startswith("  ganzoo check"))
    assert check == "ganzoo check 'some where/mine.py'"
    checked = ganzoo("check", "some where/mine.py")
    assert checked.status == 0
    assert " 0 failed" in checked.out


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", KINDS)
def test_the_comparison_that_it_names_takes_the_plugin(kind: str, ganzoo: Command) -> None:
    said = ganzoo("new", kind, f"mine-{kind}", "--json")
    told = json.loads(said.out)
    assert told["files"] == [f"mine_{kind}.py"]
    program, *arguments = told["next"][-1].split()
    assert program == "ganzoo"
    dry = ganzoo(*arguments, "--dry-run", "--json")
    assert dry.status == 0, dry.err
    assert kind in ("engine", "listener") or f"mine-{kind}" in dry.out


# Names


@pytest.mark.parametrize(
    "name",
    ["a/b", "../mine", "/tmp/mine", "a\\b", "mine.py", "a\x1b[31m", "a\nb", "mine\n", "<b>mine</b>", "Mine", "é", "",
     "-mine", "mine-", "a--b", "1st", "a b", "a" * 41, "a" * 100_000, "mine\u202e", "$(id)", "{{mine}}"],
)  # fmt: skip
def test_what_is_no_name_is_refused_in_one_line(name: str, ganzoo: Command) -> None:
    said = ganzoo("new", "cost", "--", name)
    assert said.status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "is no name for a cost: a small letter, then" in said.err
    assert len(said.err) < 300
    assert said.err.rstrip("\n").isprintable()
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("cost", "lambda", r"'lambda' is a keyword of Python; take another name, my-lambda say"),
        ("cost", "test-mine", r"pytest would take the function, and the zoo the file, for a test"),
        ("cost", "testing", r"pytest would take the function"),
        ("cost", "floor", r"'floor' means something else in the file of a cost"),
        ("cost", "torch", r"'torch' means something else"),
        ("objective", "losses", r"means something else in the file of an objective"),
        ("engine", "started", r"means something else"),
        ("cost", "random", r"'random' is a module: in its folder, random.py would be imported in its place"),
        ("cost", "numpy", r"'numpy' is a module"),
        ("cost", "leaky", r"cost 'leaky' is there already, from ganzoo .* \(ganzoo_plugins.leaky\); take another"),
        ("objective", "ls_gan", r"objective 'ls-gan' is there already"),
        ("objective", "lsgan", r"'lsgan' is ambiguous: ls-gan \(loss-sensitive"),
        ("cots", "mine", r"no kind 'cots'; did you mean 'cost'"),
    ],
)
def test_a_name_that_could_not_work_is_refused(kind: str, name: str, why: str, there: Listing) -> None:
    with pytest.raises(UserError, match=why):
        making.named(kind, name, there)


def test_a_name_of_another_kind_is_free_and_what_is_suggested_too(there: Listing) -> None:
    assert making.named("margin", "leaky", there).function == "leaky"
    assert making.named("cost", "my-leaky", there).reference == "cost/my-leaky"


def test_a_name_that_two_strangers_claim_is_refused() -> None:
    broken = Broken(Origin("a", "acme", "1"), "two things of one name: cost 'mine'", claims=("cost", "mine"))
    with pytest.raises(UserError, match="two things of one name: cost 'mine'"):
        making.named("cost", "mine", Listing((), (broken,)))
    assert making.named("margin", "mine", Listing((), (broken,))).name == "mine"


def test_a_strangers_name_is_taken_as_well() -> None:
    theirs = Listed({"kind": "cost", "name": "mine"}, Origin("acme.costs", "acme", "1.2"))
    with pytest.raises(UserError, match=r"cost 'mine' is there already, from acme 1.2 \(acme.costs\)"):
        making.named("cost", "mine", Listing((theirs,)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_that_a_file_uses_is_taken_for_its_function(kind: str, there: Listing) -> None:
    """Whatever word of the file were the function's name, it would be refused or mean the function alone."""
    new = making.named(kind, "mine", there)
    words = {word for word in making.plugin_file(new).replace(".", " ").split() if word.isidentifier()}
    for name in ("ganzoo", *(w for w in ("torch", "nn", "prod", "penalized", "started", "place") if w in words)):
        with pytest.raises(UserError, match="means something else"):
            making.named(kind, name, there)


# Files


def test_an_existing_file_is_left_as_it_is(ganzoo: Command) -> None:
    Path("mine.py").write_text("precious")
    said = ganzoo("new", "cost", "mine")
    assert said.status == 2
    assert said.err == "ganzoo: mine.py is there already; it is left as it is\n"
    assert Path("mine.py").read_text() == "precious"


def test_a_link_is_not_followed(ganzoo: Command) -> None:
    Path("mine.py").symlink_to("elsewhere.py")
    assert ganzoo("new", "cost", "mine").status == 2
    assert not Path("elsewhere.py").exists()


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("precious")
    monkeypatch.setattr(making, "require_absent", lambda path: None)
    with pytest.raises(UserError, match=r"cannot write .*mine\.py: File exists"):
        making.write(tmp_path, {"mine.py": "new"})
    assert (tmp_path / "mine.py").read_text() == "precious"


def test_a_folder_that_is_a_file_is_told_in_one_line(ganzoo: Command) -> None:
    Path("taken").write_text("")
    said = ganzoo("new", "cost", "mine", "--out", "taken")
    assert (said.status, said.err) == (2, "ganzoo: cannot write taken/mine.py: Not a directory\n")
    deep = ganzoo("new", "cost", "mine", "--out", "x" * 300)
    assert (deep.status, deep.err.count("\n")) == (2, 1)
    assert "File name too long" in deep.err


def test_it_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ganzoo.cli import main\nsys.argv = ['ganzoo', 'new', 'cost', 'mine']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('torch' in sys.modules)"
    )
    python("-c", code, cwd=tmp_path)  # what a first listing learns of plugins that cannot be read is kept
    (tmp_path / "mine.py").unlink()
    ran = python("-c", code, cwd=tmp_path)
    assert ran.stdout.splitlines()[-1] == "False", ran.stderr


# A distribution


def test_a_package_is_not_written_over_anything(ganzoo: Command) -> None:
    Path("ganzoo-mine").mkdir()
    said = ganzoo("new", "cost", "mine", "--package")
    assert (said.status, said.err) == (2, "ganzoo: ganzoo-mine is there already; it is left as it is\n")
    assert os.listdir("ganzoo-mine") == []


def test_a_package_hides_no_module(ganzoo: Command) -> None:
    said = ganzoo("new", "cost", "plugins", "--package")
    assert said.status == 2
    assert said.err == "ganzoo: the module ganzoo_plugins is there already; take another name, my-plugins say\n"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_makes_a_package_that_is_clean_and_whose_table_says_what_the_checks_say(
    kind: str, there: Listing, tmp_path: Path, every: Path, report: Callable[[str], Report]
) -> None:
    new, doc = making.named(kind, f"mine-{kind}", there), entries_of(every / f"mine_{kind}.py")[0].doc
    making.write(tmp_path, making.package_files(new, report(kind).markdown(), doc))
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    for result in report(kind).results:
        assert result.check_id in readme
    assert doc in readme
    assert f"**{kind} mine-{kind}** conforms: " in readme
    (point,) = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["entry-points"]["ganzoo"].items()
    assert point == (f"mine-{kind}", f"ganzoo_mine_{kind}.mine_{kind}")
    for arguments in (("check", *RULES), ("format", "--check")):
        ran = python("-m", "ruff", *arguments, "--no-cache", ".", cwd=tmp_path)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    workflow = (tmp_path / ".github/workflows/test.yml").read_text()
    assert "${{ matrix.python }}" in workflow
    assert "<<" not in workflow + readme


@pytest.mark.slow
def test_a_package_is_built_installed_found_and_passes_its_tests(ganzoo: Command, tmp_path: Path) -> None:
    """As its README and its CI do it; without an index, so into a folder beside what is installed here."""
    said = ganzoo("new", "cost", "mine", "--package")
    assert said.status == 0
    assert "  cd ganzoo-mine\n" in said.out
    package, installed = Path("ganzoo-mine").resolve(), tmp_path / "installed"
    pip = [
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    built = python(*pip, "--target", installed, ".", cwd=package)
    assert built.returncode == 0, built.stderr
    assert sorted(p.name for p in (installed / "ganzoo_mine").glob("*.py")) == ["__init__.py", "mine.py"]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = "from ganzoo.cli import main; main()"
    listed = python("-c", command, "list", "cost", cwd=elsewhere, PYTHONPATH=str(installed))
    line = next(line for line in listed.stdout.splitlines() if "mine" in line)
    assert line.endswith("[ganzoo-mine 0.1.0 (ganzoo_mine.mine)]")
    ran = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=package, PYTHONPATH=str(installed))
    asked = sum(check.kind == "cost" for check in CHECKS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed, skipped = (int(n) for n in _counts(ran.stdout, "passed", "skipped"))
    assert passed + skipped == asked + 1
    assert passed > 10
    # Installed, its name is taken.
    again = python("-c", command, "new", "cost", "mine", cwd=elsewhere, PYTHONPATH=str(installed))
    assert "cost 'mine' is there already, from ganzoo-mine 0.1.0" in again.stderr


@pytest.mark.slow
def test_new_plugins_and_the_tests_of_a_package_are_clean_to_the_types(
    every: Path, there: Listing, tmp_path: Path
) -> None:
    new = making.named("cost", "mine", there)
    making.write(tmp_path, making.package_files(new, "", ""))
    paths = [*every.glob("*.py"), *tmp_path.glob("tests/*.py")]
    ran = python(
        "-m", "mypy", "--strict", "--cache-dir", os.devnull, *paths, cwd=tmp_path, MYPYPATH=str(tmp_path / "src")
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _counts(text: str, *words: str) -> list[str]:
    said = text.splitlines()[-1].replace(",", "").split()
    return [next((number for number, what in pairwise(said) if what == word), "0") for word in words]
