"""(N, 1) against (N,).

Wrong: their sum is an (N, N) matrix, every image's penalty beside every other image's loss; only a mean hides it.
Meant: one loss for each image, (N,).
Reported in: NVlabs/stylegan3, issue 171 (training/loss.py: the loss of (N, 1), the R1 term of (N,)).
Refused by: objective-8
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Margin, Objective


@ganzoo.objective
def column_against_row(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: difference = critic(real) - critic(fake)
        difference = (critic(real) - critic(fake)).view(-1, 1)
        return (margin(real, fake) + difference).relu().mean()

    return Objective(critic_loss)
