"""The same rounds, written plainly: what one would write down first in PyTorch, and nothing that makes it fast.

One tensor format, one optimizer call for each network, real and generated images one after the other through the
critic, penalties by `torch.autograd.grad(create_graph=True)`. Its FLOPs are the measure of every contender.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ganzoo_speed import networks

OBJECTIVES = ("dcgan", "wgan", "wgan-gp", "ls-gan", "gls-gan")
"""What is timed, by the names of the zoo."""

CLIP = 0.01
UNIT_GRADIENT_WEIGHT = 10.0
SMALL_GRADIENT_WEIGHT = 0.1
MARGIN_SCALE = 2.4576
SLOPE = 0.01
RATE = 2e-4
"""Of every contender, both networks: small, so that no round of a measurement has run away."""
BETAS = (0.5, 0.999)

Draw = Callable[..., Tensor]
"""Uniform in [0, 1): draw(*shape)."""


def _one_each(critic: nn.Module, images: Tensor) -> Tensor:
    return cast(Tensor, critic(images)).squeeze(1)  # (N, 1) -> (N,)


def critic_loss(objective: str, critic: nn.Module, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
    """S, a scalar; L is small on real images. The penalties are those of the zoo's defaults."""
    on_real, on_fake = _one_each(critic, real), _one_each(critic, fake)
    if objective == "dcgan":
        ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_fake)
        return F.binary_cross_entropy_with_logits(-on_real, ones) + F.binary_cross_entropy_with_logits(-on_fake, zeros)
    if objective == "wgan":
        return on_real.mean() - on_fake.mean()
    if objective == "wgan-gp":
        share = draw(len(real), 1, 1, 1)
        norm: Tensor = torch.linalg.vector_norm(_gradient(critic, share * real + (1 - share) * fake), dim=1)
        return on_real.mean() - on_fake.mean() + UNIT_GRADIENT_WEIGHT * (norm - 1).square().mean()
    margin = MARGIN_SCALE * (real - fake).abs().mean(dim=(1, 2, 3))
    violation = margin + on_real - on_fake
    costs = F.relu(violation) if objective == "ls-gan" else F.leaky_relu(violation, SLOPE)
    penalty = _gradient(critic, real).square().sum(dim=1).mean() / 2
    return costs.mean() + SMALL_GRADIENT_WEIGHT * penalty


def generator_loss(objective: str, critic: nn.Module, fake: Tensor) -> Tensor:
    """T, a scalar."""
    on_fake = _one_each(critic, fake)
    if objective == "dcgan":
        return F.binary_cross_entropy_with_logits(-on_fake, torch.ones_like(on_fake))
    return on_fake.mean()


def _gradient(critic: nn.Module, images: Tensor) -> Tensor:
    """grad_x L(x) of each image, flat, with a graph to train through: (N, C, H, W) -> (N, C*H*W)."""
    # A view, because torch's FlopCounterMode refuses the gradient of a leaf (seen in 2.15).
    images = images.detach().requires_grad_(True).view_as(images)
    return torch.autograd.grad(critic(images).sum(), images, create_graph=True)[0].flatten(1)


class PlainRound:
    """Two networks, two Adams, one batch of images: each call plays one critic step and one generator step."""

    def __init__(
        self,
        objective: str,
        real: Tensor,
        *,
        width: int,
        generator: torch.Generator | None = None,
        hold_critic: bool = False,
    ) -> None:
        """`real` is (N, 3, 32, 32) in [-1, 1], on the device that plays. With `hold_critic` the generator's step asks
        for no gradient of the critic's weights, which it would throw away."""
        self.objective, self.real, self.hold_critic = objective, real, hold_critic
        self.random = generator
        self.generator, self.critic = networks.generator(width).to(real.device), networks.critic(width).to(real.device)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), RATE, betas=BETAS)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), RATE, betas=BETAS)

    def draw(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.random, device=self.real.device)

    def fake(self) -> Tensor:
        return cast(Tensor, self.generator(2 * self.draw(len(self.real), networks.Z_DIM) - 1))

    def __call__(self) -> None:
        with torch.no_grad():
            fake = self.fake()
        self.critic_optimizer.zero_grad()
        critic_loss(self.objective, self.critic, self.real, fake, self.draw).backward()  # type: ignore[no-untyped-call]
        self.critic_optimizer.step()
        if self.objective == "wgan":
            with torch.no_grad():
                for parameter in self.critic.parameters():
                    parameter.clamp_(-CLIP, CLIP)
        if self.hold_critic:
            self.critic.requires_grad_(False)
        self.generator_optimizer.zero_grad()
        generator_loss(self.objective, self.critic, self.fake()).backward()  # type: ignore[no-untyped-call]
        self.generator_optimizer.step()
        self.critic.requires_grad_(True)


class ExamplesRound:
    """The logistic game in the manner of PyTorch's DCGAN example: BatchNorm in the critic, a probability at its end,
    one backward pass each for real and generated images, the same images for both steps, losses read each round."""

    def __init__(self, real: Tensor, *, width: int, generator: torch.Generator | None = None) -> None:
        self.real, self.random = real, generator
        self.generator = networks.generator(width).to(real.device)
        self.discriminator = nn.Sequential(networks.critic(width, batch_norm=True), nn.Sigmoid()).to(real.device)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), RATE, betas=BETAS)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), RATE, betas=BETAS)

    def __call__(self) -> tuple[float, ...]:
        count = len(self.real)
        real, none = torch.ones(count, device=self.real.device), torch.zeros(count, device=self.real.device)
        self.discriminator.zero_grad()
        on_real = self.discriminator(self.real).squeeze(1)
        loss_on_real = F.binary_cross_entropy(on_real, real)
        loss_on_real.backward()  # type: ignore[no-untyped-call]
        fake = self.generator(torch.randn(count, networks.Z_DIM, generator=self.random, device=self.real.device))
        on_fake = self.discriminator(fake.detach()).squeeze(1)
        loss_on_fake = F.binary_cross_entropy(on_fake, none)
        loss_on_fake.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        self.generator.zero_grad()
        again = self.discriminator(fake).squeeze(1)
        loss = F.binary_cross_entropy(again, real)
        loss.backward()  # type: ignore[no-untyped-call]
        self.generator_optimizer.step()
        said = (loss_on_real + loss_on_fake, loss, on_real.mean(), on_fake.mean(), again.mean())
        return tuple(value.item() for value in said)


def model_flops(objective: str, *, batch: int, width: int) -> int:
    """What one round of this objective needs: the plain round's multiplications and additions, without the gradient of
    the critic's weights in the generator's step. Convolutions alone count. Nothing is computed: only shapes flow."""
    play = PlainRound(
        objective,
        torch.empty(batch, networks.CHANNELS, networks.SIDE, networks.SIDE, device="meta"),
        width=width,
        hold_critic=True,
    )
    with FlopCounterMode(display=False) as counter:
        play()
    return int(counter.get_total_flops())
