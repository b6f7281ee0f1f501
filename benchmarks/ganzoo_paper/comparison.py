"""A comparison as part of an item: a plan of cells in a folder of the item's own, resumed by the same command."""

import sys
from pathlib import Path
from typing import Any

from ganzoo.bench import Run, prepare
from ganzoo.config import read_plan
from ganzoo.durable import commit, commit_json
from ganzoo.paper import Options
from ganzoo.progress import following
from ganzoo.report import reported
from ganzoo.report.figures import draw
from ganzoo.worker import read_pictures
from ganzoo.zoo import Zoo

TRAINING_IMAGES = {"cifar10": [30_000, 7_500, 7_500], "mnist": [50_000, 10_000, 10_000]}
"""How a set is cut, as counts in its official order. CIFAR-10 as the first 45,000 of its training images."""


class Compared:
    """A finished run: its rows and where its cells lie."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], table: str) -> None:
        self.folder, self.rows, self.table = folder, rows, table

    def pictures(self, label: str, seed: int = 0) -> dict[str, Any]:
        """What `worker.read_pictures` finds for a contender; its label as in the rows."""
        (row,) = [r for r in self.rows if r["label"] == label and r["seed"] == seed and r["fold"] in (None, 0)]
        (directory,) = (self.folder / "cells").glob(f"*-{row['cell'][:8]}")
        return read_pictures(directory)

    def by_label(self, figure: str) -> dict[str, list[float]]:
        """label -> that figure of each finished seed, in plan order."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row["verdict"] == "done":
                found.setdefault(row["label"], []).append(row[figure])
        return found


def data_of(options: Options) -> dict[str, Any]:
    """The plan's keys for the item's data set. A path that ends in `.npz` is a file of images and labels."""
    if options.data == "digits":
        return {"data.set": "digits"}
    changes: dict[str, Any] = {"data.set": options.data, "data.path": options.path}
    if options.path is not None and options.path.endswith(".npz"):
        changes["data.set"] = "npz"
    if options.data in TRAINING_IMAGES:
        changes |= {"data.split": TRAINING_IMAGES[options.data], "data.shuffle": False}
    return changes


def compared(options: Options, name: str, **changes: Any) -> Compared:
    """Run the plan of `changes` (as `read_plan` takes them) in the item's folder under `name`."""
    plan = read_plan(None, **{**data_of(options), "device": options.device, **changes})
    prepared = prepare(plan, Zoo.installed())
    folder = options.folder / name
    run = Run(folder, prepared)
    print(f"{name}: ", end="", file=sys.stderr)
    with run.held():
        with following(prepared, folder, options.jobs) as tell:
            rows = run.train(options.jobs, tell)
        text, summary = reported(plan, rows, run.baselines(), folder)
        commit(folder / "table.txt", text.encode())
        commit_json(folder / "summary.json", summary)
        draw(rows, run.baselines(), folder)
    return Compared(folder, rows, text)
