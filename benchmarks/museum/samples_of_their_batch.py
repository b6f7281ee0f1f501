"""A generator that is never in eval mode.

Wrong: batch statistics in sampling, too: the image of a z depends on the other z, and one z alone has no image.
Meant: running statistics once training is over   (Ioffe and Szegedy 2015, alg. 2).
Reported in: sdv-dev/CTGAN, issue 309; karoly-hars/GAN_image_colorizing, issue 2; odegeasslbc/FastGAN-pytorch, issue 4.
Refused by: generator-4
Also by: generator-1
"""

import torch
from torch import Tensor, nn

import ganzoo


class Normalised(nn.Module):
    def __init__(self, z_dim: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = image_shape
        self.hidden = nn.Linear(z_dim, 32, bias=False)
        # cure: self.norm = nn.BatchNorm1d(32)
        self.norm = nn.BatchNorm1d(32, track_running_stats=False)
        self.last = nn.Linear(32, image_shape[0] * image_shape[1] * image_shape[2])

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.norm(self.hidden(z)).relu())).view(-1, *self.shape)


@ganzoo.generator
def samples_of_their_batch(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Normalised(z_dim, image_shape)
