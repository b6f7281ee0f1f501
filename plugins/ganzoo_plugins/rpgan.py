from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Critic, Objective, Recipe, fake_gradient, penalized, small_gradient


@ganzoo.objective(by_default=False)
def rpgan(
    f: Literal["softplus", "hinge"] = "softplus",
    r1: Annotated[float, Ge(0)] = 0.05,
    r2: Annotated[float, Ge(0)] = 0.05,
) -> Objective:
    """S = E f(L(x) - L(G(z))) + r1 E ||grad L(x)||^2 / 2 + r2 E ||grad L(G(z))||^2 / 2, T = E f(L(G(z)) - L(x)).

    Relativistic pairing (Jolicoeur-Martineau 2018, sec. 4) under both penalties: R3GAN (Huang et al. 2024, sec. 2).
    f(t) = log(1 + e^t), or max(0, 1 + t). As a GLS-GAN without margin: the cost softplus keeps condition (I) and
    breaks (II) by at most log 2. The weights and the recipe are those with which R3GAN's authors begin on CIFAR-10.
    """

    def loss(difference: Tensor) -> Tensor:
        return (softplus(difference) if f == "softplus" else (1 + difference).relu()).mean()

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return loss(critic(real) - critic(fake))

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return loss(critic(fake) - critic(real))

    native = Recipe(critic_rate=2e-4, generator_rate=2e-4, beta1=0.0, beta2=0.9, decay=1.0)
    game = Objective(critic_loss, generator_loss, recipe=native)
    return penalized(penalized(game, small_gradient, r1), fake_gradient, r2)
