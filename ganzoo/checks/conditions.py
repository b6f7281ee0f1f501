"""Conditions (I) and (II) of a cost as numbers: by how much they are violated, and whether that is rounding.

`exp(a) - 1` keeps (I) on paper and violates it at thousands of float32 values by an ulp or two; in float64 the
violation at the same values is smaller by orders of magnitude. That of a wrong formula is as large as before.
"""

from collections.abc import Callable

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)
ROUNDING = 2.0**-16
"""A shortfall of some ulp that shrinks at least so much from a narrower dtype to float64 is rounding."""
ULPS = 16
"""More than so many ulp are no rounding of a formula of one line."""

Shortfall = Callable[[Tensor, Tensor], Tensor]
"""(a, C(a)) -> by how much the condition is violated; 0 where it holds; NaN where C(a) is."""


def below(a: Tensor, c: Tensor) -> Tensor:
    """Condition (I), C(a) >= a, is violated by a - C(a)."""
    return torch.where(c >= a, 0.0, a - c)


def beside(a: Tensor, c: Tensor) -> Tensor:
    """Condition (II), C(a) = a for a >= 0, is violated by |C(a) - a|."""
    return torch.where((a < 0) | (c == a), 0.0, (c - a).abs())


CONDITIONS: dict[str, Shortfall] = {"(I)": below, "(II)": beside}


def is_wrong(a: Tensor, by: Tensor, exact: Tensor) -> Tensor:
    """Where a violation is the formula's: more than some ulp, or not much smaller in float64.

    `a`: (K,) in the dtype judged; `by`, `exact`: (K,) float64, the shortfall there in that dtype and in float64.
    """
    wrong = ~(by <= ULPS * torch.finfo(a.dtype).eps * a.double().abs().clamp(min=1))
    return wrong if a.dtype == torch.float64 else wrong | ~(exact <= by * ROUNDING)


def named(dtype: torch.dtype) -> str:
    """`float32`."""
    return str(dtype).removeprefix("torch.")
