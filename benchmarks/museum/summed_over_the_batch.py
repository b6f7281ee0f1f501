"""A loss that is summed over the batch.

Wrong: loss and gradient grow with the batch, and so does the weight of the loss beside any other term.
Meant: a mean, the estimate of an expectation.
Reported in: HumanCompatibleAI/imitation, pull request 27 (the discriminator of GAIL).
Refused by: objective-7
"""

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def summed_over_the_batch() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = softplus(critic(real)) + softplus(-critic(fake))
        # cure: return loss.mean()
        return loss.sum()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(critic(fake)).mean()

    return Objective(critic_loss, generator_loss)
