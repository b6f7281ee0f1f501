"""The gradient's norm over its channels only.

Wrong: norm(2, dim=1) of an (N, C, H, W) gradient is a norm a pixel, so every pixel's gradient is pulled to 1.
Meant: ||grad L(xhat)||_2 over all pixels and channels of an image   (Gulrajani et al. 2017, eq. 3).
Reported in: caogang/wgan-gp, issues 25 and 27; eriklindernoren/PyTorch-GAN, issue 20.
Seen in: maple-research-lab/glsgan-gp, lsgan-gp.py (calc_gradient_penalty).
Refused by: objective-24
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
def norm_over_channels() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: norm = gradient_of(critic, real).flatten(1).norm(2, dim=1)
        norm = gradient_of(critic, real).norm(2, dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
