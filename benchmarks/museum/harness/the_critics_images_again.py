"""The generator's step on the images of the critic's.

Wrong: the critic has just been trained on these very images; the generator is judged where the critic knows most.
Meant: a new batch of z for the generator   (Goodfellow et al. 2014, alg. 1).
Seen in: guojunq/lsgan, lsgan.lua (fGx goes on with the noise and the images of fDx).
Refused by: harness-fresh
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
            noise = torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1
            fake = generator(noise).detach()
            of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            of_critic.step()
            game.constrain(critic)
        of_generator.zero_grad()
        # missing: noise = torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1
        fake = generator(noise)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
