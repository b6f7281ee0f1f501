"""Who is better, by how much, with what certainty: paired by seed, exact where it can be, corrected for many looks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
EXACT_UP_TO = 16
"""Seeds up to which all 2^n sign flips are tried; beyond it 99,999 random ones."""


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """Of one contender to the leader, over the seeds that both finished."""

    mean: float
    interval: Interval | None
    """None where there is one pair."""
    p: float
    """Two-sided, exact sign-flip test."""
    p_holm: float
    """Corrected over all the contenders that are compared with the leader."""
    pairs: int


def smallest_p(seeds: int) -> float:
    """The least p that a two-sided sign-flip test of so many paired seeds can reach: 2 / 2^n, at most 1."""
    return min(1.0, 2.0 ** (1 - seeds))


def reach(seeds: int) -> str:
    """What so many seeds can show at best, in words."""
    if seeds == 1:
        return "1 seed: no test of a difference can be made"
    return f"{seeds} paired seeds: no p below {smallest_p(seeds):.4g} can be reached"


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % percentile bootstrap interval of the mean; None below two values."""
    if len(values) < 2:
        return None
    drawn = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=9_999,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference of 0, each pair's sign being as likely + as -."""
    if not differences or not any(differences):
        return 1.0
    if len(differences) == 1:
        return 1.0
    tested = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        np.mean,
        permutation_type="samples",
        alternative="two-sided",
        n_resamples=np.inf if len(differences) <= EXACT_UP_TO else 99_999,
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the adjusted p in the order given   (Holm 1979)."""
    adjusted = [math.nan] * len(p)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def differences_to(
    leader: dict[int, float], others: dict[str, dict[int, float]], *, tested: bool = True
) -> dict[str, Difference]:
    """seed -> figure of the leader and of each other -> their paired differences (other - leader).

    A contender without a seed in common with the leader is left out. Not `tested`: every p is 1.
    """
    paired = {
        label: [figures[seed] - leader[seed] for seed in sorted(figures) if seed in leader]
        for label, figures in others.items()
    }
    paired = {label: values for label, values in paired.items() if values}
    raw = {label: sign_flip_p(values) if tested else 1.0 for label, values in paired.items()}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    return {
        label: Difference(float(np.mean(values)), bootstrap_interval(values), raw[label], corrected[label], len(values))
        for label, values in paired.items()
    }
