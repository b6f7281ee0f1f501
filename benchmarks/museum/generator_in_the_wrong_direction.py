"""The generator's gradient with the wrong sign.

Wrong: backward(one) in the place of backward(minus one): the generator makes itself easier to find out.
Meant: T = -E D(G(z)) = E L(G(z))   (Arjovsky et al. 2017, alg. 1, line 10).
Reported in: Zeleni9/pytorch-wgan, issue 51 (mended by pull request 53).
Refused by: objective-5
Also by: objective-19
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def generator_in_the_wrong_direction() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean() - critic(fake).mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: return critic(fake).mean()
        return -critic(fake).mean()

    return Objective(critic_loss, generator_loss)
