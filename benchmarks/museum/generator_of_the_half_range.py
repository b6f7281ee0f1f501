"""A generator of images in [0, 1] beside real ones in [-1, 1].

Wrong: a sigmoid at the end makes no pixel below 0: the critic tells the two apart by their sign.
Meant: G(z) in [-1, 1], as the images are: tanh   (Radford et al. 2016, sec. 3).
Reported in: voletiv/self-attention-GAN-pytorch, issue 6 (mended); khalooei/ALOCC-CVPR2018, issue 3;
    fchollet/deep-learning-with-python-notebooks, issue 7 (all three the other way round: images in [0, 1], tanh).
Refused by: generator-8
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
        # cure: return torch.tanh(x).view(-1, *self.shape)
        return torch.sigmoid(x).view(-1, *self.shape)


@ganzoo.generator
def generator_of_the_half_range(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Dense(z_dim, image_shape)
