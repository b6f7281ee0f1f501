"""Image sets -> splits -> batches already on the device.

`load_images` reads a set whole, as uint8, or maps its file; `split` cuts it into train, validation and test; `Batches`
hands out `Batch(real in [-1, 1], labels)` in an order that is a function of (seed, epoch) alone.
"""

from ganzoo.data.batches import Batch, Batches, scaled
from ganzoo.data.image_set import ImageSet, Splits, split
from ganzoo.data.labels import Labelling, draw_labels
from ganzoo.data.load import SETS, load_images

__all__ = [
    "SETS", "Batch", "Batches", "ImageSet", "Labelling", "Splits", "draw_labels", "load_images", "scaled", "split",
]  # fmt: skip
