"""Files that are whole or not there: written aside, synced, renamed; what is read again carries its own checksum."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ganzoo.errors import UserError

MAGIC = b"ganzoo checkpoint 2 sha256 "
LARGEST_HEAD = 8 * 1024 * 1024
"""Bytes of a checkpoint's part that is no tensor: the cell and its curve, of some 40,000 points. As objects in memory
JSON can be 26 times as large."""
LARGEST_INDEX = 4 * 1024 * 1024
"""Bytes of the list of a checkpoint's tensors, some 40,000. As tensors an empty one is 24 times as large."""
PIECE = 1024 * 1024


class DiskError(UserError):
    """The disk is full, or fails: nothing of the user's is wrong, and nothing that stood there is lost."""


class Damaged(UserError):  # noqa: N818 (what became of a file)
    """A file is not whole, or not what its name says: another copy may be."""


def commit(path: Path, content: bytes) -> None:
    """Put `content` at `path`: after a kill or a power cut at any moment the old file or the new one is there whole.

    Raises DiskError, the old file untouched, where the disk is full or fails; UserError where one may not write.
    """
    commit_all({path: content})


def commit_all(contents: Mapping[Path, bytes]) -> None:
    """`commit` of several files of one folder, in their order, for the price of one wait for the folder: a kill may
    leave the first of them new and the others old, a power cut any of them.

    Raises as `commit`; those before the one that failed are then new.
    """
    for path, content in contents.items():
        # A name of its own: on another machine a process of the same number may be at work on the same file.
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            make_folder(path.parent)
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            with suppress(OSError):  # a disk that refuses it may refuse this too; the first error is the one to tell
                aside.unlink(missing_ok=True)
            raise refused(path, len(content), error) from None
    for folder in {path.parent for path in contents}:
        try:
            sync_folder(folder)
        except OSError as error:
            raise refused(folder, sum(map(len, contents.values())), error) from None


def refused(path: Path, needed: int, error: OSError) -> UserError:
    """What to say where the system does not let us write `needed` bytes at `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"the disk is full: {path} needs {needed:,} bytes; what stood there is kept")
    said = f"cannot write {path} ({needed:,} bytes): {error.strerror or error}"
    return (
        DiskError(f"{said}; what stood there is kept") if error.errno in (errno.EIO, errno.EFBIG) else UserError(said)
    )


def make_folder(folder: Path) -> None:
    """The folder and those above it; what was made survives a power cut."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """What was created, renamed or removed in it survives a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def commit_json(path: Path, content: Any) -> None:
    """One JSON document. NaN is refused: it is not JSON."""
    commit(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """What `commit_json` writes."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object that `commit_json` left at `path`. Raises UserError for anything else, NaN included."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); delete it and start again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object; delete it and start again")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    found = float(number)
    if found - found != 0.0:
        _refuse(number)  # 1e999: JSON by its letters, and what was read could not be written again
    return found


def seal(content: dict[str, Any]) -> str:
    """The checksum of a JSON object: sha256 of its shortest form with sorted keys, `sha256` itself left out."""
    bare = {key: value for key, value in content.items() if key != "sha256"}
    written = json.dumps(bare, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(written.encode()).hexdigest()


def commit_sealed(path: Path, content: dict[str, Any]) -> None:
    """One JSON object with its own checksum under `sha256`, so that a flipped bit is noticed."""
    commit(path, sealed_bytes(content))


def sealed_bytes(content: dict[str, Any]) -> bytes:
    """What `commit_sealed` writes."""
    return json_bytes({**content, "sha256": seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """What `commit_sealed` left at `path`, without the checksum. Raises UserError for a file that is not whole."""
    found = read_json(path)
    if "sha256" not in found:
        raise UserError(f"{path} has no checksum: another program or an older ganzoo made it; delete it, or take --out")
    try:
        # Its very bytes, too: 1e-05 and 1E-05 are one number, and a bit apart.
        whole = found["sha256"] == seal(found) and path.read_bytes() == json_bytes(found)
    except RecursionError:  # what can be read may be too deep to be written
        whole = False
    if not whole:
        raise UserError(f"{path} was altered: its checksum is not that of its content; delete it and start again")
    del found["sha256"]
    return found


# Lines of a log


def sealed_line(content: dict[str, Any]) -> bytes:
    """An object as one line that carries its checksum; floats are hexadecimal, exact to the bit."""
    exact = {key: value.hex() if isinstance(value, float) else value for key, value in content.items()}
    return (json.dumps({**exact, "sha256": seal(exact)[:16]}, allow_nan=False) + "\n").encode()


def sealed_lines(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """(where it ends, the object) of each whole line from the beginning; stops before the first that is not whole."""
    end = 0
    for line in content.splitlines(keepends=True):
        try:
            found = json.loads(line.decode(), parse_constant=_refuse)
            if found["sha256"] != seal(found)[:16] or line != (json.dumps(found) + "\n").encode():
                return
            del found["sha256"]
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return
        end += len(line)
        yield end, {key: _exact(value) for key, value in found.items()}


def _exact(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip("-").startswith(("0x", "inf", "nan")):
        with suppress(ValueError, OverflowError):
            return float.fromhex(value)
    return value


# Checkpoints: a line with the checksum of all that follows, a line of JSON, the tensors in the safetensors format


def save_checkpoint(path: Path, state: dict[str, Any]) -> str:
    """Commit a state of dicts and lists of tensors, numbers and text. Returns the sha256 of the file's content."""
    content, digest = checkpoint_bytes(state)
    commit(path, content)
    return digest


def checkpoint_bytes(state: dict[str, Any]) -> tuple[bytes, str]:
    """The file of a state, the same bytes for the same state, and the checksum in its head.

    Raises UserError where the state's part that is no tensor is too large to be read again.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _without_tensors(state, "", tensors)
    # One layout and no shared memory: the format has neither.
    apart = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    head = json.dumps(skeleton, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    if len(head) > LARGEST_HEAD:
        raise UserError(
            f"a checkpoint's curve and cell take {len(head):,} bytes; at most {LARGEST_HEAD:,} can be read again; make"
            " fewer points: raise validate_every"
        )
    content = head + safetensors.torch.save(apart)
    digest = hashlib.sha256(content).hexdigest()
    return MAGIC + digest.encode() + b"\n" + content, digest


def _without_tensors(part: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same with `{"tensor": name}` for each tensor, which goes to `tensors`."""
    if isinstance(part, Tensor):
        tensors[name] = part
        return {"tensor": name}
    if isinstance(part, dict):
        pairs = [[key, _without_tensors(value, f"{name}/{key}", tensors)] for key, value in part.items()]
        return {"pairs": pairs}  # keys may be numbers, as an optimizer's are
    if isinstance(part, list | tuple):
        return [_without_tensors(value, f"{name}/{i}", tensors) for i, value in enumerate(part)]
    return part


def _with_tensors(part: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    """The reverse. Lists are filled in their place, a tensor is taken once: no file makes more of it than it holds."""
    if isinstance(part, list):
        for i, value in enumerate(part):
            if isinstance(value, dict | list):
                part[i] = _with_tensors(value, tensors, device)
        return part
    if isinstance(part, dict):
        if "tensor" in part:
            return tensors.pop(part["tensor"]).to(device)
        return {key: _with_tensors(value, tensors, device) for key, value in part["pairs"]}
    return part


def load_checkpoint(path: Path, device: torch.device | str = "cpu", largest: int | None = None) -> dict[str, Any]:
    """The state saved at `path`; a tuple comes back as a list.

    Raises UserError if it is absent, Damaged if it is no checkpoint, truncated, altered or of over `largest` bytes. The
    checksum is compared before anything of it is used, and the format cannot hold code: no pickle is read. Takes the
    size of the tensors twice, and up to 26 times the size of what is none, which is bounded; a file cannot claim more
    than it holds.
    """
    try:
        size = path.stat().st_size
        if largest is not None and size > largest:
            raise Damaged(f"{path} has {size:,} bytes; a checkpoint of this cell has at most {largest:,}")
        with path.open("rb") as file:
            head = file.readline(len(MAGIC) + 65)
            if not head.startswith(MAGIC):
                old = " of this version: an older ganzoo made it" if head.startswith(b"ganzoo checkpoint ") else ""
                raise Damaged(f"{path} is not a ganzoo checkpoint{old}")
            digest = hashlib.sha256()
            while piece := file.read(PIECE):
                digest.update(piece)
            if digest.hexdigest().encode() + b"\n" != head.removeprefix(MAGIC):
                raise Damaged(
                    f"{path} is truncated or altered: its checksum does not match its {size - len(head):,} bytes"
                )
            file.seek(len(head))
            skeleton = file.readline(LARGEST_HEAD)
            index = file.read(8)
            fits = skeleton.endswith(b"\n") and int.from_bytes(index, "little") <= LARGEST_INDEX
            tensors = index + file.read() if fits else b""
    except OSError as error:
        raise UserError(f"no checkpoint at {path}: {(error.strerror or str(error)).lower()}") from None
    try:
        found = safetensors.torch.load(tensors)
        del tensors
        state = _with_tensors(
            json.loads(skeleton, parse_constant=_refuse, parse_float=_finite), found, torch.device(device)
        )
        if found:
            raise ValueError("tensors that are no part of the state")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, RuntimeError, AttributeError):
        state = None
    if not isinstance(state, dict):
        raise Damaged(f"{path} is not a ganzoo checkpoint: its checksum is right, but its content is another thing")
    return state
