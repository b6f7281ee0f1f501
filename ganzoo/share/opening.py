"""A share, read as what it is: a stranger's file. All of it is judged before any of it is used or written.

A share is a zip of known names only. What stands in it is text, JSON, and weights in the safetensors format, which
holds no code; each file's checksum stands in share.json. So nothing in it can be put elsewhere, or be executed, and its
size is known before it is unpacked.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.bench import FORMAT
from ganzoo.config import LARGEST_PLAN, Plan, read_plan
from ganzoo.durable import LARGEST_INDEX, make_folder, refused, sync_folder
from ganzoo.errors import UserError, printable

SHARE = 1
"""The version of the format."""
ABOUT, README, PAGE = "share.json", "README.md", "page.html"
TEXTS = (
    ABOUT, README, PAGE, "plan.toml", "rows.jsonl", "rows.csv", "baselines.json", "environment.json", "table.txt",
    "summary.json",
)  # fmt: skip
NEEDED = (ABOUT, "plan.toml", "rows.jsonl", "baselines.json")
WEIGHTS = re.compile(r"weights/[a-z0-9][A-Za-z0-9._-]{0,120}/(?:generator|generator-last|critic)\.safetensors")
FOLDERS = re.compile(r"weights/(?:[a-z0-9][A-Za-z0-9._-]{0,120}/)?")
LARGEST = 8 * 1024**3
"""Bytes of all that is in a share, unpacked."""
LARGEST_TEXT = 256 * 1024**2
MOST_FILES = 100_000
MOST_PACKED = 200
"""Times smaller than its content a share may be; rows come to 20, weights to 1.1, a bomb to 1,000."""
SLACK = 1024**2
"""Bytes that may be packed as small as they like."""
PIECE = 1024**2


class Share(NamedTuple):
    """A share that was judged."""

    files: dict[str, bytes]
    """The texts."""
    weights: dict[str, str]
    """Name -> sha256."""
    page: bool


class Content(NamedTuple):
    """What the texts say."""

    plan: Plan
    rows: list[dict[str, Any]]
    baselines: dict[str, float]
    unfinished: int
    core: list[str]


def is_share(path: Path) -> bool:
    """Whether the file is a zip by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def is_opened_share(folder: Path) -> bool:
    return (folder / ABOUT).is_file()


def read_share(path: Path) -> Share:
    """Judge the whole of a share; nothing is written. Raises UserError, with one reason, for anything that is not as
    `ganzoo share` makes it."""
    with _opened(path) as archive:
        members = _members(archive, path)
        files = {name: _content(archive, member, path) for name, member in members.items() if name in TEXTS}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != ABOUT}
        for name in NEEDED:
            if name not in files:
                raise UserError(f"{path} is not a share of a run: it has no {name}")
        parsed(files, path)
        weights = {}
        for name, member in members.items():
            if name not in files:
                content = _content(archive, member, path)
                _require_weights(content, name, path)
                weights[name] = hashlib.sha256(content).hexdigest()
        _require_listed(files[ABOUT], {**digests, **weights}, path)
    return Share(files, weights, PAGE in files)


def open_share(path: Path, out: Path) -> Share:
    """Unpack a share into the new folder `out`, whole or not at all. Raises UserError as `read_share`, and where there
    is something at `out` already."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already; take another --out")
    share = read_share(path)
    try:
        make_folder(out.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise refused(out, 0, error) from None
    try:
        for name, content in share.files.items():
            _put(aside / name, content)
        with _opened(path) as archive:
            for name, digest in share.weights.items():
                content = _content(archive, archive.getinfo(name), path)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise UserError(f"{path} changes while it is read")
                _put(aside / name, content)
        aside.chmod(0o777 & ~_umask())
        sync_folder(aside)
        aside.rename(out)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise refused(out, sum(map(len, share.files.values())), error) from None
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return share


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def opened_share(folder: Path) -> dict[str, bytes]:
    """The texts of a share that was unpacked, by whatever program. Raises UserError for a file that is too large, or
    was altered."""
    found = {}
    for name in TEXTS:
        path = folder / name
        if not path.exists() and name not in NEEDED:
            continue
        try:
            if path.is_symlink() or not path.is_file():
                raise UserError(f"{folder} is not a share of a run: {name} is no file")
            if path.stat().st_size > LARGEST_TEXT:
                raise UserError(f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST_TEXT:,} are read")
            found[name] = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    listed = _about(found[ABOUT], folder)["files"]
    for name, content in found.items():
        if name in NEEDED and name != ABOUT and hashlib.sha256(content).hexdigest() != listed.get(name):
            raise UserError(f"{folder / name} was altered: its checksum is not that in {ABOUT}")
    return found


# The zip


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, UnicodeError) as error:
        raise UserError(f"{path} is not a whole zip: {' '.join(str(error).split())[:200]}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files, by name. Raises UserError for anything whose name, kind or size a share has not."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise UserError(f"{path} has {len(entries):,} files; a share has at most {MOST_FILES:,}")
    found: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        told = f"{path}: '{printable(name, 80)}'"
        if name.lower() in seen:
            raise UserError(f"{told} is in it twice")
        seen.add(name.lower())
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind == stat.S_IFLNK:
            raise UserError(f"{told} is a link; a share has files only")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{told} is neither a file nor a folder")
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise UserError(f"{told} would be put outside its folder; nothing was written")
        if FOLDERS.fullmatch(name) and entry.file_size == 0:
            continue
        if name not in TEXTS and not WEIGHTS.fullmatch(name):
            raise UserError(f"{told} is nothing that a share has; there are: {', '.join(TEXTS)}, weights/...")
        if entry.flag_bits & 0x1:
            raise UserError(f"{told} is encrypted; a share is not")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{told} is packed by method {entry.compress_type}; stored and deflated are read")
        if name in TEXTS and entry.file_size > LARGEST_TEXT:
            raise UserError(f"{told} has {entry.file_size:,} bytes; at most {LARGEST_TEXT:,} are read")
        found[name] = entry
    unpacked = sum(entry.file_size for entry in found.values())
    packed = min(sum(entry.compress_size for entry in found.values()), path.stat().st_size)
    if unpacked > LARGEST:
        raise UserError(f"{path} would unpack to {unpacked:,} bytes; at most {LARGEST:,} are")
    if unpacked > MOST_PACKED * packed + SLACK:
        raise UserError(f"{path} of {packed:,} bytes would unpack to {unpacked:,}: a zip bomb; nothing was written")
    return found


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    """A member's bytes: as many as it says, and with the checksum that it says."""
    pieces, size = [], 0
    with archive.open(member) as file:
        while piece := file.read(PIECE):
            size += len(piece)
            if size > member.file_size:
                raise UserError(f"{path}: '{member.filename}' is longer than it says")
            pieces.append(piece)
    if size != member.file_size:
        raise UserError(f"{path}: '{member.filename}' is shorter than it says")
    return b"".join(pieces)


def _require_weights(content: bytes, name: str, path: Path) -> None:
    """Raises UserError for what is not in the safetensors format, a pickle first of all."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    # The length of an index, with which a safetensors file begins, may have a pickle's first byte: one in 32 has.
    if content.startswith((b"PK", b"\x80")) and content[8:9] != b"{":
        raise UserError(f"{path}: '{name}' is a pickle, which can hold any code, not weights as safetensors; refused")
    if len(content) < 8 or int.from_bytes(content[:8], "little") > LARGEST_INDEX:
        raise UserError(f"{path}: '{name}' is not in the safetensors format")
    try:
        load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: '{name}' is not in the safetensors format: {said}") from None


# What the texts say


def parsed(files: dict[str, bytes], path: Path) -> Content:
    """The plan, the rows and the baselines. Raises UserError where they are not what they should be."""
    about = _about(files[ABOUT], path)
    plan = _plan(files["plan.toml"], path)
    rows = []
    for number, line in enumerate(files["rows.jsonl"].splitlines(), start=1):
        row = _json(line, f"{path}: line {number} of rows.jsonl")
        _require_row(row, plan, f"{path}: line {number} of rows.jsonl")
        rows.append(row)
    baselines = _json(files["baselines.json"], f"{path}: baselines.json")
    if not isinstance(baselines, dict) or not all(type(value) is float for value in baselines.values()):
        raise UserError(f"{path}: baselines.json holds other things than figures")
    return Content(plan, rows, baselines, about["unfinished"], about["core_sha256"])


def _about(content: bytes, path: Path) -> dict[str, Any]:
    about = _json(content, f"{path}: {ABOUT}")
    if not isinstance(about, dict) or type(about.get("share")) is not int or type(about.get("format")) is not int:
        raise UserError(f"{path} is not a share of a run: {ABOUT} does not say of which version it is")
    for said, ours in ((about["share"], SHARE), (about["format"], FORMAT)):
        if said > ours:
            raise UserError(f"{path} was made by a newer ganzoo (format {said}; this one reads {ours}); update ganzoo")
        if said < 1:
            raise UserError(f"{path} has a format {said}, which there never was")
    listed, core = about.get("files"), about.get("core_sha256")
    whole = isinstance(listed, dict) and all(isinstance(digest, str) for digest in listed.values())
    whole = whole and isinstance(core, list) and all(isinstance(one, str) for one in core)
    if not whole or type(about.get("unfinished")) is not int or about["unfinished"] < 0:
        raise UserError(f"{path} is not a share of a run: {ABOUT} lacks a part")
    return about


def _require_listed(about: bytes, digests: dict[str, str], path: Path) -> None:
    listed = _about(about, path)["files"]
    for name in sorted(set(listed) | set(digests)):
        if name not in digests:
            raise UserError(f"{path}: '{printable(name, 80)}' is listed in {ABOUT}, and is not there")
        if name not in listed:
            raise UserError(f"{path}: '{name}' is not listed in {ABOUT}")
        if listed[name] != digests[name]:
            raise UserError(f"{path}: '{name}' was altered: its checksum is not that in {ABOUT}")


def _json(content: bytes, where: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def finite(number: str) -> float:
        found = float(number)
        if found - found != 0.0:
            refuse(number)
        return found

    try:
        return json.loads(content.decode(), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {' '.join(str(error).split())[:200]}") from None


def _plan(content: bytes, path: Path) -> Plan:
    if len(content) > LARGEST_PLAN:
        raise UserError(f"{path}: plan.toml has {len(content):,} bytes; a plan has at most {LARGEST_PLAN:,}")
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder:
        held = Path(folder) / "plan.toml"
        held.write_bytes(content)
        try:
            return read_plan(held)
        except UserError as error:
            raise UserError(str(error).replace(str(held), f"{path}: plan.toml")) from None


_NUMBER, _OPTIONAL = (float,), (float, type(None))
ROW: dict[str, tuple[type, ...]] = {
    "label": (str,), "seed": (int,), "fold": (int, type(None)), "cell": (str,), "verdict": (str,),
}  # fmt: skip
PLAYED: dict[str, tuple[type, ...]] = {
    "hashes": (dict,), "fingerprint": (dict,), "recipe": (dict,), "recipe_changes": (dict,), "sources": (dict,),
    "rounds": (int,), "conditional": (bool,), "curve": (list,), "inexact": (bool,),
}  # fmt: skip
"""Of a row that was trained."""
MEASURED: dict[str, dict[str, tuple[type, ...]]] = {
    "mre": {
        **dict.fromkeys(("test_mre", "test_mre_last", "gap", "control_mre"), _NUMBER),
        **dict.fromkeys(("test_mre_any_label", "test_mre_own_label", "last_fifth"), _OPTIONAL),
        "label_images": (int, type(None)), "settled": (bool,), "test_images": (int,), "mre": (str,),
    },
    "accuracy": {
        "validation_accuracy": _NUMBER, "test_accuracy": _OPTIONAL, "classifier": (str,), "labelled_images": (int,),
        "test_images": (int,),
    },
}  # fmt: skip
"""Of a row that is done, by what its plan measures."""


def _require_row(row: Any, plan: Plan, where: str) -> None:
    if not isinstance(row, dict):
        raise UserError(f"{where} is no row of a cell")
    wanted = dict(ROW)
    if row.get("verdict") == "done":
        wanted |= PLAYED | MEASURED[plan.measure]
    for key, kinds in wanted.items():
        if type(row.get(key)) not in kinds or (key not in row):
            raise UserError(f"{where} is no row of a cell: its {key} is {printable(repr(row.get(key)), 60)}")
    texts = [row.get("hashes", {}), row.get("fingerprint", {}), row.get("sources", {})]
    for name, value in ((name, value) for text in texts for name, value in text.items()):
        if not isinstance(value, str):
            raise UserError(f"{where} is no row of a cell: its {printable(name, 60)} is no text")
    metrics = row.get("metrics", {})
    if not isinstance(metrics, dict) or not all(type(value) is float for value in metrics.values()):
        raise UserError(f"{where} is no row of a cell: its metrics are {printable(repr(metrics), 60)}")
    for point in row.get("curve", []):
        if not isinstance(point, dict) or type(point.get("epoch")) is not int:
            raise UserError(f"{where} is no row of a cell: its curve has a point that is none")
