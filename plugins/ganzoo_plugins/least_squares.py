from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective, Recipe


@ganzoo.objective(by_default=False)
def least_squares(
    a: Annotated[float, Lt(0)] = -1.0, b: Annotated[float, Gt(0)] = 1.0, c: Annotated[float, Gt(0)] = 1.0
) -> Objective:
    """S = (E (D(x) - b)^2 + E (D(G(z)) - a)^2) / 2, T = E (D(G(z)) - c)^2 / 2, D = -L   (Mao et al. 2017, eq. 2).

    a: the code of generated images, b: of real ones, c: what the generator wants to be told. One number added to all
    three only moves D, so a < 0 < b, c leaves nothing out: the 0-1 code (0, 1, 1) is (-1, 1, 1) with D scaled by two
    and S by four, Pearson's chi^2 (-1, 1, 0) is (-0.5, 1.5, 0.5).
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return ((critic(real) + b).square().mean() + (critic(fake) + a).square().mean()) / 2

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (critic(fake) + c).square().mean() / 2

    native = Recipe(critic_rate=1e-3, generator_rate=1e-3, beta1=0.5, decay=1.0)
    return Objective(critic_loss, generator_loss, recipe=native)
