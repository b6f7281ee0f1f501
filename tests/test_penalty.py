"""Gradient penalties against closed forms, finite differences, and what they must leave alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganzoo import (
    BoundCritic,
    Critic,
    Need,
    Objective,
    UserError,
    Zoo,
    class_loss,
    penalized,
    small_gradient,
    small_theta_gradient,
    unit_gradient,
)
from ganzoo.heads import non_negative, plain
from ganzoo.penalty import Penalty, input_gradient
from ganzoo.randomness import seeded, stream

SHAPE = (3, 8, 8)
PENALTIES = [small_gradient, unit_gradient]


def images(seed: int, count: int = 5, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    random = stream("test-penalty", seed)
    real, fake = torch.rand(2, count, *shape, generator=random, dtype=torch.float64) * 2 - 1
    return real, fake


def norm_free(seed: int) -> nn.Module:
    with seeded("test-penalty", "critic", seed):
        critic: nn.Module = Zoo.installed().critic("dcgan", width=4, init_std=0.3)(SHAPE, 1)
    return critic.double()


class Linear(nn.Module):
    """L(x) = <w, x>."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SHAPE, generator=stream("linear", seed), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(dim=1)


def half_square(x: Tensor) -> Tensor:
    """L(x) = ||x||^2 / 2, whose gradient is x."""
    return x.square().flatten(1).sum(dim=1) / 2


def theta_gradient(value: Tensor, critic: nn.Module) -> Tensor:
    """All in one vector; a bias has no part in the gradient in x of a piecewise linear critic."""
    gradients = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("seed", range(3))
def test_unit_gradient_of_a_linear_critic_is_its_weight_s_distance_from_norm_1(seed: int) -> None:
    critic, (real, fake) = Linear(seed), images(seed)
    torch.testing.assert_close(unit_gradient(critic, real, fake), (critic.weight.norm() - 1).square())


@pytest.mark.parametrize("seed", range(3))
def test_small_gradient_of_a_linear_critic_is_half_its_weight_s_square(seed: int) -> None:
    critic, (real, fake) = Linear(seed), images(seed)
    torch.testing.assert_close(small_gradient(critic, real, fake), critic.weight.square().sum() / 2)
    gradient = theta_gradient(small_gradient(critic, real, fake), critic)
    torch.testing.assert_close(gradient, critic.weight.detach().flatten())


@pytest.mark.parametrize("seed", range(3))
def test_small_gradient_takes_one_norm_a_sample_over_pixels_and_channels(seed: int) -> None:
    real, fake = images(seed)
    by_hand = sum(float(x.norm()) ** 2 / 2 for x in real) / len(real)
    assert small_gradient(half_square, real, fake).item() == pytest.approx(by_hand, rel=1e-12)


def test_unit_gradient_takes_one_norm_a_sample_over_pixels_and_channels() -> None:
    real, _ = images(0)
    real = real * torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)[:, None, None, None]
    by_hand = sum((float(x.norm()) - 1) ** 2 for x in real) / len(real)
    assert unit_gradient(half_square, real, real).item() == pytest.approx(by_hand, rel=1e-12)


def test_the_input_gradient_is_that_of_each_sample_alone() -> None:
    critic, (real, _) = norm_free(0), images(0)
    together = input_gradient(critic, real)
    assert together.shape == (5, 3 * 8 * 8)
    torch.testing.assert_close(together, torch.cat([input_gradient(critic, x[None]) for x in real]))


def test_unit_gradient_looks_at_one_point_of_the_segment_of_each_pair() -> None:
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return half_square(x)

    real, fake = images(1, count=400)
    with seeded("segments"):
        unit_gradient(critic, real, fake)
    (between,) = seen
    epsilon = ((between - fake) / (real - fake)).flatten(1)
    torch.testing.assert_close(epsilon, epsilon[:, :1].expand_as(epsilon), atol=1e-8, rtol=0)
    t = epsilon[:, 0]
    assert 0 <= t.min() < 0.05
    assert 0.95 < t.max() <= 1
    assert abs(t.mean() - 0.5) < 0.06
    assert abs(t.var() - 1 / 12) < 0.02


def test_unit_gradient_repeats_with_torch_s_seed_and_draws_anew_without() -> None:
    real, fake = images(2)
    values = []
    for name in ("a", "a", "b"):
        with seeded(name):
            values.append(unit_gradient(half_square, real, fake).item())
    assert values[0] == values[1] != values[2]


def test_small_gradient_looks_at_the_real_images_only() -> None:
    real, fake = images(3)
    assert torch.equal(small_gradient(half_square, real, fake), small_gradient(half_square, real, 2 * fake))


def test_small_gradient_of_weight_1_is_r1_with_gamma_1() -> None:
    critic, (real, fake) = norm_free(4), images(4)

    def r1(logits: Tensor, x: Tensor, gamma: float) -> Tensor:  # Mescheder et al. 2018, eq. 9, on D = sigmoid(-L)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gamma / 2 * gradient.pow(2).reshape(len(x), -1).sum(1).mean()

    x = real.clone().requires_grad_(True)
    expected = r1(-critic(x), x, gamma=1.0)
    game = penalized(Objective(lambda critic, real, fake: critic(real).sum() * 0), small_gradient, 1.0)
    found = game.critic_loss(critic, real, fake)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(theta_gradient(found, critic), theta_gradient(expected, critic))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_gradient_in_theta_is_that_of_finite_differences(penalty: Penalty) -> None:
    """In random directions, so that each weight takes part; LeakyReLU's kinks have no second derivative to see."""
    critic, (real, fake) = norm_free(5), images(5)
    parameters = list(critic.parameters())

    def value() -> Tensor:
        with seeded("same draw"):
            return penalty(critic, real, fake)

    gradients = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    assert sum(float(g.abs().sum()) for g in gradients) > 0.01
    random, step = stream("directions"), 1e-6
    for _ in range(5):
        directions = [torch.randn(p.shape, generator=random, dtype=p.dtype) for p in parameters]
        predicted = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p += sign * step * d
            values.append(value().item())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += step * d
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(predicted, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_leaves_no_grad_and_asks_none_of_its_inputs(penalty: Penalty) -> None:
    critic, (real, fake) = norm_free(6), images(6)
    assert penalty(critic, real, fake).requires_grad
    assert all(p.grad is None for p in critic.parameters())
    for x in (real, fake):
        assert x.grad is None
        assert not x.requires_grad


@pytest.mark.parametrize("penalty", PENALTIES)
def test_no_gradient_of_a_penalty_reaches_the_generator(penalty: Penalty) -> None:
    critic, (real, fake) = norm_free(7), images(7)
    fake.requires_grad_(True)
    penalty(critic, real, fake).backward()
    assert fake.grad is None


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_has_its_value_under_no_grad_too(penalty: Penalty) -> None:
    critic, (real, fake) = norm_free(8), images(8)
    with seeded("same"):
        expected = penalty(critic, real, fake)
    with seeded("same"), torch.no_grad():
        found = penalty(critic, real, fake)
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_critic_that_is_flat_has_a_finite_gradient(penalty: Penalty) -> None:
    critic, (real, fake) = norm_free(9), images(9)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.zero_()
    value = penalty(critic, real, fake)
    assert value.item() == (0.0 if penalty is small_gradient else 1.0)
    gradients = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    assert all(g.isfinite().all() for g in gradients)


def game() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean() - critic(fake).mean()

    return Objective(critic_loss, needs=frozenset({Need.LABELS}))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_of_weight_0_returns_the_same_game(penalty: Penalty) -> None:
    plain = game()
    assert penalized(plain, penalty, 0.0) is plain


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_a_penalized_game_adds_weight_times_the_penalty(weight: float) -> None:
    critic, (real, fake), plain = norm_free(10), images(10), game()
    heavy = penalized(plain, small_gradient, weight)
    expected = plain.critic_loss(critic, real, fake) + weight * small_gradient(critic, real, fake)
    torch.testing.assert_close(heavy.critic_loss(critic, real, fake), expected, rtol=0, atol=0)


def test_a_penalized_game_needs_a_per_sample_critic_besides_what_it_needed() -> None:
    plain = game()
    heavy = penalized(plain, small_gradient, 1.0)
    assert heavy.needs == {Need.LABELS, Need.PER_SAMPLE}
    assert heavy[1:4] == plain[1:4]  # generator's loss, constraint and recipe are untouched
    assert plain.needs == {Need.LABELS}


# Penalty (II): in theta


def with_labels(seed: int, weight_norm: bool = False, network: str = "dcgan") -> BoundCritic:
    more = {"weight_norm": True, "norm": "none"} if weight_norm else {"norm": "none"}
    with seeded("test-penalty", "classes", seed):
        critic: nn.Module = Zoo.installed().critic(network, width=2, init_std=0.3, **more)(SHAPE, 4)
    return BoundCritic(critic.double(), class_loss, torch.arange(5) % 4)


CRITICS = {
    "convolutions": lambda seed: BoundCritic(norm_free(seed), plain),
    "through softplus": lambda seed: BoundCritic(norm_free(seed), non_negative),
    "bound to labels": with_labels,
    "weight-normalised": lambda seed: with_labels(seed, weight_norm=True, network="table-1"),
}
kinds = pytest.mark.parametrize("kind", CRITICS)


def sample_by_sample(critic: BoundCritic, real: Tensor) -> Tensor:
    """1/2 E ||grad_theta L(x)||^2 by a backward pass for each image."""
    parameters, total = list(critic.network.parameters()), torch.zeros((), dtype=torch.float64)
    for i in range(len(real)):
        label = None if critic.labels is None else critic.labels[i : i + 1]
        loss = critic.head(critic.network(real[i : i + 1]), label).squeeze()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        for gradient in gradients:
            total = total + gradient.square().sum() / 2
    return total / len(real)


@kinds
@pytest.mark.parametrize("seed", range(2))
def test_penalty_ii_is_the_mean_square_of_each_sample_s_gradient_in_theta(kind: str, seed: int) -> None:
    critic, (real, fake) = CRITICS[kind](seed), images(seed)
    found, expected = small_theta_gradient(critic, real, fake), sample_by_sample(critic, real)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)
    assert found > 1e-3
    if kind == "weight-normalised":
        return  # torch's own gradient of this is wrong; see below
    parameters = list(critic.network.parameters())
    gradients = [
        torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True) for value in (found, expected)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])


def smooth(normalised: int | str | None) -> BoundCritic:
    """At LeakyReLU's kinks a gradient in theta jumps. `normalised`: the `dim` of torch's weight norm, or "no"."""
    with seeded("test-penalty", "smooth"):
        layers: list[nn.Module] = [nn.Linear(192, 6), nn.Linear(6, 4)]
        if normalised != "no":
            layers = [nn.utils.parametrizations.weight_norm(layer, dim=normalised) for layer in layers]
        network = nn.Sequential(nn.Flatten(), layers[0], nn.Softplus(), layers[1]).double()
    return BoundCritic(network, class_loss, torch.arange(5) % 4)


def along(critic: BoundCritic, value: Callable[[], Tensor], name: str) -> tuple[float, float]:
    """The derivative of the value in a random direction of theta: by autograd, and by finite differences."""
    parameters = list(critic.network.parameters())
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
    random, step = stream(name), 1e-6
    directions = [torch.randn(p.shape, generator=random, dtype=p.dtype) for p in parameters]
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
        values.append(value().item())
    predicted = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    return predicted, (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("penalty", [small_theta_gradient, small_gradient])
@pytest.mark.parametrize("normalised", ["no", 0, 1, None])
def test_the_gradient_of_a_penalty_is_right_through_weight_norm(normalised: Any, penalty: Penalty) -> None:
    """Penalty (II) differentiates g v / ||v|| twice, which torch's own does wrongly."""
    critic, (real, fake) = smooth(normalised), images(5)
    predicted, found = along(critic, lambda: penalty(critic, real, fake), "theta directions")
    assert found == pytest.approx(predicted, rel=1e-5)
    assert abs(found) > 1e-2


def test_penalty_ii_of_the_table_1_critic_is_right_through_weight_norm() -> None:
    """Its LeakyReLUs bent into softplus: `table-1` with weight normalisation is what the paper classifies with."""
    critic, (real, fake) = with_labels(7, weight_norm=True, network="table-1"), images(7)
    for i, layer in enumerate(critic.network):
        if isinstance(layer, nn.LeakyReLU):
            critic.network[i] = nn.Softplus()
    predicted, found = along(critic, lambda: small_theta_gradient(critic, real, fake), "table-1")
    assert found == pytest.approx(predicted, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_penalty_ii_of_a_linear_critic_is_half_the_mean_square_of_the_images_and_1(seed: int) -> None:
    """L(x) = <w, x> + b: its gradient in (w, b) is (x, 1), whatever they are."""
    real, fake = images(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Flatten(0)).double()
    by_hand = sum((sum(p * p for p in x.flatten().tolist()) + 1) / 2 for x in real) / len(real)
    found = small_theta_gradient(BoundCritic(network, plain), real, fake)
    assert found.item() == pytest.approx(by_hand, rel=1e-12)
    assert not found.requires_grad  # it moves no weight


def test_penalty_ii_is_one_norm_a_sample_and_not_that_of_the_mean() -> None:
    """Two images whose gradients cancel: their mean has none."""
    x = images(0)[0][:1]
    network = Linear(0)
    real = torch.cat([x, -x])
    found = small_theta_gradient(BoundCritic(network, plain), real, real)
    assert found.item() == pytest.approx(float(x.square().sum()) / 2)
    (of_mean,) = torch.autograd.grad(network(real).mean(), list(network.parameters()))
    assert of_mean.abs().max() < 1e-12


def test_penalty_ii_looks_at_the_real_images_only_and_reaches_none() -> None:
    critic, (real, fake) = CRITICS["bound to labels"](1), images(1)
    real.requires_grad_(True)
    fake.requires_grad_(True)
    found = small_theta_gradient(critic, real, fake)
    assert torch.equal(found, small_theta_gradient(critic, real, 2 * fake))
    found.backward()
    assert real.grad is None
    assert fake.grad is None


def test_penalty_ii_has_its_value_under_no_grad_and_leaves_grad_alone() -> None:
    critic, (real, fake) = CRITICS["weight-normalised"](2), images(2)
    expected = small_theta_gradient(critic, real, fake)
    assert all(p.grad is None for p in critic.network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(small_theta_gradient(critic, real, fake), expected.detach())


def test_the_gradient_in_theta_has_a_row_an_image() -> None:
    critic, (real, _) = CRITICS["bound to labels"](3), images(3)
    gradient = critic.gradient_in_theta(real)
    assert gradient.shape == (5, sum(p.numel() for p in critic.network.parameters()))
    labels = critic.labels
    assert labels is not None
    for i in (0, 4):
        alone = BoundCritic(critic.network, class_loss, labels[i : i + 1]).gradient_in_theta(real[i : i + 1])
        torch.testing.assert_close(gradient[i : i + 1], alone)


def test_a_critic_without_weights_has_no_penalty_ii() -> None:
    real, fake = images(4)
    critic = BoundCritic(nn.Flatten(), lambda outputs, labels: outputs.sum(dim=1))
    assert small_theta_gradient(critic, real, fake).item() == 0.0


def test_penalty_ii_refuses_a_bare_function() -> None:
    real, fake = images(4)
    with pytest.raises(UserError, match=r"penalty \(II\) needs a critic whose parameters it can see.*not a function"):
        small_theta_gradient(half_square, real, fake)


def test_a_game_with_both_penalties_adds_both() -> None:
    plain_game, critic, (real, fake) = game(), CRITICS["convolutions"](6), images(6)
    both = penalized(penalized(plain_game, small_gradient, 0.3), small_theta_gradient, 0.02)
    expected = (
        plain_game.critic_loss(critic, real, fake)
        + 0.3 * small_gradient(critic, real, fake)
        + 0.02 * small_theta_gradient(critic, real, fake)
    )
    torch.testing.assert_close(both.critic_loss(critic, real, fake), expected)
    assert Need.PER_SAMPLE in penalized(plain_game, small_theta_gradient, 0.02).needs
    assert penalized(plain_game, small_theta_gradient, 0.0) is plain_game
