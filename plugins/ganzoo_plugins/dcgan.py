from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective, Recipe


@ganzoo.objective
def dcgan() -> Objective:
    """S = -E log D(x) - E log(1 - D(G(z))), T = -E log D(G(z)), D = sigmoid(-L)   (Goodfellow et al. 2014, sec. 3).

    The unregularised baseline, with the non-saturating generator's loss and the rates of Radford et al. 2016.
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(critic(real)).mean() + softplus(-critic(fake)).mean()  # -log sigmoid(-L), -log sigmoid(L)

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(critic(fake)).mean()

    native = Recipe(critic_rate=2e-4, generator_rate=2e-4, decay=1.0)
    return Objective(critic_loss, generator_loss, recipe=native)
