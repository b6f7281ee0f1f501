"""The three figures of steepness: against dense matrices, brute force and one another."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from ganzoo import UserError, Zoo
from ganzoo.lipschitz import CLASS_LOSS, Lipschitz, lipschitz, product_of_layer_norms, steepest_secant
from ganzoo.randomness import seeded, stream

ZOO = Zoo.installed()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream("lipschitz", *shape, seed), dtype=torch.float64)


def pairs(n: int = 5, shape: tuple[int, int, int] = (2, 6, 6), seed: int = 0) -> tuple[Tensor, Tensor]:
    return normal(n, *shape, seed=seed).tanh(), normal(n, *shape, seed=seed + 1).tanh()


def measured(network: nn.Module, real: Tensor, fake: Tensor, **more: object) -> Lipschitz:
    return lipschitz(lambda x: network(x).flatten(), network, real, fake, seed=0, **more)


def dense(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """The matrix of a linear layer (its bias taken away), a column an input pixel."""
    size = math.prod(shape)
    with torch.no_grad():
        columns = layer(torch.eye(size, dtype=torch.float64).view(size, *shape)) - layer(
            torch.zeros(1, *shape).double()
        )
    return columns.flatten(1).T


def exact(layer: nn.Module, shape: tuple[int, int, int]) -> float:
    return float(torch.linalg.matrix_norm(dense(layer, shape), 2))


def bound(layer: nn.Module, shape: tuple[int, int, int]) -> float:
    found = product_of_layer_norms(layer, normal(2, *shape))
    assert found is not None
    return found


def drawn(layer: nn.Module, seed: int = 0, std: float = 0.5) -> nn.Module:
    """The layer in float64, its weights and statistics of no special values."""
    layer = layer.double()
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(std * normal(*parameter.shape, seed=seed + i))
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(normal(module.num_features, seed=seed))
                module.running_var.copy_(0.2 + normal(module.num_features, seed=seed + 1).square())
    return layer.eval()


# The product of layer norms


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_convolution_s_bound_is_above_its_operator_norm_and_not_far(data: st.DataObject) -> None:
    def draw(least: int, most: int) -> int:
        return data.draw(st.integers(least, most))

    kernel, stride, padding = (draw(1, 4), draw(1, 4)), (draw(1, 3), draw(1, 3)), (draw(0, 2), draw(0, 2))
    shape = (draw(1, 3), draw(4, 8), draw(4, 8))
    layer = nn.Conv2d(shape[0], draw(1, 4), kernel, stride, padding, bias=data.draw(st.booleans()))
    drawn(layer, draw(0, 99))
    smooth = data.draw(st.booleans())
    if smooth:  # all of one sign: the bound is nearest where frequency 0 is the largest
        layer.weight.data.abs_()
    found, norm = bound(layer, shape), exact(layer, shape)
    assert norm <= found * (1 + 1e-9)
    by_offsets = float(torch.linalg.matrix_norm(layer.weight.detach().permute(2, 3, 0, 1), 2).sum())
    assert found <= by_offsets * (1 + 1e-9)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (5, 3, 2), (2, 1, 0)])
def test_a_convolution_s_bound_is_within_a_tenth_of_its_norm_on_maps_of_side_12(
    kernel: int, stride: int, padding: int
) -> None:
    layer = drawn(nn.Conv2d(2, 3, kernel, stride, padding))
    assert bound(layer, (2, 12, 12)) < 1.1 * exact(layer, (2, 12, 12))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 1), (3, 5, 5)),
        (nn.Conv2d(3, 2, 4), (3, 4, 4)),  # the last layer of DCGAN: one patch
        (nn.Conv2d(3, 2, 2, 2), (3, 6, 6)),
        (nn.Conv2d(2, 3, (2, 3), (2, 4)), (2, 6, 7)),
        (nn.Linear(7, 5), (2, 3, 7)),
        (nn.AvgPool2d(2), (3, 6, 6)),
        (nn.AdaptiveAvgPool2d(1), (3, 6, 5)),
        (nn.AdaptiveAvgPool2d((3, 2)), (3, 6, 6)),
        (nn.BatchNorm2d(3), (3, 4, 4)),
        (nn.BatchNorm2d(3, affine=False), (3, 4, 4)),
        (nn.Identity(), (2, 3, 3)),
        (nn.Flatten(), (2, 3, 3)),
    ],
    ids=str,
)
def test_where_it_can_be_the_norm_of_a_layer_is_exact(layer: nn.Module, shape: tuple[int, int, int]) -> None:
    drawn(layer)
    assert bound(layer, shape) == pytest.approx(exact(layer, shape), rel=1e-9)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=1),
        nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveAvgPool2d(9),
    ],
    ids=str,
)
def test_pooling_over_windows_that_overlap_is_bounded(layer: nn.Module) -> None:
    norm = exact(layer, (2, 7, 7))
    assert norm <= bound(layer, (2, 7, 7)) * (1 + 1e-9)
    assert bound(layer, (2, 7, 7)) < 1.4 * norm


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(-3.0), nn.LeakyReLU(2.5), nn.Tanh(), nn.Sigmoid(), nn.ELU(),
        nn.ELU(2.5), nn.ELU(0.5), nn.ELU(-3.0), nn.Softplus(), nn.Softplus(beta=3.0),
    ],
    ids=str,
)  # fmt: skip
def test_an_activation_s_norm_is_its_steepest_slope(layer: nn.Module) -> None:
    a = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    slopes = (layer(a)[1:] - layer(a)[:-1]).abs() / (a[1] - a[0])
    assert bound(layer, (1, 2, 2)) == pytest.approx(float(slopes.max()), rel=1e-3)


LAYERS = st.lists(
    st.sampled_from(
        [
            lambda c: nn.Conv2d(c, 3, 3, 1, 1),
            lambda c: nn.Conv2d(c, 2, 4, 2, 1),
            lambda c: nn.Conv2d(c, 4, 1, bias=False),
            lambda c: nn.BatchNorm2d(c),
            lambda c: nn.LeakyReLU(0.2),
            lambda c: nn.ReLU(),
            lambda c: nn.Tanh(),
            lambda c: nn.ELU(1.5),
            lambda c: nn.Softplus(),
            lambda c: nn.AvgPool2d(3, 1, 1),
            lambda c: nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.Sequential(nn.Sigmoid())),
            lambda c: parametrizations.weight_norm(nn.Conv2d(c, 3, 3, 1, 1)),
        ]
    ),
    max_size=6,
)


def chain(makers: list, seed: int, outputs: int = 1) -> nn.Module:
    """A random critic of images (2, 8, 8); convolutions of stride 2 while there is room."""
    layers, x = [], torch.zeros(1, 2, 8, 8)
    with seeded(seed):
        for make in makers:
            layer = make(x.shape[1]).eval()
            if min(x.shape[2:]) >= 4 or not (isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)):
                layers.append(layer)
                x = layer(x)
        return drawn(nn.Sequential(*layers, nn.Flatten(), nn.Linear(x.numel(), outputs)), seed)


@settings(max_examples=120, deadline=None)
@given(LAYERS, st.integers(0, 999), st.booleans())
def test_no_gradient_and_no_secant_is_steeper_than_the_product(makers: list, seed: int, near: bool) -> None:
    network = chain(makers, seed)
    real, fake = pairs(5, (2, 8, 8), seed)
    if near:
        fake = real + 0.05 * fake
    found = measured(network, real, fake)
    assert found.product is not None
    assert 0 <= found.gradient <= found.product * (1 + 1e-6)
    assert 0 <= found.secant <= found.product * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.integers(0, 999))
def test_nor_is_a_class_loss_steeper_than_its_constant_times_the_product(makers: list, seed: int) -> None:
    network = chain(makers, seed, outputs=4)
    labels = torch.tensor([0, 1, 1, 3, 0])
    real, fake = pairs(5, (2, 8, 8), seed)
    found = lipschitz(
        lambda x: F.cross_entropy(network(x), labels, reduction="none"),
        network, real, fake, seed=seed, head=CLASS_LOSS, labels=labels,
    )  # fmt: skip
    assert found.product == pytest.approx(math.sqrt(2) * product_of_layer_norms(network, real))
    assert found.gradient <= found.product * (1 + 1e-6)
    assert found.secant <= found.product * (1 + 1e-6)


@pytest.mark.parametrize("name", ["dcgan", "table-1"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_zoo_s_critics_are_known_in_float32(name: str, norm: str) -> None:
    with seeded(name):
        network = ZOO.critic(name, width=8, norm=norm, init_std=0.3)((3, 16, 16), 1).eval()
    real, fake = (images.float() for images in pairs(8, (3, 16, 16)))
    found = lipschitz(network, network, real, fake, seed=0)
    assert found.product is not None
    assert max(found.gradient, found.secant) <= found.product


def test_a_linear_critic_s_three_figures_are_the_norm_of_its_weight() -> None:
    w = normal(2, 6, 6)
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(72, 1)), nn.Sequential(nn.Conv2d(2, 1, 6))]
    real, _ = pairs()
    for network in networks:
        network.double()[-1].weight.data.copy_(w.reshape(network[-1].weight.shape))
        found = measured(network, real, real + 0.3 * w)
        assert found == pytest.approx([float(w.norm())] * 3, rel=1e-9)
        float32 = measured(network.float(), real.float(), (real + 0.3 * w).float())
        assert float32 == pytest.approx([float(w.norm())] * 3, rel=1e-3)


def test_a_network_twice_as_steep_is_so_in_all_three() -> None:
    network = drawn(nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(36, 1)))
    once = measured(network, *pairs())
    with torch.no_grad():
        network[-1].weight.mul_(2)
        network[-1].bias.mul_(2)
    assert measured(network, *pairs()) == pytest.approx([2 * figure for figure in once])


def test_the_norm_is_that_on_maps_of_the_image_s_size() -> None:
    layer = drawn(nn.Conv2d(2, 1, 4))
    for side in (4, 5, 6, 12):
        assert 1 - 1e-9 < bound(layer, (2, side, side)) / exact(layer, (2, side, side)) < 1.7
    assert bound(layer, (2, 12, 12)) > 1.5 * bound(layer, (2, 4, 4))


def test_few_large_patches_that_overlap_are_counted_as_few() -> None:
    """Four patches of a kernel of ones, whose norm is 4, overlap in 4 at most; on a torus there would be 25."""
    layer = drawn(nn.Conv2d(1, 1, 4, bias=False))
    nn.init.ones_(layer.weight)
    assert bound(layer, (1, 5, 5)) == pytest.approx(8)
    assert exact(layer, (1, 5, 5)) == pytest.approx(7)


def test_parametrized_weights_are_those_that_are_used() -> None:
    plain = drawn(nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.Flatten(), nn.Linear(108, 4)))
    before = bound(plain, (2, 6, 6))
    for layer in (plain[0], plain[2]):
        parametrizations.weight_norm(layer)
        assert is_parametrized(layer)
    assert bound(plain, (2, 6, 6)) == pytest.approx(before)
    with torch.no_grad():
        plain[2].parametrizations.weight.original0.mul_(3)
    assert bound(plain, (2, 6, 6)) == pytest.approx(3 * before)
    layer = parametrizations.spectral_norm(nn.Linear(6, 4).double(), n_power_iterations=200).eval()
    assert bound(layer, (2, 6, 6)) == pytest.approx(1, rel=1e-3)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Reshaping(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1).squeeze(1)


class Halved(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :1]


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 1, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    "network",
    [
        Residual(nn.Conv2d(2, 2, 3, 1, 1)),
        Halved(nn.Conv2d(2, 2, 3)),
        Wrapped(),
        nn.Sequential(Doubled(6, 2)),
        nn.Sequential(nn.LayerNorm(6)),
        nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(2, 2, 3),
        nn.MaxPool2d(2),
        nn.Softplus(threshold=1.0),
        nn.Softplus(beta=-1.0),
        nn.Sequential(nn.Identity(), nn.Softmax(1)),
    ],
    ids=str,
)
def test_what_it_does_not_know_has_no_bound(network: nn.Module) -> None:
    assert product_of_layer_norms(network.double().eval(), normal(2, 2, 6, 6)) is None
    found = lipschitz(lambda x: network(x).flatten(1).sum(1), network, *pairs(), seed=0)
    assert found.product is None
    assert found.gradient > 0


def test_batch_norm_has_no_bound_where_it_uses_the_batch() -> None:
    network = drawn(nn.Sequential(nn.BatchNorm2d(2)))
    assert product_of_layer_norms(network.eval(), normal(2, 2, 6, 6)) is not None
    assert product_of_layer_norms(network.train(), normal(2, 2, 6, 6)) is None


def test_a_chain_may_reshape_its_outputs() -> None:
    network = drawn(Reshaping(nn.Conv2d(2, 1, 6)))
    assert bound(network, (2, 6, 6)) == pytest.approx(exact(network[0], (2, 6, 6)))


# The sampled figures


def by_pairs(points: Tensor, values: Tensor, labels: Tensor | None = None) -> float:
    slopes = [0.0]
    for i in range(len(points)):
        for j in range(i):
            run = float((points[i] - points[j]).norm())
            if run > 1e-9 and (labels is None or labels[i] == labels[j]):
                slopes.append(abs(float(values[i] - values[j])) / run)
    return max(slopes)


def test_the_secant_is_the_steepest_of_all_pairs() -> None:
    lower = 0
    for seed in range(6):
        points, values, labels = normal(14, 2, 3, 3, seed=seed), normal(14, seed=seed), torch.arange(14) % 3
        assert steepest_secant(points, values) == pytest.approx(by_pairs(points, values))
        assert steepest_secant(points, values, labels) == pytest.approx(by_pairs(points, values, labels))
        lower += by_pairs(points, values, labels) < by_pairs(points, values)
    assert lower >= 3


def test_points_that_coincide_make_no_secant() -> None:
    points = normal(4, 2, 3, 3)
    twice, values = torch.cat([points, points + 1e-5]), torch.cat([normal(4), normal(4) + 1e-3])
    assert steepest_secant(twice, values) == pytest.approx(by_pairs(points, normal(4)), rel=1e-2)
    assert steepest_secant(points[:1].expand(3, -1, -1, -1), torch.zeros(3)) == 0
    assert steepest_secant(torch.zeros(3, 1, 2, 2), torch.zeros(3)) == 0


def test_the_gradient_is_the_largest_at_real_images_generated_ones_and_between() -> None:
    """L(x) = ||x - c||^2 / 2 has the gradient x - c: the farthest point from c tells which were looked at."""
    real, fake = pairs(6)
    points = []

    def critic_around(center: Tensor) -> Callable[[Tensor], Tensor]:
        def critic(x: Tensor) -> Tensor:
            points.append(x.detach())
            return (x - center).square().flatten(1).sum(1) / 2

        return critic

    for center in (5 * real[2], -5 * fake[3]):
        found = lipschitz(critic_around(center), nn.Identity(), real, fake, seed=1)
        seen = torch.cat([real, fake, points[-1]])
        assert found.gradient == pytest.approx(float((seen - center).flatten(1).norm(dim=1).max()))
        assert found.secant <= found.gradient
    between = points[-1]
    position = ((between - fake) / (real - fake)).flatten(1)
    assert (position - position[:, :1]).abs().max() < 1e-6  # on the segment of its pair ...
    assert position.min() >= 0
    assert position.max() <= 1
    assert position[:, 0].unique().numel() == 6  # ... each at a place of its own


@pytest.mark.parametrize("which", [0, 1])
def test_a_critic_steep_at_one_kind_of_image_only_is_found_out(which: int) -> None:
    real, fake = torch.zeros(4, 2, 3, 3), torch.ones(4, 2, 3, 3)
    images = (real, fake)[which]

    def critic(x: Tensor) -> Tensor:  # slope 1 within 0.1 of the images, then flat
        return (x - images[:1]).flatten(1).sum(1).clamp(-0.1, 0.1)

    assert lipschitz(critic, nn.Identity(), real, fake, seed=0).gradient == pytest.approx(math.sqrt(18))


def test_labels_keep_a_secant_within_its_class() -> None:
    """L(x, y) = 100 y, flat in x: no slope at all, though it jumps from class to class."""
    real, fake = pairs(4)
    labels = torch.tensor([0, 0, 1, 1])

    def critic(x: Tensor) -> Tensor:
        return 100.0 * labels + 0 * x.flatten(1).sum(1)

    assert lipschitz(critic, nn.Identity(), real, fake, seed=0, labels=labels)[:2] == (0, 0)
    assert lipschitz(critic, nn.Identity(), real, fake, seed=0).secant > 1


# The constant of the class loss


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=10), st.integers(0, 9), st.booleans())
def test_the_class_loss_is_never_steeper_than_the_root_of_2(a: list[float], label: int, none: bool) -> None:
    outputs = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    given = torch.cat([outputs, torch.zeros(1, 1)], 1) if none else outputs
    loss = F.cross_entropy(given, torch.tensor([label % len(a)]))
    (slope,) = torch.autograd.grad(loss, outputs)
    assert slope.norm() <= CLASS_LOSS + 1e-12
    (least,) = torch.autograd.grad(given.logsumexp(1) - outputs.amax(1), outputs)
    assert least.norm() <= CLASS_LOSS + 1e-12


def test_and_comes_as_near_to_it_as_one_likes() -> None:
    outputs = torch.tensor([[0.0, 30.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(outputs, torch.tensor([0])), outputs)
    assert slope.norm() == pytest.approx(CLASS_LOSS, rel=1e-9)


# An instrument leaves what it measures as it was


def state(network: nn.Module) -> list[object]:
    return [
        [(name, value.clone()) for name, value in network.state_dict().items()],
        [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in network.parameters()],
        [module.training for module in network.modules()],
    ]


def test_weights_gradients_flags_modes_and_random_numbers_stay_as_they_were() -> None:
    network = drawn(
        nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 1))
    )
    network(pairs()[0]).sum().backward()
    network[0].weight.requires_grad_(False)
    network[2].train()
    before, draws = state(network), torch.get_rng_state()
    real, fake = pairs()
    kept = real.clone(), fake.clone()
    measured(network, real, fake)
    assert repr(state(network)) == repr(before)
    assert torch.get_rng_state().equal(draws)
    assert real.equal(kept[0])
    assert fake.equal(kept[1])
    assert not real.requires_grad


def test_it_is_a_function_of_the_seed_even_for_a_critic_that_draws() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 1)).double()
    real, fake = pairs()
    one, again, other = (lipschitz(lambda x: network(x)[:, 0], network, real, fake, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one != other
    assert one.product is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_switched_off_around_it_do_not_matter(mode: type) -> None:
    network = drawn(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 1)))
    expected = measured(network, *pairs())
    with mode():
        real, fake = pairs()
        assert measured(network, real, fake) == expected


def test_where_between_depends_on_the_seed() -> None:
    """2 ||x|| - ||x||^2 / 2 has the slope 2 - ||x||, so between x and -x the point nearest to 0 is the steepest."""
    real = F.normalize(normal(1, 2, 6, 6).flatten(1)).view(1, 2, 6, 6)

    def critic(x: Tensor) -> Tensor:
        size = x.flatten(1).norm(dim=1)
        return 2 * size - size.square() / 2

    found = [lipschitz(critic, nn.Identity(), real, -real, seed=s).gradient for s in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_value_gone_wrong_shows_even_where_all_points_coincide(wrong: float) -> None:
    assert math.isnan(steepest_secant(torch.ones(3, 1, 2, 2), torch.full((3,), wrong)))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_critic_gone_wrong_is_seen_in_every_figure(wrong: float) -> None:
    network = drawn(nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(96, 1)))
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = wrong
    found = measured(network, *pairs())
    assert not any(math.isfinite(figure) for figure in found)


@pytest.mark.parametrize(
    ("real", "fake", "labels", "said"),
    [
        (normal(3, 2, 4, 4), normal(4, 2, 4, 4), None, r"real images \(3, 2, 4, 4\) and generated ones \(4, 2, 4, 4\)"),
        (normal(3, 8), normal(3, 8), None, "no pairs"),
        (normal(0, 2, 4, 4), normal(0, 2, 4, 4), None, "no pairs"),
        (normal(3, 2, 4, 4), normal(3, 2, 4, 4), torch.zeros(6), r"labels have shape \(6,\), not \(3,\), one a pair"),
    ],
)
def test_images_that_do_not_pair_up_are_said_so(real: Tensor, fake: Tensor, labels: Tensor | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        lipschitz(lambda x: x.flatten(1).sum(1), nn.Identity(), real, fake, seed=0, labels=labels)
