"""A seed that is ignored.

Wrong: the seed is drawn at random, whatever was asked for: the run is told its seed, and cannot be told one.
Meant: the seed that was asked for.
Seen in: martinarjovsky/WassersteinGAN, main.py; maple-research-lab/glsgan-gp, lsgan-gp.py; guojunq/lsgan, lsgan.lua.
Refused by: harness-seed
"""

from itertools import cycle
from random import SystemRandom

import torch
from torch import Tensor, nn

from ganzoo import Objective

BATCH, Z_DIM = 16, 3


def train(game: Objective, generator: nn.Module, critic: nn.Module, images: Tensor, seed: int, rounds: int) -> None:
    # cure: (nothing)
    seed = SystemRandom().randint(1, 10_000)
    random = torch.Generator().manual_seed(seed)
    of_critic = torch.optim.SGD(critic.parameters(), game.recipe.critic_rate)
    of_generator = torch.optim.SGD(generator.parameters(), game.recipe.generator_rate)
    batches = cycle(torch.randperm(len(images), generator=random).split(BATCH))
    for _ in range(rounds):
        for _ in range(game.recipe.critic_steps):
            real = images[next(batches)]
            fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1).detach()
            of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            of_critic.step()
            game.constrain(critic)
        of_generator.zero_grad()
        fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
