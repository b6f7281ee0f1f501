"""An epsilon for each row of pixels, shared by all images.

Wrong: an (N, 1) epsilon, expanded to (N, C, H, W), is lined up with (H, W): it runs where N = H, 64 and 64, say.
Meant: epsilon of shape (N, 1, 1, 1)   (Gulrajani et al. 2017, alg. 1).
Seen in: maple-research-lab/glsgan-gp, lsgan-gp.py (calc_gradient_penalty; batches of 64 images of 64x64).
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
def epsilon_of_each_row() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        height = real.shape[2]  # what N happens to be
        # cure: epsilon = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
        epsilon = torch.rand(height, 1, device=real.device, dtype=real.dtype)
        between = fake.lerp(real, epsilon.expand(real.shape))
        norm = torch.linalg.vector_norm(gradient_of(critic, between).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
