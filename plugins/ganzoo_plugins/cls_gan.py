from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Need, Objective


@ganzoo.objective
def cls_gan(margin: Margin, balance: Annotated[float, Gt(0)] = 10.0) -> Objective:
    """S = E L(x, y) + balance * E (Delta(x, G(z, y)) + L(x, y) - L(G(z, y), y))_+   (Qi 2017, eq. 12 to 14).

    The harness binds the critic to the labels: critic(x) is L(x, y) = -log softmax(a(x))_y, at least 0.
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = critic(real)
        violation = (margin(real, fake) + loss - critic(fake)).relu()
        return loss.mean() + balance * violation.mean()

    return Objective(critic_loss, needs=frozenset({Need.LABELS}))
