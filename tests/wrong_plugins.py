"""Plugins that are wrong on purpose, each in one way that a person would be wrong in.

`WRONG` names, for each of them, the check that should refuse it.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

import ganzoo
from ganzoo import Cost, Critic, Margin, Need, Objective, penalized

WRONG = {}


def refused_by(check_id):
    def note(function):
        WRONG[function] = check_id
        return function

    return note


# Costs


@refused_by("cost-1")
@ganzoo.cost
def elu_by_exp(a: Tensor, alpha: Annotated[float, Ge(0), Le(1)] = 1.0) -> Tensor:
    return torch.where(a >= 0, a, alpha * (a.clamp(max=0).exp() - 1))


@refused_by("cost-1")
@ganzoo.cost
def leaky_of_slope_2(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, 2 * a)


@refused_by("cost-1")
@ganzoo.cost
def leaky_of_too_wide_a_domain(a: Tensor, slope: Annotated[float, Le(3)] = 0.01) -> Tensor:
    return torch.where(a >= 0, a, slope * a)


@refused_by("cost-2")
@ganzoo.cost
def wrong_from_3_to_3_3(a: Tensor) -> Tensor:
    return torch.where((a > 3) & (a < 3.3), a + 0.01, a.relu())


@refused_by("cost-2")
@ganzoo.cost
def softplus_cost(a: Tensor) -> Tensor:
    return softplus(a)


@refused_by("cost-2")
@ganzoo.cost
def one_at_zero(a: Tensor) -> Tensor:
    return torch.where(a > 0, a, 1 - a)


@refused_by("cost-3")
@ganzoo.cost
def through_float32(a: Tensor) -> Tensor:
    return a.float().relu().to(a.dtype)


@refused_by("cost-4")
@ganzoo.cost
def clipped_in_half(a: Tensor) -> Tensor:
    return a.relu().clamp(max=1e3) if a.dtype == torch.float16 else a.relu()


@refused_by("cost-5")
@ganzoo.cost
def nan_far_below(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, 0 * (-a).exp())


@refused_by("cost-6")
@ganzoo.cost
def minus_the_mean(a: Tensor) -> Tensor:
    return a.relu() + (a.mean() - a).relu() * (a < 0)


@refused_by("cost-6")
@ganzoo.cost
def scaled_by_the_batch(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, -a / a.abs().max())


@refused_by("cost-7")
@ganzoo.cost
def averaged(a: Tensor) -> Tensor:
    return a.relu().mean()


@refused_by("cost-7")
@ganzoo.cost
def upcast(a: Tensor) -> Tensor:
    return a.double().relu()


@refused_by("cost-8")
@ganzoo.cost
def in_place(a: Tensor) -> Tensor:
    return a.relu_()


@refused_by("cost-9")
@ganzoo.cost
def noisy(a: Tensor) -> Tensor:
    return a.relu() + torch.rand_like(a) * (a < 0)


@refused_by("cost-10")
@ganzoo.cost
def detached(a: Tensor) -> Tensor:
    return a.detach().relu()


@refused_by("cost-10")
@ganzoo.cost
def nan_gradient(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, torch.exp(a) - 1 - a)  # the branch not taken overflows


@refused_by("cost-2")
@ganzoo.cost
def whole_numbers(a: Tensor) -> Tensor:
    return a.int().to(a.dtype).relu()


@refused_by("cost-11")
@ganzoo.cost
def branching(a: Tensor) -> Tensor:
    return a.clone() if a.min() >= 0 else a.relu()


@refused_by("cost-12")
@ganzoo.cost
def printing(a: Tensor) -> Tensor:
    print("violation", a.shape)
    return a.relu()


# Margins


@refused_by("margin-1")
@ganzoo.margin
def a_column(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).abs().flatten(1).mean(dim=1, keepdim=True)


@refused_by("margin-1")
@ganzoo.margin
def one_for_the_batch(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).abs().sum()


@refused_by("margin-2")
@ganzoo.margin
def signed(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).flatten(1).mean(dim=1)


@refused_by("margin-3")
@ganzoo.margin
def smoothed(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - fake).square() + 1e-6).sqrt().flatten(1).mean(dim=1)


@refused_by("margin-4")
@ganzoo.margin
def relative_to_the_batch(real: Tensor, fake: Tensor) -> Tensor:
    distance = (real - fake).abs().flatten(1).mean(dim=1)
    return distance.square() / (distance.mean() + 1e-12)


@refused_by("margin-5")
@ganzoo.margin
def in_double(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).double().abs().flatten(1).mean(dim=1)


@refused_by("margin-7")
@ganzoo.margin
def random_crop(real: Tensor, fake: Tensor) -> Tensor:
    column = torch.randint(real.shape[-1], (1,), device=real.device)
    return (real - fake).abs().index_select(3, column).flatten(1).mean(dim=1)


@refused_by("margin-8")
@ganzoo.margin
def subtracting_in_place(real: Tensor, fake: Tensor) -> Tensor:
    return real.sub_(fake).abs().flatten(1).mean(dim=1)


@refused_by("margin-11")
@ganzoo.margin
def one_sided(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).flatten(1).relu().mean(dim=1)


@refused_by("margin-12")
@ganzoo.margin
def cancelling(real: Tensor, fake: Tensor) -> Tensor:
    return (real - fake).flatten(1).sum(dim=1).abs()


# Objectives


def game(critic_loss, **others):
    return Objective(critic_loss, **others)


@refused_by("objective-1")
@ganzoo.objective
def not_reduced(cost: Cost, margin: Margin) -> Objective:
    return game(lambda critic, real, fake: cost(margin(real, fake) + critic(real) - critic(fake)))


@refused_by("objective-1")
@ganzoo.objective
def sample_variance(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        a = margin(real, fake) + critic(real) - critic(fake)
        return a.mean() + (a - a.mean()).square().sum() / (len(a) - 1)  # NaN for one pair

    return game(critic_loss)


@refused_by("objective-2")
@ganzoo.objective
def without_graph(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        with torch.no_grad():
            return (margin(real, fake) + critic(real) - critic(fake)).relu().mean()

    return game(critic_loss)


@refused_by("objective-3")
@ganzoo.objective
def generator_detached() -> Objective:
    return game(
        lambda critic, real, fake: (critic(real) - critic(fake)).mean(),
        generator_loss=lambda critic, real, fake: critic(fake.detach()).mean(),
    )


@refused_by("objective-3")
@ganzoo.objective
def generator_of_real_images() -> Objective:
    return game(
        lambda critic, real, fake: (critic(real) - critic(fake)).mean(),
        generator_loss=lambda critic, real, fake: critic(real).mean(),
    )


@refused_by("objective-3")
@ganzoo.objective
def generator_of_the_worst() -> Objective:
    return game(
        lambda critic, real, fake: (critic(real) - critic(fake)).mean(),
        generator_loss=lambda critic, real, fake: critic(fake)[0],
    )


@refused_by("objective-4")
@ganzoo.objective
def stepping_itself() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = (critic(real) - critic(fake)).mean()
        loss.backward(retain_graph=True)
        return loss

    return game(critic_loss)


@refused_by("objective-5")
@ganzoo.objective
def sign_flipped(cost: Cost, margin: Margin) -> Objective:
    return game(lambda critic, real, fake: cost(margin(real, fake) + critic(fake) - critic(real)).mean())


@refused_by("objective-5")
@ganzoo.objective
def generator_sign_flipped() -> Objective:
    return game(
        lambda critic, real, fake: (critic(real) - critic(fake)).mean(),
        generator_loss=lambda critic, real, fake: -critic(fake).mean(),
    )


@refused_by("objective-5")
@ganzoo.objective
def real_forgotten(margin: Margin) -> Objective:
    return game(lambda critic, real, fake: (margin(real, fake) - critic(fake)).relu().mean())


@refused_by("objective-6")
@ganzoo.objective
def first_pair_only(margin: Margin) -> Objective:
    return game(lambda critic, real, fake: (margin(real, fake) + critic(real) - critic(fake))[0])


@refused_by("objective-7")
@ganzoo.objective
def summed(cost: Cost, margin: Margin) -> Objective:
    return game(lambda critic, real, fake: cost(margin(real, fake) + critic(real) - critic(fake)).sum())


def gradient_of(critic: Critic, real: Tensor) -> Tensor:
    x = real.detach().requires_grad_(True)
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]


@refused_by("objective-7")
@ganzoo.objective
def norm_over_the_batch() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (gradient_of(critic, real).norm() - 1).square()

    return penalized(game(lambda critic, real, fake: (critic(real) - critic(fake)).mean()), penalty, 10.0)


@refused_by("objective-16")
@ganzoo.objective
def norm_over_channels() -> Objective:
    def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (gradient_of(critic, real).norm(dim=1) - 1).square().mean()

    return penalized(game(lambda critic, real, fake: (critic(real) - critic(fake)).mean()), penalty, 10.0)


@refused_by("objective-8")
@ganzoo.objective
def column_against_row(cost: Cost, margin: Margin) -> Objective:
    return game(lambda critic, real, fake: cost(margin(real, fake)[:, None] + critic(real) - critic(fake)).mean())


@refused_by("objective-9")
@ganzoo.objective
def nan_repaired() -> Objective:
    def constrain(critic: nn.Module) -> None:
        with torch.no_grad():
            for p in critic.parameters():
                p.copy_(p.nan_to_num().clamp(-0.01, 0.01))

    return game(lambda critic, real, fake: (critic(real) - critic(fake)).mean(), constrain=constrain)


@refused_by("objective-9")
@ganzoo.objective
def clipped_to_half() -> Objective:
    def constrain(critic: nn.Module) -> None:
        for p in critic.parameters():
            p.data = p.data.half().clamp(-0.01, 0.01)

    return game(lambda critic, real, fake: (critic(real) - critic(fake)).mean(), constrain=constrain)


@refused_by("objective-10")
@ganzoo.objective
def penalty_undeclared(weight: Annotated[float, Gt(0)] = 1.0) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        penalty = gradient_of(critic, real).flatten(1).square().sum(dim=1).mean()
        return (critic(real) - critic(fake)).mean() + weight * penalty

    return game(critic_loss)


@refused_by("objective-11")
@ganzoo.objective
def first_term_unbounded(margin: Margin) -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return critic(real).mean() + (margin(real, fake) + critic(real) - critic(fake)).relu().mean()

    return game(critic_loss, needs=frozenset({Need.PER_SAMPLE}))


@refused_by("objective-12")
@ganzoo.objective
def counting_its_calls() -> Objective:
    calls = []

    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        calls.append(1)
        return (critic(real) - critic(fake)).mean() * (1 + 1 / len(calls))

    return game(critic_loss)


@refused_by("objective-13")
@ganzoo.objective
def reading_a_value() -> Objective:
    def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = (critic(real) - critic(fake)).mean()
        return loss if loss.item() > -100 else loss * 0.5

    return game(critic_loss)


@refused_by("objective-15")
@ganzoo.objective
def hinge_of_the_mean(margin: Margin) -> Objective:
    return game(lambda critic, real, fake: (margin(real, fake) + critic(real) - critic(fake)).mean().relu())


@refused_by("objective-5")
@ganzoo.objective
def logistic_of_d_on_real() -> Objective:
    """The sign of another library: D = sigmoid(L)."""
    return game(lambda critic, real, fake: -(logsigmoid(critic(real)) + logsigmoid(-critic(fake))).mean())


# Semi-supervised objectives


SEMI = frozenset({Need.LABELS, Need.UNLABELED})


def hinge(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return (critic(real) - critic(fake) + 1).relu().mean()


def semi(unlabeled_loss, needs=SEMI, critic_loss=hinge):
    return Objective(critic_loss, unlabeled_loss=unlabeled_loss, needs=needs)


@refused_by("objective-1")
@ganzoo.objective
def unlabeled_not_reduced(margin: Margin) -> Objective:
    return semi(lambda critic, real, fake: (margin(real, fake) + critic(real) - critic(fake)).relu())


@refused_by("objective-2")
@ganzoo.objective
def unlabeled_detached() -> Objective:
    return semi(lambda critic, real, fake: hinge(lambda x: critic(x).detach(), real, fake))


@refused_by("objective-4")
@ganzoo.objective
def unlabeled_in_place() -> Objective:
    return semi(lambda critic, real, fake: hinge(critic, real.clamp_(-0.5, 0.5), fake))


@refused_by("objective-5")
@ganzoo.objective
def unlabeled_sign_flipped(margin: Margin) -> Objective:
    return semi(lambda critic, real, fake: (margin(real, fake) + critic(fake) - critic(real)).relu().mean())


@refused_by("objective-5")
@ganzoo.objective
def unlabeled_without_fakes() -> Objective:
    return semi(lambda critic, real, fake: critic(real).mean())


@refused_by("objective-7")
@ganzoo.objective
def unlabeled_summed() -> Objective:
    return semi(lambda critic, real, fake: (critic(real) - critic(fake) + 1).relu().sum())


@refused_by("objective-8")
@ganzoo.objective
def unlabeled_column_against_row(margin: Margin) -> Objective:
    return semi(lambda critic, real, fake: (margin(real, fake)[:, None] + critic(real) - critic(fake)).relu().mean())


@refused_by("objective-10")
@ganzoo.objective
def unlabeled_undeclared() -> Objective:
    return semi(hinge, needs=frozenset({Need.LABELS}))


@refused_by("objective-10")
@ganzoo.objective
def unlabeled_declared_and_absent() -> Objective:
    return semi(None)


@refused_by("objective-10")
@ganzoo.objective
def unlabeled_without_labels() -> Objective:
    return semi(hinge, needs=frozenset({Need.UNLABELED, Need.PER_SAMPLE}))


@refused_by("objective-10")
@ganzoo.objective
def unlabeled_penalty_undeclared() -> Objective:
    def unlabeled_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return hinge(critic, real, fake) + gradient_of(critic, real).flatten(1).square().sum(dim=1).mean()

    return semi(unlabeled_loss)


@refused_by("objective-10")
@ganzoo.objective
def alone_beside_generated_images() -> Objective:
    return Objective(hinge, needs=frozenset({Need.LABELS, Need.ALONE}))


@refused_by("objective-6")
@ganzoo.objective
def alone_of_the_first_image() -> Objective:
    return Objective(lambda critic, real, fake: critic(real)[0], needs=frozenset({Need.LABELS, Need.ALONE}))


@refused_by("objective-12")
@ganzoo.objective
def unlabeled_counting_its_calls() -> Objective:
    calls = []

    def unlabeled_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        calls.append(1)
        return hinge(critic, real, fake) * (1 + 1 / len(calls))

    return semi(unlabeled_loss)


@refused_by("objective-13")
@ganzoo.objective
def unlabeled_reading_a_value() -> Objective:
    def unlabeled_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        loss = hinge(critic, real, fake)
        return loss if loss.item() < 100 else loss * 0.5

    return semi(unlabeled_loss)


@refused_by("objective-14")
@ganzoo.objective
def unlabeled_printing() -> Objective:
    def unlabeled_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        print("unlabelled", len(real))
        return hinge(critic, real, fake)

    return semi(unlabeled_loss)


@refused_by("objective-15")
@ganzoo.objective
def unlabeled_hinge_of_the_mean() -> Objective:
    return semi(lambda critic, real, fake: (critic(real) - critic(fake)).mean().relu())


# Generators and critics, of 1x8x8 images and of any others


class Painter(nn.Module):
    def __init__(self, z_dim, image_shape, last=torch.tanh):
        super().__init__()
        self.shape, self.last = image_shape, last
        self.linear = nn.Linear(z_dim, image_shape[0] * image_shape[1] * image_shape[2])

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.linear(z)).view(-1, *self.shape)


@refused_by("generator-1")
@ganzoo.generator
def flat_images(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(Painter(z_dim, image_shape), nn.Flatten())


class Both(nn.Module):
    """What the module makes, and what it was given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.module(given), given


@refused_by("generator-1")
@ganzoo.generator
def images_and_codes(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Both(Painter(z_dim, image_shape))


@refused_by("critic-1")
@ganzoo.critic
def losses_and_images(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Both(Judge(image_shape, outputs))


@refused_by("generator-2")
@ganzoo.generator
def idle_layer(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    painter = Painter(z_dim, image_shape)
    painter.skip = nn.Linear(z_dim, 3)
    return painter


@refused_by("generator-3")
@ganzoo.generator
def seeding_the_world(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    torch.manual_seed(0)
    return Painter(z_dim, image_shape)


@refused_by("generator-4")
@ganzoo.generator
def noise_in_eval_mode(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Painter(z_dim, image_shape, last=lambda x: torch.tanh(x + torch.randn_like(x)))


@refused_by("generator-6")
@ganzoo.generator
def without_tanh(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Painter(z_dim, image_shape, last=lambda x: 0.01 * x)


@refused_by("generator-7")
@ganzoo.generator
def deaf_to_z(z_dim: int, image_shape: tuple[int, int, int]) -> nn.Module:
    painter = Painter(z_dim, image_shape)
    painter.register_forward_pre_hook(lambda module, given: (0 * given[0],))
    return painter


class Judge(nn.Module):
    def __init__(self, image_shape, outputs, last=lambda y: y):
        super().__init__()
        self.last = last
        self.first = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 8)
        self.second = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.second(softplus(self.first(x.flatten(1)))))
        return y.squeeze(1) if y.shape[1] == 1 else y


@refused_by("critic-1")
@ganzoo.critic
def judging_in_a_column(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return nn.Sequential(Judge(image_shape, outputs), nn.Unflatten(0, (-1, 1)))


@refused_by("critic-1")
@ganzoo.critic
def deaf_to_outputs(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Judge(image_shape, 1)


@refused_by("critic-6")
@ganzoo.critic
def hidden_batch_statistics(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Judge(image_shape, outputs, last=lambda y: y - y.mean(dim=0) * 0.5)


@refused_by("critic-7")
@ganzoo.critic
def with_a_sigmoid(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    return Judge(image_shape, outputs, last=torch.sigmoid)


@refused_by("critic-8")
@ganzoo.critic
def not_differentiable_in_x(image_shape: tuple[int, int, int], outputs: int) -> nn.Module:
    judge = Judge(image_shape, outputs)
    judge.register_forward_pre_hook(lambda module, given: (given[0].round() + 0 * given[0],))
    return judge
