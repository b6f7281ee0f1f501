"""The penalty on what the loss makes of L, not on L.

Wrong: grad softplus(L) = sigmoid(L) grad L: where the critic is sure of itself, its slope is free.
Meant: R1 = E ||grad L(x)||^2 of the critic's own output   (Mescheder et al. 2018, eq. 9).
Reported in: rosinality/style-based-gan-pytorch, issue 34; with a sigmoid:
    hwalsuklee/tensorflow-generative-model-collections, issue 14 (mended).
Refused by: objective-26
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
def penalty_of_softplus() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: gradient = gradient_of(critic, real)
        gradient = gradient_of(lambda x: torch.nn.functional.softplus(critic(x)), real)
        return gradient.flatten(1).square().sum(dim=1).mean() / 2

    return penalized(Objective(wasserstein), penalty, 10.0)
