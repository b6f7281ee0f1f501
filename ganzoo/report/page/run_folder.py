"""A run's folder as the page sees it: read while the run goes on, never locked, never changed, never run.

Whatever is missing or damaged is left out and said; no plugin that a plan names is loaded.
"""

import json
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, MaxLen
from pydantic import BaseModel, ConfigDict, ValidationError

from ganzoo.bench import require_format
from ganzoo.cell_folder import read_beat, read_curve
from ganzoo.config import Plan, read_plan
from ganzoo.durable import read_json, read_sealed
from ganzoo.errors import UserError
from ganzoo.result import read_row

LARGEST_FILE = 64 * 1024 * 1024
"""Bytes of a file of a run that the page reads; a row of 40,000 points has 8 MB."""
LONGEST_SIDE = 4096
"""Pixels of an image, and images of a kind in a cell's pictures."""
LATELY = 60.0
"""Seconds: a beat comes twice a second, and other machines' clocks may be wrong."""


class RunFolder(NamedTuple):
    """What was found in it."""

    path: Path
    plan: Plan
    rows: list[dict[str, Any]]
    """A row for each planned cell, by contender and then seed; `planned` where there is none yet, with the curve so
    far."""
    directories: dict[str, Path]
    """Of those rows that have a cell's folder: its sha256 -> where it lies."""
    besides: int
    """Rows of plans of other objectives or seeds, which are left out."""
    baselines: dict[str, float]
    provenance: dict[str, Any]
    working: int
    """Cells of which a worker gave a sign of life within `LATELY`."""
    said: list[str]
    """What is missing or damaged, a line each."""

    @property
    def pending(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["verdict"] == "planned"]


Finite = float | None
Text = Annotated[str, MaxLen(1_000_000)]


class _Point(BaseModel):
    """Of a curve. Every further key is left alone."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    epoch: Annotated[int, Ge(0)]
    critic_loss: Finite = None
    generator_loss: Finite = None
    gradient_norm: Finite = None
    validation_mre: Finite = None
    validation_accuracy: Finite = None


class _Row(BaseModel):
    """What the page reads of a row, so that nothing in it need be doubted afterwards."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    label: Text
    seed: int
    fold: int | None = None
    cell: Text
    verdict: Text
    reason: Text | None = None
    curve: list[_Point] = []
    notes: list[Text] = []
    inexact: bool = False
    objective: Text | None = None
    hyperparameters: dict[str, Any] = {}
    cost: Text | None = None
    cost_hyperparameters: dict[str, Any] = {}
    margin: Text | None = None
    margin_hyperparameters: dict[str, Any] = {}
    sources: dict[str, Text] = {}
    hashes: dict[str, Text] = {}
    fingerprint: dict[str, Text] = {}
    provenance: dict[str, Any] = {}
    health: dict[str, Finite] | None = None
    collapse: dict[str, Finite] | None = None
    lipschitz: dict[str, Finite] | None = None


class _Reconstructed(_Row):
    """A finished one of a plan that measures MRE."""

    test_mre: float
    test_mre_last: float
    gap: float
    control_mre: float
    test_mre_any_label: Finite
    test_mre_own_label: Finite
    label_images: int | None
    settled: bool
    mre: Text
    test_images: int
    metrics: dict[str, float] = {}


class _Classified(_Row):
    """A finished one of a plan that measures accuracy."""

    classifier: Text
    validation_accuracy: float
    test_accuracy: Finite
    labelled_images: int


def read_run(folder: Path) -> RunFolder:
    """Raises UserError for a folder that is no run's, or one of another version of ganzoo, or whose plan is damaged."""
    if folder.suffix == ".zip" and folder.is_file():
        raise UserError(f"{folder} is a share, which brings its page: ganzoo open {folder}")
    if not folder.is_dir():
        raise UserError(f"no run's folder at {folder}: there is {'a file' if folder.exists() else 'nothing'}")
    if not (folder / "plan.toml").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no plan.toml")
    require_format(folder)
    plan = read_plan(folder / "plan.toml")
    said: list[str] = []
    rows, directories, working = _cells(folder, plan, said)
    if not directories:
        rows = _listed(folder, plan, said)
    planned = [row for row in rows if row["seed"] in plan.seed_range and _asked(plan, row) is not None]
    planned.sort(key=lambda row: (_asked(plan, row), row["seed"], row["fold"] or 0))
    return RunFolder(
        path=folder,
        plan=plan,
        rows=planned,
        directories=directories,
        besides=len(rows) - len(planned),
        baselines=_baselines(folder, said),
        provenance=_provenance(folder, said),
        working=working,
        said=said,
    )


def _asked(plan: Plan, row: dict[str, Any]) -> tuple[int, str] | None:
    """Where the plan asks for this contender; None where it does not."""
    label, asked = row["label"], plan.objectives
    if not asked:
        return 0, label
    if label in asked:
        return asked.index(label), ""
    # A grid, or a label without what is a default: `NAME:key=v1,v2`.
    name = label.partition(":")[0]
    return next(((i, label) for i, one in enumerate(asked) if one.partition(":")[0] == name), None)


def _cells(folder: Path, plan: Plan, said: list[str]) -> tuple[list[dict[str, Any]], dict[str, Path], int]:
    """The rows of the cells' folders, where each lies, and how many are at work."""
    rows, directories, working = [], {}, 0
    try:
        found = sorted(path for path in (folder / "cells").iterdir() if path.is_dir())
    except OSError:
        found = []
    for path in found:
        described = _described(path, plan, said)
        if described is None:
            continue
        row: dict[str, Any] | None = None
        try:
            raw = read_row(path) if _small(path / "row.json") else None
            row = None if raw is None else checked(raw, plan)
        except (UserError, OSError) as error:
            said.append(f"{path.name}: its row is damaged and left out ({_short(error)})")
        if row is None:
            row = {**described, "verdict": "planned", "curve": _curve_so_far(path, plan)}
            working += _is_at_work(path)
        rows.append(row)
        directories[row["cell"]] = path
    return rows, directories, working


def _is_at_work(path: Path) -> bool:
    """Whether its worker gave a sign of life lately; one that died leaves an old one."""
    beat = read_beat(path)
    with suppress(OSError):
        return beat is not None and not beat.left and time.time() - (path / "beat").stat().st_mtime < LATELY
    return False


def _described(path: Path, plan: Plan, said: list[str]) -> dict[str, Any] | None:
    """Whose cell it is, of cell.json."""
    try:
        if not _small(path / "cell.json"):
            raise UserError("it is too large")
        cell = read_json(path / "cell.json")
        contender = cell["contender"]
        # Not the cell's own hash, which another version of ganzoo makes otherwise: any name does.
        content = {key: contender.get(key) for key in ("label", "objective", "cost", "margin")}
        content |= {key: contender.get(key) or {} for key in ("cost_hyperparameters", "margin_hyperparameters")}
        described = {**content, "seed": cell["seed"], "fold": cell.get("fold"), "cell": path.name, "verdict": "planned"}
        return _Row.model_validate(described).model_dump()
    except (UserError, OSError, KeyError, TypeError, AttributeError, ValidationError) as error:
        said.append(f"{path.name}: its cell.json cannot be read ({_short(error)})")
        return None


def checked(raw: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """A row as the page can trust it. Raises UserError where a field that it needs is not what it should be."""
    done = raw.get("verdict") == "done"
    kind = (_Reconstructed if plan.measure == "mre" else _Classified) if done else _Row
    try:
        return kind.model_validate({**raw, "cell": raw.get("cell") or ""}).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except RecursionError:
        raise UserError("tables within tables, too deep to be read") from None


def _curve_so_far(path: Path, plan: Plan) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    with suppress(OSError):
        if _small(path / "curve.jsonl"):
            for point in read_curve(path):
                try:
                    points.append(_Point.model_validate(point).model_dump())
                except ValidationError:
                    break
    return points


def _listed(folder: Path, plan: Plan, said: list[str]) -> list[dict[str, Any]]:
    """Of a folder without cells (a published one): rows.jsonl alone, without pictures."""
    path = folder / "rows.jsonl"
    try:
        if not _small(path):
            raise UserError(f"it has more than {LARGEST_FILE:,} bytes")
        lines = path.read_bytes().splitlines()
    except (OSError, UserError) as error:
        said.append(f"there are neither cells nor rows yet ({_short(error)})")
        return []
    rows, bad = [], 0
    for line in lines:
        try:
            found = json.loads(line)
            rows.append(checked(found if isinstance(found, dict) else {}, plan))
        except (ValueError, RecursionError):
            bad += 1
    if bad:
        said.append(f"rows.jsonl: {bad} of {len(lines)} lines are no row, and left out")
    if rows:
        said.append("the folder has rows and no cells: neither pictures nor what is kept beside them")
    return rows


def _baselines(folder: Path, said: list[str]) -> dict[str, float]:
    path = folder / "baselines.json"
    if not path.exists():
        said.append("the baselines are not measured yet")
        return {}
    try:
        found = read_json(path)
        found = read_sealed(path) if "sha256" in found else found
    except UserError as error:
        said.append(f"the baselines are damaged and left out ({_short(error)})")
        return {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, float)}


def _provenance(folder: Path, said: list[str]) -> dict[str, Any]:
    try:
        return read_json(folder / "run.json")
    except UserError as error:
        said.append(f"where the run comes from is not known ({_short(error)})")
        return {}


PICTURES = {
    "samples": (4, np.uint8),
    "originals": (4, np.uint8),
    "reconstructions": (4, np.uint8),
    "errors": (1, np.float32),
    "nearest": (4, np.uint8),
    "nearest_errors": (1, np.float32),
    "samples_nearest": (4, np.uint8),
    "samples_nearest_errors": (1, np.float32),
    "cost_a": (1, np.float32),
    "cost": (1, np.float32),
    "across": (0, np.int64),
}
"""What a cell may keep of them: dimensions and type."""


def pictures_of(run: RunFolder, row: dict[str, Any]) -> tuple[dict[str, np.ndarray], str]:
    """What of pictures.npz is as it should be, and what is wrong with it, empty where all is well."""
    directory = run.directories.get(row["cell"])
    if directory is None:
        return {}, ""
    path = directory / "pictures.npz"
    found: dict[str, np.ndarray] = {}
    try:
        if not path.is_file():
            return {}, f"{directory.name}: there are no pictures"
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_FILE:
                return {}, f"{directory.name}: its pictures are larger than {LARGEST_FILE:,} bytes, and left out"
        with np.load(path, allow_pickle=False) as stored:
            for name, (dimensions, kind) in PICTURES.items():
                if name not in stored:
                    continue
                array = stored[name]
                if array.ndim != dimensions or not np.can_cast(array.dtype, kind, "same_kind"):
                    raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
                if dimensions == 4 and not (array.shape[1] in (1, 3) and 0 < max(array.shape) <= LONGEST_SIDE):
                    raise ValueError(f"{name} are no images: {array.shape}")
                if dimensions < 4 and not np.isfinite(array).all():
                    raise ValueError(f"{name} are not finite")
                found[name] = array
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        return {}, f"{directory.name}: its pictures are damaged and left out ({_short(error)})"
    return found, ""


def _small(path: Path) -> bool:
    return not path.exists() or path.stat().st_size <= LARGEST_FILE


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def figure_of(plan: Plan) -> str:
    """What the curves are of: a key of their points."""
    return f"validation_{plan.measure}"
