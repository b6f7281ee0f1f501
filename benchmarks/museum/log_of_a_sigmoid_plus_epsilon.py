"""log(sigmoid(L) + epsilon).

Wrong: the epsilon keeps the log finite and makes it flat: below D = epsilon no gradient is left, for either player.
Meant: -log sigmoid(t) = log(1 + e^-t), which is softplus(-t)   (Goodfellow et al. 2014, sec. 3).
Reported in: archsyscall/GANs-TensorFlow2, issue 3, which quotes the loss (1e-10).
Refused by: objective-18
Also by: objective-19
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

import ganzoo
from ganzoo import Critic, Objective


def log_of(logit: Tensor) -> Tensor:
    # cure: return logsigmoid(logit)
    return (logit.sigmoid() + 1e-8).log()


@ganzoo.objective
def log_of_a_sigmoid_plus_epsilon() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return -log_of(-critic(real)).mean() - logsigmoid(critic(fake)).mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return -log_of(-critic(fake)).mean()

    return Objective(critic_loss, generator_loss)
