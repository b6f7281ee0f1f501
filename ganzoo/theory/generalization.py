"""How far the empirical objectives are from what they estimate: |S_m - S| and |T_k - T|   (Qi 2017, sec. 5.1).

Theorem 2: |S_m(theta) - S(theta)| <= eps for a critic trained on m pairs once m >= C B^2 (kappa + 1)^2 / eps^2 *
(N log(kappa_L N / eps) + log(1 / eta)); theorem 3 says the like of T_k for a generator trained on k noise vectors.
Read the other way: eps falls as m^-1/2 but for a logarithm, and with the critic's Lipschitz constant kappa, which
the penalty lowers. Here both gaps are measured: train on m pairs of a known density, compare with a fresh sample.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from ganzoo.game import Critic, GameLoss, Objective
from ganzoo.randomness import seeded, stream
from ganzoo.statistics import CONFIDENCE, Interval
from ganzoo.theory.consistency import SmoothCritic, as_played
from ganzoo.theory.densities import as_images

Draw = Callable[[int, torch.Generator], Tensor]
"""n independent points, (n, d); or noise vectors, (n, z_dim)."""


class Fit(NamedTuple):
    """How a player is trained on its sample: Adam, betas (0.5, 0.9), the rate falling to 0 along a cosine."""

    steps: int = 400
    batch: int = 128
    """Pairs a step, drawn from the sample with replacement; the whole sample where it is smaller."""
    rate: float = 5e-3
    frequencies: int = 6
    width: int = 64


class Gap(NamedTuple):
    """An empirical objective and its expectation, at one trained player."""

    empirical: float
    """S_m or T_k, on the sample that the player was trained on."""
    expected: float
    """S or T, the mean over a fresh sample."""
    standard_error: float
    """Of `expected`."""

    @property
    def size(self) -> float:
        return abs(self.empirical - self.expected)


class Line(NamedTuple):
    """log(gap) = slope * log(n) + intercept."""

    slope: float
    interval: Interval
    """95 %, of the slope."""
    intercept: float


def train_critic(game: Objective, real: Tensor, fake: Tensor, fit: Fit, seed: int) -> SmoothCritic:
    """The critic that minimises `game`'s loss over these pairs, images (m, d, 1, 1) each: a minimiser of S_m."""
    critic = SmoothCritic(real.shape[1], fit.frequencies, fit.width, seed)
    loss, random = as_played(critic, game), stream("generalization", "pairs", seed)

    def step_loss() -> Tensor:
        chosen = _batch(len(real), fit.batch, random)
        return game.critic_loss(loss, real[chosen], fake[chosen])

    _minimise(critic, step_loss, fit, after=game.constrain)
    return critic


def train_generator(game: Objective, loss: Critic, real: Tensor, z: Tensor, fit: Fit, seed: int) -> nn.Module:
    """The generator that minimises T_k over the noise vectors z (k, z_dim), the critic held fixed.

    An MLP (k, z_dim) -> (k, d, 1, 1) in [-1, 1]; real, (k, d, 1, 1), is for objectives whose T sees real images.
    """
    dimension = real.shape[1]
    with seeded("generalization", "generator", seed):
        generator = nn.Sequential(
            nn.Linear(z.shape[1], fit.width),
            nn.Tanh(),
            nn.Linear(fit.width, fit.width),
            nn.Tanh(),
            nn.Linear(fit.width, dimension),
            nn.Tanh(),
            nn.Unflatten(1, (dimension, 1, 1)),
        )
    random = stream("generalization", "noise", seed)

    def step_loss() -> Tensor:
        chosen = _batch(len(z), fit.batch, random)
        return game.generator_loss(loss, real[chosen], generator(z[chosen]))

    _minimise(generator, step_loss, fit)
    return generator


def gap(value: GameLoss, loss: Critic, sample: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor]) -> Gap:
    """value's mean over the pairs of the sample, (m, d, 1, 1) each, and over fresh ones, a multiple of 100 of them.

    `value` is a critic_loss or a generator_loss that is a mean over pairs.
    """
    return Gap(mean(value, loss, sample), *expectation(value, loss, fresh))


def mean(value: GameLoss, loss: Critic, sample: tuple[Tensor, Tensor]) -> float:
    """S_m or T_k: the value of one sample."""
    with torch.no_grad():
        return float(value(loss, *sample))


def expectation(value: GameLoss, loss: Critic, fresh: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """S or T by a large sample in 100 equal blocks, and its standard error: the blocks' spread over the root of 100."""
    blocks = [mean(value, loss, block) for block in zip(*(part.chunk(100) for part in fresh), strict=True)]
    return float(np.mean(blocks)), float(stats.sem(blocks))


def steepest(loss: Critic, images: Tensor) -> float:
    """The largest ||grad L(x)||_2 over these images, (N, d, 1, 1): a lower bound of kappa."""
    x = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x).sum(), x)
    return float(torch.linalg.vector_norm(gradient.flatten(1), dim=1).max())


def power(sizes: Sequence[int], gaps: Sequence[float]) -> Line:
    """The line through (log n, log gap), at least three of them; -1/2 is the slope of theorems 2 and 3.

    Student's interval from what is left beside the line, so a bent curve gets a wide one.
    """
    found = stats.linregress(np.log(sizes), np.log(gaps))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sizes) - 2) * found.stderr)
    slope = float(found.slope)
    return Line(slope, Interval(slope - half, slope + half), float(found.intercept))


def points(draw: Draw, n: int, *names: str | int) -> Tensor:
    """n points that depend on the names alone, as images: (n, d, 1, 1)."""
    return as_images(draw(n, stream("generalization", *names)))


def _batch(n: int, batch: int, random: torch.Generator) -> Tensor:
    return torch.arange(n) if n <= batch else torch.randint(n, (batch,), generator=random)


def _minimise(
    network: nn.Module, loss: Callable[[], Tensor], fit: Fit, after: Callable[[nn.Module], None] = lambda network: None
) -> None:
    adam = torch.optim.Adam(network.parameters(), lr=fit.rate, betas=(0.5, 0.9), fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=fit.steps)
    for _ in range(fit.steps):
        adam.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        adam.step()
        after(network)
        cosine.step()
