"""A sigmoid at the end of WGAN's critic.

Wrong: a critic in (0, 1) measures no distance: it is 1/4-Lipschitz in its logit and flat at both ends.
Meant: f unbounded   (Arjovsky et al. 2017, sec. 3).
Reported in: bojone/T-GANs, issue 3 (mended); ozanciga/gans-with-pytorch, issue 2.
Refused by: critic-7
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

import ganzoo


class Dense(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 32)
        self.last = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(leaky_relu(self.first(x.flatten(1)), 0.2))
        # cure: (nothing)
        y = torch.sigmoid(y)
        return y.squeeze(1) if y.shape[1] == 1 else y


@ganzoo.critic
def sigmoid_for_wgan(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Dense(image_shape, outputs)
