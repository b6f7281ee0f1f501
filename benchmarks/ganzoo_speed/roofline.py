"""What the machine itself reaches: the best matrix product and the best convolution, by precision."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo.arithmetic import Precision, products_in
from ganzoo_speed.timing import seconds_of

PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16")}
"""By kind of device."""


class Work(NamedTuple):
    """Something to compute, and its multiplications and additions."""

    what: str
    flops: int
    make: Callable[[torch.dtype, str], Callable[[], Tensor]]


def matmul(n: int) -> Work:
    """The product of two n x n matrices: 2 n^3 FLOPs."""

    def make(dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
        a, b = _normal((n, n), dtype, device), _normal((n, n), dtype, device)
        return lambda: a @ b

    return Work(f"matmul {n}", 2 * n**3, make)


def convolution(batch: int, channels: int, side: int) -> Work:
    """A middle layer of the DCGAN critic, channels last: 4x4 of stride 2, twice as many channels, half the side."""

    def make(dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
        images = _normal((batch, channels, side, side), dtype, device).to(memory_format=torch.channels_last)
        weights = _normal((2 * channels, channels, 4, 4), dtype, device).to(memory_format=torch.channels_last)
        return lambda: F.conv2d(images, weights, stride=2, padding=1)

    flops = 2 * batch * 2 * channels * (side // 2) ** 2 * channels * 16
    return Work(f"convolution {channels}x{side}x{side}", flops, make)


def works(batch: int, width: int, device: str) -> list[Work]:
    """A matrix product of the issue's size (and one that fills a GPU), and the middle layers of these networks."""
    sizes = (2048, 8192) if torch.device(device).type == "cuda" else (2048,)
    return [*(matmul(n) for n in sizes), convolution(batch, width, 16), convolution(batch, 2 * width, 8)]


def measure(works: list[Work], *, threads: int, device: str, repetitions: int) -> list[dict[str, Any]]:
    """A row for each work and precision: the best and the median GFLOP/s of so many repetitions."""
    torch.set_num_threads(threads)
    at_once = 1 if torch.device(device).type == "cpu" else 20  # one alone would be too short for a GPU's clock
    rows = []
    for work in works:
        for precision in PRECISIONS[torch.device(device).type]:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            with products_in(precision):
                play = work.make(dtype, device)
                seconds_of(play, 3, device)
                seconds = [value for _ in range(repetitions) for value in seconds_of(play, at_once, device)]
            rows.append(
                {
                    "section": "roofline",
                    "what": work.what,
                    "precision": precision,
                    "threads": threads,
                    "seconds": statistics.median(seconds),
                    "best_seconds": min(seconds),
                    "gflops": work.flops / 1e9,
                    "best_gflops_per_second": work.flops / min(seconds) / 1e9,
                }
            )
    return rows


def _normal(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
