"""Convolutions of small maps as dense matrices: y = x T, T the Toeplitz matrix gathered from the kernel.

A convolution of a map of few pixels is a matrix product in all but name, and torch spends most of such a convolution
on its set-up. Under `torch.func.vmap` over networks the products become one `bmm`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

ENTRIES = 1 << 17
"""The largest matrix a convolution becomes, in entries: a map of 8x8 to 16 maps of 4x4 has 2^14, 8 to 16 maps 2^17.

How many times as fast as torch's own, forward and backward, kernels 4x4 of stride 2, float32, one thread (Zen 4):

    entries                        2^13       2^15       2^17       2^19       2^21
    frozen, 100 to 1,600 images    4.1-7.1    2.3-3.6    0.8-1.7    0.3-1.1    0.2-0.4
    trained, 32 or 64 images       1.1-1.3    1.0-1.1    0.7-0.8    0.4-0.7    0.1-0.2
"""


class Sizes(NamedTuple):
    """What the places of a kernel's weights in T follow from; each pair is (vertical, horizontal)."""

    kernel: tuple[int, ...]
    """(C_out, C_in, k, k), or (C_in, C_out, k, k) transposed."""
    map: tuple[int, int]
    """Height and width of the input."""
    stride: tuple[int, int]
    padding: tuple[int, int]
    output_padding: tuple[int, int]
    dilation: tuple[int, int]
    transposed: bool

    @property
    def made(self) -> tuple[int, int]:
        """Height and width of the output."""
        high, wide = (self._made(axis) for axis in (0, 1))
        return high, wide

    def _made(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[2 + axis] - 1)
        if self.transposed:
            inner = (self.map[axis] - 1) * self.stride[axis] - 2 * self.padding[axis]
            return inner + reach + self.output_padding[axis] + 1
        return (self.map[axis] + 2 * self.padding[axis] - reach - 1) // self.stride[axis] + 1

    @property
    def channels(self) -> tuple[int, int]:
        """C_in, C_out."""
        first, second = self.kernel[:2]
        return (first, second) if self.transposed else (second, first)

    @property
    def rows(self) -> int:
        return self.channels[0] * self.map[0] * self.map[1]

    @property
    def columns(self) -> int:
        return self.channels[1] * self.made[0] * self.made[1]


class Places(NamedTuple):
    """T and its kernel gathered from each other, both flat; one past the end stands for 0."""

    of_matrix: Tensor
    """(entries of T,) int32: the weight that stands there."""
    of_kernel: Tensor
    """(m, weights) int32: the up to m places of T where a weight stands."""


@lru_cache(maxsize=64)
def places(sizes: Sizes, device: torch.device) -> Places:
    """Where each weight of the kernel stands in T, (C_in * h * w, C_out * H * W)."""
    taps = [_taps(sizes, axis) for axis in (0, 1)]
    (c_in, c_out), (_, _, high, wide) = sizes.channels, sizes.kernel
    shape = (c_in, *sizes.map, c_out, *sizes.made)

    def along(values: Tensor, *axes: int) -> Tensor:
        return values.view([shape[axis] if axis in axes else 1 for axis in range(6)])

    vertical, horizontal = along(taps[0], 1, 4), along(taps[1], 2, 5)
    inputs, outputs = along(torch.arange(c_in), 0), along(torch.arange(c_out), 3)
    pair = inputs * c_out + outputs if sizes.transposed else outputs * c_in + inputs
    weights = c_in * c_out * high * wide
    weight = (pair * high + vertical) * wide + horizontal
    of_matrix = torch.where((vertical >= 0) & (horizontal >= 0), weight, weights).flatten()

    counts = torch.bincount(of_matrix, minlength=weights + 1)[:weights]
    order = of_matrix.argsort(stable=True)[: int(counts.sum())]
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    of_kernel = torch.full((int(counts.max()), weights), len(of_matrix))
    of_kernel[rank, of_matrix[order]] = order
    return Places(of_matrix.int().to(device), of_kernel.int().to(device))


def _taps(sizes: Sizes, axis: int) -> Tensor:
    """(in, out): which tap of the kernel leads from one place on this axis to the other; -1 where none does."""
    before, after = torch.arange(sizes.map[axis])[:, None], torch.arange(sizes.made[axis])
    stride, padding, dilation = sizes.stride[axis], sizes.padding[axis], sizes.dilation[axis]
    way = after + padding - before * stride if sizes.transposed else before + padding - after * stride
    tap = way.div(dilation, rounding_mode="floor")
    return torch.where((way % dilation == 0) & (tap >= 0) & (tap < sizes.kernel[2 + axis]), tap, -1)


def _and_zero(values: Tensor) -> Tensor:
    # Not F.pad, which writes everything twice.
    return torch.cat([values, values.new_zeros(*values.shape[:-1], 1)], dim=-1)


class _Spread(torch.autograd.Function):
    """T of the kernel: (..., weights) -> (..., entries). Linear; its adjoint is `_Collect`, and the other way round."""

    @staticmethod
    def forward(kernel: Tensor, found: Places) -> Tensor:
        return _and_zero(kernel).index_select(-1, found.of_matrix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Places], output: Tensor) -> None:
        ctx.places = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Collect.apply(gradient, ctx.places), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], kernel: Tensor, found: Places) -> tuple[Tensor, int]:
        return _Spread.apply(kernel.movedim(in_dims[0], 0), found), 0


class _Collect(torch.autograd.Function):
    """Of each weight the sum over its places in T: (..., entries) -> (..., weights)."""

    @staticmethod
    def forward(matrix: Tensor, found: Places) -> Tensor:
        gathered = _and_zero(matrix).index_select(-1, found.of_kernel.flatten())
        return gathered.view(*matrix.shape[:-1], *found.of_kernel.shape).sum(-2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Places], output: Tensor) -> None:
        ctx.places = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradient, ctx.places), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], matrix: Tensor, found: Places) -> tuple[Tensor, int]:
        return _Collect.apply(matrix.movedim(in_dims[0], 0), found), 0


def matrix(kernel: Tensor, sizes: Sizes) -> Tensor:
    """T of a kernel: x.flatten(1) @ T is its convolution without bias. Differentiable twice, under vmap too.

    kernel: (C_out, C_in, k, k), or (C_in, C_out, k, k) transposed -> (C_in * h * w, C_out * H * W).
    """
    return spread(kernel.reshape(-1), sizes)


def spread(kernels: Tensor, sizes: Sizes) -> Tensor:
    """The matrices of many kernels, each flat: (..., weights) -> (..., C_in * h * w, C_out * H * W)."""
    found: Tensor = _Spread.apply(kernels, places(sizes, kernels.device))
    return found.view(*kernels.shape[:-1], sizes.rows, sizes.columns)


class Dense(TorchFunctionMode):
    """In the block `F.conv2d` and `F.conv_transpose2d` of small maps are products with dense matrices.

    entries: a convolution whose matrix would be larger, or that has groups or another form, is left as it is.
    frozen: weights that ask for no gradient do not change in the block: the matrix of each is made once.
    Values and gradients of any order are those of the convolution but for rounding; `torch.func.vmap` goes through.
    """

    def __init__(self, entries: int = ENTRIES, *, frozen: bool = False) -> None:
        super().__init__()
        self.entries, self.frozen = entries, frozen
        self.left_alone = 0
        """Convolutions that stayed what they were."""
        self._known: Any = WeakIdKeyDictionary()

    def __exit__(self, *error: Any) -> None:
        self._known = WeakIdKeyDictionary()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = _ASKED.get(function)
        if asked is not None:
            call = asked(*args, **(kwargs or {}))
            if call is not None and call.sizes.rows * call.sizes.columns <= self.entries:
                return self._product(call)
            self.left_alone += 1
        return function(*args, **(kwargs or {}))

    def know(self, kernel: Tensor, sizes: Sizes, made: Tensor) -> None:
        """In the block, take this matrix for this very kernel."""
        self._known.setdefault(kernel, {})[sizes] = made

    def _product(self, call: "Call") -> Tensor:
        made = call.images.flatten(1) @ self._matrix(call.kernel, call.sizes)
        made = made.view(-1, call.sizes.channels[1], *call.sizes.made)
        return made if call.bias is None else made + call.bias.to(made.dtype)[:, None, None]

    def _matrix(self, kernel: Tensor, sizes: Sizes) -> Tensor:
        known: Tensor | None = self._known.get(kernel, {}).get(sizes)
        if known is not None:
            return known
        made = matrix(kernel, sizes)
        if self.frozen and not kernel.requires_grad:
            self.know(kernel, sizes, made)
        return made


class Recorder(Dense):
    """Also notes which kernel met which sizes."""

    def __init__(self, entries: int = ENTRIES) -> None:
        super().__init__(entries)
        self.met: list[tuple[Tensor, Sizes]] = []

    def _matrix(self, kernel: Tensor, sizes: Sizes) -> Tensor:
        self.met.append((kernel, sizes))
        return super()._matrix(kernel, sizes)


class Call(NamedTuple):
    """A convolution that is asked for."""

    images: Tensor
    kernel: Tensor
    bias: Tensor | None
    sizes: Sizes


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call | None:
    """The arguments as torch names them -> what is asked; None for what this module leaves alone."""
    if input.dim() != 4 or groups != 1 or isinstance(padding, str):
        return None
    sizes = Sizes(
        tuple(weight.shape), _pair(input.shape[2:]), _pair(stride), _pair(padding), (0, 0), _pair(dilation), False
    )
    return _fitting(input, weight, bias, sizes)


def _conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Call | None:
    if input.dim() != 4 or groups != 1:
        return None
    shifts = _pair(stride), _pair(padding), _pair(output_padding), _pair(dilation)
    return _fitting(input, weight, bias, Sizes(tuple(weight.shape), _pair(input.shape[2:]), *shifts, True))


def _fitting(images: Tensor, kernel: Tensor, bias: Tensor | None, sizes: Sizes) -> Call | None:
    """torch itself is to speak of what does not fit."""
    fits = kernel.dim() == 4 and images.shape[1] == sizes.channels[0] and min(*sizes.made, len(images)) > 0
    return Call(images, kernel, bias, sizes) if fits else None


def _pair(value: Any) -> tuple[int, int]:
    vertical, horizontal = (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else value)
    return int(vertical), int(horizontal)


_ASKED: dict[Any, Callable[..., Call | None]] = {F.conv2d: _conv2d, F.conv_transpose2d: _conv_transpose2d}
