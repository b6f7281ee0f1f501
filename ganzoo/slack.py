"""A cost made of its slack. (I) C(a) >= a and (II) C(a) = a for a >= 0 hold if and only if

    C(a) = a + h(max(-a, 0))   with   h >= 0, h(0) = 0.

So whoever writes h cannot break the two conditions, in floats no more than in reals.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Concatenate, ParamSpec, get_type_hints

import torch
from torch import Tensor

from ganzoo.errors import UserError, blamed

P = ParamSpec("P")

ROUNDING = 16 * torch.finfo(torch.float64).eps
"""Times max(1, t): as far below zero a right formula may round, `t.exp() - 1 - t` for one."""
ELSEWHERE = 0.6931
"""A t at which a formula hardly has its kink, unlike 0 or 1."""


def from_slack(slack: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """C(a) = a + h(max(-a, 0)): a cost that keeps (I) and (II), in every dtype and at every float.

    `slack`: h(t), (N,) -> (N,), elementwise, t >= 0 in float64, h >= 0, h(0) = 0; a Python function. Its further
    parameters are the cost's hyperparameters, so that it can stand between `@ganzoo.cost` and a `def`. What rounding
    leaves of h below zero counts as zero; the sum is rounded to a's dtype once, which keeps its order with a. It has
    the precision of a: where h takes nearly all of a away, what is left is known to 1e-16 |a|.

    Raises UserError where h, at its defaults, breaks its conditions at one of some thousand values from 0 to 3.4e38.
    """
    signature = _signature(slack)
    _validate(slack)

    def cost(a: Tensor, *others: P.args, **hyperparameters: P.kwargs) -> Tensor:
        below, wide = a < 0, a.double()
        t = torch.where(below, -wide, ELSEWHERE)  # at t = 0 the gradient of sqrt(t) is infinite, and 0 * inf is NaN
        h = slack(t, *others, **hyperparameters)
        h = torch.where((h < 0) & (h >= -ROUNDING * t.clamp(min=1)), 0.0, h)
        return torch.where(below, (wide + h).to(a.dtype), a)

    made: Any = cost  # the harness gives `a` by name, which no Concatenate can say
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(made, name, getattr(slack, name))
    made.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()} | {"return": Tensor}
    made.__signature__, made.ganzoo_source = signature, slack  # not `__wrapped__`: pluggy would read h's parameters
    found: Callable[Concatenate[Tensor, P], Tensor] = made
    return found


def _signature(slack: Callable[..., Tensor]) -> inspect.Signature:
    """That of h with `a` in the place of t."""
    if not inspect.isfunction(slack):
        raise UserError(
            f"from_slack takes a function h(t) written in Python, not {slack!r}; write lambda t: ... around it"
        )
    hints = get_type_hints(slack, include_extras=True)
    parameters = [*inspect.signature(slack).parameters.values()]
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise UserError(f"slack '{slack.__name__}' should take t first: h(t)")
    others = parameters[1:]
    for parameter in others:
        if parameter.name == "a":
            raise UserError(
                f"slack '{slack.__name__}': 'a' is the name of the cost's input; call the hyperparameter otherwise"
            )
        if parameter.default is parameter.empty:
            raise UserError(
                f"slack '{slack.__name__}': '{parameter.name}' has no default, so nothing gives it;"
                f" write {parameter.name}: Annotated[float, Ge(0)] = 0.1, say"
            )
    a = inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Tensor)
    named = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in others]
    return inspect.Signature([a, *named], return_annotation=Tensor)


@cache
def _values() -> Tensor:
    """t from 0 to 3.4e38, float64: eight of each binade of float32, the subnormal ones too, and each 1/20 up to 100."""
    binades = torch.arange(-149, 128, dtype=torch.float64)
    mantissas = 1 + torch.arange(8, dtype=torch.float64) / 8
    steps = torch.arange(2001, dtype=torch.float64) / 20
    return torch.cat([(2 ** binades[:, None] * mantissas).flatten(), steps]).sort().values


def _validate(slack: Callable[..., Any]) -> None:
    def h(t: Tensor) -> Tensor:
        with blamed(f"slack '{slack.__name__}'"):
            value = slack(t.clone())
        if not isinstance(value, Tensor) or value.shape != t.shape:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"slack '{slack.__name__}': h of {tuple(t.shape)} gives {found}; it should be elementwise")
        return value.detach().double()

    with torch.device("cpu"):
        t = _values()
        values = h(t)
        zero = values[t == 0][0].item()
        if not abs(zero) <= ROUNDING:
            raise UserError(f"slack '{slack.__name__}': h(0) = {zero:.6g}, where (II) asks for 0")
        wrong = ~(values >= -ROUNDING * t.clamp(min=1))  # NaN too
        if wrong.any():
            i = int((t.log2().abs() + torch.where(wrong, 0.0, torch.inf)).argmin())  # the nearest to 1
            raise UserError(
                f"slack '{slack.__name__}': h({t[i].item():.6g}) = {values[i].item():.6g}, where (I) asks for h >= 0"
            )
        some = t[::173]
        for order in (some.flip(0), some[5:6]):
            places = torch.searchsorted(t, order)
            if not torch.allclose(h(order), values[places], rtol=1e-9, atol=1e-300):
                raise UserError(
                    f"slack '{slack.__name__}' is not elementwise: h(t) changes with the other values beside t"
                )
