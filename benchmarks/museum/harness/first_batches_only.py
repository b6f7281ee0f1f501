"""A new epoch begun for every round.

Wrong: the iterator over the images is made again for each round, which takes its first few batches: the rest is unseen.
Meant: every image once an epoch.
Reported in: dbbbbm/f-AnoGAN-PyTorch, issue 7, where shuffling is named in its defence.
Refused by: harness-epoch
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
        # cure: (nothing)
        batches = iter(torch.randperm(len(images), generator=random).split(BATCH))
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
