"""What a run shows while it goes on, and what it says when it is stopped: at any width, with colour and without."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ganzoo import Zoo
from ganzoo.bench import due, prepare
from ganzoo.cli.app import fitted
from ganzoo.cli.leaving import again, ending, quoted
from ganzoo.config import Plan
from ganzoo.errors import UserError
from ganzoo.progress import Board, clock, following
from ganzoo.statistics import enough, needed_p, smallest_p


def row(label: str, seed: int, figure: float | None, **more: Any) -> dict[str, Any]:
    verdict = "done" if figure is not None else "diverged@7"
    return {"label": label, "seed": seed, "fold": None, "verdict": verdict, "test_mre": figure, **more}


def started(label: str, seed: int) -> dict[str, Any]:
    return {"event": "start", "label": label, "seed": seed, "fold": None}


def point(label: str, seed: int, epoch: int, figure: float) -> dict[str, Any]:
    return {**started(label, seed), "event": "point", "point": {"epoch": epoch, "validation_mre": figure}}


def ended(label: str, seed: int, figure: float | None) -> dict[str, Any]:
    return {**started(label, seed), "event": "row", "row": row(label, seed, figure)}


COLOUR = r"\x1b\[(?:[0-9;]*;)?[349]\d(?:;[0-9;]*)?m"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time_() -> Clock:
    return Clock()


@pytest.fixture
def board(time_: Clock) -> Board:
    """Two contenders of three seeds, 10 epochs; one seed is done, one is at epoch 4."""
    made = Board(["ls-gan"] * 3 + ["gls-gan:slope=0.5"] * 3, 10, [], time_)
    for event in (started("ls-gan", 0), point("ls-gan", 0, 10, 0.2), ended("ls-gan", 0, 0.15)):
        made.tell(event)
    made.tell(started("gls-gan:slope=0.5", 0))
    made.tell(point("gls-gan:slope=0.5", 0, 4, 0.3125))
    return made


def pictured(board: Board, width: int, height: int = 24, **options: Any) -> str:
    out = StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, **options)
    console.print(board)
    return out.getvalue()


def bare(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


# The table


def test_the_table_says_what_is_done_what_is_at_work_and_who_leads(board: Board) -> None:
    said = bare(pictured(board, 100))
    assert re.search(r"ls-gan +1/3 +0\.1500", said)
    assert re.search(r"gls-gan:slope=0\.5 +0/3 +4/10 +0\.3125", said)
    assert "best so far 0.1500: ls-gan (test MRE, 1 of 3)" in said
    assert "1/6 cells" in said


@pytest.mark.parametrize("width", [20, 33, 34, 71, 72, 80, 200])
@pytest.mark.parametrize("contenders", [1, 5, 60])
def test_no_line_is_wider_than_the_terminal_nor_the_table_higher(width: int, contenders: int, time_: Clock) -> None:
    labels = [f"gls-gan:slope=0.{i},cost=elu,margin=lp" for i in range(contenders)]
    board = Board(labels * 3, 10, [], time_)
    for label in labels[:7]:
        board.tell(started(label, 0))
        board.tell(point(label, 0, 5, 0.25))
    board.tell(ended(labels[0], 0, 0.125))
    time_.now = 5000.0
    lines = bare(pictured(board, width, 20)).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 20
    assert any("0.125" in line for line in lines)  # the best so far, however narrow it is
    assert ("more" in "".join(lines)) == (contenders == 60)


def test_those_at_work_are_shown_where_not_all_have_room(time_: Clock) -> None:
    labels = [f"c{i:02}" for i in range(50)]
    board = Board(labels, 10, [], time_)
    board.tell(started("c44", 0))
    assert "c44" in pictured(board, 80, 12)
    assert "c43" not in pictured(board, 80, 12)


def test_a_diverged_training_counts_as_over_and_leads_nothing(board: Board) -> None:
    board.tell(ended("gls-gan:slope=0.5", 0, None))
    lines = {line.label: line for line in board.lines()}
    assert lines["gls-gan:slope=0.5"].done == 0
    assert lines["gls-gan:slope=0.5"].failed == 1
    assert board.finished == 2
    best = board.best()
    assert best is not None
    assert best[1].label == "ls-gan"


def test_of_accuracies_the_highest_leads_and_of_errors_the_lowest(time_: Clock) -> None:
    for key, leader in (("test_mre", "low"), ("test_accuracy", "high")):
        board = Board(["low", "high"], 10, [], time_)
        for label, value in (("low", 0.25), ("high", 0.75)):
            event = ended(label, 0, value)
            event["row"] = {**event["row"], "test_mre": None, key: value}
            board.tell(event)
        best = board.best()
        assert best is not None
        assert best[1].label == leader


def test_the_time_left_is_what_the_rest_takes_at_the_pace_so_far(time_: Clock) -> None:
    board = Board(["a", "b"], 10, [], time_)
    time_.now = 100.0  # imports and baselines are no training
    board.tell(started("a", 0))
    board.tell(started("b", 0))
    assert board.left() is None
    board.tell(point("a", 0, 0, 0.5))
    time_.now = 110.0
    board.tell(ended("a", 0, 0.25))
    assert board.left() == pytest.approx(10.0)
    board.tell(ended("b", 0, 0.25))
    assert board.left() == pytest.approx(0.0)


def test_cached_cells_are_done_but_tell_nothing_of_the_pace(time_: Clock) -> None:
    board = Board(["a"] * 4, 10, [row("a", seed, 0.5) for seed in range(3)], time_)
    board.tell(started("a", 3))
    assert board.finished == 3
    assert board.share() == 0.0
    assert board.left() is None


@given(seconds=st.floats(0, 1e6))
def test_the_clock_reads_as_one_does(seconds: float) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    value = 0
    for part in parts:
        value = 60 * value + part
    assert value == round(seconds)
    assert all(part < 60 for part in parts[1:])


def test_no_color_takes_the_colours_away_and_leaves_the_words(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = pictured(board, 80, color_system="standard")
    assert re.search(COLOUR, coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = pictured(board, 80, color_system="standard")
    assert not re.search(COLOUR, plain)
    words = re.compile("[^━╺╸ ]+")  # without colour a bar has no rest
    assert words.findall(bare(plain)) == words.findall(bare(coloured))


# Redirected


def test_where_it_is_redirected_lines_are_plain_and_count_what_was_cached(
    finished: Any, zoo: Zoo, tiny: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(tiny(objectives=["dcgan", "gls-gan"], seeds=3), zoo)
    with following(prepared, finished.folder, 2) as tell:
        for event in (started("dcgan", 2), point("dcgan", 2, 1, 0.5), ended("dcgan", 2, 0.25)):
            tell(event)
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert "\r" not in said.err
    assert "6 cells, 4 of them cached, 2 at a time" in said.err
    assert "[5/6] dcgan seed 2: test MRE 0.2500" in said.err.splitlines()


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_a_terminal_that_knows_no_escapes_gets_lines(
    terminal: str, zoo: Zoo, tiny: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        prepared = prepare(tiny(objectives=["dcgan"]), zoo)
        with following(prepared, tmp_path, 1) as tell:
            tell(started("dcgan", 0))
            tell(ended("dcgan", 0, 0.25))
        monkeypatch.undo()
    content = b""
    with suppress(OSError):  # how Linux ends a terminal
        while piece := os.read(ours, 1 << 16):
            content += piece
    os.close(ours)
    said = content.decode()
    assert ("\x1b" in said) == (terminal == "xterm")
    assert "dcgan seed 0: test MRE 0.2500" in said


# What it came to, at any width

REPORT = """\
   objective                 test MRE  95 % interval    last  - leader  seeds
1  ls-gan                      0.2765  0.1146 0.4384  0.2766         -  2 done, 2 not settled
2  wgan-gp                     0.3448  0.1826 0.5071  0.3449   +0.0683  2 done
   (nearest training image)    0.1579

both have  run 1   run 2    2 - 1
ls-gan     0.2301  0.2402  0.0101

MRE: mean |x - G(z)| over 40 test images, z sought by mre2-l1-near-adam0.2-
  curvature; lower is better.
not settled: the validation MRE still varied by 5 % or more.
"""


@pytest.mark.parametrize("columns", [20, 33, 34, 60, 80, 100])
def test_a_report_is_no_wider_than_the_terminal_and_loses_nothing(columns: int) -> None:
    said = fitted(REPORT, columns)
    assert max(map(len, said.split("\n"))) <= columns
    assert set(re.findall(r"\d\.\d{4}", said)) == set(re.findall(r"\d\.\d{4}", REPORT))
    assert "adam0.2-curvature;" in re.sub(r"\n *", "", said)  # a line's own end is no hyphen of the name
    assert said.endswith("more.\n")


def test_of_a_split_table_each_figure_stands_with_the_name_it_belongs_to() -> None:
    wide, narrow = fitted(REPORT, 60), fitted(REPORT, 20)
    assert "\n\n   - leader  seeds\n1         -  2 done, 2 not settled\n2   +0.0683  2 done\n\nboth" in wide
    assert "2  wgan-gp\n   test MRE 0.3448\n   95 % interval\n     0.1826 0.5071\n   last 0.3449\n" in narrow
    assert "both have  run 1\nls-gan     0.2301\n\nboth have  run 2\nls-gan     0.2402\n" in narrow
    assert fitted(REPORT, 100) == fitted(REPORT, None) == REPORT


ITEM = """\
Slopes, and generated points that are local minima of the upper loss:
where    m  kappa  loss   |slope| = kappa     flat  minima
line     4    0.5  upper           99.99%    0.00%      0%
line     4    0.5  lower           81.23%   18.75%
line     4    2.0  upper           99.99%    0.00%     75%

The claim of slope kappa almost everywhere holds for the upper loss (100.0% of the places) and fails for the lower one
(81.2%): where all cones are below 0, it is 0.
A second note.
"""


def test_a_split_table_repeats_the_columns_that_tell_its_lines_apart() -> None:
    wide, narrow = fitted(ITEM, 52), fitted(ITEM, 36)
    assert wide.startswith("Slopes, and generated points that are local minima\n  of the upper loss:\nwhere  m  kappa")
    assert "\n\nwhere  m  kappa  loss   minima\nline   4    0.5  upper      0%\nline   4    2.0  upper     75%" in wide
    assert "line  4    0.5  lower\n   |slope| = kappa 81.23%\n   flat 18.75%\nline  4    2.0  upper\n" in narrow
    assert max(map(len, narrow.split("\n"))) <= 36


def test_a_note_that_was_filled_is_filled_anew() -> None:
    said = fitted(ITEM, 52)
    assert "and fails\n  for the lower one (81.2%): where all cones are\n  below 0, it is 0.\nA second note.\n" in said


# What will be done


def test_cells_that_are_cached_are_told_from_those_to_run(
    finished: Any, zoo: Zoo, tiny: Callable[..., Plan], tmp_path: Path
) -> None:
    prepared = prepare(tiny(objectives=["dcgan", "wgan"], seeds=3), zoo)
    found = {(one.cell.contender.label, one.cell.seed): one.cached for one in due(prepared, finished.folder)}
    assert found == {
        ("dcgan", 0): "done", ("dcgan", 1): "done", ("dcgan", 2): None, ("wgan", 0): None, ("wgan", 1): None,
        ("wgan", 2): None,
    }  # fmt: skip
    assert {one.cached for one in due(prepared, tmp_path / "nowhere")} == {None}
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UserError, match=r"holds a run of another plan \(epochs differ\); take --out"):
        due(prepare(tiny(objectives=["dcgan"], epochs=3), zoo), finished.folder)


@pytest.mark.parametrize("contenders", [2, 3, 6, 40])
def test_enough_seeds_are_as_many_as_holm_asks_for(contenders: int) -> None:
    differences = contenders - 1
    least = next(seeds for seeds in range(1, 40) if smallest_p(seeds) * differences <= 0.05)
    assert enough(least, contenders).endswith(": enough")
    assert enough(least - 1, contenders).endswith(f": too few, {least} seeds are enough")
    assert needed_p(contenders) == pytest.approx(0.05 / differences)


# Ctrl-C


@given(
    arguments=st.lists(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12), max_size=5
    )
)
def test_the_command_line_is_quoted_so_that_a_shell_reads_it_back(arguments: list[str]) -> None:
    said = again(["/usr/bin/ganzoo", *arguments])
    assert said.isprintable()
    if all(argument.isprintable() for argument in arguments):
        assert shlex.split(said) == ["ganzoo", *arguments]


@pytest.mark.parametrize("argument", ["it's", "\x1b[31m\\x", "a\nb", "\x01f", "", "é\x85", "my run", "$HOME `id`"])
def test_bash_reads_what_is_not_printed_back_byte_for_byte(argument: str) -> None:
    told = subprocess.run(["bash", "-c", f"printf %s {quoted(argument)}"], capture_output=True, check=True)
    assert told.stdout == argument.encode()


def test_only_a_command_that_resumes_is_told_how_to() -> None:
    assert ending("interrupted", ["ganzoo", "bench", "my plan.toml"]) == (
        "ganzoo: interrupted; resume with: ganzoo bench 'my plan.toml'\n"
    )
    assert ending("interrupted", ["ganzoo", "list"]) == "ganzoo: interrupted\n"
    assert ending("interrupted", ["ganzoo", "check", "leaky"]) == "ganzoo: interrupted\n"
    swept = ending("interrupted", ["ganzoo", "check", "leaky", "--exhaustive"])
    assert swept == "ganzoo: interrupted; resume with: ganzoo check leaky --exhaustive\n"
    long = ["ganzoo", "bench", *["--set=epochs=1"] * 500]
    assert ending("stopped", long).count("--set=epochs=1") == 500


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_while_libraries_are_imported_ends_the_command_at_once(tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ganzoo.cli import main; main()"
    )
    words = ["bench", "-o", "dcgan", "--out", "my run"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + 60
    while not children.read_text() and time.monotonic() < until:  # the server of its workers: it is importing now
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "ganzoo: stopped; resume with: ganzoo bench -o dcgan --out 'my run'\n"
    assert not (tmp_path / "my run").exists()
