"""One batch of real images for all steps of the critic.

Wrong: the critic is trained several times on the same images: an epoch takes as many times longer, or sees a part.
Meant: a new batch for each step of the critic   (Arjovsky et al. 2017, alg. 1, line 3).
Reported in: keras-team/keras-io, issue 330 (examples/generative/wgan_gp.py).
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
        real = images[next(batches)]
        for _ in range(game.recipe.critic_steps):
            # missing: real = images[next(batches)]
            fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1).detach()
            of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            of_critic.step()
            game.constrain(critic)
        of_generator.zero_grad()
        fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
