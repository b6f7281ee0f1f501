"""Random numbers that no torch seed reaches.

Wrong: random.uniform belongs to Python, not to torch: the same seed gives another penalty every time.
Meant: torch.rand, which the harness seeds for every round.
Seen in: maple-research-lab/glsgan-gp, lsgan-gp.py (calc_gradient_penalty2).
Refused by: objective-12
"""

import random

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
def random_of_another_generator() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: epsilon = torch.rand(len(real), device=real.device)
        epsilon = torch.tensor([random.uniform(0, 1) for _ in real])
        between = fake.lerp(real, epsilon.to(real).view(-1, 1, 1, 1))
        norm = torch.linalg.vector_norm(gradient_of(critic, between).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
