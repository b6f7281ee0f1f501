"""One norm for the gradients of the whole batch.

Wrong: ||grad||_2 of the (N, C, H, W) tensor, pulled to 1: each image's share of it is about 1 / sqrt(N).
Meant: a norm for each image, pulled to 1, then the mean   (Gulrajani et al. 2017, eq. 3).
Reported in: martinarjovsky/WassersteinGAN, issue 36, where the first answer proposes torch.norm of the whole gradient.
Refused by: objective-25
Also by: objective-7
"""

import torch
from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective, penalized


def gradient_of(critic: Critic, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]


def wasserstein(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return critic(real).mean() - critic(fake).mean()


@ganzoo.objective
def norm_over_the_batch() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: norm = torch.linalg.vector_norm(gradient_of(critic, real).flatten(1), dim=1)
        norm = torch.linalg.vector_norm(gradient_of(critic, real))
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
