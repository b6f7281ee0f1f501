"""The same convolutions in forms that cost less; the networks of the plugins stay as they are written.

Three forms, each equal to torch's own up to rounding:

* A kernel that covers its whole map, as at both ends of a DCGAN, is a matrix product.
* A transposed convolution into few channels, as at the image's end, is an ordinary one into four times as many, whose
  channels are then shuffled into pixels: oneDNN is slow at the former. CPU only.
* Where a gradient in the images is to be differentiated again (a gradient penalty), each layer's backward is written
  as the opposite convolution. torch's own second derivative convolves with kernels as large as the maps, and carries
  the second derivatives of ReLU and LeakyReLU, which are 0, back through the whole network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FEW = 4
"""Channels up to which a transposed convolution is shuffled from an ordinary one: of 64 channels into 3 at 16x16,
batch 64, it takes half the time (3.5 instead of 6.2 ms in fp32, 2.5 instead of 5.2 ms in bf16, one Zen 4 core)."""

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The arguments of a convolution beside its tensors."""

    transposed: bool
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    output_padding: Pair = (0, 0)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """torch's own form."""
        if self.transposed:
            return F.conv_transpose2d(
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def of_the_gradient(self, x: Tensor, weight: Tensor, grad: Tensor) -> "Geometry":
        """The opposite convolution, which takes the gradient at the output to the one at x."""
        if self.transposed:
            return self._replace(transposed=False, output_padding=(0, 0))
        height, width = (
            x.shape[2 + i]
            - ((grad.shape[2 + i] - 1) * self.stride[i] - 2 * self.padding[i])
            - (weight.shape[2 + i] - 1) * self.dilation[i]
            - 1
            for i in (0, 1)
        )
        return self._replace(transposed=True, output_padding=(height, width))

    def covers(self, x: Tensor, weight: Tensor) -> bool:
        """Whether every output is made of all of the map, or every pixel of the output of a map of one."""
        if self.groups != 1 or self.padding != (0, 0) or self.dilation != (1, 1):
            return False
        if self.transposed:
            return tuple(x.shape[2:]) == (1, 1) and self.output_padding == (0, 0)
        return x.shape[2:] == weight.shape[2:]

    def is_narrow(self, weight: Tensor) -> bool:
        """Whether it is a transposed convolution into few channels of the size that doubles a map."""
        doubles = self[1:] == ((2, 2), (1, 1), (1, 1), 1, (0, 0)) and tuple(weight.shape[2:]) == (4, 4)
        return self.transposed and doubles and weight.shape[1] <= FEW and weight.device.type == "cpu"


def covering(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    """A convolution whose kernel covers the map as a matrix product; see `Geometry.covers`."""
    # As channels-last, which takes no copy where the tensors are in that format.
    flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # (N, H*W*in)
    if transposed:
        inputs, outputs, height, width = weight.shape
        matrix = weight.permute(0, 2, 3, 1).reshape(inputs, -1)  # (in, H*W*out)
        made = (flat @ matrix).view(len(x), height, width, outputs)
    else:
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # (out, H*W*in)
        made = (flat @ matrix.t()).view(len(x), 1, 1, -1)
    return (made if bias is None else made + bias).permute(0, 3, 1, 2)


def shuffled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The transposed 4x4 convolution of stride 2 and padding 1 as a 3x3 one and a pixel shuffle.

    Pixel 2i + r is made of row i and the one before it (r = 0: taps 1 and 3) or after it (r = 1: taps 2 and 0).
    """
    absent = 4
    taps = torch.tensor([3, 1, absent, absent, 2, 0], device=weight.device)
    padded = F.pad(weight, (0, 1, 0, 1))
    chosen = padded.index_select(2, taps).index_select(3, taps)  # (in, out, 2*3, 2*3)
    inputs, outputs = weight.shape[:2]
    kernel = chosen.view(inputs, outputs, 2, 3, 2, 3).permute(1, 2, 4, 0, 3, 5).reshape(outputs * 4, inputs, 3, 3)
    repeated = None if bias is None else bias.repeat_interleave(4)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    return F.pixel_shuffle(F.conv2d(x, kernel, repeated, 1, 1), 2)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution in the cheapest form, as autograd sees it differentiable once and twice."""
    if geometry.covers(x, weight):
        return covering(x, weight, bias, geometry.transposed)
    return shuffled(x, weight, bias) if geometry.is_narrow(weight) else geometry.convolve(x, weight, bias)


class Wanted:
    """Which gradients a backward pass through `Convolution` is after: autograd does not tell a Python function."""

    def __init__(self) -> None:
        self.in_images = False

    @contextmanager
    def only_in_images(self) -> Iterator[None]:
        """Within the block those in the images; outside it those in everything else."""
        self.in_images = True
        try:
            yield
        finally:
            self.in_images = False


class Convolution(torch.autograd.Function):
    """A convolution whose backward is the opposite convolution, so that differentiating twice costs what once does."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, wanted: Wanted, first: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.wanted, ctx.first = geometry, wanted, first
        return convolved(x, weight, bias, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        x, weight = ctx.saved_tensors
        geometry, wanted = ctx.geometry, ctx.wanted
        in_x = in_weight = in_bias = None
        if ctx.needs_input_grad[0] and (wanted.in_images or not ctx.first):
            in_x = convolved(grad, weight, None, geometry.of_the_gradient(x, weight, grad))
        if ctx.needs_input_grad[1] and not wanted.in_images:
            in_weight = torch.ops.aten.convolution_backward(
                grad, x, weight, None, geometry.stride, geometry.padding, geometry.dilation, geometry.transposed,
                geometry.output_padding, geometry.groups, [False, True, False],
            )[1]  # fmt: skip
        if ctx.needs_input_grad[2] and not wanted.in_images:
            in_bias = grad.sum((0, 2, 3))
        return in_x, in_weight, in_bias, None, None, None


class Kink(torch.autograd.Function):
    """LeakyReLU, or ReLU at slope 0, whose second derivative is nothing at all rather than zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return F.leaky_relu(x, slope) if slope else x.relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Detached: else autograd would go back through the network to bring x nothing.
        return Slope.apply(gradients[0], x.detach(), ctx.slope), None


class Slope(torch.autograd.Function):
    """The gradient times 1 where x > 0, and times the slope elsewhere: linear in the gradient, constant in x."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        made: Tensor = (
            torch.ops.aten.leaky_relu_backward(grad, x, slope, False)
            if slope
            else torch.ops.aten.threshold_backward(grad, x, 0)
        )
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return Slope.apply(gradients[0], *ctx.saved_tensors, ctx.slope), None, None


class Cheaper(TorchFunctionMode):
    """Within the block the convolutions of networks take their cheapest form.

    images: those in which a gradient will be differentiated again; the block is then their way through the network,
    and `wanted` says which gradients a backward pass through it is after.
    """

    def __init__(self, images: Tensor | None = None) -> None:
        super().__init__()
        self.images = images
        self.wanted = Wanted()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = _FORMS.get(function)
        return function(*args, **(kwargs or {})) if form is None else form(self, *args, **(kwargs or {}))

    def convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        if x.dim() != 4:  # a single image, without a batch
            return geometry.convolve(x, weight, bias)
        first = x is self.images
        if torch.is_autocast_enabled(x.device.type):
            # As autocast would, which does not see inside a function of ours.
            to = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(to), weight.to(to), None if bias is None else bias.to(to)
        narrow = weight.shape[1] <= FEW and weight.device.type == "cpu"
        if geometry.covers(x, weight) or not (narrow or self.images is not None):
            return convolved(x, weight, bias, geometry)
        made: Tensor = Convolution.apply(x, weight, bias, geometry, self.wanted, first)
        return made


def _pair(size: Any) -> Pair:
    if isinstance(size, int):
        return (size, size)
    first, *others = size
    return (int(first), int(others[0] if others else first))


def _conv2d(
    mode: Cheaper, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    if isinstance(padding, str):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return mode.convolution(
        input, weight, bias, Geometry(False, _pair(stride), _pair(padding), _pair(dilation), groups)
    )


def _conv_transpose2d(
    mode: Cheaper, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    geometry = Geometry(True, _pair(stride), _pair(padding), _pair(dilation), groups, _pair(output_padding))
    return mode.convolution(input, weight, bias, geometry)


def _leaky_relu(mode: Cheaper, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    if mode.images is None:
        return F.leaky_relu(input, negative_slope, inplace)
    made: Tensor = Kink.apply(input, negative_slope)
    return made


def _relu(mode: Cheaper, input: Tensor, inplace: bool = False) -> Tensor:
    if mode.images is None:
        return F.relu(input, inplace)
    made: Tensor = Kink.apply(input, 0.0)
    return made


_FORMS: dict[Any, Callable[..., Tensor]] = {
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
    F.leaky_relu: _leaky_relu,
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
}
