"""Figure 8: CLS-GAN with its balance halved, and halved again: do the images of a class collapse?"""

from itertools import pairwise

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import difference, means, table_of
from ganzoo_paper.figure_7 import BALANCE, COLUMNS, label_of, with_balances

HALVINGS = 5


def figure_8(options: Options) -> str:
    balances = [BALANCE / 2**i for i in range(HALVINGS)]
    found = with_balances(options, balances, "balances")
    write_rows(options.folder, found.rows)
    spread = means(found.rows, "collapse.class_spread")
    known = [spread[label_of(b)] for b in balances if label_of(b) in spread]
    falls = sum(after < before for before, after in pairwise(known))
    halved = difference(found.rows, "collapse.class_spread", label_of(balances[1]), label_of(balances[0]))
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        f"Halving the balance once changes the spread within classes by {halved}.",
        f"It falls at {falls} of {len(known) - 1} halvings, from {known[0]:.3f} to {known[-1]:.3f}.",
        "The paper: with the balance halved the images of a class become one; samples: balances/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="the same with the balance halved again and again: collapse within classes",
    small="4 min on digits",
    paper="not yet run: MNIST, CIFAR-10, SVHN at full width",
    run=figure_8,
    data=("digits", "mnist", "cifar10", "svhn"),
    paper_data="cifar10",
)
