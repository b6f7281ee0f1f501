from typing import Annotated

from annotated_types import Ge

import ganzoo
from ganzoo import Objective, Recipe, penalized, unit_gradient
from ganzoo_plugins.wgan import earth_mover


@ganzoo.objective
def wgan_gp(penalty_weight: Annotated[float, Ge(0)] = 10.0) -> Objective:
    """S = E L(x) - E L(G(z)) + penalty_weight * E (||grad L(xhat)||_2 - 1)^2   (Gulrajani et al. 2017, alg. 1)."""
    native = Recipe(critic_rate=1e-4, generator_rate=1e-4, beta1=0.0, beta2=0.9, critic_steps=5, decay=1.0)
    return penalized(Objective(earth_mover, recipe=native), unit_gradient, penalty_weight)
