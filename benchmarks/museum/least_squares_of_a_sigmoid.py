"""Least squares on sigmoid outputs.

Wrong: (sigmoid(D) - 1)^2 is flat where the critic is most wrong, the flatness that least squares are there to end.
Meant: (D(x) - 1)^2 of the critic's own output   (Mao et al. 2017, eq. 2).
Reported in: hwalsuklee/tensorflow-generative-model-collections, issue 19 (mended); GunhoChoi/LSGAN-TF, issue 1;
    simontomaskarlsson/CycleGAN-Keras, issue 22.
Refused by: objective-18
Also by: objective-19
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective


def score(logit: Tensor) -> Tensor:
    # cure: return logit
    return logit.sigmoid() - 0.5


@ganzoo.objective
def least_squares_of_a_sigmoid() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return ((score(-critic(real)) - 0.5).square().mean() + (score(-critic(fake)) + 0.5).square().mean()) / 2

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (score(-critic(fake)) - 0.5).square().mean() / 2

    return Objective(critic_loss, generator_loss)
