from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Need, Objective


@ganzoo.objective
def cls_gan(
    margin: Margin,
    balance: Annotated[float, Gt(0)] = 10.0,
    unlabeled_weight: Annotated[float, Gt(0)] | None = None,
) -> Objective:
    """S = E L(x, y) + balance * E (Delta(x, G(z, y)) + L(x, y) - L(G(z, y), y))_+   (Qi 2017, eq. 12 to 14).

    With an unlabeled_weight + unlabeled_weight * E (Delta(x, G(z)) + L_ul(x) - L_ul(G(z)))_+ over unlabelled images,
    L_ul(x) = min_l L(x, l) (sec. 8.2). The harness binds the critic to the labels: critic(x) is
    L(x, y) = -log softmax(a(x))_y, at least 0.
    """

    def pairwise(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (margin(real, fake) + critic(real) - critic(fake)).relu().mean()

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = critic(real)
        return loss.mean() + balance * (margin(real, fake) + loss - critic(fake)).relu().mean()

    game = Objective(critic_loss, needs=frozenset({Need.LABELS}))
    if unlabeled_weight is None:
        return game
    weight = unlabeled_weight
    return game._replace(
        unlabeled_loss=lambda critic, real, fake: weight * pairwise(critic, real, fake),
        needs=game.needs | {Need.UNLABELED},
    )
