"""Names and values that a stranger chose: inert in every line, table, figure and file that is made of them."""

import json
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import ganzoo as public
from ganzoo import Zoo
from ganzoo.bench import prepare
from ganzoo.config import Plan
from ganzoo.data import load_images
from ganzoo.errors import LONGEST, UserError, printable, printable_lines
from ganzoo.progress import following
from ganzoo.report import accuracy, ranking
from ganzoo.report.figures import curves, samples, save
from ganzoo.zoo.entry import NAME

HOSTILE = {
    "a tag": "<script>alert(1)</script>",
    "mathematics": r"a$\frac$b$",
    "markup": "gls[/b][red]",
    "a window's title": "\x1b]0;owned\x07\x1b[2J",
    "one byte for ESC [": "\x9b31m",
    "a formula": "=cmd()|' /C calc'!A0",
    "lines": "one\ntwo\r\x0b\u2028three",
    "the other direction": "\u202egnp.exe",
    "a tab and a nought": "a\tb\x00c",
    "half a pair": "\udcff\ud800",
    "any script": "雪 é",
    "a megabyte": "m" * 1_000_000,
}
WRITTEN = {name: text for name, text in HOSTILE.items() if name != "half a pair"}
"""What can stand in a file of text."""
OWNED = ("\x1b]0;owned", "\x1b[2J", "\x07", "\x9b", "\u202e", "\x00", "\r", "\x0b", "\u2028")

hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def is_inert(text: str, longest: int | None = None) -> bool:
    """Line breaks apart, every character is one that is printed."""
    longest = longest or LONGEST + 100
    return all(line.isprintable() and len(line) <= longest for line in text.split("\n"))


# The function that all of it goes through


@given(text=st.text(), most=st.integers(8, 60))
@example(text="\u202e\x1b\udcff\n", most=8)
def test_a_printable_line_is_one_line_of_printed_characters_and_not_too_long(text: str, most: int) -> None:
    line = printable(text, most)
    assert line.isprintable()
    assert len(line) == min(len(text), most)
    if len(text) <= most:
        kept = [(a, b) for a, b in zip(text, line, strict=True) if a != b]
        assert all(b == "?" and not a.isprintable() for a, b in kept)


@given(text=st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_what_is_harmless_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable_lines(f"{text}\n\n{text}\n") == f"{text}\n\n{text}\n"


def test_of_a_long_text_beginning_and_end_are_shown() -> None:
    shown = printable("a" * 5000 + "middle" + "z" * 5000, 100)
    assert shown.startswith("aaa")
    assert "a...z" in shown
    assert shown.endswith("zzz")
    assert printable_lines("x\n" * 30, 10).endswith("x\n... 21 more lines")


# Names


@given(name=st.from_regex(r"[a-z0-9._-]{1,66}", fullmatch=True))
@example(name="a..b")
@example(name="..")
@example(name="a" * 64)
@example(name="a" * 65)
@example(name="-a")
@example(name="a.b_c-d")
def test_a_name_begins_with_a_letter_or_figure_and_has_no_way_up_in_it(name: str) -> None:
    @public.cost(name=name)
    def it(a: Tensor) -> Tensor:
        return a

    zoo = Zoo()
    zoo.add(type("Plugin", (), {"__module__": __name__, "it": it}))
    name = name.replace("_", "-")  # as the decorator does
    good = name[0] not in "._-" and len(name) <= 64 and ".." not in name
    assert zoo.names("cost") == ([name] if good else [])
    assert good or "is no name; one matches" in zoo.broken[0].reason
    assert NAME.pattern == "[a-z0-9][a-z0-9._-]{0,63}"


# What the command says


@hostile
def test_whatever_name_is_typed_the_answer_is_one_inert_line(text: str, ganzoo: Command) -> None:
    text = text.replace("\x00", "\x01")  # no argument can have it
    for arguments in (
        ["show", f"x{text}"],
        ["list", f"x{text}"],
        ["check", f"x{text}"],
        ["list", "-p", f"x{text}"],
        ["bench", "--dry-run", "-o", f"x{text}"],
        ["bench", "--dry-run", "-o", f"gls-gan:{text}=1"],
        ["bench", "--dry-run", "-o", f"gls-gan:cost=x{text}"],
        ["bench", "--dry-run", "-o", f"gls-gan:slope=x{text}"],
        ["bench", "--dry-run", "-d", f"x{text}"],
        ["bench", "--dry-run", "--set", f"x{text}=1"],
        ["bench", "--dry-run", "--set", f"epochs=x{text}"],
        ["bench", "--dry-run", "--set", "data.set=folder", "--set", f"data.path=x{text}"],
        ["bench", "--dry-run", f"x{text}.toml"],
        ["bench", "--dry-run", "--device", f"x{text}"],
        ["mre", f"x{text}"],
        [f"x{text}"],
        [f"--x{text}"],
    ):
        said = ganzoo(*arguments)
        assert (said.status, said.out) == (2, ""), arguments[:-1]
        assert said.err.startswith("ganzoo: ")
        assert said.err.count("\n") == 1, (arguments[:-1], said.err[:300])
        assert is_inert(said.err), arguments[:-1]


PLUGIN = """
import ganzoo
@ganzoo.cost
def {name}(a, text: str = {text!r}):
    {doc!r}
    return a.relu()
"""


def test_plugins_may_hold_anything_and_list_show_and_check_are_inert(ganzoo: Command, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    for place, text in enumerate(WRITTEN.values()):
        doc = f"C(a){text}\n\nmore {text}\n"
        (folder / f"mine{place}.py").write_text(PLUGIN.format(name=f"mine{place}", text=text, doc=doc))
        (folder / f"broken{place}.py").write_text(f"raise ValueError({text!r})\n")
        (folder / f"odd{place}.py").write_text(f"import ganzoo\n@ganzoo.cost(name={text!r})\ndef c(a): return a\n")
    everything = " ".join(text[:50] for text in WRITTEN.values())
    (folder / "fails.py").write_text(f"import ganzoo\n@ganzoo.cost\ndef fails(a): raise ValueError({everything!r})\n")
    shows = [["show", f"mine{place}"] for place in range(len(WRITTEN))]
    for arguments in (["list"], ["list", "cost"], *shows, ["check", "fails"]):
        said = ganzoo(*arguments, "-p", str(folder))
        assert said.status == (arguments[0] == "check"), said.err[:300]
        assert is_inert(said.out + said.err), arguments
        if arguments[0] != "show" or arguments[1] == "mine0":
            as_json = ganzoo(*arguments, "-p", str(folder), "--json").out
            assert is_inert(as_json, longest=10**8)
            assert as_json.isascii()
            assert json.loads(as_json)
    assert ganzoo("list", "-p", str(folder)).err.count("ValueError") == len(WRITTEN)
    for place in range(len(WRITTEN)):
        slip = ganzoo("list", "-p", str(folder / f"broken{place}.py"))
        assert slip.status == 2
        assert slip.err.count("\n") == 1
        assert is_inert(slip.err)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name[:5] not in ("a meg", "a tab", "a tag")])
def test_a_file_may_be_called_anything(name: str, ganzoo: Command, tmp_path: Path) -> None:
    text = HOSTILE[name].replace("/", "|")
    folder = tmp_path / f"of {text}"
    try:
        folder.mkdir()
    except UnicodeEncodeError:
        pytest.skip("no file system takes this name")
    (folder / f"{text}.py").write_text(PLUGIN.format(name="mine", text="", doc="C(a)"))
    (folder / f"broken {text}.py").write_text("1/0\n")
    for arguments in (["list"], ["show", "mine"]):
        said = ganzoo(*arguments, "-p", str(folder))
        assert said.status == 0
        assert is_inert(said.out + said.err)
    assert "ZeroDivisionError" in said.err or "ZeroDivisionError" in ganzoo("list", "-p", str(folder)).err
    (folder / f"{text}.png").write_bytes(b"no image")
    with pytest.raises(UserError) as raised:
        load_images("folder", path=folder)
    assert "cannot be read as an image" in printable(raised.value)
    (folder / "x.png").write_bytes(SMALLEST)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_images("folder", path=folder, skip_corrupt=True)
    assert [str(warning.message).isprintable() for warning in caught] == [True]


SMALLEST = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)


def test_a_terminal_that_has_only_ascii_gets_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(name="mine", text="ü", doc="C(Δ) ≥ Δ"), encoding="utf-8")
    for arguments in (["show", "mine", "-p", "mine.py"], ["show", "ü"]):
        done = subprocess.run(
            [sys.executable, "-c", "from ganzoo.cli import main; main()", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii()
        assert done.returncode == (0 if done.stdout else 2)


# A whole run


LABELLED = '''
import ganzoo
@ganzoo.objective
def mine(text: str = "x"):
    """S = E L(x) - E L(G(z))."""
    return ganzoo.Objective(lambda critic, real, fake: (critic(real) - critic(fake)).mean())
'''


def test_a_run_of_contenders_called_anything_is_inert_in_all_that_it_leaves(
    ganzoo: Command, tiny: Callable[..., Plan], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(LABELLED)
    each = [text.strip()[:3000] for text in WRITTEN.values()]
    texts = [" ".join(each[place::4]) for place in range(4)]
    plan = tiny(objectives=[f"mine:text={text}" for text in texts], plugins=[str(tmp_path / "mine.py")], seeds=1)
    (tmp_path / "plan.toml").write_bytes(plan.toml().encode())
    said = ganzoo("bench", str(tmp_path / "plan.toml"), "--out", "run", "--jobs", "2")
    assert said.status == 0, said.err[-2000:]
    assert is_inert(said.out + said.err)
    assert all(owned not in said.out + said.err for owned in OWNED)
    for path in sorted(Path("run").rglob("*")):
        assert printable(path) == str(path)
        if path.suffix in (".txt", ".json", ".jsonl", ".toml"):
            content = path.read_text(encoding="utf-8")
            assert is_inert(content, longest=10**9), path
            assert all(json.loads(line) for line in content.splitlines() if path.suffix == ".jsonl")
    rows = [json.loads(line) for line in Path("run/rows.jsonl").read_text().splitlines()]
    assert [row["hyperparameters"]["text"] for row in rows] == texts  # inert, yet nothing of it is lost
    summary = json.loads(Path("run/summary.json").read_text())
    assert {standing["label"] for standing in summary["standings"]} == {f"mine:text={text}" for text in texts}
    assert {path.name for path in Path("run").glob("*.png")} == {"curves.png", "samples.png", "reconstructions.png"}
    again = ganzoo("bench", str(tmp_path / "plan.toml"), "--out", "run", "--dry-run")
    assert again.status == 0
    assert is_inert(again.out + again.err)


# Tables, notes and figures of any row


def row(label: str, seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "label": label,
        "seed": seed,
        "fold": None,
        "cell": "0",
        "verdict": "done",
        "settled": True,
        "test_mre": 0.1,
        "test_mre_last": 0.1,
        "gap": 0.0,
        "control_mre": 0.0,
        "mre": "mre1",
        "test_images": 8,
        "test_mre_any_label": 0.1,
        "test_mre_own_label": 0.2,
        "label_images": 5,
        "labelled_images": 9,
        "curve": [{"epoch": epoch, "validation_mre": 1 / (epoch + 1)} for epoch in range(3)],
        **changes,
    }


@hostile
def test_tables_are_inert_and_of_a_bounded_width(text: str) -> None:
    bad = {"label": "other", "seed": 0, "cell": "1", "verdict": f"failed: {text}"}
    by_error = ranking.table(ranking.rank([row(text, 0), row("plain", 0), bad], {"training mean": 0.5}))
    right = {"test_accuracy": 0.5, "validation_accuracy": 0.5, "classifier": f"of {text}"}
    by_accuracy = accuracy.table(accuracy.rank([row(text, 0, **right), row("plain", 0, **right)], {}))
    for table in (by_error, by_accuracy):
        assert is_inert(table)
        assert max(map(len, table.splitlines())) <= 240
        assert len(table) < 40_000
        assert "plain" in table


def described(figure: Any) -> list[str]:
    """The text of a figure."""
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    named = [text for legend in legends for text in legend.get_texts()]
    return [*(axes.get_title() for axes in figure.axes), *(text.get_text() for text in named)]


@hostile
def test_figures_are_drawn_and_name_every_contender(text: str, tmp_path: Path) -> None:
    figure = curves([row(text, 0), row("plain", 0), row("_hidden", 0)], {})
    assert len(described(figure)) == 1 + 3
    grid = {"samples": np.zeros((4, 1, 8, 8), np.uint8), "across": 2}
    grids = samples({text: grid, "plain": grid})
    for made in (figure, grids):
        assert all(is_inert(said, longest=200) for said in described(made))
        path = save(made, tmp_path / "figure.png")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 10**6


# Progress on a terminal


class Terminal:
    """A real terminal, as standard error within the block; `sent` reads what it was sent."""

    def __enter__(self) -> "Terminal":
        self._reader, writer = pty.openpty()
        self._stream = open(writer, "w", encoding="utf-8")
        self._before, sys.stderr = sys.stderr, self._stream
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr = self._before
        self._stream.close()
        os.close(self._reader)

    def sent(self) -> str:
        self._stream.write("\0")  # what is written comes through a terminal when it likes
        self._stream.flush()
        content = b""
        while not content.endswith(b"\0"):
            content += os.read(self._reader, 1 << 16)
        return content.decode().removesuffix("\0")


def events(label: str, verdict: str) -> list[dict[str, Any]]:
    name = {"label": label, "seed": 0, "fold": None}
    return [
        {"event": "start", **name},
        {"event": "point", **name, "point": {"epoch": 1}},
        {"event": "row", **name, "row": row(label, 0, verdict=verdict)},
    ]


@pytest.mark.parametrize("name", WRITTEN)
def test_bars_on_a_terminal_are_inert(
    name: str, tiny: Callable[..., Plan], zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    prepared = prepare(tiny(objectives=["wgan"]), zoo)
    label = HOSTILE[name]
    with Terminal() as terminal:
        with following(prepared, Path(label[:200]), 1) as tell:
            for event in events(label, f"failed: {label}"):
                tell(event)
        said = terminal.sent()
    assert "\x1b[" in said, "no bars were drawn"
    assert all(owned not in said for owned in OWNED if owned != "\r")  # a bar begins its line anew
    assert len(said) < 20_000


def test_two_long_names_that_differ_in_the_middle_have_a_bar_each(
    tiny: Callable[..., Plan], zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    prepared = prepare(tiny(objectives=["wgan"], seeds=2), zoo)
    first, second = (events("x" * 90 + middle + "x" * 90, "done") for middle in "ab")
    with Terminal() as terminal:
        with following(prepared, Path("run"), 1) as tell:
            for event in (first[0], second[0], first[1], second[1], first[2], second[2]):
                tell(event)
            tell(events("y", "done")[0])
        said = terminal.sent()
    assert said.count("test MRE 0.1000") == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
def test_no_row_whatever_its_verdict_says_disturbs_a_line(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    from ganzoo.progress import _lines

    capfd.readouterr()
    _lines(3)({"event": "row", "label": text, "seed": 0, "fold": None, "row": row(text, 0, verdict=f"failed: {text}")})
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert is_inert(said)


def test_a_plan_that_names_anything_is_read_back_the_same(tmp_path: Path) -> None:
    from ganzoo.config import read_plan

    for text in WRITTEN.values():
        plan = Plan(objectives=(f"mine:text={text[:5000]}",))
        (tmp_path / "plan.toml").write_bytes(plan.toml().encode())
        assert read_plan(tmp_path / "plan.toml") == plan
        assert is_inert(plan.toml(), longest=10**8)
