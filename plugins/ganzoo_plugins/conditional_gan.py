from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ganzoo
from ganzoo import Critic, Need, Objective


@ganzoo.objective
def conditional_gan(unlabeled_weight: Annotated[float, Gt(0)] = 1.0) -> Objective:
    """S = -E log D(x, y) - E log(1 - D(G(z, y), y)), T = -E log D(G(z, y), y), D(x, y) = exp(-L(x, y)).

    The classic game (Goodfellow et al. 2014) under a condition (Mirza and Osindero 2014), on the networks of CLS-GAN:
    D(x, y) is the probability of class y, "none of the classes" being one of the outcomes (Qi 2017, sec. 8.2). Plus
    unlabeled_weight times the same S on unlabelled images, with D(x) = exp(-min_l L(x, l)).
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # -log(1 - exp(-L)): expm1 keeps the digits of a small L; smaller floats than the floor some devices take for 0.
        of_fake = -(-(-critic(fake)).expm1()).clamp(min=1.2e-38).log()
        return critic(real).mean() + of_fake.mean()

    return Objective(
        critic_loss,
        unlabeled_loss=lambda critic, real, fake: unlabeled_weight * critic_loss(critic, real, fake),
        needs=frozenset({Need.LABELS, Need.UNLABELED}),
    )
