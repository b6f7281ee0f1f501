"""The cells of several runs of one plan in one run's folder, which resumes, verifies and reports like any other."""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.bench import require_fair, require_format
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan, read_plan
from ganzoo.durable import (
    commit,
    commit_json,
    commit_sealed,
    make_folder,
    read_sealed,
    refused,
    sealed_line,
    sealed_lines,
    sync_folder,
)
from ganzoo.errors import UserError
from ganzoo.lock import Busy, holder
from ganzoo.party import IMAGES
from ganzoo.report import reported
from ganzoo.report.figures import draw
from ganzoo.result import is_final
from ganzoo.share.compare import told
from ganzoo.share.opening import is_opened_share
from ganzoo.share.reading import cell_of, ordered
from ganzoo.verify import verify
from ganzoo.worker import BASELINES

LEFT_BEHIND = ("lock", "beat", "stop")
"""Of a cell's folder: who was at work there."""


class Merged(NamedTuple):
    folder: Path
    cells: int
    missing: int
    """Cells of the merged plan that none of the runs has."""
    text: str
    summary: dict[str, Any]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "cells": self.cells,
            "missing": self.missing,
            **self.summary,
            "notes": list(self.notes),
        }


class _Part(NamedTuple):
    """One of the runs."""

    folder: Path
    plan: Plan
    cells: list[Path]


def merge(folders: Sequence[Path], out: Path, *, allow_inexact: bool = False) -> Merged:
    """Union of the cells, in the new folder `out`, whole or not at all. A cell that several have is taken once.

    Raises UserError for folders that are no runs, other plans, damaged files, two results of one cell that differ,
    cells that are not fair beside one another, and where there is something at `out`; Busy where a run is at work.
    """
    if len(folders) < 2:
        raise UserError("merge takes two runs or more")
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already; take another --out")
    with ExitStack() as stack:
        parts = [_part(folder, stack) for folder in folders]
        for part in parts[1:]:
            _require_one_plan(parts[0], part)
        chosen = _chosen(parts)
        plan = _plan(parts, list(chosen.values()))
        rows = [row for directory in chosen.values() if (row := _row(directory)) is not None]
        try:
            require_fair(rows, one_recipe=plan.recipe == "shared", mixed=allow_inexact)
        except UserError as error:
            raise UserError(str(error).replace("; the run folder mixes runs, take --out", "")) from None
        try:
            make_folder(out.parent)
            aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        except OSError as error:
            raise refused(out, 0, error) from None
        try:
            text, summary = _write(aside, parts, chosen, plan, rows)
            aside.chmod(0o755)
            aside.rename(out)
            sync_folder(out.parent)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise refused(out, _size(chosen.values()), error) from None
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    missing = len({row["label"] for row in map(_name, chosen.values())}) * plan.seeds * (plan.labels.folds or 1) - len(
        chosen
    )
    left = [directory for directory in chosen.values() if (row := _row(directory)) is None or not is_final(row)]
    notes = []
    if missing or left:
        notes.append(
            f"{len(left)} cells are not finished and {missing} of the merged plan are in none of the runs:"
            f" `ganzoo bench {out / 'plan.toml'} --out {out}` trains them"
        )
    return Merged(out, len(chosen), missing, text, summary, tuple(notes))


def _size(directories: Any) -> int:
    return sum(path.stat().st_size for directory in directories for path in directory.iterdir() if path.is_file())


def _part(folder: Path, stack: ExitStack) -> _Part:
    if is_opened_share(folder) or folder.is_file():
        raise UserError(
            f"{folder} is a share: its cells cannot be resumed or verified, so they are not merged; compare it"
        )
    if not (folder / "plan.toml").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no plan.toml")
    require_format(folder)
    _require_idle(folder, stack)
    found = verify(folder)
    for cell in found.cells:
        for name, why in cell.damaged.items():
            raise UserError(
                f"{folder}: {cell.cell}/{name} is damaged ({why}); mend it first: the same bench command does"
            )
    return _Part(folder, read_plan(folder / "plan.toml"), ordered(folder))


def _require_idle(folder: Path, stack: ExitStack) -> None:
    """Nobody writes there while it is copied; a folder that can only be read is as good."""
    path = folder / "run.lock"
    if path.is_file():
        file = stack.enter_context(path.open())
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"{folder} is in use by another process ({holder(file)}); wait until it is done") from None


def _require_one_plan(one: _Part, two: _Part) -> None:
    ours, theirs = one.plan.identity, two.plan.identity
    for key, value in ours.items():
        if theirs[key] != value:
            raise UserError(f"{one.folder} and {two.folder} are runs of two plans: {told(key, value, theirs[key])}")


def _name(directory: Path) -> dict[str, Any]:
    cell = cell_of(directory)
    return {
        "label": cell["contender"]["label"],
        "seed": cell["seed"],
        "fold": cell["fold"],
        "core": cell.get("core_sha256"),
    }


def _row(directory: Path) -> dict[str, Any] | None:
    path = directory / "row.json"
    return read_sealed(path) if path.exists() else None


def _chosen(parts: list[_Part]) -> dict[str, Path]:
    """The folder of each cell, the best there is of it. Raises UserError where two runs contradict one another."""
    chosen: dict[str, Path] = {}
    known: dict[tuple[Any, ...], Path] = {}
    for part in parts:
        for directory in part.cells:
            name = _name(directory)
            other = known.setdefault((name["label"], name["seed"], name["fold"]), directory)
            if other.name != directory.name:
                why = "code" if _name(other)["core"] != name["core"] else "settings or plugins"
                raise UserError(
                    f"conflict: {name['label']} seed {name['seed']} is another cell in {other.parents[1]} and"
                    f" {part.folder}: their {why} differ"
                )
            before = chosen.get(directory.name)
            if before is None or _better(directory, before):
                chosen[directory.name] = directory
    cores = {_name(directory)["core"]: directory for directory in chosen.values()}
    if len(cores) > 1:
        one, two = list(cores.values())[:2]
        raise UserError(
            f"{one.parents[1]} and {two.parents[1]} were trained by different code of ganzoo; they are not merged"
        )
    return chosen


def _better(new: Path, old: Path) -> bool:
    """Whether a cell's second folder says more than its first. Raises UserError where both are final and differ."""
    one, two = _row(old), _row(new)
    final = [row is not None and is_final(row) for row in (one, two)]
    if all(final):
        assert one is not None
        assert two is not None
        if _result(one) != _result(two):
            key = next(key for key in (*one, *two) if key != "provenance" and one.get(key) != two.get(key))
            differing = told(key, one.get(key), two.get(key))
            raise UserError(
                f"conflict: {one['label']} seed {one['seed']} came out twice, and not alike ({differing});"
                f" {old.parents[1]} and {new.parents[1]} are not merged"
            )
        return False
    if any(final):
        return final[1]
    return _round(new) > _round(old)


def _result(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "provenance"}


def _round(directory: Path) -> str:
    """Of its newest checkpoint: the name counts up."""
    return max((path.name for path in checkpoints(directory)), default="")


def _plan(parts: list[_Part], directories: list[Path]) -> Plan:
    """The plan whose cells these are: its objectives by their labels, and every seed from the first to the last."""
    names = [_name(directory) for directory in directories]
    seeds = [name["seed"] for name in names]
    changes = {
        "objectives": tuple(dict.fromkeys(name["label"] for name in names)),
        "first_seed": min(seeds),
        "seeds": max(seeds) - min(seeds) + 1,
        "plugins": tuple(dict.fromkeys(plugin for part in parts for plugin in part.plan.plugins)),
    }
    return Plan.model_validate({**parts[0].plan.model_dump(), **changes})


def _write(
    aside: Path, parts: list[_Part], chosen: dict[str, Path], plan: Plan, rows: list[dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """All of the folder, but for its name. Returns table and summary."""
    for name, directory in chosen.items():
        shutil.copytree(directory, aside / "cells" / name, ignore=shutil.ignore_patterns(*LEFT_BEHIND, "*.tmp"))
    commit(aside / "plan.toml", plan.toml().encode())
    first = read_sealed(parts[0].folder / "run.json")
    merged = [{"run": part.folder.name, "cells": len(part.cells)} for part in parts]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    commit_sealed(aside / "run.json", {**first, "merged": merged, "started": now})
    if (images := parts[0].folder / IMAGES).exists():
        commit_sealed(aside / IMAGES, read_sealed(images))
    commit(aside / "log.jsonl", _log(parts))
    ranked = sorted(rows, key=lambda row: (plan.objectives.index(row["label"]), row["seed"], row["fold"] or 0))
    lines = [json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in ranked]
    commit(aside / "rows.jsonl", "".join(lines).encode())
    baselines = _baselines(aside, parts, chosen, plan)
    text, summary = "no cell is done yet\n", dict[str, Any]()
    if any(row["verdict"] == "done" for row in ranked):
        text, summary = reported(plan, ranked, baselines, aside)
        commit(aside / "table.txt", text.encode())
        commit_json(aside / "summary.json", summary)
        draw(ranked, baselines, aside)
    return text, summary


def _log(parts: list[_Part]) -> bytes:
    """What happened in all of them, by the clock."""
    logs = [part.folder / "log.jsonl" for part in parts]
    notes = [note for path in logs if path.exists() for _, note in sealed_lines(path.read_bytes())]
    return b"".join(map(sealed_line, sorted(notes, key=lambda note: str(note.get("time")))))


def _baselines(aside: Path, parts: list[_Part], chosen: dict[str, Path], plan: Plan) -> dict[str, float]:
    """Those of the run whose untrained generator is the merged run's; none where there is no such run, the next bench
    makes them."""
    described = {part.folder: part.folder / BASELINES / "cell.json" for part in parts}
    found = {folder: cell_of(path.parent) for folder, path in described.items() if path.is_file()}
    if not found:
        return {}
    plainest = min(found, key=lambda folder: ("labels" in found[folder]["needs"], found[folder]["seed"]))
    (aside / BASELINES).mkdir()
    shutil.copy(described[plainest], aside / BASELINES / "cell.json")
    path = plainest / "baselines.json"
    covers = plan.measure == "mre" or read_plan(plainest / "plan.toml").seed_range == plan.seed_range
    if not path.exists() or not covers:
        return {}
    shutil.copy(path, aside / "baselines.json")
    return {name: float(value) for name, value in read_sealed(path).items()}
