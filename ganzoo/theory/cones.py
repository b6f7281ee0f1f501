"""Lower and upper optimal losses: the cones through the solved l_i   (Qi 2017, Theorem 4, Corollaries 1 and 2).

What is true of Corollary 2. A kappa-Lipschitz non-negative loss lies between the two cones of *its own* values at the
2m points: that holds for every one of them, optimal or not. The cones of *one* solution of the programme do not bound
the optimal losses: the programme has many solutions. With one pair and kappa > 1 every l = (0, t) with
Delta <= t <= kappa Delta is optimal, and none of them lies between the cones of another. What bounds them all are the
lower cones of the least solution and the upper cones of the greatest, both of which exist and are optimal
(`extremes`): S_m is a sum of terms in one l_i and convex terms in a difference l_i - l_j, hence submodular, and the
constraints are on differences, so that the elementwise minimum and maximum of two solutions are solutions.
"""

import numpy as np
from numpy.typing import ArrayLike

from ganzoo.errors import UserError
from ganzoo.theory.optimum import Array, Optimum

CLEAR = 1e-7
"""A multiplier counts as positive from this share of the largest possible one on."""
STILL = 1e-12
"""A bound that moves by less, in units of the largest one, is at rest."""


def lower(to_points: ArrayLike, losses: ArrayLike, kappa: float) -> Array:
    """max_i max(l_i - kappa Delta(x, x_i), 0): the least kappa-Lipschitz L >= 0 with L(x_i) = l_i   (Qi 2017, eq. 10).

    to_points: Delta(x, x_i), (N, n), of N new points to the n that have losses (n,) -> (N,).
    Raises UserError for other shapes.
    """
    distances, values = _fitting(to_points, losses)
    found: Array = np.maximum((values - kappa * distances).max(axis=1), 0)
    return found


def upper(to_points: ArrayLike, losses: ArrayLike, kappa: float) -> Array:
    """min_i (l_i + kappa Delta(x, x_i)): the greatest kappa-Lipschitz L with L(x_i) = l_i   (Qi 2017, eq. 10).

    Shapes and errors as in `lower`. Of any values, kappa-Lipschitz or not, it is the greatest kappa-Lipschitz function
    that exceeds none of them.
    """
    distances, values = _fitting(to_points, losses)
    found: Array = (values + kappa * distances).min(axis=1)
    return found


def between(to_points: ArrayLike, losses: ArrayLike, kappa: float, gamma: float) -> Array:
    """gamma lower + (1 - gamma) upper, optimal as both are, 0 <= gamma <= 1   (Qi 2017, Corollary 1).

    Shapes and errors as in `lower`; UserError for another gamma.
    """
    if not 0 <= gamma <= 1:
        raise UserError(f"gamma is {gamma}, not in [0, 1]")
    return gamma * lower(to_points, losses, kappa) + (1 - gamma) * upper(to_points, losses, kappa)


def lipschitz_constant(losses: ArrayLike, distances: ArrayLike) -> float:
    """max |l_i - l_j| / Delta_ij over the points: (n,), (n, n) -> at least 0; inf where points that coincide differ.

    Raises UserError for other shapes.
    """
    delta, values = _fitting(distances, losses)
    if len(delta) != len(values):
        raise UserError(f"distances have shape {delta.shape}, not ({len(values)}, {len(values)})")
    rise = np.abs(values[:, None] - values)
    apart = delta > 0
    if rise[~apart].any():
        return float("inf")
    return float((rise[apart] / delta[apart]).max(initial=0.0))


def extremes(optimum: Optimum) -> tuple[Array, Array]:
    """The least and the greatest of all solutions of the programme, elementwise: (2m,), (2m,); both are solutions.

    By complementary slackness the solutions are the feasible l, xi that are tight wherever a multiplier is positive:
    a system of bounds on differences l_i - l_j, whose extremes are shortest paths to a point of loss 0. With balance
    None nothing holds an optimal loss down, and the greatest is inf.
    Raises UserError where the multipliers are too far from optimal for such a system to have a solution.
    """
    delta, kappa = optimum.distances, optimum.kappa
    n = len(delta)
    m = n // 2
    i, margins = np.arange(m), np.diagonal(delta, offset=m)
    loss_weight, xi_weight = (0.0, 1 / m) if optimum.balance is None else (1 / m, optimum.balance / m)
    heavier = max(loss_weight, xi_weight)

    bound = kappa * delta  # l_j - l_k <= bound[j, k]
    flow = optimum.flow.tocoo()
    j, k = (places[flow.data > CLEAR * heavier] for places in (flow.row, flow.col))
    bound[k, j] = np.minimum(bound[k, j], -kappa * delta[j, k])
    pays, slack = optimum.hinge > CLEAR * xi_weight, optimum.hinge < (1 - CLEAR) * xi_weight
    bound[m + i[pays], i[pays]] = np.minimum(bound[m + i[pays], i[pays]], margins[pays])  # xi = Delta + l - l'
    bound[i[slack], m + i[slack]] = np.minimum(bound[i[slack], m + i[slack]], -margins[slack])  # xi = 0
    grounded = reduced_costs(optimum) > CLEAR * heavier  # l = 0

    start = np.where(grounded, 0.0, np.inf)
    greatest = _settled(bound, start)
    # The least: the same system for -l, whose bounds point the other way, from l >= 0.
    least = -_settled(bound.T, np.zeros(n))
    return least, greatest


def reduced_costs(optimum: Optimum) -> Array:
    """What the objective gains by a unit of l_j alone at these multipliers, (2m,), at least 0 where they are feasible:
    1/m + y_i + out_i - in_i of a real point, -y_i + out_{m+i} - in_{m+i} of a generated one."""
    y, m = optimum.hinge, len(optimum.hinge)
    surplus = np.asarray(optimum.flow.sum(axis=1)).ravel() - np.asarray(optimum.flow.sum(axis=0)).ravel()
    loss_weight = 0.0 if optimum.balance is None else 1 / m
    found: Array = np.concatenate([loss_weight + y, -y]) + surplus
    return found


def _settled(bound: Array, start: Array) -> Array:
    """The greatest l <= start with l_j - l_k <= bound[j, k]: Bellman and Ford, all points at once."""
    values, scale = start, float(np.abs(bound).max()) or 1.0
    for _ in range(len(bound) + 1):
        lowered = np.minimum(values, (values + bound).min(axis=1))
        with np.errstate(invalid="ignore"):  # inf - inf: not yet reached
            at_rest = not (values - lowered > STILL * scale).any()
        if at_rest:
            return values
        values = lowered
    raise UserError("the multipliers of this solution contradict each other: they are not those of an optimum")


def _fitting(to_points: ArrayLike, losses: ArrayLike) -> tuple[Array, Array]:
    distances, values = np.asarray(to_points, dtype=float), np.asarray(losses, dtype=float)
    if values.ndim != 1 or distances.ndim != 2 or distances.shape[1] != len(values) or not len(values):
        raise UserError(f"distances to points have shape {distances.shape}, losses {values.shape}: not (N, n), (n,)")
    return distances, values
