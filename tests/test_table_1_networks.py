"""The networks of Qi 2017, table 1, read from the built modules; and the features that a critic offers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from ganzoo import UserError, Zoo
from ganzoo.checks import run_checks
from ganzoo.lipschitz import product_of_layer_norms
from ganzoo.paper import Options
from ganzoo.randomness import seeded, stream
from ganzoo_paper import table_1

ZOO = Zoo.installed()
SIDES = [8, 16, 28, 32, 64]
Z_DIM = 10

# kernel, stride, outputs, BatchNorm, what follows
LEAKY = (nn.LeakyReLU, 0.2)
CRITIC = [
    (3, 1, 96, True, LEAKY),
    (3, 1, 96, True, LEAKY),
    (4, 2, 96, True, LEAKY),
    (3, 1, 192, True, LEAKY),
    (3, 1, 192, True, LEAKY),
    (4, 2, 192, True, LEAKY),
    (3, 1, 192, True, LEAKY),
    (3, 1, 192, True, LEAKY),
    (1, 1, 192, True, LEAKY),
]
GENERATOR = [
    (4, 1, 512, True, LEAKY),
    (4, 2, 256, True, LEAKY),
    (4, 2, 128, True, LEAKY),
    (4, 2, 3, False, (nn.Tanh, None)),
]
AS_PRINTED = [*GENERATOR[:3], (4, 2, 3, True, LEAKY)]
WIDTHS = {8: [128], 16: [256, 128], 28: [256, 128], 32: [512, 256, 128], 64: [1024, 512, 256, 128]}


def generator(side: int = 16, channels: int = 3, width: int = 8, **more: object) -> Any:
    with seeded("generator"):
        return ZOO.generator("table-1", width=width, **more)(Z_DIM, (channels, side, side))


def critic(side: int = 16, channels: int = 3, width: int = 8, outputs: int = 1, **more: object) -> Any:
    with seeded("critic"):
        return ZOO.critic("table-1", width=width, **more)((channels, side, side), outputs)


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=stream("table 1", *shape)) * 2 - 1


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def layers(network: nn.Sequential) -> list[tuple[int, int, int, bool, tuple[type, float | None]]]:
    """What the built modules are, a row a convolution, up to the first activation after it."""
    rows = []
    modules = list(network)
    for i, module in enumerate(modules):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            ((kernel, tall), (stride, down)) = module.kernel_size, module.stride
            assert (kernel, stride) == (tall, down)
            normed = isinstance(modules[i + 1], nn.BatchNorm2d)
            assert not normed or modules[i + 1].num_features == module.out_channels
            after = modules[i + 1 + normed]
            rows.append(
                (kernel, stride, module.out_channels, normed, (type(after), getattr(after, "negative_slope", None)))
            )
    return rows


def maps(network: nn.Sequential, x: Tensor) -> list[tuple[int, ...]]:
    """(C, H, W) after each convolution."""
    found: list[tuple[int, ...]] = []
    for module in convolutions(network):
        module.register_forward_hook(lambda module, given, made: found.append(tuple(made.shape[1:])))
    network(x)
    return found


def test_the_critic_is_the_table_s() -> None:
    network = critic(32, width=96, outputs=10)
    assert layers(network) == CRITIC
    assert convolutions(network)[0].in_channels == 3
    sides = [32, 32, 16, 16, 16, 8, 8, 8, 8]
    outputs = [row[2] for row in CRITIC]
    assert maps(network, uniform(2, 3, 32, 32)) == [(o, side, side) for o, side in zip(outputs, sides, strict=True)]
    pool, flatten, last = list(network)[-3:]
    assert isinstance(pool, nn.AdaptiveAvgPool2d)
    assert pool.output_size == 1
    assert isinstance(flatten, nn.Flatten)
    assert isinstance(last, nn.Linear)
    assert (last.in_features, last.out_features) == (192, 10)
    assert len(list(network)) == 3 * 9 + 3  # and nothing else
    assert network(uniform(2, 3, 32, 32)).shape == (2, 10)


def test_the_generator_is_the_table_s() -> None:
    network = ZOO.generator("table-1")(100 + 10, (3, 32, 32))
    assert layers(network) == GENERATOR
    assert convolutions(network)[0].in_channels == 110
    assert maps(network, uniform(2, 110)) == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    assert len(list(network)) == 3 * 3 + 2
    assert all(isinstance(module, nn.ConvTranspose2d) for module in convolutions(network))
    assert network(uniform(2, 110)).shape == (2, 3, 32, 32)


def test_as_printed_the_image_layer_has_batch_norm_and_leaky_relu_too() -> None:
    network = generator(32, width=128, as_printed=True)
    assert layers(network) == AS_PRINTED
    assert isinstance(network[-1], nn.Tanh)
    assert layers(generator(32, width=128, as_printed=True, norm="none"))[-1] == (4, 2, 3, False, LEAKY)


@pytest.mark.parametrize("side", SIDES)
def test_the_generator_s_maps_double_from_4_or_from_7_to_the_image(side: int) -> None:
    network = ZOO.generator("table-1", width=128)(Z_DIM, (1, side, side))
    smallest = 7 if side == 28 else 4
    expected = [(width, smallest << i, smallest << i) for i, width in enumerate(WIDTHS[side])]
    assert maps(network, uniform(2, Z_DIM)) == [*expected, (1, side, side)]
    assert layers(network)[0][:2] == (smallest, 1)
    assert all(row[:2] == (4, 2) for row in layers(network)[1:])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 64, 64), (2, 11, 23)])
def test_the_critic_takes_any_image_of_8_by_8_or_more(shape: tuple[int, int, int]) -> None:
    x = uniform(5, *shape)
    for outputs, expected in ((1, (5,)), (10, (5, 10)), (2, (5, 2))):
        with seeded("critic"):
            network = ZOO.critic("table-1", width=4)(shape, outputs)
        assert network(x).shape == expected
        assert network.eval()(x[:1]).shape == (1, *expected[1:])


def test_width_scales_every_hidden_layer() -> None:
    assert [row[2] for row in layers(critic(width=6))] == [row[2] // 16 for row in CRITIC]
    assert [row[2] for row in layers(generator(32, width=8))] == [32, 16, 8, 3]
    assert critic(width=6)[-1].in_features == 12


@pytest.mark.parametrize("weight_norm", [False, True])
def test_without_norm_there_is_none_and_each_convolution_has_a_bias(weight_norm: bool) -> None:
    for network in (critic(norm="none", weight_norm=weight_norm), generator(norm="none", weight_norm=weight_norm)):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        assert all(layer.bias is not None for layer in convolutions(network))
        assert not any(row[3] for row in layers(network))
    hidden = convolutions(critic())
    assert all(layer.bias is None for layer in hidden)  # BatchNorm would take it away at once
    assert [layer.bias is None for layer in convolutions(generator())] == [True, True, False]
    assert all(layer.bias is None for layer in convolutions(generator(as_printed=True)))


def test_without_norm_the_critic_looks_at_each_sample_alone_and_with_it_does_not() -> None:
    x = uniform(6, 3, 16, 16).double()
    for norm in ("none", "batch"):
        network = critic(norm=norm, init_std=0.1).double()
        apart = (network(x)[:3] - network(x[:3])).abs().max()
        assert (apart < 1e-12) == (norm == "none")


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_weights_are_drawn_from_a_normal_distribution_of_that_std(std: float, weight_norm: bool) -> None:
    more = {} if std == 0.02 else {"init_std": std}  # 0.02 is the default
    for network in (
        critic(width=16, weight_norm=weight_norm, **more),
        generator(width=16, weight_norm=weight_norm, **more),
    ):
        linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
        for layer in [*convolutions(network), *linear]:
            assert abs(layer.weight.std() / std - 1) < 4.5 / math.sqrt(2 * layer.weight.numel())
            assert layer.bias is None or not layer.bias.any()
        weights = torch.cat([layer.weight.flatten() for layer in convolutions(network)]).detach().double() / std
        assert abs(weights.mean()) < 4 / math.sqrt(len(weights))
        assert abs(weights.pow(4).mean() - 3) < 4 * math.sqrt(96 / len(weights))  # a uniform one has 1.8
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        scales = torch.cat([m.weight for m in norms]).detach()
        assert abs(scales.mean() - 1) < 4 * std / math.sqrt(len(scales))
        assert abs(scales.std() / std - 1) < 4 / math.sqrt(2 * len(scales))
        assert not any(m.bias.any() for m in norms)


def test_weight_norm_starts_from_the_same_function() -> None:
    x, z = uniform(4, 3, 16, 16), uniform(4, Z_DIM)
    torch.testing.assert_close(critic(weight_norm=True)(x), critic()(x))
    torch.testing.assert_close(generator(weight_norm=True)(z), generator()(z))


@pytest.mark.parametrize("kind", ["critic", "generator"])
def test_weight_norm_is_a_direction_and_a_length_for_each_unit(kind: str) -> None:
    """w = g v / ||v||   (Salimans and Kingma 2016, eq. 2), the norm over all that one output is made of."""
    network = {"critic": critic, "generator": generator}[kind](weight_norm=True)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert len(weighted) == {"critic": 10, "generator": 3}[kind]
    for layer in weighted:
        g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
        units = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        assert g.numel() == units
        with torch.no_grad():
            g.copy_(torch.linspace(1, 2, units).view_as(g))
            v.mul_(5)
        along = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        by_unit = v.transpose(0, along).flatten(1)
        expected = torch.linspace(1, 2, units)[:, None] * by_unit / by_unit.norm(dim=1, keepdim=True)
        torch.testing.assert_close(layer.weight.transpose(0, along).flatten(1), expected)
    others = [m for m in network.modules() if m not in weighted]
    assert not any(is_parametrized(m) for m in others)
    assert not any(is_parametrized(m) for m in {"critic": critic, "generator": generator}[kind]().modules())


@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_saved_network_comes_back_the_same(weight_norm: bool) -> None:
    x, z = uniform(4, 3, 16, 16), uniform(4, Z_DIM)
    for make, given in ((critic, x), (generator, z)):
        one = make(weight_norm=weight_norm, init_std=0.1)
        one(given)  # moves BatchNorm's statistics
        other = make(weight_norm=weight_norm)
        other.load_state_dict(one.state_dict())
        assert other.eval()(given).equal(one.eval()(given))
        assert not make(weight_norm=weight_norm).eval()(given).equal(one(given))


@pytest.mark.parametrize("as_printed", [False, True])
def test_the_generator_makes_images_in_its_range(as_printed: bool) -> None:
    images = generator(28, 1, init_std=0.3, as_printed=as_printed)(uniform(5, Z_DIM))
    assert images.shape == (5, 1, 28, 28)
    assert images.abs().max() <= 1
    assert images.max() > 0.9
    assert (images.min() < -0.9) == (not as_printed)  # LeakyReLU before tanh keeps the dark pixels near 0


def test_the_critic_averages_its_last_maps() -> None:
    network, x = critic(outputs=3, init_std=0.1), uniform(4, 3, 16, 16)
    maps: list[Tensor] = []
    list(network)[-4].register_forward_hook(lambda module, given, made: maps.append(made))
    outputs = network(x)
    assert maps[0].shape[2:] == (4, 4)
    torch.testing.assert_close(outputs, maps[0].mean(dim=(2, 3)) @ network[-1].weight.T + network[-1].bias)


@pytest.mark.parametrize("kind", ["critic", "generator"])
def test_the_laws_of_its_kind_hold(kind: str) -> None:
    report = run_checks(ZOO.find(kind, "table-1"), ZOO)
    assert report.passed, report.text()


def test_the_critic_s_lipschitz_bound_is_known_with_and_without_weight_norm() -> None:
    x = uniform(2, 3, 16, 16)
    plain, normed = (product_of_layer_norms(critic(weight_norm=w).eval(), x) for w in (False, True))
    assert plain is not None
    assert normed == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 7, 32), (1, 32, 7), (3, 0, 0)])
def test_an_image_too_small_for_the_critic_is_one_line(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"images of at least 8x8, not {shape[1]}x{shape[2]}$"):
        ZOO.critic("table-1")(shape, 1)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 8, 16), (3, 128, 128), (3, 4, 4)])
def test_a_size_that_the_generator_does_not_make_is_one_line_that_names_those_it_does(
    shape: tuple[int, int, int],
) -> None:
    with pytest.raises(UserError, match=f"square images of side 8, 16, 28, 32, 64, not {shape[1]}x{shape[2]}"):
        ZOO.generator("table-1")(Z_DIM, shape)


def test_the_defaults_are_those_of_the_table() -> None:
    g, d = ZOO.find("generator", "table-1").validate(), ZOO.find("critic", "table-1").validate()
    assert d == {"width": 96, "norm": "batch", "weight_norm": False, "spectral": False, "init_std": 0.02}
    assert g == {"width": 128, "norm": "batch", "weight_norm": False, "as_printed": False, "init_std": 0.02}


def test_the_paper_s_item_finds_one_line_that_deviates_and_says_why(tmp_path: Path) -> None:
    text = table_1.ITEM.run(Options(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    found = [row for row in rows if "layer" in row]
    assert len(found) == 11 + 6
    (other,) = (row for row in found if row["printed"] != row["built"])
    assert (other["network"], other["built"]) == ("generator", "4c2s3o UpConv.")
    assert "as_printed" in other["deviation"]
    assert text.count("match\n") == 16
    assert "11 of 11 lines" in text
    assert "5 of 6 lines" in text
    critic, generator = (row["parameters"] for row in rows if "parameters" in row)
    weights = 9 * 3 * 96 + (9 + 16) * 96 * 96 + 9 * 96 * 192 + (9 + 16 + 9 + 9 + 1) * 192 * 192
    assert critic == weights + 2 * (3 * 96 + 6 * 192) + 193 * 10
    assert generator == 16 * (110 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 3 + 2 * (512 + 256 + 128)


def test_the_item_would_see_other_layers() -> None:
    built = table_1.lines(critic(32, width=95, norm="none", outputs=10).eval(), uniform(2, 3, 32, 32))
    assert built[0] == "3c1s95o Conv. LeakyReLU"
    assert built[-2:] == ["global meanpool", "Output 1x1x10"]
    of_generator = table_1.lines(generator(32, width=128, as_printed=True).eval(), uniform(2, Z_DIM))
    assert tuple(of_generator) == table_1.PRINTED["generator"]


# Features: what feature matching compares


@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("side", SIDES)
def test_the_last_layer_of_the_features_is_the_critic(side: int, norm: str, outputs: int) -> None:
    x = uniform(4, 2, side, side).double()
    for name in ("dcgan", "table-1"):
        with seeded(name):
            network: Any = ZOO.critic(name, width=4, norm=norm, init_std=0.2)((2, side, side), outputs).double()
        last = list(network)[-1]
        features = network.features(x)
        assert features.dim() == 2
        assert len(features) == 4
        expected = F.linear(features, last.weight.flatten(1), last.bias)
        torch.testing.assert_close(network(x), expected[:, 0] if outputs == 1 else expected)


@pytest.mark.parametrize(("name", "width"), [("dcgan", 64 * 4 * 4), ("table-1", 16)])
def test_features_are_a_vector_an_image_of_a_width_that_does_not_depend_on_the_outputs(name: str, width: int) -> None:
    x = uniform(5, 3, 32, 32)
    for outputs in (1, 10):
        network: Any = ZOO.critic(name, width=16 if name == "dcgan" else 8)((3, 32, 32), outputs)
        assert network.features(x).shape == (5, width)


@pytest.mark.parametrize("name", ["dcgan", "table-1"])
def test_a_gradient_reaches_all_but_the_last_layer_through_the_features(name: str) -> None:
    network: Any = ZOO.critic(name, width=4, init_std=0.2)((3, 16, 16), 1)
    network.features(uniform(4, 3, 16, 16)).square().mean().backward()
    last = list(network)[-1]
    for parameter in network.parameters():
        of_last = any(parameter is p for p in last.parameters())
        assert (parameter.grad is None) == of_last


def test_features_changed_nothing_of_dcgan_s_state() -> None:
    network = ZOO.critic("dcgan", width=4)((3, 16, 16), 1)
    keys = [f"{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    assert list(network.state_dict()) == keys
