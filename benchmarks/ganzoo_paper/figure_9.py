"""Figure 9: test MRE of five objectives, each at the hyperparameters that are best for it on the validation images.

Every objective may try the same number of settings: its own hyperparameters and both rates, drawn without
looking at any result, the defaults first. The setting and the number of epochs with the least validation MRE are taken;
other seeds then train it, and the test MRE is reported   (Qi 2017, sec. 9.5).
"""

import itertools
from typing import Any, NamedTuple

import torch

from ganzoo.errors import UserError
from ganzoo.paper import Item, Options, write_rows
from ganzoo.randomness import stream
from ganzoo_paper.comparison import Compared, compared, difference, means, size_of

SCALES = (2.4576, 0.5, 10.0)
WEIGHTS = (0.1, 0.0, 0.01, 1.0, 10.0)
SPACE: dict[str, dict[str, tuple[float, ...]]] = {
    "ls-gan": {"penalty_weight": WEIGHTS, "scale": SCALES},
    "gls-gan": {"slope": (0.01, -1.0, 0.0, 0.2, 0.5, 0.9, 1.0), "penalty_weight": WEIGHTS, "scale": SCALES},
    "wgan-gp": {"penalty_weight": (10.0, 0.1, 1.0, 100.0)},
    "wgan": {"clip": (0.01, 0.003, 0.03, 0.1)},
    "dcgan": {"beta1": (0.5, 0.0, 0.9)},
}
"""What is an objective's own, its default first; DCGAN has nothing but Adam's beta1, so that it may try as many."""
FACTORS = (1.0, 0.5, 2.0)
"""Of the plan's rate, for each player by itself."""
SEARCH_SEED = 1000
"""Far from the seeds that are reported."""
PAPER = {
    "cifar10": {"ls-gan": 0.1166, "gls-gan": 0.1089, "wgan-gp": 0.1149, "wgan": 0.1109, "dcgan": 0.1506},
    "folder": {"gls-gan": 0.2085},
}
"""Test MRE on CIFAR-10 and on tiny ImageNet (Qi 2017, figure 9 and 11)."""


class Budget(NamedTuple):
    """One size of the search."""

    settings: int
    """Tried by each objective, one training each."""
    search: dict[str, Any]
    """The plan's keys while searching ..."""
    final: dict[str, Any]
    """... and for the seeds that are reported."""


FEW = {"data.size": 16, "validation_images": 100, "test_images": 300}
CIFAR = {**FEW, "data.split": [12_800, 2_000, 2_000], "data.shuffle": False}
FOLDER = {**FEW, "data.split": [10_000, 1_000, 1_000], "data.shuffle": True}
SMALL = {
    "digits": Budget(8, {"epochs": 20}, {"seeds": 3}),
    "cifar10": Budget(6, {**CIFAR, "epochs": 2}, {**CIFAR, "epochs": 8, "seeds": 2}),
    "folder": Budget(3, {**FOLDER, "epochs": 2}, {**FOLDER, "epochs": 5, "seeds": 1}),
}
LARGE = {"validation_images": 1000, "validate_every": 5}
AT_PAPER = {
    "cifar10": Budget(24, {**LARGE, "epochs": 25}, {**LARGE, "epochs": 100, "seeds": 3, "test_images": 7_500}),
    "folder": Budget(
        24,
        {**LARGE, "epochs": 25, "data.split": [10 / 12, 1 / 12, 1 / 12], "data.size": 64},
        {**LARGE, "epochs": 100, "data.split": [10 / 12, 1 / 12, 1 / 12], "data.size": 64, "seeds": 3},
    ),
}


def candidates(objective: str, count: int, rate: float) -> list[str]:
    """`count` settings as contenders: the defaults, then others drawn without repetition. All of them if fewer."""
    own = SPACE[objective]
    grid = list(itertools.product(*own.values(), FACTORS, FACTORS))
    order = torch.randperm(len(grid) - 1, generator=stream("search", objective)).tolist()
    chosen = [grid[0], *(grid[1 + i] for i in order)][:count]
    keys = (*own, "critic_rate", "generator_rate")
    return [
        f"{objective}:" + ",".join(f"{key}={value:g}" for key, value in zip(keys, _rated(values, rate), strict=True))
        for values in chosen
    ]


def _rated(values: tuple[float, ...], rate: float) -> tuple[float, ...]:
    *own, critic, generator = values
    return (*own, critic * rate, generator * rate)


def figure_9(options: Options) -> str:
    budgets = AT_PAPER if options.size == "paper" else SMALL
    if options.data not in budgets:
        raise UserError(f"figure-9 at size {options.size} runs on {' and '.join(budgets)}, not on {options.data}")
    budget = budgets[options.data]
    base = size_of(options)
    rate = {"digits": 0.004}.get(options.data, 0.002) if options.size == "small" else 1e-3
    asked = {objective: candidates(objective, budget.settings, rate) for objective in SPACE}
    # Rows always hold a test MRE; nothing is chosen by it, so it need not be a good one.
    hardly = {"test_images": 8, "control_images": 4}
    plan = {**base, **budget.search, **hardly, "seeds": 1, "first_seed": SEARCH_SEED}
    searched = compared(options, "search", **plan, objectives=[label for labels in asked.values() for label in labels])
    chosen = best(searched, asked)
    final = compared(options, "comparison", **{**base, **budget.final}, objectives=list(chosen.values()))
    write_rows(options.folder, [*searched.rows, *final.rows])
    tried = {objective: f"{len(labels)} settings" for objective, labels in asked.items()}
    return "\n".join([
        "Tried with one seed each, the best on validation taken: "
        + ", ".join(f"{objective} {count}" for objective, count in tried.items()) + ".",
        "",
        final.table,
        *(f"No setting of {objective} finished." for objective in asked if objective not in chosen),
        *verdicts(options, chosen, final),
    ])  # fmt: skip


def best(searched: Compared, asked: dict[str, list[str]]) -> dict[str, str]:
    """objective -> its setting of the least validation MRE, of those that finished; UserError where none did."""
    found = means(searched.rows, "validation_mre")
    finished = {objective: [label for label in labels if label in found] for objective, labels in asked.items()}
    if not any(finished.values()):  # a comparison of no objectives would be one of all that are installed
        raise UserError(f"figure-9: no setting of any objective finished; see {searched.folder / 'table.txt'}")
    return {objective: min(labels, key=lambda label: found[label]) for objective, labels in finished.items() if labels}


def verdicts(options: Options, chosen: dict[str, str], final: Compared) -> list[str]:
    """What came out against the paper's claims, from the rows."""
    test = means(final.rows, "test_mre")
    said = []
    if "dcgan" in chosen:
        for objective, label in chosen.items():
            if objective != "dcgan":
                d = difference(final.rows, "test_mre", label, chosen["dcgan"])
                said.append(f"{objective} minus dcgan: {d}")
    said.append("The paper: every regularised model beats DCGAN clearly.")
    steps = {label: roughness(final.rows, label) for label in test}
    said += [
        f"{objective}: rises add up to {steps[label]:.3f} of the fall of its validation curve."
        for objective, label in chosen.items()
        if label in steps
    ]
    said.append("The paper: DCGAN's curve fluctuates, the others fall steadily.")
    if options.data in PAPER:
        printed = ", ".join(f"{objective} {value}" for objective, value in PAPER[options.data].items())
        said.append(f"Test MRE in the paper: {printed}.")
    return said


def roughness(rows: list[dict[str, Any]], label: str) -> float:
    """The sum of a validation curve's rises over its fall from first to least, the mean over the seeds; 0 is steady."""
    shares = []
    for row in rows:
        if row["label"] == label and row["verdict"] == "done":
            values = [point["validation_mre"] for point in row["curve"]]
            rises = sum(max(0.0, after - before) for before, after in itertools.pairwise(values))
            shares.append(rises / (values[0] - min(values)) if values[0] > min(values) else float("inf"))
    return sum(shares) / len(shares)


ITEM = Item(
    shows="test MRE over epochs, five objectives, each at the best of equally many settings on validation",
    small="6 min on digits",
    paper="not yet run: CIFAR-10, tiny ImageNet (folder), 100 epochs, 24 settings each",
    run=figure_9,
    data=tuple(SMALL),
    paper_data="cifar10",
)
