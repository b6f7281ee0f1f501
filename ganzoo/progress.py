"""How a run is going: a live table on a terminal, with the best so far and the time left; elsewhere one plain line an
event. On standard error either way."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ganzoo.bench import Listener, Prepared
from ganzoo.errors import UserError, printable
from ganzoo.result import is_final, read_row
from ganzoo.statistics import reach

FIGURES = {"test_mre": "test MRE", "test_accuracy": "test accuracy", "validation_accuracy": "validation accuracy"}
"""What a row is told by: the first of these that it has."""
WIDE, NARROW = 72, 34
"""Columns of a terminal from which on the table has all its columns, and below which it has two."""
TAIL = 0.15
"""Of a training's epochs, what its last measuring counts for in the time left."""
ENOUGH = 0.01
"""Share of the work from which on the time left is told."""
EVERY = 4
"""Pictures a second."""


@contextmanager
def following(prepared: Prepared, folder: Path, jobs: int) -> Iterator[Listener]:
    """What to tell of a run's events, in the block."""
    plan, cells = prepared.plan, prepared.cells
    contenders = len({cell.contender.label for cell in cells})
    cached = [row for cell in cells if (row := _cached(folder / "cells" / cell.directory)) is not None]
    before = f", {len(cached)} of them cached" if cached else ""
    console = Console(stderr=True)
    plain = not console.is_terminal or console.is_dumb_terminal
    said = f"{len(cells)} cells{before}, {jobs} at a time, in {printable(folder)}; {reach(plan.seeds, contenders)}"
    if plain:
        print(said, file=sys.stderr, flush=True)
        yield _lines(len(cells), cached)
        return
    console.print(said, markup=False, highlight=False)
    board = Board([cell.contender.label for cell in cells], plan.epochs, cached)
    with Live(board, console=console, transient=True, refresh_per_second=EVERY) as live:

        def tell(event: dict[str, Any]) -> None:
            board.tell(event)
            if event["event"] == "row":
                live.console.print(row_line(event["row"]), markup=False, highlight=False)

        yield tell


def _cached(directory: Path) -> dict[str, Any] | None:
    with suppress(UserError):
        row = read_row(directory)
        return row if row is not None and is_final(row) else None
    return None


def _lines(cells: int, cached: Sequence[dict[str, Any]] = ()) -> Listener:
    finished = {_name(row) for row in cached}

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "row":
            finished.add(_name(event["row"]))
            print(f"[{len(finished)}/{cells}] {row_line(event['row'])}", file=sys.stderr, flush=True)

    return tell


def _name(cell: dict[str, Any]) -> str:
    """Of an event or a row."""
    fold = "" if cell["fold"] is None else f" fold {cell['fold']}"
    return f"{printable(cell['label'], 80)} seed {cell['seed']}{fold}"


def row_line(row: dict[str, Any]) -> str:
    """`ls-gan seed 0: test MRE 0.1483`, or how it ended."""
    figure = row["verdict"]
    if figure == "done":
        name, value = figure_of(row)
        figure = f"{FIGURES[name]} {value:.4f}"
    return f"{_name(row)}: {printable(figure, 500)}"


def figure_of(row: dict[str, Any]) -> tuple[str, float]:
    """(name, value) of what a finished row is told by."""
    return next((name, float(row[name])) for name in FIGURES if row.get(name) is not None)


class Line(NamedTuple):
    """What the board says of one contender."""

    label: str
    done: int
    cells: int
    failed: int
    """Diverged ones, too."""
    epoch: int | None
    """Of the training that is furthest, among those at work."""
    validation: float | None
    """Its last figure on validation."""
    figure: float | None
    """The mean over what is done."""


class Board:
    """A run's state, as its events tell it, and how it looks at any width."""

    def __init__(
        self,
        labels: list[str],
        epochs: int,
        cached: list[dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`labels`: of every cell. `cached`: rows that stand already."""
        self.epochs, self.clock = epochs, clock
        self.cells = {label: labels.count(label) for label in dict.fromkeys(labels)}
        self.rows: dict[str, list[dict[str, Any]]] = {label: [] for label in self.cells}
        self.at_work: dict[tuple[str, int, int | None], dict[str, Any] | None] = {}
        """The last point of each cell that is at work."""
        self.began = self.started = clock()
        """When this command began, and when its first training did: the time left is judged from there."""
        for row in cached:
            self.rows[row["label"]].append(row)
        self.cached = len(cached)

    def tell(self, event: dict[str, Any]) -> None:
        """Take up an event of `ganzoo.bench`."""
        self.cells.setdefault(event["label"], 1)
        name = (event["label"], event["seed"], event["fold"])
        if event["event"] == "start":
            if not self.at_work and self.finished == self.cached:
                self.started = self.clock()
            self.at_work.setdefault(name, None)
        elif event["event"] == "point":
            self.at_work[name] = event["point"]
        else:
            self.at_work.pop(name, None)
            self.rows.setdefault(event["label"], []).append(event["row"])

    # What it comes to

    def lines(self) -> list[Line]:
        """One a contender, in the plan's order."""
        found = []
        for label, cells in self.cells.items():
            rows = self.rows.get(label, [])
            done = [row for row in rows if row["verdict"] == "done"]
            going = [point for (name, *_), point in self.at_work.items() if name == label and point is not None]
            last = max(going, key=lambda point: int(point["epoch"]), default=None)
            shown = (
                None
                if last is None
                else next((last[key] for key in ("validation_mre", "validation_accuracy") if key in last), None)
            )
            starting = any(name == label for name, *_ in self.at_work)
            figures = [figure_of(row)[1] for row in done]
            found.append(
                Line(
                    label,
                    len(done),
                    cells,
                    len(rows) - len(done),
                    int(last["epoch"]) if last is not None else 0 if starting else None,
                    shown,
                    sum(figures) / len(figures) if figures else None,
                )
            )
        return found

    def best(self) -> tuple[str, Line] | None:
        """(what is compared, the contender that leads); None while nothing is done."""
        name = next(
            (figure_of(row)[0] for rows in self.rows.values() for row in rows if row["verdict"] == "done"), None
        )
        if name is None:
            return None
        sign = 1.0 if name == "test_mre" else -1.0
        standing = [line for line in self.lines() if line.figure is not None]
        return FIGURES[name], min(standing, key=lambda line: sign * (line.figure or 0.0))

    @property
    def finished(self) -> int:
        return sum(map(len, self.rows.values()))

    def share(self) -> float:
        """Of the work that this command has to do, what is done: 0 to 1."""
        whole = self.epochs * (1 + TAIL)
        total = (sum(self.cells.values()) - self.cached) * whole
        epochs = sum(int(point["epoch"]) for point in self.at_work.values() if point is not None)
        return min(1.0, ((self.finished - self.cached) * whole + epochs) / total) if total else 1.0

    def left(self) -> float | None:
        """Seconds to the end, if it goes on as it went; None while that cannot be told."""
        share = self.share()
        return (self.clock() - self.started) * (1 - share) / share if share >= ENOUGH else None

    # How it looks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield self.shown(options.max_width, options.max_height or console.height)

    def shown(self, width: int, height: int) -> RenderableType:
        """The table and what stands below it, no wider and no higher than that."""
        lines, room = self.lines(), max(1, height - 5)
        if len(lines) > room:  # those at work first, then those that are done; nobody's place changes otherwise
            order = sorted(
                range(len(lines)), key=lambda i: (lines[i].epoch is None, lines[i].done == lines[i].cells, i)
            )
            kept = sorted(order[: max(1, room - 1)])
            more = len(lines) - len(kept)
            lines = [lines[i] for i in kept]
        else:
            more = 0
        parts: list[RenderableType] = [self._table(lines, width)]
        if more:
            parts.append(Text(f"... {more} more", no_wrap=True, overflow="crop"))
        return Group(*parts, *self._below(width))

    def _table(self, lines: list[Line], width: int) -> Table:
        shown = Table(box=None, pad_edge=False, padding=(0, 1 if width < NARROW else 2, 0, 0), header_style="bold")
        wide, narrow = width >= WIDE, width < NARROW
        shown.add_column("objective", no_wrap=True, overflow="ellipsis", ratio=None)
        shown.add_column("done", justify="right", no_wrap=True)
        if not narrow:
            shown.add_column("epoch", justify="right", no_wrap=True)
        if wide:
            shown.add_column("validation", justify="right", no_wrap=True)
        if not narrow:
            shown.add_column("test so far", justify="right", no_wrap=True)
        if wide:
            shown.add_column("", no_wrap=True, overflow="ellipsis")
        leader = self.best()
        for line in lines:
            ended = f"{line.failed} not finished" if line.failed else ""
            cells = [Text(printable(line.label, 200)), Text(f"{line.done}/{line.cells}")]
            cells += [] if narrow else [Text("" if line.epoch is None else f"{line.epoch}/{self.epochs}")]
            cells += [Text("" if line.validation is None else f"{line.validation:.4f}")] if wide else []
            cells += [] if narrow else [Text("" if line.figure is None else f"{line.figure:.4f}")]
            cells += [Text(ended)] if wide else []
            leads = leader is not None and line.label == leader[1].label
            shown.add_row(*cells, style="bold" if leads else "")
        return shown

    def _below(self, width: int) -> list[RenderableType]:
        total, left = sum(self.cells.values()), self.left()
        share = self.share()
        gone = clock(self.clock() - self.began)
        when = "" if left is None else f", {'~' if width < NARROW else 'about '}{clock(left)} left"
        said = (
            f"{self.finished}/{total}{when}" if width < NARROW else f"{self.finished}/{total} cells, {gone} gone{when}"
        )
        parts: list[RenderableType] = [_one_line(said)]
        if width >= NARROW:
            bar = Table.grid()  # a bar by itself ends no line
            bar.add_row(ProgressBar(total=1.0, completed=share, width=min(width, 60)))
            parts.insert(0, bar)
        leader = self.best()
        if leader is not None:
            what, line = leader
            words = f"best so far {line.figure:.4f}: {printable(line.label, 80)} ({what}, {line.done} of {line.cells})"
            parts.append(_one_line(f"best {line.figure:.4f}" if width < NARROW else words))
        return parts


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def clock(seconds: float) -> str:
    """`0:07`, `12:40`, `3:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
