"""The collapse measure: its limits, pair by pair, and what a dropped mode does to it."""

import math
import random
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from ganzoo import UserError
from ganzoo.collapse import Collapse, collapse, coverage, expected_coverage, mean_distance
from ganzoo.randomness import stream

SEEDS = range(8)


def images(n: int, *names: str | int, shape: tuple[int, int, int] = (2, 3, 3)) -> Tensor:
    return torch.rand(n, *shape, generator=stream("collapse", n, *names)) * 2 - 1


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images (N, 1, 8, 8) in [-1, 1] in an order of their own, and their labels."""
    found = load_digits()
    order = torch.randperm(len(found.images), generator=stream("digits"))
    return (torch.from_numpy(found.images).float() / 8 - 1)[order, None], torch.from_numpy(found.target)[order]


def mean_distance_by_pairs(x: Tensor) -> float:
    return math.fsum(float((a - b).abs().double().mean()) for a, b in combinations(x, 2)) / math.comb(len(x), 2)


def coverage_by_pairs(fake: Tensor, real: Tensor, k: int) -> float:
    covered = 0
    for i, x in enumerate(real):
        others = sorted(float((x - other).double().norm()) for j, other in enumerate(real) if j != i)
        covered += any(float((x - made).double().norm()) <= others[k - 1] for made in fake)
    return covered / len(real)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 5), st.floats(0, 1), st.integers(0, 1000))
def test_both_are_what_pairs_say_one_by_one(m: int, n: int, k: int, near: float, seed: int) -> None:
    real = images(max(n, k + 1), "real", seed)
    fake = images(m, "fake", seed) * (1 - near) + near * real[0]
    found = collapse(fake, real, k=k)
    assert found.spread == pytest.approx(
        mean_distance_by_pairs(fake) / mean_distance_by_pairs(real), rel=1e-5, abs=1e-6
    )
    assert found.coverage == pytest.approx(coverage_by_pairs(fake, real, k))
    assert found[2:] == (None, None, None, None)


def test_a_single_image_has_spread_0_and_covers_few() -> None:
    x, _ = digits()
    real = x[:500]
    for made in (torch.zeros(1, 8, 8), x[600], real[3]):
        found = collapse(made.expand(500, 1, 8, 8), real)
        assert found.spread == 0
        assert found.coverage <= 0.05  # those that have it among their 5 nearest
    assert found.coverage >= 1 / 500  # a real image covers itself


@pytest.mark.parametrize("n", range(2, 40))
def test_equal_images_are_at_distance_0_without_rounding(n: int) -> None:
    one = torch.rand(1, 3, 5, 5, generator=stream("equal", n), dtype=torch.float64)
    assert mean_distance(one.expand(n, -1, -1, -1)) == 0


def test_a_single_image_of_a_class_each_has_class_spread_0_though_its_spread_is_not() -> None:
    """Collapse within classes   (Qi 2017, figure 8)."""
    x, y = digits()
    one_of_each = torch.stack([x[y == c][0] for c in range(10)])
    found = collapse(one_of_each[y[:500]], x[500:1000], y[:500], y[500:1000])
    assert found.class_spread == found.least_spread == 0
    assert found.class_coverage is not None
    assert found.class_coverage < 0.2
    assert 0.8 < found.spread < 1.2


def test_the_data_themselves_have_spread_1_and_cover_all() -> None:
    x, y = digits()
    assert collapse(x, x.flip(0), y, y.flip(0)) == pytest.approx((1,) * 6)


def test_copies_of_one_real_image_k_times_over_are_still_covered_by_it() -> None:
    real = torch.cat([images(1).expand(7, -1, -1, -1), images(5, "others")])  # radius 0 for the seven
    assert coverage(real[:1], real) >= 7 / 12
    assert coverage(real[:1] + 0.02, real) < 7 / 12


def test_the_other_half_of_the_data_has_spread_1_and_the_expected_coverage() -> None:
    x, y = digits()
    found = collapse(x[:898], x[898:1796], y[:898], y[898:1796])
    assert found.spread == pytest.approx(1, abs=0.02)
    assert found.coverage == pytest.approx(expected_coverage(898, 898), abs=0.02)
    assert found.class_spread == pytest.approx(1, abs=0.05)
    assert found.class_coverage == pytest.approx(expected_coverage(90, 90), abs=0.03)
    assert found.least_spread is not None
    assert found.least_coverage is not None
    assert 0.8 < found.least_spread < 1
    assert 0.85 < found.least_coverage < found.class_coverage


@pytest.mark.parametrize(("m", "n", "k"), [(5, 20, 1), (20, 20, 5), (10, 30, 3)])
def test_the_expected_coverage_is_the_mean_over_draws(m: int, n: int, k: int) -> None:
    found = [coverage(images(m, "fake", i), images(n, "real", i), k) for i in range(400)]
    assert sum(found) / 400 == pytest.approx(expected_coverage(m, n, k), abs=0.02)


def test_the_expected_coverage_is_the_papers_formula() -> None:
    assert expected_coverage(1, 1, 1) == 1  # N - 1 = 0: no real image is nearer
    assert expected_coverage(3, 4, 2) == pytest.approx(1 - (3 * 2) / (6 * 5))
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(1 - 2**-5, abs=1e-3)


def test_half_of_the_classes_dropped_halve_the_coverage_and_hardly_the_spread() -> None:
    x, y = digits()
    fake, labels, real = x[:898], y[:898], x[898:1796]
    whole, dropped = collapse(fake, real), collapse(fake[labels < 5], real)
    kept = float((y[898:1796] < 5).double().mean())
    assert dropped.coverage == pytest.approx(whole.coverage * kept, abs=0.05)
    assert 0.9 < dropped.spread < 1.05


def test_narrower_images_have_the_spread_that_they_were_narrowed_by() -> None:
    x, y = digits()
    real, fake = x[:600], x[600:1200]
    narrow = collapse(fake * 0.25 + 0.5, real, y[600:1200], y[:600])
    as_is = collapse(fake, real, y[600:1200], y[:600])
    for one, other in zip((narrow[0], narrow[2], narrow[4]), (as_is[0], as_is[2], as_is[4]), strict=True):
        assert one is not None
        assert other is not None
        assert one == pytest.approx(0.25 * other, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_order_does_not_matter(seed: int) -> None:
    real, fake = images(40, "real"), images(30, "fake")
    of_real, of_fake = torch.arange(40) % 3, torch.arange(30) % 3
    p, q = torch.randperm(40, generator=stream("p", seed)), torch.randperm(30, generator=stream("q", seed))
    there = collapse(fake[q], real[p], of_fake[q], of_real[p])
    assert there == pytest.approx(collapse(fake, real, of_fake, of_real))


def test_classes_are_measured_one_by_one() -> None:
    real, fake = images(36, "real"), images(24, "fake") * torch.linspace(0.2, 1, 24).view(-1, 1, 1, 1)
    of_real, of_fake = torch.arange(36) // 12 + 4, torch.arange(24) // 8 + 4  # no class 0
    alone = [collapse(fake[of_fake == c], real[of_real == c]) for c in (4, 5, 6)]
    found = collapse(fake, real, of_fake, of_real)
    assert found[:2] == collapse(fake, real)[:2]
    assert found.class_spread == pytest.approx(sum(a.spread for a in alone) / 3)
    assert found.class_coverage == pytest.approx(sum(a.coverage for a in alone) / 3)
    assert found.least_spread == pytest.approx(min(a.spread for a in alone))
    assert found.least_coverage == pytest.approx(min(a.coverage for a in alone))


def test_labels_that_do_not_tell_the_images_apart_leave_every_class_as_the_whole() -> None:
    real, fake = images(40, "real"), images(30, "fake")
    found = collapse(fake, real, torch.zeros(30, dtype=torch.int64), torch.zeros(40, dtype=torch.int64))
    assert found[2:] == (found.spread, found.coverage, found.spread, found.coverage)


def test_bytes_are_the_same_images() -> None:
    real, fake = ((images(20, kind) + 1) * 127.5 for kind in ("real", "fake"))
    of_bytes = collapse(fake.byte(), real.byte())
    of_floats = collapse(fake.byte() / 127.5 - 1, real.byte() / 127.5 - 1)
    assert of_bytes[:2] == pytest.approx(of_floats[:2], rel=1e-5)


def test_the_distances_are_in_pixels_of_minus_1_to_1() -> None:
    black_and_white = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert mean_distance(black_and_white) == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(7, 20), st.integers(2, 20), st.integers(1, 6), st.integers(0, 1000))
def test_spread_is_never_negative_and_coverage_is_a_share_that_grows_with_k(n: int, m: int, k: int, seed: int) -> None:
    real, fake = images(n, "real", seed), images(m, "fake", seed) * random.Random(seed).random()
    found, wider = collapse(fake, real, k=k), coverage(fake, real, min(k + 1, n - 1))
    assert found.spread >= 0
    assert 0 <= found.coverage <= wider <= 1


def test_the_images_are_left_as_they_were() -> None:
    real, fake = images(20, "real"), images(20, "fake")
    before = real.clone(), fake.clone()
    collapse(fake, real)
    assert real.equal(before[0])
    assert fake.equal(before[1])


def labels(*counts: int) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((images(9), images(5)), r"5 real images: 6 or more are needed \(k = 5\)"),
        ((images(1), images(9)), r"1 generated images: 2 or more are needed"),
        ((images(9), images(9), labels(8, 1), labels(6, 3)), r"1 generated images of class 1: 2 or more"),
        ((images(9), images(9), labels(5, 4), labels(6, 3)), r"3 real images of class 1: 6 or more"),
        ((images(9), images(9), labels(9), labels(6, 3)), r"0 generated images of class 1: 2 or more"),
        ((images(9), images(9), labels(5, 4), labels(9)), r"0 real images of class 1: 6 or more"),
        ((images(9), images(9, shape=(2, 3, 4))), r"generated images are \(2, 3, 3\), real images \(2, 3, 4\)"),
        ((images(9), images(9), labels(9)), "labels of the real images are missing"),
        ((images(9), images(9), None, labels(9)), "labels of the generated images are missing"),
        (
            (images(9), images(9), labels(8), labels(9)),
            r"of the generated images are torch.int64 \(8,\), not int.*\(9,\)",
        ),
        ((images(9), images(9), labels(9), labels(9).float()), r"of the real images are torch.float32 \(9,\), not int"),
        ((images(9), images(9), None, None, 0), "k is 0, not at least 1"),
        ((images(9), images(1).expand(9, 2, 3, 3)), "the real images are all alike"),
        ((images(9) * 3, images(9)), r"images lie in .* not in \[-1, 1\]"),
        ((images(9)[0], images(9)), r"not \(N, C, H, W\)"),
        ((images(9) * math.nan, images(9)), "images lie in"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(given: tuple[Tensor, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        collapse(*given)
    assert "\n" not in str(raised.value)


def test_the_figures_have_names() -> None:
    assert Collapse._fields == (
        "spread", "coverage", "class_spread", "class_coverage", "least_spread", "least_coverage",
    )  # fmt: skip
