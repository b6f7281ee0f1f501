"""The networks of CLS-GAN (Qi 2017, table 1): a critic of nine convolutions and a global mean, and its generator.

What the table prints and is not done by default: BatchNorm and LeakyReLU on the generator's image layer, just before
tanh, where DCGAN has neither (sec. 9.1 follows DCGAN); `as_printed` puts them there.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ganzoo
from ganzoo_plugins.dcgan_networks import spectrally_normalised

CRITIC = ((3, 1, 1), (3, 1, 1), (4, 2, 1), (3, 1, 2), (3, 1, 2), (4, 2, 2), (3, 1, 2), (3, 1, 2), (1, 1, 2))
"""Kernel, stride and multiple of `width` of each convolution; 3c1s and 1c1s keep the side, 4c2s halves it."""

SMALLEST = {8: 4, 16: 4, 28: 7, 32: 4, 64: 4}
"""Side of the generated image -> side of the first feature map; each layer after it doubles."""


class MeanPooled(nn.Sequential):
    """A critic whose last layer sees the mean of each feature map."""

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees: (N, C, H, W) -> (N, 2 width), the mean of each of the last feature maps."""
        for layer in list(self)[:-1]:
            images = layer(images)
        return images

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs), or (N,) of one output."""
        losses: Tensor = self[-1](self.features(images))
        return losses.squeeze(1)


class FromNoise(nn.Sequential):
    """A generator of convolutions: `(N, z_dim)` is seen as `(N, z_dim, 1, 1)`."""

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = super().forward(z[:, :, None, None])  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return images


def _normal_weights(network: nn.Module, std: float, weight_norm: bool) -> nn.Module:
    """Weights from N(0, std^2), BatchNorm's scales from N(1, std^2), no biases   (Qi 2017, sec. 9.2).

    With weight_norm each unit's weight is then w = g v / ||v||, g = ||w|| and v = w to begin with   (Salimans and
    Kingma 2016, eq. 2).
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if weight_norm:
                # A transposed convolution counts its units along dimension 1.
                parametrizations.weight_norm(module, dim=1 if isinstance(module, nn.ConvTranspose2d) else 0)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)
    return network


@ganzoo.critic(name="table-1")
def table_1_critic(
    image_shape: tuple[int, int, int],
    outputs: int,
    width: Annotated[int, Ge(1)] = 96,
    norm: Literal["batch", "none"] = "batch",
    weight_norm: bool = False,
    spectral: bool = False,
    init_std: Annotated[float, Gt(0)] = 0.02,
) -> nn.Module:
    """L: (N, C, H, W) -> (N,), or (N, outputs), H and W at least 8   (Qi 2017, table 1a).

    3c1s96 3c1s96 4c2s96 3c1s192 3c1s192 4c2s192 3c1s192 3c1s192 1c1s192, `width` for 96, each with BatchNorm and
    LeakyReLU 0.2; the mean over each map; one linear layer. Weight normalisation as in sec. 9.4; or, with `spectral`,
    spectral normalisation (Miyato et al. 2018).
    """
    channels, height, side = image_shape
    if min(height, side) < 8:
        raise ganzoo.UserError(f"the table-1 critic takes images of at least 8x8, not {height}x{side}")
    if weight_norm and spectral:
        raise ganzoo.UserError("the table-1 critic takes weight_norm or spectral, not both")
    layers: list[nn.Module] = []
    before = channels
    for kernel, stride, multiple in CRITIC:
        after = multiple * width
        layers.append(nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.LeakyReLU(0.2))
        before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)]
    network = _normal_weights(MeanPooled(*layers), init_std, weight_norm)
    return spectrally_normalised(network) if spectral else network


@ganzoo.generator(name="table-1")
def table_1_generator(
    z_dim: int,
    image_shape: tuple[int, int, int],
    width: Annotated[int, Ge(1)] = 128,
    norm: Literal["batch", "none"] = "batch",
    weight_norm: bool = False,
    as_printed: bool = False,
    init_std: Annotated[float, Gt(0)] = 0.02,
) -> nn.Module:
    """G: (N, z_dim) -> (N, C, H, W) in [-1, 1], H = W in {8, 16, 28, 32, 64}   (Qi 2017, table 1b).

    For 32x32: 4c1s512 4c2s256 4c2s128, each with BatchNorm and LeakyReLU 0.2, then 4c2s3 and tanh, all transposed
    convolutions; `width` for 128, doubling towards z. For 28x28 the first is 7c1s. The table has BatchNorm and
    LeakyReLU before tanh, too, most likely a slip: dark pixels would need steps five times as large. `as_printed`
    follows it.
    """
    channels, height, side = image_shape
    if height != side or side not in SMALLEST:
        raise ganzoo.UserError(
            f"the table-1 generator makes square images of side {', '.join(map(str, SMALLEST))}, not {height}x{side};"
            " choose one with --set data.size=32, say"
        )
    doublings = (side // SMALLEST[side]).bit_length() - 1
    widths = [width << i for i in reversed(range(doublings))]
    layers: list[nn.Module] = []
    for depth, (before, after) in enumerate(zip([z_dim, *widths], [*widths, channels], strict=True)):
        hidden = depth < doublings or as_printed
        kernel, stride, padding = (4, 2, 1) if depth else (SMALLEST[side], 1, 0)
        bias = not hidden or norm == "none"
        layers.append(nn.ConvTranspose2d(before, after, kernel, stride, padding, bias=bias))
        if hidden and norm == "batch":
            layers.append(nn.BatchNorm2d(after))
        if hidden:
            layers.append(nn.LeakyReLU(0.2))
    layers.append(nn.Tanh())
    return _normal_weights(FromNoise(*layers), init_std, weight_norm)
