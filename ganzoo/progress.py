"""How a run is going: bars with the time left on a terminal, one plain line an event elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganzoo.bench import Listener, Prepared
from ganzoo.errors import printable
from ganzoo.statistics import reach


@contextmanager
def following(prepared: Prepared, folder: Path, jobs: int) -> Iterator[Listener]:
    """Bars with the time left on a terminal, one plain line an event elsewhere; on standard error either way."""
    plan = prepared.plan
    contenders = len({cell.contender.label for cell in prepared.cells})
    print(
        f"{len(prepared.cells)} cells, {jobs} at a time, in {printable(folder)}; {reach(plan.seeds, contenders)}",
        file=sys.stderr,
    )
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(len(prepared.cells))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[Any, Any] = {}
        whole = progress.add_task("all cells", total=plan.epochs * len(prepared.cells))
        seen: dict[Any, int] = {}

        def tell(event: dict[str, Any]) -> None:
            name = (event["label"], event["seed"], event["fold"])
            if event["event"] == "start":
                bars[name] = progress.add_task(_name(event), total=plan.epochs)
            elif event["event"] == "point":
                epoch = event["point"]["epoch"]
                if name in bars:  # a cell that ends at once can be told of before its points
                    progress.update(bars[name], completed=epoch)
                progress.advance(whole, epoch - seen.get(name, 0))
                seen[name] = epoch
            else:
                if name in bars:
                    progress.remove_task(bars.pop(name))
                progress.advance(whole, plan.epochs - seen.get(name, 0))
                seen[name] = plan.epochs
                console.print(_row_line(event["row"]), markup=False, highlight=False)

        yield tell


def _lines(cells: int) -> Listener:
    finished = 0

    def tell(event: dict[str, Any]) -> None:
        nonlocal finished
        if event["event"] == "row":
            finished += 1
            print(f"[{finished}/{cells}] {_row_line(event['row'])}", file=sys.stderr, flush=True)

    return tell


def _name(cell: dict[str, Any]) -> str:
    """Of an event or a row."""
    fold = "" if cell["fold"] is None else f" fold {cell['fold']}"
    return f"{printable(cell['label'], 80)} seed {cell['seed']}{fold}"


def _row_line(row: dict[str, Any]) -> str:
    figure = row["verdict"]
    if figure == "done":
        name = next(name for name in ("test_mre", "test_accuracy", "validation_accuracy") if row.get(name) is not None)
        figure = f"{name.replace('_', ' ').replace('mre', 'MRE')} {row[name]:.4f}"
    return f"{_name(row)}: {printable(figure, 500)}"
