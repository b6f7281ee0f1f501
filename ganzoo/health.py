"""How a training fared beyond its figure: what its critic and generator did at the end, in numbers with alarms.

All is measured after the last round, in eval mode, on training images paired with images generated from z that
belong to the seed; the networks are left as they were and nothing is drawn that a training draws.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.game import Critic
from ganzoo.penalty import input_gradient

SATURATED = 0.999
"""|pixel| from which tanh passes less than a 500th of a gradient on: 1 - tanh^2 = 0.002 there."""


class Health(NamedTuple):
    """Of one training, at its end."""

    violation_rate: float
    """The share of pairs (x, G(z)) with Delta(x, G(z)) + L(x) - L(G(z)) > 0, in [0, 1]: those at which the cost's
    argument is positive, so that LS-GAN's critic still learns from them (Qi 2017, eq. 6). Of an objective without a
    margin Delta = 0: the share of pairs that the critic ranks wrongly."""
    mean_margin: float | None
    """The mean of Delta(x, G(z)) over the pairs, in units of the critic's output; None without a margin."""
    critic_gap: float
    """E L(G(z)) - E L(x) on training images, in units of the critic's output: how far apart it holds them; of a critic
    whose Lipschitz constant is kappa at most kappa times the Wasserstein-1 distance (Kantorovich's duality)."""
    critic_gap_test: float
    """The same on test images: a critic that remembers its training images has a smaller one here."""
    dead_outputs: float
    """The share of the real and generated images at which grad_x L(x) is exactly 0, in [0, 1]: there the critic teaches
    the generator nothing. A ReLU at the critic's end does it (the authors' code has one)."""
    generator_gradient: float
    """||grad_phi T||_2 over all of the generator's parameters (Qi 2017, figure 5), on these pairs."""
    saturation: float
    """The share of generated pixels with |G(z)| above 0.999, in [0, 1], where tanh passes hardly any gradient on."""


def health(
    critic: Critic,
    generator: nn.Module,
    real: Tensor,
    fake: Tensor,
    *,
    on_test: Tensor,
    margin: Tensor | None,
    generator_loss: Callable[[], Tensor],
) -> Health:
    """Health of the critic at real and generated images, which pair up by index: both (N, C, H, W) in [-1, 1].

    `on_test`: (M,), L of images that were not trained on. `margin`: (N,), Delta of the pairs. `generator_loss` makes T
    with a graph to the generator's parameters. The networks stay in the mode they are in (eval mode is meant), no
    `.grad` is written. Raises UserError for images that do not pair up.
    """
    if real.shape != fake.shape or real.dim() != 4 or not len(real) or not len(on_test):
        raise UserError(
            f"real images {tuple(real.shape)} and generated ones {tuple(fake.shape)} are no pairs (N, C, H, W)"
        )
    if margin is not None and margin.shape != real.shape[:1]:
        raise UserError(f"the margin has shape {tuple(margin.shape)}, not ({len(real)},), one a pair")
    with torch.no_grad():
        on_real, on_fake = critic(real).double(), critic(fake).double()  # (N,)
        violation = on_real - on_fake + (0 if margin is None else margin.double())  # (N,)
    with torch.enable_grad():
        gradients = [input_gradient(critic, part.detach()).detach() for part in (real, fake)]
    steepest = torch.cat([gradient.abs().amax(dim=1) for gradient in gradients])  # (2 N,)
    return Health(
        violation_rate=float((violation > 0).double().mean()),
        mean_margin=None if margin is None else float(margin.double().mean()),
        critic_gap=float(on_fake.mean() - on_real.mean()),
        critic_gap_test=float(on_fake.mean() - on_test.double().mean()),
        dead_outputs=float((steepest == 0).double().mean()),
        generator_gradient=gradient_norm(generator, generator_loss),
        saturation=float((fake.abs() > SATURATED).double().mean()),
    )


def gradient_norm(network: nn.Module, loss: Callable[[], Tensor]) -> float:
    """||grad loss||_2 over all parameters of the network together; those that the loss does not reach count as 0."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        found: Sequence[Tensor | None] = torch.autograd.grad(loss(), parameters, allow_unused=True)
    return math.sqrt(sum(float(g.double().square().sum()) for g in found if g is not None))


NEAREST_AT_ONCE = 2048
"""Training images whose distances are taken at a time."""


def nearest(known: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the nearest known image and its distance, mean |x - x'|, pixels in [-1, 1], for each of the images.

    (M, C, H, W) and (n, C, H, W) uint8 -> (n,) int64 and (n,) float64; the first of several that are equally near.
    Raises UserError where there are none, or of other shapes.
    """
    if not len(known) or known.shape[1:] != images.shape[1:]:
        raise UserError(f"known images {tuple(known.shape)} and images {tuple(images.shape)} cannot be compared")
    x = images.flatten(1).float()
    least = torch.full((len(x),), torch.inf)
    place = torch.zeros(len(x), dtype=torch.int64)
    for start in range(0, len(known), NEAREST_AT_ONCE):
        part = known[start : start + NEAREST_AT_ONCE].to(x.device).flatten(1).float()
        distance, index = torch.cdist(x, part, p=1).min(dim=1)  # grey levels, summed: exact in float32 up to 2^24
        nearer = distance < least
        place[nearer], least[nearer] = index[nearer] + start, distance[nearer]
    return place, least.double() / 127.5 / x.shape[1]


# Alarms


class Alarm(NamedTuple):
    """What a row shows that its reader should know before they trust its figure."""

    name: str
    level: Literal["alarm", "note"]
    """`alarm`: the figure may not mean what it seems to; `note`: worth knowing."""
    saw: str
    """What it saw, with the number."""
    cure: str
    """What to try."""


COLLAPSED = 0.5
"""Spread of the samples, as a share of the real images', below which they count as collapsed."""
POORLY_COVERED = 0.25
"""Coverage, as a share of what a perfect generator has, below which modes are missing."""
VANISHED = 1e-6
"""Norm of the generator's gradient below which it has stopped learning."""
DEAD = 0.1
"""Share of images without a gradient from which on it is told."""
BLUNT = 0.5
"""Control MRE, as a share of the test MRE, above which the search for z, not the generator, makes the figure."""
DRIFT = 1.1
"""Test MRE at the end against that of the best epoch from which on a training counts as having got worse."""
REMEMBERS = 0.2
"""Gap between test and training MRE, as a share of the test MRE, from which on a generator remembers."""


def alarms(row: dict[str, Any], expected_coverage: float | None = None) -> list[Alarm]:
    """What is wrong with one training, by its row. `expected_coverage`: a perfect generator's.

    Each threshold is a rule of thumb of this module, named and told with the figure.
    """
    verdict = str(row["verdict"])
    if verdict.startswith("diverged"):
        return [
            Alarm(
                "diverged", "alarm", f"{verdict}: {row.get('reason') or 'a loss was not finite'}",
                "lower both rates, or raise the penalty's weight; its seeds count as not finished",
            )
        ]  # fmt: skip
    if verdict != "done":
        return []
    found = [*_collapse(row.get("collapse") or {}, expected_coverage), *_players(row.get("health") or {})]
    return [*found, *_measured(row)]


def _collapse(seen: dict[str, Any], expected: float | None) -> list[Alarm]:
    found = []
    for key, where in (("spread", ""), ("least_spread", " within its poorest class")):
        spread = seen.get(key)
        if spread is not None and spread < COLLAPSED:
            found.append(
                Alarm(
                    "collapse", "alarm",
                    f"samples differ from one another by {spread:.2f} of what real images do{where}, below {COLLAPSED}",
                    "lower generator_rate or take more critic_steps; look at the samples of this seed",
                )
            )  # fmt: skip
            break
    coverage = seen.get("coverage")
    if not found and coverage is not None and expected and coverage < POORLY_COVERED * expected:
        found.append(
            Alarm(
                "coverage", "note",
                f"samples come near {coverage:.0%} of the test images, a perfect generator near {expected:.0%}",
                "train longer, or widen the generator; of large images pixel distances say little",
            )
        )  # fmt: skip
    return found


def _players(seen: dict[str, Any]) -> list[Alarm]:
    found = []
    rate, margin = seen.get("violation_rate"), seen.get("mean_margin")
    if rate is not None and margin is not None and rate >= 0.99:
        found.append(
            Alarm(
                "always violated", "note",
                f"{rate:.0%} of pairs violate their margin (mean margin {margin:.3g}): every cost is its straight half"
                " there, and costs cannot be told apart",
                "lower the margin's scale, or let the critic grow steeper (a smaller penalty_weight)",
            )
        )  # fmt: skip
    if rate is not None and margin is not None and rate == 0:
        found.append(
            Alarm(
                "never violated", "note",
                f"no pair violates its margin (mean margin {margin:.3g}): only the cost's negative half and the penalty"
                " still teach the critic",
                "raise the margin's scale, or the penalty_weight",
            )
        )  # fmt: skip
    dead = seen.get("dead_outputs")
    if dead is not None and dead >= DEAD:
        found.append(
            Alarm(
                "dead outputs", "alarm",
                f"at {dead:.0%} of the images the critic's gradient is exactly 0 and teaches the generator nothing",
                "end the critic without a ReLU (softplus where L >= 0 is needed), lower critic_rate",
            )
        )  # fmt: skip
    gradient = seen.get("generator_gradient")
    if gradient is not None and gradient < VANISHED:
        found.append(
            Alarm(
                "vanished gradient", "alarm", f"||grad_phi T|| = {gradient:.1e}: the generator no longer learns",
                "fewer critic_steps, a gradient penalty, or an objective whose T does not saturate",
            )
        )  # fmt: skip
    saturation = seen.get("saturation")
    if saturation is not None and saturation > 0.9:
        found.append(
            Alarm(
                "saturated", "note", f"{saturation:.0%} of the generated pixels are black or white, where tanh is flat",
                "lower generator_rate, or the initial weights (generator.init_std)",
            )
        )  # fmt: skip
    gap, on_test = seen.get("critic_gap"), seen.get("critic_gap_test")
    if gap is not None and on_test is not None and gap > 0 and on_test < gap / 2:
        found.append(
            Alarm(
                "critic remembers", "note",
                f"it holds training images {gap:.3g} from generated ones, test images only {on_test:.3g}",
                "more training images, a larger penalty_weight, or fewer epochs",
            )
        )  # fmt: skip
    return found


def _measured(row: dict[str, Any]) -> list[Alarm]:
    found = []
    error, control = row.get("test_mre"), row.get("control_mre")
    if error and control is not None and control > BLUNT * error:
        found.append(
            Alarm(
                "blunt instrument", "alarm",
                f"the search leaves {control:.4f} of the generator's own images, {control / error:.0%} of the test MRE",
                "more steps or restarts: --set test_mre.restarts=16",
            )
        )  # fmt: skip
    last = row.get("test_mre_last")
    if error and last is not None and last > DRIFT * error:
        found.append(
            Alarm(
                "got worse", "note",
                f"test MRE {last:.4f} at the end, {error:.4f} at the best epoch ({row.get('best_epoch')})",
                "train for fewer epochs, or let the rates decay sooner",
            )
        )  # fmt: skip
    if error and (row.get("gap") or 0) > REMEMBERS * error:
        found.append(
            Alarm(
                "remembers", "note", f"test MRE is {row['gap']:.4f} above training MRE, {row['gap'] / error:.0%} of it",
                "more training images, a narrower generator, fewer epochs",
            )
        )  # fmt: skip
    if row.get("settled") is False:
        found.append(
            Alarm(
                "not settled", "note", "its validation MRE varied by 5 % or more over the last fifth of the epochs",
                "more epochs, or validate_every smaller, so that it can be told",
            )
        )  # fmt: skip
    return found
