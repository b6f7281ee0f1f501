"""Whether a solution is one, and how far a critic is from it: nothing here trusts the solver."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganzoo.errors import UserError
from ganzoo.theory.cones import lipschitz_constant, reduced_costs
from ganzoo.theory.optimum import Optimum, Way, empirical_objective, largest_violation, solve


class Certificate(NamedTuple):
    """The programme and its dual at a solution; by weak duality no feasible loss is below a feasible `dual`."""

    primal: float
    """S_m of the losses."""
    dual: float
    """sum_i y_i Delta_i - kappa sum_jk f_jk Delta_jk."""
    gap: float
    """primal - dual: 0 at an optimum, where both are feasible."""
    primal_violation: float
    """The most that l >= 0 or a Lipschitz constraint is violated by, in units of the distances."""
    dual_violation: float
    """The most that y >= 0, y <= balance/m, f >= 0 or a reduced cost >= 0 is violated by, in units of the larger of
    1/m and balance/m."""
    slackness: float
    """The largest product of a multiplier and its constraint's slack, summed over each kind: 0 at an optimum."""


class Oracle(NamedTuple):
    """A critic against the best loss of its own Lipschitz constant."""

    kappa: float
    """max |L(x_i) - L(x_j)| / Delta_ij over the 2m points."""
    value: float
    """S_m of the critic."""
    optimum: float
    """The programme's value at that kappa."""
    gap: float
    """value - optimum: what the critic lost by its form or its training; at least 0 but for rounding."""


def certify(optimum: Optimum) -> Certificate:
    """Feasibility, duality gap and complementary slackness, from losses and multipliers alone   (Qi 2017, eq. 11)."""
    delta, kappa, losses, y = optimum.distances, optimum.kappa, optimum.losses, optimum.hinge
    m = len(y)
    margins = np.diagonal(delta, offset=m)
    xi_weight = (1.0 if optimum.balance is None else optimum.balance) / m
    heavier = xi_weight if optimum.balance is None else max(1 / m, xi_weight)
    primal = empirical_objective(losses[:m], losses[m:], margins, optimum.balance)

    flow = optimum.flow.tocoo()
    cost = kappa * delta[flow.row, flow.col]
    dual = float(y @ margins - flow.data @ cost)

    costs = reduced_costs(optimum)
    wrong = [-y.min(), y.max() - xi_weight, -flow.data.min(initial=0.0), -costs.min(), 0.0]
    violated = margins + losses[:m] - losses[m:]
    xi = np.maximum(violated, 0)
    products = [
        y @ np.abs(xi - violated),
        (xi_weight - y) @ xi,
        flow.data @ np.abs(cost - losses[flow.row] + losses[flow.col]),
        costs @ losses,
    ]
    return Certificate(
        primal=primal,
        dual=dual,
        gap=primal - dual,
        primal_violation=max(largest_violation(losses, delta, kappa), float(-losses.min())),
        dual_violation=float(max(wrong)) / heavier,
        slackness=float(np.abs(products).max()),
    )


def oracle(losses: ArrayLike, distances: ArrayLike, balance: float | None = 1.0, way: Way = "lazy") -> Oracle:
    """How far a critic is from the optimum of all losses with its Lipschitz constant on these points.

    losses: L at the m real points, then at the generated ones, (2m,), at least 0 (with balance None of any sign: only
    differences count). distances, balance, way as in `solve`. Raises UserError for losses that do not fit, are
    negative, or differ where two points coincide: no Lipschitz constant allows that.
    """
    values = np.asarray(losses, dtype=float)
    if not np.isfinite(values).all():
        raise UserError("the critic's losses are not all finite")
    kappa = lipschitz_constant(values, distances)
    if kappa == float("inf"):
        raise UserError("the critic differs on points that coincide: it has no Lipschitz constant for these distances")
    if balance is not None and values.min() < 0:
        raise UserError(
            f"the critic's least loss is {values.min():.4g}: with a finite balance L is at least 0; "
            "take balance None, or shift it"
        )
    m = len(values) // 2
    margins = np.diagonal(np.asarray(distances, dtype=float), offset=m)
    value = empirical_objective(values[:m], values[m:], margins, balance)
    if kappa == 0:  # a constant: of these 0 is the best
        best = empirical_objective(np.zeros(m), np.zeros(m), margins, balance)
    else:
        best = solve(distances, kappa=kappa, balance=balance, way=way).value
    return Oracle(kappa, value, best, value - best)
