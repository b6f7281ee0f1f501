"""Plain partners for an objective on trial: a cost, a margin, critics and a generator, small and exactly known."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganzoo.game import Critic, Need, Objective, class_loss
from ganzoo.randomness import seeded

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


def generator(*names: str | int) -> nn.Sequential:
    """(N, Z_DIM) -> (N, *IMAGE) in [-1, 1], smooth, float64."""
    with seeded(*names):
        return nn.Sequential(
            nn.Linear(Z_DIM, 8), nn.Tanh(), nn.Linear(8, 24), nn.Tanh(), nn.Unflatten(1, IMAGE)
        ).double()


def critic(*names: str | int, outputs: int = 1) -> nn.Sequential:
    """(N, *IMAGE) -> (N, outputs), smooth, float64, no norm. Without a last bias, on which WGAN has no gradient."""
    with seeded(*names):
        return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Softplus(), nn.Linear(8, outputs, bias=False)).double()


def played(network: nn.Module, game: Objective) -> Critic:
    """The network as the harness hands it to this game: (N, *IMAGE) -> (N,)."""

    def labelled(x: Tensor) -> Tensor:
        loss: Tensor = class_loss(network(x), torch.arange(len(x), device=x.device) % CLASSES)
        return loss

    def single(x: Tensor) -> Tensor:
        output: Tensor = network(x)[:, 0]
        return softplus(output) if Need.NON_NEGATIVE in game.needs else output

    return labelled if Need.LABELS in game.needs else single


def outputs(game: Objective) -> int:
    return CLASSES if Need.LABELS in game.needs else 1


def linear_critic(weight: Tensor) -> Critic:
    """L(x) = <weight, x> + 5: its input gradient is `weight` everywhere, so a penalty's random points do not matter."""
    return lambda x: (x * weight).flatten(1).sum(dim=1) + 5


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

    return table_of
