"""The root of a sum of squares, at zero.

Wrong: where grad L = 0 the derivative of the root is infinite, times zero is NaN: a dead critic ends the run.
Meant: ||grad L||_2 with 0 for its derivative at 0, as torch.linalg.vector_norm has it.
Reported in: keras-team/keras-io, issues 910 and 624 (mended by pull request 2364);
    tdeboissiere/DeepLearningImplementations, issue 68.
Refused by: objective-23
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
def root_at_zero() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: norm = torch.linalg.vector_norm(gradient_of(critic, real), dim=(1, 2, 3))
        norm = gradient_of(critic, real).square().sum(dim=(1, 2, 3)).sqrt()
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
