from torch import Tensor
from torch.nn import functional as F

import ganzoo

SMOOTH = "log(1 + e^a) is smooth where the conditions want a kink: it exceeds a >= 0 by at most log 2, at a = 0"

SLOPE = "its slope for a > 0 is 1 / (1 + e^-a), below the 1 that (II) implies"


@ganzoo.cost(
    expected_failures={
        "cost-2": SMOOTH,
        "cost-3": SMOOTH,
        "cost-4": SMOOTH,
        "cost-10": SLOPE,
        "cost-19": SMOOTH,
        "cost-20": SMOOTH,
        "cost-22": SLOPE,
    }
)
def softplus(a: Tensor) -> Tensor:
    """C(a) = log(1 + e^a): RpGAN's loss as a cost, without margin   (Jolicoeur-Martineau 2018, sec. 4).

    Keeps (I) and breaks (II), so no comparison plays it: it is here for `ganzoo lattice`. `rpgan` is the game.
    """
    return F.softplus(a)
