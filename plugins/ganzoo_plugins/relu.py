from torch import Tensor

import ganzoo


@ganzoo.cost
def relu(a: Tensor) -> Tensor:
    """C(a) = max(a, 0): LS-GAN's cost   (Qi 2017, eq. 4)."""
    return a.relu()
