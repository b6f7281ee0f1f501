"""The DCGAN networks (Radford et al. 2016; Qi 2017, sec. 9.1): strided convolutions, no pooling, no dense layer."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ganzoo

SMALLEST = {8: 2, 16: 4, 28: 7, 32: 4, 64: 4, 128: 4}
"""Side of the image -> side of the smallest feature map; each layer between them halves or doubles."""


def _widths(image_shape: tuple[int, int, int], width: int) -> list[int]:
    """Channels of the feature maps, from the largest map to the smallest: width, 2 width, 4 width, ..."""
    _, height, side = image_shape
    if height != side or side not in SMALLEST:
        raise ganzoo.UserError(
            f"the dcgan networks take square images of side {', '.join(map(str, SMALLEST))}, not {height}x{side};"
            " choose one with --set data.size=32, say"
        )
    doublings = (side // SMALLEST[side]).bit_length() - 1
    return [width << i for i in range(doublings)]


def _normal_weights(network: nn.Module, std: float) -> nn.Module:
    """Weights from N(0, std^2), BatchNorm's scales from N(1, std^2), no biases   (Qi 2017, sec. 9.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)
    return network


def spectrally_normalised(network: nn.Module) -> nn.Module:
    """Each weight W of a convolution or a dense layer as W / sigma(W), its kernel seen as a matrix, outputs by the rest
    (Miyato et al. 2018, sec. 2.1).

    sigma is estimated by one step of the power method in each pass in training mode (their sec. 2.2, alg. 1); the
    vectors it starts from are part of the network's state.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(module)
    return network


class Convolutional(nn.Sequential):
    """`(N, z_dim)` is seen as `(N, z_dim, 1, 1)`, and `(N, 1, 1, 1)` is returned as `(N,)`."""

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None, None] if x.dim() == 2 else x
        x = super().forward(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return x.flatten(1).squeeze(1) if x.shape[2:] == (1, 1) else x


class ConvolutionalCritic(Convolutional):
    def features(self, images: Tensor) -> Tensor:
        """The last hidden activations, flat: (N, C, H, W) -> (N, d). The last layer, a convolution over the whole of
        their map, is linear in them."""
        for layer in list(self)[:-1]:
            images = layer(images)
        return images.flatten(1)


@ganzoo.generator(name="dcgan")
def dcgan_generator(
    z_dim: int,
    image_shape: tuple[int, int, int],
    width: Annotated[int, Ge(1)] = 64,
    norm: Literal["batch", "none"] = "batch",
    init_std: Annotated[float, Gt(0)] = 0.02,
) -> nn.Module:
    """G: (N, z_dim) -> (N, C, H, W) in [-1, 1], H = W in {8, 16, 28, 32, 64, 128}   (Radford 2016; Qi 2017, sec. 9.1).

    Transposed convolutions 4x4 of stride 2 with `width` channels in the last hidden layer, twice as many in each one
    before; BatchNorm and ReLU between them, tanh at the end.
    """
    channels, side, _ = image_shape
    widths = _widths(image_shape, width)[::-1]
    smallest = SMALLEST[side]
    layers: list[nn.Module] = [nn.ConvTranspose2d(z_dim, widths[0], smallest, bias=norm == "none")]
    for before, after in zip(widths, [*widths[1:], 0], strict=True):
        if norm == "batch":
            layers.append(nn.BatchNorm2d(before))
        layers.append(nn.ReLU())
        if after:
            layers.append(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none"))
    layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
    return _normal_weights(Convolutional(*layers), init_std)


@ganzoo.critic(name="dcgan")
def dcgan_critic(
    image_shape: tuple[int, int, int],
    outputs: int,
    width: Annotated[int, Ge(1)] = 64,
    norm: Literal["batch", "none"] = "none",
    spectral: bool = False,
    init_std: Annotated[float, Gt(0)] = 0.02,
) -> nn.Module:
    """L: (N, C, H, W) -> (N,), or (N, outputs), H = W in {8, 16, 28, 32, 64, 128}   (Radford 2016; Qi 2017, sec. 9.1).

    Convolutions 4x4 of stride 2 with `width` channels in the first layer, twice as many in each one after; LeakyReLU
    0.2 and, between the convolutions, BatchNorm where asked for; no sigmoid at the end. `spectral`: spectral
    normalisation of every weight (Miyato et al. 2018).
    """
    channels, side, _ = image_shape
    widths = _widths(image_shape, width)
    layers: list[nn.Module] = []
    for depth, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
        normalised = norm == "batch" and depth > 0
        layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=not normalised))
        if normalised:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.LeakyReLU(0.2))
    layers.append(nn.Conv2d(widths[-1], outputs, SMALLEST[side]))
    network = _normal_weights(ConvolutionalCritic(*layers), init_std)
    return spectrally_normalised(network) if spectral else network
