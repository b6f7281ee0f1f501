"""One epsilon for the whole batch.

Wrong: all points xhat lie at the same place of their segments: a batch tells of one place between x and G(z).
Meant: epsilon uniform in [0, 1] for each pair   (Gulrajani et al. 2017, alg. 1, line 4).
Seen in: maple-research-lab/glsgan-gp, lsgan-gp.py (calc_gradient_penalty2); jiamings/wgan, wgan_v2.py.
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
def one_epsilon() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: epsilon = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
        epsilon = torch.rand((), device=real.device, dtype=real.dtype)
        norm = torch.linalg.vector_norm(gradient_of(critic, fake.lerp(real, epsilon)).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
