from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Need, Objective, penalized, small_gradient


@ganzoo.objective
def ls_gan(
    margin: Margin,
    balance: Annotated[float, Gt(0)] | None = None,
    penalty_weight: Annotated[float, Ge(0)] = 0.1,
) -> Objective:
    """S = E L(x) + balance * E (Delta(x, G(z)) + L(x) - L(G(z)))_+ + penalty_weight * E ||grad L(x)||^2 / 2.

    Qi 2017, eq. 4 and sec. 5.2. Without a balance (its limit, remark 1) the pairwise term stands alone. With one the
    first term would run off to minus infinity, so the critic is then kept non-negative.
    """

    def pairwise(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (margin(real, fake) + critic(real) - critic(fake)).relu().mean()

    def balanced(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        assert balance is not None
        return critic(real).mean() + balance * pairwise(critic, real, fake)

    game = Objective(pairwise) if balance is None else Objective(balanced, needs=frozenset({Need.NON_NEGATIVE}))
    return penalized(game, small_gradient, penalty_weight)
