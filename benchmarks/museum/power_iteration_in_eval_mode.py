"""Spectral normalisation that goes on iterating in eval mode.

Wrong: every look at the critic moves u, and so its weights: the value of an image depends on how often one has looked.
Meant: one power iteration a training step   (Miyato et al. 2018, alg. 1); in eval mode none.
Reported in: pytorch/pytorch, issue 8208.
Seen in: christiancosgrove/pytorch-spectral-normalization-gan, spectral_normalization.py (SpectralNorm.forward).
Refused by: critic-4
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear, normalize

import ganzoo


class SpectralLinear(nn.Linear):
    """A linear map divided by its largest singular value, of which power iteration keeps an estimate."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("u", normalize(torch.randn(outputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            v = normalize(self.weight.t() @ self.u, dim=0)
            u = normalize(self.weight @ v, dim=0)
            # cure: iterating = self.training
            iterating = True
            if iterating:
                self.u.copy_(u)
        return linear(x, self.weight / (u @ self.weight @ v), self.bias)


class Dense(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.first = SpectralLinear(image_shape[0] * image_shape[1] * image_shape[2], 32)
        self.last = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(leaky_relu(self.first(x.flatten(1)), 0.2))
        return y.squeeze(1) if y.shape[1] == 1 else y


@ganzoo.critic
def power_iteration_in_eval_mode(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Dense(image_shape, outputs)
