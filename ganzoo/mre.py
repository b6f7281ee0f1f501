"""Minimum Reconstruction Error and its controls: an instrument, so it is calibrated   (Qi 2017, sec. 9.5).

MRE(x) = min_z ||x - G(z)||_1, as the mean over pixels and channels of |x - G(z)|, pixels in [-1, 1]: 0 is a
perfect reconstruction, 2 is black for white. The paper gives neither optimiser nor steps: ours are in
`Protocol`, whose `id` belongs into every row; `trace`, `last_gain`, `restart_spread` and `self_inversion` measure
their effect.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.randomness import seeded, stream

Generator = nn.Module | Callable[[Tensor], Tensor]
"""G: (N, z_dim + classes) -> (N, C, H, W) in [-1, 1]; the one-hot label, where there is one, follows z."""


class Protocol(BaseModel):
    """How z is sought: Adam on |x - G(z)| from several starts, the rate falling to 0 along a cosine.

    Chosen on 450 held-out 8x8 digits, small DCGAN generators with z_dim 10 after 2,000 steps; mean errors:

        steps x restarts        100x4   200x1   200x2   200x4   200x8   400x4
        logistic GAN, rate 0.3  0.1397  0.1467  0.1400  0.1378  0.1370  0.1373
                      rate 0.1                          0.1393          0.1382
        GLS-GAN,      rate 0.3  0.1312  0.1374  0.1312  0.1293  0.1286  0.1290
                      rate 0.1                          0.1303          0.1294

    At the defaults twice the steps gain 0.3 %, twice the restarts 0.6 %, and self-inversion leaves 0.0003. The
    landscape has local minima, hence restarts and a large rate; a geometric decay was worse throughout; linear
    generators come within 0.1 % of their exact optimum. The more of the pixels z_dim is, the longer the way: of
    64 pixels, z_dim 20, 32 and 64 still gain 2, 6 and 16 % from 400 steps. There `last_gain` says so.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    steps: Annotated[int, Ge(1), Le(1_000_000)] = 200
    """Adam steps from each start."""
    rate: Annotated[float, Gt(0), Le(1e6)] = 0.3
    """Adam's first learning rate, in units of z."""
    restarts: Annotated[int, Ge(1), Le(10_000)] = 4
    """Starts an image, uniform in [-1, 1]^z_dim; the best one counts."""
    domain: Literal["box", "free"] = "box"
    """`box`: z is clamped to the prior's [-1, 1] after each step; `free`: it may leave."""

    @property
    def id(self) -> str:
        """E.g. `mre1-l1-adam0.3-cosine-200x4-box`: two figures compare only with equal ids."""
        return f"mre1-l1-adam{self.rate}-cosine-{self.steps}x{self.restarts}-{self.domain}"


class Reconstruction(NamedTuple):
    """What was found for N images. Not-finite is a result: an image whose every evaluation was NaN or
    infinite has error inf, and so then is the mean."""

    errors: Tensor
    """(N,) float32 on the CPU: min over restarts and steps of the mean |x - G(z)|, in [0, 2]."""
    z: Tensor
    """(N, z_dim) on the CPU, in the generator's precision: where that minimum was reached."""
    trace: tuple[tuple[int, float], ...]
    """(step, mean error of the best so far) at about every tenth of the steps, the first at step 0."""
    restart_spread: float
    """Mean over images of (error of the worst restart - error of the best): how much restarts matter."""

    @property
    def mean(self) -> float:
        """The MRE of the set, in [0, 2]; inf if any image's error is."""
        return float(self.errors.double().mean())

    @property
    def last_gain(self) -> float:
        """Relative fall of the mean error over the last tenth of the steps: near 0 once converged; nan at inf."""
        before, after = self.trace[-2][1], self.trace[-1][1]
        return (before - after) / before if before else 0.0


def minimum_reconstruction_error(
    generator: Generator,
    images: Tensor,
    *,
    z_dim: int,
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    seed: int = 0,
    labels: Tensor | None = None,
    classes: int = 0,
    chunk: int = 4096,
    first: int = 0,
) -> Reconstruction:
    """MRE(x) = min_z mean |x - G(z)| of each image, G frozen in eval mode   (Qi 2017, sec. 9.5).

    images: (N, C, H, W), float in [-1, 1] or uint8 (x / 127.5 - 1); any device, the generator's does the work.
    labels: (N,) integers in [0, classes) for a conditional G(z, y): each image is sought among its own class.
    chunk: samples (image x restart) at once; bounds memory and changes the figures by rounding only.
    first: the index of images[0] in a larger set: its parts, measured apart, then start where the whole would.
    The generator's modes, flags, gradients and buffers are left as they were, and so is torch's random state.
    Raises UserError for images, labels or a generator that do not fit.
    """
    images = scaled(images)
    candidates = _checked(labels, classes, len(images))[:, None]
    return _search(generator, images, candidates, z_dim, classes, protocol, seed, chunk, first)


def over_all_labels(
    generator: Generator,
    images: Tensor,
    *,
    z_dim: int,
    classes: int,
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    seed: int = 0,
    chunk: int = 4096,
    first: int = 0,
) -> Reconstruction:
    """min_{y, z} mean |x - G(z, y)|: labels are enumerated, z is sought in each from the same starts.

    Arguments and errors as in `minimum_reconstruction_error`; `classes` is at least 1, the cost is that many
    times larger. `restart_spread` is that of the label found best.
    """
    if classes < 1:
        raise UserError(f"over_all_labels needs a conditional generator: classes is {classes}, not at least 1")
    images = scaled(images)
    candidates = torch.arange(classes).expand(len(images), classes)
    return _search(generator, images, candidates, z_dim, classes, protocol, seed, chunk, first)


def self_inversion(
    generator: Generator,
    n: int,
    *,
    z_dim: int,
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    seed: int = 0,
    labels: Tensor | None = None,
    classes: int = 0,
    chunk: int = 4096,
) -> Reconstruction:
    """The control: n images G(z), z ~ U[-1, 1], are sought again; what error is left is the search's floor.

    A conditional generator (classes > 0) makes and inverts them with `labels`, (n,), or with 0, 1, 2, ... in turn.
    """
    if n < 1:
        raise UserError(f"self-inversion needs at least 1 image, not {n}")
    _at_least(1, z_dim=z_dim, chunk=chunk)
    if classes > 0 and labels is None:
        labels = torch.arange(n) % classes
    labels = _checked(labels, classes, n)
    z = torch.rand(n, z_dim, generator=stream("mre self-inversion", seed)) * 2 - 1
    device, dtype = _home(generator, z)
    inputs = torch.cat([z, _one_hot(labels, classes)], 1).to(device, dtype)
    with _frozen(generator), seeded("mre self-inversion", seed):
        _probe(generator, inputs[:1], None)
        with torch.no_grad():
            images = torch.cat([generator(part) for part in torch.split(inputs, chunk)])
    return _search(generator, images, labels[:, None], z_dim, classes, protocol, seed, chunk, first=0)


def _search(
    generator: Generator,
    images: Tensor,
    candidates: Tensor,
    z_dim: int,
    classes: int,
    protocol: Protocol,
    seed: int,
    chunk: int,
    first: int,
) -> Reconstruction:
    """The search behind all three: images (N, C, H, W), candidates (N, L): the labels to try for each."""
    _at_least(1, z_dim=z_dim, chunk=chunk)
    _at_least(0, first=first)
    (n, tried), restarts = candidates.shape, protocol.restarts
    device, dtype = _home(generator, images)
    # A sample is (image, label, restart); labels share the image's starts.
    starts = _starts(first, n, restarts, z_dim, seed)[:, None].expand(n, tried, restarts, z_dim).flatten(0, 2)
    labels = _one_hot(candidates[:, :, None].expand(n, tried, restarts).flatten(), classes)
    image = torch.arange(n).repeat_interleave(tried * restarts)
    found: list[tuple[Tensor, Tensor]] = []
    with _frozen(generator), seeded("mre", seed):
        for part in torch.split(torch.arange(len(image)), chunk):
            x = images[image[part].to(images.device)].to(device, dtype)
            z, y = starts[part].to(device, dtype), labels[part].to(device, dtype)
            if not found:
                _probe(generator, torch.cat([z, y], 1)[:1], images.shape[1:])
            found.append(_descend(generator, x, z, y, protocol))
    history = torch.cat([errors for errors, _ in found], 1).view(-1, n, tried, restarts)
    z = torch.cat([best for _, best in found]).view(n, tried, restarts, z_dim)

    least, restart = history[-1].min(2)  # (N, L)
    errors, label = least.min(1)  # (N,)
    image = torch.arange(n)
    means = history.flatten(2).amin(2).double().mean(1).tolist()
    return Reconstruction(
        errors=errors,
        z=z[image, label, restart[image, label]],
        trace=tuple(zip(_milestones(protocol.steps), means, strict=True)),
        restart_spread=float((history[-1, image, label].amax(1) - errors).double().mean()),
    )


def _descend(generator: Generator, x: Tensor, z: Tensor, y: Tensor, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Adam on every sample at once: images x (S, C, H, W), starts z (S, z_dim), one-hot labels y (S, classes)
    -> the best-so-far errors at each milestone, (milestones, S), and the best z, (S, z_dim), on the CPU.
    Nothing waits for the device before the end."""
    z = z.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=protocol.rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=protocol.steps)
    best_z, best = z.detach().clone(), torch.full((len(z),), math.inf, device=z.device, dtype=z.dtype)
    milestones, history = set(_milestones(protocol.steps)), []
    for step in range(protocol.steps + 1):
        errors = (x - generator(torch.cat([z, y], 1))).abs().flatten(1).mean(1)  # (S,)
        with torch.no_grad():
            better = errors < best  # false for NaN: what was never finite stays inf
            best = torch.where(better, errors, best)
            best_z = torch.where(better[:, None], z, best_z)
        if step in milestones:
            history.append(best)
        if step == protocol.steps:
            break
        # The sum, not the mean: then a sample's gradient does not depend on how many neighbours it has.
        (z.grad,) = torch.autograd.grad(errors.sum(), z)
        adam.step()
        cosine.step()
        if protocol.domain == "box":
            with torch.no_grad():
                z.clamp_(-1, 1)
    return torch.stack(history).float().cpu(), best_z.cpu()


def _milestones(steps: int) -> list[int]:
    return sorted({round(steps * tenth / 10) for tenth in range(11)})


def _starts(first: int, n: int, restarts: int, z_dim: int, seed: int) -> Tensor:
    """(N, restarts, z_dim), uniform in [-1, 1]; image i's r-th start depends on (seed, i, r) alone.

    None starts at the prior's centre: an untrained ReLU generator, its biases 0, has no gradient there.
    """
    rows = [torch.rand(first + n, z_dim, generator=stream("mre", seed, restart))[first:] for restart in range(restarts)]
    return torch.stack(rows, 1) * 2 - 1


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """(S,) -> (S, classes) bool; F.one_hot refuses the 0 classes of an unconditional generator."""
    return labels[:, None] == torch.arange(classes)


def _at_least(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least:
            raise UserError(f"{name} is {size}, not at least {least}")


def _home(generator: Generator, otherwise: Tensor) -> tuple[torch.device, torch.dtype]:
    """Where and in which precision the generator computes; a plain function follows the images."""
    if isinstance(generator, nn.Module):
        for tensor in (*generator.parameters(), *generator.buffers()):
            if tensor.dtype in (torch.float32, torch.float64):
                return tensor.device, tensor.dtype
            if tensor.is_floating_point():
                raise UserError(f"the generator is in {tensor.dtype}, too coarse to measure with: pass it as .float()")
    return otherwise.device, torch.promote_types(otherwise.dtype, torch.float32)


@contextmanager
def _frozen(generator: Generator) -> Iterator[None]:
    """In the block the generator is in eval mode and only z asks for gradients; after it all is as it was."""
    modules = list(generator.modules()) if isinstance(generator, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    flags = [
        (parameter, parameter.requires_grad) for module in modules for parameter in module.parameters(recurse=False)
    ]
    try:
        if isinstance(generator, nn.Module):
            generator.eval().requires_grad_(False)
        # A metric or an evaluation loop may have switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _probe(generator: Generator, inputs: Tensor, image_shape: torch.Size | None) -> None:
    """One sample, twice, through the generator: what does not fit is said in one line before the search."""
    width, inputs = inputs.shape[1], inputs.detach().repeat(2, 1)
    try:
        made = generator(inputs.requires_grad_())
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"the generator does not take z of shape (N, {width}) (z_dim + classes): {reason}") from error
    if image_shape is not None and made.shape[1:] != image_shape:
        raise UserError(
            f"the generator makes images of shape {tuple(made.shape[1:])}, "
            f"those to reconstruct are {tuple(image_shape)}"
        )
    if made.shape[:1] != inputs.shape[:1]:
        raise UserError(f"the generator makes {tuple(made.shape)} of {len(inputs)} z: not one image for each z")
    if not made.requires_grad:
        raise UserError("the generator's images have no gradient in z: is there a no_grad or a detach in it?")


def scaled(images: Tensor) -> Tensor:
    """(N, C, H, W) float in [-1, 1], or uint8 as x / 127.5 - 1; anything else is refused."""
    if images.ndim != 4 or not images.numel():
        raise UserError(f"images have shape {tuple(images.shape)}, not (N, C, H, W) with at least one image")
    if images.dtype == torch.uint8:
        return images / 127.5 - 1
    if not images.is_floating_point():
        raise UserError(f"images are {images.dtype}: float in [-1, 1] or uint8 in [0, 255] can be reconstructed")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1 and high <= 1):
        raise UserError(f"images lie in [{low:g}, {high:g}], not in [-1, 1]")
    return images.detach()


def _checked(labels: Tensor | None, classes: int, n: int) -> Tensor:
    """The labels as (N,) int64 on the CPU; zeros, which nothing reads, without classes."""
    if classes < 1:
        if labels is not None:
            raise UserError(f"labels are given, but classes is {classes}: say how many classes the generator takes")
        return torch.zeros(n, dtype=torch.int64)
    if labels is None:
        raise UserError(f"labels are missing: the generator takes {classes} classes; over_all_labels tries them all")
    if labels.shape != (n,) or labels.is_floating_point() or labels.is_complex():
        raise UserError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}, not integers of shape ({n},)")
    labels = labels.to("cpu", torch.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"labels lie in [{labels.min()}, {labels.max()}], not in [0, {classes})")
    return labels
