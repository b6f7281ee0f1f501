"""From a network's outputs to L: the conditional losses against their exponentials, and what of a critic is matched."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo import BoundCritic, Need, Objective, UserError, matched, matching_features
from ganzoo.bench import prepare
from ganzoo.config import Cell, Plan
from ganzoo.heads import (
    class_loss,
    class_or_none_loss,
    head_of,
    least_class_loss,
    non_negative,
    plain,
    predicted,
)
from ganzoo.party import read_data
from ganzoo.randomness import stream
from ganzoo.train import Training
from ganzoo.zoo import Zoo

N, CLASSES = 12, 5
seeds = pytest.mark.parametrize("seed", range(3))


def outputs_and_labels(seed: int, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    random = stream("test-heads", seed)
    outputs = spread * torch.randn(N, CLASSES, generator=random, dtype=torch.float64)
    return outputs, torch.randint(CLASSES, (N,), generator=random)


def by_exponentials(a: list[float], y: int) -> float:
    """-log(exp a_y / (1 + sum_k exp a_k))."""
    return -math.log(math.exp(a[y]) / (1 + sum(math.exp(b) for b in a)))


# The loss with "none of the classes"


@seeds
def test_class_or_none_loss_is_its_formula_in_plain_python(seed: int) -> None:
    outputs, labels = outputs_and_labels(seed)
    found = class_or_none_loss(outputs, labels)
    assert found.shape == (N,)
    for a, y, loss in zip(outputs.tolist(), labels.tolist(), found.tolist(), strict=True):
        assert loss == pytest.approx(by_exponentials(a, y), rel=1e-12)


@seeds
def test_least_class_loss_is_the_least_over_the_classes(seed: int) -> None:
    outputs, _ = outputs_and_labels(seed)
    of_each = torch.stack([class_or_none_loss(outputs, torch.full((N,), y)) for y in range(CLASSES)])
    torch.testing.assert_close(least_class_loss(outputs, None), of_each.amin(dim=0), rtol=1e-13, atol=1e-13)
    for a, loss in zip(outputs.tolist(), least_class_loss(outputs, None).tolist(), strict=True):
        assert loss == pytest.approx(min(by_exponentials(a, y) for y in range(CLASSES)), rel=1e-12)


@seeds
def test_the_gradient_of_class_or_none_loss_is_the_probability_minus_the_label(seed: int) -> None:
    outputs, labels = outputs_and_labels(seed)
    outputs.requires_grad_(True)
    (gradient,) = torch.autograd.grad(class_or_none_loss(outputs, labels).sum(), outputs)
    for a, y, of_a in zip(outputs.tolist(), labels.tolist(), gradient.tolist(), strict=True):
        total = 1 + sum(math.exp(b) for b in a)
        assert of_a == pytest.approx([math.exp(b) / total - (k == y) for k, b in enumerate(a)], rel=1e-10)


@seeds
def test_the_gradient_of_least_class_loss_is_that_of_the_class_found(seed: int) -> None:
    outputs, _ = outputs_and_labels(seed)
    outputs.requires_grad_(True)
    (found,) = torch.autograd.grad(least_class_loss(outputs, None).sum(), outputs)
    (expected,) = torch.autograd.grad(class_or_none_loss(outputs, outputs.argmax(dim=1)).sum(), outputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@seeds
def test_the_classes_and_none_share_a_probability_of_1(seed: int) -> None:
    outputs, _ = outputs_and_labels(seed)
    of_classes = sum((-class_or_none_loss(outputs, torch.full((N,), y))).exp() for y in range(CLASSES))
    of_none = 1 / (1 + outputs.exp().sum(dim=1))
    torch.testing.assert_close(of_classes + of_none, torch.ones(N, dtype=torch.float64), rtol=1e-13, atol=0)
    # Without room for none they sum to 1 by themselves.
    alone = sum((-class_loss(outputs, torch.full((N,), y))).exp() for y in range(CLASSES))
    torch.testing.assert_close(alone, torch.ones(N, dtype=torch.float64), rtol=1e-13, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=6), st.integers(0, 5))
def test_the_losses_of_any_outputs_are_finite_not_negative_and_those_of_the_formula(a: list[float], y: int) -> None:
    outputs, y = torch.tensor([a], requires_grad=True), y % len(a)
    for loss, expected in (
        (class_or_none_loss(outputs, torch.tensor([y])), by_exponentials(a, y)),
        (least_class_loss(outputs, None), min(by_exponentials(a, k) for k in range(len(a)))),
    ):
        assert loss.item() >= 0
        assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        (gradient,) = torch.autograd.grad(loss.sum(), outputs)
        assert gradient.isfinite().all()
        assert gradient.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("level", [80.0, -80.0, 1e4, -1e4])
def test_outputs_far_out_leave_the_losses_exact(level: float) -> None:
    """exp(80) is no float16, exp(1e4) no float64."""
    one_high = torch.tensor([[level, 0.0, 0.0]])
    least, own = least_class_loss(one_high, None), class_or_none_loss(one_high, torch.tensor([0]))
    if level > 0:
        assert least.item() == own.item() == 0.0
    else:
        assert least.item() == pytest.approx(math.log(3))
        assert own.item() == pytest.approx(math.log(3) - level, rel=1e-6)
    all_low = torch.full((1, 3), -1e4, requires_grad=True)  # none of them, almost surely
    least = least_class_loss(all_low, None)
    assert least.item() == 1e4
    (gradient,) = torch.autograd.grad(least.sum(), all_low)
    assert gradient.isfinite().all()


@seeds
def test_both_conditional_losses_find_the_class_that_is_predicted(seed: int) -> None:
    outputs, _ = outputs_and_labels(seed)
    found = predicted(nn.Identity(), outputs)
    assert found.dtype == torch.int64
    for loss in (class_loss, class_or_none_loss):
        of_each = torch.stack([loss(outputs, torch.full((N,), y)) for y in range(CLASSES)], dim=1)
        assert torch.equal(of_each.argmin(dim=1), found)
    assert len(found.unique()) > 2


@pytest.mark.parametrize(
    ("needs", "head"),
    [
        (set(), plain),
        ({Need.PER_SAMPLE, Need.FEATURES}, plain),
        ({Need.NON_NEGATIVE}, non_negative),
        ({Need.LABELS}, class_loss),
        ({Need.LABELS, Need.ALONE}, class_loss),
        ({Need.LABELS, Need.NON_NEGATIVE}, class_loss),  # at least 0 as it is
        ({Need.LABELS, Need.UNLABELED}, class_or_none_loss),
    ],
)
def test_the_head_follows_from_what_an_objective_needs(needs: set[Need], head: Callable[..., Tensor]) -> None:
    assert head_of(frozenset(needs)) is head


def test_a_bound_critic_repeats_its_labels_for_images_in_one_tensor() -> None:
    outputs, labels = outputs_and_labels(0)
    critic = BoundCritic(nn.Identity(), class_or_none_loss, labels)
    twice = critic(torch.cat([outputs, -outputs]))
    assert torch.equal(twice, torch.cat([critic(outputs), critic(-outputs)]))
    assert not torch.equal(twice[:N], BoundCritic(nn.Identity(), class_or_none_loss, labels.flip(0))(outputs))


# Feature matching


class Halved(nn.Module):
    """L(x) = <w, f(x)>, f(x) = the weighted first two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2] * self.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).sum(dim=1)


REAL = torch.tensor([[1.0, 0.0], [3.0, 4.0]], dtype=torch.float64).view(2, 2, 1, 1)
FAKE = torch.tensor([[0.0, 0.0], [2.0, 1.0]], dtype=torch.float64).view(2, 2, 1, 1)


def test_matching_features_is_the_mean_square_of_the_mean_difference() -> None:
    critic = BoundCritic(Halved(), plain)
    # Features' means: real (2, 4), fake (1, 1).
    assert matching_features(critic, REAL, FAKE).item() == pytest.approx(((2 - 1) ** 2 + (4 - 1) ** 2) / 2)
    assert matching_features(critic, REAL, REAL.flip(0)).item() == 0.0


def test_no_gradient_of_matching_features_goes_through_the_real_images() -> None:
    network = Halved()
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    matching_features(BoundCritic(network, plain), real, fake).backward()
    assert real.grad is None
    # d/dx of ((2 - m_1)^2 + (4 - m_2)^2) / 2, m_k = w_k mean x_k: -(2 - 1) 1 / 2, -(4 - 1) 2 / 2.
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad.flatten(1), torch.tensor([[-0.5, -3.0]] * 2, dtype=torch.float64))
    # In the weights only what came by the generated images: -(2 - 1) 1, -(4 - 1) 1/2.
    assert network.weight.grad is not None
    torch.testing.assert_close(network.weight.grad, torch.tensor([-1.0, -1.5], dtype=torch.float64))


@pytest.mark.parametrize("weight", [0.5, 100.0])
def test_a_matched_game_adds_weight_times_the_term_to_the_generator_s_loss(weight: float) -> None:
    game = Objective(lambda critic, real, fake: critic(real).mean(), needs=frozenset({Need.LABELS}))
    critic, both = BoundCritic(Halved(), plain), matched(game, weight)
    expected = critic(FAKE).mean() + weight * 5.0
    torch.testing.assert_close(both.generator_loss(critic, REAL, FAKE), expected)
    assert both.needs == {Need.LABELS, Need.FEATURES}
    assert both.critic_loss is game.critic_loss
    assert game.needs == {Need.LABELS}


def test_a_game_matched_with_weight_0_is_the_same_game() -> None:
    game = Objective(lambda critic, real, fake: critic(real).mean())
    assert matched(game, 0.0) is game


MakeCell = Callable[..., Cell]
MakePlan = Callable[..., Plan]
WITHOUT = """
    @ganzoo.critic
    def bare(image_shape, outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softplus(), nn.Linear(4, outputs), nn.Flatten(0))

    class OfMaps(nn.Sequential):
        def features(self, images):
            return images

    @ganzoo.critic
    def of_maps(image_shape, outputs):
        return OfMaps(nn.Flatten(), nn.Linear(64, outputs), nn.Flatten(0))
"""


@pytest.mark.parametrize("name", ["bare", "of-maps"])
def test_a_critic_without_features_cannot_be_matched(name: str, tiny: MakePlan, plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(plugin(WITHOUT))
    with pytest.raises(
        UserError,
        match=rf"dcgan:feature_matching=1.0 matches features, but critic '{name}' has no features.*\(dcgan, table-1\)",
    ) as caught:
        prepare(tiny(objectives=["dcgan:feature_matching=1.0"], critic={"name": name}), own)
    assert "\n" not in str(caught.value)
    prepare(tiny(objectives=["dcgan"], critic={"name": name}), own)


@pytest.mark.parametrize("critic", ["dcgan", "table-1"])
def test_the_features_of_our_critics_are_what_their_last_layer_sees(critic: str, one_cell: MakeCell, zoo: Zoo) -> None:
    networks = {"critic": {"name": critic, "width": 4}}
    cell = one_cell("cls-gan:feature_matching=1.0", **networks)
    training = Training(cell, zoo, read_data(cell.settings.data))
    network, x = training.players.critic.eval(), torch.rand(3, 1, 8, 8) * 2 - 1
    features = network.features(x)
    assert features.dim() == 2
    last = list(network.children())[-1]
    torch.testing.assert_close(network(x), F.linear(features, last.weight.flatten(1), last.bias))


def test_feature_matching_reaches_the_generator_of_a_training(one_cell: MakeCell, zoo: Zoo) -> None:
    """Its loss is that of the plain game and the term; its critic step is the same."""

    def first_round(objective: str) -> tuple[Training, float, float]:
        cell = one_cell(objective)
        one = Training(cell, zoo, read_data(cell.settings.data))
        played = one.play()
        return one, float(played.critic_loss), float(played.generator_loss)

    plain_one, critic_loss, generator_loss = first_round("dcgan")
    one, same, more = first_round("dcgan:feature_matching=10.0")
    assert same == critic_loss
    hand = Training(plain_one.cell, zoo, plain_one.data)
    hand.players.critic.load_state_dict(one.players.critic.state_dict())
    critic, fake = hand.players.critic, hand.players.generate(hand.noise("generator", 0), None)
    layers = list(critic)
    f_real, f_fake = (nn.Sequential(*layers[:-1])(x).flatten(1).mean(dim=0) for x in (hand.batches[0].real, fake))
    term = 10 * (f_real - f_fake).square().mean().item()
    assert more - generator_loss == pytest.approx(term, rel=1e-3)
    assert term > 1e-6
    assert not torch.equal(*(next(t.players.generator.parameters()) for t in (one, plain_one)))


def test_a_baseline_without_generator_has_nothing_to_match(tiny: MakePlan, zoo: Zoo) -> None:
    with pytest.raises(UserError, match=r"supervised:feature_matching=1.0 trains no generator, whose features could"):
        prepare(tiny(objectives=["supervised:feature_matching=1.0"], measure="accuracy"), zoo)
