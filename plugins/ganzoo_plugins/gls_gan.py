from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import ganzoo
from ganzoo import Cost, Critic, Margin, Objective, penalized, small_gradient


@ganzoo.objective
def gls_gan(cost: Cost, margin: Margin, penalty_weight: Annotated[float, Ge(0)] = 0.1) -> Objective:
    """S = E C(Delta(x, G(z)) + L(x) - L(G(z))) + penalty_weight * E ||grad L(x)||^2 / 2   (Qi 2017, sec. 6.2)."""

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return cost(margin(real, fake) + critic(real) - critic(fake)).mean()

    return penalized(Objective(critic_loss), small_gradient, penalty_weight)
