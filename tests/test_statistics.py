"""The tests of significance against enumeration and hand-worked examples."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo.statistics import differences_to, holm, interval_of_mean, reach, sign_flip_p, smallest_p


def enumerated_p(differences: list[float]) -> float:
    """Every assignment of signs, one by one: the share whose mean is at least as far from 0."""
    observed = abs(math.fsum(differences))
    count = 0
    for signs in itertools.product((-1, 1), repeat=len(differences)):
        flipped = math.fsum(sign * value for sign, value in zip(signs, differences, strict=True))
        count += abs(flipped) >= observed * (1 - 1e-12)
    return count / 2 ** len(differences)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1000, 1000).map(lambda i: i / 64), min_size=2, max_size=7))
def test_the_sign_flip_p_is_that_of_the_enumeration(differences: list[float]) -> None:
    assert sign_flip_p(differences) == pytest.approx(enumerated_p(differences), abs=1e-12)


@pytest.mark.parametrize("seeds", range(1, 11))
def test_the_smallest_p_is_reached_by_the_extreme_sample_and_no_other_goes_below(seeds: int) -> None:
    extreme = [1.0 + 0.1 * i for i in range(seeds)]
    assert sign_flip_p(extreme) == pytest.approx(smallest_p(seeds))
    assert sign_flip_p([-value for value in extreme]) == pytest.approx(smallest_p(seeds))
    if seeds > 1:
        assert sign_flip_p([-5.0, *extreme[1:]]) > smallest_p(seeds)


def test_five_seeds_never_get_below_one_sixteenth_and_eight_reach_one_in_128() -> None:
    assert smallest_p(5) == 0.0625
    assert smallest_p(8) == 0.0078125
    assert smallest_p(1) == 1.0


def test_nothing_to_compare_is_no_evidence() -> None:
    assert sign_flip_p([]) == 1.0
    assert sign_flip_p([3.0]) == 1.0
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_more_seeds_than_can_be_enumerated_are_sampled_always_the_same_way() -> None:
    rng = np.random.default_rng(3)
    differences = list(rng.normal(0.4, 1, 17))
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(differences) == pytest.approx(enumerated_p(differences), abs=0.01)


def test_holm_corrects_the_worked_example() -> None:
    # 4 tests: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for raw, corrected in zip(p, adjusted, strict=True):
        assert raw <= corrected <= min(1, len(p) * raw)
    ranked = [adjusted[i] for i in sorted(range(len(p)), key=lambda i: p[i])]
    assert ranked == sorted(ranked)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=14))
def test_the_interval_holds_the_mean_and_is_always_the_same(values: list[float]) -> None:
    interval = interval_of_mean(values)
    assert interval is not None
    slack = 1e-9 * max(map(abs, values))
    assert interval.low - slack <= np.mean(values) <= interval.high + slack
    assert interval_of_mean(values) == interval


def test_95_percent_of_the_intervals_over_three_seeds_hold_the_truth() -> None:
    draws = np.random.default_rng(0).normal(7, 2, (2000, 3))
    held = [interval.low <= 7 <= interval.high for draw in draws if (interval := interval_of_mean(list(draw)))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_the_percentile_bootstrap_of_three_values_is_their_range_which_holds_the_truth_3_times_in_4() -> None:
    draws = np.random.default_rng(0).normal(7, 2, (4000, 3))
    resamples = np.array(list(itertools.product(range(3), repeat=3)))  # all 27: what the bootstrap approaches
    means = draws[:, resamples].mean(axis=2)
    low, high = np.percentile(means, [2.5, 97.5], axis=1, method="inverted_cdf")
    assert np.allclose(low, draws.min(axis=1))
    assert np.allclose(high, draws.max(axis=1))
    assert np.mean((low <= 7) & (high >= 7)) == pytest.approx(0.75, abs=0.02)


def test_what_seeds_can_reach_counts_every_difference() -> None:
    assert "no Holm-corrected p below 1 can be reached; 8 seeds can go below 0.05" in reach(3, contenders=6)
    assert reach(8, contenders=6).endswith("5 differences: no Holm-corrected p below 0.03906 can be reached")
    assert "no test" in reach(1, contenders=6)


def test_the_interval_is_that_of_theory_for_a_large_normal_sample() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = interval_of_mean(list(values))
    assert interval is not None
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_one_value_has_no_interval() -> None:
    assert interval_of_mean([1.0]) is None
    assert interval_of_mean([]) is None


def test_differences_are_paired_by_seed_and_only_over_common_ones() -> None:
    leader = {0: 1.0, 1: 2.0, 2: 4.0}
    others = {"b": {2: 4.5, 0: 1.5, 7: 100.0}, "c": {7: 3.0}}
    found = differences_to(leader, others)
    assert set(found) == {"b"}
    assert found["b"].pairs == 2
    assert found["b"].mean == 0.5
    assert found["b"].p == 0.5


def test_pairing_finds_what_the_spread_between_seeds_would_hide() -> None:
    # Seeds differ by 10, the contenders by 0.1 each time.
    leader = {seed: 10.0 * seed for seed in range(8)}
    other = {seed: 10.0 * seed + 0.1 + 0.001 * seed for seed in range(8)}
    found = differences_to(leader, {"other": other})["other"]
    assert found.p == smallest_p(8)
    assert found.interval is not None
    assert found.interval.low > 0.09


def test_p_is_corrected_over_all_contenders_of_the_leader() -> None:
    leader = dict.fromkeys(range(6), 0.0)
    others = {name: {seed: 1.0 + seed for seed in range(6)} for name in "abc"}
    for difference in differences_to(leader, others).values():
        assert difference.p == smallest_p(6)
        assert difference.p_holm == pytest.approx(3 * smallest_p(6))


def test_images_by_the_thousand_are_compared_without_a_test() -> None:
    # One seed: the rank is over test images, and 99,999 sign flips of 10,000 images would take 8 GB.
    leader = dict(enumerate(np.random.default_rng(0).random(2_000)))
    others = {"b": {i: value + 0.01 for i, value in leader.items()}}
    found = differences_to(leader, others, tested=False)["b"]
    assert found.mean == pytest.approx(0.01)
    assert found.p == found.p_holm == 1.0
