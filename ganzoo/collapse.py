"""Whether a generator collapsed, in numbers: how far apart its images are, and how much of the data they are near.

Distances are between pixels in [-1, 1]. All images generated alike have spread 0; a class, or a mode, that is never
generated takes its share of the coverage.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.mre import scaled

EQUAL = 1e-4
"""L2 distance below which two images are one: a matrix product leaves about 1e-6 between equal ones; one pixel that is
a grey level of 8 bits off makes 8e-3."""


class Collapse(NamedTuple):
    """The figures of the whole, then those within classes, None without labels."""

    spread: float
    """Mean |x - x'| over pairs of generated images / the same over pairs of real ones, at least 0: 0 is a single image,
    1 as diverse as the data."""
    coverage: float
    """The share of real images near which one was generated, in [0, 1]; see `coverage`, and `expected_coverage` for
    what a perfect generator has."""
    class_spread: float | None = None
    """The mean of the classes' spreads."""
    class_coverage: float | None = None
    """The mean of the classes' coverages, each among the images of that class."""
    least_spread: float | None = None
    """The smallest spread of a class."""
    least_coverage: float | None = None
    """The smallest coverage of a class."""


def collapse(
    fake: Tensor, real: Tensor, fake_labels: Tensor | None = None, real_labels: Tensor | None = None, k: int = 5
) -> Collapse:
    """The collapse of generated images against real ones: (M, C, H, W) and (N, C, H, W), float in [-1, 1] or uint8.

    Labels, integers (M,) and (N,), come for both or for neither; each class is then also measured alone. Figures
    compare at equal M, N and k only. Takes N (N + M) distances. Raises UserError for fewer than 2 generated or k + 1
    real images (of a class), unequal shapes, k below 1, and real images (of a class) that are all alike.
    """
    fake, real = scaled(fake), scaled(real).to(fake.device)
    if fake.shape[1:] != real.shape[1:]:
        raise UserError(f"generated images are {tuple(fake.shape[1:])}, real images {tuple(real.shape[1:])}")
    if k < 1:
        raise UserError(f"k is {k}, not at least 1 neighbour")
    if (fake_labels is None) != (real_labels is None):
        missing = "generated" if fake_labels is None else "real"
        raise UserError(f"labels of the {missing} images are missing: give those of both, or of neither")
    whole = _measured(fake, real, k, "")
    if fake_labels is None or real_labels is None:
        return Collapse(*whole)
    fake_labels, real_labels = (
        _checked(labels, len(images), kind).to(fake.device)
        for labels, images, kind in ((fake_labels, fake, "generated"), (real_labels, real, "real"))
    )
    classes = torch.cat([fake_labels, real_labels]).unique(sorted=True).tolist()  # type: ignore[no-untyped-call]
    each = [_measured(fake[fake_labels == y], real[real_labels == y], k, f" of class {y}") for y in classes]
    spreads, coverages = zip(*each, strict=True)
    return Collapse(
        *whole, math.fsum(spreads) / len(each), math.fsum(coverages) / len(each), min(spreads), min(coverages)
    )


def _measured(fake: Tensor, real: Tensor, k: int, where: str) -> tuple[float, float]:
    """(spread, coverage) of images in [-1, 1]; `where` ends the noun in what is said: ` of class 3`."""
    for count, least, kind in ((len(fake), 2, "generated"), (len(real), k + 1, "real")):
        if count < least:
            raise UserError(f"{count} {kind} images{where}: {least} or more are needed (k = {k})")
    among_real = mean_distance(real)
    if among_real == 0:
        raise UserError(f"the real images{where} are all alike: no diversity to compare with")
    return mean_distance(fake) / among_real, coverage(fake, real, k)


def mean_distance(images: Tensor) -> float:
    """The mean over pairs i < j, pixels and channels of |x_i - x_j|: (N, C, H, W) -> scalar, N at least 2.

    In a sorted column of N values the i-th, from 0, is added i times and taken away N - 1 - i times.
    """
    n = len(images)
    # A common shift changes no distance, and makes the sum over equal images 0 without rounding.
    ranked = (images - images[:1]).flatten(1).double().sort(dim=0).values  # (N, pixels)
    times = 2 * torch.arange(n, device=images.device) - (n - 1)
    return float(times.to(ranked) @ ranked.mean(dim=1)) * 2 / (n * (n - 1))


def coverage(fake: Tensor, real: Tensor, k: int = 5) -> float:
    """The share of real images whose ball holds a generated one, in [0, 1]: (M, C, H, W), (N, C, H, W) -> scalar.

    A real image's ball, in L2 over pixels, reaches to its k-th nearest other real image   (Naeem et al. 2020, Reliable
    Fidelity and Diversity Metrics, sec. 3).
    """
    x, made = real.flatten(1).double(), fake.flatten(1).double()
    among_real = torch.cdist(x, x).fill_diagonal_(math.inf)  # (N, N)
    radius = among_real.kthvalue(k, dim=1).values  # (N,)
    nearest = torch.cdist(x, made).amin(dim=1)  # (N,)
    return float((nearest <= radius + EQUAL).double().mean())


def expected_coverage(generated: int, real: int, k: int = 5) -> float:
    """The mean coverage of a generator that draws from the data's own distribution, whatever that is.

    1 - (N - 1) ... (N - k) / ((M + N - 1) ... (M + N - k)) for M generated and N real images: the k nearest of the
    M + N - 1 others of a real image are all real   (Naeem et al. 2020, sec. 3).
    """
    return 1 - math.prod((real - i) / (generated + real - i) for i in range(1, k + 1))


def _checked(labels: Tensor, n: int, kind: str) -> Tensor:
    if labels.shape != (n,) or labels.is_floating_point() or labels.is_complex():
        raise UserError(f"labels of the {kind} images are {labels.dtype} {tuple(labels.shape)}, not integers ({n},)")
    return labels
