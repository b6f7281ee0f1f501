"""The square of the mean in the place of the mean of squares.

Wrong: (E D(x) - 1)^2 is content when the scores of a batch are 1 on average, the right and the wrong ones alike.
Meant: E (D(x) - 1)^2   (Mao et al. 2017, eq. 2).
Reported in: akanimax/pro_gan_pytorch, issue 13 (mended in 0368a26).
Refused by: objective-17
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def mean_before_the_square() -> Objective:
    def distance(scores: Tensor, target: float) -> Tensor:
        # cure: return (scores - target).square().mean() / 2
        return (scores.mean() - target).square() / 2

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return distance(-critic(real), 1) + distance(-critic(fake), -1)

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return distance(-critic(fake), 1)

    return Objective(critic_loss, generator_loss)
