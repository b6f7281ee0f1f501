from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

import ganzoo
from ganzoo import Critic, Objective, Recipe

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm)


def earth_mover(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """S = E L(x) - E L(G(z)), Qi 2017, eq. 8 with f = -L."""
    return critic(real).mean() - critic(fake).mean()


@ganzoo.objective
def wgan(clip: Annotated[float, Gt(0)] = 0.01) -> Objective:
    """S = E L(x) - E L(G(z)), weights clipped to [-clip, clip]   (Arjovsky et al. 2017, alg. 1; Qi 2017, eq. 8).

    The scale of a normalisation, which stands at 1, is not clipped: the authors' code does, and so shrinks every layer.
    """

    def clip_weights(critic: nn.Module) -> None:
        with torch.no_grad():
            for module in critic.modules():
                if not isinstance(module, NORMALISATIONS):
                    for parameter in module.parameters(recurse=False):
                        parameter.clamp_(-clip, clip)

    native = Recipe(optimizer="rmsprop", critic_rate=5e-5, generator_rate=5e-5, critic_steps=5, decay=1.0)
    return Objective(earth_mover, constrain=clip_weights, recipe=native)
