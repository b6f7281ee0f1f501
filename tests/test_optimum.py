"""The optimal loss without parameters, against closed forms, optimal transport, its dual and other losses."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from torch import nn

from ganzoo.errors import UserError
from ganzoo.paper import Options
from ganzoo.randomness import derive, stream
from ganzoo.theory import optimum as programme
from ganzoo.theory.certificate import certify, oracle
from ganzoo.theory.cones import between, extremes, lipschitz_constant, lower, upper
from ganzoo.theory.optimum import (
    BYTES_A_ROW,
    Array,
    Optimum,
    available_memory,
    empirical_objective,
    full_bytes,
    largest_violation,
    point_distances,
    solve,
)
from ganzoo_paper import figure_1

M = 12


def clouds(m: int = M, dimensions: int = 2, seed: int = 0) -> Array:
    random = np.random.default_rng(derive("clouds", m, dimensions, seed))
    return np.concatenate([random.normal(0, 1, (m, dimensions)), random.normal(0.5, 0.8, (m, dimensions))])


def objective_of(losses: Array, distances: Array, balance: float | None) -> float:
    m = len(losses) // 2
    return empirical_objective(losses[:m], losses[m:], np.diagonal(distances, offset=m), balance)


SETTINGS = [(kappa, balance) for kappa in (0.4, 1.0, 1.7) for balance in (0.3, 1.0, 4.0, None)]


# The value.


@pytest.mark.parametrize("kappa", [0.1, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("balance", [0.5, 2.0, None])
@pytest.mark.parametrize("way", ["full", "lazy"])
def test_one_pair_violates_its_margin_by_what_the_slope_cannot_reach(
    kappa: float, balance: float | None, way: Any
) -> None:
    distances = np.array([[0.0, 5.0], [5.0, 0.0]])
    found = solve(distances, kappa=kappa, balance=balance, way=way)
    assert found.value == pytest.approx((balance or 1) * max(1 - kappa, 0) * 5)
    assert found.losses[0] == pytest.approx(0, abs=1e-9)
    assert found.xi == pytest.approx([max(1 - kappa, 0) * 5])


@pytest.mark.parametrize("kappa", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("balance", [1, 2, 3])
@pytest.mark.parametrize("dimensions", [1, 5])
def test_up_to_slope_1_the_value_is_that_of_a_transport_to_spare_places(
    kappa: float, balance: int, dimensions: int
) -> None:
    # No hinge is ever inactive; the dual carries balance/m from every generated point to real ones that take up to
    # (1 + balance)/m each: copies of the points make that an assignment.
    points = clouds(dimensions=dimensions)
    distances = point_distances(points)
    costs = np.repeat(np.repeat(distances[M:, :M], balance, axis=0), 1 + balance, axis=1)
    transport = costs[linear_sum_assignment(costs)].sum() / M
    expected = balance * np.diagonal(distances, offset=M).mean() - kappa * transport
    assert solve(distances, kappa=kappa, balance=balance).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kappa", [0.3, 1.0])
def test_in_the_limit_of_the_balance_the_value_is_the_mean_margin_less_kappa_times_the_wasserstein_distance(
    kappa: float,
) -> None:
    distances = point_distances(clouds(), p=1)
    costs = distances[M:, :M]
    wasserstein = costs[linear_sum_assignment(costs)].mean()
    expected = np.diagonal(distances, offset=M).mean() - kappa * wasserstein
    assert solve(distances, kappa=kappa, balance=None).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kappa", [0.6, 1.4])
def test_a_growing_balance_tends_to_the_programme_without_the_first_term(kappa: float) -> None:
    distances = point_distances(clouds())
    limit = solve(distances, kappa=kappa, balance=None).value
    ratios = [solve(distances, kappa=kappa, balance=balance).value / balance for balance in (1.0, 10.0, 1e3, 1e5)]
    assert sorted(ratios, reverse=True) == ratios
    assert ratios[-1] == pytest.approx(limit, rel=1e-4)


def test_with_a_slope_large_enough_every_margin_is_met_by_generated_points_alone() -> None:
    distances = point_distances(clouds())
    enough = np.diagonal(distances, offset=M) / distances[M:, :M].min(axis=1)
    found = solve(distances, kappa=1.01 * enough.max())
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.losses[:M] == pytest.approx(np.zeros(M), abs=1e-9)


@pytest.mark.parametrize(("kappa", "balance"), SETTINGS)
@pytest.mark.parametrize("dimensions", [1, 2, 20])
def test_the_lazy_way_finds_the_full_ones_value(kappa: float, balance: float | None, dimensions: int) -> None:
    distances = point_distances(clouds(dimensions=dimensions))
    full = solve(distances, kappa=kappa, balance=balance, way="full")
    lazy = solve(distances, kappa=kappa, balance=balance, way="lazy", neighbours=1, cuts=1)
    assert lazy.value == pytest.approx(full.value, rel=1e-9, abs=1e-12)
    assert full.pairs == 2 * M * (2 * M - 1)
    assert full.rounds == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=10),
    st.floats(0.05, 5),
    st.one_of(st.none(), st.floats(0.01, 100)),
    st.sampled_from([1.0, 1.5, 2.0, math.inf]),
)
def test_both_ways_agree_and_prove_it_wherever_the_points_lie(
    points: list[tuple[int, int]], kappa: float, balance: float | None, p: float
) -> None:
    # Integers: points coincide, real ones, generated ones and one with the other; ties abound.
    points = points[: len(points) // 2 * 2]
    distances = point_distances(np.array(points), p=p)
    solved = [solve(distances, kappa=kappa, balance=balance, way=way, neighbours=1) for way in ("full", "lazy")]
    assert solved[0].value == pytest.approx(solved[1].value, rel=1e-8, abs=1e-9)
    for found in solved:
        assert_proved(found)


def assert_proved(found: Optimum) -> None:
    proof = certify(found)
    scale = (found.balance or 1) * max(1.0, float(found.distances.max())) + 1
    assert proof.primal == found.value
    assert abs(proof.gap) <= 1e-8 * scale
    assert proof.primal_violation <= 1e-8 * scale
    assert proof.dual_violation <= 1e-8
    assert proof.slackness <= 1e-8 * scale
    assert found.violation == largest_violation(found.losses, found.distances, found.kappa)
    m = len(found.xi)
    assert found.xi == pytest.approx(
        np.maximum(np.diagonal(found.distances, offset=m) + found.losses[:m] - found.losses[m:], 0)
    )


@pytest.mark.parametrize("way", ["full", "lazy"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_in_another_unit_of_distance_losses_and_value_are_in_that_unit(way: Any, scale: float) -> None:
    distances = point_distances(clouds())
    found, scaled = (solve(distances * unit, kappa=0.8, way=way) for unit in (1.0, scale))
    assert scaled.value == pytest.approx(scale * found.value, rel=1e-9)
    assert scaled.losses == pytest.approx(scale * found.losses, rel=1e-7, abs=1e-9 * scale)


def test_a_larger_lipschitz_constant_is_never_worse_and_the_value_is_concave_in_the_balance() -> None:
    distances = point_distances(clouds())
    values = [solve(distances, kappa=kappa).value for kappa in (0.2, 0.5, 0.9, 1.3, 2.0, 4.0)]
    assert sorted(values, reverse=True) == values
    low, middle, high = (solve(distances, kappa=0.7, balance=balance).value for balance in (0.5, 1.0, 1.5))
    assert middle >= (low + high) / 2 - 1e-12


def test_the_lazy_way_uses_few_constraints_of_many_points_and_several_rounds() -> None:
    found = solve(point_distances(clouds(150)), kappa=0.5, neighbours=2, cuts=2)
    assert found.rounds > 1
    assert found.pairs < 0.05 * 300 * 299
    assert_proved(found)
    assert found.seconds > 0


@pytest.mark.parametrize("neighbours", [1, 3, M, 1000])
def test_the_lazy_way_starts_with_the_pairs_and_the_nearest_of_the_other_kind(neighbours: int) -> None:
    distances = point_distances(clouds())
    across = distances[M:, :M]
    start = {(i, i) for i in range(M)}
    for i in range(M):
        start |= {(i, int(k)) for k in np.argsort(across[i])[:neighbours]}
        start |= {(int(j), i) for j in np.argsort(across[:, i])[:neighbours]}
    found = solve(distances, kappa=50.0, neighbours=neighbours)  # so steep that one round is enough
    assert (found.rounds, found.pairs) == (1, len(start))


def test_each_round_adds_at_most_its_cuts_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = programme._optimal
    sizes: list[int] = []
    monkeypatch.setattr(programme, "_optimal", lambda task, j, k: sizes.append(len(j)) or solved(task, j, k))
    m = 100
    found = solve(point_distances(clouds(m)), kappa=0.5, neighbours=1, cuts=1)
    added = np.diff(sizes)
    assert found.rounds == len(sizes) > 2
    assert found.pairs == sizes[-1]
    assert added.min() > 0
    assert added.max() <= 2 * m  # one for each of m rows and m columns


@pytest.mark.parametrize("way", ["full", "lazy"])
def test_in_the_limit_of_the_balance_the_solution_with_least_loss_0_is_returned(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distances = point_distances(clouds())
    usual = solve(distances, kappa=0.6, balance=None, way=way)
    solved = programme._optimal

    def shifted(*arguments: Any) -> Any:
        found = solved(*arguments)
        return found._replace(losses=found.losses + 3)  # as good a solution, which HiGHS might have found

    monkeypatch.setattr(programme, "_optimal", shifted)
    found = solve(distances, kappa=0.6, balance=None, way=way)
    assert usual.losses.min() == found.losses.min() == 0
    assert found.value == pytest.approx(usual.value)


@pytest.mark.parametrize("balance", [1.0, None])
def test_what_is_no_metric_is_solved_as_well(balance: float | None) -> None:
    # Squared distances: detours are shorter, so that constraints between points of one kind matter.
    distances = point_distances(clouds()) ** 2
    full, lazy = (solve(distances, kappa=0.5, balance=balance, way=way, neighbours=1) for way in ("full", "lazy"))
    assert lazy.value == pytest.approx(full.value, rel=1e-9)
    assert_proved(lazy)
    across = np.zeros((2 * M, 2 * M), dtype=bool)
    across[M:, :M] = True
    assert (lazy.flow.toarray()[~across] > 1e-6).any()


# Its proof.


@pytest.mark.parametrize(("kappa", "balance"), SETTINGS)
@pytest.mark.parametrize("way", ["full", "lazy"])
def test_a_solution_is_proved_by_its_multipliers(kappa: float, balance: float | None, way: Any) -> None:
    assert_proved(solve(point_distances(clouds(30)), kappa=kappa, balance=balance, way=way))


def test_a_certificate_sees_what_is_wrong() -> None:
    found = solve(point_distances(clouds()), kappa=0.6)
    assert certify(found._replace(losses=found.losses + 0.1)).gap == pytest.approx(0.1)
    assert certify(found._replace(losses=found.losses * 2)).primal_violation > 0.1
    assert certify(found._replace(losses=found.losses - 0.1)).primal_violation == pytest.approx(0.1)
    assert certify(found._replace(hinge=found.hinge * 0.5)).gap > 0.01
    assert certify(found._replace(hinge=found.hinge * 1.5)).dual_violation > 0.1
    assert certify(found._replace(hinge=-found.hinge)).dual_violation > 0.1
    assert certify(found._replace(flow=-found.flow)).dual_violation > 0.1
    assert certify(found._replace(flow=0 * found.flow)).dual_violation > 0.1
    assert certify(found._replace(flow=found.flow * 1.5)).gap > 0.01
    assert certify(found._replace(losses=np.zeros(2 * M))).slackness > 1e-3
    # A circular flow through one pair leaves every reduced cost as it is.
    for change, way in ((2.0, (M, 0)), (-2.0, (0, M))):
        hinge, flow = found.hinge.copy(), found.flow.tolil()
        hinge[0] += change
        flow[way] += abs(change)
        wrong = certify(found._replace(hinge=hinge, flow=flow.tocsr()))
        expected = hinge[0] - 1 / M if change > 0 else -hinge[0]
        assert wrong.dual_violation == pytest.approx(expected * M)


@pytest.mark.parametrize(("kappa", "balance"), SETTINGS)
def test_no_other_lipschitz_loss_does_better(kappa: float, balance: float | None) -> None:
    distances = point_distances(clouds())
    found = solve(distances, kappa=kappa, balance=balance)
    random = np.random.default_rng(derive("losses", SETTINGS.index((kappa, balance))))
    for spread in (0.01, 0.1, 1.0, 5.0):
        for _ in range(25):
            # Near the optimum, and made kappa-Lipschitz by the upper cones.
            values = np.maximum(found.losses + spread * random.normal(size=2 * M), 0)
            losses = upper(distances, values, kappa)
            assert lipschitz_constant(losses, distances) <= kappa * (1 + 1e-9)
            assert objective_of(losses, distances, balance) >= found.value - 1e-12


# The cones.


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_the_bounds_and_what_is_between_them_interpolate_and_are_lipschitz(p: float, gamma: float) -> None:
    points, kappa = clouds(), 0.7
    found = solve(point_distances(points, p=p), kappa=kappa)
    assert between(found.distances, found.losses, kappa, gamma) == pytest.approx(found.losses, abs=1e-12)
    places = np.random.default_rng(derive("places")).uniform(-3, 3, (200, 2))
    values = between(point_distances(places, points, p), found.losses, kappa, gamma)
    assert lipschitz_constant(values, point_distances(places, p=p)) <= kappa * (1 + 1e-9)
    assert values.min() >= 0
    assert objective_of(between(found.distances, found.losses, kappa, gamma), found.distances, 1.0) == pytest.approx(
        found.value
    )


def test_gamma_1_is_the_lower_bound_0_the_upper_and_the_lower_one_is_below() -> None:
    points = clouds()
    found = solve(point_distances(points), kappa=0.7)
    to_points = point_distances(np.random.default_rng(derive("places")).uniform(-3, 3, (200, 2)), points)
    low, high = (bound(to_points, found.losses, found.kappa) for bound in (lower, upper))
    assert between(to_points, found.losses, found.kappa, 1.0) == pytest.approx(low)
    assert between(to_points, found.losses, found.kappa, 0.0) == pytest.approx(high)
    assert (low <= high + 1e-12).all()
    assert (low < high - 0.1).any()
    assert low.min() == 0  # clipped


def test_cones_of_two_points_on_a_line_are_those_drawn_by_hand() -> None:
    to_points = point_distances([[-1.0], [0.0], [1.0], [2.0], [9.0]], [[0.0], [2.0]])
    assert lower(to_points, [0.0, 1.0], 1.0) == pytest.approx([0, 0, 0, 1, 0])
    assert upper(to_points, [0.0, 1.0], 1.0) == pytest.approx([1, 0, 1, 1, 8])


def test_a_lipschitz_loss_lies_between_the_cones_of_its_own_values_whether_optimal_or_not() -> None:
    points, kappa = clouds(), 1.3
    random = np.random.default_rng(derive("own cones"))
    apexes, heights = random.normal(size=(5, 2)), random.uniform(0, 2, 5)

    def loss(places: Array) -> Array:
        return np.abs(upper(point_distances(places, apexes), heights, kappa) - 0.7)

    places = random.uniform(-3, 3, (300, 2))
    to_points, values = point_distances(places, points), loss(places)
    assert (lower(to_points, loss(points), kappa) <= values + 1e-12).all()
    assert (values <= upper(to_points, loss(points), kappa) + 1e-12).all()


def test_the_cones_of_one_solution_do_not_bound_the_other_solutions() -> None:
    distances, kappa = np.array([[0.0, 1.0], [1.0, 0.0]]), 2.0
    one, other = np.array([0.0, 1.0]), np.array([0.0, 2.0])
    best = solve(distances, kappa=kappa).value
    for losses in (one, other):
        assert objective_of(losses, distances, 1.0) == best == 0
        assert largest_violation(losses, distances, kappa) == 0
    assert upper(distances, one, kappa)[1] < other[1]


def other_solutions(found: Optimum, count: int) -> Iterator[Array]:
    """Vertices of the optimal face in random directions: the programme again, its objective now a constraint."""
    delta, balance = found.distances, found.balance
    n = len(delta)
    m = n // 2
    random = np.random.default_rng(derive("directions"))
    j, k = np.nonzero(~np.eye(n, dtype=bool))
    lipschitz, hinge = np.zeros((len(j), n + m)), np.zeros((m, n + m))
    rows, i = np.arange(len(j)), np.arange(m)
    lipschitz[rows, j], lipschitz[rows, k] = 1, -1
    hinge[i, i], hinge[i, m + i], hinge[i, n + i] = 1, -1, -1
    weights = np.repeat([0.0, 0.0, 1 / m] if balance is None else [1 / m, 0.0, balance / m], m)
    limits = np.concatenate([found.kappa * delta[j, k], -np.diagonal(delta, offset=m), [found.value + 1e-10]])
    for _ in range(count):
        direction = np.concatenate([random.normal(size=n), np.zeros(m)])
        step = linprog(
            direction, np.vstack([lipschitz, hinge, weights]), limits, bounds=(0, 9 * delta.max()), method="highs-ds"
        )
        assert step.status == 0
        yield step.x[:n]


@pytest.mark.parametrize(("kappa", "balance"), [(0.5, 1.0), (1.0, 1.0), (1.6, 1.0), (1.6, 0.3), (1.6, None)])
@pytest.mark.parametrize("way", ["full", "lazy"])
def test_every_solution_is_between_the_least_and_the_greatest_which_are_solutions(
    kappa: float, balance: float | None, way: Any
) -> None:
    found = solve(point_distances(clouds()), kappa=kappa, balance=balance, way=way)
    least, greatest = extremes(found)
    for losses in (least,) if balance is None else (least, greatest):
        assert losses.min() >= 0
        assert largest_violation(losses, found.distances, kappa) <= 1e-9
        assert objective_of(losses, found.distances, balance) == pytest.approx(found.value, abs=1e-9)
    assert (greatest == np.inf).all() == (balance is None)
    solutions = [found.losses, *other_solutions(found, 12)]
    for losses in solutions:
        assert (least <= losses + 1e-6).all()
        assert (losses <= greatest + 1e-6).all()
    if kappa == 1.6:
        assert max(np.abs(losses - found.losses).max() for losses in solutions) > 0.1  # there are several


@pytest.mark.parametrize("balance", [0.3, 1.0])
def test_the_least_and_greatest_solutions_are_those_of_two_more_programmes(balance: float) -> None:
    found = solve(point_distances(clouds()), kappa=1.6, balance=balance)
    least, greatest = extremes(found)
    reached = list(other_solutions(found, 60))
    assert np.min(reached, axis=0) == pytest.approx(least, abs=1e-6)
    assert np.max(reached, axis=0) == pytest.approx(greatest, abs=1e-6)


def test_contradictory_multipliers_have_no_extreme_solutions() -> None:
    found = solve(point_distances(clouds()), kappa=0.5)
    flow = found.flow + found.flow.T  # both l_j - l_k and l_k - l_j at their largest
    with pytest.raises(UserError, match=r"the multipliers .* contradict each other: they are not those of an optimum"):
        extremes(found._replace(flow=flow))


def test_points_that_coincide_have_one_loss_and_their_pair_violates_nothing() -> None:
    points = clouds()
    points[1] = points[0]  # two real ones
    points[M + 3] = points[M + 2]  # two generated ones
    points[M + 4] = points[4]  # a pair: margin 0
    points[M + 6] = points[5]  # a real and a generated one of other pairs
    for way in ("full", "lazy"):
        found = solve(point_distances(points), kappa=0.8, way=way)
        for one, other in ((0, 1), (M + 2, M + 3), (4, M + 4), (5, M + 6)):
            assert found.losses[one] == pytest.approx(found.losses[other], abs=1e-9)
        assert found.xi[4] == pytest.approx(0, abs=1e-9)
        assert_proved(found)
        extremes(found)


@pytest.mark.parametrize("way", ["full", "lazy"])
@pytest.mark.parametrize("balance", [1.0, None])
def test_points_that_all_coincide_are_worth_nothing(way: Any, balance: float | None) -> None:
    found = solve(np.zeros((6, 6)), kappa=2.0, way=way, balance=balance)
    assert found.value == 0
    assert found.losses.tolist() == [0.0] * 6


# The oracle.


def trained_critic(points: Array, steps: int = 300) -> Array:
    """LS-GAN's S_m by Adam over a small non-negative critic; its losses at the points."""
    with torch.random.fork_rng():
        torch.manual_seed(stream("critic", 0).initial_seed())
        critic = nn.Sequential(
            nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1), nn.Softplus()
        )
    x = torch.tensor(points, dtype=torch.float32)
    m = len(x) // 2
    margins = (x[:m] - x[m:]).norm(dim=1)
    adam = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(steps):
        losses = critic(x).squeeze(1)
        value = losses[:m].mean() + (margins + losses[:m] - losses[m:]).clamp(min=0).mean()
        adam.zero_grad()
        value.backward()
        adam.step()
    found: Array = critic(x).detach().squeeze(1).double().numpy()
    return found


def test_a_trained_critic_comes_near_the_optimum_of_its_own_lipschitz_constant_and_never_below() -> None:
    points = clouds(20)
    distances = point_distances(points)
    fresh, trained = (oracle(trained_critic(points, steps), distances) for steps in (0, 300))
    assert fresh.gap > 0
    assert trained.gap > 0
    assert trained.value < 0.8 * fresh.value
    assert trained.gap == pytest.approx(trained.value - trained.optimum)
    assert trained.optimum == pytest.approx(solve(distances, kappa=trained.kappa).value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=8, max_size=8), st.one_of(st.none(), st.floats(0.1, 10)))
def test_no_losses_are_below_the_optimum_of_their_own_lipschitz_constant(
    losses: list[float], balance: float | None
) -> None:
    # A constant below is a slope of 1e-8 and less: there the solver's tolerance is all there is to see.
    values = np.round(losses, 3)
    found = oracle(values, point_distances(clouds(4)), balance)
    assert found.gap == found.value - found.optimum
    assert found.gap >= -1e-8 * (balance or 1) * 10
    assert found.value == pytest.approx(objective_of(values, point_distances(clouds(4)), balance))


def test_of_the_optimum_itself_the_oracle_leaves_nothing() -> None:
    distances = point_distances(clouds())
    found = solve(distances, kappa=0.6)
    seen = oracle(found.losses, distances)
    assert seen.kappa == pytest.approx(0.6)
    assert seen.gap == pytest.approx(0, abs=1e-9)


def test_the_oracle_would_show_an_optimum_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.theory.certificate.solve", lambda *_, **__: SimpleNamespace(value=99.0))
    assert oracle(np.arange(4.0), GOOD).gap < -90


@pytest.mark.parametrize("balance", [2.0, None])
def test_a_constant_critic_is_compared_with_the_constant_0(balance: float | None) -> None:
    distances = point_distances(clouds())
    found = oracle(np.full(2 * M, 0.25), distances, balance)
    assert found.kappa == 0
    assert found.optimum == pytest.approx((balance or 1) * np.diagonal(distances, offset=M).mean())
    assert found.gap == pytest.approx(0.25 if balance else 0)


def test_in_the_limit_of_the_balance_the_oracle_takes_losses_of_any_sign() -> None:
    distances = point_distances(clouds())
    losses = np.random.default_rng(derive("any sign")).normal(size=2 * M)
    one, other = (oracle(losses + shift, distances, None) for shift in (0.0, 7.0))
    assert one.gap == pytest.approx(other.gap)
    with pytest.raises(UserError, match=r"the critic's least loss is -\S+: with a finite balance L is at least 0"):
        oracle(losses, distances)


def test_a_critic_that_tells_coinciding_points_apart_has_no_lipschitz_constant() -> None:
    points = np.zeros((4, 2))
    with pytest.raises(UserError, match="the critic differs on points that coincide"):
        oracle([0.0, 0.0, 0.0, 1.0], point_distances(points))
    assert oracle([0.5] * 4, point_distances(points)).value == 0.5


# Distances, memory and slips.


def test_distances_are_those_of_numpys_norm_and_flatten_images() -> None:
    random = np.random.default_rng(derive("images"))
    one, two = random.normal(size=(4, 3, 2, 2)), random.normal(size=(5, 3, 2, 2))
    for p in (1.0, 2.0, 3.0, math.inf):
        expected = [[np.linalg.norm((a - b).ravel(), p) for b in two] for a in one]
        assert point_distances(one, two, p=p) == pytest.approx(np.array(expected))
    assert point_distances(one) == pytest.approx(point_distances(one, one))


def test_the_objective_is_the_papers_line_by_line() -> None:
    assert empirical_objective([1.0, 2.0], [5.0, 2.5], [3.0, 1.0], 4.0) == pytest.approx(1.5 + 4 * (0 + 0.5) / 2)
    assert empirical_objective([1.0, 2.0], [5.0, 2.5], [3.0, 1.0], None) == pytest.approx(0.25)


def test_a_full_programme_that_does_not_fit_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programme, "_full", lambda *_: pytest.fail("it started"))
    distances = point_distances(clouds(40))
    with pytest.raises(
        UserError,
        match=r"full programme of m = 40 pairs needs about 0\.0 GB, there are 0\.0: at most m = 20 fits; way='lazy'",
    ):
        solve(distances, kappa=1.0, way="full", memory=full_bytes(20))
    monkeypatch.setattr(programme, "available_memory", lambda: full_bytes(39))
    with pytest.raises(UserError, match="at most m = 39 fits"):
        solve(distances, kappa=1.0, way="full")
    with pytest.raises(UserError, match="at most m = 38 fits"):
        solve(distances, kappa=1.0, way="full", memory=full_bytes(39) - 1)
    assert solve(distances, kappa=1.0, way="lazy").value > 0


def test_a_full_programme_that_just_fits_is_solved() -> None:
    distances = point_distances(clouds(4))
    assert solve(distances, kappa=1.0, way="full", memory=full_bytes(4)).rounds == 1
    assert full_bytes(4) == BYTES_A_ROW * 56


def test_the_memory_of_the_machine_is_known_where_it_says_so() -> None:
    available = available_memory()
    assert available is None or 1e6 < available < 1e15


def test_a_containers_limit_counts_and_without_any_word_the_whole_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:   4000 kB\n",
        "/sys/fs/cgroup/memory.max": "3000\n",
        "/sys/fs/cgroup/memory.current": "1000\n",
    }

    def read_text(self: Path) -> str:
        try:
            return files[str(self)]
        except KeyError:
            raise FileNotFoundError from None

    monkeypatch.setattr(programme.Path, "read_text", read_text)
    assert available_memory() == 2000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert available_memory() == 4000 * 1024
    files.clear()
    monkeypatch.setattr(programme.os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert available_memory() == 40960
    monkeypatch.delattr(programme.os, "sysconf")
    assert available_memory() is None


GOOD = point_distances(clouds(2))


def changed(**cells: float) -> Array:
    distances = GOOD.copy()
    for place, value in cells.items():
        j, k = int(place[1]), int(place[2])
        distances[j, k] = value
    return distances


@pytest.mark.parametrize(
    ("distances", "arguments", "said"),
    [
        (GOOD, {"kappa": 0.0}, r"^kappa is 0\.0, not a positive finite number$"),
        (GOOD, {"kappa": -1.0}, "kappa is -1.0"),
        (GOOD, {"kappa": math.inf}, "kappa is inf"),
        (GOOD, {"kappa": math.nan}, "kappa is nan"),
        (GOOD, {"balance": 0.0}, r"balance is 0\.0, not a positive finite number; None is the limit of infinity"),
        (GOOD, {"balance": -2.0}, "balance is -2.0"),
        (GOOD, {"balance": math.inf}, "balance is inf"),
        (GOOD, {"balance": math.nan}, "balance is nan"),
        (GOOD, {"way": "lasy"}, "no way to solve 'lasy'; did you mean 'lazy'\\? there are: full, lazy"),
        (GOOD, {"neighbours": 0}, "neighbours is 0, not at least 1"),
        (GOOD, {"cuts": 0}, "cuts is 0, not at least 1"),
        (GOOD[:3], {}, r"distances have shape \(3, 4\), not \(2m, 2m\)"),
        (GOOD[0], {}, r"distances have shape \(4,\), not \(2m, 2m\)"),
        (GOOD[:3, :3], {}, "distances are those of 3 points, not of an even number"),
        (np.zeros((0, 0)), {}, "distances are those of 0 points"),
        (changed(_01=math.nan), {}, "1 of the distances are not finite"),
        (changed(_01=math.inf, _10=math.inf), {}, "2 of the distances are not finite"),
        (changed(_01=-1.0, _10=-1.0), {}, r"distances are negative: the least is -1\.0"),
        (changed(_22=0.5), {}, r"a point's distance to itself is 0\.5, not 0"),
        (changed(_01=9.0, _10=8.5), {}, r"not symmetric: Delta\(j, k\) and Delta\(k, j\) differ by 0\.5"),
    ],
)
def test_a_programme_that_cannot_be_says_why(distances: Array, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        solve(distances, **{"kappa": 1.0, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "verdict"), [(2, "infeasible"), (3, "unbounded"), (1, "unsolved"), (4, "unsolved")])
def test_what_highs_cannot_solve_is_said_in_one_line(
    status: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programme, "linprog", lambda *_, **__: SimpleNamespace(status=status, message="so\n it  is"))
    said = f"^HiGHS calls the programme of m = 2 with 12 Lipschitz constraints {verdict}: so it is$"
    with pytest.raises(UserError, match=said):
        solve(GOOD, kappa=1.0, way="full")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: point_distances([[0.0]], p=0.5), r"p is 0\.5, not at least 1"),
        (lambda: point_distances([[0.0]], p=math.nan), "p is nan, not at least 1"),
        (lambda: point_distances([0.0, 1.0]), r"points have shape \(2,\), not \(N, \.\.\.\)"),
        (lambda: point_distances(np.zeros((0, 2))), r"points have shape \(0, 2\)"),
        (lambda: point_distances([[math.inf]]), "points are not all finite"),
        (lambda: point_distances([[1.0]], [[1.0, 2.0]]), "points have 1 coordinates, others 2"),
        (lambda: empirical_objective([1.0], [1.0, 2.0], [1.0]), r"real losses are \(1,\), generated ones \(2,\)"),
        (lambda: empirical_objective([], [], []), "with m >= 1"),
        (lambda: empirical_objective([1.0], [math.nan], [1.0]), "generated losses are not all finite"),
        (lambda: empirical_objective([1.0], [1.0], [1.0], balance=0), "balance is 0, not a positive"),
        (lambda: between(GOOD, np.zeros(4), 1.0, 1.5), r"gamma is 1\.5, not in \[0, 1\]"),
        (lambda: lower(GOOD, np.zeros(3), 1.0), r"to points have shape \(4, 4\), losses \(3,\)"),
        (lambda: upper(GOOD[0], np.zeros(4), 1.0), r"to points have shape \(4,\), losses \(4,\)"),
        (lambda: lipschitz_constant(np.zeros(4), GOOD[:3]), r"distances have shape \(3, 4\), not \(4, 4\)"),
        (lambda: oracle([0.0, 1.0, math.nan, 1.0], GOOD), "the critic's losses are not all finite"),
    ],
)
def test_a_slip_is_answered_in_one_line(call: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


# The figure.


def test_the_gradients_of_the_figure_are_those_of_a_known_function() -> None:
    places = np.array([[1.0, 2.0], [-3.0, 0.5]])
    found = figure_1.gradient(lambda x: x[:, 0] ** 2 + 3 * x[:, 1], places)
    assert found == pytest.approx(np.array([[2.0, 3.0], [-6.0, 3.0]]), abs=1e-6)


def test_a_generated_point_is_at_a_minimum_where_its_own_cone_is_below_all_others() -> None:
    found = solve(point_distances([[0.0], [4.0], [1.0], [5.0]]), kappa=2.0)
    assert figure_1.at_minimum(found, np.array([0.0, 0.0, 1.0, 2.0])) == 0.5  # 1 < 0 + 2 * 1, but 2 = 0 + 2 * 1


def test_shares_of_slopes_are_counted() -> None:
    example = figure_1.on_a_plane(m=5, kappa=2.0)
    row = figure_1.slope_row(example, "half", np.array([2.0, 0.0, 2.0 - 1e-9, 1.0]), where="plane")
    assert (row["share_kappa"], row["share_flat"], row["steepest"], row["places"]) == (0.5, 0.25, 2.0, 4)


def test_the_figures_losses_are_the_bounds_and_what_is_halfway() -> None:
    points, optimum = figure_1.on_a_plane(m=5)
    places = np.random.default_rng(derive("places")).uniform(-3, 3, (50, 2))
    low, high = (bound(point_distances(places, points), optimum.losses, optimum.kappa) for bound in (lower, upper))
    expected = {"lower": low, "upper": high, "half": (low + high) / 2}
    for name, gamma in figure_1.LOSSES.items():
        found = figure_1.loss_at(figure_1.Example(points, optimum), places, gamma=gamma)
        assert found == pytest.approx(expected[name])


def test_the_growth_exponent_is_that_of_a_power() -> None:
    rows = [{"m": m, "seconds": 0.1 * m**2.5} for m in (50, 400, 100)]
    assert figure_1.exponent(rows, "seconds") == pytest.approx(2.5)


def test_the_figure_is_made_with_its_rows_and_a_text_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figure_1.SIZES, "small", figure_1.Size(full=(5, 10), lazy=(5, 10, 20)))
    # The children's start is what would take long here.
    monkeypatch.setattr(
        figure_1,
        "grown",
        lambda size: [figure_1.measured(m, way) for way in ("full", "lazy") for m in getattr(size, way)],
    )
    monkeypatch.setattr(figure_1, "memory_mb", {"VmRSS": 1.0, "VmHWM": 3.0}.__getitem__)
    text = " ".join(figure_1.run(Options(tmp_path)).split())
    assert "Both ways find the same optimum" in text
    assert "holds for the upper loss" in text
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["m"] for row in rows if row["part"] == "growth" and row["way"] == "lazy"} == {5, 10, 20}
    assert {row["peak_mb"] for row in rows if row["part"] == "growth"} == {2.0}
    slopes = [row for row in rows if row["part"] == "slope"]
    assert all(row["share_kappa"] > 0.995 for row in slopes if row["loss"] == "upper")
    assert all(row["steepest"] < row["kappa"] * (1 + 1e-4) for row in slopes)
    for name in ("cones.png", "contour.png", "growth.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size < 150_000


def test_the_text_says_so_where_the_ways_differ() -> None:
    slope = {"part": "slope", "share_kappa": 0.5, "share_flat": 0.0, "at_minimum_of_least": 0.0}
    slopes = [slope | {"loss": loss} for loss in ("upper", "half", "lower")]
    growth = [
        {
            "m": m,
            "way": way,
            "value": value,
            "seconds": m * 1.0,
            "peak_mb": m * 1.0,
            "duality_gap": 0.0,
            "constraints": 3,
        }
        for way, value in (("full", 1.0), ("lazy", 1.1))
        for m in (5, 10)
    ]
    said = " ".join(figure_1.conclusion(slopes, growth).split())
    assert "find DIFFERENT optimum" in said
    assert "FAILS for the upper loss" in said
    assert "holds for the lower one" in said
    assert "does not vanish" in said


def test_a_measurement_in_a_process_of_its_own_has_its_time_and_memory() -> None:
    rows = figure_1.grown(figure_1.Size(full=(), lazy=(20,)))
    assert [(row["m"], row["way"]) for row in rows] == [(20, "lazy")]
    assert rows[0]["seconds"] > 0
    assert rows[0]["peak_mb"] >= 0
    assert rows[0]["value"] == pytest.approx(figure_1.measured(20, "lazy")["value"], rel=1e-12)
