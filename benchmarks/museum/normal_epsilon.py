"""Epsilon drawn from a normal distribution.

Wrong: two points in three lie beyond x or beyond G(z), some of them far outside the images' range.
Meant: epsilon uniform in [0, 1]   (Gulrajani et al. 2017, alg. 1, line 4).
Reported in: keras-team/keras-io, issues 143 and 624 (examples/generative/wgan_gp.py).
Refused by: objective-28
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
def normal_epsilon() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: epsilon = torch.rand_like(real[:, :1, :1, :1])
        epsilon = torch.randn_like(real[:, :1, :1, :1])
        norm = torch.linalg.vector_norm(gradient_of(critic, fake.lerp(real, epsilon)).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
