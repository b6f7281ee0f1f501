"""The first minute: what is there is told at once, without torch, and it is what a full load would tell."""

import importlib
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fcntl import ioctl
from pathlib import Path
from random import Random
from typing import Any

import pytest
from announcing import COST, HEAD, announce

import ganzoo_plugins
from ganzoo import UserError, Zoo
from ganzoo.cli.app import paired, wrapped
from ganzoo.hooks import KINDS
from ganzoo.zoo import describe, kept
from ganzoo.zoo.announced import VARIABLE, limit
from ganzoo.zoo.listing import Listing, listing, listing_at_once
from ganzoo.zoo.origin import Origin, module_file
from ganzoo.zoo.plain import TORCH, NotPlain, read_plain, within

PATH = tuple(sys.path)
"""Before a test adds to it."""
HEAVY = {"torch", "numpy", "scipy", "hypothesis", "sklearn", "matplotlib", "torchvision"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that nothing is kept yet."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv(VARIABLE, raising=False)
    return place


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path, for distributions."""
    imported = set(sys.modules)
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    yield place
    forget(tmp_path, imported)


def forget(place: Path, imported: set[str]) -> None:
    importlib.invalidate_caches()
    for name in set(sys.modules) - imported:
        if str(place) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def fresh(place: Path) -> None:
    """As in a new process: what was imported from there is forgotten."""
    forget(
        place,
        {name for name, module in sys.modules.items() if str(place) not in str(getattr(module, "__file__", None))},
    )


def told(found: Zoo | Listing) -> dict[str, Any]:
    """Everything that a listing may print."""
    if isinstance(found, Zoo):
        entries = list(found)
        plugins = [(about, entry.origin) for about, entry in zip(describe(entries), entries, strict=True)]
    else:
        plugins = [(one.about, one.origin) for one in found.plugins]
    without_lines = [{**asdict(one), "traceback": bool(one.traceback)} for one in found.broken]
    return json.loads(
        json.dumps({"plugins": [[about, asdict(origin)] for about, origin in plugins], "broken": without_lines})
    )


def run(*arguments: str, sites: tuple[Path, ...] = (), **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own; with MODULES set, it tells on standard error what it has imported."""
    code = (
        "import sys, atexit, os\n"
        "sys.argv[0] = 'ganzoo'\n"
        "if 'MODULES' in os.environ: atexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n"
        "from ganzoo.cli import main\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, sites), *PATH]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def modules(said: "subprocess.CompletedProcess[str]") -> set[str]:
    return {name.partition(".")[0] for name in said.stderr.rpartition("MODULES ")[2].split()}


# Without torch


COMPLETE = {
    "_GANZOO_COMPLETE": "complete_bash",
    "COMP_WORDS": "ganzoo show le",
    "COMP_CWORD": "2",
}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ((), {}),
        (("--json",), {}),
        (("--help",), {}),
        (("--version",), {}),
        (("list",), {}),
        (("list", "costs", "--json"), {}),
        (("show", "--help"), {}),
        (("bench", "--help"), {}),
        ((), COMPLETE),
        ((), {VARIABLE: ""}),
    ],
    ids=["alone", "alone json", "help", "version", "list", "list json", "show help", "bench help", "Tab", "limited"],
)
def test_whoever_only_looks_does_not_wait_for_torch(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    said = run(*arguments, MODULES="1", **environment)
    assert said.returncode == 0, said.stderr
    assert said.stdout
    assert "ganzoo" in modules(said)
    assert HEAVY.isdisjoint(modules(said))


def test_the_look_for_torch_would_see_it() -> None:
    assert "torch" in modules(run("show", "plan", MODULES="1"))


def test_what_is_broken_is_told_without_torch_from_the_second_time_on(site: Path) -> None:
    announce(site, "acme", "import nowhere_at_all\n")
    first = run(sites=(site,), MODULES="1")
    again = run(sites=(site,), MODULES="1")
    assert "torch" in modules(first)
    assert HEAVY.isdisjoint(modules(again))
    assert again.stdout == first.stdout
    assert "acme 1.0 (acme): ModuleNotFoundError: No module named 'nowhere_at_all' (line 1 of acme.py)" in again.stdout


# What is listed is what a full load lists


def test_our_own_plugins_are_all_read_from_their_sources_and_read_right() -> None:
    found = listing()
    assert found.known == "read"
    assert told(found) == told(Zoo.installed())
    assert len(found.names("objective")) >= 6


PLAIN = {
    "a cost": HEAD + "@ganzoo.cost\ndef c(a, k: Annotated[float, Ge(0), Le(1)] = 1):\n    '''Doc.'''\n    return a\n",
    "many": HEAD
    + "LIMIT = 3.0\n@ganzoo.margin(name='m-1')\ndef m(real, fake, scale: float = LIMIT): return real\n"
    + "@ganzoo.cost\ndef c(a, *, k: int | None = None): return a\n",
    "typed": "from torch import Tensor, nn\nimport ganzoo\nfrom ganzoo import Cost, Margin, Objective\n"
    "class Net(nn.Module):\n    side: int = 3\n    def forward(self, x: Tensor) -> Tensor:\n        return x\n"
    "@ganzoo.objective\ndef o(cost: Cost, margin: Margin) -> Objective:\n    raise AssertionError\n",
    "future": "from __future__ import annotations\n" + HEAD
    + "@ganzoo.cost\ndef c(a: float, k: float = 1.0): return a\n",
    "strings": HEAD + "@ganzoo.engine\ndef e(cores: int, gpus: float) -> 'ganzoo.Engine': ...\n",
    "checked types": "from typing import TYPE_CHECKING\nimport ganzoo\nif TYPE_CHECKING:\n    import acme\n"
    "def aside(x: 'acme.X') -> None: ...\n@ganzoo.cost\ndef c(a): return a\n",
    "another name": "import ganzoo as zoo\nfrom ganzoo import margin as hook\n@hook\ndef m(real, fake): return 0\n"
    "@zoo.cost\ndef c(a): return a\n",
    "literals": "from typing import Literal, Optional\n" + HEAD
    + "@ganzoo.cost\ndef c(a, f: Literal['x', 'y'] = 'y', n: Optional[int] = 3): return a\n",
    "a dataclass": "from dataclasses import dataclass\n" + HEAD
    + "@dataclass(frozen=True)\nclass D:\n    x: int\n    y: float = 1.0\n@ganzoo.cost\ndef c(a): return a\n",
    "a docstring of a megabyte": HEAD + f"@ganzoo.cost\ndef c(a):\n    '''{'long ' * 200_000}'''\n    return a\n",
    "odd letters": HEAD
    + "@ganzoo.cost\ndef c(a):\n    '''\\x1b[2J<script>alert(1)</script>\\u202eC(a)\\r'''\n    return a\n",
}  # fmt: skip
"""Plugins that can be read without running them."""

NOT_PLAIN = {
    "made in a loop": HEAD
    + "for i in range(3):\n    def c(a): return a\n    globals()[f'c{i}'] = ganzoo.cost(name=f'c{i}')(c)\n",
    "star": "from typing import *\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "named by a call": HEAD + "@ganzoo.cost(name='x'.upper().lower())\ndef c(a): return a\n",
    "redefined": HEAD + "@ganzoo.cost\ndef c(a): return a\n@ganzoo.cost(name='other')\ndef c(a): return a\n",
    "taken away": HEAD + "@ganzoo.cost\ndef c(a): return a\ndel c\n@ganzoo.cost\ndef d(a): return a\n",
    "covered": HEAD + "@ganzoo.cost\ndef c(a): return a\nc = 3\n@ganzoo.cost\ndef d(a): return a\n",
    "wrapped": "import functools\n" + HEAD + "@ganzoo.cost\n@functools.cache\ndef c(a): return a\n",
    "unmarked": HEAD + "def c(a): return a\n",
    "no such name in torch": "from torch import Tensr\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "no such name in ganzoo": "from ganzoo import Gost\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "no such attribute": HEAD + "@ganzoo.gost\ndef c(a): return a\n",
    "no such module of Python": "import colections\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "no such name in Python": "from math import pie\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "a default outside its domain": HEAD + "@ganzoo.cost\ndef c(a, k: Annotated[float, Le(1)] = 2.0): return a\n",
    "a default of another type": HEAD + "@ganzoo.cost\ndef c(a, k: int = 2.0): return a\n",
    "a true float": HEAD + "@ganzoo.cost\ndef c(a, k: float = True): return a\n",
    "an argument twice": HEAD + "def aside(x, x): ...\n@ganzoo.cost\ndef c(a): return a\n",
    "a stray return": HEAD + "@ganzoo.cost\ndef c(a): return a\nclass A:\n    def f(self):\n        break\n",
    "an infinite float": HEAD + "@ganzoo.cost\ndef c(a, k: float = 1e999): return a\n",
    "a huge integer": HEAD + f"@ganzoo.cost\ndef c(a, k: float = 1{'0' * 400}): return a\n",
    "no annotation": HEAD + "@ganzoo.cost\ndef c(a, k=2.0): return a\n",
    "an unknown annotation": HEAD + "@ganzoo.cost\ndef c(a, k: 'Nowhere' = 2.0): return a\n",
    "an unknown annotation of what is given": HEAD + "@ganzoo.cost\ndef c(a: 'Nowhere'): return a\n",
    "an unknown result": HEAD + "@ganzoo.cost\ndef c(a) -> 'Nowhere': return a\n",
    "a union of a string": HEAD + "@ganzoo.cost\ndef c(a: 'float' | None): return a\n",
    "a union of nothing": HEAD + "@ganzoo.cost\ndef c(a: None | None): return a\n",
    "a union of a constant": HEAD + "X = 3\n@ganzoo.cost\ndef c(a: X | None): return a\n",
    "an unhashable key": HEAD + "X = {[]: 1}\n@ganzoo.cost\ndef c(a): return a\n",
    "a class of two bases": "from torch import nn\n" + HEAD
    + "class A(nn.Module, nn.Sequential): pass\n@ganzoo.cost\ndef c(a): return a\n",
    "a field after a default": "from dataclasses import dataclass\n" + HEAD
    + "@dataclass\nclass D:\n    x: int = 1\n    y: int\n@ganzoo.cost\ndef c(a): return a\n",
    "a shared default": "from dataclasses import dataclass\n" + HEAD
    + "@dataclass\nclass D:\n    x: list = []\n@ganzoo.cost\ndef c(a): return a\n",
    "an unknown argument of a decorator": HEAD + "@ganzoo.cost(nam='x')\ndef c(a): return a\n",
    "a name that is no string": HEAD + "@ganzoo.cost(name=3)\ndef c(a): return a\n",
    "a base that is none": HEAD + "X = 3\nclass A(X): pass\n@ganzoo.cost\ndef c(a): return a\n",
    "an import of oneself": HEAD + "import plugged\n@ganzoo.cost\ndef c(a): return a\n",
    "raises": HEAD + "@ganzoo.cost\ndef c(a): return a\nraise RuntimeError('no')\n",
    "a wrong parameter": HEAD + "@ganzoo.cost\ndef c(b): return b\n@ganzoo.cost\ndef d(a): return a\n",
    "a bad name": HEAD + "@ganzoo.cost(name='a/b')\ndef c(a): return a\n",
    "an ambiguous name": HEAD + "@ganzoo.objective\ndef lsgan(): ...\n",
    "syntax": "def c(a:\n",
    "null": "x = 1\0\n",
    "empty": "",
    "prints": "print('seen')\n" + HEAD + "@ganzoo.cost\ndef c(a): return a\n",
    "leaves": "raise SystemExit(3)\n",
}  # fmt: skip
"""Plugins that do more than define, or are broken: they have to be loaded to be known."""


@pytest.mark.parametrize("source", [*PLAIN, *NOT_PLAIN])
@pytest.mark.parametrize("door", ["distribution", "folder"])
def test_a_listing_is_what_a_full_load_lists(
    source: str, door: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "plugged" if door == "distribution" else "")  # ours take a while, each time
    plain, text = source in PLAIN, {**PLAIN, **NOT_PLAIN}[source]
    paths: list[Path] = []
    if door == "distribution":
        announce(site, "plugged", text)
    else:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "plugged.py").write_text(text)
        paths = [tmp_path / "folder"]
    importlib.invalidate_caches()
    first = listing(paths)
    fresh(tmp_path)
    again = listing(paths)
    fresh(tmp_path)
    full = Zoo.installed(*paths)
    assert told(first) == told(full)
    assert told(again) == told(full)
    assert (first.known, again.known) == (("read", "read") if plain else ("loaded", "kept"))
    if plain:
        assert not full.broken


def packaged(site: Path) -> None:
    files = {
        "__init__.py": "'''A package.'''\n",
        "one.py": HEAD + "@ganzoo.cost\ndef one_cost(a): return a\n",
        "two.py": "from acme import shared\nfrom acme.shared import LEVEL\n" + HEAD
        + "@ganzoo.cost\ndef two_cost(a, k: float = 1.0): return a\n",
        "shared.py": "LEVEL = 2.0\n",
    }  # fmt: skip
    announce(site, "acme", files, entry_points="one = acme.one\ntwo = acme.two")


SITES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a package": (packaged, "read"),
    "two of one name": (lambda site: [announce(site, n, COST.format(name="twin")) for n in ("aa", "bb")], "loaded"),
    "one of ours": (lambda site: announce(site, "aa", COST.format(name="leaky")), "loaded"),
    "one entry point of two": (
        lambda site: [announce(site, n, COST.format(name=n), entry_points=f"same = {n}") for n in ("aa", "bb")],
        "loaded",
    ),
    "an entry point of ours": (
        lambda site: announce(site, "aa", COST.format(name="a"), entry_points="leaky = aa"),
        "loaded",
    ),
    "a class": (
        lambda site: announce(
            site, "aa", HEAD + "class C:\n    @ganzoo.cost\n    def c(a): ...\n", entry_points="a = aa:C"
        ),
        "loaded",
    ),
    "no module": (lambda site: announce(site, "aa", "", entry_points="a = nowhere.at_all"), "loaded"),
    "corrupt entry points": (lambda site: announce(site, "aa", "", entry_points="nothing to see"), "loaded"),
    "a package that fails": (
        lambda site: announce(
            site,
            "aa",
            {"__init__.py": "1 / 0\n", "b.py": COST.format(name="b")},
            entry_points="a = aa.b",
        ),
        "loaded",
    ),
    "what is beside fails": (
        lambda site: announce(
            site,
            "aa",
            {"__init__.py": "", "b.py": "from aa import c\n" + COST.format(name="b"), "c.py": "import nowhere\n"},
            entry_points="a = aa.b",
        ),
        "loaded",
    ),
    "one through two modules": (
        lambda site: announce(
            site,
            "aa",
            {"__init__.py": "", "b.py": COST.format(name="b"), "c.py": "from aa.b import b\n" + COST.format(name="c")},
            entry_points="b = aa.b\nc = aa.c",
        ),
        "loaded",
    ),
}


@pytest.mark.parametrize("scene", SITES)
@pytest.mark.parametrize("only", [None, "", "aa", "aa,leaky"])
def test_a_listing_of_several_distributions_is_what_a_full_load_lists(
    scene: str, only: str | None, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, known = SITES[scene]
    write(site)
    importlib.invalidate_caches()
    if only is not None:
        monkeypatch.setenv(VARIABLE, only)
    if scene == "a package" and only is not None and "aa" in only:
        with pytest.raises(UserError, match=r"^GANZOO_PLUGINS names 'aa', which is not installed"):
            listing()
        return
    found = [listing()]
    fresh(tmp_path)
    found.append(listing())
    fresh(tmp_path)
    full = told(Zoo.installed())
    assert [told(one) for one in found] == [full, full]
    if only is None:
        assert found[0].known == known
        assert found[1].known == ("kept" if known == "loaded" else "read")


def test_a_file_and_its_folder_are_one_and_two_files_of_one_name_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.py").write_text(COST.format(name=f"of_{name}"))
    (folder / "_private.py").write_text("1 / 0")
    (folder / "test_it.py").write_text("1 / 0")
    paths = [folder, folder / "a.py", folder / ".." / "folder" / "b.py"]
    found = listing(paths)
    assert found.known == "read"
    assert told(found) == told(Zoo.installed(*paths))
    (folder / "b.py").write_text(COST.format(name="of_a"))
    found = listing([folder])
    assert found.known == "loaded"
    assert told(found) == told(Zoo.installed(folder))
    assert len(found.broken) == 2


def test_what_is_asked_for_and_absent_or_broken_is_said_as_by_a_full_load(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    for path in (tmp_path / "absent.py", broken, tmp_path / ("x" * 300), broken):
        with pytest.raises(UserError) as full:
            Zoo.installed(path)
        with pytest.raises(UserError) as quick:
            listing([path])
        assert str(quick.value) == str(full.value)


SOURCES = [path for path in sorted(Path(ganzoo_plugins.__path__[0]).glob("*.py")) if path.name != "__init__.py"]


def damaged(text: str, draw: Random) -> str:
    """The source with one slip in it."""
    lines = text.splitlines(keepends=True)
    where = draw.randrange(len(lines))
    way = draw.randrange(5)
    if way == 0:
        del lines[where]
    elif way == 1:
        lines.insert(draw.randrange(len(lines)), lines[where])
    elif way == 2:
        lines[where] = re.sub(r"[A-Za-z]\b", "x", lines[where], count=1 + draw.randrange(3))
    elif way == 3:
        lines[where] = lines[where].replace(
            *draw.choice([("(", ""), ("float", "str"), ("1", "-1"), ("|", "&"), (", ", " ")])
        )
    else:
        words = re.findall(r"\w+", text)
        lines[where] = lines[where].replace(draw.choice(words), draw.choice(words))
    return "".join(lines)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_whatever_slip_is_made_what_is_read_is_what_is_loaded(path: Path, tmp_path: Path) -> None:
    """Where it cannot be read nothing is claimed; that most slips within a function can is seen below."""
    draw, text, read = Random(path.name), path.read_text(encoding="utf-8"), 0
    for i in range(12):
        wrong = tmp_path / f"slip_{i}.py"
        wrong.write_text(damaged(text, draw), encoding="utf-8")
        try:
            entries = read_plain("slip", wrong, Origin(str(wrong)), str(wrong))
        except NotPlain:
            continue
        read += 1
        zoo = Zoo()
        zoo.add_file(wrong)
        assert zoo.broken == ()
        order = sorted(entries, key=lambda entry: (KINDS.index(entry.kind), entry.name))
        assert describe(order) == describe(zoo), wrong.read_text(encoding="utf-8")
    if path.stem in ("leaky", "elu", "lp"):
        assert read > 0


def test_what_a_plain_plugin_may_name_of_torch_is_there() -> None:
    for holder, names in TORCH.items():
        module = importlib.import_module(holder)
        assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    ("value", "annotation", "certain"),
    [
        (1, float, True),
        (True, float, False),
        (True, bool, True),
        (1, bool, False),
        (1.0, int, False),
        ("1", str, True),
        (None, float | None, True),
        (float("nan"), float, False),
        ([1], list, False),
    ],
)
def test_a_default_is_certain_only_where_pydantic_takes_it(value: Any, annotation: Any, certain: bool) -> None:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    assert within(value, annotation) == certain
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError:
        assert not certain


# What is kept


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with every full load of a listing."""
    count: list[str] = []
    installed = Zoo.installed

    def counted(*paths: Path) -> Zoo:
        count.append("load")
        return installed(*paths)

    monkeypatch.setattr("ganzoo.zoo.listing.Zoo.installed", counted)
    return count


BROKEN_PACKAGE = {
    "__init__.py": "",
    "b.py": "from aa import c\n" + COST.format(name="b"),
    "c.py": "import nowhere_zz\n",
}


def relisted(site: Path, change: Callable[[], object]) -> Listing:
    """The listing after that change, which is what a full load then lists."""
    listing()
    assert listing().known == "kept"
    change()
    fresh(site.parent)
    found = listing()
    fresh(site.parent)
    assert told(found) == told(Zoo.installed())
    fresh(site.parent)
    return found


def same_size_and_time(path: Path, old: str, new: str) -> None:
    before = path.stat()
    assert len(old) == len(new)
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda site: (site / "aa" / "c.py").write_text("x = 1\n"),
        lambda site: same_size_and_time(site / "aa" / "b.py", "cost", "gost"),
        lambda site: (site / "nowhere_zz.py").write_text(""),
        lambda site: announce(site, "bb", COST.format(name="b2")),
        lambda site: (site / "aa-1.0.dist-info").rename(site / "gone"),
        lambda site: (site / "aa-1.0.dist-info" / "entry_points.txt").write_text("[ganzoo]\nother = aa.c\n"),
        lambda site: (site / "aa").rename(site / "ab"),
    ],
    ids=["mended", "same size and time", "no longer missing", "one more", "one less", "announced anew", "moved"],
)
def test_after_a_change_the_zoo_is_loaded_anew(change: Callable[[Path], object], site: Path, loads: list[str]) -> None:
    announce(site, "aa", BROKEN_PACKAGE, entry_points="a = aa.b")
    importlib.invalidate_caches()
    assert relisted(site, lambda: change(site)).known in ("loaded", "read")


def test_a_module_that_a_plugin_needs_is_looked_at_by_its_content(site: Path) -> None:
    named = "import ganzoo\nfrom aa.c import NAME\n@ganzoo.cost(name=NAME)\ndef c(a): return a\n"
    announce(site, "aa", {"__init__.py": "", "b.py": named, "c.py": "NAME = 'one'\n"}, entry_points="a = aa.b")
    importlib.invalidate_caches()
    found = relisted(site, lambda: same_size_and_time(site / "aa" / "c.py", "one", "two"))
    assert "two" in found.names("cost")


def test_another_environment_is_another_question(site: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    announce(site, "aa", "import os\nos.environ['ACME_HOME']\n" + COST.format(name="b"))
    importlib.invalidate_caches()
    assert relisted(site, lambda: monkeypatch.setenv("ACME_HOME", "/acme")).broken == ()
    for name in ("TMUX_PANE", "COLUMNS", "PWD", "SSH_TTY", "_GANZOO_COMPLETE"):
        monkeypatch.setenv(name, "another")
    fresh(site.parent)
    assert listing().known == "kept"


def test_what_the_code_alone_does_not_decide_is_believed_for_minutes_only(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = kept.time.time()
    monkeypatch.setattr(kept.time, "time", lambda: now)
    flag = site / "server-answers"
    text = f"import os\nif not os.path.exists({str(flag)!r}): raise OSError('no answer')\n"
    announce(site, "aa", text + COST.format(name="b"))
    importlib.invalidate_caches()
    assert len(listing().broken) == 1
    flag.touch()
    fresh(site.parent)
    assert listing().known == "kept"
    for later, known in ((kept.DOUBTFUL_SECONDS - 5, "kept"), (kept.DOUBTFUL_SECONDS + 5, "loaded")):
        monkeypatch.setattr(kept.time, "time", lambda later=later: now + later)
        fresh(site.parent)
        found = listing()
        assert found.known == known
    assert found.broken == ()


def test_a_folder_that_gains_a_file_is_looked_at_anew(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.py").write_text("import nowhere_zz\n")
    assert [listing([folder]).known, listing([folder]).known] == ["loaded", "kept"]
    (folder / "b.py").write_text(COST.format(name="b"))
    found = listing([folder])
    assert found.known == "loaded"
    assert "b" in found.names("cost")


@pytest.fixture
def aa(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One broken distribution, which alone is let in."""
    monkeypatch.setenv(VARIABLE, "aa")
    return announce(site, "aa", "import nowhere_zz\n")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "a bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "a letter": lambda content: content.replace(b"nowhere_zz", b"nowhere_zy", 1),
    "no JSON": lambda content: b"\xff\x00" * 100,
    "another's": lambda content: b"{}",
    "deep": lambda content: b"[" * 200_000,
}


@pytest.mark.parametrize("way", DAMAGE)
def test_a_damaged_file_is_as_none(way: str, aa: Path, home: Path) -> None:
    before = told(listing())
    (path,) = (home / ".cache/ganzoo/listings").iterdir()
    path.write_bytes(DAMAGE[way](path.read_bytes()))
    assert listing().known == "loaded"
    assert told(listing()) == before
    assert listing().known == "kept"


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"content": 1, "depends": 2}', b'{"content": {}, "depends": {}}'])
def test_a_whole_file_of_another_form_is_as_none(content: bytes, aa: Path, home: Path) -> None:
    listing()
    (path,) = (home / ".cache/ganzoo/listings").iterdir()
    path.write_bytes(kept.hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    assert listing().known == "loaded"


@pytest.mark.parametrize("way", ["a file in its place", "no home", "read only", "full"])
def test_where_nothing_can_be_kept_the_listing_is_the_same(
    way: str, aa: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = told(listing())
    (path,) = (home / ".cache/ganzoo/listings").iterdir()
    path.unlink()
    if way == "a file in its place":
        path.parent.rmdir()
        path.parent.write_text("")
    elif way == "no home":
        monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    else:

        def refused(*_: object) -> int:
            raise OSError(28 if way == "full" else 30, "no")

        monkeypatch.setattr(Path, "write_bytes", refused)
    for _ in range(2):
        found = listing()
        assert found.known == "loaded"
        assert told(found) == expected
    assert not path.exists()


def test_only_so_many_answers_are_kept(aa: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 3)
    for i in range(5):
        monkeypatch.setenv("ACME_HOME", str(i))
        listing()
    assert len(list((home / ".cache/ganzoo/listings").iterdir())) == 3
    assert listing().known == "kept"  # the newest


def test_what_a_tab_offers_never_loads_anything(site: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    announce(site, "aa", "import nowhere_zz\n")
    announce(site, "bb", COST.format(name="of_bb"))
    importlib.invalidate_caches()
    found = listing_at_once()
    assert {"leaky", "of-bb"} <= set(found.names("cost"))
    assert loads == []
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert listing_at_once().plugins == ()


# GANZOO_PLUGINS


def test_the_limit_is_read_from_the_environment() -> None:
    assert limit({}) is None
    assert limit({VARIABLE: ""}) == limit({VARIABLE: " , ,"}) == ()
    assert limit({VARIABLE: " a, B_c ,"}) == ("a", "B_c")


def test_a_limit_lets_in_distributions_and_entry_points_however_they_are_spelt(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(site, "acme_gans", COST.format(name="of_acme"), entry_points="a-point = acme_gans")
    announce(site, "bad", "import nowhere_zz\n")
    importlib.invalidate_caches()
    monkeypatch.setenv(VARIABLE, "Acme.Gans, LS_GAN")
    zoo = Zoo.installed()
    assert [(entry.kind, entry.name) for entry in zoo] == [("objective", "ls-gan"), ("cost", "of-acme")]
    assert zoo.broken == ()
    monkeypatch.setenv(VARIABLE, "")
    assert list(Zoo.installed()) == []
    monkeypatch.setenv(VARIABLE, "bad")
    assert len(Zoo.installed().broken) == 1


def test_what_is_left_out_is_not_imported_and_claims_nothing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(site, "aa", "import sys\nsys.aa_was_imported = True\n" + COST.format(name="twin"))
    announce(site, "bb", COST.format(name="twin"))
    importlib.invalidate_caches()
    monkeypatch.setenv(VARIABLE, "ganzoo,bb")
    zoo = Zoo.installed()
    assert not hasattr(sys, "aa_was_imported")
    assert str(zoo.find("cost", "twin").origin) == "bb 1.0 (bb)"
    assert zoo.broken == ()


def test_a_path_is_loaded_whatever_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text(COST.format(name="mine"))
    monkeypatch.setenv(VARIABLE, "")
    assert [entry.name for entry in Zoo.installed(path)] == ["mine"]
    assert [one.name for one in listing([path]).plugins] == ["mine"]


def test_an_unknown_name_in_the_limit_is_told_the_nearest_and_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "leaky,leeky")
    for ask in (Zoo.installed, listing):
        with pytest.raises(
            UserError, match=r"^GANZOO_PLUGINS names 'leeky', which is not installed; did you mean 'leaky'\?"
        ):
            ask()


def test_what_a_limit_leaves_out_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, one_cell: Callable[..., Any]
) -> None:
    cell = one_cell("wgan")
    monkeypatch.setenv(VARIABLE, "dcgan-networks")
    zoo = Zoo.installed()
    with pytest.raises(
        UserError, match=r"^no objective named 'wgan' \(GANZOO_PLUGINS lets in dcgan-networks\); there are none"
    ):
        zoo.find("objective", "wgan")
    with pytest.raises(UserError, match=r"^nothing is named 'wgan' \(GANZOO_PLUGINS lets in dcgan-networks\)"):
        zoo.named("wgan")
    from ganzoo.party import require_planned_code

    with pytest.raises(UserError, match=r"no objective named 'wgan' \(GANZOO_PLUGINS"):
        require_planned_code(cell, zoo)


def test_a_comparison_of_what_is_left_out_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ganzoo.cli import main

    for only, arguments, told in (
        ("leaky", ["bench", "-o", "wgan", "--dry-run"], "no objective named 'wgan' (GANZOO_PLUGINS lets in leaky)"),
        ("leeky", [], "GANZOO_PLUGINS names 'leeky', which is not installed"),
    ):
        monkeypatch.setenv(VARIABLE, only)
        monkeypatch.setattr(sys, "argv", ["ganzoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
        assert told in err


# The screens


def test_alone_it_says_what_is_there_what_is_broken_and_four_next_steps(site: Path) -> None:
    announce(site, "aa", COST.format(name="twin"))
    announce(site, "bb", COST.format(name="twin"))
    announce(site, "bad", "import nowhere_zz\n")
    announce(site, "fine", COST.format(name="fine_cost"))
    said = run(sites=(site,))
    assert (said.returncode, said.stderr) == (0, "")
    blocks = said.stdout.split("\n\n")
    assert [block.split()[0] for block in blocks] == ["ganzoo:", "objectives", "Broken:", "Next:"]
    assert [line.split()[0] for line in blocks[1].splitlines()] == [f"{kind}s" for kind in KINDS]
    assert "fine-cost" in blocks[1]
    assert "twin" not in blocks[1]
    broken = blocks[2].splitlines()[1:]
    assert [line.split()[0] for line in broken] == ["bad", "aa", "bb", "more:"]
    assert broken[0].endswith("ModuleNotFoundError: No module named 'nowhere_zz' (line 1 of bad.py)")
    assert broken[3] == "  more: ganzoo why bad, ganzoo why cost/twin"
    assert len(blocks[3].strip().splitlines()) == 1 + 4
    assert all(line.startswith("  ganzoo ") for line in blocks[3].strip().splitlines()[1:])


def test_a_limit_is_told_of(site: Path) -> None:
    assert "\nGANZOO_PLUGINS is set: it lets in leaky, lp.\n" in run(GANZOO_PLUGINS="leaky,lp").stdout
    assert "GANZOO_PLUGINS is set: it lets in nothing that is installed.\n" in run(GANZOO_PLUGINS="").stdout
    assert json.loads(run("--json", GANZOO_PLUGINS="leaky").stdout)["GANZOO_PLUGINS"] == ["leaky"]
    assert json.loads(run("--json").stdout)["GANZOO_PLUGINS"] is None


@pytest.mark.parametrize(
    ("lets_in", "steps"),
    [
        ("", ["new cost mine", "unset GANZOO_PLUGINS"]),
        ("leaky", ["new cost mine", "check leaky", "unset GANZOO_PLUGINS"]),
        ("ganzoo", ["demo", "new cost mine", "check leaky", "bench --dry-run"]),
    ],
)
def test_the_next_steps_are_those_that_can_be_taken(lets_in: str, steps: list[str]) -> None:
    _, _, told = run(GANZOO_PLUGINS=lets_in).stdout.partition("\nNext:\n")
    assert [line.split("  ")[1].removeprefix("ganzoo ") for line in told.splitlines()] == steps


def on_a_terminal(columns: int, *arguments: str, sites: tuple[Path, ...] = ()) -> str:
    """What the command writes to a terminal of so many columns."""
    ours, its = pty.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from ganzoo.cli import main; main()", *arguments],
        env={**environment, "PYTHONPATH": os.pathsep.join([*map(str, sites), *PATH]), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux ends a terminal
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode().replace("\r\n", "\n")


HOSTILE = HEAD + (
    "@ganzoo.cost\ndef rude(a):\n"
    "    '''<script>alert(1)</script>\\x1b[2J\\x1b]0;title\\x07\\u202e\\r\\x00 "
    + "x" * 1_000_000
    + "'''\n    return a\n"
)


def test_on_a_terminal_of_any_width_no_line_is_longer_and_none_does_anything_to_it(site: Path) -> None:
    announce(site, "bad", "raise OSError('no\\x1b[2J' + 'x' * 5000)\n")
    announce(site, "rude", HOSTILE)
    for columns, arguments in ((20, ()), (80, ()), (200, ()), (20, ("list",)), (80, ("list",))):
        said = on_a_terminal(columns, *arguments, sites=(site,))
        said = said.partition("broken: ")[0]  # on standard error, for a log
        lines = said.splitlines()
        assert max(map(len, lines)) <= columns
        assert all(line.isprintable() for line in lines)
        assert len(said) < 20_000
        assert "rude" in said


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_items_of_the_paper_are_no_wider_than_the_terminal(columns: int) -> None:
    said = on_a_terminal(columns, "paper")
    assert max(map(len, said.splitlines())) <= columns
    assert "ganzoo paper figure-1 (data: synthetic) [ready]" in " ".join(said.split())


def test_piped_a_name_is_a_line(site: Path) -> None:
    announce(site, "rude", HOSTILE)
    said = run("list", "cost", sites=(site,)).stdout
    lines = said.splitlines()
    assert [line.split()[:2] for line in lines] == [["cost", name] for name in listing().names("cost")]
    assert all(line.isprintable() and len(line) < 2100 for line in lines)


def test_two_columns_keep_every_word_at_every_width() -> None:
    pairs = [("name", "some words that belong to it"), ("longer-name", ""), ("x" * 30, "more")]
    words = [word for pair in pairs for text in pair for word in text.split()]
    for columns in [*range(10, 100), None]:
        text = paired(pairs, columns)
        if columns is None or columns > 40:
            assert text.split() == words
        assert "".join(text.split()) == "".join(words)
        if columns is not None:
            assert max(map(len, text.splitlines())) <= max(columns, 12)
    assert paired(pairs[:2], None) == "  name         some words that belong to it\n  longer-name"
    assert wrapped("aaaa bbbb c\n\nd", 9) == "aaaa bbbb\nc\n\nd"


# The demo


def test_the_plan_of_the_demo_is_two_objectives_on_digits() -> None:
    from ganzoo.cli.demo import PLAN
    from ganzoo.config import read_plan

    plan = read_plan(PLAN)
    assert len(plan.objectives) == 2
    assert plan.data.set == "digits"


def test_the_demo_is_a_comparison_that_ends_with_its_page(
    tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(tiny(objectives=["ls-gan", "wgan"]).toml())
    monkeypatch.setattr("ganzoo.cli.demo.PLAN", plan)
    from ganzoo.cli import main

    for arguments in (["demo"], ["demo", "--json"]):
        monkeypatch.setattr(sys, "argv", ["ganzoo", *arguments, "--out", str(tmp_path / "run"), "--jobs", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        out = capsys.readouterr().out
        page = tmp_path / "run" / "report.html"
        if arguments == ["demo"]:
            assert out.rstrip().splitlines()[-1] == f"page      {page}"
        else:
            found = json.loads(out)
            assert found["page"] == str(page)
            assert {standing["label"] for standing in found["standings"]} == {"ls-gan", "wgan"}
        text = page.read_text(encoding="utf-8")
        assert "ls-gan" in text
        assert "wgan" in text


def test_the_file_of_a_module_is_found_without_importing_it(site: Path) -> None:
    announce(site, "aa", {"__init__.py": "1 / 0\n", "b.py": "1 / 0\n", "sub/__init__.py": "", "sub/c.py": ""})
    importlib.invalidate_caches()
    assert module_file("aa") == site / "aa" / "__init__.py"
    assert module_file("aa.b") == site / "aa" / "b.py"
    assert module_file("aa.sub") == site / "aa" / "sub" / "__init__.py"
    assert module_file("aa.sub.c") == site / "aa" / "sub" / "c.py"
    assert module_file("aa.d") is module_file("nowhere_zz") is module_file("sys") is module_file("aa.b.c") is None
    assert "aa" not in sys.modules
