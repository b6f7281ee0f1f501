"""Lemmas 2 and 4: how far p_G ends from p_data, trained, against 2 / balance, and without training."""

import math
import multiprocessing
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ganzoo import Zoo
from ganzoo.config import Plan, contenders
from ganzoo.paper import Item, Options, write_rows
from ganzoo.randomness import stream
from ganzoo.report.figures import save
from ganzoo.theory.consistency import Match, cells, distance, nearest, play
from ganzoo.theory.densities import Hill, Hills, estimated_difference, midpoints
from ganzoo.theory.equilibrium import bound, excess, furthest, least_bound

DENSITIES = {
    "hills": Hills((Hill((0.0,), 1.0, 0.3), Hill((-0.5,), 0.35, 0.45), Hill((0.5,), 0.3, 0.25))),
    "hills-2d": Hills(
        (Hill((0.0, 0.0), 1.0, 0.4), Hill((-0.35, -0.3), 0.6, 0.35), Hill((0.4, 0.35), 0.55, 0.25)),
    ),
}
COSTS = (
    *(f"gls-gan:cost=leaky,slope={slope}" for slope in (-1, 0, 0.01, 0.5, 1)),
    "gls-gan:cost=abs",
    "gls-gan:cost=elu",
)
LARGE = 200_000
"""Samples of p_G, and of p_data, for the histogram that checks the exact integral."""
BINS = {1: 60, 2: 20}


class Size(NamedTuple):
    balances: tuple[float | None, ...]
    seeds: int
    match: Match
    balances_2d: tuple[float | None, ...]
    costs_2d: tuple[str, ...]
    seeds_2d: int
    match_2d: Match


FLAT = Match(critic_steps=6, batch=256, generator_rate=1.0, knots=17, tilt=1.5, frequencies=2, width=48)
SIZES = {
    "small": Size(
        balances=(0.5, 1, 2, 4, 8, 16, 32, None),
        seeds=3,
        match=Match(),
        balances_2d=(2, 8, None),
        costs_2d=(COSTS[4],),
        seeds_2d=2,
        match_2d=FLAT,
    ),
    "paper": Size(
        balances=(0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, None),
        seeds=8,
        match=Match(rounds=3000, knots=65, batch=256, frequencies=8),
        balances_2d=(0.5, 1, 2, 4, 8, 16, 32, None),
        costs_2d=COSTS,
        seeds_2d=4,
        match_2d=FLAT._replace(rounds=3000, knots=33, batch=512),
    ),
}


class Task(NamedTuple):
    density: str
    label: str
    seed: int
    match: Match


def tasks(size: Size) -> list[Task]:
    """Every training; the costly ones first, so that no process ends alone."""
    flat = [*map(ls_gan, size.balances_2d), *size.costs_2d]
    line = [*map(ls_gan, size.balances), *COSTS]
    return [
        *(Task("hills-2d", label, seed, size.match_2d) for label in flat for seed in range(size.seeds_2d)),
        *(Task("hills", label, seed, size.match) for label in line for seed in range(size.seeds)),
    ]


def ls_gan(balance: float | None) -> str:
    return "ls-gan" if balance is None else f"ls-gan:balance={balance:g}"


def trained(task: Task) -> tuple[dict[str, Any], list[float]]:
    """The row of one training, and p_G on a grid for the figure."""
    zoo, p = Zoo.installed(), DENSITIES[task.density]
    (contender,) = contenders(task.label, zoo, Plan())
    balance = contender.hyperparameters.get("balance")
    played = play(contender.game(zoo), p, task.match, task.seed)
    generator, d = played.generator, p.dimension
    integral = distance(p, generator)
    row: dict[str, Any] = {
        "density": task.density,
        "objective": task.label,
        "balance": balance,
        "seed": task.seed,
        "bound": bound(balance),
        "least_bound": least_bound(balance),
        "start": played.start,
    }
    if not math.isfinite(integral):
        return {**row, "integral": None, "excess": None, "estimate": None, "holds": None, "verdict": "diverged"}, []
    with torch.no_grad():
        z = torch.rand(LARGE, generator.z_dim, generator=stream("consistency", "estimate", task.seed)) * 2 - 1
        row |= {
            "integral": integral,
            "excess": excess(p, generator.density, balance, d, cells(d)),
            "estimate": estimated_difference(generator(z).flatten(1), p, BINS[d]),
            # A bound of 0 is for the exact equilibrium: no training ends on it.
            "holds": None if balance is None else integral <= bound(balance),
            "verdict": "done",
        }
        return row, generator.density(grid(d)).tolist()


def controls(density: str, match: Match) -> dict[str, float]:
    """What the family of generators can do at best, and what the histogram says of p_data's own samples."""
    p = DENSITIES[density]
    samples = p.sample(LARGE, stream("consistency", "control", density))
    return {
        "control": distance(p, nearest(p, match, 0)),
        "estimate_control": estimated_difference(samples, p, BINS[p.dimension]),
    }


def grid(dimension: int) -> Tensor:
    return midpoints(dimension, 800 if dimension == 1 else 120)


def run(options: Options) -> str:
    size = SIZES[options.size]
    todo = tasks(size)
    pictures: dict[Task, list[float]] = {}
    rows: dict[Task, dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        options.jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        known = {
            name: pool.submit(controls, name, m) for name, m in (("hills-2d", size.match_2d), ("hills", size.match))
        }
        jobs = {pool.submit(trained, task): task for task in todo}
        for done, job in enumerate(as_completed(jobs), start=1):
            rows[jobs[job]], pictures[jobs[job]] = job.result()
            if done % 10 == 0 or done == len(jobs):
                print(f"consistency: {done} of {len(jobs)} trainings", file=sys.stderr)
        control = {name: job.result() for name, job in known.items()}
    found = [{**rows[task], **control[task.density]} for task in todo]
    exact = furthest_equilibria(tuple(b for b in size.balances if b is not None))
    write_rows(options.folder, [*found, *exact])
    save(integrals(found, exact), options.folder / "consistency.png", dpi=75)
    save(
        densities({task: picture for task, picture in pictures.items() if task.seed == 0}),
        options.folder / "densities.png",
        dpi=75,
    )
    return "\n".join([table(found), "", *said(found, exact)])


def furthest_equilibria(balances: Sequence[float], n: int = 200, times: float = 4) -> list[dict[str, Any]]:
    """For each balance an exact equilibrium far from p_data, p_G held to `times` p_data's own Lipschitz constant."""
    p = DENSITIES["hills"]
    values = p(midpoints(1, n)).numpy()
    values /= values.sum() * 2 / n
    made = []
    for balance in balances:
        q = furthest(values, balance, times * p.lipschitz)
        made.append(
            {
                "density": "hills",
                "objective": "an exact equilibrium",
                "balance": balance,
                "integral": float(np.abs(q - values).sum() * 2 / n),
                "bound": bound(balance),
                "least_bound": least_bound(balance),
                "verdict": "linear programme",
            }
        )
    return made


def groups(rows: Sequence[dict[str, Any]]) -> list[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Rows by density and objective, in their order, without those that diverged."""
    return [
        (key, [row for row in group if row["integral"] is not None])
        for key, group in groupby(rows, key=lambda row: (row["density"], row["objective"]))
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    head = ("density", "objective", "integral", "range", "control", "2/balance", "2/(1+balance)", "excess", "histogram")
    form = "{:<10}{:<30}{:>9}{:>16}{:>9}{:>11}{:>15}{:>8}{:>18}"
    lines = [form.format(*head)]
    for (density, objective), group in groups(rows):
        if not group:
            lines.append(f"{density:<10}{objective:<30} diverged")
            continue
        values = [row["integral"] for row in group]
        first = group[0]
        bounds = [f"{first[name]:.4f}" if first["balance"] is not None else "0" for name in ("bound", "least_bound")]
        lines.append(
            form.format(
                density,
                objective,
                f"{np.mean(values):.4f}",
                f"{min(values):.4f}..{max(values):.4f}",
                f"{first['control']:.4f}",
                *bounds,
                f"{np.mean([row['excess'] for row in group]):.4f}",
                f"{np.mean([row['estimate'] for row in group]):.4f} ({first['estimate_control']:.4f})",
            )
        )
    return "\n".join(lines)


def said(rows: Sequence[dict[str, Any]], exact: Sequence[dict[str, Any]]) -> list[str]:
    """What came out, from the rows."""
    lines = [
        "integral: integral |p_data - p_G| dx, from 0 to 2, exact, the mean over the seeds; control: the least that",
        "this generator reaches when it minimises the integral itself;",
        "excess: integral (p_G - (1 + 1/balance) p_data)_+ dx, 0 at an equilibrium and only there;",
        f"histogram: the integral by {LARGE:,} samples of p_G (in brackets: by as many of p_data, its noise).",
        "",
    ]
    for density in DENSITIES:
        here = [row for row in rows if row["density"] == density]
        done = [row for row in here if row["integral"] is not None]
        finite = [row for row in done if row["balance"] is not None]
        telling = [row for row in finite if row["bound"] < 2]
        holds = sum(row["holds"] for row in finite)
        fails = sorted({row["balance"] for row in finite if not row["holds"]})
        least = sum(row["integral"] <= row["least_bound"] for row in finite)
        zero = [row["integral"] for row in done if row["balance"] is None]
        starts = [row["start"] for row in done]
        control = here[0]["control"]
        said_more = f"{sum(row['holds'] for row in telling)} of {len(telling)} where it says more than the trivial 2"
        failing = f"; it fails at balance {', '.join(f'{b:g}' for b in fails)}" if fails else ""
        lines.append(
            f"{density}: from a start {min(starts):.2f} to {max(starts):.2f} away, the bound 2/balance of lemma 2 holds"
            f" for {holds} of {len(finite)} trained games ({said_more}{failing}), the sharper 2/(1 + balance) for"
            f" {least}. Where lemmas 2 and 4 say 0 the games end {min(zero):.3f} to {max(zero):.3f} away (mean"
            f" {np.mean(zero):.3f}), {np.mean(zero) - control:.3f} above the control's {control:.3f}."
        )
        if len(done) < len(here):
            lines.append(f"{density}: {len(here) - len(done)} games diverged.")
    share = [row["integral"] / row["least_bound"] for row in exact]
    lines.append(
        f"Without training: by linear programming hills has exact equilibria that lie {min(share):.2f} to"
        f" {max(share):.2f} times 2/(1 + balance) from p_data. None lies beyond 2/(1 + balance) (the proof is in"
        " ganzoo.theory.equilibrium), the least upper bound there is for lemma 2; the paper's is"
        " 2/balance. A trained game beyond it is not at an equilibrium: its excess is above 0."
    )
    return [filled for line in lines for filled in textwrap.wrap(line, 118, subsequent_indent="  ") or [""]]


def integrals(rows: Sequence[dict[str, Any]], exact: Sequence[dict[str, Any]]) -> Figure:
    """The integral against the balance with both bounds and the control; beside it the costs of lemma 4."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    balances = [row["balance"] for row in exact]
    line = np.geomspace(min(balances) / 1.5, max(balances) * 1.5)
    left.plot(line, np.minimum(2, 2 / line), color="black", label="2 / balance (lemma 2), at most 2")
    left.plot(
        line,
        2 / (1 + line),
        color="black",
        linestyle="--",
        linewidth=1,
        label="2 / (1 + balance), the least upper bound",
    )
    left.plot(
        balances, [row["integral"] for row in exact], "k_", markersize=12, label="exact equilibria (hills), far ones"
    )
    played = {row["objective"] for row in rows if row["balance"] is None}
    names = [name for name in reversed(("ls-gan", *COSTS)) if name in played]
    for number, (density, color, marker) in enumerate(zip(DENSITIES, ("tab:blue", "tab:orange"), "os", strict=True)):
        here = [row for row in rows if row["density"] == density and row["integral"] is not None]
        finite = [row for row in here if row["balance"] is not None]
        zero = [row for row in here if row["balance"] is None]
        aside = 1 + 0.08 * number
        left.plot(
            [row["balance"] * aside for row in finite],
            [row["integral"] for row in finite],
            marker,
            color=color,
            alpha=0.7,
            markersize=5,
            label=f"{density}, trained, a seed each",
        )
        right.plot(
            [row["integral"] for row in zero],
            [names.index(row["objective"]) + 0.15 * number for row in zero],
            marker,
            color=color,
            alpha=0.7,
            markersize=5,
            label=density,
        )
        for span in (left.axhspan, right.axvspan):
            span(0, here[0]["control"], color=color, alpha=0.18, label=f"{density}, control")
    left.set(xscale="log", yscale="log", xlabel="balance (lambda of eq. 4)", ylabel="integral |p_data - p_G| dx")
    left.set_xticks(balances, [f"{b:g}" for b in balances], minor=False)
    left.minorticks_off()
    left.set_title("lemma 2: LS-GAN, trained and exact", fontsize=10)
    right.set(xlabel="integral |p_data - p_G| dx", xlim=(0, None))
    right.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    right.set_title("lemma 4: 0 for every cost (ls-gan: no balance)", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        legend(axes)
    return figure


def densities(pictures: dict[Task, list[float]]) -> Figure:
    """p_data and the p_G that seed 0 ended with: curves in one dimension, maps in two."""
    found = {(task.density, task.label): values for task, values in pictures.items() if values}
    flat = [label for density, label in found if density == "hills-2d"][:4]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=(1.1, 1)))
    left, right = upper.subplots(1, 2, sharey=True)
    x = grid(1)
    for axes, chosen in (
        (left, [label for density, label in found if density == "hills" and "balance" in label][::2]),
        (right, ["ls-gan", COSTS[0], COSTS[4], COSTS[6]]),
    ):
        axes.fill_between(x[:, 0], DENSITIES["hills"](x), color="black", alpha=0.15, label="p_data")
        for label in chosen:
            if ("hills", label) in found:
                axes.plot(x[:, 0], found["hills", label], linewidth=1.2, label=label)
        axes.set_xlabel("x")
        axes.grid(alpha=0.3)
        legend(axes)
    left.set_ylabel("density")
    left.set_title("hills: LS-GAN, seed 0", fontsize=10)
    right.set_title("hills: no balance, and costs of lemma 4, seed 0", fontsize=10)
    lower.suptitle("hills-2d, seed 0", fontsize=10)
    side = math.isqrt(len(grid(2)))
    maps = {"p_data": DENSITIES["hills-2d"](grid(2)).numpy(), **{k: np.array(found["hills-2d", k]) for k in flat}}
    top = max(values.max() for values in list(maps.values())[:1]) * 1.2
    for axes, (label, values) in zip(np.atleast_1d(lower.subplots(1, len(maps))), maps.items(), strict=True):
        image = axes.imshow(values.reshape(side, side).T, origin="lower", extent=(-1, 1, -1, 1), vmin=0, vmax=top)
        axes.set_title(label, fontsize=8, parse_math=False)
        axes.set(xlabel="x_1", ylabel="x_2" if label == "p_data" else "")
    lower.colorbar(image, ax=list(lower.axes), label="density", shrink=0.8)
    return figure


def legend(axes: Axes) -> None:
    for text in axes.legend(fontsize=7).get_texts():
        text.set_parse_math(False)


ITEM = Item(
    shows="lemmas 2 and 4: integral |p_data - p_G| against 2 / balance, trained on known densities and exact",
    small="3 min",
    paper="4 core-hours, reckoned from the small size; it uses no GPU",
    run=run,
)
