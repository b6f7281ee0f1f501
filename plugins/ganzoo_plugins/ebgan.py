from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import ganzoo
from ganzoo import Critic, Need, Objective, Recipe


@ganzoo.objective(by_default=False)
def ebgan(m: Annotated[float, Ge(2)] = 10.0) -> Objective:
    """S = E L(x) + E max(0, m - L(G(z))), T = E L(G(z)), L >= 0   (Zhao et al. 2017, eq. 1, 2).

    L is an energy: any non-negative critic, where Zhao et al. take the error of an autoencoder; so only the objective
    differs from its relatives. m: the energy from which generated images are left in peace, well above the log 2 of a
    new critic. No pulling-away term (their sec. 2.4). They seek their recipe on a grid; that of Radford et al. 2016
    stands here.
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean() + (m - critic(fake)).relu().mean()

    native = Recipe(critic_rate=2e-4, generator_rate=2e-4, beta1=0.5, decay=1.0)
    return Objective(critic_loss, recipe=native, needs=frozenset({Need.NON_NEGATIVE}))
