from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

import ganzoo


@ganzoo.cost
def elu(a: Tensor, alpha: Annotated[float, Ge(0), Le(1)] = 1.0) -> Tensor:
    """C(a) = a for a >= 0, alpha * (e^a - 1) below   (Clevert et al. 2016, eq. 3), at least a as e^a - 1 >= a."""
    # expm1: exp(a) - 1 rounds below a at thousands of float32 values. The clamp keeps the unused branch finite.
    return torch.where(a >= 0, a, alpha * torch.expm1(a.clamp(max=0)))
