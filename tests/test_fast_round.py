"""The fast form of a round against the plain one, for every objective and penalty: losses and gradients, in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganzoo.config import Cell
from ganzoo.game import Critic, Need
from ganzoo.heads import Asked, BoundCritic, asked_of, head_of, plain
from ganzoo.party import read_data
from ganzoo.penalty import fake_gradient, small_gradient, unit_gradient
from ganzoo.randomness import seeded
from ganzoo.train import Training
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
GAMES: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {}),
    ("dcgan", {"critic.norm": "batch"}),
    ("wgan", {}),
    ("wgan-gp", {}),
    ("ls-gan", {}),
    ("ls-gan:balance=2.0", {}),
    ("gls-gan:cost=elu", {"generator.norm": "none"}),
    ("gls-gan:theta_penalty=0.1,feature_matching=1.0", {}),
    ("cls-gan", {}),
    ("conditional-gan:feature_matching=1.0", {"labels.per_class": 3}),
    ("rpgan", {}),
    ("ragan:r2=0.5", {}),
    ("ebgan:r1=0.5,r2=2,dragan=1", {}),
]
IMAGE = (1, 8, 8)


def in_double(cell: Cell, zoo: Zoo) -> Training:
    one = Training(cell, zoo, read_data(cell.settings.data))
    one.players.generator.double()
    one.players.critic.double()
    return one


def gradients(network: nn.Module, loss: Tensor) -> list[Tensor]:
    return [g for g in torch.autograd.grad(loss, list(network.parameters()), allow_unused=True) if g is not None]


def as_usual(critic: nn.Module, needs: frozenset[Need], labels: Tensor | None) -> Critic:
    """L by torch alone: a plain function, whose gradient penalties take autograd's way."""
    head = head_of(needs)
    return lambda x: head(critic(x), labels)


@pytest.mark.parametrize(("objective", "changes"), GAMES)
def test_the_critics_step_has_the_plain_losses_gradients(
    objective: str, changes: dict[str, Any], one_cell: MakeCell, zoo: Zoo
) -> None:
    one = in_double(one_cell(objective, **changes), zoo)
    critic = one.players.critic
    real, labels = one.batches[0]
    labels = labels if one.players.classes else None
    real = real.double().contiguous(memory_format=torch.channels_last)
    fake = one._fake(one.noise("critic", 0).double(), real, labels)
    slow: Any = as_usual(critic, one.needs, labels)
    if "theta_penalty" in objective:
        slow = BoundCritic(critic, plain)  # bare functions show no parameters
    with seeded("epsilon"):
        fast_loss = one.game.critic_loss(one._ready(real, fake, labels), real, fake)
    with seeded("epsilon"):
        slow_loss = one.game.critic_loss(slow, real, fake)
    torch.testing.assert_close(fast_loss, slow_loss, rtol=1e-10, atol=1e-12)
    found, wanted = gradients(critic, fast_loss), gradients(critic, slow_loss)
    assert len(found) == len(wanted) == len(list(critic.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("objective", "changes"), GAMES)
def test_the_generators_step_has_the_plain_losses_gradients(
    objective: str, changes: dict[str, Any], one_cell: MakeCell, zoo: Zoo
) -> None:
    one = in_double(one_cell(objective, **changes), zoo)
    generator, critic = one.players.generator, one.players.critic
    real, labels = one.batches[0]
    real, labels = real.double(), labels if one.players.classes else None
    z = one.noise("generator", 0).double()
    inputs = z
    if labels is not None:
        inputs = torch.cat([z, nn.functional.one_hot(labels, one.players.classes).double()], dim=1)
    bound = BoundCritic(critic, head_of(one.needs), labels)  # feature matching wants one
    fast = one.game.generator_loss(one.players.loss(labels), real, one.players.generate(z, labels))
    slow = one.game.generator_loss(bound, real, generator(inputs))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(generator, fast), gradients(generator, slow), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("objective", "passes"),
    [
        ("dcgan", 1),
        ("wgan", 1),
        ("ls-gan", 2),
        ("wgan-gp", 2),
        ("ls-gan:penalty_weight=0.0", 1),
        ("supervised", 1),
        ("rpgan", 2),
        ("hinge:r2=1", 2),
        ("hinge:r1=1", 2),
        ("hinge:r1=1,dragan=1", 3),
    ],
)
def test_a_critic_step_takes_as_few_passes_as_there_are(
    objective: str, passes: int, one_cell: MakeCell, zoo: Zoo
) -> None:
    changes = {"measure": "accuracy"} if objective == "supervised" else {}
    one = Training(cell := one_cell(objective, **changes), zoo, read_data(cell.settings.data))
    seen: list[int] = []
    one.players.critic.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    real, labels = one.batches[0]
    fake = torch.zeros_like(real)
    one.game.critic_loss(one._ready(real, fake, labels), real, fake)
    assert len(seen) == passes


def test_images_with_batch_statistics_are_not_seen_together(one_cell: MakeCell, zoo: Zoo) -> None:
    one = Training(cell := one_cell("dcgan", **{"critic.norm": "batch"}), zoo, read_data(cell.settings.data))
    real, labels = one.batches[0]
    assert one._ready(real, torch.zeros_like(real), labels).seen == ()


def test_what_a_loss_asks_is_heard() -> None:
    def of(loss: Callable[[Critic, Tensor, Tensor], Tensor]) -> Asked:
        return asked_of(loss, plain, IMAGE, 0)

    assert of(lambda critic, real, fake: critic(real).mean()) == Asked()
    assert of(lambda critic, real, fake: (critic(real) - critic(fake)).mean()) == Asked(both=True)
    assert of(lambda critic, real, fake: critic(real + 0).mean() - critic(fake).mean()) == Asked()
    assert of(small_gradient) == Asked(gradient=True, gradient_at_real=True)
    assert of(fake_gradient) == Asked(gradient=True, gradient_at_fake=True)
    assert of(unit_gradient) == Asked(gradient=True, draws=True)
    unheard = of(lambda critic, real, fake: critic.network.weight.sum())  # type: ignore[attr-defined]
    assert unheard[:4] == (False, True, False, True)
    assert "AttributeError: 'Identity' object has no attribute 'weight'" in unheard.unheard
