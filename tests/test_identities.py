"""The identities between objectives (PAPER, section 2), and each formula recomputed another way, in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo import Margin, Need, Objective, Recipe, Zoo, class_loss
from ganzoo.randomness import seeded, stream

ZOO = Zoo.installed()
SHAPE = (1, 8, 8)
N = 16
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
seeds = pytest.mark.parametrize("seed", range(4))


def cost_of(name: str, **hyperparameters: Any) -> Callable[[Tensor], Tensor]:
    return ZOO.cost(name, **hyperparameters)


def margin_of_both_signs() -> Margin:
    """Small enough that some violations are negative: else every cost would be the same."""
    return ZOO.margin("lp", scale=0.3)


def unused(*_: Any) -> Any:
    raise AssertionError("this objective takes none")


def objective(name: str, cost: Any = unused, margin: Any = None, **hyperparameters: Any) -> Objective:
    return ZOO.objective(name, cost, margin or margin_of_both_signs(), **hyperparameters)


def table(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Module, Tensor, Tensor]:
    """A small critic without norm, and pairs of images, all in float64."""
    with seeded("identities", seed):
        critic: nn.Module = ZOO.critic("dcgan", width=4, init_std=0.3)(shape, 1)
        real, fake = torch.rand(2, N, *shape, dtype=torch.float64) * 2 - 1
    return critic.double(), real, fake


def value_and_gradient(loss: Loss, critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(critic, real, fake)
    gradients = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    return value.detach(), torch.cat([g.flatten() for g in gradients])


def assert_same(one: Loss, other: Loss, seed: int, constant: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
    """Equal values (up to a constant in theta) and equal gradients in theta, neither of them trivial."""
    critic, real, fake = table(seed)
    value, gradient = value_and_gradient(one, critic, real, fake)
    value_of_other, gradient_of_other = value_and_gradient(other, critic, real, fake)
    if constant is not None:
        offset = constant(real, fake)
        assert offset.abs() > 0.01
        value_of_other = value_of_other + offset
    torch.testing.assert_close(value, value_of_other, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, gradient_of_other, rtol=1e-10, atol=1e-13)
    assert gradient.norm() > 1e-3


def violations(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    return margin_of_both_signs()(real, fake) + critic(real) - critic(fake)


@seeds
def test_the_pairs_of_these_tests_have_violations_of_both_signs(seed: int) -> None:
    a = violations(*table(seed))
    assert a.min() < -0.01
    assert a.max() > 0.01


# Between objectives


@seeds
@pytest.mark.parametrize(("cost", "hyperparameters"), [("leaky", {"slope": 0.0}), ("relu", {})])
def test_ls_gan_is_gls_gan_of_slope_0(seed: int, cost: str, hyperparameters: dict[str, float]) -> None:
    ls = objective("ls-gan", penalty_weight=0.0)
    gls = objective("gls-gan", cost_of(cost, **hyperparameters), penalty_weight=0.0)
    assert_same(ls.critic_loss, gls.critic_loss, seed)


@seeds
def test_ls_gan_is_gls_gan_of_slope_0_with_their_default_penalty_too(seed: int) -> None:
    assert_same(objective("ls-gan").critic_loss, objective("gls-gan", cost_of("leaky", slope=0.0)).critic_loss, seed)


@seeds
@pytest.mark.parametrize(("cost", "hyperparameters"), [("leaky", {"slope": 1.0}), ("identity", {})])
def test_gls_gan_of_slope_1_has_the_gradient_of_wgan(seed: int, cost: str, hyperparameters: dict[str, float]) -> None:
    """... and its value but for E Delta."""
    gls = objective("gls-gan", cost_of(cost, **hyperparameters), penalty_weight=0.0)
    assert_same(
        gls.critic_loss,
        objective("wgan").critic_loss,
        seed,
        constant=lambda real, fake: margin_of_both_signs()(real, fake).mean(),
    )


@seeds
def test_without_margin_gls_gan_of_slope_1_is_wgan(seed: int) -> None:
    gls = objective("gls-gan", cost_of("identity"), ZOO.margin("zero"), penalty_weight=0.0)
    assert_same(gls.critic_loss, objective("wgan").critic_loss, seed)


@seeds
def test_wgan_gp_without_penalty_is_wgan(seed: int) -> None:
    assert_same(objective("wgan-gp", penalty_weight=0.0).critic_loss, objective("wgan").critic_loss, seed)


@seeds
def test_slope_minus_1_is_the_absolute_value(seed: int) -> None:
    one, other = (objective("gls-gan", c, penalty_weight=0.0) for c in (cost_of("leaky", slope=-1.0), cost_of("abs")))
    assert_same(one.critic_loss, other.critic_loss, seed)


@seeds
def test_balanced_ls_gan_over_its_balance_tends_to_the_pairwise_term(seed: int) -> None:
    """What is left is E L(x) / balance, exactly."""
    critic, real, fake = table(seed)
    pairwise, gradient = value_and_gradient(objective("ls-gan", penalty_weight=0.0).critic_loss, critic, real, fake)
    first, first_gradient = value_and_gradient(lambda c, x, _: c(x).mean(), critic, real, fake)
    distances = []
    for balance in (1.0, 1e2, 1e4, 1e6):
        game = objective("ls-gan", balance=balance, penalty_weight=0.0)
        value, of_theta = value_and_gradient(game.critic_loss, critic, real, fake)
        torch.testing.assert_close(value, first + balance * pairwise, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(of_theta, first_gradient + balance * gradient, rtol=1e-10, atol=1e-9)
        distances.append(float((of_theta / balance - gradient).norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-5 * distances[0] * 1.01


@seeds
def test_a_different_slope_is_a_different_game(seed: int) -> None:
    """So the identities above can fail."""
    critic, real, fake = table(seed)
    games = [objective("gls-gan", cost_of("leaky", slope=s), penalty_weight=0.0) for s in (-1.0, 0.0, 0.5, 1.0)]
    values = [float(g.critic_loss(critic, real, fake).detach()) for g in games]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.01


@pytest.mark.parametrize("name", ["ls-gan", "gls-gan", "wgan", "wgan-gp", "cls-gan", "conditional-gan"])
def test_the_generator_s_step_minimises_the_expected_loss(name: str) -> None:
    critic, real, fake = table(0)
    fake.requires_grad_(True)
    loss = objective(name, cost_of("relu")).generator_loss(critic, real, fake)
    (gradient,) = torch.autograd.grad(loss, fake)
    expected = critic(fake).sum() / N
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, fake)[0])


# Each formula another way


def outputs(critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[list[float], list[float], list[list[float]]]:
    """L(x_i), L(G(z_i)) and the pixels' differences of each pair, as plain numbers."""
    with torch.no_grad():
        return critic(real).tolist(), critic(fake).tolist(), (real - fake).flatten(1).tolist()


@seeds
@pytest.mark.parametrize("balance", [0.5, 2.0])
def test_ls_gan_is_equation_4_in_plain_python(seed: int, balance: float) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake, differences = outputs(critic, real, fake)
    total = 0.0
    for loss, loss_of_fake, difference in zip(of_real, of_fake, differences, strict=True):
        delta = 0.3 * sum(abs(d) for d in difference) / len(difference)
        total += loss + balance * max(delta + loss - loss_of_fake, 0.0)
    for name, more in (("ls-gan", {"penalty_weight": 0.0}), ("cls-gan", {})):
        game = objective(name, balance=balance, **more)
        assert float(game.critic_loss(critic, real, fake).detach()) == pytest.approx(total / N, rel=1e-12)


@seeds
def test_gls_gan_in_plain_python_with_its_penalty(seed: int) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake, differences = outputs(critic, real, fake)
    total = 0.0
    for i, difference in enumerate(differences):
        x = real[i : i + 1].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x).squeeze(), x)
        a = 0.3 * sum(map(abs, difference)) / len(difference) + of_real[i] - of_fake[i]
        total += max(a, 0.25 * a) + 3.0 * sum(g * g for g in gradient.flatten().tolist()) / 2
    game = objective("gls-gan", cost_of("leaky", slope=0.25), penalty_weight=3.0)
    assert float(game.critic_loss(critic, real, fake).detach()) == pytest.approx(total / N, rel=1e-12)


@seeds
def test_wgan_gp_adds_its_two_sided_penalty_to_wgan(seed: int) -> None:
    critic, real, fake = table(seed)
    with seeded("epsilon"):
        found = objective("wgan-gp").critic_loss(critic, real, fake)
    with seeded("epsilon"):
        epsilon = torch.rand(N, 1, 1, 1, dtype=torch.float64)
    total = 0.0
    for x in (epsilon * real + (1 - epsilon) * fake).split(1):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x).squeeze(), x)
        total += (math.sqrt(sum(g * g for g in gradient.flatten().tolist())) - 1) ** 2
    expected = float((critic(real).mean() - critic(fake).mean()).detach()) + 10 * total / N
    assert float(found.detach()) == pytest.approx(expected, rel=1e-10)


@seeds
def test_dcgan_is_binary_cross_entropy_on_the_logit_minus_l(seed: int) -> None:
    def by_torch(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        logits = -torch.cat([critic(real), critic(fake)])
        labels = torch.cat([torch.ones(N), torch.zeros(N)]).double()
        return 2 * F.binary_cross_entropy_with_logits(logits, labels)

    assert_same(objective("dcgan").critic_loss, by_torch, seed)


@seeds
def test_dcgan_s_generator_loss_is_the_non_saturating_one(seed: int) -> None:
    def by_torch(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return F.binary_cross_entropy(torch.sigmoid(-critic(fake)), torch.ones(N).double())

    assert_same(objective("dcgan").generator_loss, by_torch, seed)


def test_dcgan_s_losses_stay_finite_where_the_sigmoid_is_0_or_1() -> None:
    x = torch.full((2, *SHAPE), 1e4, dtype=torch.float64)

    def critic(images: Tensor) -> Tensor:
        return images.flatten(1).mean(dim=1)

    game = objective("dcgan")
    assert float(game.critic_loss(critic, x, -x)) == 2e4
    assert float(game.generator_loss(critic, x, x)) == 1e4


# Conditional


@seeds
def test_class_loss_is_minus_the_log_of_the_softmax(seed: int) -> None:
    outputs = 5 * torch.randn(N, 10, generator=stream("class", seed), dtype=torch.float64)
    labels = torch.randint(10, (N,), generator=stream("labels", seed))
    found = class_loss(outputs, labels)
    for a, y, loss in zip(outputs.tolist(), labels.tolist(), found.tolist(), strict=True):
        assert loss == pytest.approx(-math.log(math.exp(a[y]) / sum(math.exp(b) for b in a)), rel=1e-12)
    assert found.shape == (N,)
    assert found.min() >= 0


@seeds
def test_cls_gan_is_its_equation_with_the_softmax_written_out(seed: int) -> None:
    with seeded("cls", seed):
        network: nn.Module = ZOO.critic("dcgan", width=4, init_std=0.3)(SHAPE, 10).double()
        labels = torch.randint(10, (N,))
    _, real, fake = table(seed)

    def bound(x: Tensor) -> Tensor:
        return class_loss(network(x), labels)

    def by_hand(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        a, b = critic(real), critic(fake)
        loss = a.exp().sum(dim=1).log() - a[range(N), labels]
        loss_of_fake = b.exp().sum(dim=1).log() - b[range(N), labels]
        violation = 0.3 * (real - fake).abs().mean(dim=(1, 2, 3)) + loss - loss_of_fake
        return loss.mean() + 2 * torch.clamp(violation, min=0).mean()

    def by_the_zoo(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return objective("cls-gan", balance=2.0).critic_loss(bound, real, fake)

    value, gradient = value_and_gradient(by_the_zoo, network, real, fake)
    expected, expected_gradient = value_and_gradient(by_hand, network, real, fake)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    loss = objective("cls-gan").generator_loss(bound, real, fake)
    torch.testing.assert_close(loss, -torch.log_softmax(network(fake), dim=1)[range(N), labels].mean())


@seeds
def test_the_unlabeled_loss_of_cls_gan_is_its_weighted_pairwise_term(seed: int) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake, differences = outputs(critic, real, fake)
    total = 0.0
    for loss, loss_of_fake, difference in zip(of_real, of_fake, differences, strict=True):
        total += max(0.3 * sum(map(abs, difference)) / len(difference) + loss - loss_of_fake, 0.0)
    game = objective("cls-gan", unlabeled_weight=0.7)
    assert game.unlabeled_loss is not None
    assert float(game.unlabeled_loss(critic, real, fake).detach()) == pytest.approx(0.7 * total / N, rel=1e-12)
    # The labelled part and T are those of the game without it.
    plain = objective("cls-gan")
    assert plain.unlabeled_loss is None
    assert torch.equal(game.critic_loss(critic, real, fake), plain.critic_loss(critic, real, fake))
    assert torch.equal(game.generator_loss(critic, real, fake), plain.generator_loss(critic, real, fake))


@seeds
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_conditional_gan_is_the_logistic_game_of_d_exp_minus_l(seed: int, weight: float) -> None:
    def positive(network: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: F.softplus(network(x)) + 0.01

    def by_hand(network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        d_of_real, d_of_fake = (torch.exp(-positive(network)(x)) for x in (real, fake))
        return -d_of_real.log().mean() - (1 - d_of_fake).log().mean()

    game = objective("conditional-gan", unlabeled_weight=weight)
    assert game.unlabeled_loss is not None
    unlabeled_loss = game.unlabeled_loss
    assert_same(lambda network, real, fake: game.critic_loss(positive(network), real, fake), by_hand, seed)
    assert_same(
        lambda network, real, fake: unlabeled_loss(positive(network), real, fake) / weight, by_hand, seed
    )  # fmt: skip


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1e-30, -math.log(1e-30)), (1e-6, -math.log(1e-6) + 5e-7), (1.0, -math.log(1 - math.exp(-1))), (100.0, 0.0)],
)
def test_the_conditional_gan_keeps_the_digits_of_any_loss_of_a_fake(level: float, expected: float) -> None:
    """-log(1 - exp(-L)) in float32, where 1 - exp(-1e-30) is 0."""
    loss = torch.full((3,), level, requires_grad=True)

    def critic(x: Tensor) -> Tensor:
        return loss if x.sum() == 0 else 0 * loss

    found = objective("conditional-gan").critic_loss(critic, torch.ones(3, *SHAPE), torch.zeros(3, *SHAPE))
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-20)
    (gradient,) = torch.autograd.grad(found, loss)
    assert gradient.isfinite().all()
    of_one = -1 / math.expm1(level)  # d/dL of -log(1 - exp(-L))
    torch.testing.assert_close(gradient, torch.full((3,), of_one / 3), rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("flush", [False, True])
def test_the_conditional_gan_is_finite_where_a_fake_is_surely_of_its_class(flush: bool) -> None:
    """L = 0, also where the device takes the smallest floats for 0."""
    loss = torch.zeros(3, requires_grad=True)
    if flush and not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps the smallest floats")
    try:
        found = objective("conditional-gan").critic_loss(lambda x: loss, torch.ones(3, *SHAPE), torch.zeros(3, *SHAPE))
        (gradient,) = torch.autograd.grad(found, loss)
    finally:
        torch.set_flush_denormal(False)
    assert 80 < found.item() < 100
    assert gradient.isfinite().all()


@seeds
def test_supervised_is_the_cross_entropy_of_the_real_images_alone(seed: int) -> None:
    critic, real, fake = table(seed)
    game = objective("supervised")
    found = game.critic_loss(critic, real, fake)
    assert float(found.detach()) == pytest.approx(sum(outputs(critic, real, fake)[0]) / N, rel=1e-12)
    assert torch.equal(found, game.critic_loss(critic, real, 0 * fake))
    assert game.unlabeled_loss is None


# Weight clipping


@pytest.mark.parametrize("clip", [0.01, 0.3])
def test_wgan_s_clip_leaves_all_weights_in_the_box_and_the_others_alone(clip: float) -> None:
    critic, _, _ = table(0)
    before = [p.detach().clone() for p in critic.parameters()]
    identities = [id(p) for p in critic.parameters()]
    assert max(float(p.abs().max()) for p in before) > clip
    game = objective("wgan") if clip == 0.01 else objective("wgan", clip=clip)  # 0.01 is the default
    assert game.constrain(critic) is None
    for old, new in zip(before, critic.parameters(), strict=True):
        assert new.abs().max() <= clip
        assert torch.equal(new.detach(), torch.clip(old, -clip, clip))
        assert new.requires_grad
    assert [id(p) for p in critic.parameters()] == identities


@pytest.mark.parametrize("name", ["ls-gan", "gls-gan", "wgan-gp", "dcgan", "cls-gan", "conditional-gan", "supervised"])
def test_no_other_objective_touches_the_weights(name: str) -> None:
    critic, _, _ = table(0)
    before = [p.detach().clone() for p in critic.parameters()]
    objective(name, cost_of("relu")).constrain(critic)
    assert all(torch.equal(old, new) for old, new in zip(before, critic.parameters(), strict=True))


# Margins


@seeds
@pytest.mark.parametrize(("side", "scale"), [(32, 8e-4), (64, 2e-4)])
def test_the_default_margin_is_the_authors_scaled_sum(seed: int, side: int, scale: float) -> None:
    real, fake = torch.rand(2, 4, 3, side, side, generator=stream("lp", seed), dtype=torch.float64) * 2 - 1
    summed = scale * (real - fake).abs().sum(dim=(1, 2, 3))
    torch.testing.assert_close(ZOO.margin("lp")(real, fake), summed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 10.0])
def test_lp_is_torch_s_vector_norm_of_the_mean(p: float, shape: tuple[int, int, int]) -> None:
    real, fake = torch.rand(2, 6, *shape, generator=stream("lp"), dtype=torch.float64) * 2 - 1
    fake.requires_grad_(True)
    norms = torch.linalg.vector_norm((real - fake).flatten(1), ord=p, dim=1)
    expected = 0.7 * norms / math.prod(shape) ** (1 / p)
    found = ZOO.margin("lp", p=p, scale=0.7)(real, fake)
    assert found.shape == (6,)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value.sum(), fake)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 10.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_lp_of_equal_images_is_0_with_gradient_0(p: float, dtype: torch.dtype) -> None:
    real, _ = torch.rand(2, 4, 3, 8, 8, generator=stream("equal")).mul(2).sub(1).to(dtype)
    fake = real.clone().requires_grad_(True)
    value = ZOO.margin("lp", p=p)(real, fake)
    assert value.dtype == dtype
    assert not value.any()
    value.sum().backward()
    assert not fake.grad.any()


@pytest.mark.parametrize("p", [1.5, 2.0, 10.0, 1000.0])
@pytest.mark.parametrize("size", [1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_lp_scales_with_the_difference_over_the_floats_range(p: float, size: float) -> None:
    difference = torch.rand(4, *SHAPE, generator=stream("range")) + 0.1
    margin = ZOO.margin("lp", p=p, scale=1.0)
    zero = torch.zeros_like(difference)
    torch.testing.assert_close(margin(size * difference, zero) / size, margin(difference, zero), rtol=1e-4, atol=0)


@pytest.mark.parametrize("p", [2.0, 10.0])
def test_lp_of_images_that_differ_in_one_pixel_has_its_gradient_there(p: float) -> None:
    real = torch.zeros(1, *SHAPE, dtype=torch.float64)
    fake = real.clone()
    fake[0, 0, 3, 4] = 0.5
    fake.requires_grad_(True)
    ZOO.margin("lp", p=p, scale=1.0)(real, fake).sum().backward()
    expected = torch.zeros_like(real)
    expected[0, 0, 3, 4] = 64 ** (-1 / p)
    torch.testing.assert_close(fake.grad, expected)


@seeds
def test_a_larger_p_is_a_larger_margin_and_tends_to_the_largest_difference(seed: int) -> None:
    _, real, fake = table(seed)
    values = torch.stack([ZOO.margin("lp", p=p, scale=1.0)(real, fake) for p in (1.0, 1.5, 2.0, 5.0, 50.0, 1e6)])
    assert (values.diff(dim=0) > 0).all()
    torch.testing.assert_close(values[-1], (real - fake).abs().amax(dim=(1, 2, 3)), rtol=1e-4, atol=0)


def test_the_zero_margin_is_0_a_pair() -> None:
    _, real, fake = table(0)
    value = ZOO.margin("zero")(real, fake)
    assert value.shape == (N,)
    assert value.dtype == torch.float64
    assert not value.any()


# Costs


A = torch.linspace(-5, 5, 1001, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_elu_is_torch_s(alpha: float) -> None:
    torch.testing.assert_close(cost_of("elu", alpha=alpha)(A), F.elu(A, alpha), rtol=1e-14, atol=0)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5, 1.0])
def test_leaky_is_torch_s(slope: float) -> None:
    assert torch.equal(cost_of("leaky", slope=slope)(A), F.leaky_relu(A, slope))


@pytest.mark.parametrize("slope", [-3.7, -1.0, 0.0, 0.5, 1.0])
def test_leaky_is_the_larger_of_a_and_slope_times_a(slope: float) -> None:
    assert torch.equal(cost_of("leaky", slope=slope)(A), torch.maximum(A, slope * A))


def test_the_costs_without_hyperparameters_are_torch_s() -> None:
    assert torch.equal(cost_of("relu")(A), F.relu(A))
    assert torch.equal(cost_of("abs")(A), torch.abs(A))
    assert torch.equal(cost_of("identity")(A), A)


def test_elu_of_a_huge_input_has_a_finite_gradient() -> None:
    a = torch.tensor([-1e4, -1e-10, 0.0, 1e4], requires_grad=True)
    cost_of("elu")(a).sum().backward()
    assert a.grad.tolist() == [0.0, 1.0, 1.0, 1.0]


# Recipes and needs


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *((name, Recipe()) for name in ("ls-gan", "gls-gan", "cls-gan", "conditional-gan", "supervised")),
        (
            "wgan",
            Recipe(optimizer="rmsprop", critic_rate=5e-5, generator_rate=5e-5, critic_steps=5, decay=1.0),
        ),
        (
            "wgan-gp",
            Recipe(critic_rate=1e-4, generator_rate=1e-4, beta1=0.0, beta2=0.9, critic_steps=5, decay=1.0),
        ),
        ("dcgan", Recipe(critic_rate=2e-4, generator_rate=2e-4, decay=1.0)),
    ],
)
def test_the_native_recipe_is_that_of_its_paper(name: str, recipe: Recipe) -> None:
    assert objective(name, cost_of("relu")).recipe == recipe


def test_the_default_recipe_is_that_of_section_9_2() -> None:
    assert Recipe().model_dump() == {
        "optimizer": "adam",
        "critic_rate": 1e-3,
        "generator_rate": 1e-3,
        "beta1": 0.5,
        "beta2": 0.999,
        "critic_steps": 1,
        "decay": 0.8,
        "decay_epochs": 25,
    }


@pytest.mark.parametrize(
    ("name", "hyperparameters", "needs"),
    [
        ("ls-gan", {}, {Need.PER_SAMPLE}),
        ("ls-gan", {"penalty_weight": 0.0}, set()),
        ("ls-gan", {"balance": 1.0}, {Need.NON_NEGATIVE, Need.PER_SAMPLE}),
        ("ls-gan", {"balance": 1.0, "penalty_weight": 0.0}, {Need.NON_NEGATIVE}),
        ("gls-gan", {}, {Need.PER_SAMPLE}),
        ("gls-gan", {"penalty_weight": 0.0}, set()),
        ("wgan", {}, set()),
        ("wgan-gp", {}, {Need.PER_SAMPLE}),
        ("wgan-gp", {"penalty_weight": 0.0}, set()),
        ("dcgan", {}, set()),
        ("cls-gan", {}, {Need.LABELS}),
        ("cls-gan", {"unlabeled_weight": 0.5}, {Need.LABELS, Need.UNLABELED}),
        ("conditional-gan", {}, {Need.LABELS, Need.UNLABELED}),
        ("supervised", {}, {Need.LABELS, Need.ALONE}),
    ],
)
def test_an_objective_says_what_it_needs(name: str, hyperparameters: dict[str, float], needs: set[Need]) -> None:
    assert objective(name, cost_of("relu"), **hyperparameters).needs == needs


def test_the_default_weights_are_those_of_the_papers() -> None:
    assert ZOO.find("objective", "wgan-gp").validate() == {"penalty_weight": 10.0}
    assert ZOO.find("objective", "wgan").validate() == {"clip": 0.01}
    assert ZOO.find("objective", "ls-gan").validate()["balance"] is None
    assert ZOO.find("margin", "lp").validate() == {"p": 1.0, "scale": pytest.approx(8e-4 * 3 * 32 * 32)}
