"""What of a run's folder is whole, what is not, and what the same command would do about it. Nothing is changed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ganzoo.bench import require_format
from ganzoo.cell_folder import checkpoints, fences, read_beat
from ganzoo.config import Cell, read_plan
from ganzoo.durable import load_checkpoint, read_json, read_sealed, sealed_line, sealed_lines
from ganzoo.errors import UserError
from ganzoo.party import IMAGES
from ganzoo.result import concluded, is_final, read_pictures, read_row


@dataclass
class Found:
    """Of one cell."""

    cell: str
    verdict: str
    """`planned` where there is none yet."""
    whole: list[str] = field(default_factory=list)
    """Files that are as they were written."""
    damaged: dict[str, str] = field(default_factory=dict)
    """File -> what is wrong with it."""
    resume: str = ""
    """What the same command would do."""


@dataclass
class Verified:
    """Of a run's folder."""

    folder: str
    cells: list[Found]
    damaged: dict[str, str]
    """Files of the run itself."""

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not any(found.damaged for found in self.cells)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "whole": self.is_whole}

    def text(self) -> str:
        lines = []
        for found in self.cells:
            lines.append(f"{'ok  ' if not found.damaged else 'BAD '} {found.cell}: {found.verdict}; {found.resume}")
            lines += [f"       {name}: {why}" for name, why in found.damaged.items()]
        lines += [f"BAD  {name}: {why}" for name, why in self.damaged.items()]
        files = sum(len(found.whole) for found in self.cells)
        bad = len(self.damaged) + sum(len(found.damaged) for found in self.cells)
        return "\n".join([*lines, f"{len(self.cells)} cells, {files} files whole, {bad} damaged"])


def verify(folder: Path) -> Verified:
    """Read every file of a run. Raises UserError for a folder that is none, or another version's."""
    if not (folder / "plan.toml").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no plan.toml")
    damaged: dict[str, str] = {}
    require_format(folder)
    directories = [path for path in sorted((folder / "cells").glob("*")) if path.is_dir()]
    for name, reader in (
        ("plan.toml", lambda path: _plan(path, directories)),
        ("run.json", read_sealed),
        (IMAGES, read_sealed),
        ("baselines.json", read_sealed),
        ("log.jsonl", _lines),
    ):
        if (folder / name).exists():
            _try(reader, folder / name, name, damaged)
    cells = [_cell(path) for path in directories]
    if (folder / "rows.jsonl").exists():
        _try(lambda path: _rows(path, directories), folder / "rows.jsonl", "rows.jsonl", damaged)
    return Verified(str(folder), cells, damaged)


def _try(reader: Any, path: Path, name: str, damaged: dict[str, str]) -> Any:
    try:
        return reader(path)
    except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        damaged[name] = " ".join(str(error).split())
        return None


def _plan(path: Path, directories: list[Path]) -> None:
    """A plan carries no checksum; the cells that were made of it know it."""
    plan = read_plan(path).identity
    for directory in directories:
        try:
            known = _description(directory / "cell.json").settings.identity
        except (UserError, OSError, ValueError):
            continue
        if known != plan:
            raise UserError(f"it is not the plan that {directory.name} is of; start the command with that plan again")


def _cell(directory: Path) -> Found:
    found = Found(directory.name, "planned")
    readers: dict[str, Callable[[Path], Any]] = {
        "cell.json": _description,
        "row.json": lambda path: read_row(path.parent),
        "verdict.json": read_sealed,
        "manifest.json": read_sealed,
        "fingerprint.json": read_sealed,
        "curve.jsonl": _lines,
        "timing.json": read_json,
        "pictures.npz": _pictures,
        **{path.name: _round for path in checkpoints(directory)},
    }
    read: dict[str, Any] = {}
    for name in sorted(readers):
        if (directory / name).exists():
            read[name] = _try(readers[name], directory / name, name, found.damaged)
    row: dict[str, Any] | None = read.get("row.json")
    for name, why in _missing(directory, row):
        found.damaged.setdefault(name, why)
    found.whole = [name for name in read if name not in found.damaged]
    found.verdict = "planned" if row is None else row["verdict"]
    found.resume = _resume(directory, row, [read[path.name] for path in checkpoints(directory)])
    return found


def _round(checkpoint: Path) -> int:
    """Of a whole checkpoint."""
    round = load_checkpoint(checkpoint)["round"]
    if type(round) is not int:
        raise UserError("it does not say of which round it is")
    return round


def _pictures(path: Path) -> None:
    read_pictures(path.parent)


def _missing(directory: Path, row: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """(file, why) of what is not there, or is not what the others say that it is."""
    if not (directory / "cell.json").exists():
        yield "cell.json", "it is not there"
    with suppress(UserError, KeyError, TypeError):
        for entry in read_sealed(directory / "manifest.json")["checkpoints"]:
            if not _stands(directory / str(entry["file"])):
                yield str(entry["file"]), "the manifest names it, and it is not there"
    if row is None:
        return
    if "curve" in row and not _is_of(row, directory / "curve.jsonl"):
        yield "curve.jsonl", "it is not the row's"
    if concluded(directory, row):
        for name, digest in read_sealed(directory / "verdict.json")["files"].items():
            path = directory / str(name)
            if not _stands(path):
                yield str(name), "the verdict names it, and it is not there"
            elif path.name != "row.json" and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                yield str(name), "it was altered: its checksum is not that of the verdict"


def _stands(path: Path) -> bool:
    """Whether there is such a file; a stranger's name for it may be no name at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _description(path: Path) -> Cell:
    cell = Cell.model_validate_json(path.read_text(encoding="utf-8"))
    if cell.directory != path.parent.name:
        raise UserError(f"it describes {cell.directory}, another cell")
    return cell


def _lines(path: Path) -> None:
    content = path.read_bytes()
    end = max((end for end, _ in sealed_lines(content)), default=0)
    if end < len(content):
        lines = content.count(b"\n", 0, end)
        raise UserError(f"torn or altered after {lines} lines; the same command goes on from there")


def _is_of(row: dict[str, Any], curve: Path) -> bool:
    """Whether that file holds the row's curve: one that was cut between two lines is whole by their checksums."""
    try:
        return curve.read_bytes() == b"".join(map(sealed_line, row["curve"]))
    except (OSError, TypeError, AttributeError, ValueError):
        return False


def _rows(path: Path, directories: list[Path]) -> None:
    listed = {row["cell"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    for directory in directories:
        try:
            row = read_row(directory)
        except UserError:
            continue
        if row is not None and listed.get(row["cell"]) != row:
            raise UserError(f"it does not hold the row of {directory.name}; the same command writes it again")


def _resume(directory: Path, row: dict[str, Any] | None, rounds: list[int | None]) -> str:
    """`rounds`: of its checkpoints, the newest first; None for one that is damaged."""
    beat = read_beat(directory)
    before = "" if beat is None or beat.left else f"attempt {beat.fence} is at work or died at work; "
    if row is not None and is_final(row):
        return before + ("nothing to do" if concluded(directory, row) else "it would be measured again")
    before += "" if row is None else "it would be tried again: "
    whole = [round for round in rounds if round is not None]
    if whole:
        return before + f"it would be resumed at round {whole[0]}"
    if rounds:
        return before + "it would be refused until its checkpoints, none of which is whole, are deleted"
    return before + ("it would be trained from the beginning" if fences(directory) else "it would be trained")
