"""Figure 3: DCGAN against LS-GAN, with BatchNorm in the generator."""

from typing import Any

from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import Compared, compared, difference, size_of, table_of

OBJECTIVES = ["dcgan", "ls-gan"]
COLUMNS = {"collapse.spread": "spread", "collapse.coverage": "coverage", "test_mre": "test MRE"}


def with_norm(options: Options, norm: str, name: str) -> Compared:
    """Both objectives in the same networks, the generator with or without BatchNorm."""
    changes: dict[str, Any] = {**size_of(options), "generator.norm": norm}
    return compared(options, name, **changes, objectives=OBJECTIVES, seeds=1 if options.size == "paper" else 3)


def figure_3(options: Options) -> str:
    found = with_norm(options, "batch", "batchnorm")
    write_rows(options.folder, found.rows)
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        "spread: mean distance between generated images over that between test images; coverage: the share of test"
        " images near which one is generated.",
        f"coverage, ls-gan minus dcgan: {difference(found.rows, 'collapse.coverage', 'ls-gan', 'dcgan')}",
        f"test MRE, ls-gan minus dcgan: {difference(found.rows, 'test_mre', 'ls-gan', 'dcgan')}",
        "The paper sees no difference between the two by eye; samples: batchnorm/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="DCGAN and LS-GAN samples, BatchNorm in the generator, with a collapse measure",
    small="2 min on digits",
    paper="not yet run: CelebA at 64x64, 25 epochs",
    run=figure_3,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
