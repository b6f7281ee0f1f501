"""Plain partners for an objective on trial: a cost, a margin, critics and a generator, small and exactly known."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.game import Critic, Margin, Need, Objective
from ganzoo.heads import BoundCritic, head_of, plain
from ganzoo.randomness import seeded, stream
from ganzoo.zoo import Entry

IMAGE = (2, 3, 4)
"""(C, H, W), all different: a norm over the wrong axes shows."""
CLASSES = 3
Z_DIM = 5


def cost(a: Tensor) -> Tensor:
    """C(a) = max(a, a / 2), strictly increasing: every pair counts."""
    return torch.where(a >= 0, a, a / 2)


def margin(real: Tensor, fake: Tensor) -> Tensor:
    """Delta = mean |x - x'|, (N,)."""
    return (real - fake).abs().flatten(1).mean(dim=1)


def networks(
    name: str, layer: str | None = None, weights: str | None = None, size: int | None = None
) -> Callable[[Tensor], Tensor]:
    """Whatever is asked for, four fixed feature maps in the images' own dtype: (N, C, H, W) -> (N, 4, H, W)."""

    def maps(images: Tensor) -> Tensor:
        kernel = torch.randn(4, images.shape[1], 3, 3, generator=stream("features"), dtype=torch.float64)
        return F.conv2d(images, kernel.to(images), padding=1).relu()

    return maps


def partner(margin: Entry, **settings: Any) -> Margin:
    """The margin, bound, with these networks where it takes any: (N, C, H, W), (N, C, H, W) -> (N,)."""
    return partial(margin.bind(**settings), networks=networks)


def generator(*names: str | int) -> nn.Sequential:
    """(N, Z_DIM) -> (N, *IMAGE) in [-1, 1], smooth, float64."""
    with seeded(*names):
        return nn.Sequential(
            nn.Linear(Z_DIM, 8), nn.Tanh(), nn.Linear(8, 24), nn.Tanh(), nn.Unflatten(1, IMAGE)
        ).double()


class Smooth(nn.Sequential):
    """A critic with features: what its last layer sees."""

    def features(self, images: Tensor) -> Tensor:
        for layer in list(self)[:-1]:
            images = layer(images)
        return images


def critic(*names: str | int, outputs: int = 1) -> Smooth:
    """(N, *IMAGE) -> (N, outputs), smooth, float64, no norm. Without a last bias, on which WGAN has no gradient."""
    with seeded(*names):
        return Smooth(nn.Flatten(), nn.Linear(24, 8), nn.Softplus(), nn.Linear(8, outputs, bias=False)).double()


def played(network: nn.Module, game: Objective) -> Critic:
    """The network as the harness hands it to this game: (N, *IMAGE) -> (N,), under labels that go round."""
    head = head_of(game.needs)
    if Need.LABELS in game.needs:
        return BoundCritic(network, lambda x, _: head(x, torch.arange(len(x), device=x.device) % CLASSES))
    return BoundCritic(network, lambda x, _: head(x[:, 0], None))


class Fixed(nn.Module):
    """A function of images as a network without parameters."""

    def __init__(self, function: Critic) -> None:
        super().__init__()
        self.forward = function

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def outputs(game: Objective) -> int:
    return CLASSES if Need.LABELS in game.needs else 1


def linear_critic(weight: Tensor) -> Critic:
    """L(x) = <weight, x> + 5: its input gradient is `weight` everywhere, so a penalty's random points do not matter."""
    return BoundCritic(Fixed(lambda x: (x * weight).flatten(1).sum(dim=1) + 5), plain)


def marked(count: int) -> tuple[Tensor, Tensor]:
    """Images whose first pixel names them: real i carries (i + 1) / (count + 1), fake i the negative of it."""
    mark = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    real = torch.zeros(count, *IMAGE, dtype=torch.float64)
    real[:, 0, 0, 0] = mark
    return real, -real


def table_critic(on_real: Tensor, on_fake: Tensor) -> Critic:
    """L of marked images, read from two tables (N,), (N,); flat in the image, so every penalty is constant."""
    table, count = torch.cat([on_fake.flip(0), on_real.new_zeros(1), on_real]), len(on_real)

    def table_of(x: Tensor) -> Tensor:
        place = (x.detach()[:, 0, 0, 0] * (count + 1)).round().long() + count
        return table[place] + 0 * x.flatten(1).sum(dim=1)

    return BoundCritic(Fixed(table_of), plain)
