"""mimicry's own training steps, `train_step` of both networks, on the shared networks."""

import sys
from functools import partial
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor
from torch.utils import tensorboard  # noqa: F401 (before the stand-ins: it looks for a tensorflow)

from ganzoo_speed import networks
from ganzoo_speed.drivers.answer import Setting, answer
from ganzoo_speed.plain import UNIT_GRADIENT_WEIGHT
from ganzoo_speed.timing import Play

STAND_INS = ("tensorflow", "skimage", "torch._six")
"""Its package imports its metrics and its data sets with itself; no training step uses what they need."""
NOTE = "imported with empty stand-ins for what its metrics and data sets need (tensorflow, skimage, torch._six)"


def _on(base: Any, network: torch.nn.Module, **arguments: Any) -> Any:
    """The library's network class with the shared network inside."""

    def forward(self: Any, x: Tensor) -> Any:
        return self.network(x)

    made = type("Shared", (base,), {"forward": forward})(**arguments)
    made.network = network
    return made


def play(setting: Setting, objective: str) -> Play:
    for absent in STAND_INS:
        sys.modules[absent] = MagicMock(name=absent, __spec__=ModuleSpec(absent, None))
    from torch_mimicry.nets.gan import gan  # type: ignore[import-not-found]  # in its own environment alone
    from torch_mimicry.nets.wgan_gp import wgan_gp_base  # type: ignore[import-not-found]
    from torch_mimicry.training import metric_log  # type: ignore[import-not-found]

    bases, loss, more = (gan.BaseGenerator, gan.BaseDiscriminator), "ns", {}
    if objective == "wgan-gp":
        bases = (wgan_gp_base.WGANGPBaseGenerator, wgan_gp_base.WGANGPBaseDiscriminator)
        loss, more = "wasserstein", {"gp_scale": UNIT_GRADIENT_WEIGHT}
    generator = _on(
        bases[0],
        networks.generator(setting.width),
        nz=networks.Z_DIM,
        ngf=setting.width,
        bottom_width=4,
        loss_type=loss,
    ).to(setting.device)
    critic = _on(bases[1], networks.critic(setting.width), ndf=setting.width, loss_type=loss, **more)
    critic = critic.to(setting.device)
    generator_optimizer = torch.optim.Adam(generator.parameters(), **setting.adam)
    critic_optimizer = torch.optim.Adam(critic.parameters(), **setting.adam)
    batch = (setting.real(), torch.zeros(setting.batch, dtype=torch.long, device=setting.device))
    device = torch.device(setting.device)

    def step() -> None:
        log = metric_log.MetricLog()
        shared = {"real_batch": batch, "log_data": log, "device": device, "global_step": 0, "scaler": None}
        critic.train_step(netG=generator, optD=critic_optimizer, **shared)
        generator.train_step(netD=critic, optG=generator_optimizer, **shared)

    return step


if __name__ == "__main__":
    answer({name: partial(play, objective=name) for name in ("dcgan", "wgan-gp")}, note=NOTE)
