"""log(1 - sigmoid(L)).

Wrong: from L = 17 on sigmoid(L) is 1 in float32, and the log of 0 is minus infinity: the run ends in NaN.
Meant: log(1 - sigmoid(t)) = -log(1 + e^t) = logsigmoid(-t)   (Goodfellow et al. 2014, eq. 1).
Reported in: callummcdougall/ARENA_3.0, pull request 369; pytorch/pytorch, issue 751.
Refused by: objective-20
Also by: objective-18
"""

from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

import ganzoo
from ganzoo import Critic, Objective


def log_of_not(logit: Tensor) -> Tensor:
    # cure: return logsigmoid(-logit)
    return (1 - logit.sigmoid()).log()


@ganzoo.objective
def log_of_one_minus_a_sigmoid() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return -logsigmoid(-critic(real)).mean() - log_of_not(-critic(fake)).mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(critic(fake)).mean()

    return Objective(critic_loss, generator_loss)
