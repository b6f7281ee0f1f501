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
    said = []
    for label in OBJECTIVES:
        covered = {norm: means(found.rows, "collapse.coverage").get(label, 0.0) for norm, found in runs.items()}
        share = covered["none"] / covered["batch"] if covered["batch"] else float("nan")
        word = "collapses" if share < COLLAPSED else "does not collapse"
        said.append(
            f"{label} {word} without BatchNorm: coverage {covered['none']:.3f} against {covered['batch']:.3f} with it."
        )
    return "\n".join([
        "With BatchNorm in the generator:",
        table_of(runs["batch"].rows, COLUMNS),
        "",
        "Without:",
        table_of(runs["none"].rows, COLUMNS),
        "",
        *said,
        "The paper: DCGAN collapses, LS-GAN does not; samples: no-norm/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="the same without BatchNorm in the generator: does DCGAN collapse, LS-GAN not?",
    small="4 min on digits",
    paper="not yet run: CelebA at 64x64, 25 epochs",
    run=figure_4,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
