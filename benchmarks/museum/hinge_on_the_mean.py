"""The hinge on the batch's mean.

Wrong: (E (Delta + L(x) - L(G(z))))_+ is 0 as soon as the mean is: pairs far in the right pay for those that are wrong.
Meant: E (Delta + L(x) - L(G(z)))_+, a hinge for each pair   (Qi 2017, eq. 4).
Reported in: akanimax/pro_gan_pytorch, issue 13, the same slip under a square.
Refused by: objective-17
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Objective


@ganzoo.objective
def hinge_on_the_mean(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        violation = margin(real, fake) + critic(real) - critic(fake)
        # cure: return violation.relu().mean()
        return violation.mean().relu()

    return Objective(critic_loss)
