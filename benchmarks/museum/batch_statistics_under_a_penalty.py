"""Batch statistics in a critic whose gradient is penalised.

Wrong: L(x_i) depends on the whole batch, so the gradient in x_i holds a share of every other image's loss.
Meant: L of one image, without BatchNorm   (Gulrajani et al. 2017, sec. 4, "no critic batch normalization").
Reported in: eriklindernoren/Keras-GAN, issues 48 and 253; hwalsuklee/tensorflow-generative-model-collections, issue 17;
    kongyanye/cwgan-gp, issue 6.
Refused by: critic-6
Also by: critic-4
"""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

import ganzoo


class Dense(nn.Module):
    def __init__(self, image_shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 32)
        self.last = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        # cure: h = h / (h.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        h = h / (h.square().mean(dim=0, keepdim=True) + 1e-5).sqrt()
        y: Tensor = self.last(leaky_relu(h, 0.2))
        return y.squeeze(1) if y.shape[1] == 1 else y


@ganzoo.critic
def batch_statistics_under_a_penalty(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Dense(image_shape, outputs)
