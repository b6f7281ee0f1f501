"""A hinge in the generator's loss.

Wrong: -max(0, D(G(z))) is flat where D(G(z)) < 0: an image that is found out moves nothing.
Meant: T = -E D(G(z)) = E L(G(z)), without a hinge   (Miyato et al. 2018, eq. 16, 17).
Reported in: zurutech/ashpy, issue 23 (mended by pull request 24).
Refused by: objective-19
Also by: objective-3
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def hinge_for_the_generator() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (1 + critic(real)).relu().mean() + (1 - critic(fake)).relu().mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: return critic(fake).mean()
        return -(-critic(fake)).relu().mean()

    return Objective(critic_loss, generator_loss)
