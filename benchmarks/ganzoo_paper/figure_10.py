"""Figure 10 (and 11): test images reconstructed by each objective, with its test MRE."""

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import compared, means, size_of

OBJECTIVES = ["ls-gan", "gls-gan:slope=0.01", "wgan-gp", "wgan", "dcgan"]
PAPER = {"ls-gan": 0.1166, "gls-gan:slope=0.01": 0.1089, "wgan-gp": 0.1149, "wgan": 0.1109, "dcgan": 0.1506}
"""Test MRE on CIFAR-10 (Qi 2017, figure 10)."""


def figure_10(options: Options) -> str:
    found = compared(options, "reconstructions", **size_of(options), objectives=OBJECTIVES, seeds=1)
    write_rows(options.folder, found.rows)
    ours = means(found.rows, "test_mre")
    order = sorted(ours, key=lambda label: ours[label])
    return "\n".join([
        f"{'':<20} {'test MRE here':>14} {'paper, CIFAR-10':>16}",
        *(f"{label:<20} {ours[label]:>14.4f} {PAPER[label]:>16.4f}" for label in order),
        "",
        f"Order here: {' < '.join(order) or 'not known, none finished'}.",
        f"Order in the paper: {' < '.join(sorted(PAPER, key=lambda label: PAPER[label]))}.",
        "Reconstructions: reconstructions/reconstructions.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="test images reconstructed by each objective, with its MRE",
    small="2 min on digits",
    paper="not yet run: CIFAR-10, 100 epochs",
    run=figure_10,
    data=("digits", "mnist", "cifar10", "folder"),
    paper_data="cifar10",
)
