"""The training step in vegans' loop, on the shared networks."""

from functools import partial

import torch
from torch import nn
from vegans import GAN  # type: ignore[import-not-found]  # in its own environment alone

from ganzoo_speed import networks
from ganzoo_speed.drivers.answer import Setting, answer
from ganzoo_speed.plain import CLIP, UNIT_GRADIENT_WEIGHT
from ganzoo_speed.timing import Play

NOTE = "fit() needs an older torch (its data loader's next()): the four calls of its loop, made by the driver"
GAMES: dict[str, tuple[str, dict[str, float]]] = {
    "dcgan": ("VanillaGAN", {}),
    "wgan": ("WassersteinGAN", {"clip_val": CLIP}),
    "wgan-gp": ("WassersteinGANGP", {"lmbda_grad": UNIT_GRADIENT_WEIGHT}),
}


def play(setting: Setting, objective: str) -> Play:
    game, arguments = GAMES[objective]
    critic = networks.critic(setting.width)
    model = getattr(GAN, game)(
        generator=networks.generator(setting.width),
        adversary=nn.Sequential(*critic, nn.Sigmoid()) if objective == "dcgan" else critic,
        x_dim=(networks.CHANNELS, networks.SIDE, networks.SIDE),
        z_dim=networks.Z_DIM,
        optim=torch.optim.Adam,
        optim_kwargs={"Generator": setting.adam, "Adversary": setting.adam},
        device=setting.device,
        folder=None,
        secure=False,  # its look at the shapes before the first step
        **arguments,
    )
    model.train()
    real = setting.real()

    def step() -> None:
        z = model.sample(n=len(real))
        for name in model.neural_nets:
            model._losses = model.calculate_losses(X_batch=real, Z_batch=z, who=name)
            model._zero_grad(who=name)
            model._backward(who=name)
            model._step(who=name)

    return step


if __name__ == "__main__":
    answer({name: partial(play, objective=name) for name in GAMES}, note=NOTE)
