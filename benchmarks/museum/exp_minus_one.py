"""exp(a) - 1 in the place of expm1(a).

Wrong: for a just below 0 the difference rounds below a, and C(a) >= a fails at thousands of float32 values.
Meant: C(a) = e^a - 1 for a < 0, an ELU   (Clevert et al. 2016, eq. 3).
Reported in: jax-ml/jax, pull request 1207; pytorch/pytorch, pull request 77062; tensorflow/tensorflow, issue 116943.
Refused by: cost-1
Also by: cost-3
"""

import torch
from torch import Tensor

import ganzoo


@ganzoo.cost
def exp_minus_one(a: Tensor) -> Tensor:
    below = a.clamp(max=0)
    # cure: return torch.where(a >= 0, a, below.expm1())
    return torch.where(a >= 0, a, below.exp() - 1)
