"""Distributional consistency made visible: a game trained on a known density by a generator of known density.

Lemma 2 of Qi 2017: integral |p_data - p_G| <= 2 / balance at an equilibrium of LS-GAN; lemma 4: 0 for GLS-GAN with
every cost. p_G is exact (`TriangularMap`), so the integral has no estimator's bias; `nearest` is the control: what the
same family of generators reaches when it minimises the integral itself. Any objective of the zoo can be played.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganzoo.errors import UserError
from ganzoo.game import Critic, Need, Objective
from ganzoo.randomness import seeded, stream
from ganzoo.theory.densities import Hills, as_images, difference, lattice, midpoints
from ganzoo.theory.triangular_map import TriangularMap


class Match(NamedTuple):
    """How a game is played out. The defaults are for one dimension."""

    rounds: int = 400
    """Generator steps."""
    critic_steps: int = 3
    """Critic steps a generator step."""
    batch: int = 128
    """Real points and as many generated ones a step."""
    critic_rate: float = 5e-3
    """Adam's, betas (0.5, 0.9)."""
    generator_rate: float = 3.0
    """Of plain gradient descent: at an equilibrium L is flat, and then G rests. Adam divides the gradient by its own
    size and walks on in the noise: on one density its best of three rates ended 0.084 from p_data where this ends 0.074
    (no balance), 0.213 for 0.133 (balance 8)."""
    knots: int = 33
    """Of the generator's slopes."""
    tilt: float = 2.0
    """How far from p_data G starts: the log slopes' tilt, its sign by the seed."""
    frequencies: int = 6
    """sin and cos of k pi x_i / 2 for k up to this are the critic's inputs beside x: it sees details from the start."""
    width: int = 32
    """Of the critic's two hidden layers."""


class SmoothCritic(nn.Module):
    """L: (N, d, 1, 1) -> (N,), infinitely differentiable, so Lipschitz on [-1, 1]^d; a small MLP."""

    def __init__(self, dimension: int, frequencies: int, width: int, seed: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        with seeded("smooth critic", seed):
            self.layers = nn.Sequential(
                nn.Linear(dimension * (1 + 2 * frequencies), width),
                nn.Tanh(),
                nn.Linear(width, width),
                nn.Tanh(),
                nn.Linear(width, 1),
                nn.Flatten(0),
            )

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        waves = x[:, :, None] * (torch.arange(1, self.frequencies + 1, device=x.device) * (math.pi / 2))
        output: Tensor = self.layers(torch.cat([x, waves.sin().flatten(1), waves.cos().flatten(1)], dim=1))
        return output


class Played(NamedTuple):
    """A game played to its end."""

    generator: TriangularMap
    loss: Critic
    """L as the objective saw it."""
    start: float
    """integral |p_data - p_G| before the first round."""


def as_played(critic: nn.Module, game: Objective) -> Critic:
    """The critic as the objective wants it: through softplus where it needs L >= 0. Raises UserError for labels."""
    if Need.LABELS in game.needs:
        raise UserError("the objective needs labels, and points of a density have none; take an unconditional one")
    return (lambda x: softplus(critic(x))) if Need.NON_NEGATIVE in game.needs else critic


def play(game: Objective, p: Hills, match: Match, seed: int) -> Played:
    """Both players alternate, rates constant for half of the rounds, then falling to 0 along a cosine.

    The networks, the real points and the noise depend on the seed alone, never on the game. Expectations are means
    over randomly shifted lattices, pairs are random. Raises UserError for an objective that needs labels.
    """
    d = p.dimension
    generator = untrained(p, match, seed)
    critic = SmoothCritic(d, match.frequencies, match.width, seed)
    loss = as_played(critic, game)
    start = distance(p, generator)
    critic_step = torch.optim.Adam(critic.parameters(), lr=match.critic_rate, betas=(0.5, 0.9), fused=True)
    generator_step = torch.optim.SGD(generator.parameters(), lr=match.generator_rate)
    real_points, noise, pairs = (stream("consistency", seed, name) for name in ("real", "z", "pairs"))

    def real() -> Tensor:
        return as_images(p.of_uniform(lattice(match.batch, d + 1, real_points)))

    def fake() -> Tensor:
        z = lattice(match.batch, generator.z_dim, noise) * 2 - 1
        made: Tensor = generator(z[torch.randperm(match.batch, generator=pairs)])
        return made

    for round in range(match.rounds):
        falling = max(0.0, 2 * round / match.rounds - 1)  # from 0 to 1 over the second half
        rate = (1 + math.cos(math.pi * falling)) / 2
        critic_step.param_groups[0]["lr"] = rate * match.critic_rate
        generator_step.param_groups[0]["lr"] = rate * match.generator_rate
        for _ in range(match.critic_steps):
            critic_step.zero_grad()
            game.critic_loss(loss, real(), fake().detach()).backward()  # type: ignore[no-untyped-call]
            critic_step.step()
            game.constrain(critic)
        generator_step.zero_grad()
        game.generator_loss(loss, real(), fake()).backward()  # type: ignore[no-untyped-call]
        generator_step.step()
    return Played(generator, loss, start)


def untrained(p: Hills, match: Match, seed: int) -> TriangularMap:
    """The generator that a match starts from: far to the right of p for even seeds, to the left for odd ones."""
    return TriangularMap(p.dimension, match.knots, tilt=match.tilt * (-1) ** seed, seed=seed)


def nearest(p: Hills, match: Match, seed: int, steps: int = 600) -> TriangularMap:
    """The control: the same generator, from x = t on, minimises integral |p_data - p_G| itself, by Adam.

    What is left is the family's own distance from p_data, or a little more: no game of this generator can be asked to
    end much nearer.
    """
    generator = untrained(p, match._replace(tilt=0.0), seed)
    adam = torch.optim.Adam(generator.parameters(), lr=0.05 if p.dimension == 1 else 0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)
    n = cells(p.dimension) // 4
    x = midpoints(p.dimension, n)
    wanted = p(x)
    for _ in range(steps):
        adam.zero_grad()
        ((generator.density(x) - wanted).abs().sum() * (2 / n) ** p.dimension).backward()  # type: ignore[no-untyped-call]
        adam.step()
        cosine.step()
    return generator


@torch.no_grad()
def distance(p: Hills, generator: TriangularMap) -> float:
    """integral |p_data - p_G| dx, from 0 to 2; NaN where the generator's weights are."""
    return difference(p, generator.density, p.dimension, cells(p.dimension))


def cells(dimension: int) -> int:
    """Cells a coordinate of the midpoint rule: 4,000 in one dimension, 400 x 400 in two."""
    return 4_000 if dimension == 1 else 400
