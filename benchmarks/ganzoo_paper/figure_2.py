"""Figure 2: LS-GAN with a margin between feature maps, against the margin between pixels."""

from ganzoo.errors import UserError
from ganzoo.paper import Item, Options, write_rows
from ganzoo_paper.comparison import compared, difference, size_of, table_of

PIXELS = "ls-gan"
TRAINED = "ls-gan:margin=perceptual"
VGG = "ls-gan:margin=perceptual,features=vgg16,weights=download,size=128"
INCEPTION = "ls-gan:margin=perceptual,features=inception_v3,weights=download,size=128"
COLUMNS = {"test_mre": "test MRE", "collapse.spread": "spread", "collapse.coverage": "coverage"}


def figure_2(options: Options) -> str:
    if options.size == "small" and options.data == "celeba":
        raise UserError("figure-2 at size small trains its feature network on labels, and celeba has none")
    others = [VGG, INCEPTION] if options.size == "paper" else [TRAINED]
    seeds = 1 if options.size == "paper" else 3
    found = compared(options, "margins", **size_of(options), objectives=[PIXELS, *others], seeds=seeds)
    write_rows(options.folder, found.rows)
    digests = {
        name.removeprefix("network "): digest[:12]
        for row in found.rows
        for name, digest in row.get("hashes", {}).items()
        if name.startswith("network ")
    }
    return "\n".join([
        table_of(found.rows, COLUMNS),
        "",
        *(f"feature network {name}: sha256 {digest}..." for name, digest in digests.items()),
        *(f"coverage, {other} minus {PIXELS}: {difference(found.rows, 'collapse.coverage', other, PIXELS)}"
          for other in others),
        *(f"test MRE, {other} minus {PIXELS}: {difference(found.rows, 'test_mre', other, PIXELS)}" for other in others),
        "The paper shows faces only and calls both margins usable; samples: margins/samples.png.",
    ])  # fmt: skip


ITEM = Item(
    shows="samples of LS-GAN with margins between feature maps",
    small="2 min on digits, features of a classifier trained here",
    paper="not yet run: CelebA at 64x64, VGG-16 and Inception (torchvision's weights are downloaded)",
    run=figure_2,
    data=("digits", "mnist", "cifar10", "celeba"),
    paper_data="celeba",
)
