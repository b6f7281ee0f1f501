"""Files that are whole or not there: written aside, synced, renamed; checkpoints carry their own checksum."""

import errno
import hashlib
import io
import json
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ganzoo.errors import UserError

MAGIC = b"ganzoo checkpoint 1 sha256 "


def commit(path: Path, content: bytes) -> None:
    """Put `content` at `path`: after a kill or a power cut at any moment the old file or the new one is there whole.

    Raises UserError, the old file untouched, where the disk is full or the folder cannot be written to.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):  # a disk that refuses the write may refuse this too; the first error is the one to tell
            aside.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full: {path} needs {len(content):,} bytes; what stood there is kept"
            ) from None
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def commit_json(path: Path, content: Any) -> None:
    """One JSON document. NaN is refused: it is not JSON."""
    commit(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object that `commit_json` left at `path`. Raises UserError for anything else, NaN included."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); delete it and start again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object; delete it and start again")
    return found


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    commit(path, MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state saved at `path`. Raises UserError if it is absent, not a checkpoint, truncated or altered.

    The checksum is compared before anything is unpickled, and unpickling runs no code (weights_only).
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise UserError(f"no checkpoint at {path}: {(error.strerror or str(error)).lower()}") from None
    head, _, content = whole.partition(b"\n")
    if not head.startswith(MAGIC):
        raise UserError(f"{path} is not a ganzoo checkpoint")
    if hashlib.sha256(content).hexdigest().encode() != head.removeprefix(MAGIC):
        raise UserError(f"{path} is truncated or altered: its checksum does not match its {len(content):,} bytes")
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        state = None
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a ganzoo checkpoint: its checksum is right, but its content is another thing")
    return state
