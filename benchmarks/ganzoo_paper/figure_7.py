"""Figure 7: CLS-GAN samples, a column a class."""

from typing import Any

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import Compared, compared, size_of, table_of

BALANCE = 10.0
COLUMNS = {
    "collapse.class_spread": "spread within classes",
    "collapse.least_spread": "least of a class",
    "collapse.class_coverage": "coverage within classes",
    "test_mre": "test MRE, own label",
}


def label_of(balance: float) -> str:
    return f"cls-gan:balance={balance:g}"


def with_balances(options: Options, balances: list[float], name: str) -> Compared:
    changes: dict[str, Any] = size_of(options)
    seeds = 1 if options.size == "paper" else 3
    return compared(options, name, **changes, objectives=[label_of(b) for b in balances], seeds=seeds)


def figure_7(options: Options) -> str:
    found = with_balances(options, [BALANCE], "classes")
    write_rows(options.folder, found.rows)
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        "spread within classes: mean distance between generated images of a class over that between test images of it.",
        "The paper: digits legible, many variants of each class; samples, a column a class: classes/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="CLS-GAN samples, a class a column, with a collapse measure within classes",
    small="1 min on digits",
    paper="not yet run: MNIST, CIFAR-10, SVHN at full width",
    run=figure_7,
    data=("digits", "mnist", "cifar10", "svhn"),
    paper_data="cifar10",
)
