"""Table 2: classification with few labels, CLS-GAN against the same network alone, the conditional GAN and DCGAN."""

from typing import Any

from ganzoo.paper import Item, Options
from ganzoo_paper.classification import Protocol, networks, rates, run

SIXTEEN: dict[str, Any] = {
    **networks(16, 16, 0.1),
    **rates(0.003, 2),
    "batch_size": 32,
    "data.size": 16,
    "data.split": [4_800, 2_000, 5_000],
}
"""Images of 16x16 pixels and few of them, so that two cores train hundreds of networks."""
SMALL = {
    "digits": Protocol(
        per_class=10,
        subsets=8,
        epochs=6,
        choosing_epochs=3,
        changes={**networks(16, 32, 0.1), **rates(0.003, 2), "z_dim": 10, "batch_size": 32},
    ),
    "mnist": Protocol(per_class=10, subsets=8, epochs=4, choosing_epochs=1, changes={**SIXTEEN, "z_dim": 50}),
    "cifar10": Protocol(per_class=100, subsets=8, epochs=4, choosing_epochs=1, changes={**SIXTEEN, "z_dim": 100}),
}
PAPER = Protocol(
    per_class=400,
    subsets=10,
    epochs=200,
    choosing_epochs=50,
    changes={**networks(96, 128, 0.02), **rates(1e-3, 25), "z_dim": 100, "batch_size": 64},
)


def table_2(options: Options) -> str:
    return run(options, PAPER if options.size == "paper" else SMALL[options.data])


ITEM = Item(
    shows="classification with few labels: CLS-GAN, the supervised network alone, conditional GAN, DCGAN + L2-SVM",
    small="4 min on digits, 10 labels a class",
    paper="not yet run",
    run=table_2,
    data=tuple(SMALL),
    paper_data="cifar10",
)
