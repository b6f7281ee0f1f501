"""Weights clipped before the critic's step.

Wrong: the step then takes them out of their box again, and the generator learns from a critic without constraint.
Meant: w <- clip(w, -c, c) after the step   (Arjovsky et al. 2017, alg. 1, lines 6 and 7).
Reported in: martinarjovsky/WassersteinGAN, issue 50; jiamings/wgan, issue 2.
Seen in: martinarjovsky/WassersteinGAN, main.py.
Refused by: harness-constrain
"""

from itertools import cycle

import torch
from torch import Tensor, nn

from ganzoo import Objective

BATCH, Z_DIM = 16, 3


def train(game: Objective, generator: nn.Module, critic: nn.Module, images: Tensor, seed: int, rounds: int) -> None:
    random = torch.Generator().manual_seed(seed)
    of_critic = torch.optim.SGD(critic.parameters(), game.recipe.critic_rate)
    of_generator = torch.optim.SGD(generator.parameters(), game.recipe.generator_rate)
    batches = cycle(torch.randperm(len(images), generator=random).split(BATCH))
    for _ in range(rounds):
        for _ in range(game.recipe.critic_steps):
            real = images[next(batches)]
            fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1).detach()
            # cure: (nothing)
            game.constrain(critic)
            of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            # cure: of_critic.step(); game.constrain(critic)
            of_critic.step()
        of_generator.zero_grad()
        fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
