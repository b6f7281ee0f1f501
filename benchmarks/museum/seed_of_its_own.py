"""A network that seeds itself.

Wrong: torch.seed() takes a seed from the clock, whatever was asked for: no two runs of one seed are the same.
Meant: initial weights as a function of the seed that the harness has set.
Reported in: facebookresearch/pytorch_GAN_zoo, issue 12 (seed() without arguments).
Refused by: generator-3
"""

import torch
from torch import Tensor, nn

import ganzoo


class Dense(nn.Module):
    def __init__(self, z_dim: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = image_shape
        self.hidden = nn.Linear(z_dim, 32)
        self.last = nn.Linear(32, image_shape[0] * image_shape[1] * image_shape[2])

    def forward(self, z: Tensor) -> Tensor:
        x = self.last(self.hidden(z).relu())
        return torch.tanh(x).view(-1, *self.shape)


@ganzoo.generator
def seed_of_its_own(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    # cure: (nothing)
    torch.seed()
    return Dense(z_dim, image_shape)
