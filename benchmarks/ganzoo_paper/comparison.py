"""A comparison as part of an item: a plan of cells in a folder of the item's own, resumed by the same command."""

import os
import sys
from pathlib import Path
from typing import Any

from ganzoo.bench import Run, prepare
from ganzoo.config import read_plan
from ganzoo.data.official import OFFICIAL
from ganzoo.durable import commit, commit_json
from ganzoo.errors import UserError
from ganzoo.paper import Options
from ganzoo.progress import following
from ganzoo.report import reported
from ganzoo.report.figures import draw
from ganzoo.report.text import counted
from ganzoo.result import read_pictures
from ganzoo.statistics import Difference, differences_to, interval_of_mean
from ganzoo.zoo import Zoo

TRAINING_IMAGES = {"cifar10": [30_000, 7_500, 7_500], "mnist": [50_000, 10_000, 10_000]}
"""How a set is cut, as counts in its official order. CIFAR-10 as the first 45,000 of its training images."""


class Compared:
    """A finished run: its rows and where its cells lie."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], table: str) -> None:
        self.folder, self.rows, self.table = folder, rows, table

    def pictures(self, label: str, seed: int = 0) -> dict[str, Any]:
        """What `result.read_pictures` finds for a contender; its label as in the rows."""
        (row,) = [r for r in self.rows if r["label"] == label and r["seed"] == seed and r["fold"] in (None, 0)]
        (directory,) = (self.folder / "cells").glob(f"*-{row['cell'][:8]}")
        return read_pictures(directory)


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


def require_there(options: Options) -> None:
    """Raises UserError, in the words of `ganzoo paper`, where the data set is not."""
    if options.data == "folder" and options.path is None:
        raise UserError("the data set 'folder' needs --path, a folder of images or an .npz file of them")
    if data_of(options)["data.set"] not in OFFICIAL:
        return
    root = Path(options.path or os.environ.get("GANZOO_DATA") or "~/.cache/ganzoo").expanduser()
    sign = OFFICIAL[options.data].sign
    if not (root / sign).exists():
        raise UserError(
            f"{options.data} is not in {root}; give --path, the folder that holds its {sign} or an .npz file of its"
            f" images, or download it: ganzoo bench --data {options.data} --set data.download=true --dry-run"
        )


def compared(options: Options, name: str, **changes: Any) -> Compared:
    """Run the plan of `changes` (as `read_plan` takes them) in the item's folder under `name`.

    Raises UserError for what `prepare` refuses, data that is not there included, before anything is written.
    """
    require_there(options)
    plan = read_plan(None, **{**data_of(options), "device": options.device, **changes})
    prepared = prepare(plan, Zoo.installed())
    folder = options.folder / name
    run = Run(folder, prepared)
    with run.held():
        print(f"{name}: ", end="", file=sys.stderr)
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
            "data.size": {"celeba": 64, "folder": 64}.get(options.data),
        }
    if options.data == "digits":
        return {}
    small = {"validation_images": 100, "test_images": 300, "control_images": 50, "epochs": 4, "validate_every": 1}
    rates = {"critic_rate": 0.002, "generator_rate": 0.002, "decay": 0.8, "decay_epochs": 1}
    protocols = {"validation_mre": {"steps": 60, "restarts": 1}, "test_mre": {"steps": 400, "restarts": 2}}
    edge = {"data.size": 32} if options.data == "folder" else {}
    return {**small, **edge, "shared": rates, "generator.width": 16, "critic.width": 16, **protocols}


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


def paired(rows: list[dict[str, Any]], path: str, one: str, other: str) -> Difference | None:
    """One minus other over the seeds that both finished; None where there is none."""
    by_seed = {
        label: {
            row["seed"]: value for row in rows if row["label"] == label and (value := of_row(row, path)) is not None
        }
        for label in (one, other)
    }
    return differences_to(by_seed[other], {one: by_seed[one]}).get(one)


def difference(rows: list[dict[str, Any]], path: str, one: str, other: str) -> str:
    """`+0.0120 (95 % interval -0.0030 to +0.0270, p = 0.250, 3 seeds)`: one minus other, paired by seed."""
    d = paired(rows, path, one, other)
    if d is None:
        return "not known: no seed of both finished"
    within = "" if d.interval is None else f"95 % interval {d.interval.low:+.4f} to {d.interval.high:+.4f}, "
    return f"{d.mean:+.4f} ({within}p = {d.p:.3f}, {d.pairs} seed{'s' * (d.pairs > 1)})"
