"""n_critic that is not heeded.

Wrong: the condition asks for the number of the optimizer where the number of the batch is meant: it always holds.
Meant: n_critic steps of the critic, then one of the generator   (Arjovsky et al. 2017, alg. 1, line 2).
Reported in: nocotan/pytorch-lightning-gans, issue 7 (confirmed by the author);
    LynnHo/DCGAN-LSGAN-WGAN-GP-DRAGAN-Tensorflow-2, issue 10.
Refused by: harness-order
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
    batches = cycle(torch.randperm(len(images), generator=random).split(BATCH))
    for _ in range(rounds):
        # cure: for _ in range(game.recipe.critic_steps):
        for _ in range(1):
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
