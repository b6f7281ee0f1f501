"""Gradients of the generator's step left in the critic.

Wrong: T.backward() fills .grad of both players; what is not zeroed is part of the critic's next step, with T's sign.
Meant: dS / dtheta alone   (Goodfellow et al. 2014, alg. 1).
Reported in: ajbrock/BigGAN-PyTorch, issue 25 (mended); Lightning-AI/pytorch-lightning, issue 557 and pull request 666.
Refused by: harness-own-loss
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
            # missing: of_critic.zero_grad()
            game.critic_loss(critic, real, fake).backward()
            of_critic.step()
            game.constrain(critic)
        of_generator.zero_grad()
        fake = generator(torch.rand(BATCH, Z_DIM, generator=random) * 2 - 1)
        game.generator_loss(critic, real, fake).backward()
        of_generator.step()
