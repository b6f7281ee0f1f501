"""A generator whose density is known exactly: a triangular map of the cube, each coordinate rising in its own noise.

With noise t_i of known density and x_i = g(t_i | x_1 ... x_{i-1}) rising from -1 to 1, the change of variables gives
p_G(x) = prod_i p(t_i) / (dg/dt_i): no histogram, no bandwidth, no noise in the measurement. Any two densities are
joined by such a map (Rosenblatt 1952), so the family is as rich as its slopes are fine.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.randomness import seeded
from ganzoo.theory.densities import as_images


class TriangularMap(nn.Module):
    """G: z (N, 2 d) in [-1, 1]^(2 d) -> (N, d, 1, 1) in [-1, 1].

    t_i is the mean of two uniform z, whose density 1 - |t| vanishes at both ends: so p_G is continuous on R^d and
    supported in [-1, 1]^d, as assumption 1 of Qi 2017 wants of p_data. The slope of each rise is a positive broken
    line through `knots` equally spaced knots; the logarithms of its values there are parameters for the first
    coordinate, a network's outputs of the coordinates before it for any other.
    """

    def __init__(self, dimension: int, knots: int, *, tilt: float = 0.0, width: int = 32, seed: int = 0) -> None:
        """At the start each log slope falls by 2 * tilt along t: tilt > 0 gathers p_G towards 1, 0 is x = t."""
        super().__init__()
        self.z_dim = 2 * dimension
        start = torch.linspace(tilt, -tilt, knots)
        self.first = nn.Parameter(start.clone())
        with seeded("triangular map", seed):
            self.others = nn.ModuleList(_log_slopes(before, start, width) for before in range(1, dimension))

    def forward(self, z: Tensor) -> Tensor:
        x: list[Tensor] = []
        for t_i in ((z[:, ::2] + z[:, 1::2]) / 2).unbind(dim=1):
            x.append(rise(self._slopes(x), t_i))
        return as_images(torch.stack(x, dim=1))

    def density(self, x: Tensor) -> Tensor:
        """p_G(x): (N, d) in [-1, 1]^d -> (N,), in the precision of x."""
        before = x.float().unbind(dim=1)
        p = x.new_ones(len(x))
        for i, x_i in enumerate(x.unbind(dim=1)):
            t, slope = fall(self._slopes(list(before[:i])).to(x.dtype), x_i)
            p = p * (1 - t.abs()) / slope
        return p

    def _slopes(self, before: list[Tensor]) -> Tensor:
        """The slopes at the knots, not yet scaled: (1, knots) for the first coordinate, (N, knots) for any other."""
        if not before:
            return self.first.exp()[None]
        log_slopes: Tensor = self.others[len(before) - 1](torch.stack(before, dim=1))
        return log_slopes.exp()


def rise(slopes: Tensor, t: Tensor) -> Tensor:
    """g(t) = -1 + 2 int_{-1}^t s / int_{-1}^1 s, where s is the broken line through `slopes`.

    slopes: (N or 1, knots), positive; t: (N,) in [-1, 1] -> (N,) in [-1, 1].
    """
    line = _pieces(slopes, len(t))
    place = (t + 1) / 2 * line.cells
    cell = place.detach().long().clamp(0, line.cells - 1)
    left, right, below = line.of(cell)
    u = place - cell
    area = below + left * u + (right - left) * u.square() / 2
    return (2 * area / line.total - 1).clamp(-1, 1)


def fall(slopes: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The t with g(t) = x, and dg/dt there: slopes as in `rise`, x (N,) in [-1, 1] -> (N,), (N,)."""
    line = _pieces(slopes, len(x))
    area = (x + 1) / 2 * line.total
    cell = (torch.searchsorted(line.below, area[:, None].contiguous(), right=True)[:, 0] - 1).clamp(0, line.cells - 1)
    left, right, below = line.of(cell)
    # left u + (right - left) u^2 / 2 = area - below, solved for the height of the line at u, and for u without 0/0.
    height = (left.square() + 2 * (right - left) * (area - below)).clamp(min=0).sqrt()
    u = 2 * (area - below) / (left + height)
    return ((cell + u) * 2 / line.cells - 1).clamp(-1, 1), height * line.cells / line.total


class _Line(NamedTuple):
    """A broken line in cells of width 1."""

    left: Tensor
    """Its value at each cell's left end, (N, cells)."""
    right: Tensor
    below: Tensor
    """Its integral up to the cell, (N, cells)."""
    total: Tensor
    """Its integral over all cells, (N,)."""
    cells: int

    def of(self, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """left, right and below of one cell each: (N,) -> three (N,)."""
        at = cell[:, None]
        return self.left.gather(1, at)[:, 0], self.right.gather(1, at)[:, 0], self.below.gather(1, at)[:, 0]


def _pieces(slopes: Tensor, n: int) -> _Line:
    left, right = slopes[:, :-1], slopes[:, 1:]
    area = ((left + right) / 2).cumsum(dim=1)
    below = torch.cat([torch.zeros_like(area[:, :1]), area[:, :-1]], dim=1)
    cells = left.shape[1]
    wide = (n, cells)
    return _Line(left.expand(wide), right.expand(wide), below.expand(wide).contiguous(), area[:, -1], cells)


def _log_slopes(before: int, start: Tensor, width: int) -> nn.Sequential:
    """The coordinates before, (N, before) -> (N, knots); at first `start` whatever they are."""
    last = nn.Linear(width, len(start))
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(start)
    return nn.Sequential(nn.Linear(before, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
