"""The optimal loss without parameters: a linear programme over all kappa-Lipschitz losses   (Qi 2017, sec. 7, eq. 11).

Points x_1..x_m are real, x_{m+1}..x_{2m} generated, Delta is a matrix of distances:

    min  1/m sum_i l_i + balance/m sum_i xi_i                                          i = 1..m
    s.t. xi_i >= Delta(x_i, x_{m+i}) + l_i - l_{m+i},  xi_i >= 0,  l_j >= 0,
         l_j - l_k <= kappa Delta(x_j, x_k)                                            j, k = 1..2m

Its dual is a flow: y_i in [0, balance/m] enters at the generated x_{m+i} and leaves at the real x_i, f_jk >= 0 runs
from j to k for kappa Delta_jk a unit, and the generated points' surplus y may end at any real point k up to
1/m + y_k:

    max  sum_i y_i Delta(x_i, x_{m+i}) - kappa sum_jk f_jk Delta(x_j, x_k)
    s.t. y_i <= balance/m,  1/m + y_i + out_i - in_i >= 0,  -y_i + out_{m+i} - in_{m+i} >= 0

Where Delta is a metric no flow gains by a detour, so f runs from generated points to real ones alone: of the
2m (2m - 1) Lipschitz constraints m^2 decide, and of these about 20 m. `solve(way="lazy")` finds them; every other one
is then met by l <- min over real k of (l_k + kappa Delta(., x_k)), which lowers no constraint's slack and raises no
term of the objective.
"""

import math
import os
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from ganzoo.errors import UserError, did_you_mean

Array = NDArray[np.float64]

Way = Literal["lazy", "full"]

TOLERANCE = 1e-9
"""What a Lipschitz constraint may be violated by, in units of the largest distance."""
BYTES_A_ROW = 1_250
"""Peak memory of the full programme a constraint: 1,244 at m = 100, 1,212 at 200, 1,195 at 400 were measured."""


class Optimum(NamedTuple):
    """A solution of the programme, its multipliers and how it came about."""

    losses: Array
    """l, (2m,), at least 0: the optimal loss at the real points, then at the generated ones."""
    xi: Array
    """(m,): max(Delta(x_i, x_{m+i}) + l_i - l_{m+i}, 0), what the pair still violates its margin by."""
    value: float
    """S_m at `losses`: no kappa-Lipschitz non-negative loss has less."""
    hinge: Array
    """y, (m,), in [0, balance/m]: the multipliers of the pairs' constraints."""
    flow: csr_array
    """f, (2m, 2m), at least 0: f[j, k] is the multiplier of l_j - l_k <= kappa Delta_jk."""
    distances: Array
    """Delta, (2m, 2m), as it was given."""
    kappa: float
    balance: float | None
    rounds: int
    """Programmes solved; 1 for the full one."""
    pairs: int
    """Lipschitz constraints in the last one, of 2m (2m - 1)."""
    violation: float
    """The largest l_j - l_k - kappa Delta_jk over all pairs, at least 0, in units of the distances."""
    seconds: float


def point_distances(points: ArrayLike, others: ArrayLike | None = None, p: float = 2.0) -> Array:
    """The L_p distance of every point to every other: (N, ...), (M, ...) -> (N, M); p in [1, inf].

    Images are flattened. Without `others` the distances among `points`: for `solve`, the real ones first.
    Raises UserError for p below 1, for other shapes and for values that are not finite.
    """
    if not p >= 1:
        raise UserError(f"p is {p}, not at least 1: below it the L_p distance is no metric")
    one = _flat(points, "points")
    two = one if others is None else _flat(others, "others")
    if one.shape[1] != two.shape[1]:
        raise UserError(f"points have {one.shape[1]} coordinates, others {two.shape[1]}: there is no distance")
    metric: dict[float, str] = {1.0: "cityblock", 2.0: "euclidean", math.inf: "chebyshev"}
    found: Array = cdist(one, two, metric[p]) if p in metric else cdist(one, two, "minkowski", p=p)
    return found


def empirical_objective(
    losses_real: ArrayLike, losses_fake: ArrayLike, margins: ArrayLike, balance: float | None = 1.0
) -> float:
    """S_m = 1/m sum_i L(x_i) + balance/m sum_i max(Delta_i + L(x_i) - L(G(z_i)), 0)   (Qi 2017, eq. 6).

    All are (m,): losses of the real and the generated points, margins Delta(x_i, G(z_i)) of the pairs. balance None:
    the limit balance -> inf of S_m / balance, the second term alone. Raises UserError for other shapes, nan and inf.
    """
    real, fake, delta = (np.asarray(values, dtype=float) for values in (losses_real, losses_fake, margins))
    if not (real.ndim == 1 and real.shape == fake.shape == delta.shape and len(real)):
        raise UserError(
            f"real losses are {real.shape}, generated ones {fake.shape}, margins {delta.shape}: not (m,) with m >= 1"
        )
    for name, values in (("real losses", real), ("generated losses", fake), ("margins", delta)):
        if not np.isfinite(values).all():
            raise UserError(f"{name} are not all finite")
    _require_positive("balance", balance)
    violated = float(np.maximum(delta + real - fake, 0).mean())
    return violated if balance is None else float(real.mean()) + balance * violated


def solve(
    distances: ArrayLike,
    *,
    kappa: float,
    balance: float | None = 1.0,
    way: Way = "lazy",
    neighbours: int = 10,
    cuts: int = 3,
    memory: int | None = None,
) -> Optimum:
    """The optimal kappa-Lipschitz loss at the 2m points   (Qi 2017, Theorem 4 and eq. 11).

    distances: Delta, (2m, 2m), symmetric, finite, at least 0 and 0 on the diagonal; the first m points are real, point
        m + i is the generated one paired with i. Points may coincide: Delta = 0 makes their losses equal. Where Delta
        is no metric the programme is solved all the same, but the cones of `ganzoo.theory.cones` need one.
    kappa: the Lipschitz constant. balance: the paper's lambda; None is its limit infinity, the hinge term alone, whose
        value is S_m / balance. There every optimal loss plus a constant is optimal: the one with min l = 0 is returned.
    way: "full" is the programme as it stands, with 2m (2m - 1) constraints; "lazy" starts with each point's
        `neighbours` nearest of the other kind and adds, round by round, the `cuts` most violated constraints of each
        point, until none is violated by more than 1e-9 of the largest distance. Both find the same value.
    memory: bytes that the full way may use; None: what the machine has left.

    How time and memory grow with m is measured by `ganzoo paper figure-1`.
    Raises UserError for values that are none of these, for a full programme that does not fit, before it starts, and
    where HiGHS finds no optimum.
    """
    started = time.monotonic()
    delta = _checked(distances)
    m = len(delta) // 2
    _require_positive("kappa", kappa)
    _require_positive("balance", balance)
    for name, count in (("neighbours", neighbours), ("cuts", cuts)):
        if count < 1:
            raise UserError(f"{name} is {count}, not at least 1")
    if way not in get_args(Way):
        raise UserError(f"no way to solve '{way}'{did_you_mean(way, get_args(Way))}")
    if way == "full":
        _require_memory(m, available_memory() if memory is None else memory)

    # HiGHS's tolerances are absolute: distances are measured in units of the largest.
    unit = float(delta.max()) or 1.0
    programme = _Programme(delta / unit, kappa, balance)
    solution = _full(programme) if way == "full" else _lazy(programme, neighbours, cuts)
    losses = np.maximum(solution.losses, 0) * unit
    if balance is None:
        losses -= losses.min()
    margins = np.diagonal(delta, offset=m)
    return Optimum(
        losses=losses,
        xi=np.maximum(margins + losses[:m] - losses[m:], 0),
        value=empirical_objective(losses[:m], losses[m:], margins, balance),
        hinge=solution.hinge,
        flow=solution.flow,
        distances=delta,
        kappa=kappa,
        balance=balance,
        rounds=solution.rounds,
        pairs=solution.pairs,
        violation=largest_violation(losses, delta, kappa),
        seconds=time.monotonic() - started,
    )


def largest_violation(losses: Array, distances: Array, kappa: float) -> float:
    """max over j, k of l_j - l_k - kappa Delta_jk: (N,), (N, N) -> at least 0."""
    return max(0.0, float((losses[:, None] - losses - kappa * distances).max()))


def full_bytes(m: int) -> int:
    """The memory that the full programme of m pairs is expected to need at its peak."""
    return BYTES_A_ROW * 2 * m * (2 * m - 1)


def available_memory() -> int | None:
    """Bytes that a process may still use, as Linux says, a container's limit included; else all that the machine has;
    None where nothing can be known."""
    known = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                known.append(1024 * int(line.split()[1]))
    except OSError:
        pass
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            known.append(max(0, int(limit) - int(used)))
    except OSError:
        pass
    if not known:
        try:
            known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, ValueError, OSError):
            return None
    return min(known)


class _Programme(NamedTuple):
    """What stays the same from round to round; distances in units of the largest."""

    distances: Array
    kappa: float
    balance: float | None


class _Solution(NamedTuple):
    losses: Array
    hinge: Array
    flow: csr_array
    rounds: int
    pairs: int


def _full(programme: _Programme) -> _Solution:
    j, k = np.nonzero(~np.eye(len(programme.distances), dtype=bool))
    return _optimal(programme, j, k)


def _lazy(programme: _Programme, neighbours: int, cuts: int) -> _Solution:
    """Constraints between the kinds as they are violated; then, should Delta be no metric, between any two points.

    What was tried on m = 1,000 pairs on a plane, kappa 0.5, balance 1:

                                             rounds   pairs    seconds   seconds at balance None
        10 neighbours,  3 cuts                  6     29,078      4.0       27
         3 neighbours,  1 cut                  12     18,332      3.3
        10 neighbours, 10 cuts                  5     37,160      5.3      110
        20 neighbours, 10 cuts                  4     46,883      5.3      140
        first, slack constraints dropped        7     26,187      3.6
        first, any two points from the start    6     35,652      6.0
        all m^2 between the kinds at once       1  1,000,000       87
        the dual of these m^2                   1  1,000,000       54
    """
    distances, kappa = programme.distances, programme.kappa
    n = len(distances)
    m = n // 2
    across = distances[m:, :m]  # generated x real
    chosen = np.zeros((n, n), dtype=bool)
    chosen[m:, :m] = np.eye(m, dtype=bool) | _largest(-across, neighbours)
    rows, columns = slice(m, n), slice(0, m)
    rounds = 0
    while True:
        rounds += 1
        found = _optimal(programme, *np.nonzero(chosen))._replace(rounds=rounds)
        losses = found.losses
        excess = losses[rows, None] - losses[columns] - kappa * distances[rows, columns]
        new = _largest(excess, cuts) & (excess > TOLERANCE) & ~chosen[rows, columns]
        if new.any():
            chosen[rows, columns] |= new
            continue
        if rows == columns:
            return found
        # The upper cone over the real points: kappa-Lipschitz where Delta is a metric, and of no larger S_m.
        extended = (losses[:m] + kappa * distances[:, :m]).min(axis=1)
        if largest_violation(extended, distances, kappa) <= TOLERANCE:
            return found._replace(losses=extended)
        rows = columns = slice(0, n)  # no metric: any pair may matter


def _largest(values: Array, count: int) -> NDArray[np.bool_]:
    """True at the `count` largest of each row and of each column."""
    found = np.zeros(values.shape, dtype=bool)
    for axis in (0, 1):
        most = min(count, values.shape[axis])
        places = np.argpartition(-values, most - 1, axis=axis).take(range(most), axis=axis)
        np.put_along_axis(found, places, True, axis=axis)
    return found


def _optimal(programme: _Programme, j: NDArray[np.intp], k: NDArray[np.intp]) -> _Solution:
    """The programme with l_j - l_k <= kappa Delta_jk for these pairs alone; variables are (l, xi), all at least 0."""
    distances, kappa, balance = programme
    n, pairs = len(distances), len(j)
    m = n // 2
    i, lipschitz = np.arange(m), m + np.arange(pairs)
    matrix = csr_array(
        (
            np.repeat([1.0, -1.0, -1.0, 1.0, -1.0], [m, m, m, pairs, pairs]),
            (np.concatenate([i, i, i, lipschitz, lipschitz]), np.concatenate([i, m + i, n + i, j, k])),
        ),
        shape=(m + pairs, n + m),
    )
    # In units of the larger of the two weights over m: HiGHS's tolerance then means the same for every m and balance.
    loss_weight, xi_weight = (0.0, 1.0) if balance is None else (1.0, balance)
    heavier = max(loss_weight, xi_weight)
    found = linprog(
        np.repeat([loss_weight / heavier, 0.0, xi_weight / heavier], m),
        A_ub=matrix,
        b_ub=np.concatenate([-np.diagonal(distances, offset=m), kappa * distances[j, k]]),
        bounds=(0, None),
        method="highs-ds",  # the interior point gives up where balance is None: the solutions are unbounded
        options={"primal_feasibility_tolerance": TOLERANCE / 10, "dual_feasibility_tolerance": TOLERANCE / 10},
    )
    _require_optimal(found, m, pairs)
    multipliers = np.maximum(-found.ineqlin.marginals, 0) * heavier / m
    flow = csr_array((multipliers[m:], (j, k)), shape=(n, n))
    flow.eliminate_zeros()
    return _Solution(found.x[:n], np.minimum(multipliers[:m], xi_weight / m), flow, 1, pairs)


def _require_optimal(found: Any, m: int, pairs: int) -> None:
    if found.status == 0:
        return
    verdict = {2: "infeasible", 3: "unbounded"}.get(found.status, "unsolved")
    message = " ".join(str(found.message).split())
    raise UserError(f"HiGHS calls the programme of m = {m} with {pairs:,} Lipschitz constraints {verdict}: {message}")


def _require_memory(m: int, available: int | None) -> None:
    needed = full_bytes(m)
    if available is None or needed <= available:
        return
    fits = int((1 + math.sqrt(1 + 4 * max(0, available) / BYTES_A_ROW)) / 4)
    raise UserError(
        f"the full programme of m = {m:,} pairs needs about {needed / 1e9:.1f} GB, there are {available / 1e9:.1f}: "
        f"at most m = {fits:,} fits; way='lazy' takes this one"
    )


def _require_positive(name: str, value: float | None) -> None:
    """balance may be None, its limit infinity."""
    if value is None and name == "balance":
        return
    if not isinstance(value, int | float | np.number) or not (value > 0 and math.isfinite(value)):
        instead = "; None is the limit of infinity" if name == "balance" else ""
        raise UserError(f"{name} is {value}, not a positive finite number{instead}")


def _checked(distances: ArrayLike) -> Array:
    delta = np.asarray(distances, dtype=float)
    if delta.ndim != 2 or delta.shape[0] != delta.shape[1]:
        raise UserError(f"distances have shape {delta.shape}, not (2m, 2m)")
    n = len(delta)
    if n == 0 or n % 2:
        raise UserError(f"distances are those of {n} points, not of an even number: m real ones, then m generated")
    if not np.isfinite(delta).all():
        raise UserError(f"{np.count_nonzero(~np.isfinite(delta)):,} of the distances are not finite")
    if (delta < 0).any():
        raise UserError(f"distances are negative: the least is {delta.min()}")
    if np.diagonal(delta).any():
        raise UserError(f"a point's distance to itself is {np.diagonal(delta).max()}, not 0")
    asymmetry = np.abs(delta - delta.T).max()
    if asymmetry > 1e-12 * delta.max():
        raise UserError(f"distances are not symmetric: Delta(j, k) and Delta(k, j) differ by {asymmetry}")
    return delta


def _flat(points: ArrayLike, name: str) -> Array:
    found = np.asarray(points, dtype=float)
    if found.ndim < 2 or not found.size:
        raise UserError(f"{name} have shape {found.shape}, not (N, ...) with at least one point and coordinate")
    if not np.isfinite(found).all():
        raise UserError(f"{name} are not all finite")
    return found.reshape(len(found), -1)
