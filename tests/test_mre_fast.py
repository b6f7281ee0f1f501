"""Every fast path of the search against the plain one: values, gradients, what is reported."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from ganzoo import mre
from ganzoo.arithmetic import products_in
from ganzoo.dense import Dense
from ganzoo.mre import Protocol, Reconstruction, minimum_reconstruction_error, over_all_labels, self_inversion
from ganzoo.randomness import stream

Z_DIM = 6
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
IMAGE = (2, 8, 8)


def generator(classes: int = 0, seed: int = 0) -> nn.Sequential:
    """A DCGAN generator with a trained look: its BatchNorms' statistics and scales differ from 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Linear(Z_DIM + classes, 16, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Unflatten(1, (16, 1, 1)),
            nn.ConvTranspose2d(16, 12, 4, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.ConvTranspose2d(12, 6, 4, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 2, 1),
            nn.Tanh(),
        )
        for module in made:
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
        for _ in range(20):
            made(torch.rand(64, Z_DIM + classes) * 2 - 1)
    return made.eval().requires_grad_(False)


def images(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, *IMAGE, generator=stream("test images", seed)) * 2 - 1


def at(n: int, seed: int = 2) -> Tensor:
    return torch.rand(n, Z_DIM, generator=stream("test z", seed)) * 2 - 1


def value_and_gradient(generator: mre.Generator, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    made = generator(z)
    return made.detach(), torch.autograd.grad((made - images(len(z))).abs().sum(), z)[0]


def test_the_light_generator_has_no_batchnorm_and_the_images_and_gradients_of_the_generator() -> None:
    plain, z = generator().double(), at(9).double()
    light = mre._light(plain, z)
    assert isinstance(light, nn.Sequential)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in light.modules())
    assert sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in plain.modules()) == 4
    for found, wanted in zip(value_and_gradient(light, z), value_and_gradient(plain, z), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_convolutions_as_dense_matrices_leave_images_and_gradients_as_they_are() -> None:
    plain, z = generator().double(), at(9).double()
    light = mre._light(plain, z)
    with Dense(frozen=True):
        dense = value_and_gradient(light, z)
    for found, wanted in zip(dense, value_and_gradient(plain, z), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


class Shuffled(nn.Sequential):
    """Runs its layers in another order than theirs."""

    def forward(self, z: Tensor) -> Tensor:
        hidden = self[1](torch.relu(self[0](z)))
        return torch.tanh(self[2](hidden)).view(-1, *IMAGE)


def test_a_batchnorm_that_does_not_follow_is_left_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shuffled = Shuffled(nn.Linear(Z_DIM, 16), nn.BatchNorm1d(16), nn.Linear(16, math.prod(IMAGE)))
        for _ in range(20):
            shuffled(torch.rand(64, Z_DIM) * 2 - 1)
    shuffled.eval()
    assert mre._light(shuffled, at(5)) is shuffled
    found = minimum_reconstruction_error(shuffled, images(3), z_dim=Z_DIM, protocol=Protocol(steps=5))
    with torch.no_grad():
        again = (images(3) - shuffled(found.z)).abs().mean((1, 2, 3))
    torch.testing.assert_close(found.errors, again)


def test_grouped_and_parametrised_convolutions_keep_their_batchnorm() -> None:
    z = torch.rand(3, 4, 2, 2, generator=stream("test groups"))
    for before in (nn.ConvTranspose2d(4, 4, 2, groups=2), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))):
        layers = nn.Sequential(before, nn.BatchNorm2d(4)).eval()
        light = mre._light(layers, z)
        assert isinstance(light, nn.Sequential)
        assert isinstance(light[1], nn.BatchNorm2d)


def test_a_plain_function_is_searched_as_a_module_is() -> None:
    plain, x = generator().double(), images(5).double()
    protocol = Protocol(steps=20, restarts=3)
    module = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol)
    function = minimum_reconstruction_error(lambda z: plain(z), x, z_dim=Z_DIM, protocol=protocol)
    torch.testing.assert_close(function.z, module.z, rtol=0, atol=1e-8)


def by_hand(generator: nn.Module, x: Tensor, starts: Tensor, axes: Tensor, steps: int, rate: float) -> Tensor:
    """Adam by torch on u = Q'z, one image and start at a time; the least error of each image: (N,)."""
    least = torch.full((len(x),), math.inf, dtype=x.dtype)
    for i in range(len(x)):
        for start in starts[i]:
            z = start.clone()
            u = torch.zeros_like(z)
            adam = torch.optim.Adam([u], lr=rate, betas=mre.BETAS, eps=1e-12)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)
            for step in range(steps + 1):
                z.requires_grad_()
                error = (x[i] - generator(z[None])[0]).abs().mean()
                least[i] = min(least[i], error.detach())
                if step == steps:
                    break
                (slope,) = torch.autograd.grad(error, z)
                z = z.detach()
                slope = torch.where((z.abs() == 1) & (slope * z < 0), 0, slope)
                before = u.clone()
                u.grad = axes.T @ slope
                adam.step()
                cosine.step()
                z = (z + axes @ (u - before)).clamp(-1, 1)
    return least


@pytest.mark.parametrize("axes", ["curvature", "z"])
def test_the_batched_search_is_torchs_adam_one_image_and_start_at_a_time(axes: str) -> None:
    plain, x = generator().double(), images(3).double()
    protocol = Protocol.model_validate({"steps": 15, "restarts": 2, "starts": "random", "axes": axes, "halvings": 0})
    found = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol, seed=4)
    starts = torch.stack([mre._uniform(3, Z_DIM, "mre", 4, restart) for restart in range(2)], 1).double()
    along = mre._axes(plain, Z_DIM, 0, 4, torch.device("cpu"), torch.float64)
    assert along is not None
    along = along if axes == "curvature" else torch.eye(Z_DIM, dtype=torch.float64)
    wanted = by_hand(plain, x, starts, along, 15, protocol.rate)
    torch.testing.assert_close(found.errors.double(), wanted, rtol=1e-6, atol=0)


def test_the_axes_are_the_eigenvectors_of_the_mean_curvature() -> None:
    matrix = torch.randn(math.prod(IMAGE), Z_DIM, generator=stream("test matrix"), dtype=torch.float64)
    matrix *= torch.tensor([1.0, 2, 4, 8, 16, 32], dtype=torch.float64)
    mix = torch.linalg.qr(torch.randn(Z_DIM, Z_DIM, generator=stream("test mix"), dtype=torch.float64)).Q
    matrix = matrix @ mix
    axes = mre._axes(lambda z: (z @ matrix.T).view(-1, *IMAGE), Z_DIM, 0, 0, torch.device("cpu"), torch.float64)
    assert axes is not None
    exact = torch.linalg.eigh(matrix.T @ matrix).eigenvectors
    torch.testing.assert_close(axes.T @ axes, torch.eye(Z_DIM, dtype=torch.float64))
    assert (axes * exact).sum(0).abs().min() > 0.97


def test_the_first_start_of_a_linear_generator_is_its_solution() -> None:
    matrix = torch.randn(math.prod(IMAGE), Z_DIM, generator=stream("test linear"), dtype=torch.float64) / 9
    z = at(7).double()
    x = (z @ matrix.T).view(-1, *IMAGE)
    candidates = torch.zeros(7, 1, dtype=torch.int64)
    linear = lambda z: (z @ matrix.T).view(-1, *IMAGE)  # noqa: E731
    arguments = (linear, x, candidates, Z_DIM, 0, Protocol(restarts=4), 0, 0, torch.device("cpu"), torch.float64)
    starts = mre._starts(*arguments)
    assert starts.shape == (7, 1, 4, Z_DIM)
    torch.testing.assert_close(starts[:, 0, 0], z, rtol=0, atol=1e-2)
    # The others are the nearest of the pool, in order.
    pool = mre._uniform(mre.POOL, Z_DIM, "mre pool", 0).double()
    distances = torch.cdist(x.flatten(1), pool @ matrix.T)
    torch.testing.assert_close(starts[:, 0, 1:], pool[distances.argsort(1)[:, :3]])


@pytest.mark.parametrize(("n", "d"), [(40, 9), (9, 40)])
def test_both_forms_of_the_regression_are_the_ridge_solution(n: int, d: int) -> None:
    x = torch.randn(n, d, generator=stream("test x", n), dtype=torch.float64)
    z = torch.randn(n, 3, generator=stream("test z", n), dtype=torch.float64)
    new = torch.randn(4, d, generator=stream("test new", n), dtype=torch.float64)
    centred = x - x.mean(0)
    gram = centred.T @ centred
    ridge = mre.RIDGE * gram.trace() * torch.eye(d, dtype=torch.float64)
    weights = torch.linalg.inv(gram + ridge) @ centred.T @ (z - z.mean(0))
    torch.testing.assert_close(mre._regression(x, z)(new), z.mean(0) + (new - x.mean(0)) @ weights)


def test_more_starts_than_the_pool_has_are_filled_with_random_ones() -> None:
    found = minimum_reconstruction_error(
        lambda z: z.mean(1).view(-1, 1, 1, 1),
        torch.zeros(1, 1, 1, 1),
        z_dim=2,
        protocol=Protocol(steps=1, restarts=2100),
    )
    assert found.errors.item() < 1e-3


def test_generators_that_make_one_image_or_none_that_is_finite_are_searched_all_the_same() -> None:
    x = images(2)
    constant = minimum_reconstruction_error(lambda z: 0 * z.sum(1).view(-1, 1, 1, 1).expand(-1, *IMAGE), x, z_dim=Z_DIM)
    torch.testing.assert_close(constant.errors, x.abs().mean((1, 2, 3)))
    assert constant.z.isfinite().all()
    broken = minimum_reconstruction_error(lambda z: math.nan * z[:, :1, None, None].expand(-1, *IMAGE), x, z_dim=Z_DIM)
    assert broken.errors.tolist() == [math.inf, math.inf]


def test_halving_that_keeps_all_changes_nothing() -> None:
    plain, x = generator().double(), images(4).double()
    halved, whole = (
        minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=Protocol(steps=20, restarts=1, halvings=halvings))
        for halvings in (3, 0)
    )
    assert torch.equal(halved.z, whole.z)
    assert halved.trace == whole.trace


def test_the_better_half_goes_on_and_goes_where_it_would_have_gone_alone() -> None:
    plain, x = generator().double(), images(6).double()

    def search(steps: int, halvings: int) -> tuple[mre._Samples, Tensor, Tensor]:
        protocol = Protocol(steps=steps, restarts=5, halvings=halvings)
        starts = mre._uniform(30, Z_DIM, "test halving").double()
        pictures = lambda sample: x[sample // 5]  # noqa: E731
        descent = mre._Descent(plain, pictures, torch.zeros(30, 0, dtype=torch.float64), None, protocol, 7)
        samples, finalists, reached, _ = descent(starts, 5)
        return samples, finalists, reached

    whole, everyone, _ = search(20, 0)
    halved, finalists, reached = search(20, 1)  # after the evaluation of z_2
    assert everyone.tolist() == list(range(30))
    assert finalists.view(6, 3).div(5, rounding_mode="floor").tolist() == [[i] * 3 for i in range(6)]
    torch.testing.assert_close(halved.best, whole.best[finalists], rtol=0, atol=1e-9)
    torch.testing.assert_close(halved.z, whole.z[finalists], rtol=0, atol=1e-9)
    stayed = torch.zeros(30, dtype=torch.bool)
    stayed[finalists] = True
    then = three_evaluations(plain, x, 20)
    for own in torch.split(torch.arange(30), 5):
        assert then[own][stayed[own]].max() <= then[own][~stayed[own]].min()
    torch.testing.assert_close(reached[~stayed], then[~stayed])  # what they had reached is kept
    assert len(search(20, 4)[1]) == 6


def three_evaluations(plain: nn.Module, x: Tensor, steps: int) -> Tensor:
    """The least error of each of the 30 starts over z_0, z_1, z_2."""
    protocol = Protocol(steps=steps, restarts=5, halvings=0)
    labels = torch.zeros(30, 0, dtype=torch.float64)
    descent = mre._Descent(plain, lambda sample: x[sample // 5], labels, None, protocol, 30)
    every = mre._Samples.at(mre._uniform(30, Z_DIM, "test halving").double())
    descent._advance(every, torch.arange(30), 0, 3)
    best: Tensor = every.best
    return best


def test_the_protocol_counts_its_gradient_steps() -> None:
    assert Protocol(steps=100, restarts=8, halvings=3).halved_after == (10, 20, 40)
    assert Protocol(steps=100, restarts=8, halvings=0).samples == 800
    calls = 0
    plain = generator()

    def counted(z: Tensor) -> Tensor:
        nonlocal calls
        calls += len(z) if z.requires_grad else 0
        return plain(z)

    for protocol in (Protocol(steps=20, restarts=8), Protocol(steps=7, restarts=3, halvings=4), Protocol(steps=1)):
        calls = 0
        minimum_reconstruction_error(counted, images(2), z_dim=Z_DIM, protocol=protocol)
        searched = calls - max(mre.PROBES, 4 * Z_DIM) - 2  # without the axes' and the first look's
        assert searched == 2 * protocol.samples


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunks_change_rounding_only_also_over_labels_and_with_halving(chunk: int) -> None:
    plain, x = generator(classes=3).double(), images(4).double()
    protocol = Protocol(steps=12, restarts=4)
    whole = over_all_labels(plain, x, z_dim=Z_DIM, classes=3, protocol=protocol)
    parts = over_all_labels(plain, x, z_dim=Z_DIM, classes=3, protocol=protocol, chunk=chunk)
    torch.testing.assert_close(parts.z, whole.z, rtol=0, atol=1e-8)
    assert parts.restart_spread == pytest.approx(whole.restart_spread)


def test_an_image_of_a_class_finds_alone_what_it_finds_among_others() -> None:
    plain, x, labels = generator(classes=3).double(), images(4).double(), torch.tensor([2, 0, 0, 1])
    protocol = Protocol(steps=12, restarts=4)
    together = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol, labels=labels, classes=3)
    for i in range(4):
        alone = minimum_reconstruction_error(
            plain, x[i : i + 1], z_dim=Z_DIM, protocol=protocol, labels=labels[i : i + 1], classes=3, first=i
        )
        torch.testing.assert_close(alone.z[0], together.z[i], rtol=0, atol=1e-8)


def test_a_chunk_is_as_large_as_the_bytes_of_its_samples_allow() -> None:
    cpu = torch.device("cpu")
    assert mre._chunk(1 << 20, cpu, None) == 32
    assert mre._chunk(1 << 40, cpu, None) == 1
    assert mre._chunk(1 << 20, torch.device("cuda"), None) == 4096
    assert mre._chunk(1 << 20, cpu, 7) == 7
    small, large = (
        nn.Sequential(nn.Linear(Z_DIM, width), nn.Tanh(), nn.Linear(width, 4), nn.Unflatten(1, (1, 2, 2)))
        for width in (100, 1000)
    )
    bytes_more = mre._probe(large.requires_grad_(False), at(1), None) - mre._probe(
        small.requires_grad_(False), at(1), None
    )
    assert bytes_more == 900 * 4  # tanh keeps its output; the weights, which are no sample's, do not count


def test_a_warm_start_is_one_of_the_starts() -> None:
    plain, z = generator().double(), at(5).double()
    with torch.no_grad():
        x = plain(z)
    protocol = Protocol(steps=1, rate=1e-6, restarts=1)
    cold = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol)
    warm = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol, warm=z)
    assert warm.errors.max() < 1e-6 < 1e-3 < cold.errors.min()
    torch.testing.assert_close(warm.z, z, rtol=0, atol=1e-5)


def test_a_warm_start_beyond_the_box_begins_at_its_wall_unless_z_is_free() -> None:
    plain, z = generator().double(), 2 * at(5).double()
    with torch.no_grad():
        x = plain(z)
    box, free = (
        minimum_reconstruction_error(
            plain, x, z_dim=Z_DIM, protocol=Protocol(steps=1, rate=1e-6, restarts=1, domain=domain), warm=z
        )
        for domain in ("box", "free")
    )
    torch.testing.assert_close(box.z, z.clamp(-1, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(free.z, z, rtol=0, atol=1e-5)


def test_the_axes_are_those_of_all_classes() -> None:
    def two(inputs: Tensor) -> Tensor:  # class 1 lies along (1, 1), class 0 hardly moves
        z, one = inputs[:, :2], inputs[:, 3:]
        return (one * z.sum(1, keepdim=True) + 0.01 * z[:, :1]).view(-1, 1, 1, 1)

    axes = mre._axes(two, 2, 2, 0, torch.device("cpu"), torch.float64)
    assert axes is not None
    torch.testing.assert_close(axes[:, 1].abs(), torch.full((2,), 0.5**0.5, dtype=torch.float64), rtol=0, atol=0.02)


@pytest.mark.parametrize("axes", ["curvature", "z"])
def test_a_coarse_search_reports_what_the_generator_itself_makes(axes: str) -> None:
    plain, x = generator(), images(6)
    protocol = Protocol.model_validate({"steps": 20, "restarts": 2, "precision": "bf16", "axes": axes})
    found = minimum_reconstruction_error(plain, x, z_dim=Z_DIM, protocol=protocol)
    with torch.no_grad():
        again = (x - plain(found.z)).abs().mean((1, 2, 3))
    torch.testing.assert_close(found.errors, again, rtol=1e-6, atol=1e-7)
    errors = [error for _, error in found.trace]
    assert errors == sorted(errors, reverse=True)
    fine = minimum_reconstruction_error(
        plain, x, z_dim=Z_DIM, protocol=protocol.model_copy(update={"precision": "fp32"})
    )
    assert not torch.equal(fine.z, found.z)  # so that it was searched coarsely
    assert found.mean == pytest.approx(fine.mean, rel=0.02)


def test_the_coarse_generator_computes_in_bfloat16_and_leaves_the_other_alone() -> None:
    plain, z = generator(), at(4)
    coarse = mre._coarse(plain)
    (made, gradient), (exact, slope) = value_and_gradient(coarse, z), value_and_gradient(plain, z)
    assert made.dtype == torch.float32
    assert 1e-5 < (made - exact).abs().max() < 0.05
    assert (gradient - slope).norm() < 0.2 * slope.norm()
    assert all(parameter.dtype == torch.float32 for parameter in plain.parameters())


def test_only_the_first_part_of_the_search_is_coarse() -> None:
    seen: list[torch.dtype] = []
    linear = nn.Linear(Z_DIM, math.prod(IMAGE))

    def looked(z: Tensor) -> Tensor:
        made: Tensor = linear(z)
        if z.requires_grad:
            seen.append(made.dtype)
        return made.view(-1, *IMAGE)

    protocol = Protocol(steps=10, restarts=1, precision="bf16", axes="z")
    minimum_reconstruction_error(looked, images(2), z_dim=Z_DIM, protocol=protocol)
    assert seen[1:] == [torch.bfloat16] * 6 + [torch.float32] * 4  # the first look is not part of it


def test_a_cycle_of_fixed_size_takes_the_same_steps() -> None:
    plain, x = generator().double(), images(5).double()
    axes = mre._axes(plain, Z_DIM, 0, 0, torch.device("cpu"), torch.float64)

    def search(fixed: bool) -> tuple[mre._Samples, Tensor]:
        labels = torch.zeros(20, 0, dtype=torch.float64)
        descent = mre._Descent(plain, lambda s: x[s // 4], labels, axes, Protocol(steps=20, restarts=4), 8)
        descent.fixed = fixed
        samples, _, reached, _ = descent(mre._uniform(20, Z_DIM, "test cycle").double(), 4)
        # Of 20, 10 and 5 samples at most 8 at once: 8 + 8 + 4, 8 + 2, 5 on 8.
        assert set(descent.cycles) == ({(8, False), (4, False), (2, False)} if fixed else set())
        return samples, reached

    (plainly, reached), (cycled, again) = search(False), search(True)
    torch.testing.assert_close(again, reached, rtol=1e-9, atol=0)
    for found, wanted in zip(cycled, plainly, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)


def test_where_capture_fails_the_step_runs_as_it_is_and_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "Stream", refuse)
    body = lambda: None  # noqa: E731
    with pytest.warns(UserWarning, match="without a CUDA graph.*: operation not permitted when stream is capturing$"):
        assert mre._captured(body, torch.device("cuda")) is body


def test_one_seed_gives_the_same_bits_with_every_fast_path() -> None:
    plain, x = generator(), images(5)

    def measured() -> Reconstruction:
        return minimum_reconstruction_error(
            plain, x, z_dim=Z_DIM, protocol=Protocol(steps=15, precision="bf16"), seed=3
        )

    one, two = measured(), measured()
    assert torch.equal(one.z, two.z)
    assert one.trace == two.trace


def test_the_default_protocol_finds_a_generators_own_images_again() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert self_inversion(generator(), 12, z_dim=Z_DIM).mean < 2e-3


def test_a_generator_that_is_not_finite_everywhere_is_searched_where_it_is() -> None:
    plain, z = generator(), at(4)
    z[:, 0] = -0.5
    x = plain(z)

    def holed(z: Tensor) -> Tensor:
        return torch.where(z[:, :1, None, None] > 0.5, math.nan, plain(z))

    found = minimum_reconstruction_error(holed, x, z_dim=Z_DIM, protocol=Protocol(steps=20, restarts=1))
    assert found.errors.isfinite().all()
    assert (found.z[:, 0] <= 0.5).all()


def test_the_restart_spread_over_labels_is_that_of_the_best_label() -> None:
    plain, x = generator(classes=3).double(), images(1).double()
    protocol = Protocol(steps=10, restarts=4)
    every = over_all_labels(plain, x, z_dim=Z_DIM, classes=3, protocol=protocol)
    each = [
        minimum_reconstruction_error(plain, x, z_dim=Z_DIM, classes=3, protocol=protocol, labels=torch.tensor([label]))
        for label in range(3)
    ]
    best = min(range(3), key=lambda label: each[label].mean)
    assert best != 0  # so that the first label's would be wrong
    assert every.restart_spread == pytest.approx(each[best].restart_spread)
    assert every.mean == pytest.approx(each[best].mean)


def test_a_gpus_choice_of_products_does_not_reach_the_search() -> None:
    seen = set()

    def watching(z: Tensor) -> Tensor:
        seen.add((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision))  # type: ignore[attr-defined]
        return z.new_zeros(len(z), *IMAGE) + z.sum(1)[:, None, None, None]

    with products_in("tf32"):
        minimum_reconstruction_error(watching, images(2), z_dim=Z_DIM, protocol=Protocol(steps=2, restarts=1))
        mre.self_inversion(watching, 2, z_dim=Z_DIM, protocol=Protocol(steps=2, restarts=1))
    assert seen == {("ieee", "ieee")}


@pytest.mark.parametrize("steps", [pytest.param(n, marks=gpu) for n in (1, 2, 7)])
def test_a_search_of_few_steps_is_captured_too(steps: int) -> None:
    protocol = Protocol(steps=steps, restarts=2)
    on_gpu = minimum_reconstruction_error(generator().cuda(), images(5), z_dim=Z_DIM, protocol=protocol)
    on_cpu = minimum_reconstruction_error(generator(), images(5), z_dim=Z_DIM, protocol=protocol)
    torch.testing.assert_close(on_gpu.errors, on_cpu.errors, rtol=0.02, atol=1e-3)
