from torch import Tensor

import ganzoo


@ganzoo.cost(name="abs")
def absolute(a: Tensor) -> Tensor:
    """C(a) = |a|: the leaky cost of slope -1   (Qi 2017, sec. 6.2)."""
    return a.abs()
