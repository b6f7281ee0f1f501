"""Figure 5: does the generator's gradient vanish when the critic is trained more often than the generator?"""

import math
from typing import Any

from matplotlib.figure import Figure

from ganzoo.paper import Item, Options, write_rows
from ganzoo.report.figures import save
from ganzoo_paper.comparison import Compared, compared, size_of

EVERY = (1, 3, 5)
OBJECTIVES = ("ls-gan", "dcgan")
VANISHED = 0.1
"""A gradient whose norm at the end is below this share of its median has vanished."""


def label_of(objective: str, steps: int) -> str:
    return f"{objective}:critic_steps={steps}"


def trained(options: Options, objectives: tuple[str, ...], name: str) -> Compared:
    """Each objective with its generator updated every 1, 3 and 5 critic steps; as many critic steps for all."""
    changes: dict[str, Any] = {**size_of(options), "validate_every": 1}
    asked = [label_of(objective, steps) for objective in objectives for steps in EVERY]
    return compared(options, name, **changes, objectives=asked, seeds=1)


def figure_5(options: Options) -> str:
    found = trained(options, OBJECTIVES, "frequencies")
    write_rows(options.folder, found.rows)
    curves = {row["label"]: norms(row) for row in found.rows if row["verdict"] == "done" and norms(row)}
    save(drawn(curves), options.folder / "gradient-norm.png")
    lines = [f"{'':<24} {'first':>10} {'median':>10} {'last':>10}   ||grad_phi T||_2, means of an epoch"]
    said = []
    for label, curve in curves.items():
        values = [norm for _, norm in curve]
        median = sorted(values)[len(values) // 2]
        lines.append(f"{label:<24} {values[0]:>10.4g} {median:>10.4g} {values[-1]:>10.4g}")
        share = values[-1] / median if median else 0.0  # 0 at half of the points
        word = "vanishes" if share < VANISHED else "does not vanish"
        said.append(f"{label}: the gradient {word} (last / median = {share:.2f}).")
    for objective in OBJECTIVES:
        last = [curves[label][-1][1] for steps in EVERY if (label := label_of(objective, steps)) in curves]
        if len(last) > 1:
            factor = max(last) / min(last) if min(last) else math.inf
            said.append(f"{objective}: the last norms of the frequencies differ by a factor of {factor:.2f}.")
    return "\n".join([
        *lines,
        "",
        *said,
        "The paper (LS-GAN only): the norm rises and stays at one level whatever the frequency.",
    ])  # fmt: skip


def norms(row: dict[str, Any]) -> list[tuple[int, float]]:
    """(critic steps, mean norm of the generator's gradient since the last point) along the curve."""
    steps = row["recipe"]["critic_steps"]
    points = [(point["round"] * steps, point["gradient_norm"]) for point in row["curve"]]
    return [(step, norm) for step, norm in points if norm is not None]


def drawn(curves: dict[str, list[tuple[int, float]]]) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    for place, objective in enumerate(OBJECTIVES, start=1):
        axes = figure.add_subplot(1, 2, place)
        for steps in EVERY:
            curve = curves.get(label_of(objective, steps), [])
            label = f"generator updated every {steps}"
            axes.plot([step for step, _ in curve], [math.log10(max(norm, 1e-30)) for _, norm in curve], label=label)
        axes.set_title(objective, parse_math=False)
        axes.set_xlabel("critic steps")
        axes.set_ylabel("log10 of the generator's gradient norm")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


ITEM = Item(
    shows="norm of the generator's gradient, updated every 1, 3, 5 critic steps, LS-GAN and DCGAN",
    small="2 min on digits",
    paper="not yet run: CelebA at 64x64, 25 epochs",
    run=figure_5,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
