"""The laws of generators and critics, at their defaults and at each alternative of a choice (`norm="none"`, say).

The shape laws run over every image shape below that the network takes, the others at the smallest of them.
"""

from copy import deepcopy
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.errors import UserError
from ganzoo.randomness import seeded, stream

Shape = tuple[int, int, int]
SHAPES: tuple[Shape, ...] = ((1, 8, 8), (3, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64))
Z_DIM = 5
COUNT = 4
OUTPUTS = 10


def build(subject: Subject, settings: Settings, shape: Shape, outputs: int = 1, name: str = "net") -> nn.Module:
    """The network, its weights drawn under a seed. Raises UserError where the plugin takes no such shape."""
    given = (Z_DIM, shape) if subject.entry.kind == "generator" else (shape, outputs)
    with seeded(subject.seed, name):
        network = subject.entry.bind(**settings)(*given)
    if not isinstance(network, nn.Module):
        raise Refuted(f"it returned {type(network).__name__}, not a torch.nn.Module", found=type(network).__name__)
    return network.to(subject.device)


def shapes(subject: Subject, settings: Settings) -> list[Shape]:
    """The shapes that it takes, at least one."""
    taken, reasons = [], []
    for shape in SHAPES:
        try:
            build(subject, settings, shape)
        except UserError as reason:
            reasons.append(str(reason))
        else:
            taken.append(shape)
    if not taken:
        raise Refuted(f"takes none of {SHAPES}: {reasons[0]}", image_shapes=[list(shape) for shape in SHAPES])
    return taken


def smallest(subject: Subject, settings: Settings, outputs: int = 1, name: str = "net") -> tuple[nn.Module, Tensor]:
    """The network for the smallest shape that it takes, and an input for it."""
    for shape in SHAPES:
        try:
            network = build(subject, settings, shape, outputs, name)
        except UserError:
            continue
        return network, inputs(subject, shape)
    raise Skipped(f"takes none of {SHAPES}")


def inputs(subject: Subject, shape: Shape, count: int = COUNT) -> Tensor:
    """z: (count, Z_DIM), or images: (count, *shape); both uniform in [-1, 1], float32."""
    size = (Z_DIM,) if subject.entry.kind == "generator" else shape
    return (2 * torch.rand(count, *size, generator=stream(subject.seed, "x")) - 1).to(subject.device)


def scaled(network: nn.Module, factor: float) -> nn.Module:
    """Its weights `factor` times as large: what bounds the output must be the formula, not a small weight."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    return network


# Laws of both kinds


def shape_and_dtype(subject: Subject, settings: Settings) -> str | None:
    taken = shapes(subject, settings)
    kinds = (1,) if subject.entry.kind == "generator" else (1, OUTPUTS)
    for shape, outputs in product(taken, kinds):
        network = build(subject, settings, shape, outputs)
        y = network(inputs(subject, shape))
        expected = (
            (COUNT, *shape) if subject.entry.kind == "generator"
            else (COUNT,) if outputs == 1 else (COUNT, outputs)
        )  # fmt: skip
        if not isinstance(y, Tensor):
            raise Refuted(f"it should give a tensor {expected}, gives {type(y).__name__}", found=type(y).__name__)
        if y.shape != expected or y.dtype != torch.float32:
            raise Refuted(
                f"for {COUNT} images of {shape} (outputs = {outputs}) it should give {expected} in float32,"
                f" gives {tuple(y.shape)} in {y.dtype}",
                image_shape=list(shape),
                outputs=outputs,
                found=list(y.shape),
            )
        alone = network.eval()(inputs(subject, shape, 1))
        if alone.shape != (1, *expected[1:]):
            raise Refuted(
                f"for one image of {shape} it should give {(1, *expected[1:])}, gives {tuple(alone.shape)}",
                image_shape=list(shape),
                count=1,
                found=list(alone.shape),
            )
    refused = [shape for shape in SHAPES if shape not in taken]
    return f"note: takes no images of {', '.join(map(str, refused))}" if refused else None


def gradient_reaches_all(subject: Subject, settings: Settings) -> None:
    network, x = smallest(subject, settings)
    weights = torch.randn(network(x).shape, generator=stream(subject.seed, "weights")).to(x)
    (network(x) * weights).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any():
            grad = "none" if parameter.grad is None else f"{parameter.grad.abs().max().item():.3g}"
            raise Refuted(f"the gradient that reaches {name} is {grad}", parameter=name, gradient=grad)


def weights_from_the_seed(subject: Subject, settings: Settings) -> None:
    def weights(name: str) -> Tensor:
        parameters = smallest(subject, settings, name=name)[0].parameters()
        return torch.cat([p.detach().flatten() for p in parameters] or [torch.zeros(0)])

    first, again, other = weights("net"), weights("net"), weights("another")
    if not first.equal(again):
        raise Refuted("two networks built under one torch seed have different weights", seeds="equal")
    if len(first) and first.equal(other):
        raise Refuted("networks built under two torch seeds have the same weights", seeds="different")


def steady_in_eval_mode(subject: Subject, settings: Settings) -> None:
    network, x = smallest(subject, settings)
    network.eval()
    with torch.no_grad():
        with seeded(subject.seed, "first"):
            y = network(x)
        with seeded(subject.seed, "second"):
            again, alone = network(x), network(x[:1])
    if not y.equal(again):
        raise Refuted("in eval mode the same input gives two outputs", apart=(y - again).abs().max().item())
    if not torch.allclose(y[:1], alone, rtol=1e-3, atol=1e-5):
        raise Refuted("in eval mode an output depends on its batch", apart=(y[:1] - alone).abs().max().item())


def capturable(subject: Subject, settings: Settings) -> None:
    network, x = smallest(subject, settings)
    try:
        y = network.to("meta")(x.to("meta"))
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise Refuted(
            f"needs the values of its input, or a device of its own: {str(error).splitlines()[0]}", device="meta"
        ) from error
    if y.device.type != "meta":
        raise Refuted(f"leaves its input's device: {y.device}", device=str(y.device))


# Laws of a generator


def within_range(subject: Subject, settings: Settings) -> None:
    for training in (True, False):
        network, z = smallest(subject, settings)
        x = scaled(network, 100).train(training)(3 * z)
        if not (x.abs() <= 1).all():
            raise Refuted(
                f"with weights a hundred times as large a pixel is {x.abs().max().item():.6g}; [-1, 1] is the range",
                pixel=x.abs().max().item(),
            )


def on_both_sides_of_grey(subject: Subject, settings: Settings) -> None:
    network, z = smallest(subject, settings)
    # Weights and z of both signs: whatever a layer makes of one, it makes the opposite of for the other.
    x = torch.cat([scaled(network, factor).train()(3 * z) for factor in (100, -1)])
    lowest, highest = x.min().item(), x.max().item()
    if not lowest < -0.1 < 0.1 < highest:
        raise Refuted(
            f"with weights a hundred times as large, and of the other sign, pixels are {lowest:.4g} to {highest:.4g}:"
            " images are in [-1, 1], tanh at the end, not a sigmoid",
            lowest=lowest,
            highest=highest,
        )


def z_matters(subject: Subject, settings: Settings) -> None:
    network, z = smallest(subject, settings)
    x = network.eval()(z).flatten(1)
    if not (x[1:] != x[:1]).any(dim=1).all():
        raise Refuted("different z give the same image", z=z[:2].tolist())
    for i in range(Z_DIM):
        moved = z.clone()
        moved[:, i] += 0.5
        if network(moved).flatten(1).equal(x):
            raise Refuted(f"the image does not depend on z[{i}]", coordinate=i)


# Laws of a critic


def per_sample(subject: Subject, settings: Settings) -> str | None:
    network, x = smallest(subject, settings)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        return "note: batch statistics at its defaults: a per-sample penalty asks for its norm-free form"
    others = torch.cat([x[:1], -3 * x[1:]])
    # A copy meets the first batch: what a pass leaves (a step of the power method) is no word between images.
    y, z = deepcopy(network)(x)[0], network(others)[0]
    if not torch.isclose(y, z, rtol=1e-3, atol=1e-5):
        raise Refuted(
            f"L(x) depends on the other images, {y.item():.6g} or {z.item():.6g}, and no BatchNorm module says so",
            L=y.item(),
            beside_others=z.item(),
        )
    return None


def unbounded(subject: Subject, settings: Settings) -> None:
    highest = 0.0
    for name in ("net", "another", "a third"):  # a ReLU at the end is dead for some
        network, x = smallest(subject, settings, name=name)
        highest = max(highest, scaled(network, 100)(10 * x).abs().max().item())
    if not highest > 1.001:
        raise Refuted(
            f"with weights a hundred times as large |L| is at most {highest:.6g}: a sigmoid or a tanh at the end?",
            highest=highest,
        )


def trains_through_its_input_gradient(subject: Subject, settings: Settings) -> None:
    network, x = smallest(subject, settings)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    if not gradient.flatten(1).any(dim=1).all():
        raise Refuted("grad_x L(x) is zero: a generator learns nothing from it", gradient=0.0)
    moved: tuple[Tensor | None, ...] = torch.autograd.grad(
        gradient.square().sum(), [*network.parameters()], allow_unused=True
    )
    if not any(g is not None and g.any() for g in moved):
        raise Refuted("a gradient penalty moves no parameter", gradient=0.0)


_BOTH = (
    ("shape (one image too), float32", shape_and_dtype),
    ("gradient reaches every parameter", gradient_reaches_all),
    ("weights are a function of the torch seed", weights_from_the_seed),
    ("steady and per sample in eval mode", steady_in_eval_mode),
    ("capturable and device kept", capturable),
)

NETWORKS = (
    *(Check(f"generator-{i}", "generator", title, True, law, drawn=False) for i, (title, law) in enumerate(_BOTH, 1)),
    Check("generator-6", "generator", "pixels in [-1, 1] whatever the weights", True, within_range, drawn=False),
    Check("generator-7", "generator", "every coordinate of z changes the image", True, z_matters, drawn=False),
    Check(
        "generator-8",
        "generator",
        "pixels below 0 and above",
        True,
        on_both_sides_of_grey,
        drawn=False,
    ),
    *(Check(f"critic-{i}", "critic", title, True, law, drawn=False) for i, (title, law) in enumerate(_BOTH, 1)),
    Check(
        "critic-6",
        "critic",
        "L(x) per sample at its defaults, or by a visible BatchNorm",
        True,
        per_sample,
        drawn=False,
    ),
    Check("critic-7", "critic", "unbounded: no sigmoid at the end", True, unbounded, drawn=False),
    Check("critic-8", "critic", "trains through grad_x L(x)", True, trains_through_its_input_gradient, drawn=False),
)
