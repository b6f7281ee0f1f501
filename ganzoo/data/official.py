"""The sets torchvision knows: it finds, verifies and downloads them; here they become one tensor."""

import math
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ganzoo.data.folder import read_files
from ganzoo.data.image_set import ImageSet, channels_first
from ganzoo.data.limits import require_inside
from ganzoo.errors import UserError

CELEBA_SIZE = 64
DIGITS = tuple("0123456789")


class Official(NamedTuple):
    """How torchvision keeps a set."""

    kind: str
    """Its class in torchvision.datasets."""
    parts: tuple[Mapping[str, Any], ...]
    """That class's arguments, once for each official part, in the order they are joined."""
    sign: str
    """What lies in the folder if anything of the set does."""
    classes: tuple[str, ...] | None = None
    """None where torchvision's own names serve."""
    written: tuple[str, ...] = ()
    """What a download writes, in the folder."""


_TRAIN_TEST = ({"train": True}, {"train": False})
OFFICIAL = {
    "mnist": Official("MNIST", _TRAIN_TEST, "MNIST/raw", DIGITS, ("MNIST",)),
    "fashion-mnist": Official("FashionMNIST", _TRAIN_TEST, "FashionMNIST/raw", None, ("FashionMNIST",)),
    "cifar10": Official(
        "CIFAR10", _TRAIN_TEST, "cifar-10-batches-py", None, ("cifar-10-python.tar.gz", "cifar-10-batches-py")
    ),
    "svhn": Official(
        *("SVHN", ({"split": "train"}, {"split": "test"}), "train_32x32.mat", DIGITS),
        ("train_32x32.mat", "test_32x32.mat"),
    ),
    "celeba": Official("CelebA", ({"split": "all"},), "celeba", None, ("celeba",)),
}

_FAILURES = (
    *(RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, OSError, EOFError),
    *(ImportError, MemoryError, pickle.UnpicklingError, struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
# What torchvision and the readers under it raise for absent, truncated or garbled files and failed downloads.


def official_set(name: str, root: Path, size: int | None, download: bool, skip_corrupt: bool) -> ImageSet:
    """Official train images, then official test images; CelebA: all, unlabelled, 64 x 64 unless told."""
    official = OFFICIAL[name]
    parts = [_part(name, official, arguments, root, download) for arguments in official.parts]
    if name == "celeba":
        folder = root / "celeba" / "img_align_celeba"
        files = [folder / file for file in parts[0].filename]
        for file in files:
            require_inside(file, folder)
        images, _ = read_files(files, size or CELEBA_SIZE, skip_corrupt)
        return ImageSet(name, images, None, ())
    tensors, labels = [], []
    for part in parts:
        tensor = channels_first(np.asarray(part.data))
        numbers = torch.as_tensor(part.labels if name == "svhn" else part.targets, dtype=torch.int64)
        if tensor is None or tensor.dtype != torch.uint8 or numbers.shape != tensor.shape[:1]:
            raise UserError(
                f"{name} in {root} is damaged: images of shape {tuple(part.data.shape)}, labels of shape "
                f"{tuple(numbers.shape)}; remove {root / official.sign} and download it again"
            )
        tensors.append(tensor)
        labels.append(numbers)
    classes = official.classes or tuple(parts[0].classes)
    return ImageSet(name, torch.cat(tensors), torch.cat(labels), classes)


def _part(name: str, official: Official, arguments: Mapping[str, Any], root: Path, download: bool) -> Any:
    try:
        from torchvision import datasets  # a second of import that the other sets need not pay
    except (ImportError, RuntimeError) as error:  # RuntimeError: one built for another torch
        raise UserError(
            f"{name} is read by torchvision, which cannot be imported: {_said(error)}; see `ganzoo doctor`"
        ) from error
    read = getattr(datasets, official.kind)
    if official.kind in ("MNIST", "FashionMNIST"):
        try:
            _require_idx(root / official.kind)
        except (OSError, ValueError, struct.error) as error:
            raise _damaged(name, official, root, error) from error
    try:
        return read(str(root), download=False, **arguments)
    except _FAILURES as error:
        if not download and (root / official.sign).exists():
            raise _damaged(name, official, root, error) from error
        if not download:
            raise UserError(
                f"{name} is not in {root}; download it with `--set data.download=true`, "
                f"or give the folder that holds its {official.sign} with --set data.path=..."
            ) from error
    _require_no_way_out(root, official.written)
    try:
        with _unpacked_inside():
            return read(str(root), download=True, **arguments)
    except _FAILURES as error:
        raise UserError(f"{name} could not be downloaded to {root}: {_said(error)}") from error


def _damaged(name: str, official: Official, root: Path, error: Exception) -> UserError:
    return UserError(
        f"{name} in {root} is incomplete or damaged ({_said(error)}); "
        f"remove {root / official.sign} and download it again with `--set data.download=true`"
    )


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


LARGEST_IDX = 1 << 26
"""Bytes; the largest file of MNIST has 47 million."""


def _require_idx(folder: Path) -> None:
    """Raises ValueError for files of MNIST that are not what their headers say, and for those of an older kind.

    torchvision knows a checksum of what it downloads, not of what it unpacks that to, and reads a file whole.
    """
    if (older := folder / "processed").exists():
        raise ValueError(f"{older} is of a torchvision before 0.10 and is not read: remove it too")
    for part in ("train", "t10k"):
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
            path = folder / "raw" / f"{part}-{kind}-ubyte"
            if not path.exists():
                continue  # torchvision says so
            if not path.is_file():
                raise ValueError(f"{path} is not an ordinary file")
            size = path.stat().st_size
            if size > LARGEST_IDX:
                raise ValueError(f"{path} has {size:,} bytes; at most {LARGEST_IDX:,} are read")
            with path.open("rb") as file:
                magic, *shape = struct.unpack(f">{1 + dimensions}I", file.read(4 + 4 * dimensions))
            if magic != 0x800 + dimensions or 4 + 4 * dimensions + math.prod(shape) != size:
                raise ValueError(f"{path} is not {size:,} bytes of shape {tuple(shape)}")


def _require_no_way_out(root: Path, names: tuple[str, ...]) -> None:
    """Raises UserError where a download would follow a link and write elsewhere."""
    for name in names:
        for path in (root / name, *(root / name).rglob("*")):
            require_inside(path, root)


@contextmanager
def _unpacked_inside() -> Iterator[None]:
    """A tar's members that lead out of the folder are refused: torchvision before 0.29 does not ask for that."""
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on; before, the archive's checksum has to do
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before
