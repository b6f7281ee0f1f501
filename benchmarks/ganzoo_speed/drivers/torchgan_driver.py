"""torchgan's own training step, `Trainer.train_iter`, on the shared networks."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchgan import losses, models, trainer  # type: ignore[import-not-found]  # in its own environment alone

from ganzoo_speed import networks
from ganzoo_speed.drivers.answer import Setting, answer
from ganzoo_speed.plain import CLIP, UNIT_GRADIENT_WEIGHT
from ganzoo_speed.timing import Play


class Generator(models.Generator):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__(networks.Z_DIM)
        self.model = networks.generator(width)

    def forward(self, z: Tensor) -> Any:
        return self.model(z)


class Discriminator(models.Discriminator):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__(networks.CHANNELS)
        self.model = networks.critic(width)

    def forward(self, images: Tensor) -> Any:
        return self.model(images).squeeze(1)


def play(setting: Setting, objective: str) -> Play:
    games = {
        "dcgan": lambda: [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()],
        "wgan": lambda: [
            losses.WassersteinGeneratorLoss(),
            losses.WassersteinDiscriminatorLoss(clip=(-CLIP, CLIP)),
        ],
        # Its penalty is a discriminator's step of its own, on images of its own.
        "wgan-gp": lambda: [
            losses.WassersteinGeneratorLoss(),
            losses.WassersteinDiscriminatorLoss(),
            losses.WassersteinGradientPenalty(lambd=UNIT_GRADIENT_WEIGHT),
        ],
    }
    optimizer = {"name": torch.optim.Adam, "args": setting.adam}
    training = trainer.Trainer(
        {
            "generator": {"name": Generator, "args": {"width": setting.width}, "optimizer": optimizer},
            "discriminator": {"name": Discriminator, "args": {"width": setting.width}, "optimizer": optimizer},
        },
        games[objective](),
        device=torch.device(setting.device),
        sample_size=1,
    )
    # What its loop over a data loader sets before each `train_iter`.
    training.batch_size, training.real_inputs = setting.batch, setting.real()
    training._store_loss_maps()
    step: Play = training.train_iter
    return step


if __name__ == "__main__":
    answer({name: partial(play, objective=name) for name in ("dcgan", "wgan", "wgan-gp")})
