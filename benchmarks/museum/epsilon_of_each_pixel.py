"""An epsilon for each pixel.

Wrong: xhat is anywhere in the box that x and G(z) span, for most of an image's pixels near the middle.
Meant: xhat on the straight line between the two, epsilon of shape (N, 1, 1, 1)   (Gulrajani et al. 2017, sec. 4).
Reported in: eriklindernoren/PyTorch-GAN, issue 5 (mended in d2977bc); tntrung/gan, issue 2 (mended);
    znxlwm/pytorch-generative-model-collections, issue 5; hwalsuklee/tensorflow-generative-model-collections, issue 33.
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
def epsilon_of_each_pixel() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        # cure: epsilon = torch.rand_like(real[:, :1, :1, :1])
        epsilon = torch.rand_like(real)
        norm = torch.linalg.vector_norm(gradient_of(critic, fake.lerp(real, epsilon)).flatten(1), dim=1)
        return (norm - 1).square().mean()

    return penalized(Objective(wasserstein), penalty, 10.0)
