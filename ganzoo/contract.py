"""What a game needs of its plugins before the first round: shapes, dtypes, gradients, what one batch shows of the laws.

`ganzoo check` looks a thousand times as long. This looks once, at the values that are played with, and costs
milliseconds: what would spoil a training in silence (a column against a row, a sum in float64, C(a) < a) is refused.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ganzoo.config import Contender
from ganzoo.errors import UserError, blamed
from ganzoo.features import Networks
from ganzoo.game import Margin
from ganzoo.randomness import seeded
from ganzoo.zoo import Zoo

VIOLATIONS = (-1000.0, -1.0, 0.0, 1000.0)
"""a of which C(a) is looked at: where exp overflows on either side, at 0, and an ordinary one."""
CLOSE = 1e-4
"""Relative; float32 has 1e-7, and a frozen network's sums differ by more with the size of the batch."""
LAWS = ("objective-1", "objective-2", "objective-3", "objective-4", "objective-8", "objective-10")
"""Of ganzoo's checks of objectives, those whose breach spoils a training without a word."""


def require_contract(contender: Contender, zoo: Zoo, real: Tensor, networks: Networks) -> None:
    """Raises UserError, with plugin, got and wanted, where the cost, the margin or a stranger's objective breaks the
    contract of its hook at these hyperparameters. real: (N, C, H, W) float32 in [-1, 1], N at least 2.
    """
    if contender.cost is not None:
        cost = zoo.cost(contender.cost, **contender.cost_hyperparameters)
        _require_cost(f"{contender.label}: cost '{contender.cost}'", cost)
    if contender.margin is not None:
        margin = contender.bound_margin(zoo, networks)
        _require_margin(f"{contender.label}: margin '{contender.margin}'", margin, real)
    entry = zoo.find("objective", contender.objective)
    if not entry.origin.ours:  # ours are checked whole before each release
        _require_laws(contender, zoo)


def _require_laws(contender: Contender, zoo: Zoo) -> None:
    """The objective on stand-ins of a handful of pairs, at its hyperparameters."""
    from ganzoo.checks import Refuted, Skipped, replay

    entry = zoo.find("objective", contender.objective)
    for law in LAWS:
        with blamed(contender.label):
            try:
                replay(law, entry, **contender.hyperparameters)
            except Skipped:
                continue
            except Refuted as found:
                raise UserError(f"{contender.label}: {found.message} ({law} of `ganzoo check`)") from None


def _require_cost(who: str, cost: Callable[[Tensor], Tensor]) -> None:
    """C(a): elementwise, (N,) -> (N,), (I) C(a) >= a, (II) C(a) = a for a >= 0, differentiable   (Qi 2017, 6.2)."""
    a = torch.tensor(VIOLATIONS, requires_grad=True)
    with blamed(who), seeded("contract"):
        found = _tensor(who, "C(a)", cost(a * 1), a)
        some = _tensor(who, "C(a)", cost(a[1:3] * 1), a[1:3])
        (gradient,) = torch.autograd.grad(found.sum(), a, allow_unused=True) if found.requires_grad else (None,)
        given = a.detach().clone()
        cost(given)
    for value, of, alone in zip(found.tolist(), VIOLATIONS, [None, *some.tolist(), None], strict=True):
        slack = CLOSE * max(1.0, abs(of))
        if value < of - slack:
            raise UserError(f"{who}: C({of:g}) = {value:g}; at least {of:g} is wanted")
        if of >= 0 and value > of + slack:
            raise UserError(f"{who}: C({of:g}) = {value:g}; {of:g} is wanted, as of every a >= 0")
        if alone is not None and abs(value - alone) > slack:
            raise UserError(
                f"{who}: C({of:g}) is {value:g} among other values and {alone:g} without them; elementwise is wanted"
            )
    if gradient is None:
        raise UserError(f"{who}: C(a) has no gradient; something in it detaches")
    if not gradient.isfinite().all():
        where = VIOLATIONS[int((~gradient.isfinite()).nonzero()[0])]
        raise UserError(f"{who}: its gradient at a = {where:g} is not finite; the branch not taken overflows?")
    if not torch.equal(given, a):
        raise UserError(f"{who} writes into a; a tensor of its own is wanted")


def _require_margin(who: str, margin: Margin, real: Tensor) -> None:
    """Delta(x, x'): (N, C, H, W), (N, C, H, W) -> (N,), non-negative, zero on equal pairs, a pair's own."""
    fake = real.flip(0).mul(-0.5)  # nobody's pixels, and not symmetric to the real ones
    with blamed(who), torch.no_grad(), seeded("contract"):
        given, made = real.clone(), fake.clone()
        found = _tensor(who, "Delta(x, G(z))", margin(given, made), real[:, 0, 0, 0])
        back = margin(fake, real)
        equal = margin(real, real)
        some = margin(real[:2], fake[:2])
    if not (torch.equal(given, real) and torch.equal(made, fake)):
        raise UserError(f"{who} writes into its images; tensors of its own are wanted")
    least = float(torch.minimum(found, back).min())
    size = float(found.abs().max())
    if least < -CLOSE * max(1.0, size):
        raise UserError(f"{who}: Delta = {least:g} for a pair; at least 0 is wanted")
    if float(equal.abs().max()) > CLOSE:
        raise UserError(f"{who}: Delta = {float(equal.abs().max()):g} for an image and itself; 0 is wanted")
    if not torch.allclose(some, found[:2], rtol=100 * CLOSE, atol=CLOSE):
        raise UserError(f"{who}: a pair's Delta changes with the other pairs, or from call to call; its own is wanted")


def _tensor(who: str, what: str, found: object, like: Tensor) -> Tensor:
    """What a plugin returned, if it is a finite tensor of that shape and dtype."""
    if not isinstance(found, Tensor):
        raise UserError(f"{who}: {what} is {type(found).__name__}; a tensor of shape {tuple(like.shape)} is wanted")
    if found.shape != like.shape:
        raise UserError(f"{who}: {what} has shape {tuple(found.shape)}; {tuple(like.shape)} is wanted")
    if found.dtype != like.dtype:
        raise UserError(f"{who}: {what} is {found.dtype}; {like.dtype} is wanted, as the harness gives it")
    if not found.isfinite().all():
        raise UserError(f"{who}: {what} is {found.flatten().tolist()[:4]}; finite values are wanted")
    return found


def require_loss(who: str, found: object) -> None:
    """UserError unless it is a finite scalar in float32."""
    if not isinstance(found, Tensor) or found.dim() != 0:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{who} is {shape}; a scalar tensor is wanted")
    _tensor(who, "it", found, torch.empty(()))
