"""Figure 4: DCGAN against LS-GAN, without BatchNorm in the generator: who collapses?"""

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import means, table_of
from ganzoo_paper.figure_3 import COLUMNS, OBJECTIVES, with_norm

COLLAPSED = 0.5
"""A generator whose coverage is below this share of what it has with BatchNorm has lost half of the data."""


def figure_4(options: Options) -> str:
    runs = {norm: with_norm(options, norm, name) for norm, name in (("batch", "batchnorm"), ("none", "no-norm"))}
    rows = [{**row, "generator_norm": norm} for norm, found in runs.items() for row in found.rows]
    write_rows(options.folder, rows)
    covered = {norm: means(found.rows, "collapse.coverage") for norm, found in runs.items()}
    return "\n".join([
        "With BatchNorm in the generator:",
        table_of(runs["batch"].rows, COLUMNS),
        "",
        "Without:",
        table_of(runs["none"].rows, COLUMNS),
        "",
        *(verdict(label, covered["batch"].get(label), covered["none"].get(label)) for label in OBJECTIVES),
        "The paper: DCGAN collapses, LS-GAN does not; samples: no-norm/samples.png.",
    ])  # fmt: skip


def verdict(label: str, with_norm: float | None, without: float | None) -> str:
    """Whether a contender collapses, by its coverages; None: no seed has one."""
    if with_norm is None or without is None:
        return f"{label}: not known whether it collapses without BatchNorm; there are no two coverages to compare."
    if not with_norm:
        return f"{label}: not known whether it collapses without BatchNorm; it covers nothing with it either."
    word = "collapses" if without < COLLAPSED * with_norm else "does not collapse"
    return f"{label} {word} without BatchNorm: coverage {without:.3f} against {with_norm:.3f} with it."


ITEM = Item(
    shows="the same without BatchNorm in the generator: does DCGAN collapse, LS-GAN not?",
    small="4 min on digits",
    paper="not yet run: CelebA at 64x64, 25 epochs",
    run=figure_4,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
