"""A device that the formula chooses for itself.

Wrong: torch.rand(N, 1, 1, 1) lies on the CPU, and .cuda() wants a GPU: the penalty runs on one of the two machines.
Meant: on the device of the images.
Reported in: yunjey/stargan, issue 11; aladdinpersson/Machine-Learning-Collection, issue 58.
Refused by: objective-13
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
def epsilon_left_on_the_cpu() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        epsilon = torch.rand(len(real), 1, 1, 1, device="cpu")
        between = epsilon * real + (1 - epsilon) * fake
        norm = torch.linalg.vector_norm(gradient_of(critic, between).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
