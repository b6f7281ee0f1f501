"""A set of images in memory, and its cut into train, validation and test."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.randomness import stream


class ImageSet(NamedTuple):
    """Images of one square shape, whole and undecorated."""

    name: str
    """The name it was loaded by."""
    images: Tensor
    """(N, C, H, W) uint8 in 0..255, on the CPU."""
    labels: Tensor | None
    """(N,) int64 in 0..len(classes)-1; None where unlabelled."""
    classes: tuple[str, ...]
    """What each label means; () where unlabelled."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def sha256(self) -> str:
        """Hex digest over shape, image bytes and label bytes: equal for equal data, whatever its source."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(b"labels")
            digest.update(self.labels.numpy().astype("<i8").data)
        return digest.hexdigest()

    def first(self, n: int) -> "ImageSet":
        """The first n images, or all where there are fewer."""
        return self._replace(images=self.images[:n], labels=None if self.labels is None else self.labels[:n])


class Splits(NamedTuple):
    """Three disjoint parts of one set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def split(images: ImageSet, sizes: Sequence[float] | Sequence[int], *, seed: int = 0, shuffle: bool = True) -> Splits:
    """Cut a set into train, validation and test.

    `sizes` are three fractions (floats, sum <= 1) or three counts (ints, sum <= N); what they leave over is
    in no part. `shuffle` deals the images by a permutation that depends on (seed, N) alone; without it train
    takes the first images, validation the next, test those after (CIFAR-10's official order).

    Raises UserError where a part would be empty or the sizes are mixed, negative or too many.
    """
    edges = _edges(sizes, len(images.images))
    order = torch.randperm(len(images.images), generator=stream("split", seed)) if shuffle else None

    def part(start: int, stop: int) -> ImageSet:
        index = slice(start, stop) if order is None else order[start:stop]
        labels = None if images.labels is None else images.labels[index]
        return images._replace(images=images.images[index], labels=labels)

    first, second, third = edges
    return Splits(part(0, first), part(first, second), part(second, third))


def _edges(sizes: Sequence[float] | Sequence[int], available: int) -> list[int]:
    """Where train, validation and test end, as counts from the first image."""
    said = f"split sizes {tuple(sizes)}"
    if len(sizes) != 3:
        raise UserError(f"{said}: expected three, for train, validation and test")
    counts = all(type(size) is int for size in sizes)
    if not counts and not all(type(size) is float for size in sizes):
        raise UserError(f"{said}: expected three fractions (0.6, 0.2, 0.2) or three counts (600, 200, 200), not a mix")
    if not all(math.isfinite(size) and size >= 0 for size in sizes):
        raise UserError(f"{said}: expected finite sizes above 0")
    total = math.fsum(sizes)
    if counts and total > available:
        raise UserError(f"{said} ask for {int(total)} images, but there are {available}")
    if not counts and total > 1 + 1e-9:  # 0.7 + 0.2 + 0.1 is not quite 1
        raise UserError(f"{said} sum to {total:g}, more than 1")
    # Rounding the running sum, not each size: the parts are disjoint, and fractions of sum 1 cover the set.
    whole = 1 if counts else available
    edges = [round(whole * math.fsum(sizes[:end])) for end in (1, 2, 3)]
    for part, start, end in zip(Splits._fields, [0, *edges], edges, strict=False):
        if end == start:
            raise UserError(f"{said} of {available} images leave the {part} part empty")
    return edges


def channels_first(array: np.ndarray) -> Tensor | None:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) uint8 -> (N, C, H, W); None where it is none of them.

    The channels are the axis of length 1 or 3; where both could be, the last one.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        return None
    return torch.from_numpy(np.array(array, order="C"))  # a copy of its own: writable, whatever it came from
