"""The floats a cost is judged at: about a million float32 values, every bfloat16 and every float16.

Random search never tries 3 < a < 3.3 and small a at once. The sweep does: 1024 mantissas of every exponent and sign,
and, since a bug lives where people think, every 1/2048 from -100 to 100.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

MANTISSAS = 1024
"""Of each exponent and sign, evenly spaced from the first; the last is added."""
DENSE_TO, DENSE_STEP = 100, 2**-11


@cache
def float32_values() -> Tensor:
    """About 0.9 million finite float32 values, both zeros and the subnormals among them, up to the largest."""
    mantissas = torch.arange(MANTISSAS, dtype=torch.int32) << (23 - 10)
    mantissas = torch.cat([mantissas, mantissas.new_tensor([1, (1 << 23) - 1])])
    positive = ((torch.arange(255, dtype=torch.int32) << 23)[:, None] | mantissas).flatten().view(torch.float32)
    steps = int(DENSE_TO / DENSE_STEP)
    dense = torch.arange(-steps, steps + 1, dtype=torch.float32) * DENSE_STEP
    return torch.cat([positive, -positive, dense])


@cache
def half_values(dtype: torch.dtype) -> Tensor:
    """Every finite value of bfloat16 or float16: 65,280 or 63,488."""
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    return values[values.isfinite()]


def moderate(values: Tensor) -> Tensor:
    """Those of at most a quarter of the largest float. Beyond, `(a + |a|) / 2` overflows, and is no wrong formula."""
    return values[values.abs() <= torch.finfo(values.dtype).max / 4]


def simplest(values: Tensor, fails: Callable[[Tensor], Tensor]) -> float:
    """The simplest number that fails, given some that do: fewest decimals, then nearest to zero.

    `fails`: (K,) -> (K,) bool, elementwise.
    """
    for decimals in range(5):
        rounded = _rounded(values, decimals)
        rounded = rounded[fails(rounded)]
        if len(rounded):
            return float(rounded[rounded.abs().argmin()])
    return float(values[values.abs().argmin()])


def simplicity(value: float) -> tuple[float, ...]:
    """By this order a float32 is simpler than another: decimals, distance from zero, positive first."""
    number = torch.tensor(value, dtype=torch.float32)
    decimals = next((d for d in range(5) if _rounded(number, d) == number), 5)
    return decimals, abs(value), value < 0


def simplest_of(values: Tensor) -> float:
    """The simplest of these, by `simplicity`. (K,), K > 0, no NaN among them."""
    for decimals in range(5):
        simple = values[_rounded(values, decimals) == values]
        if len(simple):
            values = simple
            break
    nearest = values[values.abs() == values.abs().min()]
    return float(nearest.max())


def _rounded(values: Tensor, decimals: int) -> Tensor:
    return values.double().mul(10**decimals).round().div(10**decimals).to(values.dtype)
