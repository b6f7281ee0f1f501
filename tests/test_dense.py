"""Convolutions as dense matrices are torch's own convolutions: values, gradients, second derivatives, under vmap."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.dense import Dense, Recorder, matrix, places, spread

Convolution = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_equal(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def in_dense(function: Convolution, **options: Any) -> Convolution:
    def made(*tensors: Any) -> Tensor:
        with Dense(**{"entries": 1 << 30, **options}):
            return function(*tensors)

    return made


def convolution(transposed: bool, **options: Any) -> Convolution:
    function = F.conv_transpose2d if transposed else F.conv2d
    return lambda x, weight, bias: function(x, weight, bias, **options)


@st.composite
def cases(draw_from: st.DrawFn) -> tuple[bool, dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """(transposed, options, shape of the images, shape of the kernel)."""
    small, pair = st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))
    transposed, c_in, c_out = draw_from(st.booleans()), draw_from(small), draw_from(small)
    options: dict[str, Any] = {
        "stride": draw_from(st.one_of(small, pair)),
        "padding": draw_from(st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2)))),
        "dilation": draw_from(st.one_of(small, pair)),
    }
    if transposed:
        options["output_padding"] = draw_from(st.integers(0, 2))
    height, width = draw_from(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    kernel = draw_from(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    channels = (c_in, c_out) if transposed else (c_out, c_in)
    return transposed, options, (draw_from(small), c_in, height, width), (*channels, *kernel)


@given(cases(), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_convolution_has_the_values_and_gradients_of_torchs(case: Any, biased: bool) -> None:
    transposed, options, images, kernel = case
    function = convolution(transposed, **options)
    x, weight = draw(*images).requires_grad_(), draw(*kernel, seed=1).requires_grad_()
    bias = draw(kernel[1] if transposed else kernel[0], seed=2).requires_grad_() if biased else None
    try:
        wanted = function(x, weight, bias)
    except RuntimeError:
        assume(False)
    with Recorder(1 << 30) as mode:
        found = function(x, weight, bias)
    assert len(mode.met) == 1
    assert_equal(found, wanted)
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    upstream = draw(*wanted.shape, seed=3)
    assert_equal(torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(wanted, inputs, upstream))


@pytest.mark.parametrize("transposed", [False, True])
def test_second_derivatives_are_right_with_and_without_vmap(transposed: bool) -> None:
    function = in_dense(convolution(transposed, stride=2, padding=1))
    kernel = (2, 3) if transposed else (3, 2)
    tensors = [draw(2, 2, 3, 4), draw(*kernel, 3, 2, seed=1), draw(3, seed=2)]
    inputs = tuple(tensor.requires_grad_() for tensor in tensors)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    stacks = tuple(torch.stack([tensor.detach(), 2 * tensor.detach()]).requires_grad_() for tensor in tensors)
    many = torch.func.vmap(function)
    assert torch.autograd.gradcheck(many, stacks)
    assert torch.autograd.gradgradcheck(many, stacks)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_gradient_of_a_gradient_penalty_is_torchs(transposed: bool) -> None:
    x = draw(3, 2, 4, 4).requires_grad_()
    weight, bias = draw(2, 2, 4, 4, seed=1).requires_grad_(), draw(2, seed=2)

    def penalty(function: Convolution) -> Tensor:
        outputs = function(x, weight, bias).tanh().sum()
        (gradient,) = torch.autograd.grad(outputs, x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), weight)[0]

    function = convolution(transposed, stride=2, padding=1)
    assert_equal(penalty(in_dense(function)), penalty(function))


@pytest.mark.parametrize("transposed", [False, True])
def test_derivatives_of_the_kernels_gradient_are_torchs_up_to_the_fourth(transposed: bool) -> None:
    # gradgradcheck passes over a gradient that has lost its graph; here it would be missed.
    x, weight = draw(2, 2, 4, 4).requires_grad_(), draw(2, 2, 3, 3, seed=1).requires_grad_()

    def found(function: Convolution) -> list[Tensor]:
        value, made = function(x, weight, None).pow(5).sum(), []
        for _ in range(4):
            in_x, in_weight = torch.autograd.grad(value, (x, weight), create_graph=True)
            value = in_weight.pow(2).sum() * 1e-3 + in_x.mean()
            made += [in_x, in_weight]
        return made

    function = convolution(transposed, stride=2, padding=1)
    for mine, its in zip(found(in_dense(function)), found(function), strict=True):
        torch.testing.assert_close(mine / its.abs().max(), its / its.abs().max(), rtol=1e-9, atol=1e-12)


def test_kernels_may_be_stacked_along_any_axis() -> None:
    weight = draw(5, 3, 2, 3, 3)
    with Recorder() as mode:
        F.conv2d(draw(1, 2, 4, 4), weight[0])
    ((_, sizes),) = mode.met
    wanted = torch.stack([matrix(one, sizes) for one in weight])
    flat = weight.flatten(1)
    assert_equal(spread(flat, sizes), wanted)
    assert_equal(torch.func.vmap(lambda one: spread(one, sizes), in_dims=1)(flat.T), wanted)

    def gradient(one: Tensor) -> Tensor:
        return torch.func.grad(lambda one: spread(one, sizes).pow(3).sum())(one)

    assert_equal(torch.func.vmap(gradient, in_dims=1)(flat.T), torch.stack([gradient(one) for one in flat]))


def test_vmap_over_networks_is_each_network_by_itself() -> None:
    function = convolution(False, stride=2, padding=1)
    x, weight, bias = draw(5, 3, 2, 4, 4), draw(5, 4, 2, 4, 4, seed=1), draw(5, 4, seed=2)
    wanted = torch.stack([function(*each) for each in zip(x, weight, bias, strict=True)])
    assert_equal(torch.func.vmap(in_dense(function))(x, weight, bias), wanted)
    last = torch.func.vmap(in_dense(function), in_dims=(0, -1, 1))(x, weight.movedim(0, -1), bias.T)
    assert_equal(last, wanted)
    one_kernel = torch.func.vmap(in_dense(function), in_dims=(0, None, None))(x, weight[0], bias[0])
    assert_equal(one_kernel, torch.stack([function(each, weight[0], bias[0]) for each in x]))
    nested = torch.func.vmap(torch.func.vmap(in_dense(function), (0, None, None)), (0, 0, 0))
    assert_equal(nested(x[:, :, None], weight, bias)[:, :, 0], wanted)


def test_per_sample_gradients_under_vmap_are_those_of_each_sample() -> None:
    x, weight = draw(4, 2, 4, 4), draw(3, 2, 4, 4, seed=1)

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return in_dense(convolution(False, stride=2, padding=1))(image[None], weight, None).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
    for image, mine in zip(x, found, strict=True):
        own = weight.clone().requires_grad_()
        assert_equal(mine, torch.autograd.grad(F.conv2d(image[None], own, None, 2, 1).square().sum(), own)[0])


def test_weights_stand_where_the_convolution_of_unit_images_shows_them() -> None:
    weight = draw(3, 2, 3, 3)
    with Recorder() as mode:
        F.conv2d(draw(1, 2, 4, 5), weight, None, 1, 1)
    ((kernel, sizes),) = mode.met
    assert kernel is weight
    units = torch.eye(2 * 4 * 5, dtype=torch.float64).view(-1, 2, 4, 5)
    assert_equal(matrix(weight, sizes), F.conv2d(units, weight, None, 1, 1).flatten(1))
    assert places(sizes, weight.device) is places(sizes, weight.device)


def test_networks_of_every_layout_go_through_and_numbers_of_lower_precision_keep_theirs() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.ConvTranspose2d(4, 2, 4, 2, 1)).double()
    x = draw(3, 2, 8, 8)
    wanted = network(x)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with Dense() as mode:
        assert_equal(network(x.contiguous(memory_format=torch.channels_last)), wanted)
        assert mode.left_alone == 0
        with torch.autocast("cpu", torch.bfloat16):
            assert network.float()(x.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_what_is_no_plain_small_convolution_is_torchs_own(padding: str) -> None:
    x, weight = draw(2, 4, 6, 6), draw(4, 2, 3, 3, seed=1)
    square = draw(4, 4, 3, 3, seed=1)
    asked: list[Callable[[], Tensor]] = [
        lambda: F.conv2d(x, weight, groups=2),
        lambda: F.conv_transpose2d(x, weight, groups=2),
        lambda: F.conv2d(x, square, padding=padding),
        lambda: F.conv2d(x[0], square),
        lambda: F.conv_transpose2d(x[0], square),
    ]
    wanted = [function() for function in asked]
    with Dense(1 << 30) as mode:
        found = [function() for function in asked]
        with pytest.raises(RuntimeError, match="expected input"):
            F.conv2d(x[:, :1], square)
        with pytest.raises(RuntimeError, match=r"Kernel size can't be greater|output"):
            F.conv2d(x[:, :, :2], square)
    assert mode.left_alone == len(asked) + 2
    assert all(torch.equal(mine, its) for mine, its in zip(found, wanted, strict=True))


def test_a_matrix_above_the_limit_is_not_made() -> None:
    x, weight = draw(1, 2, 4, 4), draw(3, 2, 4, 4, seed=1)
    entries = 2 * 4 * 4 * 3 * 2 * 2
    for limit, left in ((entries, 0), (entries - 1, 1)):
        with Dense(limit) as mode:
            F.conv2d(x, weight, None, 2, 1)
        assert mode.left_alone == left


def test_frozen_makes_one_matrix_for_each_weight_and_only_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []

    def counted(kernel: Tensor, sizes: Any) -> Tensor:
        made.append(kernel)
        return matrix(kernel, sizes)

    monkeypatch.setattr("ganzoo.dense.matrix", counted)
    x, weights = draw(2, 2, 4, 4).requires_grad_(), [draw(3, 2, 4, 4, seed=seed) for seed in (1, 2)]
    trained = draw(3, 2, 4, 4, seed=3).requires_grad_()
    with Recorder() as recorder:
        F.conv2d(x, trained, None, 2, 1)
    ((_, sizes),) = recorder.met
    mode = Dense(frozen=True)
    for _ in range(2):
        made.clear()
        with mode:
            for _, weight in itertools.product(range(3), weights):
                found = F.conv2d(x, weight, None, 2, 1)
                (gradient,) = torch.autograd.grad(found.square().sum(), x)
                assert_equal(found, (x.flatten(1) @ matrix(weight, sizes)).view_as(found))
            F.conv2d(x, trained, None, 2, 1).sum().backward()
            F.conv2d(x, trained, None, 2, 1).sum().backward()  # its graph is gone, so its matrix is made again
        assert [id(kernel) for kernel in made] == [*map(id, weights), id(trained), id(trained)]
        assert gradient.shape == x.shape
        with torch.no_grad():
            weights[0].add_(1)
    with Dense():
        made.clear()
        assert_equal(F.conv2d(x, weights[0], None, 2, 1), F.conv2d(x, weights[0], None, 2, 1))
        assert len(made) == 2


def test_nan_and_infinity_stay_in_the_image_and_the_weight_they_are_in() -> None:
    x, weight = draw(3, 1, 4, 4), draw(2, 1, 2, 2, seed=1)
    x[1] = float("nan")
    with Dense():
        found = F.conv2d(x, weight)
        assert found[1].isnan().all()
        assert found[[0, 2]].isfinite().all()
        weight[1] = float("inf")
        assert F.conv2d(x[:1], weight)[:, 0].isfinite().all()
