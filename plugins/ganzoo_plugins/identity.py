from torch import Tensor

import ganzoo


@ganzoo.cost
def identity(a: Tensor) -> Tensor:
    """C(a) = a: GLS-GAN's cost for WGAN   (Qi 2017, sec. 6.2)."""
    return a
