"""What one may ask of a cost that is neither right nor wrong: convex? monotone? 1-Lipschitz? its slopes at 0?

S = E C(Delta + L(x) - L(G(z))) is convex in L, as the existence of an equilibrium asks (Qi 2017, Lemma 1), for every
convex C. Each question is put to float64 values: simple ones, dense ones, each power of 2 from 1e-12 to 1e12, and close
to each integer. "No counterexample" is no proof.
"""

from functools import cache

import torch
from torch import Tensor

from ganzoo.checks.costs import bound
from ganzoo.checks.counterexample import Told
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.game import Cost
from ganzoo.randomness import stream

PAIRS = 200_000
"""Pairs drawn among the values, beside all pairs of simple ones and all neighbours."""
ROUNDING = 1e-9
"""Of the numbers compared: less is rounding."""
STEPS = tuple(2.0**-k for k in (10, 14, 18, 22))
"""From 0, of the difference quotients there."""


@cache
def values() -> Tensor:
    """(K,) float64, ascending."""
    powers = 2.0 ** torch.arange(-40, 41, dtype=torch.float64)
    powers = torch.cat([powers, 1.5 * powers])
    integers = torch.arange(-12, 13, dtype=torch.float64)
    drawn = 3 * torch.randn(2000, generator=stream("questions"), dtype=torch.float64).sinh()
    dense = torch.arange(-2000, 2001, dtype=torch.float64) / 100
    return torch.cat([powers, -powers, integers - 1e-7, integers + 1e-7, drawn, dense]).sort().values


@cache
def pairs() -> tuple[Tensor, Tensor]:
    """x < y, (P,) each: the simplest pairs first, so that a counterexample is easy to read."""
    simple = torch.tensor(sorted(range(-20, 21), key=lambda i: (i % 2, abs(i), i < 0)), dtype=torch.float64) / 2
    first = torch.cartesian_prod(simple, simple)
    among = values()
    neighbours = torch.stack([among[:-1], among[1:]], dim=1)
    drawn = among[torch.randint(len(among), (PAIRS, 2), generator=stream("pairs"))]
    x, y = torch.cat([first, neighbours, drawn]).sort(dim=1).values.unbind(dim=1)
    return x[x < y], y[x < y]


def _first(fails: Tensor) -> int | None:
    return int(fails.nonzero()[0]) if fails.any() else None


def convex(subject: Subject, settings: Settings) -> Told:
    """C(m) <= the chord from x to y, at x < m < y."""
    cost, (x, y) = bound(subject, settings), pairs()
    x, y = x.to(subject.device), y.to(subject.device)
    cx, cy = cost(x), cost(y)
    asked = 0
    for share in (0.5, 0.25, 0.9):
        m = x + share * (y - x)
        cm, chord = cost(m), (1 - share) * cx + share * cy
        i = _first(cm > chord + ROUNDING * (x.abs() + y.abs() + cx.abs() + cy.abs()))
        if i is not None:
            at = {"x": x[i].item(), "m": m[i].item(), "y": y[i].item(), "C(m)": cm[i].item(), "chord": chord[i].item()}
            said = f"C({at['m']:.9g}) = {at['C(m)']:.9g} is above the chord from {at['x']:.9g} to {at['y']:.9g}"
            return Told(f"not: {said}, {at['chord']:.9g} there", False, at)
        asked += len(m)
    return Told(f"no counterexample in {asked:,} triples of {_span(x, y)}", True)


def monotone(subject: Subject, settings: Settings) -> Told:
    """C(x) <= C(y) at x < y."""
    cost, (x, y) = bound(subject, settings), pairs()
    x, y = x.to(subject.device), y.to(subject.device)
    cx, cy = cost(x), cost(y)
    i = _first(cx > cy + 1e-3 * ROUNDING * (x.abs() + y.abs() + cx.abs() + cy.abs()))
    if i is not None:
        at = {"x": x[i].item(), "y": y[i].item(), "C(x)": cx[i].item(), "C(y)": cy[i].item()}
        return Told(
            f"not: C({at['x']:.9g}) = {at['C(x)']:.9g} > C({at['y']:.9g}) = {at['C(y)']:.9g}", False, at
        )  # fmt: skip
    return Told(f"no counterexample in {len(x):,} pairs of {_span(x, y)}", True)


def lipschitz(subject: Subject, settings: Settings) -> Told:
    """|C(x) - C(y)| <= |x - y|."""
    cost, (x, y) = bound(subject, settings), pairs()
    x, y = x.to(subject.device), y.to(subject.device)
    cx, cy = cost(x), cost(y)
    rise, run = (cy - cx).abs(), y - x
    magnitude = x.abs() + y.abs() + cx.abs() + cy.abs()
    i = _first(rise > run * (1 + ROUNDING) + 1e-3 * ROUNDING * magnitude)
    if i is not None:
        slope = (rise[i] / run[i]).item()
        at = {"x": x[i].item(), "y": y[i].item(), "slope": slope}
        return Told(f"not: between {at['x']:.9g} and {at['y']:.9g} its slope is {slope:.9g} in size", False, at)
    steepest = (rise / run)[run > 1e-6 * magnitude].max().item()
    return Told(f"no counterexample in {len(x):,} pairs of {_span(x, y)}; the steepest is {steepest:.6g}", True)


def slopes_at_zero(subject: Subject, settings: Settings) -> Told:
    """The two one-sided derivatives, and what autograd takes at 0 itself."""
    cost = bound(subject, settings)
    left, right = (_slope(cost, side, subject.device) for side in (-1.0, 1.0))
    zero = torch.zeros(1, dtype=torch.float64, device=subject.device, requires_grad=True)
    c = cost(zero)
    taken = torch.autograd.grad(c.sum(), zero)[0].item() if c.requires_grad else 0.0
    words = ["without end" if slope is None else f"{slope:.6g}" for slope in (left, right)]
    smooth = None not in (left, right) and left == right
    bend = "no kink" if smooth else "a kink"
    return Told(f"left {words[0]}, right {words[1]}: {bend}; autograd takes {taken:.6g} at 0", None)


def _slope(cost: Cost, side: float, device: str) -> float | None:
    """The limit of (C(h) - C(0)) / h as h goes to 0 from this side, 5 digits; None where none is to be seen."""
    h = side * torch.tensor([0.0, *STEPS], dtype=torch.float64, device=device)
    c = cost(h)
    *_, before, last = ((c[1:] - c[0]) / h[1:]).tolist()
    if not abs(last - before) <= 1e-3 * (1 + abs(last)):
        return None
    limit = last + (last - before) * (h[-1] / (h[-2] - h[-1])).item()  # of a^2 the last is h, and the limit 0
    return float(f"{limit:.5g}") + 0.0 if abs(limit) > 1e-3 * abs(last - before) else 0.0


def _span(x: Tensor, y: Tensor) -> str:
    return f"[{x.min().item():.3g}, {y.max().item():.3g}]"


QUESTIONS = (
    Check("cost-14", "cost", "convex?", False, convex, informs=True),
    Check("cost-15", "cost", "monotone?", False, monotone, informs=True),
    Check("cost-16", "cost", "1-Lipschitz?", False, lipschitz, informs=True),
    Check("cost-17", "cost", "the slopes at 0", False, slopes_at_zero, informs=True),
)
