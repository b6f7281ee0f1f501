from typing import Annotated

import torch
from annotated_types import Le
from torch import Tensor

import ganzoo


@ganzoo.cost
def leaky(a: Tensor, slope: Annotated[float, Le(1)] = 0.01) -> Tensor:
    """C(a) = max(a, slope * a)   (Qi 2017, sec. 6.2)."""
    return torch.where(a >= 0, a, slope * a)
