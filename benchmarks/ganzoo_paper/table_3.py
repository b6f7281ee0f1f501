"""Table 3: as table 2, on house numbers (SVHN) with 1,000 labels; on digits with half the labels of table 2."""

from ganzoo.paper import Item, Options
from ganzoo_paper.classification import Protocol, run
from ganzoo_paper.table_2 import PAPER, SMALL

FEWER = SMALL["digits"]._replace(per_class=5)
SVHN = SMALL["cifar10"]._replace(per_class=100)


def table_3(options: Options) -> str:
    protocol: Protocol = FEWER if options.data == "digits" else SVHN
    return run(options, PAPER._replace(per_class=100) if options.size == "paper" else protocol)


ITEM = Item(
    shows="the same with fewer labels: 5 a class on digits; SVHN with 1,000 labels",
    small="4 min on digits, 5 labels a class",
    paper="not yet run",
    run=table_3,
    data=("digits", "svhn"),
    paper_data="svhn",
)
