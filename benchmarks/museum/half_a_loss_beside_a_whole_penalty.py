"""A critic loss halved beside a full penalty.

Wrong: 0.5 * (E L(x) - E L(G(z))) + 10 * penalty is a penalty of weight 20: the weight no longer means what it says.
Meant: E L(x) - E L(G(z)) + 10 * penalty   (Gulrajani et al. 2017, alg. 1).
Reported in: junyanz/pytorch-CycleGAN-and-pix2pix, issue 637 (the penalty beside half the sum of both losses).
Refused by: objective-29
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective, penalized, unit_gradient


@ganzoo.objective
def half_a_loss_beside_a_whole_penalty() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: return critic(real).mean() - critic(fake).mean()
        return 0.5 * (critic(real).mean() - critic(fake).mean())

    return penalized(Objective(critic_loss), unit_gradient, 10.0)
