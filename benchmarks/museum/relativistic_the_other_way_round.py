"""A relativistic loss with the sign turned inside the mean.

Wrong: E D(G(z)) - D(x) in the place of D(G(z)) - E D(x): its second term says the first again, and sees no single fake.
Meant: E f(L(x) - E L(G(z))) + E f(E L(x) - L(G(z)))   (Jolicoeur-Martineau 2018, sec. 4.1).
Reported in: AlexiaJM/RelativisticGAN, issue 2 (confirmed by the author).
Refused by: objective-17
"""

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective


def average(low: Tensor, high: Tensor) -> Tensor:
    of_low = softplus(low - high.mean())
    # cure: of_high = softplus(low.mean() - high)
    of_high = softplus(-(high.mean() - low))
    return of_low.mean() + of_high.mean()


@ganzoo.objective
def relativistic_the_other_way_round() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return average(critic(real), critic(fake))

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        low, high = critic(fake), critic(real)
        return softplus(low - high.mean()).mean() + softplus(low.mean() - high).mean()

    return Objective(critic_loss, generator_loss)
