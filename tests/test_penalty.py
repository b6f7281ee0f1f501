"""Gradient penalties against closed forms, finite differences, and what they must leave alone."""

import pytest
import torch
from torch import Tensor, nn

from ganzoo import Critic, Need, Objective, Zoo, penalized, small_gradient, unit_gradient
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
