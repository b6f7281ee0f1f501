"""The Nash equilibria of LS-GAN without any training: all of them, and how far they can be from p_data.

Lemma 2 of Qi 2017 bounds integral |p_data - p_G| by 2 / balance at an equilibrium of eq. 4 and 5. Its premises (L and
the densities Lipschitz on a compact set, L >= 0, p_data among the generator's densities) say more: (L, p_G) is an
equilibrium just where

    p_G <= (1 + 1/balance) p_data  almost everywhere,  and  L = 0 on the support of p_data.

Enough, for (a)_+ >= a gives S(L) >= balance E Delta + integral ((1 + balance) p_data - balance p_G) L >= S(0), and
against L = 0 every p_G has T = 0. Necessary, for T(p_G) <= T(p_data) gives S >= balance E Delta + E L(x), while
L' = c (balance p_G - (1 + balance) p_data)_+ with a small c violates no margin and has
S(L') = balance E Delta - c integral (balance p_G - (1 + balance) p_data)_+^2.

With A = {p_G > p_data}, P_G(A) - P_data(A) is at most P_data(A) / balance and at most 1 - P_data(A): so the integral,
twice that, is at most 2 / (1 + balance). Without a limit to p_G's Lipschitz constant it comes as near as one likes
(`furthest`): 2 / balance is not the least bound, and its order is right.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from ganzoo.errors import UserError
from ganzoo.theory.densities import Density, midpoints

Floats = NDArray[np.float64]


def bound(balance: float | None) -> float:
    """integral |p_data - p_G| <= 2 / balance   (Qi 2017, lemma 2); 0 without a balance and for GLS-GAN (lemma 4)."""
    return 0.0 if balance is None else 2 / _positive(balance)


def least_bound(balance: float | None) -> float:
    """2 / (1 + balance), the supremum of integral |p_data - p_G| over all equilibria; 0 without a balance."""
    return 0.0 if balance is None else 2 / (1 + _positive(balance))


def excess(p: Density, q: Density, balance: float | None, dimension: int, cells: int) -> float:
    """integral (q - (1 + 1/balance) p)_+ dx, from 0 to 1, p the data's density: 0 at an equilibrium and only there.

    By the midpoint rule on cells^d cells.
    """
    share = 1.0 if balance is None else 1 + 1 / _positive(balance)
    x = midpoints(dimension, cells)
    return float((q(x) - share * p(x)).clamp(min=0).sum() * (2 / cells) ** dimension)


def furthest(p: Floats, balance: float, lipschitz: float, tries: int = 20) -> Floats:
    """A p_G at an equilibrium, as far from p_data as a linear programme finds: (n,) -> (n,).

    p holds p_data at the n midpoints of equal cells of [-1, 1] and sums to n / 2; p_G is held to a Lipschitz constant
    of `lipschitz` in |x|, and takes mass from one side of a point to the other: `tries` points, both ways.
    Raises UserError where no such density exists.
    """
    n = len(p)
    h = 2 / n
    step = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
    steepness = sparse.vstack([step, -step])
    found: list[tuple[float, Floats]] = []
    for cut in np.linspace(0, n, tries + 2)[1:-1].round().astype(int):
        for side in (np.arange(n) < cut, np.arange(n) >= cut):
            # max (q - p)(side): |p - q| is at least twice that, and just that where q > p is this side.
            best = linprog(
                -side.astype(float),
                A_ub=steepness,
                b_ub=np.full(2 * n - 2, lipschitz * h),
                A_eq=np.full((1, n), h),
                b_eq=[1.0],
                bounds=np.stack([np.zeros(n), (1 + 1 / _positive(balance)) * p], axis=1),
            )
            if best.status == 0:
                found.append((float(np.abs(best.x - p).sum() * h), best.x))
    if not found:
        raise UserError(f"no density of Lipschitz constant {lipschitz:g} stays below (1 + 1/{balance:g}) p_data")
    return max(found, key=lambda pair: pair[0])[1]


def gain_of_best_critic(p: Floats, q: Floats, balance: float, lipschitz: float) -> float:
    """S(0) - min_L S(L) over L >= 0 with |L(x) - L(x')| <= lipschitz |x - x'|, at least 0: eq. 4 as a linear programme.

    p and q, (n,), are p_data and p_G at the midpoints of n equal cells of [-1, 1]; Delta is |x - x'|. 0 says that
    L = 0 is a best answer to q, so that (0, q) is an equilibrium. It has n^2 slacks: keep n below a hundred.
    """
    n = len(p)
    x = midpoints(1, n)[:, 0].numpy()
    margin = np.abs(x[:, None] - x[None, :]).ravel()  # (n^2,), real first
    pair = np.outer(p / p.sum(), q / q.sum()).ravel()
    identity, ones = sparse.eye_array(n), np.ones((n, 1))
    # Delta_ij + l_i - l_j <= xi_ij
    violation = sparse.hstack([sparse.kron(identity, ones) - sparse.kron(ones, identity), -sparse.eye_array(n * n)])
    step = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
    steepness = sparse.hstack([sparse.vstack([step, -step]), sparse.csr_array((2 * n - 2, n * n))])
    best = linprog(
        np.concatenate([p / p.sum(), _positive(balance) * pair]),
        A_ub=sparse.vstack([violation, steepness]).tocsr(),
        b_ub=np.concatenate([-margin, np.full(2 * n - 2, lipschitz * 2 / n)]),
    )
    return max(0.0, balance * float(pair @ margin) - float(best.fun))


def _positive(balance: float) -> float:
    if not (balance > 0 and math.isfinite(balance)):
        raise UserError(f"balance is {balance}, not a positive number; None stands for its limit, infinity")
    return balance
