"""A numpy archive of images -> one set."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.array_header import read_array_header
from ganzoo.data.image_set import ImageSet, channels_first
from ganzoo.data.limits import require_room
from ganzoo.errors import UserError

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes. The others that a zip may have inflate without bound, however few bytes are asked for."""
READ_AT_ONCE = 1 << 20


def npz_set(path: Path) -> ImageSet:
    """`images`, (N, H, W), (N, H, W, C) or (N, C, H, W) uint8, and if there, `labels`, (N,) integers.

    Where a shape can be read both ways, the last axis holds the channels. Labels are renumbered 0..k-1 in
    ascending order; the classes are their former values. Nothing pickled is loaded, nothing is inflated beyond what
    the headers say and `require_room` grants.
    """
    if not path.is_file():
        raise UserError(f"{path} is not an ordinary file")  # opening a pipe would wait for ever
    try:
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise UserError(f"{path} is a single array (.npy); save it as .npz under the name 'images'")
        with zipfile.ZipFile(path) as archive:
            images = _images(path, archive)
            labels = _array(path, archive, "labels", len(images))
    except UserError:
        raise
    except (  # the last two: an encrypted member, an unknown compression
        OSError,
        ValueError,
        EOFError,
        LookupError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path} cannot be read as an .npz file ({' '.join(str(error).split())})") from error
    if labels is None:
        return ImageSet("npz", images, None, ())
    numbers, classes = renumbered(f"{path}: labels", labels, len(images))
    return ImageSet("npz", images, numbers, classes)


BYTES = "uint8 in 0..255"


def as_bytes(dtype: np.dtype[Any]) -> str:
    """How pixels of that type become bytes, for whoever was refused."""
    return "; what lies in [0, 1] becomes that by (255 * images).round().astype('uint8')" if dtype.kind == "f" else ""


def _images(path: Path, archive: zipfile.ZipFile) -> Tensor:
    array = _array(path, archive, "images")
    if array is None:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        raise UserError(f"{path} has no array 'images'; it has: {', '.join(names) or 'none'}; save it under that name")
    images = channels_first(array)
    if images is None:
        raise UserError(
            f"{path}: images is {array.dtype} of shape {array.shape}; expected (N, H, W), (N, H, W, C) or"
            " (N, C, H, W) with C = 1 or 3"
        )
    if images.numel() == 0:
        raise UserError(f"{path}: images is {array.dtype} of shape {array.shape}: there is nothing in it")
    return images


def _array(path: Path, archive: zipfile.ZipFile, name: str, count: int | None = None) -> np.ndarray | None:
    """The array of that name, inflated once its header suits: uint8, or `count` integers. None if absent."""
    member = next((m for m in archive.infolist() if m.filename in (name, f"{name}.npy")), None)
    if member is None:
        return None
    if member.compress_type not in COMPRESSIONS:
        raise ValueError(f"{name} is compressed in a way that numpy does not write")
    with archive.open(member) as file:
        try:
            header = read_array_header(file)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if count is not None:
            require_integers(f"{path}: {name}", header.shape, header.dtype, count)
        elif header.dtype != np.uint8:
            raise UserError(
                f"{path}: {name} is {header.dtype} of shape {header.shape}; expected {BYTES}{as_bytes(header.dtype)}"
            )
        if header.length + header.nbytes != member.file_size:
            raise ValueError(
                f"{name}: shape {header.shape} takes {header.nbytes:,} bytes, and there are"
                f" {member.file_size - header.length:,}"
            )
        require_room(f"{path}: {name}", header.nbytes, min(member.compress_size, path.stat().st_size))
        array = np.empty(header.nbytes, np.uint8)
        at = 0
        while part := file.read(min(len(array) - at, READ_AT_ONCE)):
            array[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        if at < len(array):
            raise EOFError(f"{name} ends after {at:,} of {len(array):,} bytes")
        if file.read(1):
            raise ValueError(f"{name} is longer than its header says")
    found = array.view(header.dtype)
    return found.reshape(header.shape[::-1]).T if header.fortran else found.reshape(header.shape)


def require_integers(where: str, shape: tuple[int, ...], dtype: np.dtype, count: int) -> None:
    if shape != (count,) or not np.issubdtype(dtype, np.integer):
        raise UserError(f"{where} is {dtype} of shape {shape}; expected integers of shape ({count},)")


def renumbered(where: str, values: np.ndarray, count: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels 0..k-1 in ascending order of the values, and the values. UserError, beginning with `where`, if bad."""
    require_integers(where, values.shape, values.dtype, count)
    former, labels = np.unique(values, return_inverse=True)
    return torch.from_numpy(labels.astype(np.int64)), tuple(str(value) for value in former)
