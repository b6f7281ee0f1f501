"""The laws of a cost C(a)   (Qi 2017, sec. 6.2), in floats, not in reals.

Finite: a value may be +inf only for a < 0, where the same formula in float64 exceeds the largest float of the dtype
(honest overflow, slope * a for one). NaN and -inf are refused everywhere.
"""

import io
from contextlib import redirect_stdout
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from ganzoo.checks.conditions import HALVES, Shortfall, below, beside, is_wrong, named
from ganzoo.checks.counterexample import Refuted
from ganzoo.checks.sweep import float32_values, half_values, moderate, simplest
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.game import Cost
from ganzoo.randomness import seeded, stream

DTYPES = (torch.float64, torch.float32, *HALVES)
ORDINARY = (-100.0, -3.0, -1.0, -0.1, -1e-3, 0.0, 1e-3, 0.1, 1.0, 3.0, 100.0)


def bound(subject: Subject, settings: Settings) -> Cost:
    """C, given a copy each time: a cost that works in place is refused for that alone."""
    function = subject.entry.bind(**settings)

    def cost(a: Tensor) -> Tensor:
        c: Any = function(a.clone())
        if not isinstance(c, Tensor) or c.shape != a.shape:
            shape = tuple(c.shape) if isinstance(c, Tensor) else type(c).__name__
            raise Refuted(
                f"C of {tuple(a.shape)} should be {tuple(a.shape)}, is {shape}",
                f"a = torch.ones({tuple(a.shape)}); assert cost(a).shape == a.shape, cost(a)",
                given=a.shape,
                found=shape,
            )
        result: Tensor = c
        return result

    return cost


def ordinary(subject: Subject, dtype: torch.dtype = torch.float64, count: int = 64) -> Tensor:
    """(count,) values, dense about 0 and out to some tens."""
    a = torch.randn(count, generator=stream(subject.seed, "a"), dtype=torch.float64)
    return (a.sinh() * 2).to(dtype).to(subject.device)


def _literal(a: Tensor) -> str:
    return f"a = torch.tensor({a.tolist()}, dtype={a.dtype})"


def _condition(subject: Subject, settings: Settings, values: Tensor, shortfall: Shortfall) -> str | None:
    """Refute the condition at the simplest of the values; a note, where only half precision rounds past it."""
    cost = bound(subject, settings)

    def exactly(a: Tensor) -> Tensor:
        return shortfall(a.double(), cost(a.double()))

    def short(a: Tensor) -> Tensor:
        return shortfall(a.double(), cost(a).double())

    def fails(a: Tensor) -> Tensor:
        return short(a) != 0  # NaN too

    values = values.to(subject.device)
    failing = values[fails(values)]
    if not len(failing):
        return None

    def formula_fails(a: Tensor) -> Tensor:
        return is_wrong(a, short(a), exactly(a))

    wrong = failing[formula_fails(failing)]
    if not len(wrong) and values.dtype in HALVES:
        return f"note: rounding in {named(values.dtype)} at {len(failing)} of {len(values)} values; right in float64"
    kind, a = (
        ("wrong formula", simplest(wrong, formula_fails)) if len(wrong) else ("rounding", simplest(failing, fails))
    )
    c = cost(values.new_tensor([a])).item()
    sign, states = (">=", "C(a) >= a") if shortfall is below else ("==", "C(a) = a for a >= 0")
    advice = (
        "" if len(wrong) else "; right in float64, so the formula is: use expm1 for exp(a) - 1, log1p for log(1 + a)"
    )
    raise Refuted(
        f"{kind}: C({a:.9g}) = {c:.9g} in {named(values.dtype)}, but {states}{advice}"
        f" ({len(failing)} of {len(values)} values violate it)",
        f"{_literal(values.new_tensor([a]))}; assert cost(a) {sign} a, (a, cost(a))",
        a=a,
        C=c,
        dtype=named(values.dtype),
    )


def at_least_a(subject: Subject, settings: Settings) -> str | None:
    return _condition(subject, settings, moderate(float32_values()), below)


def equals_a(subject: Subject, settings: Settings) -> str | None:
    return _condition(subject, settings, moderate(float32_values()), beside)


def both_in_float64(subject: Subject, settings: Settings, drawn: tuple[float, ...] = ORDINARY) -> None:
    values = torch.tensor(drawn, dtype=torch.float64)
    _condition(subject, settings, values, below)
    _condition(subject, settings, values, beside)


def both_in_halves(subject: Subject, settings: Settings) -> str | None:
    notes = [
        _condition(subject, settings, moderate(half_values(dtype)), shortfall)
        for dtype in HALVES
        for shortfall in (below, beside)
    ]
    return "\n".join(dict.fromkeys(filter(None, notes))) or None


def finite(subject: Subject, settings: Settings) -> None:
    cost = bound(subject, settings)

    def unfinite(a: Tensor) -> Tensor:
        c = cost(a)
        largest = torch.finfo(a.dtype).max
        exact = cost(a.double())
        honest = (c == torch.inf) & (a < 0) & (exact > largest * (1 - torch.finfo(a.dtype).eps))
        return ~c.isfinite() & ~honest

    for values in (float32_values(), *map(half_values, HALVES)):
        values = values.to(subject.device)
        failing = values[unfinite(values)]
        # In half precision exp and squares overflow inside a right formula: NaN is refused, inf is not.
        if values.dtype in HALVES:
            failing = failing[cost(failing).isnan()]
        if len(failing):
            a = simplest(failing, unfinite)
            c = cost(values.new_tensor([a])).item()
            raise Refuted(
                f"C({a:.9g}) = {c} in {named(values.dtype)}, in float64 {cost(torch.tensor([a]).double()).item():.9g}",
                f"{_literal(values.new_tensor([a]))}; assert cost(a).isfinite(), (a, cost(a))",
                a=a,
                C=c,
                dtype=named(values.dtype),
            )


def elementwise(subject: Subject, settings: Settings) -> None:
    cost, a = bound(subject, settings), ordinary(subject)
    c = cost(a)
    # Vectorised and scalar kernels differ in the last place.
    for i in range(len(a)):
        others = torch.full_like(a, 1e3)
        others[i] = a[i]
        for alone, what in ((cost(a[i : i + 1])[0], "alone"), (cost(others)[i], "among others")):
            if not torch.isclose(alone, c[i], rtol=1e-12, atol=1e-12, equal_nan=True):
                raise Refuted(
                    f"C depends on other elements: {c[i].item():.9g} in its batch, {alone.item():.9g} {what}",
                    "a = torch.tensor([-1.0, 0.5, 1e3]);"
                    " assert torch.allclose(cost(a), torch.cat([cost(x[None]) for x in a])), cost(a)",
                    a=a[i].item(),
                    batch=c[i].item(),
                    apart=alone.item(),
                )


def shape_and_dtype_kept(subject: Subject, settings: Settings) -> None:
    cost = bound(subject, settings)
    for dtype in DTYPES:
        for count in (1, 2, 7, 64):
            c = cost(ordinary(subject, dtype, count))
            if c.dtype != dtype:
                raise Refuted(
                    f"C of {dtype} is {c.dtype}",
                    f"a = torch.ones({count}, dtype={dtype}); assert cost(a).dtype == a.dtype, cost(a).dtype",
                    dtype=dtype,
                    count=count,
                )


def input_kept(subject: Subject, settings: Settings) -> None:
    function, a = subject.entry.bind(**settings), ordinary(subject)
    before = a.clone()
    function(a)
    if not a.equal(before):
        i = int((a != before).nonzero()[0])
        raise Refuted(
            f"C works in place: a = {before[i].item():.9g} became {a[i].item():.9g}",
            "a = torch.tensor([-1.0, 1.0]); cost(a); assert a.tolist() == [-1, 1], a",
            a=before[i].item(),
            became=a[i].item(),
        )


def deterministic(subject: Subject, settings: Settings) -> None:
    cost, a = bound(subject, settings), ordinary(subject)
    with seeded(subject.seed, "first"):
        first = cost(a)
    with seeded(subject.seed, "second"):
        second = cost(a)
    # NaN twice is deterministic, NaN and then 0 is not.
    if not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
        i = int((~torch.isclose(first, second, rtol=0, atol=0, equal_nan=True)).nonzero()[0])
        raise Refuted(
            f"C({a[i].item():.9g}) is {first[i].item():.9g} and then {second[i].item():.9g}",
            "a = torch.linspace(-3, 3, 64); assert cost(a).equal(cost(a))",
            a=a[i].item(),
            first=first[i].item(),
            second=second[i].item(),
        )


def gradient(subject: Subject, settings: Settings) -> None:
    cost, h = bound(subject, settings), 1e-6
    a = torch.cat([ordinary(subject, count=256).cpu().clamp(-20, 20), torch.tensor([0.0, 89.0, 1e3, 1e30]).double()])
    a = a.to(subject.device).requires_grad_(True)
    c = cost(a)
    if not c.requires_grad:
        raise Refuted(
            "C has no gradient: it is detached from a",
            "a = torch.ones(2, requires_grad=True); assert cost(a).requires_grad, cost(a)",
            requires_grad=False,
        )
    (slope,) = torch.autograd.grad(c.sum(), a)
    with torch.no_grad():
        left, right = (c - cost(a - h)) / h, (cost(a + h) - c) / h
    kink = (left - right).abs() > 1e-4 * (1 + left.abs())
    wrong = ~kink & ((slope - (left + right) / 2).abs() > 1e-3 * (1 + left.abs())) & (a.abs() < 1e2)
    wrong |= (a > 0) & (slope != 1)  # by (II)
    wrong |= ~slope.isfinite() & c.isfinite()
    if wrong.any():
        at = a.detach()[wrong]
        i = int(wrong.nonzero()[int(at.abs().argmin())])
        expected = 1.0 if a[i] > 0 else float(left[i] + right[i]) / 2
        x, found = a[i].item(), slope[i].item()
        shown = f"assert abs(a.grad.item() - {expected!r}) < 1e-3 * (1 + abs({expected!r})), a.grad"
        raise Refuted(
            f"the gradient of C at {x:.9g} is {found:.9g}; differences of C give {expected:.9g}",
            f"a = torch.tensor([{x!r}], dtype=torch.float64, requires_grad=True); cost(a).sum().backward(); {shown}",
            a=x,
            gradient=found,
            expected=expected,
        )


def capturable(subject: Subject, settings: Settings) -> None:
    # A meta tensor has a device and no data: .item(), bool() and a tensor left on the CPU all fail on it.
    function = subject.entry.bind(**settings)
    try:
        c = function(torch.empty(4, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise Refuted(
            f"C needs the values of its input, or a device of its own: {str(error).splitlines()[0]}",
            'cost(torch.empty(4, device="meta"))',
            device="meta",
        ) from error
    if c.device.type != "meta":
        raise Refuted(
            f"C leaves its input's device: {c.device}",
            'a = torch.empty(4, device="meta"); assert cost(a).device == a.device, cost(a).device',
            device=str(c.device),
        )


def silent(subject: Subject, settings: Settings) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        bound(subject, settings)(ordinary(subject))
    if printed.getvalue():
        raise Refuted(f"C prints {printed.getvalue()[:60]!r}", printed=printed.getvalue()[:60])


def nan_stays_nan(subject: Subject, settings: Settings) -> None:
    cost = bound(subject, settings)
    for dtype in DTYPES:
        a = torch.tensor([torch.nan, 1.0, -1.0], dtype=dtype, device=subject.device)
        c = cost(a)[0]
        if not c.isnan():
            raise Refuted(
                f"C(NaN) = {c.item():.9g} in {named(dtype)}: a run that diverges looks sound",
                f"a = torch.tensor([torch.nan], dtype={dtype}); assert cost(a).isnan(), cost(a)",
                a=torch.nan,
                C=c.item(),
                dtype=named(dtype),
            )


_numbers = st.floats(-1e6, 1e6) | st.integers(-10, 10).map(float)

COSTS = (
    Check("cost-1", "cost", "(I) C(a) >= a at a million float32 values", True, at_least_a),
    Check("cost-2", "cost", "(II) C(a) = a for a >= 0 at a million float32 values", True, equals_a),
    Check(
        "cost-3", "cost", "(I) and (II) in float64, anywhere", True, both_in_float64,
        st.lists(_numbers, min_size=1, max_size=4).map(tuple),
    ),
    Check("cost-4", "cost", "(I) and (II), rounding apart, at every bfloat16 and float16", True, both_in_halves),
    Check("cost-5", "cost", "finite, but for honest overflow below zero", True, finite),
    Check("cost-6", "cost", "elementwise: nothing is shared across the batch", True, elementwise),
    Check("cost-7", "cost", "shape and dtype kept", True, shape_and_dtype_kept),
    Check("cost-8", "cost", "its input is not modified", True, input_kept),
    Check("cost-9", "cost", "deterministic", True, deterministic),
    Check("cost-10", "cost", "gradient attached, finite, right; 1 for a > 0", True, gradient),
    Check("cost-11", "cost", "capturable and device kept: no .item(), no branch on data", True, capturable),
    Check("cost-12", "cost", "prints nothing", True, silent),
    Check("cost-13", "cost", "NaN stays NaN (where(a > 0, a, 0) makes it 0)", False, nan_stays_nan),
)  # fmt: skip
