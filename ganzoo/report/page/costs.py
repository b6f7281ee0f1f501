"""The shape of each cost that a run plays with, and what the checks say of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ganzoo.checks import CHECKS, Refuted, Skipped, replay
from ganzoo.errors import UserError, printable
from ganzoo.report.page.drawing import Chart, cost_shape
from ganzoo.report.page.run_folder import RunFolder
from ganzoo.report.text import named
from ganzoo.result import COST_STEP, COST_STEPS
from ganzoo.zoo import Entry, Zoo

GRID = torch.arange(-COST_STEPS, COST_STEPS + 1) * COST_STEP
"""Where a cost is drawn whose run has not kept its shape."""
LEFT_OUT = ("cost-11",)
"""Checks that the page does not run: torch takes seconds over its first meta tensor, and the shape is not at stake."""
LONGEST_DOC = 600
"""Characters of a docstring that the page shows."""


class CostShown(NamedTuple):
    name: str
    """`elu:scale=0.5`."""
    doc: str
    """The first lines of its docstring; empty where its code is not there."""
    chart: Chart | None
    description: str
    """The drawing in words."""
    players: list[str]
    """Who plays with it."""
    state: str
    """`pass`, `fail` or `unknown`."""
    verdict: str
    """A sentence."""
    results: list[tuple[str, str, str, str]]
    """Of each check: its id, its verdict, its title, what it says."""


def costs_of(run: RunFolder, pictures: dict[str, dict[str, np.ndarray]], plugins: Sequence[Path]) -> list[CostShown]:
    """Each cost of the run once. `pictures`: what the cells kept, by contender."""
    found: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = {}
    for row in run.rows:
        if row.get("cost"):
            key = row["cost"], repr(sorted(row["cost_hyperparameters"].items()))
            players = found.setdefault(key, (row, []))[1]
            if row["label"] not in players:
                players.append(row["label"])
    if not found:
        return []
    try:
        zoo: Zoo | None = Zoo.installed(*plugins)
    except UserError as error:
        run.said.append(f"the plugins cannot be read: {error}")
        zoo = None
    return [_shown(row, players, pictures.get(row["label"], {}), zoo) for row, players in found.values()]


def labels_without_cost(run: RunFolder) -> list[str]:
    """Who plays without one that could be chosen: what C there may be stands in the loss itself."""
    return list(dict.fromkeys(row["label"] for row in run.rows if "cost" in row and row["cost"] is None))


def _shown(row: dict[str, Any], players: list[str], kept: dict[str, np.ndarray], zoo: Zoo | None) -> CostShown:
    entry = _entry(row["cost"], zoo)
    settings = ",".join(f"{name}={value}" for name, value in row["cost_hyperparameters"].items())
    name = named(row["cost"] + (f":{settings}" if settings else ""))
    a = c = None
    if "cost_a" in kept and "cost" in kept and kept["cost_a"].shape == kept["cost"].shape and len(kept["cost_a"]):
        a, c = kept["cost_a"], kept["cost"]
    recorded = row.get("sources", {}).get(f"cost/{row['cost']}")
    changed = entry is not None and recorded is not None and entry.source_sha256 != recorded
    results: list[tuple[str, str, str, str]] = []
    if entry is not None:
        now = _evaluated(entry, row, GRID if a is None else torch.from_numpy(a))
        # The hash is of all that lies beside it, too: the same values, rounding apart, are the same cost.
        if changed and c is not None and now is not None:
            changed = not np.allclose(now, c, rtol=1e-5, atol=1e-6)
        asked = [check for check in CHECKS if check.kind == "cost" and check.id not in LEFT_OUT]
        results = [_result(check.id, check.title, check.required, entry, row) for check in asked]
        if a is None and now is not None:
            a, c = GRID.numpy(), now
    state, verdict = _verdict(results, entry, changed)
    chart = None if a is None or c is None else cost_shape(a.tolist(), c.tolist())
    return CostShown(
        name, printable(" ".join((entry.doc if entry else "").split()), LONGEST_DOC), chart, _described(a, c),
        [named(label) for label in players], state, verdict, results,
    )  # fmt: skip


def _entry(name: str, zoo: Zoo | None) -> Entry | None:
    try:
        return None if zoo is None else zoo.find("cost", name)
    except UserError:
        return None


def _evaluated(entry: Entry, row: dict[str, Any], a: torch.Tensor) -> np.ndarray | None:
    try:
        with torch.no_grad():
            c: torch.Tensor = entry.bind(**row["cost_hyperparameters"])(a.clone())
        return c.float().numpy()
    except Exception:  # noqa: BLE001 (a plugin may raise anything: the checks say so)
        return None


def _result(check_id: str, title: str, required: bool, entry: Entry, row: dict[str, Any]) -> tuple[str, str, str, str]:
    """The check at the run's own hyperparameters, and at nothing else: milliseconds."""
    try:
        replay(check_id, entry, **row["cost_hyperparameters"])
    except Skipped as reason:
        return check_id, "skipped", title, printable(reason, 400)
    except Refuted as found:
        return check_id, "FAILED" if required else "advice", title, printable(found.message, 400)
    except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
        return check_id, "FAILED", title, printable(f"{type(error).__name__}: {' '.join(str(error).split())}", 400)
    return check_id, "ok", title, ""


def _verdict(results: list[tuple[str, str, str, str]], entry: Entry | None, changed: bool) -> tuple[str, str]:
    if entry is None:
        return "unknown", "Not checked: its plugin is not installed here; name it with --plugin FILE."
    failed = [check_id for check_id, verdict, *_ in results if verdict == "FAILED"]
    said = f"fails {', '.join(failed)}" if failed else f"passes {len(results)} checks at these hyperparameters"
    if changed:
        return "unknown", f"Its code has changed since the run, and may be another cost; as it is now it {said}."
    return ("fail" if failed else "pass"), f"It {said}."


def _described(a: np.ndarray | None, c: np.ndarray | None) -> str:
    if a is None or c is None:
        return "its shape was not kept"
    at = [(x, float(np.interp(x, a, c))) for x in (-3.0, -1.0, 0.0, 1.0)]
    return "C(a) over a from -3 to 3: " + ", ".join(f"C({x:g}) = {y:.3g}" for x, y in at)
