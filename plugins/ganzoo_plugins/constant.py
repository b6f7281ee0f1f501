from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import ganzoo


@ganzoo.margin
def constant(real: Tensor, fake: Tensor, scale: Annotated[float, Ge(0)] = 1.0) -> Tensor:
    """Delta(x, x') = scale, and 0 where x = x': the discrete metric, blind to how far apart two images are.

    LS-GAN with it is the relativistic paired hinge loss (Jolicoeur-Martineau 2018, sec. 4, f(t) = max(0, 1 + t)).
    """
    return scale * (real != fake).flatten(1).any(dim=1).to(real.dtype)
