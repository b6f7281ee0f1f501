from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import ganzoo
from ganzoo_plugins import lp


@ganzoo.margin
def perceptual(
    real: Tensor,
    fake: Tensor,
    networks: ganzoo.Networks,
    features: str = "trained-here",
    layer: str | None = None,
    weights: str | None = None,
    size: Annotated[int, Ge(8)] | None = None,
    p: Annotated[float, Ge(1)] = 1.0,
    scale: Annotated[float, Ge(0)] = 2.4576,
) -> Tensor:
    """Delta(x, x') = scale * (mean |f(x) - f(x')|^p)^(1/p), f a frozen network's feature maps   (Qi 2017, sec. 9.2).

    `features`: a torchvision classifier (vgg16, inception_v3, ...) or trained-here, a small classifier of the training
    split's labels, which needs no weights. `layer`: a node of the network. `weights`: the file of a state dict,
    `download` for torchvision's own, `random`. `size`: the side that images are resized to.

    Features come in the unit in which two training images are, on average, as far apart as their pixels are (p = 1):
    so `scale` means what it means to `lp`, for every network, and only the geometry of the margin changes.
    """
    f = networks(features, layer=layer, weights=weights, size=size)
    return lp.lp(f(real), f(fake), p, scale)
