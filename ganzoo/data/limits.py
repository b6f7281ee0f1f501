"""What a file may ask for: sizes are read from headers, and refused before anything is decoded, inflated or written."""

import os
from contextlib import suppress
from pathlib import Path

from ganzoo.errors import UserError

FREE = 1 << 30
"""Bytes that a set may take in memory however small its files are."""
LARGEST_EXPANSION = 250
"""Bytes in memory from a byte in a file, above FREE: black squares in a PNG come to 1000, images of things to 50."""
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit stands, if it has one."""


def require_room(where: str, wanted: int, stored: int) -> None:
    """UserError, beginning with `where`, if `stored` bytes of files want more memory than images of things do, or than
    there is."""
    if wanted > max(FREE, LARGEST_EXPANSION * stored):
        raise UserError(
            f"{where} would take {wanted:,} bytes in memory from {stored:,} in files, more than images expand by; at"
            f" most {FREE:,} are read, or {LARGEST_EXPANSION} times the files"
        )
    require_memory(where, wanted)


def require_memory(where: str, wanted: int) -> None:
    """UserError, beginning with `where`, for more bytes than this process can have."""
    if wanted > (there := memory()):
        raise UserError(
            f"{where} would take {wanted:,} bytes in memory, and there are {there:,}; take a smaller size=..., or save"
            " it as an .npy file, which is read where it lies"
        )


def memory() -> int:
    """Bytes of memory that this process may have at most: the machine's, or its container's."""
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in CGROUP:
        with suppress(OSError, ValueError):  # `max` where there is none
            least = min(least, int(Path(limit).read_text()))
    return least


def require_inside(path: Path, root: Path) -> None:
    """UserError where `path`, which lies below `root`, is a link that leads out of it or cannot be followed."""
    if not path.is_symlink():
        return
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a link to itself
        raise UserError(f"{path} cannot be followed ({' '.join(str(error).split())})") from None
    if not inside:
        raise UserError(f"{path} is a link out of {root}: put the file itself there")
