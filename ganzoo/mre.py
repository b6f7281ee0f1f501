"""Minimum Reconstruction Error and its controls: an instrument, so it is calibrated   (Qi 2017, sec. 9.5).

MRE(x) = min_z ||x - G(z)||_1, as the mean over pixels and channels of |x - G(z)|, pixels in [-1, 1]: 0 is a
perfect reconstruction, 2 is black for white. The paper gives neither optimiser nor steps: ours are in
`Protocol`, whose `id` belongs into every row; `trace`, `last_gain`, `restart_spread` and `self_inversion` measure
their effect.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ganzoo.arithmetic import products_in
from ganzoo.cuda_graph import cuda_graph
from ganzoo.dense import Dense
from ganzoo.errors import UserError
from ganzoo.pulse import beat
from ganzoo.randomness import seeded, stream

Generator = nn.Module | Callable[[Tensor], Tensor]
"""G: (N, z_dim + classes) -> (N, C, H, W) in [-1, 1]; the one-hot label, where there is one, follows z."""

BETAS = (0.8, 0.9)
"""Adam's memory of the gradient and of its square: short, for the sign of |x - G(z)| keeps changing."""
POOL = 2048
"""Generated images that are looked through, once a search and class, for starts near each image."""
PROBES = 512
"""z at which the generator's curvature is sampled, or 4 z_dim where that is more."""
RIDGE = 1e-5
"""Of the linear regression of z on the pool's images, as a share of their Gram matrix's trace."""
COARSE = 0.6
"""Share of the steps that `precision = "bf16"` takes in bfloat16; the others tell finer differences."""
BYTES = {"cpu": 32 << 20}
"""What a chunk's activations may take: the processor's cache; ELSEWHERE on other devices."""
ELSEWHERE = 4 << 30


class Protocol(BaseModel):
    """How z is sought: Adam on |x - G(z)| from several starts, of which the better half goes on, and again.

    Chosen on held-out images: digits 8x8, DCGAN generators of width 16, z_dim 10, trained as logistic GAN and LS-GAN
    (300 images), and CIFAR-10 32x32, width 16, z_dim 100, logistic GAN (64). Mean errors; `samples` are the gradient
    steps an image takes; the control is `self_inversion` on CIFAR-10, where it is largest; `mre1`: Adam with torch's
    own memory along the axes of z, rate 0.3, random starts, all of which go all the way.

                          samples   digits    LS-GAN   CIFAR-10   control
        600x16              2,654   0.1499    0.1502     0.2108    0.0034
        200x16                894   0.1501    0.1504     0.2112    0.0053
        200x8, the default    447   0.1505    0.1509     0.2114    0.0057
        100x8                 227   0.1510    0.1514     0.2127    0.0087
        60x4                   87   0.1538    0.1538     0.2160    0.0122
        60x1                   60   0.1561    0.1578     0.2166    0.0118
        200x1                 200   0.1539    0.1552     0.2128    0.0059
        mre1 200x4            800   0.1517    0.1516     0.2155    0.0159
        mre1 200x2            400                        0.2165    0.0184

    Of 100x8 (0.1510, 0.1514, 0.2127): random starts 0.1523, 0.1526, 0.2134; the axes of z 0.1513, 0.1518, 0.2180;
    rate 0.1 0.1512, 0.1516, 0.2139, rate 0.3 0.1514, 0.1518, 0.2126; the first 60 % in bfloat16 0.1511, 0.1513,
    0.2127, control 0.0086: no bias, so take it where it is faster. Two halvings instead of three cost a quarter more
    and gain 0.1 % at most. Images that were left alone once a tenth of the steps gained less than 0.01 % lost 1 % and
    saved little: while the rate is large the best error rests, and falls later. The larger z_dim, the more the steps
    matter and the less the starts. Linear generators come within 1 % of their exact optimum, image by image.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    steps: Annotated[int, Ge(1), Le(1_000_000)] = 200
    """Adam steps of a start that goes all the way."""
    rate: Annotated[float, Gt(0), Le(1e6)] = 0.2
    """Adam's first learning rate, in units of z."""
    restarts: Annotated[int, Ge(1), Le(10_000)] = 8
    """Starts an image; the best one counts."""
    domain: Literal["box", "free"] = "box"
    """`box`: z is clamped to the prior's [-1, 1] after each step; `free`: it may leave."""
    starts: Literal["near", "random"] = "near"
    """`near`: the first is a linear regression's guess, the others make the nearest of 2,048 generated images;
    `random`: uniform in [-1, 1]^z_dim."""
    axes: Literal["curvature", "z"] = "curvature"
    """Along which Adam scales its steps: the eigenvectors of E J'J, J = dG/dz, or the axes of z."""
    halvings: Annotated[int, Ge(0), Le(4)] = 3
    """After 10, 20, 40, 80 % of the steps (the first so many of them) an image's better half of starts goes on."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the generator in the search's first 60 %. What is reported is always measured with the generator as it is."""

    @property
    def id(self) -> str:
        """E.g. `mre2-l1-near-adam0.2-curvature-cosine-200x8-halved3-box-fp32`: figures compare only with equal ids."""
        return (
            f"mre2-l1-{self.starts}-adam{self.rate}-{self.axes}-cosine-{self.steps}x{self.restarts}"
            f"-halved{self.halvings}-{self.domain}-{self.precision}"
        )

    def share_of_rate(self, step: int) -> float:
        """The rate at a step, as a share of the first one."""
        return (1 + math.cos(math.pi * step / self.steps)) / 2

    @property
    def samples(self) -> int:
        """Gradient steps an image takes over all of its starts."""
        going, total, before = self.restarts, 0, 0
        for done in (*(t + 1 for t in self.halved_after), self.steps):
            total += going * (done - before)
            going, before = (going + 1) // 2, done
        return total

    @property
    def halved_after(self) -> tuple[int, ...]:
        """The steps after whose evaluation the worse half of the starts leaves, in order, each once."""
        steps = (round(self.steps * 2**k / 10) for k in range(self.halvings))
        return tuple(sorted({step for step in steps if 0 < step < self.steps}))


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
    chunk: int | None = None,
    first: int = 0,
    warm: Tensor | None = None,
) -> Reconstruction:
    """MRE(x) = min_z mean |x - G(z)| of each image, G frozen in eval mode   (Qi 2017, sec. 9.5).

    images: (N, C, H, W), float in [-1, 1] or uint8 (x / 127.5 - 1); any device, the generator's does the work.
    generator: (N, z_dim + classes) -> (N, C, H, W), a module or a function. z_dim: numbers in z.
    protocol: how z is sought, by its id. seed: of the starts; the same one finds the same z.
    labels: (N,) integers in [0, classes) for a conditional G(z, y): each image is sought among its own class.
    chunk: samples (image x restart) at once; changes the figures by rounding only. None: as many as fit the cache, or
        4 GiB of an accelerator.
    first: the index of images[0] in a larger set: its parts, measured apart, then start where the whole would.
    warm: (N, z_dim), a z for each image that is likely near its best: it takes the place of the first start.
    The generator's modes, flags, gradients and buffers are left as they were, and so is torch's random state.
    Raises UserError for images, labels or a generator that do not fit.
    """
    images = scaled(images)
    candidates = _checked(labels, classes, len(images))[:, None]
    return _search(generator, images, candidates, z_dim, classes, protocol, seed, chunk, first, warm)


def over_all_labels(
    generator: Generator,
    images: Tensor,
    *,
    z_dim: int,
    classes: int,
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    seed: int = 0,
    chunk: int | None = None,
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
    chunk: int | None = None,
) -> Reconstruction:
    """The control: n images G(z), z ~ U[-1, 1], are sought again; what error is left is the search's floor.

    A conditional generator (classes > 0) makes and inverts them with `labels`, (n,), or with 0, 1, 2, ... in turn.
    """
    if n < 1:
        raise UserError(f"self-inversion needs at least 1 image, not {n}")
    _at_least(1, z_dim=z_dim)
    if classes > 0 and labels is None:
        labels = torch.arange(n) % classes
    labels = _checked(labels, classes, n)
    z = torch.rand(n, z_dim, generator=stream("mre self-inversion", seed)) * 2 - 1
    device, dtype = _home(generator, z)
    inputs = torch.cat([z, _one_hot(labels, classes)], 1).to(device, dtype)
    with products_in("fp32"), _frozen(generator), seeded("mre self-inversion", seed):
        size = _chunk(_probe(generator, inputs[:1], None), device, chunk)
        images = _made(generator, inputs, size)
    return _search(generator, images, labels[:, None], z_dim, classes, protocol, seed, chunk, first=0)


class _Samples(NamedTuple):
    """Searches under way, one a row; the tensors are updated in place."""

    z: Tensor  # (S, z_dim)
    mean: Tensor  # (S, z_dim), Adam's, along the axes
    square: Tensor  # (S, z_dim)
    best: Tensor  # (S,), the least error so far
    best_z: Tensor  # (S, z_dim), where that was

    @classmethod
    def at(cls, starts: Tensor) -> "_Samples":
        nothing = torch.full_like(starts[:, 0], math.inf)
        return cls(starts.clone(), torch.zeros_like(starts), torch.zeros_like(starts), nothing, starts.clone())

    def rows(self, which: Tensor) -> "_Samples":
        return _Samples(*(tensor[which] for tensor in self))


def _search(
    generator: Generator,
    images: Tensor,
    candidates: Tensor,
    z_dim: int,
    classes: int,
    protocol: Protocol,
    seed: int,
    chunk: int | None,
    first: int,
    warm: Tensor | None = None,
) -> Reconstruction:
    """The search behind all three: images (N, C, H, W), candidates (N, L): the labels to try for each."""
    _at_least(1, z_dim=z_dim)
    _at_least(0, first=first)
    (n, tried), restarts = candidates.shape, protocol.restarts
    device, dtype = _home(generator, images)
    if warm is not None and (warm.shape != (n, z_dim) or not warm.is_floating_point()):
        raise UserError(f"warm is {warm.dtype} of shape {tuple(warm.shape)}, not one z for each image: ({n}, {z_dim})")
    # Whoever asks: a GPU's own choice of products would be another instrument.
    with products_in("fp32"), _frozen(generator), seeded("mre", seed):
        probe = torch.cat([_uniform(1, z_dim, "mre probe", seed), _one_hot(candidates[:1, 0], classes)], 1)
        size = _chunk(_probe(generator, probe.to(device, dtype), images.shape[1:]), device, chunk)
        light = _light(generator, torch.cat([probe, -probe]).to(device, dtype))
        with Dense(frozen=True) if device.type == "cpu" else nullcontext():
            starts = _starts(light, images, candidates, z_dim, classes, protocol, seed, first, device, dtype)
            if warm is not None:
                warm = warm.clamp(-1, 1) if protocol.domain == "box" else warm
                starts[:, :, 0] = warm.to(device, dtype)[:, None]
            axes = _axes(light, z_dim, classes, seed, device, dtype) if protocol.axes != "z" else None
            # A sample is (image, label, restart), a group the restarts of one (image, label).
            labels = _one_hot(candidates.flatten().repeat_interleave(restarts), classes).to(device, dtype)
            image = torch.arange(n, device=device).repeat_interleave(tried * restarts)

            def pictures(sample: Tensor) -> Tensor:
                wanted = images[image[sample].to(images.device)].to(device, dtype)
                return wanted.contiguous(memory_format=torch.channels_last)

            descend = _Descent(light, pictures, labels, axes, protocol, size)
            samples, finalists, reached, history = descend(starts.flatten(0, 2), tried * restarts)
        # What is reported comes from the generator as it is; and the last z was not evaluated yet.
        tries = [_errors(generator, pictures, labels, finalists, z, size) for z in (samples.best_z, samples.z)]
    better = tries[1] < tries[0]
    measured = torch.full_like(reached, math.inf)
    measured[finalists] = torch.where(better, tries[1], tries[0])
    found = torch.zeros(len(reached), z_dim, device=device, dtype=dtype)
    found[finalists] = torch.where(better[:, None], samples.z, samples.best_z)

    errors, place = measured.view(n, -1).min(1)  # (N,), of the image's labels and restarts
    image = torch.arange(n, device=device)
    spread = torch.where(measured.isfinite(), measured, reached).view(n, tried, restarts)[image, place // restarts]
    # The search's own arithmetic may lie a rounding below what is measured in the end.
    means = [torch.maximum(seen, errors).double().mean() for seen in history] + [errors.float().double().mean()]
    return Reconstruction(
        errors=errors.float().cpu(),
        z=found.view(n, -1, z_dim)[image, place].cpu(),
        trace=tuple(zip(_milestones(protocol.steps), torch.stack(means).tolist(), strict=True)),
        restart_spread=float((spread.amax(1) - errors).double().mean()),
    )


class _Descent:
    """Steps every sample along the protocol, `size` at a time. Nothing waits for the device."""

    def __init__(
        self,
        generator: Generator,
        pictures: Callable[[Tensor], Tensor],
        labels: Tensor,
        axes: Tensor | None,
        protocol: Protocol,
        size: int,
    ) -> None:
        self.pictures, self.labels, self.axes, self.protocol, self.size = pictures, labels, axes, protocol, size
        self.generators = (
            {False: generator, True: _coarse(generator)} if protocol.precision == "bf16" else {False: generator}
        )
        self.fixed = labels.device.type == "cuda"
        steps = range(1, protocol.steps + 1)
        knobs = [
            (protocol.rate * protocol.share_of_rate(t - 1) / (1 - BETAS[0] ** t), 1 - BETAS[1] ** t) for t in steps
        ]
        self.knobs = torch.tensor(knobs, dtype=torch.float64).to(labels)
        self.cycles: dict[tuple[int, bool], _Cycle] = {}

    def __call__(self, starts: Tensor, an_image: int) -> tuple[_Samples, Tensor, Tensor, list[Tensor]]:
        """starts (S, z_dim), `an_image` in a row belonging to one image -> the samples that went all the way, their
        places among the starts, the least error of every start (S,), and at each milestone but the last one the least
        error of each image, (N,)."""
        protocol, steps = self.protocol, self.protocol.steps
        every, going = _Samples.at(starts), torch.arange(len(starts), device=starts.device)
        restarts, history = protocol.restarts, []
        milestones, halvings = _milestones(steps)[:-1], protocol.halved_after
        # After the evaluation of z_t, t a milestone, t + 1 steps are done.
        stops = sorted({*(t + 1 for t in (*milestones, *halvings)), steps} | ({round(COARSE * steps)} - {0}))
        for begin, end in pairwise([0, *stops]):
            for part in torch.split(going, self.size):
                self._advance(every, part, begin, end)
            if end - 1 in milestones:
                history.append(every.best.view(-1, an_image).amin(1))
            if end - 1 in halvings:
                order = every.best[going].view(-1, restarts).argsort(dim=1, stable=True)
                restarts = (restarts + 1) // 2
                going = going.view(len(order), -1).gather(1, order[:, :restarts].sort(1).values).flatten()
        return every.rows(going), going, every.best, history

    def _advance(self, every: _Samples, part: Tensor, begin: int, end: int) -> None:
        """Steps begin + 1 to end of the samples `part`."""
        coarse = self.protocol.precision == "bf16" and end <= round(COARSE * self.protocol.steps)
        here, x, y = every.rows(part), self.pictures(part), self.labels[part]
        step = partial(self._step, self.generators[coarse])
        if self.fixed:
            # A power of two, lest every remainder wants a graph of its own.
            size = min(self.size, 1 << (len(part) - 1).bit_length())
            if (size, coarse) not in self.cycles:
                self.cycles[size, coarse] = _Cycle(step, self.knobs, (here, x, y), size)
            self.cycles[size, coarse](here, x, y, begin, end)
        else:
            for at in range(begin, end):
                step(here, x, y, self.knobs[at])
                beat()
        for all_of_it, its_part in zip(every, here, strict=True):
            all_of_it[part] = its_part

    def _step(self, generator: Generator, here: _Samples, x: Tensor, y: Tensor, knobs: Tensor) -> None:
        """One step of Adam, in place: no value goes to the host, so that it can be captured."""
        z = here.z.detach().requires_grad_()
        errors = _difference(generator, x, z, y)
        # The sum, not the mean: then a sample's gradient does not depend on how many neighbours it has.
        (gradient,) = torch.autograd.grad(errors.sum(), z)
        with torch.no_grad():
            better = errors < here.best  # false for NaN: what was never finite stays inf
            here.best.copy_(torch.where(better, errors, here.best))
            here.best_z.copy_(torch.where(better[:, None], here.z, here.best_z))
            if self.protocol.domain == "box":
                # What pushes against a wall must not turn the step along the other axes.
                gradient = gradient.masked_fill((here.z.abs() >= 1) & (gradient * here.z < 0), 0)
            if self.axes is not None:
                gradient = gradient @ self.axes
            here.mean.lerp_(gradient, 1 - BETAS[0])
            here.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            step = knobs[0] * here.mean / ((here.square / knobs[1]).sqrt_() + 1e-12)
            here.z.sub_(step if self.axes is None else step @ self.axes.T)
            if self.protocol.domain == "box":
                here.z.clamp_(-1, 1)


class _Cycle:
    """A descent's step on buffers of one size, captured as a CUDA graph where that can be had: a replay costs the host
    one call, and which step it is, the device counts."""

    def __init__(
        self, step: Callable[..., None], knobs: Tensor, like: tuple[_Samples, Tensor, Tensor], size: int
    ) -> None:
        def buffer(tensor: Tensor) -> Tensor:
            made = tensor.new_zeros(size, *tensor.shape[1:])
            return made.contiguous(memory_format=torch.channels_last) if made.dim() == 4 else made

        here, x, y = like
        self.here, self.x, self.y = _Samples(*map(buffer, here)), buffer(x), buffer(y)
        self.at = torch.zeros(1, dtype=torch.int64, device=x.device)

        def body() -> None:
            # Clamped: warming up takes more steps than a short search has.
            step(self.here, self.x, self.y, knobs.index_select(0, self.at.clamp(max=len(knobs) - 1))[0])
            self.at.add_(1)

        self.replay = _captured(body, x.device) if x.device.type == "cuda" else body

    def __call__(self, here: _Samples, x: Tensor, y: Tensor, begin: int, end: int) -> None:
        """Steps begin + 1 to end of at most `size` samples."""
        outer, inner = (*here, x, y), (*self.here, self.x, self.y)
        for given, buffer in zip(outer, inner, strict=True):
            buffer[: len(given)].copy_(given)
        self.at.fill_(begin)
        for _ in range(begin, end):
            self.replay()
        beat()
        for given, buffer in zip(here, self.here, strict=True):
            given.copy_(buffer[: len(given)])


def _captured(body: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`body` as a CUDA graph, or as it is, with a warning of one line, where it cannot be captured."""
    try:
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their algorithms and fill their caches
                body()
        torch.cuda.current_stream(device).wait_stream(aside)
        return cuda_graph(body, device)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"MRE runs without a CUDA graph, which this generator does not allow: {reason}", stacklevel=2)
        return body


def _difference(generator: Generator, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """mean |x - G(z, y)| of each sample: (S,)."""
    return (x - generator(torch.cat([z, y], 1) if y.shape[1] else z)).abs().mean((1, 2, 3))


@torch.no_grad()
def _errors(
    generator: Generator, pictures: Callable[[Tensor], Tensor], labels: Tensor, samples: Tensor, z: Tensor, size: int
) -> Tensor:
    """mean |x - G(z, y)| of the samples named, inf where it is not finite: (S,)."""
    parts = zip(torch.split(samples, size), torch.split(z, size), strict=True)
    errors = torch.cat([_difference(generator, pictures(part), z, labels[part]) for part, z in parts])
    return torch.where(errors.isfinite(), errors, math.inf)


@torch.no_grad()
def _made(generator: Generator, inputs: Tensor, size: int) -> Tensor:
    """G(z, y), (S, C, H, W), made `size` at a time."""
    return torch.cat([generator(part) for part in torch.split(inputs, size)])


def _light(generator: Generator, inputs: Tensor) -> Generator:
    """A copy that makes the same images with less work: each BatchNorm that follows a convolution or a linear layer in
    an nn.Sequential is folded into it. The generator itself where the copy would make other images."""
    if not isinstance(generator, nn.Module):
        return generator
    try:
        light = copy.deepcopy(generator)
    except (RuntimeError, TypeError):  # it holds tensors that torch does not copy
        return generator
    for module in light.modules():
        if isinstance(module, nn.Sequential):
            _fold(module)
    light.to(memory_format=torch.channels_last)
    with torch.no_grad():
        made, wanted = light(inputs), generator(inputs)
    tolerance = 1e-4 if wanted.dtype == torch.float32 else 1e-8
    return light if torch.allclose(made, wanted, rtol=0, atol=tolerance) else generator


def _fold(layers: nn.Sequential) -> None:
    """In place: W x + b, then (. - mean) / sqrt(var + eps) * scale + shift, becomes one W' x + b'."""
    for i, (before, after) in enumerate(pairwise(list(layers))):
        # Exact types: a parametrised layer, or somebody's own, may do anything.
        if (type(after) is not nn.BatchNorm1d and type(after) is not nn.BatchNorm2d) or after.running_mean is None:
            continue
        if type(before) is nn.Linear:
            folded: nn.Module = fuse_linear_bn_eval(before, after)
        elif type(before) is nn.Conv2d or (type(before) is nn.ConvTranspose2d and before.groups == 1):
            folded = fuse_conv_bn_eval(before, after, transpose=type(before) is nn.ConvTranspose2d)
        else:
            continue
        layers[i], layers[i + 1] = folded.requires_grad_(False), nn.Identity()


def _coarse(generator: Generator) -> Generator:
    """The generator in bfloat16 wherever autocast allows it, its images in the precision of z."""
    if isinstance(generator, nn.Module):
        generator = copy.deepcopy(generator)
        for module in generator.modules():
            if type(module) in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d):
                module.bfloat16()  # once: autocast would do it at each step

    def made(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, cache_enabled=False):
            return generator(inputs).to(inputs.dtype)

    return made


def _chunk(sample: int, device: torch.device, asked: int | None) -> int:
    """Samples at once: what was asked for, or as many as fit, `sample` bytes each. No more than depends on the kind of
    device: figures would otherwise change with the memory that happens to be free."""
    if asked is not None:
        _at_least(1, chunk=asked)
        return asked
    return min(1 << 16, max(1, BYTES.get(device.type, ELSEWHERE) // sample))


def _milestones(steps: int) -> list[int]:
    return sorted({round(steps * tenth / 10) for tenth in range(11)})


def _starts(
    generator: Generator,
    images: Tensor,
    candidates: Tensor,
    z_dim: int,
    classes: int,
    protocol: Protocol,
    seed: int,
    first: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """(N, L, restarts, z_dim): an image's starts depend on it, the generator, its label and the seed; random ones on
    (seed, its place, restart) alone.

    No random one is at the prior's centre: an untrained ReLU generator, its biases 0, has no gradient there.
    """
    (n, tried), restarts = candidates.shape, protocol.restarts
    rows = [_uniform(first + n, z_dim, "mre", seed, restart)[first:] for restart in range(restarts)]
    starts = torch.stack(rows, 1)[:, None].expand(n, tried, restarts, z_dim).to(device, dtype, copy=True)
    if protocol.starts == "random":
        return starts
    drawn = _uniform(POOL, z_dim, "mre pool", seed)
    for label in torch.unique(candidates):
        inputs = torch.cat([drawn, _one_hot(label.expand(POOL), classes)], 1).to(device, dtype)
        made = _made(generator, inputs, 256).flatten(1)
        finite = made.isfinite().all(1)
        if not finite.any():
            continue
        pool, made = inputs[finite, :z_dim], made[finite]
        ours, which = (candidates == label).nonzero(as_tuple=True)
        near = min(restarts - 1, len(pool))
        regress = _regression(made, pool)
        for part, place in zip(ours.split(1024), which.split(1024), strict=True):
            x = images[part.to(images.device)].to(device, dtype).flatten(1)
            starts[part, place, 0] = regress(x).clamp(-1, 1)
            distance = made.square().sum(1) - 2 * x @ made.T  # ||x - G(z)||^2 but for ||x||^2
            starts[part, place, 1 : near + 1] = pool[distance.topk(near, largest=False).indices]
    return starts


def _regression(x: Tensor, z: Tensor) -> Callable[[Tensor], Tensor]:
    """The ridge regression of z (M, z_dim) on x (M, d): in d or in M unknowns, whichever are fewer."""
    x_mean, z_mean = x.mean(0), z.mean(0)
    x, z = x - x_mean, z - z_mean
    gram = x.T @ x if x.shape[1] <= len(x) else x @ x.T
    ridge = (RIDGE * gram.trace()).clamp_min(1e-12) * torch.eye(len(gram), device=x.device, dtype=x.dtype)
    weights = torch.linalg.solve(gram + ridge, x.T @ z if x.shape[1] <= len(x) else z)
    weights = weights if x.shape[1] <= len(x) else x.T @ weights
    return lambda new: z_mean + (new - x_mean) @ weights


def _axes(
    generator: Generator, z_dim: int, classes: int, seed: int, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """The eigenvectors of E J'J, J = dG/dz, as columns: (z_dim, z_dim). For e ~ N(0, I) it is E (J'e)(J'e)'.

    Adam scales a step along each axis by itself, so it does best where the axes are those of the curvature, which
    differs a thousandfold between directions. None where no gradient is finite.
    """
    n = max(PROBES, 4 * z_dim)
    labels = torch.arange(n) % max(classes, 1)  # all of them: an image's axes do not depend on its company's labels
    inputs = torch.cat([_uniform(n, z_dim, "mre axes", seed), _one_hot(labels, classes)], 1).to(device, dtype)
    random = stream("mre axes", "directions", seed)
    gradients: list[Tensor] = []
    for part in torch.split(inputs, 256):
        beat()
        z, y = part[:, :z_dim].clone().requires_grad_(), part[:, z_dim:]
        made = generator(torch.cat([z, y], 1))
        direction = torch.randn(made.shape, generator=random).to(made)
        gradients += torch.autograd.grad((made * direction).sum(), z)
    gradient = torch.cat(gradients).double().cpu()
    gradient = gradient[gradient.isfinite().all(1)]
    if not len(gradient):
        return None
    vectors: Tensor = torch.linalg.eigh(gradient.T @ gradient).eigenvectors
    return vectors.to(device, dtype)


def _uniform(n: int, z_dim: int, *names: str | int) -> Tensor:
    """(n, z_dim), uniform in [-1, 1]; a row does not depend on how many follow."""
    return torch.rand(n, z_dim, generator=stream(*names)) * 2 - 1


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


def _probe(generator: Generator, inputs: Tensor, image_shape: torch.Size | None) -> int:
    """One sample, twice, through the generator: what does not fit is said in one line before the search.

    Returns the bytes that a sample's way through it and back takes, about.
    """
    width, inputs = inputs.shape[1], inputs.detach().repeat(2, 1)
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.dim() and len(tensor) == 2:  # not a weight
            kept += tensor.nbytes
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
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
    # The images, their difference from x, its sign and its gradient come to what the generator keeps.
    return kept // 2 + 4 * made[0].nbytes


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
