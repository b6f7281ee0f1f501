"""A run as it lies there, or as somebody shared it: its plan and its rows. Nothing is changed, nothing is executed."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.bench import require_format
from ganzoo.config import Plan, read_plan
from ganzoo.durable import read_json, read_sealed
from ganzoo.errors import UserError
from ganzoo.report import accuracy, ranking, reported
from ganzoo.result import is_final, read_row
from ganzoo.share.opening import is_opened_share, is_share, opened_share, parsed, read_share

LARGEST_CELL_FILE = 4 * 1024 * 1024
"""Bytes of a cell.json; one of ours has some thousands."""


class ReadRun(NamedTuple):
    """What a run came to, from its folder or from a share of it."""

    name: str
    """As it was typed; for people."""
    folder: Path | None
    """None where it was read from a share."""
    plan: Plan
    rows: list[dict[str, Any]]
    """Of every cell that has a final verdict or a failure, in the plan's order."""
    unfinished: int
    """Cells without a verdict."""
    baselines: dict[str, float]
    core: frozenset[str]
    """sha256 of ganzoo's own code, of each cell; one, unless the run was resumed after an update."""

    @property
    def done(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["verdict"] == "done"]

    def require_some(self) -> None:
        """Raises UserError where no cell is finished."""
        if not self.done:
            raise UserError(f"{self.name} has no finished cell yet ({self.unfinished + len(self.rows)} planned)")

    @property
    def caveat(self) -> str | None:
        """What to say of a run that is not finished."""
        failed = len([row for row in self.rows if not is_final(row)])
        parts = [f"{self.unfinished} of {self.unfinished + len(self.rows)} cells are not finished"]
        parts += [f"{failed} failed"] if failed else []
        return f"{self.name}: {', '.join(parts)}; this is of the others" if self.unfinished or failed else None


def read_run(path: Path) -> ReadRun:
    """A run's folder, a share (`.zip`), or a share that was opened.

    Raises UserError for what is none of these, is another version's, or is damaged.
    """
    if not path.exists():
        raise UserError(f"no run at {path}; a run is a folder that `ganzoo bench` made, or a share of one")
    if path.is_file():
        if not is_share(path):
            raise UserError(f"{path} is not a run: a folder that `ganzoo bench` made, or a share of one (.zip)")
        return _of_share(path, read_share(path).files)
    if is_opened_share(path):
        return _of_share(path, opened_share(path))
    return _of_folder(path)


def table_of(run: ReadRun) -> tuple[str, dict[str, Any]]:
    """The ranked table of what is finished, and its summary as JSON."""
    if run.folder is not None:
        return reported(run.plan, run.rows, run.baselines, run.folder)
    if run.plan.measure == "mre":  # without pictures: with one seed there are no intervals
        by_error = ranking.rank(run.rows, run.baselines)
        return ranking.table(by_error), by_error.as_json()
    by_accuracy = accuracy.rank(run.rows, run.baselines)
    return accuracy.table(by_accuracy), by_accuracy.as_json()


def _of_folder(folder: Path) -> ReadRun:
    if not (folder / "plan.toml").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no plan.toml")
    require_format(folder)
    plan = read_plan(folder / "plan.toml")
    rows, core, unfinished = [], set(), 0
    for directory in ordered(folder):
        core.add(str(cell_of(directory).get("core_sha256")))
        row = read_row(directory)
        if row is None:
            unfinished += 1
        else:
            rows.append(row)
    known = folder / "baselines.json"
    return ReadRun(
        str(folder), folder, plan, rows, unfinished, read_sealed(known) if known.exists() else {}, frozenset(core)
    )


def ordered(folder: Path) -> list[Path]:
    """The cells' folders, in the order of the plan's objectives, then by seed and fold.

    Where the code was changed between two commands, a folder holds cells of both: of each training only the one that
    the last command planned.
    """
    listed = _listed(folder)
    place = {cell: i for i, (_, cell) in reversed(list(enumerate(listed)))}
    labels = list(dict.fromkeys(label for label, _ in listed))
    found: dict[tuple[str, int, int], tuple[float, Path]] = {}
    for directory in (folder / "cells").glob("*"):
        if not directory.is_dir():
            continue
        cell = cell_of(directory)
        name = (cell["contender"]["label"], cell["seed"], -1 if cell["fold"] is None else cell["fold"])
        at = next((i for sha256, i in place.items() if directory.name.endswith(f"-{sha256[:8]}")), None)
        # One that no row tells of yet is of the last command: the others stand in rows.jsonl.
        rank = (-1.0 if at is None else float(at), directory)
        if name not in found or rank < found[name]:
            found[name] = rank
    order = {label: i for i, label in enumerate(labels)}
    return [found[name][1] for name in sorted(found, key=lambda name: (order.get(name[0], len(order)), name))]


def _listed(folder: Path) -> list[tuple[str, str]]:
    """(label, cell) in the order of rows.jsonl: the plan's, then what the folder holds besides."""
    found = []
    try:
        for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append((str(row["label"]), str(row["cell"])))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # a damaged line ends it; the cells' own rows stand
    return found


def cell_of(directory: Path) -> dict[str, Any]:
    """cell.json, so far as it is needed here: without the pydantic that would ask for its plugins' types."""
    path = directory / "cell.json"
    try:
        if path.stat().st_size > LARGEST_CELL_FILE:
            raise UserError(f"{path} is too large for a cell's description")
        found = read_json(path)
        if not (isinstance(found["contender"]["label"], str) and type(found["seed"]) is int):
            raise TypeError
        if not isinstance(found["fold"], int | None):
            raise TypeError
    except OSError as error:
        raise UserError(
            f"{path}: {(error.strerror or str(error)).lower()}; `ganzoo verify` says what is whole"
        ) from None
    except (KeyError, TypeError):
        raise UserError(f"{path} describes no cell; `ganzoo verify` says what is whole") from None
    return found


def _of_share(path: Path, files: dict[str, bytes]) -> ReadRun:
    content = parsed(files, path)
    return ReadRun(
        str(path),
        None,
        content.plan,
        content.rows,
        content.unfinished,
        content.baselines,
        frozenset(content.core),
    )
