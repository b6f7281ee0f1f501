"""A set of images, and its cut into train, validation and test."""

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.randomness import stream


class _ImageSet(NamedTuple):
    name: str
    """The name it was loaded by."""
    images: Tensor
    """(N, C, H, W) uint8 in 0..255, on the CPU; of a set that stays in its file a `MappedImages`, read when indexed."""
    labels: Tensor | None
    """(N,) int64 in 0..len(classes)-1; None where unlabelled."""
    classes: tuple[str, ...]
    """What each label means; () where unlabelled."""


class ImageSet(_ImageSet):
    """Images of one square shape, whole and undecorated. Nobody writes into them."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classified(self) -> bool:
        """Whether every image has a label, of one of at least 2 classes."""
        return self.labels is not None and len(self.classes) > 1

    @cached_property  # every checkpoint asks
    def sha256(self) -> str:
        """Hex digest over shape, image bytes and label bytes: equal for equal data, whatever its source.

        Of images that stay in a file: over the file's digest and their places in it, which is another figure.
        """
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        if isinstance(self.images, Tensor):
            digest.update(self.images.contiguous().numpy().data)
        else:
            digest.update(self.images.sha256.encode())
        if self.labels is not None:
            digest.update(b"labels")
            digest.update(self.labels.numpy().astype("<i8").data)
        return digest.hexdigest()

    def first(self, n: int) -> "ImageSet":
        """The first n images, or all where there are fewer."""
        return self._replace(images=self.images[:n], labels=None if self.labels is None else self.labels[:n])

    def part(self, index: slice | Tensor) -> "ImageSet":
        """The images at these places, or of this mask, in this order; what stays in a file stays there."""
        images: Any = self.images
        kept = images[index] if isinstance(images, Tensor) else images.chosen(index)
        return self._replace(images=kept, labels=None if self.labels is None else self.labels[index])


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
        return images.part(slice(start, stop) if order is None else order[start:stop])

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
    """(N, H, W), (N, H, W, C) or (N, C, H, W) uint8 -> (N, C, H, W); None where it is none of them."""
    view = channels_first_view(array)
    # a copy of its own: writable, whatever it came from
    return None if view is None else torch.from_numpy(np.array(view, order="C"))


def channels_first_view(array: np.ndarray) -> np.ndarray | None:
    """The same memory seen as (N, C, H, W); None where its shape cannot be.

    The channels are the axis of length 1 or 3; where both could be, the last one.
    """
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[-1] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    return array if array.ndim == 4 and array.shape[1] in (1, 3) else None
