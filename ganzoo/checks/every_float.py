"""The laws of a cost at all 2^32 float32 values, and at all of bfloat16 and float16: with --exhaustive.

(I) and (II) are about numbers, so what is proved is proved for every finite value. Of NaN it is asked that it stays
NaN: a run that diverges must show. The infinities are told and not judged.
"""

from typing import Any

import torch

from ganzoo.checks.conditions import HALVES, named
from ganzoo.checks.costs import bound
from ganzoo.checks.counterexample import Refuted, Skipped, Told
from ganzoo.checks.exhaustive import FALLS, FINITE, ODD, STEEP, STRIDE, Tally, halves_examined, value_of
from ganzoo.checks.report import NOT_ASKED
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.game import Cost

STATES = {"(I)": ("C(a) >= a", ">="), "(II)": ("C(a) = a for a >= 0", "==")}
ADVICE = "right in float64, so the formula is: use expm1 for exp(a) - 1, log1p for log(1 + a), or Cost.from_slack"


def _tally(subject: Subject, settings: Settings) -> Tally:
    if subject.sweep is None:
        raise Skipped(NOT_ASKED)
    return subject.sweep(settings)


def _evaluated(tally: Tally) -> str:
    return f"every finite float32 ({FINITE:,} values)" if tally.finite == FINITE else f"{tally.finite:,} float32 values"


def _proved(tally: Tally, what: str = "") -> str:
    word = "proved" if tally.finite == FINITE else "holds"
    return f"{word} for {what}{_evaluated(tally)}"


def _of(cost: Cost, a: float, dtype: torch.dtype = torch.float32) -> float:
    with torch.no_grad():
        return float(cost(torch.tensor([a], dtype=dtype))[0])


def _shown(a: float, assertion: str, dtype: str = "float32") -> str:
    return f"a = torch.tensor([{a!r}], dtype=torch.{dtype}); assert {assertion}, (a, cost(a))"


def _judged(cost: Cost, tally: Tally, condition: str, dtype: torch.dtype, rounding_passes: bool) -> str:
    states, sign = STATES[condition]
    for due_to in ("wrong", "rounding"):
        violations = tally.of(f"{condition} {due_to}")
        if violations.count and violations.at is not None and not (rounding_passes and due_to == "rounding"):
            a = value_of(violations.at)
            c = _of(cost, a, dtype)
            raise Refuted(
                f"{'wrong formula' if due_to == 'wrong' else due_to}: C({a:.9g}) = {c:.9g} in {named(dtype)}, but"
                f" {states} ({violations.count:,} of {tally.finite:,} values violate it)",
                _shown(a, f"cost(a) {sign} a", named(dtype)),
                ADVICE if due_to == "rounding" else None,
                a=a, C=c, dtype=named(dtype), values=violations.count,
            )  # fmt: skip
    apart = ""
    if (rounded := tally.of(f"{condition} rounding").count) > 0:
        apart += f", rounding apart at {rounded:,} of them; right in float64"
    overflow = tally.of(f"{condition} overflow")
    if overflow.count and overflow.at is not None:
        apart += (
            f", but for {overflow.count:,} from |a| = {abs(value_of(overflow.at)):.9g} on, where C overflows on its"
            " way; right in float64"
        )
    return apart


def condition_one(subject: Subject, settings: Settings) -> str:
    tally = _tally(subject, settings)
    return _proved(tally) + _judged(bound(subject, settings), tally, "(I)", torch.float32, rounding_passes=False)


def condition_two(subject: Subject, settings: Settings) -> str:
    tally = _tally(subject, settings)
    return _proved(tally) + _judged(bound(subject, settings), tally, "(II)", torch.float32, rounding_passes=False)


def both_in_halves(subject: Subject, settings: Settings) -> str:
    _tally(subject, settings)
    cost, said = bound(subject, settings), []
    for dtype, tally in zip(HALVES, halves_examined(cost, subject.device).values(), strict=True):
        apart = "".join(_judged(cost, tally, condition, dtype, rounding_passes=True) for condition in STATES)
        said.append(f"proved for every finite {named(dtype)} ({tally.finite:,} values){apart}")
    return "\n".join(said)


def finite(subject: Subject, settings: Settings) -> str:
    tally = _tally(subject, settings)
    violations = tally.of("not finite")
    if violations.count and violations.at is not None:
        a, cost = value_of(violations.at), bound(subject, settings)
        c, exact = _of(cost, a), _of(cost, a, torch.float64)
        raise Refuted(
            f"C({a:.9g}) = {c} in float32, in float64 {exact:.9g} ({violations.count:,} of {tally.finite:,} values)",
            _shown(a, "cost(a).isfinite()"),
            a=a, C=c, dtype="float32", values=violations.count,
        )  # fmt: skip
    return _proved(tally)


def gradient(subject: Subject, settings: Settings) -> str:
    tally = _tally(subject, settings)
    violations = tally.of("gradient")
    if violations.count and violations.at is not None:
        number = value_of(violations.at)
        a = torch.tensor([number], requires_grad=True)
        c = bound(subject, settings)(a)
        slope = float(torch.autograd.grad(c.sum(), a)[0]) if c.requires_grad else 0.0
        wanted = "1, by (II)" if number > 0 else "a finite one"
        assertion = "a.grad == 1" if number > 0 else "a.grad.isfinite()"
        raise Refuted(
            f"the gradient of C at {number:.9g} is {slope:.9g} in float32, not {wanted}"
            f" ({violations.count:,} of {tally.finite:,} values)",
            f"a = torch.tensor([{number!r}], requires_grad=True); cost(a).sum().backward(); assert {assertion}, a.grad",
            "no division, root or exp of a branch that is not taken: torch.where sends 0 * inf = NaN back; clamp first",
            a=number, gradient=slope, values=violations.count,
        )  # fmt: skip
    return _proved(tally)


def nan_stays_nan(subject: Subject, settings: Settings) -> str:
    tally, cost = _tally(subject, settings), bound(subject, settings)
    violations = tally.of("hides NaN")
    if violations.count and violations.at is not None:
        bits = violations.at - 2**32 * (violations.at >= 2**31)
        c = float(cost(torch.tensor([bits], dtype=torch.int32).view(torch.float32))[0])
        raise Refuted(
            f"C(NaN) = {c:.9g} at {violations.count:,} of {tally.nan:,} NaNs: a run that diverges looks sound",
            f"a = torch.tensor([{bits}], dtype=torch.int32).view(torch.float32); assert cost(a).isnan(), cost(a)",
            a="nan", C=c, values=violations.count,
        )  # fmt: skip
    plus, minus = _of(cost, torch.inf), _of(cost, -torch.inf)
    number = f"all {tally.nan:,} of them" if tally.nan == 2 * (ODD - 1) else f"{tally.nan:,} of them"
    return f"{number}; told, not judged: C(inf) = {plus:.9g}, C(-inf) = {minus:.9g}"


def monotone(subject: Subject, settings: Settings) -> Told:
    tally = _tally(subject, settings)
    violations = tally.of(FALLS)
    if not violations.count or violations.at is None:
        return Told(f"never falls between {tally.pairs:,} pairs of neighbouring float32 values", True)
    a, b = sorted((value_of(violations.at), value_of(violations.at + 1)))
    cost = bound(subject, settings)
    low, high = _of(cost, a), _of(cost, b)
    real = "in float64 too" if _of(cost, a, torch.float64) > _of(cost, b, torch.float64) else "not in float64: rounding"
    return Told(
        f"falls between {violations.count:,} of {tally.pairs:,} pairs of neighbouring float32 values: C({a:.9g}) ="
        f" {low:.9g} > C({b:.9g}) = {high:.9g}, {real}",
        False,
        {"x": a, "y": b, "C(x)": low, "C(y)": high},
    )


def lipschitz(subject: Subject, settings: Settings) -> Told:
    tally = _tally(subject, settings)
    violations = tally.of(STEEP)
    if not violations.count or violations.at is None:
        return Told(f"no slope above 1, rounding apart, over {STRIDE:,} floats from any finite float32", True)
    a, b = sorted((value_of(violations.at), value_of(violations.at + STRIDE)))
    cost = bound(subject, settings)
    slope = abs(_of(cost, b, torch.float64) - _of(cost, a, torch.float64)) / (b - a)
    found: dict[str, Any] = {"x": a, "y": b, "slope": slope}
    return Told(
        f"steeper than 1 from {violations.count:,} of {tally.finite:,} float32 values on: between {a:.9g} and {b:.9g}"
        f" its slope is {slope:.9g} in size",
        False,
        found,
    )


EVERY_FLOAT = (
    Check("cost-18", "cost", "(I) C(a) >= a at every finite float32", True, condition_one, every_float=True),
    Check("cost-19", "cost", "(II) C(a) = a at every finite float32 a >= 0", True, condition_two, every_float=True),
    Check(
        "cost-20", "cost", "(I) and (II), rounding apart, at every finite bfloat16 and float16, to the largest", True,
        both_in_halves, every_float=True,
    ),
    Check(
        "cost-21", "cost", "finite at every finite float32, but for honest overflow below zero", True, finite,
        every_float=True,
    ),
    Check(
        "cost-22", "cost", "gradient finite at every finite float32, 1 at every a > 0", True, gradient,
        every_float=True,
    ),
    Check("cost-23", "cost", "NaN stays NaN, all of them", False, nan_stays_nan, every_float=True),
    Check(
        "cost-24", "cost", "monotone, float32 by float32?", False, monotone, every_float=True, informs=True
    ),
    Check(
        "cost-25", "cost", "1-Lipschitz, from every float32?", False, lipschitz, every_float=True, informs=True
    ),
)  # fmt: skip
