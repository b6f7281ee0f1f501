"""Gradient penalties: one norm per sample, over all its pixels and channels, with a graph to train through.

A penalty is a function (critic, real, fake) -> scalar, and `penalized` adds it to a game: so one text of it serves the
objectives that come with it (`penalty_weight`) and all others, on which it can be laid by name (`PENALTIES`).
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.game import Critic, GameLoss, Need, Objective
from ganzoo.heads import BoundCritic

Penalty = GameLoss
"""(critic, real, fake) -> scalar, at least 0, with a graph to theta; real and fake are (N, C, H, W) in [-1, 1]."""


def input_gradient(critic: Critic, images: Tensor) -> Tensor:
    """grad_x L(x) of each sample, flat: (N, C, H, W) -> (N, C*H*W). Differentiable in theta."""
    if isinstance(critic, BoundCritic):
        return critic.gradient_in_x(images).flatten(1)
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        # The sum is exact sample by sample only where L(x_i) depends on x_i alone: Need.PER_SAMPLE.
        gradient: Tensor = torch.autograd.grad(critic(images).sum(), images, create_graph=True)[0]
    return gradient.flatten(1)


def small_gradient(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E_x ||grad_x L(x)||_2^2 on real images, pulled to 0   (Qi 2017, sec. 5.2, penalty I).

    R1 is the same   (Mescheder et al. 2018, eq. 9, with gamma for the weight).
    """
    return input_gradient(critic, real).square().sum(dim=1).mean() / 2


def fake_gradient(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E_z ||grad_x L(G(z))||_2^2 on generated images, pulled to 0   (R2: Mescheder et al. 2018, eq. 10).

    G is held fixed: no gradient flows through the images.
    """
    return input_gradient(critic, fake).square().sum(dim=1).mean() / 2


def unit_gradient(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """E (||grad L(xhat)||_2 - 1)^2, xhat uniform on the segment of each pair   (Gulrajani et al. 2017, eq. 3).

    Draws one number a pair from torch's default generator, which the harness seeds for every round.
    """
    epsilon = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = fake.detach().lerp(real, epsilon)
    norm = torch.linalg.vector_norm(input_gradient(critic, between), dim=1)  # (N,)
    excess: Tensor = norm - 1
    return excess.square().mean()


def perturbed_gradient(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """E (||grad L(x + d)||_2 - 1)^2 around real images, d ~ N(0, s^2 I)   (DRAGAN: Kodali et al. 2017, sec. 2).

    s is half the standard deviation of the batch's pixels, the scale of the authors' code; their paper leaves it open.
    Draws a number a pixel from torch's default generator, which the harness seeds for every round.
    """
    spread = real.std(correction=0) / 2
    moved = real + spread * torch.randn(real.shape, device=real.device, dtype=real.dtype)
    norm = torch.linalg.vector_norm(input_gradient(critic, moved), dim=1)  # (N,)
    excess: Tensor = norm - 1
    return excess.square().mean()


def small_theta_gradient(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E_x ||grad_theta L(x)||_2^2 on real images, one norm a sample   (Qi 2017, sec. 5.2, penalty II).

    The critic must be one of the harness (`ganzoo.heads.BoundCritic`): a bare function shows no parameters.
    """
    if not isinstance(critic, BoundCritic):
        raise UserError(
            "penalty (II) needs a critic whose parameters it can see: a ganzoo.BoundCritic of the network, not a"
            f" {type(critic).__name__}"
        )
    return critic.gradient_in_theta(real).square().sum(dim=1).mean() / 2


PENALTIES: Mapping[str, Penalty] = MappingProxyType(
    {
        "theta_penalty": small_theta_gradient,
        "r1": small_gradient,
        "r2": fake_gradient,
        "dragan": perturbed_gradient,
    }
)
"""What a plan can lay on any objective, as `hinge:r1=1`: the name's value is the weight."""


def penalized(game: Objective, penalty: Penalty, weight: float) -> Objective:
    """The game with `weight * penalty` added to its critic loss; untouched at weight 0 (weight >= 0).

    What comes back also needs `Need.PER_SAMPLE`. The penalty's own factors stay: `small_gradient` has a 1/2,
    `unit_gradient` none.
    """
    if weight == 0:
        return game

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return game.critic_loss(critic, real, fake) + weight * penalty(critic, real, fake)

    return game._replace(critic_loss=critic_loss, needs=game.needs | {Need.PER_SAMPLE})
