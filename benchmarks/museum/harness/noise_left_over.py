"""Stale noise at the epoch's end.

Wrong: the noise keeps the size of the last, incomplete batch: the generator's step is on what was left over.
Meant: a whole batch of new z for the generator   (Arjovsky et al. 2017, alg. 1, line 9).
Reported in: martinarjovsky/WassersteinGAN, pull request 8 (merged).
Refused by: harness-fresh
Also by: harness-epoch
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
    order = torch.randperm(len(images), generator=random).split(BATCH)
    # cure: batches = cycle(order)
    batches = cycle((*order[:-1], order[-1][:5]))
    for _ in range(rounds):
        for _ in range(game.recipe.critic_steps):
            real = images[next(batches)]
            noise = torch.rand(len(real), Z_DIM, generator=random) * 2 - 1
            fake = generator(noise).detach()
            of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            of_critic.step()
            game.constrain(critic)
        of_generator.zero_grad()
        # cure: noise = torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1
        noise = torch.rand(noise.shape, generator=random) * 2 - 1
        fake = generator(noise)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
