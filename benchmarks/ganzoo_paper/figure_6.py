"""Figure 6: LS-GAN samples when the generator is updated every 3 and 5 critic steps."""

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import means, table_of
from ganzoo_paper.figure_3 import COLUMNS
from ganzoo_paper.figure_5 import EVERY, label_of, trained


def figure_6(options: Options) -> str:
    found = trained(options, ("ls-gan",), "frequencies")
    write_rows(options.folder, found.rows)
    covered = means(found.rows, "collapse.coverage")
    first = covered.get(label_of("ls-gan", 1))
    said = [
        f"every {steps}: coverage {covered[label]:.3f}, {covered[label] / first:.2f} of that with every step."
        for steps in EVERY[1:]
        if (label := label_of("ls-gan", steps)) in covered and first
    ]
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        *said,
        "One seed; a generator updated every 3 critic steps makes a third of the updates in the same number of critic"
        " steps. The paper sees no difference in quality; samples: frequencies/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="LS-GAN samples, the generator updated every 1, 3, 5 critic steps, with a collapse measure",
    small="1 min on digits",
    paper="not yet run: CelebA at 64x64, 25 epochs",
    run=figure_6,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
