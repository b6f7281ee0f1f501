"""Batches on the device, in an order that needs no saving."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.data.image_set import ImageSet
from ganzoo.errors import UserError
from ganzoo.randomness import stream

LARGEST_SHARE = 0.5
"""Of the free device memory, how much a set may take; the rest is for networks and activations."""


class Batch(NamedTuple):
    """What one step of the game sees."""

    real: Tensor
    """(B, C, H, W) float32 in [-1, 1], on the device."""
    labels: Tensor | None
    """(B,) int64 on the device; None where unlabelled."""


def scaled(images: Tensor) -> Tensor:
    """x / 127.5 - 1: uint8 in 0..255 -> float32 in [-1, 1], any shape; TypeError for another dtype."""
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images in 0..255, got {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1)


class Batches:
    """The endless sequence of training batches: `batches[k]` for k = 0, 1, 2, ...

    Epoch e = k // per_epoch shuffles the whole set by (seed, e) and drops its incomplete last batch, so a
    resumed run asks for the next k and nothing is saved.

    The set lies on the device as uint8 where it fits; else it stays on the host and each batch is moved.
    """

    per_epoch: int
    """Whole batches an epoch."""
    order_sha256: str
    """Hex digest of epoch 0's order: equal for two runs that see the same images in the same order."""

    def __init__(self, images: ImageSet, batch_size: int, *, seed: int, device: torch.device | str = "cpu") -> None:
        """Raises UserError for a batch_size below 1 or above the number of images."""
        count = len(images.images)
        if not 1 <= batch_size <= count:
            raise UserError(f"batch_size {batch_size}: expected 1 to {count}, the number of images to train on")
        self.per_epoch = count // batch_size
        self._batch_size = batch_size
        self._count = count
        self._seed = seed
        self._device = torch.device(device)
        self._home = self._device if _fits(images.images, self._device) else torch.device("cpu")
        self._images = images.images.to(self._home)  # what lies in a file stays there, or is moved as a whole
        self._labels = None if images.labels is None else images.labels.to(self._home)
        self._epoch, self._order = 0, self._drawn(0)
        self.order_sha256 = hashlib.sha256(self._order.numpy().astype("<i8").data).hexdigest()
        self._order = self._order.to(self._home)

    def __getitem__(self, k: int) -> Batch:
        """The k-th batch of the whole training, k >= 0, whatever was asked for before."""
        return self.at(self.index(k))

    def index(self, k: int) -> Tensor:
        """Which images the k-th batch holds: (B,) int64, where the set lies."""
        if k < 0:
            raise IndexError(f"batch {k}: batches are counted from 0")
        epoch, place = divmod(k, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch).to(self._home)
        return self._order[place * self._batch_size :][: self._batch_size]

    def at(self, index: Tensor) -> Batch:
        """The images of an index, (B,) int64 where the set lies."""
        labels = None if self._labels is None else self._taken(self._labels, index)
        return Batch(scaled(self._taken(self._images, index)), labels)

    @property
    def resident(self) -> bool:
        """Whether the set lies on the device, so that a batch is drawn without the host."""
        return self._home == self._device

    def _drawn(self, epoch: int) -> Tensor:
        # on the CPU, so that every device sees the same order
        return torch.randperm(self._count, generator=stream("order", self._seed, epoch))

    def _taken(self, whole: Tensor, index: Tensor) -> Tensor:
        if self._home == self._device:
            return whole.index_select(0, index)
        # Pinned, the copy overlaps the device's work; torch's host allocator keeps the memory until then.
        pinned = torch.empty((len(index), *whole.shape[1:]), dtype=whole.dtype, pin_memory=self._device.type == "cuda")
        if isinstance(whole, Tensor):
            torch.index_select(whole, 0, index, out=pinned)
        else:
            whole.index_select(0, index, out=pinned)
        return pinned.to(self._device, non_blocking=self._device.type == "cuda")


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _total = torch.cuda.mem_get_info(device)
    return images.nbytes <= LARGEST_SHARE * free
