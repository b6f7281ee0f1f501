"""Theorems 2 and 3: how fast S_m and T_k come to S and T, with the gradient penalty (I) and without it."""

import multiprocessing
import sys
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ganzoo import Zoo
from ganzoo.game import Objective
from ganzoo.paper import Item, Options, write_rows
from ganzoo.randomness import derive
from ganzoo.report.figures import save
from ganzoo.theory.consistency import Match, as_played, untrained
from ganzoo.theory.densities import Hill, Hills
from ganzoo.theory.generalization import (
    Draw,
    Fit,
    Gap,
    Line,
    expectation,
    gap,
    mean,
    points,
    power,
    steepest,
    train_critic,
    train_generator,
)

DENSITY = Hills((Hill((0.0, 0.0), 1.0, 0.3), Hill((-0.5, -0.4), 0.4, 0.4), Hill((0.45, 0.5), 0.4, 0.3)))
Z_DIM = 8
"""Of the generator that theorem 3 is measured on."""
LOOKED_AT = 4_096
"""Points of each kind at which the critic's gradient is sampled."""
SYMBOLS = {"S": "|S_m - S|", "T": "|T_k - T|"}


class Size(NamedTuple):
    sizes: tuple[int, ...]
    draws: int
    penalty_weights: tuple[float, ...]
    fit: Fit
    fresh: int
    """Pairs (noise vectors) from which S (T) is estimated."""
    untrained_draws: int = 60


SIZES = {
    "small": Size((10, 30, 100, 300, 1_000, 3_000, 10_000), 6, (0.0, 0.1, 1.0), Fit(), 100_000),
    "paper": Size(
        (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000),
        20,
        (0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        Fit(steps=2_000),
        1_000_000,
    ),
}


class Task(NamedTuple):
    """All draws of one player at one size of its sample."""

    player: str
    """S: a critic against a fixed generator. T: a generator against a fixed critic that 10,000 pairs trained."""
    trained: bool
    """The control is one player for all draws that saw none of their samples: what is left is the noise of a mean."""
    penalty_weight: float
    """The critic's, the opponent's where the player is T."""
    n: int
    size: str


def tasks(name: str) -> list[Task]:
    size = SIZES[name]
    kinds = [
        *(("S", True, weight) for weight in size.penalty_weights),
        ("S", False, 0.0),
        *(("T", trained, weight) for trained in (True, False) for weight in size.penalty_weights),
    ]
    return [Task(*kind, n, name) for kind in kinds for n in size.sizes]


def game(penalty_weight: float) -> Objective:
    """LS-GAN as it is trained; with weight 0 also what S and T are: the penalty is no part of them."""
    zoo = Zoo.installed()
    margin = zoo.margin("lp")
    return zoo.objective("ls-gan", zoo.cost("relu"), margin, penalty_weight=penalty_weight)


def pairs(n: int, *names: str | int) -> tuple[Tensor, Tensor]:
    """n pairs of a real point and one of the fixed generator that the critic is trained against: (n, 2, 1, 1) each."""
    fixed = untrained(DENSITY, Match(tilt=1.0), seed=0)
    with torch.no_grad():
        made = fixed(points(_uniform(fixed.z_dim), n, *names, "z").flatten(1))
    return points(DENSITY.sample, n, *names, "x"), made


def measured(task: Task) -> list[dict[str, Any]]:
    """A row for each draw: the player's empirical and its expected objective."""
    measure = critic_draw if task.player == "S" else generator_draw
    return [
        {
            "player": task.player,
            "trained": task.trained,
            "penalty_weight": task.penalty_weight,
            "n": task.n,
            "draw": draw,
            **found._asdict(),
            "gap": found.size,
            "steepest": reached,
        }
        for draw, (found, reached) in enumerate(measure(task))
    ]


def critic_draw(task: Task) -> Iterator[tuple[Gap, float]]:
    size, plain = SIZES[task.size], game(0)
    fresh = pairs(size.fresh, "fresh")
    seen = torch.cat([part[:LOOKED_AT] for part in fresh])
    if not task.trained:
        loss = as_played(train_critic(plain, *fresh, size.fit._replace(steps=0), 0), plain)
        expected, reached = expectation(plain.critic_loss, loss, fresh), steepest(loss, seen)
        for draw in range(size.untrained_draws):
            sample = pairs(task.n, "sample", task.n, draw)
            yield Gap(mean(plain.critic_loss, loss, sample), *expected), reached
        return
    for draw in range(size.draws):
        sample = pairs(task.n, "sample", task.n, draw)
        critic = train_critic(game(task.penalty_weight), *sample, size.fit, derive("critic", task.n, draw))
        loss = as_played(critic, plain)
        yield gap(plain.critic_loss, loss, sample, fresh), steepest(loss, seen)


def generator_draw(task: Task) -> Iterator[tuple[Gap, float]]:
    size, plain = SIZES[task.size], game(0)
    real = points(DENSITY.sample, size.fresh, "fresh", "x")
    critic = train_critic(game(task.penalty_weight), *pairs(10_000, "opponent"), size.fit, 0)
    loss = as_played(critic, plain)
    unseen = noise(size.fresh, "fresh")
    if not task.trained:
        generator = train_generator(plain, loss, real, unseen, size.fit._replace(steps=0), 0)
        with torch.no_grad():
            others = generator(unseen)
            expected = expectation(plain.generator_loss, loss, (real, others))
        reached = steepest(loss, torch.cat([real[:LOOKED_AT], others[:LOOKED_AT]]))
        for draw in range(size.untrained_draws):
            with torch.no_grad():
                made = generator(noise(task.n, task.n, draw))
            yield Gap(mean(plain.generator_loss, loss, (real[: task.n], made)), *expected), reached
        return
    for draw in range(size.draws):
        z = noise(task.n, task.n, draw)
        generator = train_generator(plain, loss, real[: task.n], z, size.fit, derive("generator", task.n, draw))
        with torch.no_grad():
            made, others = generator(z), generator(unseen)
        found = gap(plain.generator_loss, loss, (real[: task.n], made), (real, others))
        yield found, steepest(loss, torch.cat([real[:LOOKED_AT], others[:LOOKED_AT]]))


def noise(n: int, *names: str | int) -> Tensor:
    """z ~ Unif[-1, 1]^Z_DIM: (n, Z_DIM)."""
    return points(_uniform(Z_DIM), n, "noise", *names).flatten(1)


def _uniform(z_dim: int) -> Draw:
    return lambda n, random: torch.rand(n, z_dim, generator=random) * 2 - 1


def run(options: Options) -> str:
    todo = tasks(options.size)
    rows: dict[Task, list[dict[str, Any]]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        options.jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        jobs = {pool.submit(measured, task): task for task in todo}
        for done, job in enumerate(as_completed(jobs), start=1):
            rows[jobs[job]] = job.result()
            if done % 10 == 0 or done == len(jobs):
                print(f"generalization: {done} of {len(jobs)} sizes", file=sys.stderr)
    found = [row for task in todo for row in rows[task]]
    write_rows(options.folder, found)
    curves = fitted(found)
    save(draw(found, curves), options.folder / "generalization.png", dpi=90)
    return "\n".join([table(curves), "", *said(found, curves)])


class Curve(NamedTuple):
    """One player, trained or not, at one penalty weight, over the sizes of its sample."""

    player: str
    trained: bool
    penalty_weight: float
    sizes: list[int]
    gaps: list[list[float]]
    """Of each size, a draw each."""
    steepest: list[float]
    """The mean over the draws of the largest sampled gradient norm of L."""
    line: Line

    @property
    def means(self) -> list[float]:
        return [float(np.mean(values)) for values in self.gaps]

    @property
    def label(self) -> str:
        weight = f"penalty_weight {self.penalty_weight:g}"
        if self.trained:
            return weight
        return "untrained critic" if self.player == "S" else f"untrained G, {weight}"


def fitted(rows: Sequence[dict[str, Any]]) -> list[Curve]:
    made = []
    for key in dict.fromkeys((row["player"], row["trained"], row["penalty_weight"]) for row in rows):
        here = [row for row in rows if (row["player"], row["trained"], row["penalty_weight"]) == key]
        sizes = list(dict.fromkeys(row["n"] for row in here))
        at = [[row for row in here if row["n"] == n] for n in sizes]
        gaps = [[row["gap"] for row in group] for group in at]
        steep = [float(np.mean([row["steepest"] for row in group])) for group in at]
        made.append(Curve(*key, sizes, gaps, steep, power(sizes, [float(np.mean(values)) for values in gaps])))
    return made


def table(curves: Sequence[Curve]) -> str:
    sizes = curves[0].sizes
    lines = [f"{'mean gap over the draws':<36}" + "".join(f"{n:>10,}" for n in sizes) + f"{'slope':>8}  95 % interval"]
    for curve in curves:
        low, high = curve.line.interval
        lines.append(
            f"{SYMBOLS[curve.player] + ', ' + curve.label:<36}"
            + "".join(f"{mean:>10.2g}" for mean in curve.means)
            + f"{curve.line.slope:>8.2f}  {low:.2f} to {high:.2f}"
        )
        if curve.trained:
            lines.append(f"{'    largest gradient norm of L':<36}" + "".join(f"{v:>10.2f}" for v in curve.steepest))
    return "\n".join(lines)


def said(rows: Sequence[dict[str, Any]], curves: Sequence[Curve]) -> list[str]:
    """What came out, from the rows."""
    errors = {player: max(row["standard_error"] for row in rows if row["player"] == player) for player in SYMBOLS}
    lines = [
        f"Standard errors of the expectations: at most {errors['S']:.1g} (S) and {errors['T']:.1g} (T).",
        f"The largest gradient norm of L is over {LOOKED_AT:,} fresh points of each kind, a mean over the draws.",
    ]
    verdicts: dict[str, list[str]] = {
        "holds -1/2, the theorems' slope": [],
        "lies below -1/2 (a faster fall, which an upper bound allows)": [],
        "lies above -1/2 (a slower fall, against the theorems)": [],
    }
    holds, below, above = verdicts.values()
    for curve in curves:
        low, high = curve.line.interval
        verdict = below if high < -0.5 else above if low > -0.5 else holds
        verdict.append(f"{SYMBOLS[curve.player]} of {curve.label} ({curve.line.slope:.2f})")
    for words, named in verdicts.items():
        many = f"{len(named)} of {len(curves)} curves"
        lines.append(f"The slope's interval {words}, for {many}{': ' if named else ''}{', '.join(named)}.")
    for player, trained in (("S", True), ("T", True), ("T", False)):
        here = [curve for curve in curves if (curve.player, curve.trained) == (player, trained)]
        free, most = here[0], here[-1]
        ratio = [a / b for a, b in zip(free.means, most.means, strict=True)]
        shift = 1 if player == "S" else 0
        theory = [(a + shift) / (b + shift) for a, b in zip(free.steepest, most.steepest, strict=True)]
        typical, foretold = (float(np.exp(np.mean(np.log(values)))) for values in (ratio, theory))
        who = SYMBOLS[player] + (", trained" if trained else ", untrained G")
        lines.append(
            f"{who}: penalty_weight {most.penalty_weight:g} against {free.penalty_weight:g} makes the gap smaller at"
            f" {sum(r > 1 for r in ratio)} of {len(ratio)} sizes, by a factor of {typical:.1f}"
            f" (geometric mean, {min(ratio):.1f} to {max(ratio):.1f}); the theorem's eps follows"
            f" {'kappa + 1' if shift else 'kappa'}, which by gradient norms falls by {foretold:.1f}."
        )
    least = curves[0].sizes[0]
    few = [row for row in rows if row["player"] == "S" and row["trained"] and row["n"] == least]
    empirical, expected = (float(np.mean([row[name] for row in few])) for name in ("empirical", "expected"))
    spreads = [
        np.mean([row["standard_error"] for row in rows if row["player"] == "T" and row["trained"] == trained])
        for trained in (True, False)
    ]
    lines.append(
        f"T's standard error is {spreads[1] / spreads[0]:,.0f} times smaller for trained generators than for untrained"
        " ones: so much less does L(G(z)) vary with z once G has minimised it."
    )
    lines.append(f"On {least} pairs the trained critics reach S_m = {empirical:.2g} where S = {expected:.2g}.")
    return [filled for line in lines for filled in textwrap.wrap(line, 118, subsequent_indent="  ")]


def draw(rows: Sequence[dict[str, Any]], curves: Sequence[Curve]) -> Figure:
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, player in zip(figure.subplots(1, 2), SYMBOLS, strict=True):
        here = [curve for curve in curves if curve.player == player]
        weights = sorted({curve.penalty_weight for curve in here})
        for curve in here:
            color = f"C{weights.index(curve.penalty_weight)}" if curve.trained or player == "T" else "gray"
            if curve.trained:
                n = [n for n, values in zip(curve.sizes, curve.gaps, strict=True) for _ in values]
                axes.plot(n, np.concatenate(curve.gaps), ".", color=color, alpha=0.3, markersize=4)
            text = f"{curve.label}: slope {curve.line.slope:.2f}"
            axes.plot(curve.sizes, curve.means, "o-" if curve.trained else "s:", color=color, markersize=4, label=text)
        sizes = np.array(here[0].sizes, dtype=float)
        top = max(max(curve.means) for curve in here) * 1.7
        axes.plot(sizes, top * (sizes / sizes[0]) ** -0.5, "k--", linewidth=1, label="slope -1/2 (the theorem)")
        lowest = min(min(min(values) for values in curve.gaps) for curve in here if curve.trained)
        axes.set(xscale="log", yscale="log", ylim=(lowest / (60 if player == "T" else 2), None))
        axes.set_xlabel("samples trained on: m pairs" if player == "S" else "samples trained on: k noise vectors")
        axes.set_ylabel(f"{SYMBOLS[player]}, in units of the margin")
        title = "theorem 2: the critic" if player == "S" else "theorem 3: the generator, against a fixed critic"
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


ITEM = Item(
    shows="theorems 2 and 3: |S_m - S| and |T_k - T| over m and k, with and without the gradient penalty",
    small="2 min",
    paper="4 core-hours, reckoned from the small size; it uses no GPU",
    run=run,
)
