"""How a sweep is going: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ganzoo.checks.sweeps import News
from ganzoo.checks.table import in_words
from ganzoo.errors import printable

LINE_SECONDS = 30.0
"""Between two plain lines."""
NARROW = 60
"""Columns below which the bar has no room beside the name and the share."""


@contextmanager
def following() -> Iterator[Callable[[News], None]]:
    """What takes the news of sweeps, one after another."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    if console.width < NARROW:
        columns = [TextColumn("{task.description}", markup=False), TaskProgressColumn()]
    # Not redirected: while a check runs, standard output goes nowhere, and would come back as rich's.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        bars: dict[str, object] = {}

        def tell(news: News) -> None:
            name = _name(news)
            for note in news.notes:
                console.print(printable(note), markup=False, highlight=False)
            if name not in bars:
                for old in progress.task_ids:
                    progress.remove_task(old)
                bars[name] = progress.add_task(name[: max(10, console.width - 12)], total=news.total)
            progress.update(progress.task_ids[-1], completed=news.done)

        yield tell


def _lines() -> Callable[[News], None]:
    told: dict[str, float] = {}

    def tell(news: News) -> None:
        name, now = _name(news), time.monotonic()
        for note in news.notes:
            print(printable(note), file=sys.stderr, flush=True)
        if news.done < news.total and now - told.get(name, -LINE_SECONDS) < LINE_SECONDS:
            return
        told[name] = now
        share = f"{100 * news.done // news.total} %"
        left = news.seconds * (news.total - news.done) / news.done if news.done else None
        rest = "" if left is None or news.done == news.total else f", about {left:.0f} s left"
        print(f"{name}: {share} of 2^32 float32 values, {news.seconds:.0f} s{rest}", file=sys.stderr, flush=True)

    return tell


def _name(news: News) -> str:
    settings = f" at {in_words(news.settings)}" if news.settings else ""
    return printable(f"cost {news.entry.name}{settings}", 200)
