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
    halved = difference(found.rows, "collapse.class_spread", label_of(balances[1]), label_of(balances[0]))
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        f"Halving the balance once changes the spread within classes by {halved}.",
        falls([spread.get(label_of(b)) for b in balances]),
        "The paper: with the balance halved the images of a class become one; samples: balances/samples.png.",
    ])  # fmt: skip


def falls(spreads: list[float | None]) -> str:
    """How often a spread falls from one balance to its half; None: no seed of a balance finished."""
    steps = [(before, after) for before, after in pairwise(spreads) if before is not None and after is not None]
    known = [spread for spread in spreads if spread is not None]
    if not steps:
        return "Not known whether it falls: no two neighbouring balances finished."
    fallen = sum(after < before for before, after in steps)
    return f"It falls at {fallen} of {len(steps)} halvings, from {known[0]:.3f} to {known[-1]:.3f}."


ITEM = Item(
    shows="the same with the balance halved again and again: collapse within classes",
    small="4 min on digits",
    paper="not yet run: MNIST, CIFAR-10, SVHN at full width",
    run=figure_8,
    data=("digits", "mnist", "cifar10", "svhn"),
    paper_data="cifar10",
)
