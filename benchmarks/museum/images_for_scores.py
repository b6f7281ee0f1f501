"""The generator's loss of the images in the place of the critic's scores.

Wrong: a mean of pixels is a scalar, too: the generator learns to make bright images.
Meant: T = E L(G(z)), the critic applied   (Lim and Ye 2017).
Reported in: openclimatefix/skillful_nowcasting, issue 12 (mended).
Refused by: objective-5
Also by: objective-19
"""

from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective


@ganzoo.objective
def images_for_scores() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (1 + critic(real)).relu().mean() + (1 - critic(fake)).relu().mean()

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: return critic(fake).mean()
        return fake.mean()

    return Objective(critic_loss, generator_loss)
