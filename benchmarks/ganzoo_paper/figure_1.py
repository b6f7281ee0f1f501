"""Figure 1: the optimal losses without parameters, their cones and slopes, and what the programme costs (Theorem 4)."""

import resource
import sys
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ganzoo.paper import Item, Options, write_rows
from ganzoo.randomness import derive
from ganzoo.report.figures import save
from ganzoo.theory.certificate import certify
from ganzoo.theory.cones import between, extremes, lower, upper
from ganzoo.theory.optimum import Array, Optimum, Way, point_distances, solve

REAL, GENERATED = "tab:blue", "tab:red"
CELLS = 20_000
"""Of the 1-D grid on which slopes are measured."""


class Size(NamedTuple):
    full: tuple[int, ...]
    """m for the full programme ..."""
    lazy: tuple[int, ...]
    """... and for the lazy one."""


SIZES = {
    "small": Size(full=(50, 100, 200, 400), lazy=(50, 100, 200, 400, 1000)),
    "paper": Size(full=(50, 100, 200, 400, 700, 1000), lazy=(50, 100, 200, 400, 700, 1000, 2000)),
}


def run(options: Options) -> str:
    size = SIZES[options.size]
    line = on_a_line()
    plane = on_a_plane()
    save(draw_cones(line), options.folder / "cones.png", dpi=90)
    save(draw_contours(plane), options.folder / "contour.png", dpi=90)
    slopes = [*slopes_on_a_line(line), *slopes_on_a_plane()]
    print("cones and slopes are measured; next the programme's growth", file=sys.stderr)
    growth = list(grown(size))
    save(draw_growth(growth), options.folder / "growth.png", dpi=90)
    write_rows(options.folder, [*slopes, *growth])
    return "\n\n".join([slope_table(slopes), growth_table(growth), conclusion(slopes, growth)]) + "\n"


# The solved examples.


class Example(NamedTuple):
    points: Array
    """(2m, d): the real ones, then the generated ones."""
    optimum: Optimum


def on_a_line() -> list[Example]:
    """Four pairs on a line. A larger balance lifts real losses for the pairs' sake; above kappa = 1 there are many
    solutions, the last example being one of them."""
    points = np.array([[-1.6], [-0.4], [0.5], [2.1], [-1.0], [1.0], [1.5], [3.2]])
    distances = point_distances(points)
    settings = ((0.5, 1.0), (0.5, 4.0), (2.0, 1.0))
    return [Example(points, solve(distances, kappa=kappa, balance=balance)) for kappa, balance in settings]


def on_a_plane(m: int = 15, kappa: float = 1.0, p: float = 2.0, balance: float | None = 1.0) -> Example:
    points = clouds(m)
    return Example(points, solve(point_distances(points, p=p), kappa=kappa, balance=balance))


def clouds(m: int) -> Array:
    """(2m, 2): real points around five centres, generated ones in a single cloud."""
    random = np.random.default_rng(derive("figure-1 clouds", m))
    centres = random.uniform(-1, 1, (5, 2))
    real = centres[random.integers(5, size=m)] + 0.15 * random.normal(size=(m, 2))
    return np.concatenate([real, random.normal(0, 0.7, (m, 2))])


# Slopes: is |grad| = kappa almost everywhere, and does it never vanish?

LOSSES = {"upper": 0.0, "half": 0.5, "lower": 1.0}
"""Name -> gamma of gamma lower + (1 - gamma) upper."""


def slopes_on_a_line(line: Sequence[Example]) -> list[dict[str, Any]]:
    """Over the cells of a grid between the outermost points: the shares with slope +-kappa and with slope 0."""
    rows = []
    for example in line:
        grid = np.linspace(example.points.min(), example.points.max(), CELLS + 1)
        for name, gamma in LOSSES.items():
            values = loss_at(example, grid[:, None], gamma=gamma)
            slopes = np.abs(np.diff(values) / np.diff(grid))
            rows.append(slope_row(example, name, slopes, where="line"))
    return rows


def slopes_on_a_plane(samples: int = 4000) -> list[dict[str, Any]]:
    """At random places of the points' bounding box, with the gradient in the norm dual to the distance's."""
    rows = []
    for m, p, kappa in ((15, 2.0, 1.0), (15, 2.0, 0.5), (15, 1.0, 0.5), (100, 2.0, 0.5), (100, 2.0, 2.0)):
        example = on_a_plane(m, kappa, p)
        random = np.random.default_rng(derive("figure-1 places", m))
        places = random.uniform(example.points.min(axis=0), example.points.max(axis=0), (samples, 2))
        for name, gamma in LOSSES.items():
            gradients = gradient(partial(loss_at, example, gamma=gamma, p=p), places)
            norms = np.abs(gradients).max(axis=1) if p == 1 else np.linalg.norm(gradients, axis=1)
            rows.append(slope_row(example, name, norms, where="plane", p=p))
    return rows


def loss_at(example: Example, places: Array, *, gamma: float, p: float = 2.0) -> Array:
    to_points = point_distances(places, example.points, p=p)
    return between(to_points, example.optimum.losses, example.optimum.kappa, gamma)


def gradient(function: Callable[[Array], Array], places: Array, step: float = 1e-6) -> Array:
    """Central differences: (N, d) -> (N, d). Of N places about a `step`-th share lies across a kink."""
    steps = step * np.eye(places.shape[1])
    return np.stack([(function(places + s) - function(places - s)) / (2 * step) for s in steps], axis=1)


def slope_row(example: Example, loss: str, slopes: Array, where: str, p: float = 2.0) -> dict[str, Any]:
    optimum = example.optimum
    kappa, m = optimum.kappa, len(optimum.xi)
    row = {
        "part": "slope",
        "where": where,
        "m": m,
        "p": p,
        "kappa": kappa,
        "balance": optimum.balance,
        "value": optimum.value,
        "loss": loss,
        "places": len(slopes),
        # A millionth of kappa is what rounding leaves of a central difference; a cell with a kink has any slope.
        "share_kappa": float(np.mean(np.abs(slopes - kappa) < 1e-4 * kappa)),
        "share_flat": float(np.mean(slopes < 1e-4 * kappa)),
        "steepest": float(slopes.max()),
        "losses": optimum.losses.tolist(),
    }
    least, _ = extremes(optimum)
    return row | {"at_minimum": at_minimum(optimum, optimum.losses), "at_minimum_of_least": at_minimum(optimum, least)}


def at_minimum(optimum: Optimum, losses: Array) -> float:
    """The share of generated points that are strict local minima of a solution's upper loss: no way leads down."""
    m = len(optimum.xi)
    cones = losses + optimum.kappa * optimum.distances + np.diag(np.full(2 * m, np.inf))  # (2m, 2m)
    margin = 1e-9 * optimum.kappa * optimum.distances.max()
    return float(np.mean(losses[m:] < cones[m:].min(axis=1) - margin))


# Growth with m: each measurement in a fresh process.


def grown(size: Size) -> list[dict[str, Any]]:
    rows = []
    planned: list[tuple[int, Way]] = [*((m, "lazy") for m in size.lazy), *((m, "full") for m in size.full)]
    for m, way in sorted(planned):
        # A new process a measurement: the peak of an old one would hide that of a smaller programme.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(measured, m, way).result())
        print(f"m = {m:5,} {way}: {rows[-1]['seconds']:.2f} s, {rows[-1]['peak_mb']:.0f} MB", file=sys.stderr)
    return rows


def measured(m: int, way: Way, kappa: float = 0.5) -> dict[str, Any]:
    """Seconds, memory above what the process held before, and the certificate of one solution."""
    distances = point_distances(clouds(m))
    before = memory_mb("VmRSS")
    optimum = solve(distances, kappa=kappa, way=way)
    peak = memory_mb("VmHWM")
    certificate = certify(optimum)
    return {
        "part": "growth",
        "m": m,
        "way": way,
        "kappa": kappa,
        "balance": optimum.balance,
        "seconds": round(optimum.seconds, 4),
        "peak_mb": round(peak - before, 1),
        "value": optimum.value,
        "rounds": optimum.rounds,
        "constraints": optimum.pairs,
        "duality_gap": certificate.gap,
        "primal_violation": certificate.primal_violation,
        "dual_violation": certificate.dual_violation,
    }


def memory_mb(field: str) -> float:
    """This process's VmRSS (now) or VmHWM (peak), as Linux says; elsewhere the peak, where it is known, for both."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        scale = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


def exponent(rows: Sequence[dict[str, Any]], key: str) -> float:
    """b of `key ~ m^b` between the two largest m."""
    small, large = sorted(rows, key=lambda row: row["m"])[-2:]
    return float(np.log(large[key] / small[key]) / np.log(large["m"] / small["m"]))


# Words.


def slope_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "Slopes, and generated points that are local minima of the upper loss of this solution and of the least one:",
        "where    m  L_p  kappa  balance  loss   |slope| = kappa     flat  steepest  minima: this  least",
    ]
    for row in rows:
        minima = f"{row['at_minimum']:>14.0%}{row['at_minimum_of_least']:>7.0%}" if row["loss"] == "upper" else ""
        lines.append(
            f"{row['where']:<6}{row['m']:>4}{row['p']:>5.0f}{row['kappa']:>7.1f}{row['balance']:>9.1f}"
            f"  {row['loss']:<6}{row['share_kappa']:>16.2%}{row['share_flat']:>9.2%}{row['steepest']:>10.4f}{minima}"
        )
    return "\n".join(lines)


def growth_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["   m  way    seconds   peak MB   rounds   constraints   value            duality gap   violation"]
    lines += [
        f"{row['m']:>4}  {row['way']:<5}{row['seconds']:>9.2f}{row['peak_mb']:>10.1f}{row['rounds']:>9}"
        f"{row['constraints']:>14,}   {row['value']:.12f}{row['duality_gap']:>14.1e}{row['primal_violation']:>12.1e}"
        for row in rows
    ]
    return "\n".join(lines)


def conclusion(slopes: Sequence[dict[str, Any]], growth: Sequence[dict[str, Any]]) -> str:
    said = [*what_it_cost(growth), *what_slopes_are(slopes)]
    return "\n".join(textwrap.fill(sentence, 120) for sentence in said)


def what_it_cost(growth: Sequence[dict[str, Any]]) -> list[str]:
    full, lazy = ({row["m"]: row for row in growth if row["way"] == way} for way in ("full", "lazy"))
    common = sorted(full.keys() & lazy.keys())
    apart = max(abs(full[m]["value"] - lazy[m]["value"]) / abs(full[m]["value"]) for m in common)
    gap = max(abs(row["duality_gap"]) for row in growth)
    last, most = common[-1], max(lazy)
    every = 2 * most * (2 * most - 1)
    slower = full[last]["seconds"] / lazy[last]["seconds"]
    larger = full[last]["peak_mb"] / max(lazy[last]["peak_mb"], 1.0)
    full_time, full_memory = (exponent(list(full.values()), key) for key in ("seconds", "peak_mb"))
    lazy_time = exponent(list(lazy.values()), "seconds")
    return [
        f"Both ways find {'the same' if apart < 1e-7 else 'DIFFERENT'} optimum at every common m: the largest "
        f"relative difference is {apart:.1e}, the largest duality gap {gap:.1e}.",
        f"At m = {last} the full programme takes {slower:.0f} times the seconds and {larger:.0f} times the memory of "
        f"the lazy one. Between its two largest m its time grows like m^{full_time:.1f} and its memory like "
        f"m^{full_memory:.1f}, the lazy one's time like m^{lazy_time:.1f}; m = {most:,} takes the lazy way "
        f"{lazy[most]['seconds']:.1f} s and {lazy[most]['constraints']:,} of {every:,} constraints.",
    ]


def what_slopes_are(slopes: Sequence[dict[str, Any]]) -> list[str]:
    def shares(loss: str, share: str) -> list[float]:
        return [row[share] for row in slopes if row["loss"] == loss]

    def spread(loss: str, share: str) -> str:
        return f"{min(shares(loss, share)):.1%} to {max(shares(loss, share)):.1%}"

    upper_holds = min(shares("upper", "share_kappa")) > 0.995
    lower_fails = max(shares("lower", "share_flat")) > 0.005
    half_fails = max(shares("half", "share_flat")) > 0.005
    stuck = max(row["at_minimum_of_least"] for row in slopes)
    return [
        f"The claim of slope kappa almost everywhere {'holds' if upper_holds else 'FAILS'} for the upper loss "
        f"({spread('upper', 'share_kappa')} of the places) and {'fails' if lower_fails else 'holds'} for the lower one "
        f"({spread('lower', 'share_kappa')}), flat on {spread('lower', 'share_flat')}: where all cones are below 0, "
        f"it is 0.",
        f"Halfway between them, an optimal loss as well (Corollary 1), the gradient "
        f"{'vanishes' if half_fails else 'does not vanish'} on {spread('half', 'share_flat')}, where opposite slopes "
        f"cancel. At the least solution up to {stuck:.0%} of the generated points are local minima of the upper loss; "
        f"where kappa is large many solutions are optimal, and which one is taken matters.",
    ]


# Pictures.


def draw_cones(line: Sequence[Example]) -> Figure:
    """The cones at two balances and two kappa, and at the larger kappa what bounds all optimal losses."""
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flatten()
    points = line[0].points
    grid = np.linspace(points.min() - 0.8, points.max() + 0.8, 2001)
    to_points = point_distances(grid[:, None], points)
    for axes, (_, optimum) in zip(panels, line, strict=False):
        low, high = (bound(to_points, optimum.losses, optimum.kappa) for bound in (lower, upper))
        axes.fill_between(grid, low, high, color="0.9", label="between: every convex combination")
        axes.plot(grid, high, color="tab:orange", label="upper optimal loss")
        axes.plot(grid, low, color="tab:green", label="lower optimal loss")
        half = between(to_points, optimum.losses, optimum.kappa, 0.5)
        axes.plot(grid, half, color="black", linestyle=":", linewidth=1.2, label="half of each")
        said = f"kappa = {optimum.kappa:g}, balance = {optimum.balance:g}: S = {optimum.value:.3f}"
        axes.set_title(said, parse_math=False)
        _mark_line(axes, points, optimum.losses)
    axes, optimum = panels[-1], line[-1].optimum
    least, greatest = extremes(optimum)
    low, high = lower(to_points, least, optimum.kappa), upper(to_points, greatest, optimum.kappa)
    axes.fill_between(grid, low, high, color="0.9", label="where all optimal losses are")
    axes.plot(grid, high, color="tab:orange", linestyle="--", label="upper, greatest solution")
    axes.plot(grid, low, color="tab:green", linestyle="--", label="lower, least solution")
    axes.set_title(f"all solutions at kappa = {optimum.kappa:g}, balance = {optimum.balance:g}", parse_math=False)
    _mark_line(axes, points, least, greatest)
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7.5, loc="upper left")
    for axes in panels[2:]:
        axes.set_xlabel("x")
    for axes in panels[::2]:
        axes.set_ylabel("loss L(x)")
    return figure


def _mark_line(axes: Any, points: Array, *solutions: Array) -> None:
    m = len(points) // 2
    for number, losses in enumerate(solutions):
        for name, color, marker, part in (
            ("real", REAL, "o", slice(0, m)),
            ("generated", GENERATED, "s", slice(m, 2 * m)),
        ):
            label = None if number else f"l at {name} points"
            axes.plot(points[part, 0], losses[part], marker, color=color, markersize=5.5, zorder=3, label=label)


def draw_contours(plane: Example) -> Figure:
    """Lower and upper optimal loss over the plane, with the points."""
    points, optimum = plane
    m = len(points) // 2
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    low, high = points.min(axis=0) - 0.3, points.max(axis=0) + 0.3
    across, up = np.linspace(low[0], high[0], 160), np.linspace(low[1], high[1], 160)
    places = np.stack(np.meshgrid(across, up), axis=-1)  # (160, 160, 2)
    to_points = point_distances(places.reshape(-1, 2), points)
    surfaces = [bound(to_points, optimum.losses, optimum.kappa).reshape(160, 160) for bound in (lower, upper)]
    levels = np.arange(0, max(surface.max() for surface in surfaces) + 0.2, 0.2)
    for axes, surface, name in zip(panels, surfaces, ("lower", "upper"), strict=True):
        filled = axes.contourf(across, up, surface, levels=levels, cmap="viridis")
        axes.contour(across, up, surface, levels=levels, colors="white", linewidths=0.4, alpha=0.6)
        axes.plot(*points[:m].T, "o", color="white", markeredgecolor="black", markersize=6, label="real")
        axes.plot(*points[m:].T, "s", color=GENERATED, markeredgecolor="black", markersize=6, label="generated")
        axes.set_title(f"{name} optimal loss, kappa = {optimum.kappa:g}", parse_math=False)
        axes.set_xlabel("x, first coordinate")
        axes.set_aspect("equal")
    panels[0].set_ylabel("x, second coordinate")
    panels[0].legend(fontsize=8, loc="upper left")
    figure.colorbar(filled, ax=list(panels), label="loss L(x)", shrink=0.8)
    return figure


def draw_growth(rows: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, label in (
        (panels[0], "seconds", "time, s"),
        (panels[1], "peak_mb", "peak memory above the process's own, MB"),
    ):
        for way, color, marker, meaning in (
            ("full", GENERATED, "s", "full: all 2m (2m - 1) Lipschitz constraints"),
            ("lazy", REAL, "o", "lazy: constraints as they are violated"),
        ):
            found = [row for row in rows if row["way"] == way]
            # A logarithmic axis has no place for what rounds to nothing.
            axes.loglog(
                [row["m"] for row in found],
                [max(row[key], 1e-3) for row in found],
                marker=marker,
                color=color,
                label=meaning,
            )
        ticks = sorted({row["m"] for row in rows})
        axes.set_xticks(ticks, [f"{m:,}" for m in ticks])
        axes.minorticks_off()
        axes.set_xlabel("m, pairs of a real and a generated point")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


ITEM = Item(
    shows="Figure 1, Theorem 4: lower and upper optimal losses, their slopes, the programme's growth with m",
    small="2 min",
    paper="20 min on a CPU, 5 GB: no GPU is used; the sum of its parts, each measured by itself",
    run=run,
)
