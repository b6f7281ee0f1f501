"""|S_m - S| and |T_k - T|: what a mean over a sample does, what training on it does, and how the slope is fitted."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ganzoo import Critic, Objective, Zoo
from ganzoo.randomness import stream
from ganzoo.theory.consistency import Match, untrained
from ganzoo.theory.densities import Hill, Hills, as_images
from ganzoo.theory.generalization import (
    Fit,
    expectation,
    gap,
    mean,
    points,
    power,
    steepest,
    train_critic,
    train_generator,
)

P = Hills((Hill((0.0, 0.0), 1.0, 0.4), Hill((-0.35, -0.3), 0.6, 0.6)))
FIT = Fit(steps=60, batch=32, width=32, frequencies=3)


def game(penalty_weight: float = 0.0) -> Objective:
    zoo = Zoo.installed()
    return zoo.objective("ls-gan", zoo.cost("relu"), zoo.margin("lp"), penalty_weight=penalty_weight)


def pairs(n: int, *names: str | int) -> tuple[Tensor, Tensor]:
    generator = untrained(P, Match(tilt=1.0), 0)
    z = torch.rand(n, generator.z_dim, generator=stream("pairs", *names)) * 2 - 1
    with torch.no_grad():
        return as_images(P.sample(n, stream("pairs", *names, "x"))), generator(z)


def linear(x: Tensor) -> Tensor:
    """L(x) = 3 x_1 - 4 x_2: its gradient's norm is 5."""
    return 3 * x[:, 0, 0, 0] - 4 * x[:, 1, 0, 0]


def test_s_of_a_fixed_critic_is_estimated_without_bias_and_its_deviation_falls_as_the_root_of_m() -> None:
    value, draws = game().critic_loss, 300
    expected, error = expectation(value, linear, pairs(200_000, "fresh"))
    spread = {}
    for m in (20, 320):
        found = np.array([mean(value, linear, pairs(m, m, draw)) for draw in range(draws)])
        spread[m] = found.std()
        assert abs(found.mean() - expected) < 4 * (spread[m] / math.sqrt(draws) + error)
    assert spread[20] / spread[320] == pytest.approx(4, rel=0.2)


def test_the_standard_error_is_the_deviation_of_such_means() -> None:
    found = [gap(game().critic_loss, linear, pairs(10, "one"), pairs(2_000, seed)) for seed in range(60)]
    spread = np.std([g.expected for g in found], ddof=1)
    assert np.mean([g.standard_error for g in found]) == pytest.approx(spread, rel=0.3)


def test_the_gap_is_the_distance_of_the_two_means() -> None:
    sample, fresh = pairs(10, "sample"), pairs(2_000, "fresh")
    found = gap(game().critic_loss, linear, sample, fresh)
    assert found.empirical == pytest.approx(float(game().critic_loss(linear, *sample)))
    assert found.expected == pytest.approx(float(game().critic_loss(linear, *fresh)), abs=1e-5)
    assert found.size == abs(found.empirical - found.expected)


def test_a_critic_fits_its_few_pairs_better_than_fresh_ones() -> None:
    sample = pairs(10, "few")
    found = gap(game().critic_loss, train_critic(game(), *sample, FIT, 0), sample, pairs(20_000, "fresh"))
    untouched = gap(
        game().critic_loss, train_critic(game(), *sample, FIT._replace(steps=0), 0), sample, pairs(20_000, "fresh")
    )
    assert found.empirical < 0.3 * untouched.empirical
    assert found.expected > found.empirical + 10 * found.standard_error


def test_the_penalty_flattens_the_critic() -> None:
    sample = pairs(1_000, "many")
    free, penalized = (train_critic(game(weight), *sample, FIT, 0) for weight in (0.0, 3.0))
    assert steepest(penalized, sample[0]) < 0.7 * steepest(free, sample[0])


def test_the_steepest_gradient_of_a_linear_critic_is_its_norm_and_of_a_bowl_at_its_rim() -> None:
    x = pairs(100, "any")[0]
    assert steepest(linear, x) == pytest.approx(5)
    bowl = steepest(lambda x: x.square().flatten(1).sum(dim=1) / 2, x)
    assert bowl == pytest.approx(float(x.flatten(1).norm(dim=1).max()))


def test_a_generator_lowers_t_on_its_noise() -> None:
    real = pairs(50, "real")[0]
    z = torch.rand(50, 4, generator=stream("z")) * 2 - 1
    before, after = (train_generator(game(), linear, real, z, FIT._replace(steps=s), 0) for s in (0, 60))
    first, last = before(z).detach(), after(z).detach()
    assert float(linear(last).mean()) < float(linear(first).mean()) - 1
    assert last.shape == (50, 2, 1, 1)
    assert float(last.abs().max()) <= 1


def test_players_repeat_by_their_seed_and_differ_by_another() -> None:
    sample, short = pairs(100, "sample"), FIT._replace(steps=3)
    x = sample[0]
    first, again, other = (train_critic(game(), *sample, short, seed) for seed in (0, 0, 1))
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    z = torch.rand(100, 4, generator=stream("z"))
    made = [train_generator(game(), linear, x, z, short, seed)(z) for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_constraint_is_kept() -> None:
    def clip(critic: torch.nn.Module) -> None:
        for parameter in critic.parameters():
            parameter.data.clamp_(-0.01, 0.01)

    critic = train_critic(game()._replace(constrain=clip), *pairs(20, "sample"), FIT._replace(steps=2), 0)
    assert max(float(parameter.detach().abs().max()) for parameter in critic.parameters()) <= 0.01


def test_a_sample_no_larger_than_a_batch_is_seen_whole_and_a_larger_one_in_batches() -> None:
    seen: list[Tensor] = []

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        seen.append(torch.cat([real, fake]))
        return critic(real).mean()

    for m, each in ((32, 32), (33, 32)):
        real, fake = pairs(m, "whole")
        train_critic(Objective(critic_loss), real, fake, FIT._replace(steps=2), 0)
        assert [len(both) for both in seen[-2:]] == [2 * each, 2 * each]
        assert torch.equal(seen[-1], torch.cat([real, fake])) == (m == 32)
        together = torch.cat([real, fake], dim=1)
        drawn = torch.cat(seen[-1].chunk(2), dim=1)
        assert all((together == pair).flatten(1).all(dim=1).any() for pair in drawn)  # pairs stay pairs


def test_points_depend_on_their_names_alone() -> None:
    assert torch.equal(points(P.sample, 5, "a", 1), points(P.sample, 5, "a", 1))
    assert not torch.equal(points(P.sample, 5, "a", 1), points(P.sample, 5, "a", 2))
    assert points(P.sample, 5, "a").shape == (5, 2, 1, 1)


@pytest.mark.parametrize("slope", [-0.5, -1.0, 0.3])
def test_the_slope_of_an_exact_power_is_found_exactly(slope: float) -> None:
    sizes = (10, 100, 1000, 10_000)
    line = power(sizes, [3 * n**slope for n in sizes])
    assert line.slope == pytest.approx(slope)
    assert math.exp(line.intercept) == pytest.approx(3)
    assert line.interval == pytest.approx((slope, slope))


def test_the_interval_holds_the_slope_of_noisy_gaps_as_often_as_it_says() -> None:
    random, sizes = np.random.default_rng(0), (10, 30, 100, 300, 1000, 3000)
    held = 0
    for _ in range(400):
        means = [float(np.abs(random.normal(size=8)).mean()) * n**-0.5 for n in sizes]
        low, high = power(sizes, means).interval
        held += low <= -0.5 <= high
    assert 0.92 <= held / 400 <= 0.98
