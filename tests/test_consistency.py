"""Densities, the exact generator, all equilibria, and a small game: lemmas 2 and 4 of Qi 2017."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from ganzoo import Critic, Need, Objective, Zoo
from ganzoo.errors import UserError
from ganzoo.randomness import stream
from ganzoo.theory.consistency import Match, SmoothCritic, as_played, distance, nearest, play, untrained
from ganzoo.theory.densities import Hill, Hills, as_images, difference, estimated_difference, lattice, midpoints
from ganzoo.theory.equilibrium import bound, excess, furthest, gain_of_best_critic, least_bound
from ganzoo.theory.triangular_map import TriangularMap, fall, rise

ONE = Hills((Hill((0.2,), 0.8, 1.0),))
LINE = Hills((Hill((0.0,), 1.0, 0.3), Hill((-0.5,), 0.35, 0.45), Hill((0.5,), 0.3, 0.25)))
PLANE = Hills((Hill((0.0, 0.0), 1.0, 0.4), Hill((-0.35, -0.3), 0.6, 0.6)))
DENSITIES = [ONE, LINE, PLANE]
CELLS = {1: 4000, 2: 400}
TINY = Match(rounds=40, critic_steps=2, batch=64, knots=9, width=16, frequencies=2)


def game(name: str = "gls-gan", **hyperparameters: float | None) -> Objective:
    zoo = Zoo.installed()
    return zoo.objective(name, zoo.cost("leaky"), zoo.margin("lp"), **hyperparameters)


def tilted(dimension: int, seed: int = 0) -> TriangularMap:
    """A generator with nothing regular about it."""
    made = TriangularMap(dimension, 9, tilt=0.7, seed=seed)
    random = stream("tilted", seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return made.requires_grad_(False)


# Densities


@pytest.mark.parametrize("p", DENSITIES)
def test_a_density_integrates_to_1_and_is_0_outside(p: Hills) -> None:
    x = midpoints(p.dimension, CELLS[p.dimension])
    assert float(p(x).sum()) * (2 / CELLS[p.dimension]) ** p.dimension == pytest.approx(1, abs=1e-4)
    assert float(p(x * 1.5 + 3 * x.sign()).abs().max()) == 0


@pytest.mark.parametrize("p", DENSITIES)
def test_a_density_is_lipschitz_with_the_claimed_constant(p: Hills) -> None:
    random = stream("lipschitz")
    x = torch.rand(50_000, p.dimension, generator=random, dtype=torch.float64) * 2 - 1
    for step in (1e-4, 0.1, 1.0):
        other = x + step * torch.randn(x.shape, generator=random, dtype=torch.float64)
        steepness = (p(x) - p(other)).abs() / (x - other).norm(dim=1)
        assert float(steepness.max()) <= p.lipschitz * (1 + 1e-6)


@pytest.mark.parametrize("d", [1, 2])
def test_one_hill_reaches_its_lipschitz_constant_beside_its_center(d: int) -> None:
    hill = Hills((Hill((0.25,) * d, 0.5, 1.0),))
    x = torch.tensor([[0.25] * d, [0.25 + 1e-6] * d], dtype=torch.float64)
    p = hill(x)
    assert float((p[0] - p[1]) / (x[0] - x[1]).norm()) == pytest.approx(hill.lipschitz, rel=1e-4)


@pytest.mark.parametrize("p", [ONE, LINE])
def test_samples_of_a_line_follow_its_density(p: Hills) -> None:
    x = midpoints(1, 20_000)
    cumulated = np.concatenate([[0], np.cumsum(p(x).numpy()) / 10_000])
    samples = p.sample(20_000, stream("ks"))[:, 0].numpy()
    found = stats.kstest(samples, lambda at: np.interp(at, np.linspace(-1, 1, 20_001), cumulated))
    assert found.pvalue > 0.01


@pytest.mark.parametrize("p", [PLANE])
def test_samples_of_a_plane_follow_its_density(p: Hills) -> None:
    n, bins = 50_000, 8
    mass = p(midpoints(2, bins * 40)).reshape(bins, 40, bins, 40).mean(dim=(1, 3)).numpy() * (2 / bins) ** 2
    samples = p.sample(n, stream("chi")).double()
    counts = torch.histogramdd(samples, [torch.linspace(-1, 1, bins + 1, dtype=torch.float64)] * 2).hist.numpy()
    seen = mass > 20 / n
    expected = mass[seen] * counts[seen].sum() / mass[seen].sum()
    assert stats.chisquare(counts[seen], expected).pvalue > 0.01


def test_samples_depend_on_the_stream_alone() -> None:
    assert torch.equal(LINE.sample(9, stream("a")), LINE.sample(9, stream("a")))
    assert not torch.equal(LINE.sample(9, stream("a")), LINE.sample(9, stream("b")))


@pytest.mark.parametrize(
    ("hills", "slip"),
    [
        ((Hill((0.5,), 0.6, 1.0),), r"leaves \[-1, 1\]"),
        ((Hill((0.5,), 0.0, 1.0),), r"leaves \[-1, 1\]"),
        ((Hill((0.5,), 0.5, 0.9),), "not positive with sum 1"),
        ((Hill((0.0,), 0.5, 1.5), Hill((0.0,), 0.5, -0.5)), "not positive with sum 1"),
        ((Hill((0.0,), 0.5, 0.5), Hill((0.0, 0.0), 0.5, 0.5)), r"dimensions \[1, 2\]"),
        ((Hill((), 0.5, 1.0),), r"dimensions \[0\]"),
        ((), r"dimensions \[\]"),
    ],
)
def test_hills_that_are_no_density_are_refused(hills: tuple[Hill, ...], slip: str) -> None:
    with pytest.raises(UserError, match=slip):
        Hills(hills)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_lattice_is_uniform_at_each_point_and_far_more_even_than_chance(d: int) -> None:
    random = stream("lattice")
    means = torch.stack([lattice(256, d, random).mean(dim=0) for _ in range(200)])
    firsts = torch.stack([lattice(2, d, random)[1] for _ in range(2000)])
    assert float((means - 0.5).abs().max()) < 0.03  # of independent points 0.07 is likely, 0.018 one standard deviation
    assert stats.kstest(firsts[:, -1].numpy(), "uniform").pvalue > 0.01
    points = lattice(4096, d, random)
    assert float(points.min()) >= 0
    assert float(points.max()) < 1


def test_an_expectation_over_the_lattice_is_the_density_s() -> None:
    x = midpoints(2, 400)
    value = float((PLANE(x) * x[:, 0].exp()).sum() * (2 / 400) ** 2)
    random = stream("mean")
    means = [float(PLANE.of_uniform(lattice(512, 3, random))[:, 0].exp().mean()) for _ in range(50)]
    assert np.mean(means) == pytest.approx(value, abs=5 * stats.sem(means) + 1e-6)


# The distance of two densities


def test_the_distance_of_two_like_triangles_moved_by_a_shift_has_its_closed_form() -> None:
    # They cross halfway; on one side the difference is 2 (s/h - (s/h)^2 / 4) / 2 of the mass, twice that in all.
    h = 0.5
    for s in (0.1, 0.3, 0.5):
        p, q = (Hills((Hill((center,), h, 1.0),)) for center in (-s / 2, s / 2))
        assert difference(p, q, 1, 4000) == pytest.approx(2 * (s / h - (s / h) ** 2 / 4), abs=1e-5)


def test_disjoint_densities_are_2_apart_and_equal_ones_0() -> None:
    p, q = Hills((Hill((-0.5, 0.0), 0.5, 1.0),)), Hills((Hill((0.5, 0.0), 0.5, 1.0),))
    assert difference(p, q, 2, 400) == pytest.approx(2, abs=1e-3)
    assert difference(p, p, 2, 400) == 0


def test_the_histogram_agrees_with_the_exact_distance_and_its_control_shrinks_with_n() -> None:
    generator = tilted(1)
    exact = difference(LINE, generator.density, 1, 4000)
    z = torch.rand(400_000, 2, generator=stream("z")) * 2 - 1
    assert estimated_difference(generator(z).flatten(1), LINE, 60) == pytest.approx(exact, abs=0.02)
    control = [estimated_difference(LINE.sample(n, stream("control")), LINE, 60) for n in (1_000, 16_000, 256_000)]
    assert control[0] / control[1] == pytest.approx(4, rel=0.4)
    assert control[1] / control[2] == pytest.approx(4, rel=0.4)


def test_samples_outside_count_in_full() -> None:
    samples = torch.full((100, 1), 3.0)
    assert estimated_difference(samples, LINE, 10) == pytest.approx(2, abs=1e-3)


# The generator of known density


@settings(deadline=None)
@given(
    slopes=st.lists(st.floats(0.01, 100), min_size=2, max_size=12),
    t=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
)
def test_fall_inverts_rise_and_its_slope_is_the_derivative(slopes: list[float], t: list[float]) -> None:
    line = torch.tensor([slopes], dtype=torch.float64)
    at = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    x = rise(line, at)
    (derivative,) = torch.autograd.grad(x.sum(), at)
    back, slope = fall(line, x.detach())
    torch.testing.assert_close(back, at.detach(), atol=1e-6, rtol=0)
    inside = (at.detach().abs() < 1) & (x.detach().abs() < 1)
    torch.testing.assert_close(slope[inside], derivative[inside], rtol=1e-3, atol=1e-6)


def test_rise_goes_from_minus_1_to_1_and_is_the_identity_for_equal_slopes() -> None:
    t = torch.linspace(-1, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(rise(torch.full((1, 7), 3.0, dtype=torch.float64), t), t)
    x = rise(torch.tensor([[1.0, 9.0, 0.1, 4.0]], dtype=torch.float64), t)
    torch.testing.assert_close(x[[0, -1]], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert bool((x.diff() > 0).all())


@pytest.mark.parametrize("d", [1, 2])
def test_the_generator_s_density_integrates_to_1_and_vanishes_at_the_border(d: int) -> None:
    density = tilted(d).density
    assert float(density(midpoints(d, CELLS[d])).sum()) * (2 / CELLS[d]) ** d == pytest.approx(1, abs=1e-3)
    border = torch.full((1, d), 1.0, dtype=torch.float64)
    assert float(density(border)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("d", [1, 2])
def test_the_generator_s_samples_follow_its_density(d: int) -> None:
    generator, n, bins = tilted(d, seed=3), 50_000, 10
    z = torch.rand(n, 2 * d, generator=stream("samples")) * 2 - 1
    fine = generator.density(midpoints(d, bins * 40)) * (2 / (bins * 40)) ** d
    mass = fine.reshape([bins, 40] * d).sum(dim=[2 * i + 1 for i in range(d)]).numpy()
    edges = [torch.linspace(-1, 1, bins + 1, dtype=torch.float64)] * d
    counts = torch.histogramdd(generator(z).flatten(1).double(), edges).hist.numpy()
    seen = mass > 20 / n
    expected = mass[seen] * counts[seen].sum() / mass[seen].sum()
    assert stats.chisquare(counts[seen], expected).pvalue > 0.01


def test_the_generator_makes_images_that_fit_the_zoo() -> None:
    made = tilted(2)(torch.rand(5, 4) * 2 - 1)
    assert made.shape == (5, 2, 1, 1)
    assert float(made.abs().max()) <= 1


# All equilibria


def cells_of(p: Hills, n: int) -> np.ndarray:
    values: np.ndarray = p(midpoints(1, n)).numpy()
    return values / (values.sum() * 2 / n)


def test_the_bounds_are_the_paper_s_and_the_sharper_one_and_0_in_the_limit() -> None:
    assert bound(4) == 0.5
    assert least_bound(4) == 0.4
    assert bound(None) == least_bound(None) == 0


@pytest.mark.parametrize("slip", [0, -1.0, math.inf, math.nan])
def test_a_balance_that_is_not_positive_is_refused(slip: float) -> None:
    for function in (bound, least_bound):
        with pytest.raises(UserError, match=f"balance is {slip}, not a positive number; None stands for"):
            function(slip)


@pytest.mark.parametrize("balance", [0.5, 2, 8])
def test_the_furthest_equilibrium_is_within_the_least_bound_and_near_it(balance: float) -> None:
    p = cells_of(LINE, 100)
    q = furthest(p, balance, 8 * LINE.lipschitz)
    assert q.sum() * 0.02 == pytest.approx(1)
    assert np.abs(np.diff(q)).max() <= 8 * LINE.lipschitz * 0.02 * (1 + 1e-6)
    assert (q <= (1 + 1 / balance) * p + 1e-9).all()
    integral = np.abs(p - q).sum() * 0.02
    assert 0.85 * least_bound(balance) <= integral <= least_bound(balance) + 1e-9


@pytest.mark.parametrize("balance", [0.5, 2, 8])
def test_no_critic_beats_0_at_an_equilibrium_and_one_does_just_beyond(balance: float) -> None:
    """The characterisation of the equilibria against eq. 4 itself, as a linear programme."""
    p = cells_of(LINE, 30)
    q, beyond = furthest(p, balance, 50), furthest(p, balance / 1.5, 50)
    assert gain_of_best_critic(p, q, balance, 1.0) == pytest.approx(0, abs=1e-7)
    assert gain_of_best_critic(p, beyond, balance, 1.0) > 1e-3
    assert gain_of_best_critic(p, beyond, balance / 1.5, 1.0) == pytest.approx(0, abs=1e-7)


def test_without_a_bound_to_stay_below_the_programme_says_so() -> None:
    with pytest.raises(UserError, match=r"no density of Lipschitz constant 0\.1 stays below"):
        furthest(cells_of(LINE, 50), 8, 0.1)


def test_the_excess_is_0_for_the_density_itself_and_1_for_a_disjoint_one() -> None:
    assert excess(LINE, LINE, 2, 1, 400) == 0
    assert excess(LINE, LINE, None, 1, 400) == 0
    p, q = Hills((Hill((-0.5,), 0.5, 1.0),)), Hills((Hill((0.5,), 0.5, 1.0),))
    assert excess(p, q, 2, 1, 400) == pytest.approx(1, abs=1e-3)
    assert excess(p, q, None, 1, 400) == pytest.approx(difference(p, q, 1, 400) / 2)


def test_the_excess_counts_what_is_above_the_share_that_the_balance_allows() -> None:
    def half_more(x: Tensor) -> Tensor:
        return 1.5 * LINE(x)

    assert excess(LINE, half_more, 2, 1, 4000) == 0
    assert excess(LINE, half_more, 4, 1, 4000) == pytest.approx(0.25, abs=1e-4)
    assert excess(LINE, half_more, None, 1, 4000) == pytest.approx(0.5, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(balance=st.floats(0.1, 100), seed=st.integers(0, 5))
def test_what_has_no_excess_is_within_the_least_bound(balance: float, seed: int) -> None:
    # integral |p - q| <= 2 / (1 + balance) + 2 excess, for any q at all
    q = tilted(1, seed).density
    exceeding = excess(LINE, q, balance, 1, 1000)
    assert difference(LINE, q, 1, 1000) <= least_bound(balance) + 2 * exceeding + 1e-2


# The game


def test_a_tiny_training_improves_the_integral() -> None:
    played = play(game(), ONE, TINY, seed=0)
    assert played.start > 1
    assert distance(ONE, played.generator) < played.start / 2


def test_a_game_repeats_by_its_seed_and_differs_by_another() -> None:
    short = TINY._replace(rounds=3)
    first, again, other = (play(game(), LINE, short, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.generator.first, again.generator.first)
    assert not torch.equal(first.generator.first, other.generator.first)


def batches(seed: int, weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """The real and the generated images that a critic sees in two rounds: (2, 64) each."""
    seen: list[tuple[Tensor, Tensor]] = []

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        seen.append((real.flatten(), fake.flatten()))
        return weight * critic(real).mean()

    still = TINY._replace(rounds=2, critic_steps=1, generator_rate=0.0, tilt=0.0)
    play(Objective(critic_loss), ONE, still, seed)
    real, fake = zip(*seen, strict=True)
    return torch.stack(real), torch.stack(fake)


def test_what_the_players_see_depends_on_the_seed_and_never_on_the_game() -> None:
    first, other_game, other_seed = batches(0), batches(0, weight=-3.0), batches(2)
    for part in range(2):
        assert torch.equal(first[part], other_game[part])
        assert not torch.equal(first[part], other_seed[part])
        assert not torch.equal(first[part][0], first[part][1])


def test_pairs_are_random(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_order(n: int, dimension: int, random: torch.Generator) -> Tensor:
        return ((torch.arange(n) + 0.5) / n)[:, None].expand(n, dimension)

    monkeypatch.setattr("ganzoo.theory.consistency.lattice", in_order)
    real, fake = batches(0)
    assert bool((real.diff(dim=1) > 0).all())  # so that a fixed pairing would show
    for x, y in zip(real, fake, strict=True):
        assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.4  # independent: 1/8 is a standard deviation


def test_even_seeds_start_to_the_right_and_odd_ones_to_the_left() -> None:
    x = midpoints(1, 1000)
    means = [float((x[:, 0] * untrained(LINE, Match(), seed).density(x).detach()).mean() * 2) for seed in (0, 1)]
    assert means[0] == pytest.approx(-means[1], abs=1e-3)
    assert means[0] > 0.4


def test_the_leaky_cost_of_slope_0_plays_ls_gan_without_a_balance() -> None:
    zoo = Zoo.installed()
    short = TINY._replace(rounds=5)
    leaky = zoo.objective("gls-gan", zoo.cost("leaky", slope=0.0), zoo.margin("lp"))
    first, second = play(leaky, LINE, short, 0).generator, play(game("ls-gan"), LINE, short, 0).generator
    torch.testing.assert_close(first.first, second.first, rtol=1e-5, atol=1e-6)
    assert not torch.equal(first.first, untrained(LINE, short, 0).first)


def test_rates_are_constant_for_half_the_rounds_and_then_fall_to_0() -> None:
    """The generator's gradient hardly changes on a short way: that way is the rates' sum, 1/2 + 1/4 of a constant's."""

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean()

    still = Objective(lambda critic, real, fake: critic(fake).mean(), generator_loss)
    match = TINY._replace(rounds=60, critic_steps=1, generator_rate=0.01, batch=256, tilt=0.0)
    start = untrained(LINE, match, 0)
    z = torch.rand(100_000, start.z_dim, generator=stream("rates")) * 2 - 1
    (gradient,) = torch.autograd.grad(start(z).mean(), start.first)
    moved = start.first - play(still, LINE, match, 0).generator.first
    torch.testing.assert_close(moved.detach(), 0.75 * 60 * 0.01 * gradient, rtol=0.05, atol=1e-3)


def test_an_objective_that_needs_a_critic_of_at_least_0_gets_one() -> None:
    critic = SmoothCritic(1, 2, 8, seed=0)
    x = as_images(torch.linspace(-1, 1, 50)[:, None])
    balanced = as_played(critic, game("ls-gan", balance=2.0))
    torch.testing.assert_close(balanced(x), nn.functional.softplus(critic(x)))
    torch.testing.assert_close(as_played(critic, game("ls-gan"))(x), critic(x))


def test_labels_are_refused() -> None:
    needy = Objective(lambda critic, real, fake: critic(real).mean(), needs=frozenset({Need.LABELS}))
    with pytest.raises(UserError, match="needs labels, and points of a density have none"):
        play(needy, LINE, TINY, 0)


def test_the_critic_is_constrained_after_each_of_its_steps() -> None:
    seen: list[nn.Module] = []
    plain = game()
    play(plain._replace(constrain=seen.append), LINE, TINY._replace(rounds=3, critic_steps=2), 0)
    assert len(seen) == 6


def test_the_control_comes_nearer_than_any_game_of_the_tests() -> None:
    assert distance(ONE, nearest(ONE, TINY, 0, steps=150)) < 0.1
