"""A detach in the generator's step.

Wrong: nothing of the critic's verdict reaches the generator; where the loss has other terms nobody notices.
Meant: dT / dphi through G(z)   (Goodfellow et al. 2014, alg. 1).
Reported in: nikhilsinghmus/image2reverb, issue 37 (confirmed by the author).
Refused by: objective-3
Also by: objective-5, objective-19
"""

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def generator_detached() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(critic(real)).mean() + softplus(-critic(fake)).mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: return softplus(critic(fake)).mean()
        return softplus(critic(fake.detach())).mean()

    return Objective(critic_loss, generator_loss)
