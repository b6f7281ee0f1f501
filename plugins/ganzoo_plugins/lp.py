from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import ganzoo


@ganzoo.margin
def lp(real: Tensor, fake: Tensor, p: Annotated[float, Ge(1)] = 1.0, scale: Annotated[float, Ge(0)] = 2.4576) -> Tensor:
    """Delta(x, x') = scale * (mean |x - x'|^p)^(1/p), the mean over pixels and channels   (Qi 2017, sec. 9.2).

    The authors' code takes 2e-4 times the sum at 3x64x64 and 8e-4 times the sum at 3x32x32, p = 1: both are
    2.4576 times the mean, which is the default at every size.
    """
    distance = (real - fake).flatten(1).abs()
    if p == 1:
        return scale * distance.mean(dim=1)
    # The largest difference is taken out first: neither |d|^p nor its root then leaves the floats' range. Homogeneity
    # lets it be a constant to the gradient; the mean is at least 1/CHW unless the images are equal.
    largest = distance.detach().amax(dim=1, keepdim=True)
    ratio = distance / largest.clamp(min=torch.finfo(distance.dtype).tiny)
    mean = ratio.pow(p).mean(dim=1).clamp(min=0.5 / distance.shape[1])
    return scale * largest.squeeze(1) * mean.pow(1 / p)
