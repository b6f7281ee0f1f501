"""The sets torchvision knows: it finds, verifies and downloads them; here they become one tensor."""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ganzoo.data.folder import read_files
from ganzoo.data.image_set import ImageSet, channels_first
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


_TRAIN_TEST = ({"train": True}, {"train": False})
OFFICIAL = {
    "mnist": Official("MNIST", _TRAIN_TEST, "MNIST/raw", DIGITS),
    "fashion-mnist": Official("FashionMNIST", _TRAIN_TEST, "FashionMNIST/raw"),
    "cifar10": Official("CIFAR10", _TRAIN_TEST, "cifar-10-batches-py"),
    "svhn": Official("SVHN", ({"split": "train"}, {"split": "test"}), "train_32x32.mat", DIGITS),
    "celeba": Official("CelebA", ({"split": "all"},), "celeba"),
}

_FAILURES = (
    *(RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, OSError, EOFError),
    *(ImportError, MemoryError, pickle.UnpicklingError, struct.error),
)
# What torchvision and the readers under it raise for absent, truncated or garbled files and failed downloads.


def official_set(name: str, root: Path, size: int | None, download: bool, skip_corrupt: bool) -> ImageSet:
    """Official train images, then official test images; CelebA: all, unlabelled, 64 x 64 unless told."""
    official = OFFICIAL[name]
    parts = [_part(name, official, arguments, root, download) for arguments in official.parts]
    if name == "celeba":
        files = root / "celeba" / "img_align_celeba"
        images, _ = read_files([files / file for file in parts[0].filename], size or CELEBA_SIZE, skip_corrupt)
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
    from torchvision import datasets  # a second of import that the other sets need not pay

    try:
        return getattr(datasets, official.kind)(str(root), download=download, **arguments)
    except _FAILURES as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        if download:
            raise UserError(f"{name} could not be downloaded to {root}: {cause}") from error
        if (root / official.sign).exists():
            raise UserError(
                f"{name} in {root} is incomplete or damaged ({cause}); "
                f"remove {root / official.sign} and download it again with `--set data.download=true`"
            ) from error
        raise UserError(
            f"{name} is not in {root}; download it with `--set data.download=true`, "
            f"or give the folder that holds its {official.sign} with path=..."
        ) from error
