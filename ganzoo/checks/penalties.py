"""The laws of a penalty on grad_x L: what its norm is of, where it is taken, that it trains, what its weight is beside.

They are played with a steep critic, whose values and whose gradient are set apart from one another: only the penalty
sees the gradient. A game that takes no gradient of L in the images is asked nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ganzoo.checks import stand_ins
from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.objectives import PAIRS, evaluated, game_of, losses_of_the_critic, slopes
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.game import Critic, Need, Objective
from ganzoo.heads import BoundCritic, plain
from ganzoo.randomness import stream

STEEPNESS = 2.0
"""||grad L||_2 unless a law says otherwise: neither 0 nor 1, where penalties have their minimum."""
STEP = 1e-5


@dataclass(frozen=True)
class Steep:
    """A game at images whose first pixel says which are real, its critics, and where they were differentiated."""

    loss: Callable[..., Any]
    real: Tensor
    """(PAIRS, *IMAGE) float64 in [-1, 1], the first pixel above 0; below 0 in `fake`."""
    fake: Tensor
    direction: Tensor
    """(*IMAGE), of length 1."""
    lift: float
    """Added to every L, where the game asks for L >= 0."""
    points: list[Tensor] = field(default_factory=list)
    """The batches at which grad_x L was asked for."""

    def critic(self, gradients: Tensor, on_real: float = 0.0, on_fake: float = 0.0) -> Critic:
        """L is `on_real` or `on_fake` whatever the images are, grad_x L(x_i) is gradients[i]: (N, *IMAGE)."""

        def outputs(x: Tensor) -> Tensor:
            if x.requires_grad:
                self.points.append(x.detach().clone())
            still = x.detach()
            level = torch.where(still[:, 0, 0, 0] > 0, on_real + self.lift, on_fake + self.lift).to(x.dtype)
            of_each = gradients[torch.arange(len(x), device=x.device) % len(gradients)]
            return level + (of_each * (x - still)).flatten(1).sum(dim=1)

        return BoundCritic(stand_ins.Fixed(outputs), plain)

    def value(
        self, gradients: Tensor, pairs: slice = slice(None), *, on_real: float = 0.0, on_fake: float = 0.0
    ) -> Tensor:
        return evaluated(self.loss, self.critic(gradients, on_real, on_fake), self.real[pairs], self.fake[pairs])

    def penalty(
        self, lengths: Tensor, pairs: slice = slice(None), *, on_real: float = 0.0, on_fake: float = 0.0
    ) -> float:
        """By how much the loss rises where ||grad L(x_i)|| is lengths[i], along `direction`, in the place of 0."""
        gradients = lengths[:, None, None, None] * self.direction
        steep, flat = (self.value(factor * gradients, pairs, on_real=on_real, on_fake=on_fake) for factor in (1.0, 0.0))
        return (steep - flat).item()


def steep_games(subject: Subject, settings: Settings) -> list[Steep]:
    """One for each loss of the game that takes a gradient of L in the images."""
    game = game_of(subject, settings)
    lift = 4.0 if game.needs & {Need.NON_NEGATIVE, Need.LABELS} else 0.0
    found = []
    for name in losses_of_the_critic(game):
        steep = Steep(getattr(game, name), *_pairs(subject), _direction(subject), lift)
        steep.penalty(torch.full((PAIRS,), STEEPNESS, dtype=torch.float64, device=subject.device))
        if steep.points:
            steep.points.clear()
            found.append(steep)
    if not found:
        raise Skipped("takes no gradient of L in the images")
    return found


def _uniform(subject: Subject, name: str, *size: int) -> Tensor:
    x = 2 * torch.rand(*size, generator=stream(subject.seed, "steep", name), dtype=torch.float64) - 1
    return x.to(subject.device)


def _pairs(subject: Subject) -> tuple[Tensor, Tensor]:
    real, fake = (_uniform(subject, name, PAIRS, *stand_ins.IMAGE) for name in ("x", "y"))
    real[:, 0, 0, 0], fake[:, 0, 0, 0] = real[:, 0, 0, 0].abs() + 0.01, -fake[:, 0, 0, 0].abs() - 0.01
    return real, fake


def _direction(subject: Subject) -> Tensor:
    # Of very different pixels, so that a norm over some of them is another.
    w = _uniform(subject, "w", *stand_ins.IMAGE).pow(3)
    length: Tensor = torch.linalg.vector_norm(w)
    return w / length


def _lengths(steep: Steep, *lengths: float) -> Tensor:
    return torch.tensor(lengths or (STEEPNESS,) * PAIRS, dtype=torch.float64, device=steep.real.device)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other))


def _reached(value: Tensor, leaf: Tensor) -> Tensor | None:
    found: tuple[Tensor | None, ...] = torch.autograd.grad(value, (leaf,), allow_unused=True)
    return found[0]


def trains_the_critic(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        gradients = _lengths(steep)[:, None, None, None] * steep.direction
        leaf = gradients.clone().requires_grad_()
        reached = _reached(steep.value(leaf), leaf)
        by_theta = 0.0 if reached is None else float((reached * gradients).sum())
        ahead, behind = (steep.value(factor * gradients).item() for factor in (1 + STEP, 1 - STEP))
        by_differences = (ahead - behind) / (2 * STEP)
        if abs(by_theta - by_differences) > 1e-4 * max(1e-3, abs(by_differences)):
            raise Refuted(
                f"the penalty moves with ||grad L|| at a rate of {by_differences:.6g}, and {by_theta:.6g} of it reaches"
                " the critic's parameters: torch.autograd.grad without create_graph=True, or a detach?",
                rate=by_differences, reached=by_theta,
            )  # fmt: skip


def finite_on_flat_critics(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        leaf = (0 * _lengths(steep)[:, None, None, None] * steep.direction).requires_grad_()
        value = steep.value(leaf)
        reached = _reached(value, leaf)
        if not value.isfinite() or (reached is not None and not reached.isfinite().all()):
            worst = "none" if reached is None else f"{reached.abs().max().item():.3g}"
            raise Refuted(
                f"where grad L = 0 the loss is {value.item():.6g} and its gradient {worst}: the root of a sum of"
                " squares has none at 0; torch.linalg.vector_norm has 0",
                value=value.item(), gradient=worst,
            )  # fmt: skip


def one_norm_of_the_image(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        order = torch.randperm(steep.direction.numel(), generator=stream(subject.seed, "order"))
        moved = replace(steep, direction=steep.direction.flatten()[order].view(stand_ins.IMAGE))
        ours, theirs = steep.penalty(_lengths(steep)), moved.penalty(_lengths(steep))
        if not _close(ours, theirs):
            raise Refuted(
                f"the penalty is {ours:.6g}, and {theirs:.6g} where the numbers of grad L stand at other pixels and"
                " channels: its norm is not over all of them (flatten(1) first)",
                penalty=ours, rearranged=theirs,
            )  # fmt: skip


def mean_of_one_norm_each(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        lengths = _lengths(steep, *(0.5 * i for i in range(1, PAIRS + 1)))
        together = steep.penalty(lengths)
        alone = sum(steep.penalty(lengths[i : i + 1], slice(i, i + 1)) for i in range(PAIRS)) / PAIRS
        if not _close(together, alone):
            raise Refuted(
                f"of {PAIRS} images of different ||grad L|| the penalty is {together:.6g}, the mean of the penalties of"
                f" each alone {alone:.6g}: one norm an image, its penalty, then the mean",
                together=together, alone=alone,
            )  # fmt: skip


def of_the_gradient_alone(subject: Subject, settings: Settings) -> None:
    levels = (0.0, 0.0), (-3.0, 3.0), (3.0, -3.0)
    for steep in steep_games(subject, settings):
        at_rest, right, wrong = (
            steep.penalty(_lengths(steep), on_real=on_real, on_fake=on_fake) for on_real, on_fake in levels
        )
        if not (_close(at_rest, right) and _close(at_rest, wrong)):
            raise Refuted(
                f"with one and the same grad L the penalty is {at_rest:.6g} where L = 0, {right:.6g} where the critic"
                f" is right and {wrong:.6g} where it is wrong: it is of a function of L, not of L",
                at_rest=at_rest, right=right, wrong=wrong,
            )  # fmt: skip


def falls_with_the_gradient(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        lower, higher = (steep.penalty(STEEPNESS * factor * _lengths(steep)) for factor in (2, 8))
        if higher < lower:
            raise Refuted(
                f"the loss falls by {lower - higher:.6g} as ||grad L|| rises from {4 * STEEPNESS:g} to"
                f" {16 * STEEPNESS:g}: a reward, not a penalty; its sign?",
                lower=lower, higher=higher,
            )  # fmt: skip


def a_place_of_its_own_on_each_segment(subject: Subject, settings: Settings) -> None:
    for steep in steep_games(subject, settings):
        places = _points(steep, steep.real, steep.fake)
        of_real = _points(steep, steep.real, steep.fake.roll(1, 0) * 0.7)
        of_fake = _points(steep, steep.real.roll(1, 0) * 0.7, steep.fake)
        for points, other_fake, other_real in zip(places, of_real, of_fake, strict=True):
            if points.equal(other_fake) or points.equal(other_real):
                continue  # at the real images or about them, at the generated ones or about them
            along = (steep.real - steep.fake).flatten(1)
            reached = (points - steep.fake).flatten(1)
            place = (reached * along).sum(dim=1) / along.square().sum(dim=1)  # (N,)
            off = (reached - place[:, None] * along).norm(dim=1).max().item()
            if off > 1e-6:
                raise Refuted(
                    f"a gradient is taken {off:.3g} off the segment from x to G(z): one epsilon a pair, (N, 1, 1, 1)",
                    off=off,
                )
            if place.min() < -1e-6 or place.max() > 1 + 1e-6:
                outside = float(place[(place - 0.5).abs().argmax()])
                raise Refuted(
                    f"a gradient is taken at epsilon = {outside:.4g}, beyond the segment from x to G(z): epsilon is"
                    " uniform in [0, 1]",
                    epsilon=outside,
                )
            if place.max() - place.min() < 1e-9 and not _midway(steep, points):
                raise Refuted(
                    f"all {PAIRS} pairs have the epsilon {place[0].item():.4g}: one each, (N, 1, 1, 1)",
                    epsilon=place[0].item(), pairs=PAIRS,
                )  # fmt: skip


def _midway(steep: Steep, points: Tensor) -> bool:
    """At a place that is not random at all."""
    return any(points.equal(others) for others in _points(steep, steep.real, steep.fake, seed=1))


def _points(steep: Steep, real: Tensor, fake: Tensor, seed: int = 0) -> list[Tensor]:
    """Where grad L is taken under this torch seed, PAIRS images a batch."""
    steep.points.clear()
    gradients = _lengths(steep)[:, None, None, None] * steep.direction
    evaluated(steep.loss, steep.critic(gradients), real, fake, (seed,))
    return [part for batch in steep.points for part in torch.split(batch, PAIRS)]


def beside_a_whole_loss(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    if Need.ALONE in game.needs:
        raise Skipped("no generator plays")
    steep_games(subject, settings)
    found = [_stakes(game, subject, draw) for draw in range(4)]
    (critic, generator), *others = found
    linear = all(abs(critic - c) + abs(generator - g) <= 1e-9 for c, g in others)  # not where they are NaN
    if not linear or generator <= 0 or critic <= 0:
        raise Skipped("its losses are not linear in L")
    if not _close(critic, generator):
        raise Refuted(
            f"beside its penalty critic_loss moves by {critic:.6g} with L(G(z)), generator_loss by {generator:.6g}: as"
            f" good as a penalty of {generator / critic:.6g} times the weight; put the factor into the weight",
            critic=critic, generator=generator,
        )  # fmt: skip


def _stakes(game: Objective, subject: Subject, draw: int) -> tuple[float, float]:
    """-dS/dL and dT/dL, summed over generated images, at random values of L; NaN where one image counts for more."""
    lift = 4.0 if game.needs & {Need.NON_NEGATIVE, Need.LABELS} else 0.0
    on_real, on_fake = (
        3 * torch.randn(PAIRS, generator=stream(subject.seed, "stakes", draw, side), dtype=torch.float64)
        for side in ("real", "fake")
    )
    if lift:
        on_real, on_fake = on_real.abs() + 0.1, on_fake.abs() + 0.1
    _, _, critic = slopes(game.critic_loss, on_real, on_fake)
    _, _, generator = slopes(game.generator_loss, on_real, on_fake)
    if critic.max() - critic.min() > 1e-9 or generator.max() - generator.min() > 1e-9:
        return float("nan"), float("nan")
    return float(-critic.sum()), float(generator.sum())


_LAWS = (
    ("a gradient penalty trains the critic", trains_the_critic),
    ("a gradient penalty is finite where grad L = 0, its gradient too", finite_on_flat_critics),
    ("a gradient penalty takes one norm of the whole image", one_norm_of_the_image),
    ("a gradient penalty is the mean of one for each image", mean_of_one_norm_each),
    ("a gradient penalty is of grad L, whatever L is", of_the_gradient_alone),
    ("a gradient penalty does not reward steepness", falls_with_the_gradient),
    ("a gradient penalty between images: a random place on each segment", a_place_of_its_own_on_each_segment),
    ("a gradient penalty stands beside a whole critic loss, not half of it", beside_a_whole_loss),
)  # fmt: skip
FIRST = 22

PENALTIES = tuple(Check(f"objective-{i}", "objective", title, True, law) for i, (title, law) in enumerate(_LAWS, FIRST))
