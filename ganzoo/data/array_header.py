"""The header of a numpy array in a file: what the array would take, before a byte of it is read."""

import io
import math
import struct
import tokenize
from typing import IO, NamedTuple

import numpy as np

LARGEST_HEADER = 10_000
"""Bytes, as numpy itself takes; a shape and a type need a hundred."""


class ArrayHeader(NamedTuple):
    shape: tuple[int, ...]
    """Each at least 0."""
    fortran: bool
    dtype: np.dtype
    length: int
    """Bytes of the header itself."""

    @property
    def nbytes(self) -> int:
        """Of the array that follows, counted without overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array_header(file: IO[bytes]) -> ArrayHeader:
    """The header that `numpy.save` wrote, versions 1 and 2; the file is left where the array begins.

    Raises ValueError for anything else: what is no header, one of more than 10,000 bytes, a length below 0, an array
    of Python objects.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != np.lib.format.MAGIC_PREFIX:
        raise ValueError("it does not begin as an array does")
    version, width = tuple(start[6:]), {1: 2, 2: 4}.get(start[6])
    if width is None or version[1] != 0:
        raise ValueError(f"its header is of version {version[0]}.{version[1]}; 1.0 and 2.0 are read")
    field = file.read(width)
    # numpy would first read as many bytes as the header claims to have, 4 GB at most.
    said = int.from_bytes(field, "little")
    if len(field) < width or said > LARGEST_HEADER:
        raise ValueError(f"its header claims {said:,} bytes; at most {LARGEST_HEADER:,} are read")
    body = file.read(said)
    parse = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = parse(io.BytesIO(field + body))
    except (ValueError, SyntaxError, TypeError, LookupError, tokenize.TokenError, struct.error) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    except (RecursionError, MemoryError):  # Python's own limits on nested brackets
        raise ValueError("its header is nested too deeply") from None
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape {shape} has a length below 0")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    return ArrayHeader(tuple(shape), fortran, dtype, 8 + width + said)
