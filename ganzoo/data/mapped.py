"""A numpy file of images that stays on the disk: what a batch asks for is read, the rest never.

IMAGES.npy   (N, H, W), (N, H, W, C) or (N, C, H, W) uint8, as numpy.save wrote it
LABELS.npy   (N,) integers, beside it: the same name with `labels` for `images`; optional
"""

import hashlib
import mmap
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.array_header import read_array_header
from ganzoo.data.image_set import ImageSet, channels_first_view
from ganzoo.data.npz import BYTES, as_bytes, renumbered
from ganzoo.durable import commit
from ganzoo.errors import UserError

READ_AT_ONCE = 1 << 24
"""Bytes that the hash reads, and that a set is moved to a device by, at a time."""


class MappedImages:
    """(N, C, H, W) uint8 in a file, in an order of their own. Indexing reads; `chosen` does not.

    It stands where a set in memory has its tensor, and knows what the harness asks of one: its shape, its length, a
    slice, a list of places.
    """

    dtype = torch.uint8

    def __init__(self, file: Path, whole: Tensor, places: Tensor) -> None:
        """whole: (M, C, H, W), over the file; places: (N,) int64, which of them these are, in this order."""
        self._file, self._whole, self._places = file, whole, places

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self._places), *self._whole.shape[1:]))

    @property
    def nbytes(self) -> int:
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """(n, C, H, W) in memory: of a slice, of places or of a mask."""
        return self._whole.index_select(0, self._places[index])

    def index_select(self, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
        """As of a tensor, along the images: dim is 0."""
        return torch.index_select(self._whole, dim, self._places[index], out=out)

    def split(self, size: int, dim: int = 0) -> Iterator[Tensor]:
        """As of a tensor, along the images (dim is 0), but one part is in memory at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device) -> "Tensor | MappedImages":
        """These for the CPU, which reads them where they lie; for another device all of them, on it."""
        return self if device.type == "cpu" else self.gathered(device)

    def gathered(self, device: torch.device) -> Tensor:
        """All of them in a tensor on the device, read part by part."""
        there = torch.empty(self.shape, dtype=torch.uint8, device=device)
        at_once = max(1, READ_AT_ONCE // self.shape[1:].numel())
        for start, part in zip(range(0, len(self), at_once), self.split(at_once), strict=True):
            there[start : start + len(part)] = part.to(device)
        return there

    def chosen(self, index: slice | Tensor) -> "MappedImages":
        """The same file's images at these of the places; nothing is read."""
        return MappedImages(self._file, self._whole, self._places[index])

    @property
    def sha256(self) -> str:
        """Hex digest over the file's and the places: two parts of one file are compared without reading them.

        So it tells equal parts of equal files from all others, and not from the same images in memory.
        """
        digest = hashlib.sha256(file_sha256(self._file).encode())
        digest.update(self._places.numpy().astype("<i8").data)
        return digest.hexdigest()


def mapped_set(path: Path) -> ImageSet:
    """The images of a .npy file, or of images.npy in a folder, and their labels where there are some.

    Labels are renumbered 0..k-1 in ascending order; the classes are their former values. Raises UserError for files
    that are no such arrays.
    """
    path = path / "images.npy" if path.is_dir() else path
    array = _opened(path)
    found = f"{path} is {array.dtype} of shape {array.shape}"
    if array.dtype != np.uint8:
        raise UserError(f"{found}; expected {BYTES}{as_bytes(array.dtype)}")
    if not array.flags.c_contiguous:
        raise UserError(f"{found} in Fortran's order, an image scattered over the file; save numpy.ascontiguousarray")
    first = channels_first_view(array)
    if first is None:
        raise UserError(f"{found}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3")
    if not array.size:
        raise UserError(f"{found}: there is nothing in it")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nobody writes
        whole = torch.from_numpy(first)
    images = MappedImages(path, whole, torch.arange(len(whole)))
    labels, classes = _labels(path, len(whole))
    # Typed as the tensor for which it stands.
    return ImageSet("npy", cast(Tensor, images), labels, classes)


def _labels(images: Path, count: int) -> tuple[Tensor | None, tuple[str, ...]]:
    path = images.with_name(images.name.replace("images", "labels"))
    if path == images or not path.exists():
        return None, ()
    return renumbered(str(path), np.asarray(_opened(path)), count)


def _opened(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped for reading."""
    if not path.is_file():
        raise UserError(f"no .npy file at {path}")
    try:
        with path.open("rb") as file:
            header = read_array_header(file)
        if header.length + header.nbytes > (size := path.stat().st_size):
            raise ValueError(f"shape {header.shape} takes {header.nbytes:,} bytes, and the file has {size:,}")
        array = np.lib.format.open_memmap(path, mode="r")
        # Batches are scattered: reading ahead of each image costs several times what the image does.
        mapping: Any = array.base
        mapping.madvise(mmap.MADV_RANDOM)
        return array
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a .npy file ({' '.join(str(error).split())})") from None


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, read from first to last and never held; kept, for a large file takes minutes.

    It is kept in this process and in ~/.cache/ganzoo under the file's identity, its size and the times of its last
    writing and of its last change of any kind: a file that was touched is read again.
    """
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _file_sha256(path.resolve(), identity)


@lru_cache(maxsize=16)
def _file_sha256(path: Path, identity: tuple[int, ...]) -> str:
    name = hashlib.sha256(repr((str(path), identity)).encode()).hexdigest()
    kept = Path(os.environ.get("GANZOO_DATA") or "~/.cache/ganzoo").expanduser() / "sha256" / name
    with suppress(OSError, UnicodeDecodeError):
        known = kept.read_text()
        if len(known) == 64:
            return known
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    with suppress(UserError):  # where nothing can be kept, the next process reads the file again
        commit(kept, digest.hexdigest().encode())
    return digest.hexdigest()
