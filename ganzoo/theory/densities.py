"""Lipschitz densities on [-1, 1]^d with exact values and exact samples, and the distance integral |p - q| of two."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import UserError

Density = Callable[[Tensor], Tensor]
"""p(x): (N, d) -> (N,), at least 0, of integral 1 over [-1, 1]^d."""


class Hill(NamedTuple):
    """A product of triangles: weight * prod_i max(0, 1 - |x_i - center_i| / half_width) / half_width."""

    center: tuple[float, ...]
    half_width: float
    """Half the side of the cube outside which the hill is 0."""
    weight: float
    """Its share of the probability, in (0, 1]."""


@dataclass(frozen=True)
class Hills:
    """A mixture of hills: Lipschitz on R^d, supported in [-1, 1]^d   (Qi 2017, assumption 1).

    Raises UserError for hills of several dimensions, that leave [-1, 1]^d, or whose weights do not sum to 1.
    """

    hills: tuple[Hill, ...]

    def __post_init__(self) -> None:
        dimensions = sorted({len(hill.center) for hill in self.hills})
        if len(dimensions) != 1 or dimensions[0] == 0:
            raise UserError(f"the hills of one density have the dimensions {dimensions}, not one dimension, at least 1")
        for hill in self.hills:
            if not (hill.half_width > 0 and all(abs(c) + hill.half_width <= 1 + 1e-9 for c in hill.center)):
                raise UserError(f"{hill} leaves [-1, 1]: a hill reaches half_width > 0 to both sides of its center")
        weights = [hill.weight for hill in self.hills]
        if not (min(weights) > 0 and math.isclose(sum(weights), 1)):
            raise UserError(f"the hills' weights are {weights}, not positive with sum 1")

    @property
    def dimension(self) -> int:
        return len(self.hills[0].center)

    @property
    def lipschitz(self) -> float:
        """A kappa with |p(x) - p(x')| <= kappa ||x - x'||_2; the least one where there is one hill.

        The gradient of a hill comes up to weight * sqrt(d) / half_width^(d + 1) next to its center.
        """
        d = self.dimension
        return sum(hill.weight * math.sqrt(d) / hill.half_width ** (d + 1) for hill in self.hills)

    def __call__(self, x: Tensor) -> Tensor:
        """p(x): (N, d) -> (N,)."""
        p = x.new_zeros(len(x))
        for hill in self.hills:
            away = (x - x.new_tensor(hill.center)).abs() / hill.half_width  # (N, d)
            p = p + hill.weight * ((1 - away).clamp(min=0) / hill.half_width).prod(dim=1)
        return p

    def of_uniform(self, u: Tensor) -> Tensor:
        """u ~ Unif[0, 1]^(d + 1), (N, d + 1) -> x ~ p, (N, d): u_0 chooses the hill, the others invert its triangle."""
        last = len(self.hills) - 1
        shares = u.new_tensor([hill.weight for hill in self.hills]).cumsum(dim=0)
        chosen = torch.searchsorted(shares, u[:, 0].contiguous(), right=True).clamp(max=last)
        centers = u.new_tensor([hill.center for hill in self.hills])[chosen]  # (N, d)
        half_widths = u.new_tensor([hill.half_width for hill in self.hills])[chosen, None]
        rest = u[:, 1:]
        triangle = torch.where(rest < 0.5, (2 * rest).sqrt() - 1, 1 - (2 - 2 * rest).sqrt())
        return centers + half_widths * triangle

    def sample(self, n: int, random: torch.Generator) -> Tensor:
        """n independent x ~ p: (n, d) float32."""
        return self.of_uniform(torch.rand(n, self.dimension + 1, generator=random))


def as_images(x: Tensor) -> Tensor:
    """Points that play as images: (N, d) -> (N, d, 1, 1)."""
    return x[:, :, None, None]


def midpoints(dimension: int, cells: int) -> Tensor:
    """The centers of the cells^d equal cells of [-1, 1]^d: (cells^d, d) float64, the last coordinate fastest."""
    line = (torch.arange(cells, dtype=torch.float64) + 0.5) * (2 / cells) - 1
    return torch.cartesian_prod(*[line] * dimension).reshape(-1, dimension)


def difference(p: Density, q: Density, dimension: int, cells: int) -> float:
    """integral |p(x) - q(x)| dx over [-1, 1]^d, from 0 to 2, by the midpoint rule on cells^d cells."""
    x = midpoints(dimension, cells)
    return float((p(x) - q(x)).abs().sum() * (2 / cells) ** dimension)


def estimated_difference(samples: Tensor, p: Density, bins: int) -> float:
    """integral |p - q| dx where q is known by samples (n, d) alone: their histogram of bins^d equal bins against p.

    Too small by the differences within a bin, too large by the noise of n samples; as many samples of p itself measure
    that noise: the control. Samples outside [-1, 1]^d count in full.
    """
    n, d = samples.shape
    within = 8  # points of the midpoint rule a bin and coordinate
    fine = p(midpoints(d, bins * within)) * (2 / (bins * within)) ** d
    mass = fine.reshape([bins, within] * d).sum(dim=[2 * i + 1 for i in range(d)])  # (bins, ..., bins)
    edges = [torch.linspace(-1, 1, bins + 1, dtype=torch.float64)] * d
    counts = torch.histogramdd(samples.double(), edges).hist
    return float((counts / n - mass).abs().sum() + 1 - counts.sum() / n)


def lattice(n: int, dimension: int, random: torch.Generator) -> Tensor:
    """n points of [0, 1)^d, each uniform, together far more even than independent ones: (n, d) float32.

    x_i = (i * alpha + shift) mod 1 with one random shift and alpha_j = phi^-j, phi the root of phi^(d+1) = phi + 1
    (the golden ratio for d = 1; Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    phi = 2.0
    for _ in range(64):
        phi = (1 + phi) ** (1 / (dimension + 1))
    alpha = phi ** -torch.arange(1, dimension + 1, dtype=torch.float64)
    shift = torch.rand(dimension, generator=random, dtype=torch.float64)
    points = torch.arange(n, dtype=torch.float64)[:, None] * alpha + shift
    # In float32 a number just below 1 would round to 1.
    return (points % 1).float().clamp(max=1 - 2**-24)
