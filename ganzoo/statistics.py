"""Who is better, by how much, with what certainty: paired by seed, exact where it can be, corrected for many looks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
FEW = 10
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


def reach(seeds: int, contenders: int) -> str:
    """What so many seeds can show at best of the differences to the leader, Holm-corrected, in words."""
    differences = max(1, contenders - 1)
    if seeds == 1:
        return "1 seed: no test of a difference can be made"
    enough = 1 + math.ceil(math.log2(differences / 0.05))
    hint = f"; {enough} seeds can go below 0.05" if seeds < enough else ""
    best = min(1.0, differences * smallest_p(seeds))
    what = f"{seeds} paired seeds, {differences} difference{'s' * (differences > 1)}"
    return f"{what}: no Holm-corrected p below {best:.4g} can be reached{hint}"


def needed_p(contenders: int) -> float:
    """What Holm asks of the smallest p of the differences to one of so many contenders: 0.05 / differences."""
    return 0.05 / max(1, contenders - 1)


def enough(seeds: int, contenders: int) -> str:
    """The p that so many paired seeds can reach against what Holm needs, in words."""
    least, needed = smallest_p(seeds), needed_p(contenders)
    first = f"the first of {contenders - 1}" if contenders > 2 else "it"
    said = f"p: {seeds} paired seed{'s' * (seeds > 1)} can reach {least:.2g}, Holm needs {needed:.2g} for {first}"
    if least <= needed:
        return f"{said}: enough"
    return f"{said}: too few, {1 + math.ceil(-math.log2(needed))} seeds are enough"


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean; None below two values.

    Student's t below 10 values, where the bootstrap's interval is far too short (of 3 values it is their range, which
    holds the mean 3 times in 4); from 10 on the percentile bootstrap.
    """
    if len(values) < 2:
        return None
    from scipy import stats  # half a second that what comes before the first row need not pay

    sample = np.asarray(values, dtype=float)
    if len(sample) < FEW:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1) * stats.sem(sample))
        return Interval(float(sample.mean()) - half, float(sample.mean()) + half)
    drawn = stats.bootstrap(
        (sample,),
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
    from scipy import stats  # as above

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
        label: Difference(float(np.mean(values)), interval_of_mean(values), raw[label], corrected[label], len(values))
        for label, values in paired.items()
    }
