"""Each cheaper form of a convolution against torch's own: values, gradients, gradients of gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.arithmetic import Arithmetic
from ganzoo.convolutions import Cheaper, Convolution, Geometry, Kink, Wanted, convolved, covering, shuffled
from ganzoo.heads import BoundCritic, plain
from ganzoo.randomness import seeded, stream

Shape = tuple[int, ...]

GEOMETRIES: dict[str, tuple[Geometry, Shape, Shape]] = {
    "strided": (Geometry(False, (2, 2), (1, 1), (1, 1), 1), (2, 3, 8, 8), (5, 3, 4, 4)),
    "strided, odd map": (Geometry(False, (2, 2), (1, 1), (1, 1), 1), (2, 3, 7, 9), (5, 3, 4, 3)),
    "dilated, grouped": (Geometry(False, (1, 2), (2, 0), (2, 1), 2), (2, 4, 9, 8), (6, 2, 3, 3)),
    "covering": (Geometry(False, (1, 1), (0, 0), (1, 1), 1), (3, 4, 2, 2), (5, 4, 2, 2)),
    "covering, transposed": (Geometry(True, (1, 1), (0, 0), (1, 1), 1), (3, 4, 1, 1), (4, 5, 2, 3)),
    "narrow, transposed": (Geometry(True, (2, 2), (1, 1), (1, 1), 1), (2, 6, 4, 5), (6, 3, 4, 4)),
    "wide, transposed": (Geometry(True, (2, 2), (1, 1), (1, 1), 1), (2, 3, 4, 4), (3, 6, 4, 4)),
    "transposed, padded output": (Geometry(True, (2, 3), (1, 0), (1, 1), 1, (1, 2)), (2, 3, 3, 3), (3, 5, 3, 3)),
}


def drawn(shape: Shape, name: str) -> Tensor:
    return torch.randn(shape, generator=stream(name, 0), dtype=torch.float64)


def of(name: str) -> tuple[Geometry, Tensor, Tensor, Tensor]:
    geometry, images, kernel = GEOMETRIES[name]
    outputs = kernel[1] * geometry.groups if geometry.transposed else kernel[0]
    return geometry, drawn(images, "x"), drawn(kernel, "kernel"), drawn((outputs,), "bias")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_cheapest_form_is_torchs_convolution(name: str, memory_format: torch.memory_format) -> None:
    geometry, x, kernel, bias = of(name)
    x, kernel = x.contiguous(memory_format=memory_format), kernel.contiguous(memory_format=memory_format)
    for b in (bias, None):
        torch.testing.assert_close(convolved(x, kernel, b, geometry), geometry.convolve(x, kernel, b))


def test_each_form_is_taken_where_it_is_meant() -> None:
    taken = {}
    for name in GEOMETRIES:
        geometry, x, kernel, _ = of(name)
        taken[name] = ("covering" if geometry.covers(x, kernel) else "") or (
            "narrow" if geometry.is_narrow(kernel) else "torch"
        )
    assert [name for name, form in taken.items() if form == "covering"] == ["covering", "covering, transposed"]
    assert [name for name, form in taken.items() if form == "narrow"] == ["narrow, transposed"]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_its_gradients_and_their_gradients_are_right(name: str) -> None:
    geometry, x, kernel, bias = of(name)
    wanted = Wanted()

    def form(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        made: Tensor = Convolution.apply(x, kernel, bias, geometry, wanted, False)
        return made

    inputs = tuple(tensor.requires_grad_() for tensor in (x, kernel, bias))
    assert torch.autograd.gradcheck(form, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(form, inputs, fast_mode=True)
    ours = torch.autograd.grad(form(*inputs).square().sum(), inputs)
    theirs = torch.autograd.grad(geometry.convolve(*inputs).square().sum(), inputs)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("form", [covering, shuffled])
def test_a_form_on_its_own_is_differentiable_twice(form: Callable[..., Tensor]) -> None:
    name = "covering, transposed" if form is covering else "narrow, transposed"
    geometry, x, kernel, bias = of(name)
    arguments: tuple[Any, ...] = (geometry.transposed,) if form is covering else ()
    inputs = tuple(tensor.requires_grad_() for tensor in (x, kernel, bias))
    assert torch.autograd.gradgradcheck(lambda *them: form(*them, *arguments), inputs, fast_mode=True)


@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_a_kink_has_leaky_relus_value_and_gradient_and_no_second_one_in_x(slope: float) -> None:
    x = drawn((50,), "x").requires_grad_()
    made: Tensor = Kink.apply(x, slope)
    assert torch.equal(made, F.leaky_relu(x, slope))
    (first,) = torch.autograd.grad(made.square().sum(), x, create_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(F.leaky_relu(x, slope).square().sum(), x)[0])
    (through_square,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(through_square, torch.where(x > 0, 2.0, 2 * slope**2).to(x))
    linear: Tensor = Kink.apply(x, slope)
    (constant,) = torch.autograd.grad(linear.sum(), x, create_graph=True)
    assert not constant.requires_grad  # where torch's own carries zeros back through the network


def convolutional(activation: nn.Module) -> nn.Module:
    with seeded("network"):
        return nn.Sequential(
            nn.Conv2d(2, 3, 4, 2, 1),
            activation,
            nn.Conv2d(3, 4, 4, 2, 1),
            activation,
            nn.Conv2d(4, 1, 2),
            nn.Flatten(0),
        ).double()


@pytest.mark.parametrize(
    "activation", [nn.LeakyReLU(0.2), nn.ReLU(), nn.ELU(), nn.Softplus(), nn.LeakyReLU(0.2, inplace=True)]
)
def test_a_penalty_through_a_critic_trains_it_as_without_any_of_this(activation: nn.Module) -> None:
    network = convolutional(activation)
    x = drawn((5, 2, 8, 8), "images")

    def by(critic: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor]) -> list[Tensor]:
        network.zero_grad()
        loss = critic(x).square().mean() + gradient(x).square().sum()
        loss.backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    def as_usual(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(network(x).sum(), x, create_graph=True)[0]

    for apply in (Arithmetic(), BoundCritic(network, plain).apply):
        critic = BoundCritic(network, plain, None, apply)
        seen = BoundCritic(network, plain, None, apply, (critic.see(x),))
        wanted = by(network, as_usual)
        assert len(wanted) == 6
        torch.testing.assert_close(by(critic, critic.gradient_in_x), wanted)
        torch.testing.assert_close(by(seen, seen.gradient_in_x), wanted)


def test_what_was_seen_is_not_computed_again() -> None:
    calls = []
    network = convolutional(nn.ReLU())
    network.register_forward_hook(lambda *_: calls.append(1))
    x, other = drawn((5, 2, 8, 8), "images"), drawn((5, 2, 8, 8), "others")
    critic = BoundCritic(network, plain)
    seen = BoundCritic(network, plain, seen=(critic.see(x),))
    assert len(calls) == 1
    torch.testing.assert_close(seen(x), network(x))
    seen.gradient_in_x(x)
    assert len(calls) == 2  # the comparison's own
    seen(other)
    seen(x.clone())
    assert len(calls) == 4  # another tensor is another question, even if it is equal


def test_outside_the_block_torch_is_itself() -> None:
    x, kernel = drawn((2, 6, 4, 4), "x"), drawn((6, 3, 4, 4), "kernel").requires_grad_()
    with Cheaper():
        inside = F.conv_transpose2d(x, kernel, None, 2, 1)
    outside = F.conv_transpose2d(x, kernel, None, 2, 1)
    assert inside.grad_fn is not None
    assert outside.grad_fn is not None
    assert (inside.grad_fn.name(), outside.grad_fn.name()) == ("ConvolutionBackward", "ConvolutionBackward0")
    torch.testing.assert_close(inside, outside)


def test_padding_by_name_and_images_without_a_batch_are_left_to_torch() -> None:
    x, kernel = drawn((2, 3, 5, 5), "x"), drawn((4, 3, 3, 3), "kernel")
    with Cheaper(x):
        same, alone = F.conv2d(x, kernel, padding="same"), F.conv2d(x[0], kernel, stride=2)
    torch.testing.assert_close(same, F.conv2d(x, kernel, padding=1))
    torch.testing.assert_close(alone, F.conv2d(x, kernel, stride=2)[0])


def test_bf16_computes_the_networks_alone_in_it() -> None:
    network = convolutional(nn.LeakyReLU(0.2)).float()
    x = drawn((5, 2, 8, 8), "images").float()
    inner = []
    network[0].register_forward_hook(lambda module, inputs, output: inner.append(output.dtype))  # type: ignore[index]
    critic = BoundCritic(network, plain, None, Arithmetic("bf16"))
    made, gradient = critic(x), critic.gradient_in_x(x)
    assert inner == [torch.bfloat16, torch.bfloat16]
    assert made.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(made, network(x), rtol=0.03, atol=0.01)
    exact = BoundCritic(network, plain).gradient_in_x(x)
    assert (gradient - exact).norm() < 0.02 * exact.norm()
    assert (gradient - exact).norm() > 0
