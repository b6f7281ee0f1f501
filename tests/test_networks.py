"""The DCGAN networks at every size: shapes, range, layers, initial weights, and one sample apart from another."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ganzoo import UserError, Zoo
from ganzoo.randomness import seeded, stream

SIDES = [8, 16, 28, 32, 64, 128]
LAYERS = {8: 2, 16: 2, 28: 2, 32: 3, 64: 4, 128: 5}
"""Feature maps between the image and the smallest map, that one included."""
every_network = pytest.mark.parametrize(
    ("side", "channels", "norm"), [(s, c, n) for s in SIDES for c in (1, 3) for n in ("batch", "none")]
)
ZOO = Zoo.installed()
Z_DIM = 10


def generator(side: int, channels: int, norm: str = "batch", width: int = 4, **more: object) -> nn.Module:
    with seeded("generator", side, channels):
        network: nn.Module = ZOO.generator("dcgan", width=width, norm=norm, **more)(Z_DIM, (channels, side, side))
    return network


def critic(side: int, channels: int, norm: str = "none", width: int = 4, outputs: int = 1, **more: object) -> nn.Module:
    with seeded("critic", side, channels):
        network: nn.Module = ZOO.critic("dcgan", width=width, norm=norm, **more)((channels, side, side), outputs)
    return network


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=stream("test-networks", *shape)) * 2 - 1


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@every_network
def test_the_generator_makes_images_in_its_range(side: int, channels: int, norm: str) -> None:
    network = generator(side, channels, norm, init_std=1.0)  # so that tanh has something to do
    images = network(uniform(5, Z_DIM))
    assert images.shape == (5, channels, side, side)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert images.abs().max() > 0.9
    assert images.min() < 0 < images.max()


@every_network
def test_the_critic_gives_one_number_an_image(side: int, channels: int, norm: str) -> None:
    x = uniform(5, channels, side, side)
    assert critic(side, channels, norm)(x).shape == (5,)
    assert critic(side, channels, norm, outputs=10)(x).shape == (5, 10)


@pytest.mark.parametrize("side", SIDES)
def test_one_image_is_a_batch_too(side: int) -> None:
    assert critic(side, 1)(uniform(1, 1, side, side)).shape == (1,)
    assert critic(side, 1, outputs=10)(uniform(1, 1, side, side)).shape == (1, 10)
    assert generator(side, 1, "none")(uniform(1, Z_DIM)).shape == (1, 1, side, side)


@pytest.mark.parametrize("side", SIDES)
def test_the_critic_is_unbounded_on_both_sides(side: int) -> None:
    network = critic(side, 1, init_std=1.0)
    values = network(100 * uniform(64, 1, side, side))
    assert values.min() < -10
    assert values.max() > 10


@every_network
def test_there_is_no_pooling_no_dense_layer_and_no_sigmoid(side: int, channels: int, norm: str) -> None:
    allowed = {
        "generator": (nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.Tanh),
        "critic": (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU),
    }
    for kind, network in (("generator", generator(side, channels, norm)), ("critic", critic(side, channels, norm))):
        leaves = [m for m in network.modules() if not list(m.children())]
        assert leaves
        assert all(isinstance(m, allowed[kind]) for m in leaves)
    assert isinstance(leaves[-1], nn.Conv2d)
    assert {m.negative_slope for m in leaves if isinstance(m, nn.LeakyReLU)} == {0.2}


@every_network
def test_images_are_halved_and_doubled_by_4x4_convolutions_of_stride_2(side: int, channels: int, norm: str) -> None:
    g, d = convolutions(generator(side, channels, norm)), convolutions(critic(side, channels, norm))
    assert len(g) == len(d) == LAYERS[side] + 1
    for layer in [*g[1:], *d[:-1]]:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
    smallest = side >> LAYERS[side]
    for layer in (g[0], d[-1]):
        assert (layer.kernel_size, layer.stride, layer.padding) == ((smallest, smallest), (1, 1), (0, 0))


@every_network
def test_width_is_that_of_the_largest_feature_map_and_doubles_from_there(side: int, channels: int, norm: str) -> None:
    widths = [6 << i for i in range(LAYERS[side])]
    g = convolutions(generator(side, channels, norm, width=6))
    d = convolutions(critic(side, channels, norm, width=6, outputs=7))
    assert [layer.out_channels for layer in g] == [*widths[::-1], channels]
    assert [layer.out_channels for layer in d] == [*widths, 7]
    assert g[0].in_channels == Z_DIM
    assert d[0].in_channels == channels
    for one, other in [*pairwise(g), *pairwise(d)]:
        assert one.out_channels == other.in_channels


@every_network
def test_batch_norm_stands_between_convolutions_where_asked_for_only(side: int, channels: int, norm: str) -> None:
    layers = LAYERS[side]
    g, d = generator(side, channels, norm), critic(side, channels, norm)
    assert len(norms(g)) == (layers if norm == "batch" else 0)
    assert len(norms(d)) == (layers - 1 if norm == "batch" else 0)  # none on the image, none at the end
    assert not isinstance(list(d)[1], nn.BatchNorm2d)
    for network in (g, d):  # a bias that BatchNorm takes away at once is none
        for one, other in pairwise(network):
            if isinstance(one, nn.Conv2d | nn.ConvTranspose2d):
                assert (one.bias is None) == isinstance(other, nn.BatchNorm2d)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_weights_are_drawn_from_a_normal_distribution_of_that_std(side: int, std: float) -> None:
    more = {} if std == 0.02 else {"init_std": std}  # 0.02 is the default
    for network in (generator(side, 3, "batch", 16, **more), critic(side, 3, "none", 16, **more)):
        weights = torch.cat([layer.weight.flatten() for layer in convolutions(network)]).detach().double() / std
        n = len(weights)
        assert n > 2000
        assert abs(weights.mean()) < 4 / math.sqrt(n)
        assert abs(weights.std() - 1) < 4 / math.sqrt(2 * n)
        assert abs(weights.pow(4).mean() - 3) < 4 * math.sqrt(96 / n)  # a uniform one of the same std has 1.8
        for layer in convolutions(network):
            assert abs(layer.weight.std() / std - 1) < 4 / math.sqrt(2 * layer.weight.numel())
            assert layer.bias is None or not layer.bias.any()


def test_batch_norm_s_scales_are_drawn_around_1_and_its_shifts_are_0() -> None:
    for network in (generator(64, 3, "batch", 32), critic(64, 3, "batch", 32)):
        scales = torch.cat([m.weight for m in norms(network)]).detach()
        assert abs(scales.mean() - 1) < 4 * 0.02 / math.sqrt(len(scales))
        assert abs(scales.std() / 0.02 - 1) < 4 / math.sqrt(2 * len(scales))
        assert not any(m.bias.any() for m in norms(network))


@pytest.mark.parametrize("side", SIDES)
def test_without_norm_the_critic_looks_at_each_sample_alone(side: int) -> None:
    network, x = critic(side, 3).double(), uniform(6, 3, side, side).double()
    whole, others = network(x), x.flip(0).clone()
    others[2] = x[2]
    torch.testing.assert_close(network(others)[2], whole[2])
    torch.testing.assert_close(torch.cat([network(one[None]) for one in x]), whole)


@pytest.mark.parametrize("side", SIDES)
def test_with_batch_norm_a_sample_s_value_depends_on_its_batch(side: int) -> None:
    """So the test above can fail."""
    network, x = critic(side, 3, "batch").double(), uniform(6, 3, side, side).double()
    assert not torch.allclose(network(x)[:3], network(x[:3]))


@every_network
def test_a_gradient_reaches_every_weight(side: int, channels: int, norm: str) -> None:
    g, d = generator(side, channels, norm), critic(side, channels, norm)
    d(g(uniform(4, Z_DIM))).square().mean().backward()
    for network in (g, d):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if not name.endswith("bias"):
                assert parameter.grad.any(), name


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 8, 16), (3, 256, 256), (1, 1, 1), (3, 0, 0)])
def test_a_wrong_size_is_one_line_that_names_the_sizes(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    said = f"square images of side 8, 16, 28, 32, 64, 128, not {height}x{width}"
    for build in (lambda: ZOO.generator("dcgan")(Z_DIM, shape), lambda: ZOO.critic("dcgan")(shape, 1)):
        with pytest.raises(UserError, match=said) as raised:
            build()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["generator", "critic"])
def test_a_norm_that_there_is_not_is_refused_with_those_that_there_are(kind: str) -> None:
    with pytest.raises(UserError, match=rf"{kind} 'dcgan': norm = 'layer' is outside its domain .*'batch'.*'none'"):
        ZOO.find(kind, "dcgan").bind(norm="layer")


def test_the_defaults_are_those_of_the_paper() -> None:
    g, d = ZOO.find("generator", "dcgan").validate(), ZOO.find("critic", "dcgan").validate()
    assert g == {"width": 64, "norm": "batch", "init_std": 0.02}
    # Per-sample penalties and BatchNorm do not mix.
    assert d == {"width": 64, "norm": "none", "spectral": False, "init_std": 0.02}
