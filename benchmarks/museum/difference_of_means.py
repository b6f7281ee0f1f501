"""A distance that compares two means.

Wrong: |E A - E B|: differences of opposite sign cancel, and any two images of equal brightness are the same.
Meant: E |A - B|, the mean of absolute differences   (Qi 2017, sec. 9.2).
Reported in: sagiebenaim/DistanceGAN, issue 3 (closed with thanks).
Refused by: margin-13
"""

from torch import Tensor

import ganzoo


@ganzoo.margin
def difference_of_means(real: Tensor, fake: Tensor) -> Tensor:
    # cure: return (real - fake).flatten(1).abs().mean(dim=1)
    return (real - fake).flatten(1).mean(dim=1).abs()
