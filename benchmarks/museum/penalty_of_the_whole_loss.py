"""The penalty on the gradient of the whole critic loss.

Wrong: grad_x of a hinge is 0 for a satisfied pair, so a critic may be as steep as it likes wherever it is right.
Meant: grad_x L, the critic's own   (Qi 2017, sec. 5.2, penalty I).
Reported in: lucidrains/audiolm-pytorch, issue 290 (soundstream.py: the gradient of the discriminator's hinge loss).
Refused by: objective-26
"""

import torch
from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Need, Objective


@ganzoo.objective
def penalty_of_the_whole_loss(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        x = real.detach().requires_grad_()
        pairwise = (margin(real, fake) + critic(x) - critic(fake)).relu()
        # cure: penalized = critic(x)
        penalized = pairwise
        gradient = torch.autograd.grad(penalized.sum(), x, create_graph=True)[0]
        return pairwise.mean() + 0.1 * gradient.flatten(1).square().sum(dim=1).mean() / 2

    return Objective(critic_loss, needs=frozenset({Need.PER_SAMPLE}))
