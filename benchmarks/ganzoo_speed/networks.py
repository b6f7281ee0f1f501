"""The DCGAN networks of 32x32 images in torch alone: the same layers, one after another, for every contender."""

from torch import nn

SIDE = 32
Z_DIM = 100
CHANNELS = 3


def generator(width: int) -> nn.Sequential:
    """G: (N, 100) -> (N, 3, 32, 32) in [-1, 1]   (Radford et al. 2016)."""
    return _initialised(
        nn.Sequential(
            nn.Unflatten(1, (Z_DIM, 1, 1)),
            nn.ConvTranspose2d(Z_DIM, 4 * width, 4, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, CHANNELS, 4, 2, 1),
            nn.Tanh(),
        )
    )


def critic(width: int, *, batch_norm: bool = False) -> nn.Sequential:
    """L: (N, 3, 32, 32) -> (N, 1); with BatchNorm in its middle layers where asked for   (Radford et al. 2016)."""
    layers: list[nn.Module] = [nn.Conv2d(CHANNELS, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for channels in (width, 2 * width):
        layers.append(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(2 * channels))
        layers.append(nn.LeakyReLU(0.2))
    return _initialised(nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4), nn.Flatten()))


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
    return network
