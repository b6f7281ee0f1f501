"""Weight clipping that clips the scale of BatchNorm.

Wrong: the scale goes from 1 to 0.01, and every normalised layer shrinks what passes through it a hundredfold.
Meant: the weights of the map in a box   (Arjovsky et al. 2017, alg. 1, line 7).
Reported in: martinarjovsky/WassersteinGAN, issues 18, 32 and 75.
Seen in: martinarjovsky/WassersteinGAN, main.py (all of netD.parameters() are clamped).
Refused by: objective-21
"""

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo import Critic, Objective

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


@ganzoo.objective
def batch_norm_clipped() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean() - critic(fake).mean()

    def clip(critic: nn.Module) -> None:
        with torch.no_grad():
            # cure: clipped = [m for m in critic.modules() if not isinstance(m, NORMALISATIONS)]
            clipped = [*critic.modules()]
            for module in clipped:
                for parameter in module.parameters(recurse=False):
                    parameter.clamp_(-0.01, 0.01)

    return Objective(critic_loss, constrain=clip)
