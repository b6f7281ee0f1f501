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
from ganzoo.report.text import counted
from ganzoo.statistics import differences_to, interval_of_mean
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


def size_of(options: Options) -> dict[str, Any]:
    """The plan's keys for the size: on digits ganzoo's own plan, on other data a quarter of the width for a few epochs,
    or the paper's (Qi 2017, sec. 9), which is that of `Plan`'s defaults."""
    if options.size == "paper":
        return {
            "epochs": 25 if options.data == "celeba" else 100,
            "data.size": 64 if options.data == "celeba" else None,
        }
    if options.data == "digits":
        return {}
    small = {"validation_images": 100, "test_images": 300, "control_images": 50, "epochs": 4, "validate_every": 1}
    rates = {"critic_rate": 0.002, "generator_rate": 0.002, "decay": 0.8, "decay_epochs": 1}
    protocols = {"validation_mre": {"steps": 100, "restarts": 1}, "test_mre": {"steps": 300, "restarts": 2}}
    return {**small, "shared": rates, "generator.width": 16, "critic.width": 16, **protocols}


def of_row(row: dict[str, Any], path: str) -> float | None:
    """`collapse.spread` -> that figure of a finished row; None where it has none."""
    found: Any = row
    for key in path.split("."):
        found = None if found is None else found.get(key)
    return found if row["verdict"] == "done" else None


def means(rows: list[dict[str, Any]], path: str) -> dict[str, float]:
    """label -> the mean of a figure over the finished seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = of_row(row, path)
        if value is not None:
            found.setdefault(row["label"], []).append(value)
    return {label: sum(values) / len(values) for label, values in found.items()}


def table_of(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """A line a contender: the mean of each figure with its 95 % interval; `columns` are headings by path."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    width = max(len(label) for label in labels)
    lines = [" ".join([" " * width, *(f"{heading:>24}" for heading in columns.values()), " seeds"])]
    for label in labels:
        mine = [row for row in rows if row["label"] == label]
        cells = []
        for path in columns:
            values = [value for row in mine if (value := of_row(row, path)) is not None]
            interval = interval_of_mean(values)
            within = "" if interval is None else f" {interval.low:.3f} {interval.high:.3f}"
            cells.append(f"{sum(values) / len(values):.4f}{within}" if values else "-")
        verdicts = counted([row["verdict"] for row in mine])
        lines.append(" ".join([label.ljust(width), *(f"{cell:>24}" for cell in cells), f" {verdicts}"]))
    return "\n".join(lines)


def difference(rows: list[dict[str, Any]], path: str, one: str, other: str) -> str:
    """`+0.012 (95 % interval -0.003 to +0.027, p = 0.250, 3 seeds)`: one minus other, paired by seed."""
    by_seed = {
        label: {
            row["seed"]: value for row in rows if row["label"] == label and (value := of_row(row, path)) is not None
        }
        for label in (one, other)
    }
    found = differences_to(by_seed[other], {one: by_seed[one]})
    if one not in found:
        return "not known: no seed of both finished"
    d = found[one]
    within = "" if d.interval is None else f"95 % interval {d.interval.low:+.4f} to {d.interval.high:+.4f}, "
    return f"{d.mean:+.4f} ({within}p = {d.p:.3f}, {d.pairs} seeds)"
