"""The perceptual margin: a distance between feature maps, in the unit of pixels, and the third input of margins."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ganzoo
from ganzoo.checks import run_checks
from ganzoo.config import contenders, read_plan
from ganzoo.data import ImageSet, load_images, scaled, split
from ganzoo.errors import UserError
from ganzoo.features import Networks
from ganzoo.game import Margin
from ganzoo.randomness import stream
from ganzoo.testing import checks_of
from ganzoo.zoo import Zoo

ZOO = Zoo.installed()
RANDOM: dict[str, Any] = {"features": "squeezenet1_1", "layer": "features.4", "weights": "random", "size": 32}


def images(seed: int, count: int = 4, shape: tuple[int, int, int] = (3, 8, 8)) -> Tensor:
    """In [-1, 1], float64."""
    return 2 * torch.rand(count, *shape, generator=stream("perceptual", seed), dtype=torch.float64) - 1


def margin_of(networks: Any, **hyperparameters: Any) -> Margin:
    bound = ZOO.margin("perceptual", **hyperparameters)

    def margin(real: Tensor, fake: Tensor) -> Tensor:
        value: Tensor = bound(real, fake, networks)  # type: ignore[call-arg]
        return value

    return margin


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Random weights, computing in float64."""
    made = Networks(None)
    made(RANDOM["features"], RANDOM["layer"], RANDOM["weights"], RANDOM["size"]).double()
    return made


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return split(load_images("digits"), (0.5, 0.25, 0.25)).train


@pytest.fixture(scope="module")
def trained(digits: ImageSet) -> Networks:
    return Networks(digits)


@given(seed=st.integers(0, 2**32), p=st.sampled_from([1.0, 1.5, 2.0, 7.0]))
@settings(max_examples=25, deadline=None)
def test_it_is_a_distance(networks: Networks, seed: int, p: float) -> None:
    margin = margin_of(networks, p=p, **RANDOM)
    x, y, z = images(seed), images(seed + 1), images(seed + 2)
    assert (margin(x, x) == 0).all()
    assert (margin(x, y) > 0).all()
    torch.testing.assert_close(margin(x, y), margin(y, x), rtol=1e-12, atol=0)
    assert (margin(x, z) <= (margin(x, y) + margin(y, z)) * (1 + 1e-12)).all()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_it_is_the_mean_p_th_power_of_the_difference_of_features(networks: Networks, p: float) -> None:
    f = networks(RANDOM["features"], RANDOM["layer"], RANDOM["weights"], RANDOM["size"])
    x, y = images(0), images(1)
    norms = torch.stack([torch.linalg.vector_norm(f(x[i : i + 1]) - f(y[i : i + 1]), p) for i in range(4)])
    expected = 0.7 * norms / f(x)[0].numel() ** (1 / p)
    torch.testing.assert_close(margin_of(networks, p=p, scale=0.7, **RANDOM)(x, y), expected, rtol=1e-6, atol=0)


def test_a_pair_does_not_see_the_others(networks: Networks) -> None:
    margin = margin_of(networks, **RANDOM)
    x, y = images(0), images(1)
    for i in range(4):
        torch.testing.assert_close(margin(x[i : i + 1], y[i : i + 1])[0], margin(x, y)[i], rtol=1e-9, atol=0)
    torch.testing.assert_close(margin(x, torch.cat([y[:1], images(2)[1:]]))[0], margin(x, y)[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("p", [1.0, 2.5])
def test_of_pixels_themselves_it_is_lp(p: float) -> None:
    x, y = images(0), images(1)
    expected = ZOO.margin("lp", p=p)(x, y)
    assert margin_of(lambda name, **how: lambda pixels: pixels, p=p)(x, y).equal(expected)


def test_its_scale_means_what_it_means_to_lp(trained: Networks, digits: ImageSet) -> None:
    x, y = scaled(digits.images[:300]), scaled(digits.images[300:600])
    expected = float(ZOO.margin("lp")(x, y).mean())
    assert float(margin_of(trained)(x, y).mean()) == pytest.approx(expected, rel=0.1)
    assert float(margin_of(Networks(digits), **RANDOM)(x, y).mean()) == pytest.approx(expected, rel=0.1)


def test_by_default_it_needs_no_weights_and_says_what_it_used(trained: Networks, digits: ImageSet) -> None:
    value = margin_of(trained)(scaled(digits.images[:3]), scaled(digits.images[3:6]))
    assert value.shape == (3,)
    assert value.dtype == torch.float32
    assert (value > 0).all()
    assert not value.requires_grad
    (key,) = trained.sha256s
    assert key.startswith("trained-here:layer=")
    assert trained.training_accuracies[key] > 0.9


def test_two_digits_of_one_class_are_nearer_than_two_of_different_ones(trained: Networks, digits: ImageSet) -> None:
    assert digits.labels is not None
    ratio = {}
    for name, margin in {"lp": ZOO.margin("lp"), "perceptual": margin_of(trained)}.items():
        x, y = scaled(digits.images[:400]), scaled(digits.images[400:800])
        same = digits.labels[:400] == digits.labels[400:800]
        ratio[name] = float(margin(x, y)[same].mean() / margin(x, y)[~same].mean())
    assert ratio["perceptual"] < 0.8 * ratio["lp"]


def test_a_gradient_reaches_the_images_and_not_the_network(networks: Networks) -> None:
    x, y = images(0), images(1).requires_grad_()
    margin_of(networks, **RANDOM)(x, y).sum().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()
    assert (y.grad.flatten(1).abs().sum(dim=1) > 0).all()
    f = networks(RANDOM["features"], RANDOM["layer"], RANDOM["weights"], RANDOM["size"])
    assert all(p.grad is None and not p.requires_grad for p in f.parameters())


def test_a_size_no_network_takes_is_outside_its_domain() -> None:
    with pytest.raises(UserError, match=r"margin 'perceptual': size = 4 is outside its domain \(int, >= 8, or None\)"):
        ZOO.margin("perceptual", size=4)


def test_an_objective_takes_its_features_and_weights_in_its_key() -> None:
    (made,) = contenders(
        "ls-gan:margin=perceptual,features=vgg16,weights=vgg16.pth,layer=features.15,size=64,margin.scale=1.5",
        ZOO,
        read_plan(),
    )
    assert made.margin == "perceptual"
    expected = {"features": "vgg16", "weights": "vgg16.pth", "layer": "features.15", "size": 64, "p": 1.0, "scale": 1.5}
    assert made.margin_hyperparameters == expected


# The third input of margins


def test_a_margin_that_asks_for_no_networks_is_bound_as_before() -> None:
    x, y = images(0), images(1)
    lp = ZOO.margin("lp")
    assert lp(x, y).equal(lp(x, y, object()))  # type: ignore[call-arg]


def test_a_margin_that_asks_for_networks_says_so_where_it_gets_none() -> None:
    with pytest.raises(TypeError, match="margin 'perceptual' was not given 'networks'"):
        ZOO.margin("perceptual")(images(0), images(1))


def test_every_check_passes() -> None:
    report = run_checks(ZOO.find("margin", "perceptual"), ZOO, examples=3)
    assert not report.failures, report.text()
    assert not any(result.verdict == "skip" for result in report.results)


WRONG = """
import ganzoo
from torch import Tensor

@ganzoo.margin
def signed(real: Tensor, fake: Tensor, networks: ganzoo.Networks, features: str = "vgg16") -> Tensor:
    f = networks(features)
    return (f(real) - f(fake)).flatten(1).mean(dim=1)
"""


def test_a_wrong_margin_with_networks_is_refused_and_its_three_lines_show_it(tmp_path: Path) -> None:
    (tmp_path / "signed.py").write_text(WRONG)
    entry = next(checks_of([tmp_path / "signed.py"])).subject.entry
    results = {result.check_id: result for result in run_checks(entry, examples=3).results}
    assert {name for name, result in results.items() if result.verdict == "fail"} == {
        "margin-2",
        "margin-11",
        "margin-12",
        "margin-13",
    }
    lines = results["margin-2"].reproduce
    assert lines is not None
    assert "networks" not in results["margin-2"].message
    with pytest.raises(AssertionError, match="-"):
        exec(lines, {})


def test_what_it_needs_of_ganzoo_is_public() -> None:
    assert ganzoo.Networks is Networks
