"""MRE against exact optima (linear programmes), laws of the search, its controls, and the baselines."""

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import linprog
from torch import Tensor, nn

from ganzoo.baselines import baselines
from ganzoo.errors import UserError
from ganzoo.metric import MinimumReconstructionError
from ganzoo.mre import (
    Protocol,
    Reconstruction,
    minimum_reconstruction_error,
    over_all_labels,
    self_inversion,
)
from ganzoo.randomness import stream

Z_DIM = 5
SHORT = Protocol(steps=30, restarts=3)


class Linear(nn.Module):
    """G(z) = A z + b as 6 x 6 images."""

    def __init__(self, z_dim: int = Z_DIM, seed: int = 0) -> None:
        super().__init__()
        random = stream("test", seed)
        self.matrix = nn.Parameter(torch.randn(36, z_dim, generator=random) * 0.7 / math.sqrt(z_dim))
        self.offset = nn.Parameter(torch.randn(36, generator=random) * 0.1)

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.matrix.T + self.offset).view(-1, 1, 6, 6)


def convolutional(z_dim: int = Z_DIM) -> nn.Sequential:
    """A small DCGAN generator whose normalisation has statistics worth losing; 1 x 4 x 4 images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(
            nn.Unflatten(1, (z_dim, 1, 1)),
            nn.ConvTranspose2d(z_dim, 8, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1),
            nn.Tanh(),
        )
        generator(torch.rand(64, z_dim) * 2 - 1)
    return generator


def images(n: int, side: int = 6, seed: int = 1) -> Tensor:
    return torch.rand(n, 1, side, side, generator=stream("test images", seed)) * 2 - 1


def exact(generator: Linear, image: Tensor, box: bool) -> float:
    """min_z mean |x - A z - b| as a linear programme: e >= +-(x - A z - b), minimise mean e."""
    a, b = generator.matrix.detach().double().numpy(), generator.offset.detach().double().numpy()
    x = image.double().flatten().numpy()
    pixels, z_dim = a.shape
    solved = linprog(
        np.r_[np.zeros(z_dim), np.full(pixels, 1 / pixels)],
        A_ub=np.block([[a, -np.eye(pixels)], [-a, -np.eye(pixels)]]),
        b_ub=np.r_[x - b, b - x],
        bounds=[(-1, 1) if box else (None, None)] * z_dim + [(0, None)] * pixels,
        method="highs",
    )
    return float(solved.fun)


def halfway_images(generator: Linear, n: int) -> Tensor:
    """Images near the generator's, some made from beyond the box, so that its bounds bind."""
    z = (torch.rand(n, generator.matrix.shape[1], generator=stream("test", "z")) * 2 - 1) * 1.6
    with torch.no_grad():
        return (generator(z) + 0.4 * images(n)).clamp(-1, 1)


@pytest.mark.parametrize("domain", ["box", "free"])
@pytest.mark.parametrize("z_dim", [2, 9])
def test_the_default_protocol_comes_within_1_percent_of_the_linear_programme(domain: str, z_dim: int) -> None:
    generator = Linear(z_dim)
    x = halfway_images(generator, 12)
    protocol = Protocol.model_validate({"domain": domain})
    found = minimum_reconstruction_error(generator, x, z_dim=z_dim, protocol=protocol)
    optimum = torch.tensor([exact(generator, image, domain == "box") for image in x])
    assert (found.errors >= optimum * (1 - 1e-5)).all()
    assert (found.errors <= optimum * 1.01).all()


def test_the_box_binds_and_free_goes_beyond_it() -> None:
    generator = Linear()
    x = halfway_images(generator, 12)
    box = minimum_reconstruction_error(generator, x, z_dim=Z_DIM)
    free = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=Protocol(domain="free"))
    assert box.z.abs().max() <= 1
    assert free.z.abs().max() > 1.1
    assert free.mean < box.mean * 0.95


def test_a_linear_generator_finds_its_own_images_again() -> None:
    found = self_inversion(Linear(), 20, z_dim=Z_DIM)
    assert found.errors.shape == (20,)
    assert found.errors.max() < 1e-3


def test_the_best_error_is_what_the_generator_makes_of_the_returned_z() -> None:
    generator, x = convolutional(), images(7, side=4)
    found = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT)
    with torch.no_grad():
        again = (x - generator.eval()(found.z)).abs().mean((1, 2, 3))
    torch.testing.assert_close(found.errors, again, rtol=1e-5, atol=1e-6)
    assert found.z.shape == (7, Z_DIM)
    assert found.errors.dtype == torch.float32
    assert found.mean == pytest.approx(again.mean().item(), rel=1e-5)


@pytest.mark.parametrize("make", [Linear, convolutional])
def test_the_result_does_not_depend_on_the_chunk(make: Callable[[], nn.Module]) -> None:
    generator = make().double()  # in float64 rounding does not flip the signs that L1's gradient is made of
    x = images(9, side=6 if make is Linear else 4)
    whole = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT)
    parts = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT, chunk=7)
    torch.testing.assert_close(parts.errors, whole.errors, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.z, whole.z, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.tensor(parts.trace), torch.tensor(whole.trace))
    assert parts.restart_spread == pytest.approx(whole.restart_spread)


def test_an_image_is_reconstructed_as_it_would_be_alone() -> None:
    generator, x = Linear().double(), images(5)
    together = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT)
    for i in range(5):
        alone = minimum_reconstruction_error(generator, x[i : i + 1], z_dim=Z_DIM, protocol=SHORT, first=i)
        torch.testing.assert_close(alone.z[0], together.z[i], rtol=0, atol=1e-9)


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_starts() -> None:
    generator, x = convolutional(), images(6, side=4)

    def measured(seed: int) -> Reconstruction:
        return minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT, seed=seed)

    one, two, other = measured(3), measured(3), measured(4)
    assert torch.equal(one.errors, two.errors)
    assert torch.equal(one.z, two.z)
    assert one.trace == two.trace
    assert not torch.equal(one.z, other.z)


@pytest.mark.parametrize("starts", ["near", "random"])
def test_errors_never_rise_with_more_restarts_that_go_all_the_way(starts: Literal["near", "random"]) -> None:
    generator, x = convolutional().double(), images(8, side=4)
    protocols = [Protocol(steps=10, restarts=restarts, halvings=0, starts=starts) for restarts in (1, 2, 3, 5)]
    errors = [
        minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=protocol).errors for protocol in protocols
    ]
    for fewer, more in pairwise(errors):
        assert (more <= fewer + 1e-7).all()
    assert errors[-1].mean() < errors[0].mean()


def test_the_restart_spread_is_the_mean_gap_between_worst_and_best_start() -> None:
    def hills(z: Tensor) -> Tensor:  # two plateaus: |1 - G| is 0 above 0, 0.5 below
        return torch.where(z > 0, 1.0, 0.5).view(-1, 1, 1, 1) + 0 * z.view(-1, 1, 1, 1)

    x = torch.ones(40, 1, 1, 1)
    found = minimum_reconstruction_error(hills, x, z_dim=1, protocol=Protocol(steps=2, restarts=2, starts="random"))
    starts = torch.stack([torch.rand(40, 1, generator=stream("mre", 0, r)) * 2 - 1 for r in range(2)], 1)
    mixed = ((starts > 0).any(1) & (starts <= 0).any(1)).float().mean()
    assert found.restart_spread == pytest.approx(0.5 * mixed.item(), rel=1e-5)


def test_the_trace_falls_from_the_starts_to_the_mean() -> None:
    found = minimum_reconstruction_error(Linear(), images(10), z_dim=Z_DIM)
    steps, errors = zip(*found.trace, strict=True)
    assert steps == tuple(range(0, 201, 20))
    assert list(errors) == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(found.mean)
    assert found.last_gain == pytest.approx(1 - errors[-1] / errors[-2])
    assert 0 <= found.last_gain < 1e-3
    one = minimum_reconstruction_error(Linear(), images(3), z_dim=Z_DIM, protocol=Protocol(steps=1))
    assert [step for step, _ in one.trace] == [0, 1]


def test_the_search_leaves_the_generator_and_the_random_state_as_they_were() -> None:
    generator = convolutional()
    generator.train()
    generator[1].eval()
    generator[2].weight.requires_grad_(False)
    modes = [module.training for module in generator.modules()]
    flags = [parameter.requires_grad for parameter in generator.parameters()]
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    random = torch.get_rng_state()
    minimum_reconstruction_error(generator, images(4, side=4), z_dim=Z_DIM, protocol=SHORT)
    self_inversion(generator, 4, z_dim=Z_DIM, protocol=SHORT)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in generator.modules()] == modes
    assert [parameter.requires_grad for parameter in generator.parameters()] == flags
    assert all(parameter.grad is None for parameter in generator.parameters())
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_generator_is_restored_after_an_error_too() -> None:
    generator = convolutional()
    with pytest.raises(UserError):
        minimum_reconstruction_error(generator, images(4, side=5), z_dim=Z_DIM)
    assert all(module.training for module in generator.modules())
    assert all(parameter.requires_grad for parameter in generator.parameters())


def test_bytes_and_the_floats_they_stand_for_give_the_same_error() -> None:
    x = torch.randint(0, 256, (5, 1, 6, 6), dtype=torch.uint8, generator=stream("test bytes"))
    as_bytes = minimum_reconstruction_error(Linear(), x, z_dim=Z_DIM, protocol=SHORT)
    as_floats = minimum_reconstruction_error(Linear(), x.float() / 127.5 - 1, z_dim=Z_DIM, protocol=SHORT)
    assert torch.equal(as_bytes.errors, as_floats.errors)


def test_it_works_where_gradients_are_switched_off() -> None:
    expected = minimum_reconstruction_error(Linear(), images(3), z_dim=Z_DIM, protocol=SHORT)
    with torch.no_grad():
        found = minimum_reconstruction_error(Linear(), images(3), z_dim=Z_DIM, protocol=SHORT)
    assert torch.equal(found.errors, expected.errors)
    generator = Linear()
    with torch.inference_mode():
        found = minimum_reconstruction_error(generator, images(3), z_dim=Z_DIM, protocol=SHORT)
    assert torch.equal(found.errors, expected.errors)
    with torch.inference_mode():
        assert self_inversion(generator, 3, z_dim=Z_DIM).mean < 1e-3


def test_an_image_whose_every_evaluation_is_nan_has_error_inf_and_harms_no_other() -> None:
    generator = Linear(Z_DIM + 2).double()

    def broken(inputs: Tensor) -> Tensor:  # class 1 makes NaN
        return torch.where(inputs[:, -1].view(-1, 1, 1, 1) > 0, math.nan, generator(inputs))

    x = images(4).double()
    labels = torch.tensor([0, 1, 0, 0])
    found = minimum_reconstruction_error(broken, x, z_dim=Z_DIM, protocol=SHORT, labels=labels, classes=2)
    sound = minimum_reconstruction_error(
        broken, x, z_dim=Z_DIM, protocol=SHORT, labels=torch.zeros(4, dtype=torch.int64), classes=2
    )
    assert found.errors.isinf().tolist() == [False, True, False, False]
    torch.testing.assert_close(found.errors[[0, 2, 3]], sound.errors[[0, 2, 3]])
    assert found.mean == math.inf
    assert math.isnan(found.last_gain)
    every = over_all_labels(broken, x, z_dim=Z_DIM, classes=2, protocol=SHORT)
    torch.testing.assert_close(every.errors, sound.errors)


def test_each_image_is_sought_in_its_own_class() -> None:
    generator, classes = Linear(Z_DIM + 3).double(), 3
    z = torch.rand(9, Z_DIM, generator=stream("test", "own"), dtype=torch.float64) * 2 - 1
    labels = torch.arange(9) % classes
    with torch.no_grad():
        x = generator(torch.cat([z, torch.eye(3, dtype=torch.float64)[labels]], 1)).clamp(-1, 1)
    own = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, labels=labels, classes=classes)
    wrong = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, labels=(labels + 1) % 3, classes=classes)
    by_hand = [
        minimum_reconstruction_error(generator, x, z_dim=Z_DIM, labels=torch.full((9,), y), classes=classes)
        for y in range(classes)
    ]
    every = over_all_labels(generator, x, z_dim=Z_DIM, classes=classes)
    assert own.mean < 0.2 * wrong.mean
    assert (every.errors <= own.errors + 1e-6).all()
    torch.testing.assert_close(every.errors, torch.stack([one.errors for one in by_hand]).amin(0))
    assert every.z.shape == (9, Z_DIM)
    assert every.trace[-1][1] == pytest.approx(every.mean)


def test_a_conditional_generator_finds_its_own_images_again() -> None:
    generator = Linear(Z_DIM + 3)
    assert self_inversion(generator, 7, z_dim=Z_DIM, classes=3).errors.max() < 1e-3
    labels = torch.tensor([2, 2, 0])
    assert self_inversion(generator, 3, z_dim=Z_DIM, classes=3, labels=labels).errors.max() < 1e-3


def test_the_protocol_id_tells_every_setting() -> None:
    changes: list[dict[str, object]] = [
        {}, {"steps": 9}, {"rate": 0.7}, {"restarts": 9}, {"domain": "free"}, {"starts": "random"}, {"axes": "z"},
        {"halvings": 0}, {"precision": "bf16"},
    ]  # fmt: skip
    assert {key for change in changes for key in change} == set(Protocol.model_fields)
    assert len({Protocol.model_validate(change).id for change in changes}) == len(changes)
    assert Protocol(steps=90, rate=0.1, restarts=4).id == "mre2-l1-near-adam0.1-curvature-cosine-90x4-halved3-box-fp32"


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"rate": 0.0}, {"restarts": 0}, {"domain": "ball"}, {"halvings": 5}, {"x": 1}]
)
def test_the_protocol_refuses_what_is_out_of_its_domain(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Protocol.model_validate(wrong)


def no_gradient(z: Tensor) -> Tensor:
    return torch.zeros(len(z), 1, 6, 6)


def one_for_all(z: Tensor) -> Tensor:
    return z.sum().expand(1, 1, 6, 6)


INTEGERS = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_dim": Z_DIM + 1}, r"does not take z of shape \(N, 6\)"),
        ({"z_dim": 0}, "z_dim is 0, not at least 1"),
        ({"chunk": 0}, "chunk is 0, not at least 1"),
        ({"first": -1}, "first is -1, not at least 0"),
        ({"warm": torch.zeros(2, Z_DIM)}, r"warm is torch.float32 of shape \(2, 5\), not one z .*: \(3, 5\)"),
        ({"warm": torch.zeros(3, Z_DIM, dtype=torch.int64)}, "warm is torch.int64"),
        ({"generator": Linear().half()}, "generator is in torch.float16, too coarse"),
        ({"images": images(3, side=5)}, r"images of shape \(1, 6, 6\), those to reconstruct are \(1, 5, 5\)"),
        ({"images": images(3)[0]}, r"shape \(1, 6, 6\), not \(N, C, H, W\)"),
        ({"images": images(3)[:0]}, "at least one image"),
        ({"images": images(3) * 3}, r"images lie in \[.*\], not in \[-1, 1\]"),
        ({"images": images(3) * math.nan}, r"images lie in \[nan, nan\]"),
        ({"images": images(3).long()}, "images are torch.int64"),
        ({"generator": no_gradient}, "no gradient in z"),
        ({"generator": one_for_all}, "not one image for each z"),
        ({"labels": INTEGERS}, "labels are given, but classes is 0"),
        ({"classes": 4}, "labels are missing: the generator takes 4 classes"),
        ({"classes": 2, "labels": INTEGERS + 2}, r"labels lie in \[2, 2\], not in \[0, 2\)"),
        ({"classes": 2, "labels": INTEGERS - 1}, r"labels lie in \[-1, -1\]"),
        ({"classes": 2, "labels": INTEGERS[:2]}, r"not integers of shape \(3,\)"),
        ({"classes": 2, "labels": INTEGERS.float()}, "labels are torch.float32"),
        ({"classes": 2, "labels": INTEGERS}, r"does not take z of shape \(N, 7\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"generator": Linear(), "images": images(3), "z_dim": Z_DIM, **change}
    with pytest.raises(UserError, match=message) as caught:
        minimum_reconstruction_error(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_controls_refuse_no_images_and_no_classes() -> None:
    with pytest.raises(UserError, match="at least 1 image, not 0"):
        self_inversion(Linear(), 0, z_dim=Z_DIM)
    with pytest.raises(UserError, match="classes is 0, not at least 1"):
        over_all_labels(Linear(), images(2), z_dim=Z_DIM, classes=0)


def test_the_baselines_agree_with_numpy() -> None:
    random = stream("test", "baselines")
    mixing = torch.randn(6, 36, generator=random) * 0.5
    train, test = ((torch.randn(n, 6, generator=random) @ mixing).tanh().view(-1, 1, 6, 6) for n in (80, 21))
    found = baselines(train, test, 4)
    m, x = train.flatten(1).double().numpy(), test.flatten(1).double().numpy()
    mean = m.mean(0)
    directions = np.linalg.svd(m - mean)[2][:4]
    projected = np.clip(mean + (x - mean) @ directions.T @ directions, -1, 1)
    assert list(found) == ["training mean", "pca-4", "nearest training image"]
    assert found["training mean"] == pytest.approx(np.abs(x - mean).mean(), rel=1e-5)
    assert found["pca-4"] == pytest.approx(np.abs(x - projected).mean(), rel=1e-5)
    nearest = np.abs(x[:, None] - m[None]).mean(2).min(1).mean()
    assert found["nearest training image"] == pytest.approx(nearest, rel=1e-5)
    assert np.abs(mean + (x - mean) @ directions.T @ directions).max() > 1  # so that clipping was tested


def test_both_pca_solvers_reconstruct_alike() -> None:
    train, test = images(35), images(10, seed=2)  # 35 images of 36 pixels: "full"; 36: "covariance_eigh"
    fewer = baselines(train, test, 3)["pca-3"]
    assert baselines(torch.cat([train, train]), test, 3)["pca-3"] == pytest.approx(fewer, rel=1e-4)


def test_a_training_image_is_its_own_nearest() -> None:
    train = images(600)
    assert baselines(train, train[300:], 2)["nearest training image"] == 0


def test_pca_has_no_more_components_than_images_or_pixels_and_says_how_many() -> None:
    assert "pca-3" in baselines(images(3), images(2), 10)
    found = baselines(images(50, side=2), images(8, side=2), 10)
    assert found["pca-4"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("train", "test", "z_dim", "message"),
    [
        (images(4), images(4, side=5), 2, r"training images are \(1, 6, 6\), test images \(1, 5, 5\)"),
        (images(1), images(4), 2, "2 training images or more, not 1"),
        (images(4), images(4), 0, "z_dim at least 1, not 0"),
        (images(4), images(4) * 2, 2, r"not in \[-1, 1\]"),
    ],
)
def test_baselines_say_what_does_not_fit(train: Tensor, test: Tensor, z_dim: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        baselines(train, test, z_dim)


def test_the_metric_in_two_updates_equals_one_call() -> None:
    generator, x = convolutional().double(), images(9, side=4)
    whole = minimum_reconstruction_error(generator, x, z_dim=Z_DIM, protocol=SHORT, seed=2)
    metric = MinimumReconstructionError(generator, Z_DIM, protocol=SHORT, seed=2)
    metric.update(x[:4])
    metric.update(x[4:])
    assert metric.compute().item() == pytest.approx(whole.mean, rel=1e-6)
    metric.reset()
    metric.update(x)
    assert metric.compute().item() == pytest.approx(whole.mean, rel=1e-6)
    assert not list(metric.parameters())
    assert not metric.state_dict()


def test_the_metric_hands_labels_on() -> None:
    generator, labels = Linear(Z_DIM + 2), torch.tensor([0, 1, 1])
    metric = MinimumReconstructionError(generator, Z_DIM, protocol=SHORT, classes=2)
    metric.update(images(3), labels)
    whole = minimum_reconstruction_error(generator, images(3), z_dim=Z_DIM, protocol=SHORT, labels=labels, classes=2)
    assert metric.compute().item() == pytest.approx(whole.mean)


def test_without_torchmetrics_the_metric_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "ganzoo.metric")
    with pytest.raises(ImportError, match=r"pip install 'ganzoo\[metrics\]'"):
        import ganzoo.metric  # noqa: F401
