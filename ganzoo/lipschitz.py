"""How steep a critic is: its Lipschitz constant sampled, which is from below, and by its layers, from above.

kappa = sup |L(x) - L(x')| / ||x - x'||_2   (Qi 2017, theorem 2, II), in units of the critic for a unit of L2 distance
between images. The paper keeps it bounded by a penalty on the gradient; WGAN clips weights.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.game import Critic
from ganzoo.penalty import input_gradient
from ganzoo.randomness import seeded, stream

CLASS_LOSS = math.sqrt(2)
"""The Lipschitz constant of a -> -log softmax(a)_y: its gradient p - e_y has the squared norm (1 - p_y)^2 + sum of
p_k^2 over k != y, at most 2 (1 - p_y)^2, and comes as near to 2 as a wrong class comes to certainty. The same holds
with "none of the classes" beside them, and for the least loss over classes."""

COINCIDING = 1e-2
"""Points nearer than this share of the longest one's norm make no secant: the rounding of L, coarser still on a GPU,
would show in its slope, and the gradient tells it better. It is about one grey level of 8 bits in every pixel."""


class Lipschitz(NamedTuple):
    """gradient, secant <= kappa <= product, but for the rounding of L; all three are equal for a linear critic whose
    points differ along its weight. NaN where the critic's values or weights are not finite."""

    gradient: float
    """The largest ||grad_x L(x)||_2 at real images, generated ones and points between."""
    secant: float
    """The largest |L(x) - L(x')| / ||x - x'||_2 over all pairs of those points; 0 where all coincide."""
    product: float | None
    """The product of the layers' norms; None where `product_of_layer_norms` knows none."""


def lipschitz(
    critic: Critic,
    network: nn.Module,
    real: Tensor,
    fake: Tensor,
    *,
    seed: int,
    head: float = 1.0,
    labels: Tensor | None = None,
) -> Lipschitz:
    """The critic's steepness at real and fake, both (N, C, H, W), and on a point of the segment between each two of an
    index, drawn with the seed.

    `critic` is the network as wired, with a head that is `head`-Lipschitz in its outputs: 1 for the bare output and
    for softplus, CLASS_LOSS for a loss of class. Where the critic is bound to labels (N,), those of real and fake
    alike, pass them: only points of one label then make a secant, for L(x, y) jumps between labels.
    The network stays in the mode that it is in; eval mode is meant, where L(x_i) depends on x_i alone. Takes (3 N)^2
    distances. Raises UserError for images that do not pair up.
    """
    if real.shape != fake.shape or real.dim() != 4 or not len(real):
        raise UserError(
            f"real images {tuple(real.shape)} and generated ones {tuple(fake.shape)} are no pairs (N, C, H, W)"
        )
    if labels is not None and labels.shape != real.shape[:1]:
        raise UserError(f"labels have shape {tuple(labels.shape)}, not ({len(real)},), one a pair")
    # Metrics run in inference mode, where no gradient could be asked for.
    with torch.inference_mode(False), torch.enable_grad(), seeded("lipschitz", seed):
        real, fake = real.detach().clone(), fake.detach().clone()
        position = torch.rand(len(real), 1, 1, 1, generator=stream("lipschitz", seed)).to(real)
        gradients, values = [], []
        parts = (real, fake, torch.lerp(fake, real, position))
        for part in parts:
            gradients.append(torch.linalg.vector_norm(input_gradient(critic, part).detach(), dim=1))
            with torch.no_grad():
                values.append(critic(part))
        repeated = None if labels is None else labels.repeat(len(parts))
        product = product_of_layer_norms(network, real[:4])
        return Lipschitz(
            gradient=float(torch.cat(gradients).max()),
            secant=steepest_secant(torch.cat(parts), torch.cat(values), repeated),
            product=None if product is None else head * product,
        )


def steepest_secant(points: Tensor, values: Tensor, labels: Tensor | None = None) -> float:
    """max |L(x) - L(x')| / ||x - x'||_2 over the pairs that do not coincide and share a label: (N, C, H, W), (N,)."""
    x, y = points.flatten(1).double(), values.double()
    rise = (y[:, None] - y[None, :]).abs()
    run = torch.cdist(x, x)
    counts = run > COINCIDING * torch.linalg.vector_norm(x, dim=1).max()
    if labels is not None:
        counts &= labels[:, None] == labels[None, :]
    # Whatever coincides: a value that is not finite shows.
    return float(torch.where(counts | ~rise.isfinite(), rise / run, 0).max())


def product_of_layer_norms(network: nn.Module, images: Tensor) -> float | None:
    """An upper bound of the network's Lipschitz constant from L2 to L2, on images of this size: (N, C, H, W) -> scalar.

    Known are chains (nn.Sequential, nested, and subclasses that do no more than reshape) of Conv2d (zero padding, any
    stride, groups 1, dilation 1), Linear, AvgPool2d, AdaptiveAvgPool2d, BatchNorm2d in eval mode, ReLU, LeakyReLU,
    ELU, Softplus, Tanh, Sigmoid, Flatten and Identity; weights may be parametrized (weight_norm, spectral_norm). None
    for any other module, and for a network whose outputs at `images` are not those of its layers, one after the other.
    """
    product, x = 1.0, images
    with torch.no_grad():
        for layer in _layers(network):
            measure = _measure(layer)
            norm = None if measure is None else measure(layer, x)
            if norm is None:
                return None
            product *= norm
            x = layer(x)
        whole, chained = network(images).flatten(), x.flatten()
    if len(whole) != len(chained) or (whole - chained).norm() > 1e-4 * whole.norm():
        return None
    return product


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """What a chain is made of, from the images to the loss."""
    if isinstance(network, nn.Sequential):
        for layer in network:
            yield from _layers(layer)
    else:
        yield network


def _measure(layer: nn.Module) -> Callable[..., float | None] | None:
    """What tells the norm of a layer of this kind. A subclass with a `forward` of its own is of another kind."""
    return next((norm for kind, norm in _NORMS.items() if type(layer).forward is kind.forward), None)


def _spectral_norm(matrix: Tensor) -> float:
    """The largest singular value of (m, n), or the largest over a batch (..., m, n); NaN if any entry is not finite."""
    if not matrix.isfinite().all():
        return math.nan  # the decomposition would raise
    gram = matrix @ matrix.mH if matrix.shape[-2] <= matrix.shape[-1] else matrix.mH @ matrix
    return float(torch.linalg.eigvalsh(gram).max().clamp(min=0).sqrt())


def _linear(layer: nn.Linear, x: Tensor) -> float:
    return _spectral_norm(layer.weight.double())


def _convolution(layer: nn.Conv2d, x: Tensor) -> float | None:
    """The smaller of two bounds on ||A||, A the layer on maps of this size; 1 to 5 % above it on DCGAN's first weights.

    Patches: A x is W, (outputs, inputs * kernel), times each patch of x, and no pixel lies in more than `overlap` of
    them, so ||A x||^2 <= ||W||^2 overlap ||x||^2. Exact where whole patches do not overlap.
    """
    if layer.groups != 1 or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return None
    weight, sides = layer.weight.double(), layer(x[:1]).shape[2:]
    overlap = math.prod(min(-(-k // s), n) for k, s, n in zip(weight.shape[2:], layer.stride, sides, strict=True))
    by_patches = math.sqrt(overlap) * _spectral_norm(weight.flatten(1))
    return by_patches if overlap == 1 else min(by_patches, _on_a_torus(weight, layer.stride, sides))


def _on_a_torus(weight: Tensor, stride: tuple[int, ...], sides: torch.Size) -> float:
    """The norm of a convolution on a torus that just holds the patches of a map of these sides: at least that on the
    map, whose rows are some of its rows.

    The Fourier transform makes a convolution W^(f) at each frequency f, and subsampling by s adds up s frequencies f =
    g + n a: its norm is max_g ||[W^(g), W^(g + n), ...]|| / sqrt(s) along each axis.
    """
    (down, across), (height, _) = stride, weight.shape[2:]
    # Sides of the torus in strides.
    rows, columns = (-(-((n - 1) * s + k) // s) for k, s, n in zip(weight.shape[2:], stride, sides, strict=True))
    along_rows = torch.fft.fft(weight, n=columns * across, dim=3).unflatten(3, (across, columns))  # (o, i, height, ...)
    a, j = torch.arange(down).to(weight)[:, None], torch.arange(height).to(weight)
    norms = []
    for g in range(rows // 2 + 1):  # the weight is real: f and -f have one norm
        turn = torch.polar(torch.ones_like(a * j), -2 * math.pi * (g + rows * a) * j / (rows * down))  # (down, height)
        matrices = torch.einsum("aj,oijbc->coiab", turn, along_rows).flatten(2)  # (columns, o, i * down * across)
        norms.append(_spectral_norm(matrices))
    return float(torch.tensor(norms, dtype=torch.float64).max()) / math.sqrt(down * across)


def _pooling(layer: nn.Module, x: Tensor) -> float:
    """sqrt(||A||_1 ||A||_inf) >= ||A||_2: the largest sum of a column and of a row of A, which has no negative entry.
    Exact where the windows do not overlap."""
    with torch.enable_grad():
        ones = torch.ones_like(x[:1], dtype=torch.float64, requires_grad=True)
        rows = layer(ones)
        (columns,) = torch.autograd.grad(rows.sum(), ones)
    return math.sqrt(float(rows.max()) * float(columns.max()))


def _batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> float | None:
    if layer.training or not layer.track_running_stats:
        return None
    assert layer.running_var is not None
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    return float((scale * layer.weight.double() if layer.affine else scale).abs().max())


def _softplus(layer: nn.Softplus, x: Tensor) -> float | None:
    """1, but for the jump of log(1 + exp(-threshold)) / beta that torch makes at its threshold."""
    return 1.0 if layer.beta > 0 and layer.threshold >= 20 else None


_NORMS: dict[type[nn.Module], Callable[..., float | None]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.AvgPool2d: _pooling,
    nn.AdaptiveAvgPool2d: _pooling,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda layer, x: 1.0,
    nn.LeakyReLU: lambda layer, x: max(1.0, abs(layer.negative_slope)),
    nn.ELU: lambda layer, x: max(1.0, abs(layer.alpha)),
    nn.Softplus: _softplus,
    nn.Tanh: lambda layer, x: 1.0,
    nn.Sigmoid: lambda layer, x: 0.25,
    nn.Flatten: lambda layer, x: 1.0,
    nn.Identity: lambda layer, x: 1.0,
}
"""Kind of layer -> (layer, its input) -> its norm, or None; read only."""
