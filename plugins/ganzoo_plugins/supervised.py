from torch import Tensor

import ganzoo
from ganzoo import Critic, Need, Objective


@ganzoo.objective
def supervised() -> Objective:
    """S = E L(x, y): CLS-GAN's critic as a classifier, trained alone   (Qi 2017, eq. 13 without its second term).

    No generator plays: what a conditional game gains over it, it gains by its generator.
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean()

    return Objective(critic_loss, needs=frozenset({Need.LABELS, Need.ALONE}))
