"""What a game makes of drawn outputs and of small networks: its values and derivatives, in float64."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from ganzoo.config import Contender
from ganzoo.errors import blamed
from ganzoo.game import GameLoss, Need, Objective, expected_loss
from ganzoo.heads import BoundCritic, head_of, plain
from ganzoo.randomness import seeded, stream, undisturbed
from ganzoo.zoo import Zoo

if TYPE_CHECKING:
    from ganzoo.features import Networks

GAMES = 24
"""Random games on the outputs; half of them with L >= 0, where all objectives can play."""
PLAYED = 4
"""Random networks."""
PAIRS = (1, 2, 5)
"""Images of each kind in a game, in turn: few, for a mean over many hides where one pair breaks a bound."""
SCALES = (0.3, 1.0, 3.0, 30.0)
"""Of the drawn L, in turn."""
IMAGE = (2, 3, 4)
"""(C, H, W)"""
CLASSES = 3
LARGE = 1e6
"""Times as large as a new network's are the weights on which a constraint is tried."""
CLOSE = 1e-9
"""Relative: below it two float64 numbers are the same; a sum of some hundred terms rounds to 1e-13."""
LEVELS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
"""Of L(x) and of L(G(z)): on the games of one pair that these make, bounds are looked at besides."""


class Heard(NamedTuple):
    """A loss in some games: its values and its derivatives."""

    values: Tensor
    """(games,), NaN where it cannot play."""
    gradients: tuple[Tensor, ...]
    """One flat tensor a game, empty where it cannot play."""


class Answers(NamedTuple):
    """What a game makes of the same random critics and batches as every other game."""

    label: str
    objective: str
    settings: int
    """How many were given: the fewer, the plainer."""
    non_negative: bool
    """It plays with L >= 0 alone."""
    conditional: bool
    critic: Heard
    """S on the outputs, its derivatives in L(x) and L(G(z))."""
    levels: Tensor
    """S of one pair at all `LEVELS` of L(x) and L(G(z)); NaN where it cannot play."""
    generator: Heard | None
    """T, its derivatives in L(G(z)); None where no generator plays."""
    unlabeled: Heard | None
    game: Objective
    recipe_changes: dict[str, Any]

    @property
    def values(self) -> Tensor:
        """S in all games on the outputs: the drawn ones, then those at levels."""
        return torch.cat([self.critic.values, self.levels])


class Played(NamedTuple):
    """The same with networks."""

    critic: Heard
    """S, its derivatives in all of the network's weights."""
    generator: Heard | None
    """T, its derivatives in the generated images."""
    penalty: Tensor
    """(networks,): what S has beyond its value on the outputs."""
    constrained: Tensor | None
    """Weights after `constrain`; None where it leaves them."""


class _Smooth(nn.Sequential):
    def features(self, images: Tensor) -> Tensor:
        for layer in list(self)[:-1]:
            images = layer(images)
        return images


def _images(count: int, *names: str | int) -> tuple[Tensor, Tensor]:
    """Real and generated images, (count, *IMAGE) in [-1, 1]; the first pixel tells which one each is.

    Some of the generated ones come close to their partners: margins are of all sizes.
    """
    draw = stream("lattice", *names)
    both = 2 * torch.rand(2, count, *IMAGE, generator=draw, dtype=torch.float64) - 1
    near = torch.rand(count, 1, 1, 1, generator=draw, dtype=torch.float64)
    both[1] = both[0].lerp(both[1], near.square())
    mark = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    both[0, :, 0, 0, 0], both[1, :, 0, 0, 0] = mark, -mark
    return both[0], both[1]


@dataclass(frozen=True, kw_only=True)
class _Flat(BoundCritic):
    """L of marked images from a table, of others that of the nearest mark; flat in the images."""

    table: Tensor
    """(2 N + 1,): the generated images' from the last to the first, nobody's, the real ones'."""

    def __call__(self, x: Tensor) -> Tensor:
        count = len(self.table) // 2
        place = (x.detach()[:, 0, 0, 0] * (count + 1)).round().long() + count
        found = self.table[place.clamp(0, 2 * count)]
        return found + 0 * x.flatten(1).sum(dim=1) if x.requires_grad else found

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    slope: float = 0.0
    """What it claims of ||grad L(x)||_2; its values do not show it."""

    def gradient_in_x(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.slope / math.sqrt(x[0].numel()))

    def steeper(self) -> "_Flat":
        return replace(self, slope=1.0)

    def gradient_in_theta(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 0)


def _table_critic(on_real: Tensor, on_fake: Tensor) -> _Flat:
    """L of real and generated images from two tables (N,), (N,)."""
    table = torch.cat([on_fake.flip(0), on_real.new_zeros(1), on_real])
    return _Flat(nn.Identity(), plain, table=table)


def _loss(loss: GameLoss, critic: BoundCritic, real: Tensor, fake: Tensor) -> Tensor:
    torch.default_generator.manual_seed(len(real))  # what a penalty draws is the same for every game
    return loss(critic, real, fake)


class _Outputs(NamedTuple):
    """A random game on the outputs."""

    real: Tensor
    fake: Tensor
    on_real: Tensor
    on_fake: Tensor


@lru_cache(maxsize=1)
def _games() -> tuple[_Outputs, ...]:
    made = []
    for game in range(GAMES):
        count, scale = PAIRS[game // 2 % len(PAIRS)], SCALES[game // 2 % len(SCALES)]
        drawn = scale * torch.randn(2, count, generator=stream("lattice", "L", game), dtype=torch.float64)
        drawn = drawn if game % 2 else drawn.abs()
        made.append(_Outputs(*_images(count, game), drawn[0].requires_grad_(), drawn[1].requires_grad_()))
    return tuple(made)


def _on_outputs(loss: GameLoss, *, non_negative: bool, moves: Literal["critic", "generator"]) -> Heard:
    values, gradients = [], []
    for game, (real, fake, on_real, on_fake) in enumerate(_games()):
        if non_negative and game % 2:
            values.append(math.nan)
            gradients.append(torch.zeros(0, dtype=torch.float64))
            continue
        value = _loss(loss, _table_critic(on_real, on_fake), real, fake)
        inputs = [on_real, on_fake] if moves == "critic" else [on_fake]
        values.append(float(value.detach()))
        gradients.append(_gradient(value, inputs))
    return Heard(torch.tensor(values, dtype=torch.float64), tuple(gradients))


def _on_levels(loss: GameLoss, *, non_negative: bool) -> Tensor:
    """(games,): S of one pair at all LEVELS of L(x) and L(G(z)); NaN where the game does not play."""
    values = []
    real, fake = (x.sign() for x in _images(1, "pair"))
    far, near = -real, real.clone()
    near[:, 0, 0, 0] = fake[:, 0, 0, 0]
    for i, (on_real, on_fake) in enumerate(itertools.product(LEVELS, LEVELS)):
        if non_negative and min(on_real, on_fake) < 0:
            values.append(math.nan)
            continue
        tables = (torch.full((1,), level, dtype=torch.float64) for level in (on_real, on_fake))
        values.append(float(_loss(loss, _table_critic(*tables), real, near if i % 2 else far)))
    return torch.tensor(values, dtype=torch.float64)


def _of_generator(loss: GameLoss, non_negative: bool) -> Heard:
    return (_expected if loss is expected_loss else partial(_on_outputs, loss, moves="generator"))(
        non_negative=non_negative
    )


@lru_cache(maxsize=2)
def _expected(non_negative: bool) -> Heard:
    """Of T = E L(G(z)), which most objectives have."""
    return _on_outputs(expected_loss, non_negative=non_negative, moves="generator")


def _gradient(value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if value.requires_grad:
        found = torch.autograd.grad(value, inputs, allow_unused=True)
    parts = [torch.zeros_like(x) if part is None else part for x, part in zip(inputs, found, strict=True)]
    return torch.cat([part.flatten() for part in parts]).detach()


def answers(contender: Contender, zoo: Zoo) -> Answers:
    """The contender's game on the outputs. Raises UserError where it cannot be played so."""
    game = contender.game(zoo, _stand_in(contender, zoo))
    non_negative = bool(game.needs & {Need.NON_NEGATIVE, Need.LABELS})
    with blamed(contender.label), undisturbed():
        critic = _on_outputs(game.critic_loss, non_negative=non_negative, moves="critic")
        levels = _on_levels(game.critic_loss, non_negative=non_negative)
        generator = unlabeled = None
        if Need.ALONE not in game.needs:
            generator = _of_generator(game.generator_loss, non_negative)
        if game.unlabeled_loss is not None:
            unlabeled = _on_outputs(game.unlabeled_loss, non_negative=True, moves="critic")
    given = contender.label.partition(":")[2]
    return Answers(
        label=contender.label,
        objective=contender.objective,
        settings=given.count(",") + 1 if given else 0,
        non_negative=non_negative,
        conditional=Need.LABELS in game.needs,
        critic=critic,
        levels=levels,
        generator=generator,
        unlabeled=unlabeled,
        game=game,
        recipe_changes=contender.recipe_changes,
    )


def _stand_in(contender: Contender, zoo: Zoo) -> "Networks | None":
    """Fixed feature maps, for a margin that compares such."""
    if not contender.wants_networks(zoo):
        return None
    from ganzoo.checks import stand_ins

    return cast("Networks", stand_ins.networks)


def played(one: Answers) -> Played:
    """The game with networks as critics. Raises UserError where it cannot be played so."""
    with blamed(one.label), undisturbed():
        return _played(one)


def _played(one: Answers) -> Played:
    game, count = one.game, 4
    values: list[list[float]] = [[], [], []]
    gradients: list[list[Tensor]] = [[], []]
    for number in range(PLAYED):
        with seeded("lattice", "network", number):
            network = _Smooth(
                nn.Flatten(), nn.Linear(24, 8), nn.Softplus(), nn.Linear(8, CLASSES if one.conditional else 1)
            ).double()
        head = head_of(game.needs)
        labels = torch.arange(count) % CLASSES if one.conditional else None
        whole = network if one.conditional else nn.Sequential(network, nn.Flatten(0))
        if not one.conditional:
            whole.features = network.features  # type: ignore[assignment]  # a network may have more than a forward
        critic = BoundCritic(whole, head, labels)
        real, fake = _images(count, "network", number)
        fake.requires_grad_()
        s = _loss(game.critic_loss, critic, real, fake.detach())
        with torch.no_grad():
            tables = critic(real), critic(fake)
        values[0].append(float(s.detach()))
        values[2].append(float((s - _loss(game.critic_loss, _table_critic(*tables), real, fake.detach())).detach()))
        gradients[0].append(_gradient(s, list(network.parameters())))
        if Need.ALONE not in game.needs:
            t = _loss(game.generator_loss, critic, real, fake)
            values[1].append(float(t.detach()))
            gradients[1].append(_gradient(t, [fake]))
    heard = [Heard(torch.tensor(v, dtype=torch.float64), tuple(g)) for v, g in zip(values, gradients, strict=False)]
    return Played(
        critic=heard[0],
        generator=heard[1] if gradients[1] else None,
        penalty=torch.tensor(values[2], dtype=torch.float64),
        constrained=_constrained(game),
    )


def _constrained(game: Objective) -> Tensor | None:
    with seeded("lattice", "constrain"), torch.no_grad():
        network = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Softplus(), nn.Linear(8, 1)).double()
        for parameter in network.parameters():
            parameter.mul_(LARGE)  # a clipping shows, however wide
        before = torch.cat([parameter.flatten() for parameter in network.parameters()])
        game.constrain(network)
        after = torch.cat([parameter.flatten() for parameter in network.parameters()])
    return None if torch.equal(before, after) else after


def pays_for_flatness(one: Answers) -> bool:
    """Whether a penalty is not 0 where L is flat in the images, as one that pulls the gradient's norm to 1: its S on
    the outputs has that in it, and bounds nobody's."""
    on_real, on_fake = torch.ones(2, 1, dtype=torch.float64)
    real, fake = _images(1, "flat")
    flat = _table_critic(on_real, on_fake)
    with undisturbed():
        steep, level = (_loss(one.game.critic_loss, critic, real, fake) for critic in (flat.steeper(), flat))
    return bool(steep < level - CLOSE)
