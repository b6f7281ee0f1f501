"""Who is at work in a folder, on this machine. A kill frees a lock. Imports nothing heavy: whoever comes second is to
hear of it at once."""

import fcntl
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO

from ganzoo.errors import UserError


class Busy(UserError):  # noqa: N818 (who is at work, not what is wrong)
    """Another process is at work there; the command ends with exit status 75."""


def lock_file(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise UserError(f"cannot use {path.parent} as a run folder: {said}") from None


def try_lock(file: IO[str], *, exclusive: bool, say: bool = True) -> bool:
    """Take the lock of an open file and, to `say` so, write into it who has it; False where another process has it."""
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        return False
    if say:
        with suppress(OSError):  # a full disk: the lock is held all the same
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
    return True


def holder(file: IO[str]) -> str:
    """Who said last that he has the lock."""
    file.seek(0)
    return file.read().strip() or "unknown"


def require_free(folder: Path) -> None:
    """Raises Busy where a process is at work in that run's folder. Creates nothing."""
    path = folder / "run.lock"
    if not path.exists():
        return
    with lock_file(path) as file:
        if not try_lock(file, exclusive=True, say=False):
            raise Busy(f"{folder} is in use by another process ({holder(file)}); wait, or take --out")
