"""A gradient penalty that trains nothing.

Wrong: without a graph of the gradient the penalty is a number in the log; no parameter hears of it.
Meant: the gradient of ||grad L(x)||^2 in theta, a second derivative   (Gulrajani et al. 2017, alg. 1, line 9).
Reported in: mlpack/mlpack, issue 2891 (WGANGP); facebookresearch/DomainBed, issue 50 (create_graph forgotten).
Refused by: objective-22
"""

import torch
from torch import Tensor

import ganzoo
from ganzoo import Critic, Objective, penalized


def gradient_of(critic: Critic, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    # cure: return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]
    return torch.autograd.grad(critic(x).sum(), x, retain_graph=True)[0]


def wasserstein(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return critic(real).mean() - critic(fake).mean()


@ganzoo.objective
def penalty_without_graph() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return gradient_of(critic, real).flatten(1).square().sum(dim=1).mean() / 2

    return penalized(Objective(wasserstein), penalty, 10.0)
