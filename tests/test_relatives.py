"""The objectives beside the paper's, the constant margin and the penalties that any objective takes: each formula in
plain numbers, in float64, with its limits and identities."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganzoo import BoundCritic, Need, Objective, UserError, Zoo, fake_gradient, perturbed_gradient, small_gradient
from ganzoo.bench import prepare
from ganzoo.config import Cell, Plan, contenders, default_objectives
from ganzoo.heads import plain
from ganzoo.penalty import PENALTIES
from ganzoo.randomness import seeded

ZOO = Zoo.installed()
N = 7
SHAPE = (2, 3, 4)
NEW = ("rpgan", "ragan", "hinge", "least-squares", "ebgan")
seeds = pytest.mark.parametrize("seed", range(3))

MakePlan = Callable[..., Plan]


def unused(*_: Any) -> Any:
    raise AssertionError("this objective takes none")


def objective(name: str, **hyperparameters: Any) -> Objective:
    return ZOO.objective(name, unused, unused, **hyperparameters)


def table(seed: int, scale: float = 2.0) -> tuple[nn.Module, Tensor, Tensor]:
    """A small smooth critic whose outputs have both signs and a size of about `scale`, and pairs of images."""
    with seeded("relatives", seed):
        network = nn.Sequential(nn.Flatten(), nn.Linear(24, 6), nn.Softplus(), nn.Linear(6, 1), nn.Flatten(0)).double()
        real, fake = torch.rand(2, N, *SHAPE, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        both = network(torch.cat([real, fake]))
        network[3].weight.mul_(scale / both.std())
        network[3].bias.sub_(network(torch.cat([real, fake])).mean())
    return network, real, fake


def outputs(critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[list[float], list[float]]:
    with torch.no_grad():
        return critic(real).tolist(), critic(fake).tolist()


def softplus(t: float) -> float:
    return math.log1p(math.exp(t))


def hinge(t: float) -> float:
    return max(0.0, 1 + t)


def value(loss: Callable[..., Tensor], *table: Any) -> float:
    return float(loss(*table).detach())


@seeds
def test_the_outputs_of_these_tests_lie_on_both_sides_of_every_kink(seed: int) -> None:
    of_real, of_fake = outputs(*table(seed))
    for kink in (-1.0, 0.0, 1.0):
        assert min(of_real + of_fake) < kink < max(of_real + of_fake)


# Formulas


@seeds
@pytest.mark.parametrize(("f", "function"), [("softplus", softplus), ("hinge", hinge)])
def test_rpgan_judges_each_pair_by_its_difference(seed: int, f: str, function: Callable[[float], float]) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake = outputs(critic, real, fake)
    game = objective("rpgan", f=f, r1=0.0, r2=0.0)
    pairs = list(zip(of_real, of_fake, strict=True))
    assert value(game.critic_loss, critic, real, fake) == pytest.approx(
        statistics.mean(function(x - g) for x, g in pairs)
    )
    assert value(game.generator_loss, critic, real, fake) == pytest.approx(
        statistics.mean(function(g - x) for x, g in pairs)
    )
    assert Need.PER_SAMPLE not in game.needs


@seeds
def test_ragan_judges_each_image_by_the_mean_of_the_others(seed: int) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake = outputs(critic, real, fake)
    mean_real, mean_fake = statistics.mean(of_real), statistics.mean(of_fake)
    game = objective("ragan")
    # -log sigmoid(D(x) - E D(G(z))) - log(1 - sigmoid(D(G(z)) - E D(x))), D = -L.
    wanted = statistics.mean(-math.log(1 / (1 + math.exp(x - mean_fake))) for x in of_real)
    wanted += statistics.mean(-math.log(1 - 1 / (1 + math.exp(g - mean_real))) for g in of_fake)
    assert value(game.critic_loss, critic, real, fake) == pytest.approx(wanted)
    assert value(game.generator_loss, critic, real, fake) == pytest.approx(value(game.critic_loss, critic, fake, real))


@seeds
def test_on_one_pair_ragan_is_twice_rpgan(seed: int) -> None:
    critic, real, fake = table(seed)
    one = (critic, real[:1], fake[:1])
    average, pairing = objective("ragan"), objective("rpgan", r1=0.0, r2=0.0)
    assert value(average.critic_loss, *one) == pytest.approx(2 * value(pairing.critic_loss, *one))
    assert value(average.generator_loss, *one) == pytest.approx(2 * value(pairing.generator_loss, *one))


@seeds
def test_hinge_asks_each_image_for_its_side_of_a_level(seed: int) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake = outputs(critic, real, fake)
    game = objective("hinge")
    wanted = statistics.mean(max(0.0, 1 + x) for x in of_real) + statistics.mean(max(0.0, 1 - g) for g in of_fake)
    assert value(game.critic_loss, critic, real, fake) == pytest.approx(wanted)
    assert value(game.generator_loss, critic, real, fake) == pytest.approx(statistics.mean(of_fake))


@seeds
@pytest.mark.parametrize(("a", "b", "c"), [(-1.0, 1.0, 1.0), (-0.5, 1.5, 0.5)])
def test_least_squares_is_of_the_codes_of_mao(seed: int, a: float, b: float, c: float) -> None:
    critic, real, fake = table(seed)
    of_real, of_fake = outputs(critic, real, fake)
    game = objective("least-squares", a=a, b=b, c=c)
    wanted = statistics.mean((-x - b) ** 2 for x in of_real) / 2 + statistics.mean((-g - a) ** 2 for g in of_fake) / 2
    assert value(game.critic_loss, critic, real, fake) == pytest.approx(wanted)
    assert value(game.generator_loss, critic, real, fake) == pytest.approx(
        statistics.mean((-g - c) ** 2 for g in of_fake) / 2
    )


@seeds
def test_the_0_1_code_of_mao_is_the_default_for_a_critic_of_twice_the_range(seed: int) -> None:
    """D' = (D + 1) / 2 under (0, 1, 1) is a quarter of the loss of D under (-1, 1, 1)."""
    critic, real, fake = table(seed)
    of_real, of_fake = outputs(critic, real, fake)
    coded = [[(1 - output) / 2 for output in of_one] for of_one in (of_real, of_fake)]
    of_mao = statistics.mean((d - 1) ** 2 for d in coded[0]) / 2 + statistics.mean(d**2 for d in coded[1]) / 2
    game = objective("least-squares")
    assert value(game.critic_loss, critic, real, fake) / 4 == pytest.approx(of_mao)
    to_mao = statistics.mean((d - 1) ** 2 for d in coded[1]) / 2
    assert value(game.generator_loss, critic, real, fake) / 4 == pytest.approx(to_mao)


@seeds
def test_a_number_added_to_all_three_codes_moves_the_critic_s_bias_and_nothing_else(seed: int) -> None:
    critic, real, fake = table(seed)
    one, other = (objective("least-squares", a=a, b=a + 2, c=a + 1.5) for a in (-1.0, -0.7))
    losses = [value(getattr(one, name), critic, real, fake) for name in ("critic_loss", "generator_loss")]
    with torch.no_grad():
        critic[3].bias.sub_(0.3)
    moved = [value(getattr(other, name), critic, real, fake) for name in ("critic_loss", "generator_loss")]
    assert moved == pytest.approx(losses)


@pytest.mark.parametrize(("setting", "domain"), [({"a": 0.0}, "a = 0.0 .*< 0"), ({"c": 0.0}, "c = 0.0 .*> 0")])
def test_codes_that_do_not_enclose_zero_are_refused(setting: dict[str, float], domain: str) -> None:
    with pytest.raises(UserError, match=domain):
        objective("least-squares", **setting)


@seeds
def test_ebgan_lifts_generated_images_up_to_m(seed: int) -> None:
    critic, real, fake = table(seed)
    energy: Any = lambda x: critic(x).exp()  # noqa: E731 (an energy is not negative)
    of_real, of_fake = energy(real).tolist(), energy(fake).tolist()
    game = objective("ebgan", m=2.0)
    wanted = statistics.mean(of_real) + statistics.mean(max(0.0, 2.0 - g) for g in of_fake)
    assert value(game.critic_loss, energy, real, fake) == pytest.approx(wanted)
    assert value(game.generator_loss, energy, real, fake) == pytest.approx(statistics.mean(of_fake))
    assert game.needs == {Need.NON_NEGATIVE}
    assert min(of_fake) < 2 < max(of_fake)


# Relations that are proved on paper


@seeds
def test_the_paired_hinge_is_ls_gan_with_the_constant_margin_1(seed: int) -> None:
    critic, real, fake = table(seed)
    ls = ZOO.objective("ls-gan", unused, ZOO.margin("constant"), penalty_weight=0.0)
    paired = objective("rpgan", f="hinge", r1=0.0, r2=0.0)
    assert value(ls.critic_loss, critic, real, fake) == pytest.approx(value(paired.critic_loss, critic, real, fake))


@seeds
def test_hinge_is_at_least_ls_gan_with_the_constant_margin_2(seed: int) -> None:
    critic, real, fake = table(seed)
    ls = ZOO.objective("ls-gan", unused, ZOO.margin("constant", scale=2.0), penalty_weight=0.0)
    gaps = [
        value(objective("hinge").critic_loss, critic, real[i : i + 1], fake[i : i + 1])
        - value(ls.critic_loss, critic, real[i : i + 1], fake[i : i + 1])
        for i in range(N)
    ]
    assert min(gaps) >= -1e-12
    assert max(gaps) > 0.1


@seeds
def test_rpgan_is_the_cost_softplus_without_margin(seed: int) -> None:
    critic, real, fake = table(seed)
    gls = ZOO.objective("gls-gan", ZOO.cost("softplus"), ZOO.margin("zero"), penalty_weight=0.0)
    pairing = objective("rpgan", r1=0.0, r2=0.0)
    assert value(gls.critic_loss, critic, real, fake) == pytest.approx(value(pairing.critic_loss, critic, real, fake))


def test_softplus_keeps_the_first_condition_and_breaks_the_second_by_at_most_log_2() -> None:
    a = torch.arange(-40_000, 40_001, dtype=torch.float64) / 1000
    excess = ZOO.cost("softplus")(a) - a
    assert (excess >= 0).all()
    assert float(excess[a >= 0].max()) == pytest.approx(math.log(2))
    assert float(a[a >= 0][excess[a >= 0].argmax()]) == 0


def test_no_comparison_plays_a_cost_that_breaks_a_condition(tiny: MakePlan) -> None:
    with pytest.raises(UserError, match=r"cost 'softplus': C\(0\) = 0.693147; 0 is wanted"):
        prepare(tiny(objectives=["gls-gan:cost=softplus"]), ZOO)


# The constant margin


def test_the_constant_margin_is_its_scale_for_all_pairs_but_equal_ones() -> None:
    _, real, fake = table(0)
    fake = fake.clone()
    fake[2] = real[2]
    fake[3] = real[3]
    fake[3, 0, 1, 2] += 1e-15
    wanted = [0.5] * N
    wanted[2] = 0.0
    assert ZOO.margin("constant", scale=0.5)(real, fake).tolist() == wanted
    assert (ZOO.margin("constant", scale=0.0)(real, fake) == ZOO.margin("zero")(real, fake)).all()


# Penalties


def bound(critic: nn.Module) -> BoundCritic:
    return BoundCritic(critic, plain)


def norms(critic: nn.Module, images: Tensor) -> list[float]:
    """||grad L||_2 of each image, by central differences: no autograd."""
    h, found = 1e-5, []
    with torch.no_grad():
        for image in images:
            square = 0.0
            for place in range(image.numel()):
                step = torch.zeros(image.numel(), dtype=torch.float64)
                step[place] = h
                step = step.view(1, *image.shape)
                square += float((critic(image[None] + step) - critic(image[None] - step)) / (2 * h)) ** 2
            found.append(math.sqrt(square))
    return found


@seeds
def test_r1_and_r2_are_half_the_squared_norms_on_real_and_on_generated_images(seed: int) -> None:
    critic, real, fake = table(seed)
    for penalty, images in ((small_gradient, real), (fake_gradient, fake)):
        wanted = statistics.mean(norm**2 for norm in norms(critic, images)) / 2
        assert float(penalty(bound(critic), real, fake).detach()) == pytest.approx(wanted, rel=1e-6)
        assert float(penalty(critic, real, fake).detach()) == pytest.approx(wanted, rel=1e-6)


@seeds
def test_dragan_wants_slope_1_around_real_images(seed: int) -> None:
    critic, real, fake = table(seed)
    with seeded("draws", seed):
        found = float(perturbed_gradient(bound(critic), real, fake).detach())
        again = float(perturbed_gradient(bound(critic), real, fake).detach())
    with seeded("draws", seed):
        noise = torch.randn(real.shape, dtype=torch.float64)
    spread = statistics.pstdev(real.flatten().tolist()) / 2
    wanted = statistics.mean((norm - 1) ** 2 for norm in norms(critic, real + spread * noise))
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found != again


def test_the_penalties_leave_generated_images_without_a_gradient() -> None:
    critic, real, fake = table(0)
    fake.requires_grad_()
    for name, penalty in PENALTIES.items():
        made = penalty(bound(critic), real, fake)
        (gradient,) = torch.autograd.grad(made, fake, allow_unused=True)
        assert gradient is None, name
        assert torch.autograd.grad(penalty(bound(critic), real, fake), critic[1].weight)[0].any(), name


@pytest.mark.parametrize("name", sorted(PENALTIES))
@pytest.mark.parametrize("asked", ["hinge", "dcgan", "gls-gan:penalty_weight=0"])
def test_any_objective_takes_any_penalty_with_its_weight(asked: str, name: str) -> None:
    critic, real, fake = table(0)
    joined = f"{asked}," if ":" in asked else f"{asked}:"
    (without,) = contenders(asked, ZOO, Plan())
    (with_it,) = contenders(f"{joined}{name}=0.25", ZOO, Plan())
    assert getattr(with_it, name) == 0.25
    with seeded("penalty"):
        plain_loss = value(without.game(ZOO).critic_loss, bound(critic), real, fake)
    with seeded("penalty"):
        found = value(with_it.game(ZOO).critic_loss, bound(critic), real, fake)
    with seeded("penalty"):
        penalty = float(PENALTIES[name](bound(critic), real, fake).detach())
    assert found == pytest.approx(plain_loss + 0.25 * penalty)
    assert penalty > 1e-3
    assert Need.PER_SAMPLE in with_it.game(ZOO).needs
    assert Need.PER_SAMPLE not in without.game(ZOO).needs


def test_a_weight_outside_its_domain_is_told_with_it() -> None:
    with pytest.raises(UserError, match=r"'hinge': r1 = -1 is outside its domain \(float, >= 0, <= 1e6\)"):
        contenders("hinge:r1=-1", ZOO, Plan())


@seeds
def test_rpgan_brings_both_penalties_with_their_weights(seed: int) -> None:
    critic, real, fake = table(seed)
    bare, heavy = objective("rpgan", r1=0.0, r2=0.0), objective("rpgan", r1=3.0, r2=0.5)
    added = value(heavy.critic_loss, bound(critic), real, fake) - value(bare.critic_loss, bound(critic), real, fake)
    wanted = 3 * statistics.mean(n**2 for n in norms(critic, real)) / 2
    wanted += 0.5 * statistics.mean(n**2 for n in norms(critic, fake)) / 2
    assert added == pytest.approx(wanted, rel=1e-6)


def test_ls_gan_s_own_penalty_is_r1_of_the_same_weight() -> None:
    critic, real, fake = table(0)
    asked = ("ls-gan:penalty_weight=0.7", "ls-gan:penalty_weight=0,r1=0.7")
    own, laid = (contenders(text, ZOO, Plan())[0].game(ZOO) for text in asked)
    assert value(own.critic_loss, bound(critic), real, fake) == value(laid.critic_loss, bound(critic), real, fake)


# In a comparison


def test_a_comparison_that_names_no_objectives_leaves_them_out(tiny: MakePlan) -> None:
    assert set(NEW) <= set(ZOO.names("objective"))
    assert not set(NEW) & set(default_objectives(ZOO, tiny()))


def test_a_stranger_s_objective_is_left_out_only_if_it_says_so(plugin: Callable[..., Any], tiny: MakePlan) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.objective
    def loud():
        return ganzoo.Objective(lambda critic, real, fake: critic(real).mean() - critic(fake).mean())


    @ganzoo.objective(by_default=False)
    def quiet():
        return ganzoo.Objective(lambda critic, real, fake: critic(real).mean() - critic(fake).mean())


    @ganzoo.cost(by_default=False)
    def still(a):
        return a
    """)
    )
    assert set(default_objectives(own, tiny())) - set(default_objectives(ZOO, tiny())) == {"loud"}


@pytest.mark.parametrize("asked", [*NEW, "ls-gan:margin=constant", "hinge:r1=1,r2=1,dragan=1"])
def test_each_plays_on_digits(asked: str, one_cell: Callable[..., Cell]) -> None:
    from ganzoo.party import read_data
    from ganzoo.train import Training

    cell = one_cell(asked)
    training = Training(cell, ZOO, read_data(cell.settings.data))
    before = [parameter.clone() for parameter in training.players.generator.parameters()]
    for _ in range(3):
        played = training.play()
    assert all(part.isfinite() for part in played)
    assert all(not torch.equal(p, q) for p, q in zip(before, training.players.generator.parameters(), strict=True))
    assert not training.asked.unheard


def test_a_penalty_beside_batch_statistics_is_refused_with_the_cure(tiny: MakePlan) -> None:
    plan = tiny(objectives=["rpgan"], **{"critic.norm": "batch"})
    with pytest.raises(UserError, match=r'rpgan penalises a gradient per sample.*critic.norm = "none".*r1=0, r2=0'):
        prepare(plan, ZOO)
