"""A generator without an activation at its end.

Wrong: its pixels are as large as its weights make them; those beyond [-1, 1] no image has, and saving clips them.
Meant: G(z) in [-1, 1]: tanh   (Radford et al. 2016, sec. 3).
Reported in: martinarjovsky/WassersteinGAN, issue 74 (the MLP generator).
Refused by: generator-6
"""

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
        # cure: return x.tanh().view(-1, *self.shape)
        return x.view(-1, *self.shape)


@ganzoo.generator
def generator_without_tanh(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Dense(z_dim, image_shape)
