"""The laws of a margin Delta(x, x'): a value a pair, non-negative, zero on equal images   (Qi 2017, sec. 3)."""

import io
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor

from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.stand_ins import partner
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.randomness import seeded, stream

SHAPES = ((1, 8, 8), (3, 32, 32))
PAIRS = 6
MAKE = "x, y = torch.rand(2, 4, 1, 8, 8).mul(2).sub(1)"


def images(subject: Subject, *names: str, shape: tuple[int, ...] = (3, 8, 8), count: int = PAIRS) -> Tensor:
    """(count, *shape) in [-1, 1], float64."""
    x = torch.rand(count, *shape, generator=stream(subject.seed, *names), dtype=torch.float64)
    return (2 * x - 1).to(subject.device)


def pairs(subject: Subject, shape: tuple[int, ...] = (3, 8, 8), count: int = PAIRS) -> tuple[Tensor, Tensor]:
    return images(subject, "real", shape=shape, count=count), images(subject, "fake", shape=shape, count=count)


def corners(subject: Subject) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs where a wrong margin shows: black and white, one pixel, hardly any difference, a checkerboard's."""
    x, y = pairs(subject)
    pixel = torch.zeros_like(x)
    pixel[:, 0, 0, 0] = 1
    board = torch.ones_like(x)
    board.flatten(1)[:, ::2] = -1
    return {
        "random": (x, y),
        "black and white": (-torch.ones_like(x), torch.ones_like(x)),
        "white and black": (torch.ones_like(x), -torch.ones_like(x)),
        "one pixel apart": (0 * x, pixel),
        "a checkerboard apart": (x / 2, x / 2 + board / 2),
        "1e-6 apart": (x, x - 1e-6),
    }


def delta(subject: Subject, settings: Settings, real: Tensor, fake: Tensor) -> Tensor:
    """Delta of copies, known to be (N,)."""
    value: Any = partner(subject.entry, **settings)(real.clone(), fake.clone())
    if not isinstance(value, Tensor) or value.shape != (len(real),):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Refuted(
            f"Delta of {tuple(real.shape)} should be ({len(real)},), is {shape}",
            f"x = torch.zeros({tuple(real.shape)}); assert margin(x, x).shape == (len(x),), margin(x, x).shape",
            images=list(real.shape),
            shape=shape,
        )
    found: Tensor = value
    return found


def one_value_a_pair(subject: Subject, settings: Settings) -> None:
    for shape in SHAPES:
        for count in (1, 2, 5):
            delta(subject, settings, *pairs(subject, shape, count))


def non_negative(subject: Subject, settings: Settings) -> None:
    for name, (x, y) in corners(subject).items():
        value = delta(subject, settings, x, y)
        if not (value >= 0).all():
            lowest = value.nan_to_num(-torch.inf).min().item()
            raise Refuted(
                f"Delta is {lowest:.6g} for images {name}",
                f"{MAKE}; both = torch.cat([margin(x, y), margin(y, x)]); assert (both >= 0).all(), both",
                images=name,
                Delta=lowest,
            )


def zero_on_equals(subject: Subject, settings: Settings) -> None:
    random = images(subject, "real")
    for name, x in {"random": random, "grey": 0 * random, "white": torch.ones_like(random)}.items():
        value = delta(subject, settings, x, x)
        if not (value == 0).all():
            raise Refuted(
                f"Delta(x, x) is {value.abs().max().item():.6g} for {name} images",
                "x = torch.ones(2, 3, 8, 8); assert (margin(x, x) == 0).all(), margin(x, x)",
                images=name,
                Delta=value.abs().max().item(),
            )


def per_pair(subject: Subject, settings: Settings) -> None:
    x, y = pairs(subject)
    together = delta(subject, settings, x, y)
    y_other = torch.cat([y[:1], -x[1:]])
    for apart, how in (
        (delta(subject, settings, x[:1], y[:1])[0], "alone"),
        (delta(subject, settings, x, y_other)[0], "beside other pairs"),
    ):
        if not torch.isclose(apart, together[0], rtol=1e-9, atol=1e-12):
            raise Refuted(
                f"Delta depends on other pairs: {together[0].item():.6g} in its batch, {apart.item():.6g} {how}",
                f"{MAKE}; alone = margin(x[:1], y[:1]); assert torch.allclose(margin(x, y)[:1], alone), alone",
                batch=together[0].item(),
                apart=apart.item(),
            )


def finite_and_dtype_kept(subject: Subject, settings: Settings) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for name, (x, y) in corners(subject).items():
            value = delta(subject, settings, x.to(dtype), y.to(dtype))
            # In bfloat16 a sum over an image may overflow; a margin is not made for that.
            if value.dtype != dtype or (dtype != torch.bfloat16 and not value.isfinite().all()):
                raise Refuted(
                    f"Delta of {dtype} images {name} is {value.tolist()} in {value.dtype}",
                    f"x = torch.ones(2, 3, 8, 8, dtype={dtype}); value = margin(x, -x);"
                    f" assert value.dtype == {dtype} and value.isfinite().all(), value.dtype",
                    dtype=dtype,
                    found=value.dtype,
                )


def works_without_gradient(subject: Subject, settings: Settings) -> None:
    x, y = pairs(subject)
    with torch.no_grad():
        quiet = delta(subject, settings, x, y)
    if delta(subject, settings, x, y).requires_grad or quiet.requires_grad:
        raise Refuted(
            "Delta of images without gradient requires one: it holds trainable parameters",
            f"{MAKE}; assert not margin(x, y).requires_grad",
            requires_grad=True,
        )


def deterministic(subject: Subject, settings: Settings) -> None:
    x, y = pairs(subject)
    with seeded(subject.seed, "first"):
        first = delta(subject, settings, x, y)
    with seeded(subject.seed, "second"):
        second = delta(subject, settings, x, y)
    if not first.equal(second):
        raise Refuted(
            f"Delta of the same pairs is {first[0].item():.6g} and then {second[0].item():.6g}",
            f"{MAKE}; assert margin(x, y).equal(margin(x, y))",
            first=first.tolist(),
            second=second.tolist(),
        )


def inputs_kept(subject: Subject, settings: Settings) -> None:
    x, y = pairs(subject)
    before = x.clone(), y.clone()
    partner(subject.entry, **settings)(x, y)
    for name, now, then in (("real", x, before[0]), ("fake", y, before[1])):
        if not now.equal(then):
            raise Refuted(
                f"Delta changes its input '{name}' in place",
                f"{MAKE}; u, v = x.clone(), y.clone(); margin(u, v); assert u.equal(x) and v.equal(y)",
                changed=name,
            )


def capturable(subject: Subject, settings: Settings) -> None:
    x = torch.empty(4, 3, 8, 8, device="meta")
    try:
        value = partner(subject.entry, **settings)(x, x)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise Refuted(
            f"Delta needs the values of its inputs, or a device of its own: {str(error).splitlines()[0]}",
            'x = torch.empty(4, 3, 8, 8, device="meta"); margin(x, x)',
            device="meta",
        ) from error
    if value.device.type != "meta":
        raise Refuted(
            f"Delta leaves its inputs' device: {value.device}",
            'x = torch.empty(4, 3, 8, 8, device="meta"); assert margin(x, x).device == x.device',
            device=str(value.device),
        )


def silent(subject: Subject, settings: Settings) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        delta(subject, settings, *pairs(subject))
    if printed.getvalue():
        raise Refuted(f"Delta prints {printed.getvalue()[:60]!r}", printed=printed.getvalue()[:60])


def symmetric(subject: Subject, settings: Settings) -> None:
    x, y = pairs(subject)
    there, back = delta(subject, settings, x, y), delta(subject, settings, y, x)
    if not torch.allclose(there, back, rtol=1e-9, atol=1e-12):
        raise Refuted(
            f"Delta(x, y) = {there[0].item():.6g}, Delta(y, x) = {back[0].item():.6g}",
            f"{MAKE}; assert torch.allclose(margin(x, y), margin(y, x)), (margin(x, y), margin(y, x))",
            there=there[0].item(),
            back=back[0].item(),
        )


def separates(subject: Subject, settings: Settings) -> None:
    values = {name: delta(subject, settings, x, y) for name, (x, y) in corners(subject).items()}
    if all((value == 0).all() for value in values.values()):
        raise Skipped("zero everywhere: it asks for no separation at all")
    largest = max(value.max().item() for value in values.values())
    for name in ("black and white", "a checkerboard apart", "random"):
        lowest = values[name].min().item()
        if not lowest > 1e-9 * largest:
            raise Refuted(
                f"Delta is {lowest:.6g} for images {name}: differences of opposite sign cancel",
                "x = torch.tensor([1.0, -1.0]).repeat(1, 3, 8, 4); assert (margin(x, -x) > 0).all(), margin(x, -x)",
                images=name,
                Delta=lowest,
            )


MARGINS = (
    Check("margin-1", "margin", "one value a pair: (N, C, H, W), (N, C, H, W) -> (N,)", True, one_value_a_pair),
    Check("margin-2", "margin", "non-negative", True, non_negative),
    Check("margin-3", "margin", "zero on equal images", True, zero_on_equals),
    Check("margin-4", "margin", "each pair for itself", True, per_pair),
    Check("margin-5", "margin", "finite on images, dtype kept", True, finite_and_dtype_kept),
    Check("margin-6", "margin", "works without gradients and asks for none", True, works_without_gradient),
    Check("margin-7", "margin", "deterministic", True, deterministic),
    Check("margin-8", "margin", "its inputs are not modified", True, inputs_kept),
    Check("margin-9", "margin", "capturable and device kept", True, capturable),
    Check("margin-10", "margin", "prints nothing", True, silent),
    Check("margin-11", "margin", "symmetric, as the paper's distance is", False, symmetric),
    Check("margin-12", "margin", "positive where images differ (a distance of features may not be)", False, separates),
)  # fmt: skip
