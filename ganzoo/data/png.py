"""Whether a PNG holds all its pixels: Pillow leaves those black that a stream which ends early does not have."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type   (PNG specification, sec. 11.2.2)."""
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Interlaced: first column, first row, step between columns, between rows   (PNG specification, sec. 8.2)."""
READ_AT_ONCE = 1 << 16


def require_all_rows(path: Path) -> None:
    """Raises ValueError for a PNG whose pixel stream unpacks to fewer bytes than its header asks for.

    It unpacks at most 64 kB at a time and no more than the header asks for.
    """
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise ValueError("it does not begin as a PNG does")
        chunks = _chunks(file)
        header = next((b"".join(body) for kind, body in chunks if kind == b"IHDR"), b"")
        wanted = missing = _unpacked(header)
        unpack = zlib.decompressobj()
        for kind, body in chunks:
            for part in body if kind == b"IDAT" else ():
                while part and missing > 0 and not unpack.eof:
                    missing -= len(unpack.decompress(part, min(missing, READ_AT_ONCE)))
                    part = unpack.unconsumed_tail
            if missing <= 0 or unpack.eof:
                break
    while missing > 0 and not unpack.eof and (more := unpack.decompress(b"", min(missing, READ_AT_ONCE))):
        missing -= len(more)  # what had no room in the last part
    if missing > 0:
        raise ValueError(f"its pixels end after {wanted - missing:,} of {wanted:,} bytes")


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """(kind, its bytes in parts) of each chunk; Pillow has seen to the checksums."""
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        after = file.tell() + length + 4
        yield kind, _parts(file, length)
        file.seek(after)


def _parts(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0 and (part := file.read(min(length, READ_AT_ONCE))):
        length -= len(part)
        yield part


def _unpacked(header: bytes) -> int:
    """Bytes of all rows: a filter's byte and the packed pixels of each   (PNG specification, sec. 7.2)."""
    width, height, depth, colour, _compression, _filter, interlaced = struct.unpack(">IIBBBBB", header[:13])
    if colour not in CHANNELS:
        raise ValueError(f"a PNG has no colour type {colour}")

    def rows(width: int, height: int) -> int:
        return height * (1 + (width * depth * CHANNELS[colour] + 7) // 8) if width else 0

    if not interlaced:
        return rows(width, height)
    return sum(rows(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in PASSES if x < width and y < height)
