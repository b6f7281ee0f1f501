from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective, Recipe


@ganzoo.objective(by_default=False)
def hinge() -> Objective:
    """S = E max(0, 1 + L(x)) + E max(0, 1 - L(G(z))), T = E L(G(z))   (Miyato et al. 2018, eq. 16, 17).

    After Lim and Ye 2017 and Tran et al. 2017. Each image against a fixed level: no pairs, no margin between images.
    Never below LS-GAN of a constant margin 2, as max(0, u) + max(0, v) >= max(0, u + v). The native recipe is Miyato et
    al.'s setting C (sec. 4), which goes with spectral normalisation: critic.spectral = true.
    """

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (1 + critic(real)).relu().mean() + (1 - critic(fake)).relu().mean()

    native = Recipe(critic_rate=2e-4, generator_rate=2e-4, beta1=0.5, beta2=0.999, critic_steps=1, decay=1.0)
    return Objective(critic_loss, recipe=native)
