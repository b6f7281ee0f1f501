"""Who plays in a run, and how far it is."""

from collections import Counter
from typing import Any, NamedTuple

from ganzoo.errors import printable
from ganzoo.report.page.run_folder import RunFolder
from ganzoo.report.text import named


class ContenderShown(NamedTuple):
    label: str
    name: str
    """As people can be shown it."""
    style: int
    done: list[dict[str, Any]]
    rows: list[dict[str, Any]]


def contenders_of(run: RunFolder) -> list[ContenderShown]:
    """In the plan's order."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in run.rows:
        rows.setdefault(row["label"], []).append(row)
    return [
        ContenderShown(label, named(label), i, [row for row in own if row["verdict"] == "done"], own)
        for i, (label, own) in enumerate(rows.items())
    ]


class Status(NamedTuple):
    done: int
    cells: int
    text: str
    """How far the run is."""
    played: float
    """The share of all epochs that are played, in [0, 1]; what has ended counts as whole."""
    missing: list[str]
    """What of it is still to come, or has failed: a line each."""


def status_of(run: RunFolder) -> Status:
    counts = Counter("done" if row["verdict"] == "done" else row["verdict"] for row in run.rows)
    cells, done, planned = len(run.rows), counts["done"], len(run.pending)
    missing = []
    for row in run.rows:
        if row["verdict"] == "done":
            continue
        where = f"{named(row['label'])} seed {row['seed']}" + ("" if row["fold"] is None else f" fold {row['fold']}")
        if row["verdict"] == "planned":
            at = row["curve"][-1]["epoch"] if row["curve"] else None
            far = "not begun" if at is None else f"epoch {at} of {run.plan.epochs}"
            missing.append(f"{where}: {far}")
        else:
            reason = f": {row['reason']}" if row["reason"] else ""
            missing.append(printable(f"{where}: {row['verdict']}{reason}", 400))
    if not cells:
        text = "no cell has a result yet"
    elif planned:
        text = f"unfinished: {done} of {cells} trainings done, {planned} to come"
    elif done < cells:
        text = f"{done} of {cells} trainings done, {cells - done} ended otherwise"
    else:
        text = f"all {cells} trainings done"
    epochs = [row["curve"][-1]["epoch"] / run.plan.epochs if row["curve"] else 0.0 for row in run.pending]
    played = (cells - planned + sum(epochs)) / cells if cells else 0.0
    return Status(done, cells, text, min(played, 1.0), missing)
