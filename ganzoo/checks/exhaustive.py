"""Every float32 there is: the conditions of a cost at all 2^32 bit patterns, in worker threads that share the patterns.

    tally = Tally()
    for _, found in swept(cost, pieces_of(EVERY)):
        tally += found

A pattern is the int32 that has the bits of a float32: 0 to 0x7f7fffff are 0 to the largest float, 0x80000000 on are -0
to minus the largest, the others infinities and NaN. torch releases the interpreter's lock while it computes, so threads
use all cores, and a cost needs no pickling.

What is evaluated are the kernels that this torch takes for large batches on this device; beside them, a few values of
each piece go through the kernels of small ones.
"""

import math
import os
import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ganzoo.checks.conditions import CONDITIONS, HALVES, ULPS, is_wrong, named
from ganzoo.checks.counterexample import Refuted
from ganzoo.checks.sweep import simplest_of, simplicity
from ganzoo.game import Cost

EVERY = range(2**32)
"""The bit patterns of float32."""
NEGATIVE, EXPONENT, ODD = 1 << 31, 255 << 23, 1 << 23
FINITE = 2**32 - 2 * ODD
"""Of the patterns so many are finite: 4,278,190,080."""
PIECE = {"cpu": 2**20, "cuda": 2**25}
"""Patterns between two looks at the clock; a piece is counted whole or not at all."""
TILE = {"cpu": 2**18, "cuda": 2**25}
"""Patterns evaluated at once: on a CPU what fits into a core's cache."""
STRIDE = 4096
"""Places between the two values of a difference quotient: of neighbours the quotient is rounding and nothing else."""
MOST_THREADS = 16
"""More wait for the interpreter."""
FEW = 7
"""Values of a tile evaluated once more in a batch of so many: less than a vector register holds."""
FALLS, STEEP = "falls between neighbours", "steeper than 1"
LAWS = (
    "(I) wrong", "(I) rounding", "(I) overflow", "(II) wrong", "(II) rounding", "(II) overflow", "not finite",
    "hides NaN", "gradient", FALLS, STEEP,
)  # fmt: skip


def _order(pattern: int) -> tuple[float, ...]:
    value = value_of(pattern)
    return (math.inf, pattern) if math.isnan(value) else simplicity(value)


@dataclass(frozen=True)
class Violations:
    """Of one law: how many values, and the pattern of the simplest of them."""

    count: int = 0
    at: int | None = None

    def __add__(self, other: "Violations") -> "Violations":
        places = [at for at in (self.at, other.at) if at is not None]
        simplest = places[0] if len({*places}) == 1 else min(places, key=_order, default=None)
        return Violations(self.count + other.count, simplest)


@dataclass(frozen=True)
class Tally:
    """What some of the patterns showed. A sum of tallies does not depend on how the patterns were cut into pieces."""

    finite: int = 0
    """Finite values evaluated."""
    nan: int = 0
    """NaNs evaluated."""
    pairs: int = 0
    """Pairs of finite neighbours compared."""
    violations: dict[str, Violations] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        found = dict(self.violations)
        for law, violations in other.violations.items():
            found[law] = found.get(law, Violations()) + violations
        return Tally(self.finite + other.finite, self.nan + other.nan, self.pairs + other.pairs, found)

    def of(self, law: str) -> Violations:
        return self.violations.get(law, Violations())

    def as_dict(self) -> dict[str, Any]:
        """For a file; `read` makes it again."""
        found = {law: [v.count, v.at] for law, v in sorted(self.violations.items())}
        return {"finite": self.finite, "nan": self.nan, "pairs": self.pairs, "violations": found}

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Tally":
        """Raises ValueError, KeyError or TypeError for what `as_dict` did not make."""
        found = {law: Violations(int(count), None if at is None else int(at))
                 for law, (count, at) in content["violations"].items()}  # fmt: skip
        if not set(found) <= set(LAWS):
            raise ValueError("a law that is none")
        return cls(int(content["finite"]), int(content["nan"]), int(content["pairs"]), found)


def floats_of(start: int, stop: int, device: str = "cpu") -> Tensor:
    """(stop - start,) float32 of the patterns from `start` to before `stop`."""
    first = start - (start >= NEGATIVE) * 2**32
    if not start < stop <= (2**32 if start >= NEGATIVE else NEGATIVE):
        raise ValueError(f"patterns {start} to {stop} are not of one sign")
    return torch.arange(first, first + stop - start, dtype=torch.int32, device=device).view(torch.float32)


def value_of(pattern: int) -> float:
    """The float32 of a pattern; NaN has its payload lost."""
    return float(floats_of(pattern, pattern + 1)[0])


def pattern_of(value: float) -> int:
    """The pattern of a float32."""
    return int(torch.tensor([value], dtype=torch.float32).view(torch.int32)[0]) % 2**32


def pieces_of(patterns: range, device: str = "cpu") -> list[range]:
    """The patterns cut where the sign, the finiteness, or the number of a piece changes."""
    size = PIECE[torch.device(device).type]
    seams = {EXPONENT, EXPONENT + 1, NEGATIVE, NEGATIVE + EXPONENT, NEGATIVE + EXPONENT + 1}
    first = (patterns.start // size + 1) * size
    inner = {seam for seam in seams if patterns.start < seam < patterns.stop}
    cuts = sorted({patterns.start, patterns.stop, *range(first, patterns.stop, size), *inner})
    return [range(start, stop) for start, stop in pairwise(cuts)]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def swept(
    cost: Cost, pieces: Iterable[range], device: str = "cpu", threads: int | None = None, patience: float | None = None
) -> Generator[tuple[range, Tally], None, None]:
    """(a piece, its tally) of each of the pieces, in the order in which they are done.

    `threads`: one a core, and one for a GPU, unless said. `patience`: seconds within which some piece is to be done.
    Raises Refuted, where the cost raises, or does not come back. Torch computes with one thread in each of ours until
    the iterator is closed.
    """
    todo: queue.SimpleQueue[range] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[range, Tally] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    count = 0
    for count, piece in enumerate(pieces, 1):  # noqa: B007 (counted)
        todo.put(piece)

    def work() -> None:
        try:
            while not stop.is_set():
                piece = todo.get_nowait()
                done.put((piece, examined(cost, piece, device)))
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
            done.put(error)

    if threads is None:
        threads = min(cores(), MOST_THREADS) if torch.device(device).type == "cpu" else 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Daemons: one that a cost keeps for ever does not keep the process.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, count))]
    for worker in workers:
        worker.start()
    try:
        for _ in range(count):
            try:
                found = done.get(timeout=patience)
            except queue.Empty:
                raise Refuted(f"no answer within {patience:g} s: it hangs, or is very slow") from None
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        for worker in workers:
            worker.join(timeout=5)
        torch.set_num_threads(before)


def examined(cost: Cost, piece: range, device: str = "cpu") -> Tally:
    """The tally of one piece: patterns of one sign that are all finite or all not. Raises Refuted where C raises, or
    gives a value another result in a large batch than in a small one."""
    tile = TILE[torch.device(device).type]
    tallies = []
    for start in range(piece.start, piece.stop, tile):
        stop = min(start + tile, piece.stop)
        try:
            tallies.append(_of_tile(cost, start, stop, device))
        except Refuted:
            raise
        except (Exception, SystemExit) as error:
            low, high = sorted((value_of(start), value_of(_reach(start, stop) - 1)))
            told = " ".join(str(error).split())[:300]
            raise Refuted(
                f"raised {type(error).__name__} at float32 values from {low:.9g} to {high:.9g}: {told}",
                lowest=low, highest=high, error=type(error).__name__,
            ) from error  # fmt: skip
    return reduce(Tally.__add__, tallies, Tally())


def _reach(start: int, stop: int) -> int:
    """Where evaluation ends: beyond a tile, so that no pair is left out between two, and none is counted twice."""
    sign = start & NEGATIVE
    return stop if start - sign >= EXPONENT else min(stop + STRIDE, sign + EXPONENT)


def _of_tile(cost: Cost, start: int, stop: int, device: str) -> Tally:
    sign = start & NEGATIVE
    if start - sign >= EXPONENT:
        return _not_finite(cost, floats_of(start, stop, device))
    end = _reach(start, stop)
    with torch.enable_grad():
        leaf = floats_of(start, end, device).requires_grad_(True)
        c = cost(leaf)
        slope = torch.autograd.grad(c, leaf, torch.ones_like(c))[0] if c.requires_grad else torch.zeros_like(c)
    a, c = leaf.detach(), c.detach()
    _alone_as_here(cost, a, c)
    count = stop - start
    pairs = min(count, end - start - 1)
    found: dict[str, Violations] = {}
    own, value = a[:count], c[:count]
    if sign:
        exact = False
        _note(found, own, ~(value >= own), "(I)", cost)
        _note(found, own, (own >= 0) & (value != own), "(II)", cost)  # minus zero
        _finite(found, own, value, cost)
        _where(found, "gradient", own, ~slope[:count].isfinite() & value.isfinite())
        _where(found, FALLS, own[:pairs], ~(c[:pairs] >= c[1 : pairs + 1]))
    else:
        exact = torch.equal(c, a)
        if not exact:
            _note(found, own, ~(value >= own), "(I)", cost)
            _note(found, own, value != own, "(II)", cost)
            _finite(found, own, value, cost)
            _where(found, FALLS, own[:pairs], ~(c[:pairs] <= c[1 : pairs + 1]))
        _where(found, "gradient", own, (slope[:count] != 1) & (own > 0))
    far = min(count, end - start - STRIDE)
    if far > 0 and not exact:
        rise, run = (c[STRIDE : STRIDE + far] - c[:far]).abs(), (a[STRIDE : STRIDE + far] - a[:far]).abs()
        rounding = torch.maximum(c[:far].abs(), c[STRIDE : STRIDE + far].abs()) * (4 * torch.finfo(torch.float32).eps)
        _where(found, STEEP, own[:far], ~(rise <= run + rounding))
    return Tally(finite=count, pairs=pairs, violations=found)


def _not_finite(cost: Cost, a: Tensor) -> Tally:
    found: dict[str, Violations] = {}
    nan = a.isnan()
    with torch.no_grad():
        _where(found, "hides NaN", a, nan & ~cost(a).isnan())
    return Tally(nan=int(nan.sum()), violations=found)


def _where(found: dict[str, Violations], law: str, a: Tensor, fails: Tensor) -> None:
    """Note under `law` those of `a` that fail."""
    failing = a[fails]
    if len(failing):
        nan = bool(failing[0].isnan())
        at = int(failing[:1].view(torch.int32)) % 2**32 if nan else pattern_of(simplest_of(failing))
        found[law] = Violations(len(failing), at)


def _note(found: dict[str, Violations], a: Tensor, fails: Tensor, condition: str, cost: Cost) -> None:
    """Note the failing values of a condition under what they are due to."""
    if not fails.any():
        return
    a = a[fails]
    shortfall = CONDITIONS[condition]
    by, exact = (shortfall(a.double(), c.double()) for c in (cost(a), cost(a.double())))
    largest, eps = torch.finfo(a.dtype).max, torch.finfo(a.dtype).eps
    # (a + |a|) / 2 at 3e38: right, and too large on its way.
    overflow = (a.abs() > largest / 4) & (exact <= ULPS * eps * a.double().abs())
    wrong = is_wrong(a, by, exact) & ~overflow
    for due_to, which in (("wrong", wrong), ("rounding", ~wrong & ~overflow), ("overflow", overflow)):
        _where(found, f"{condition} {due_to}", a, which)


def _finite(found: dict[str, Violations], a: Tensor, c: Tensor, cost: Cost) -> None:
    fails = ~c.isfinite()
    if not fails.any():
        return
    failing = a[fails]
    overflows = cost(failing.double()) > torch.finfo(a.dtype).max * (1 - torch.finfo(a.dtype).eps)
    fails[fails.clone()] = ~((c[fails] == torch.inf) & (failing < 0) & overflows)
    _where(found, "not finite", a, fails)


def _alone_as_here(cost: Cost, a: Tensor, c: Tensor) -> None:
    """A few of the values in a batch of their own, where C takes them by other kernels."""
    step = max(1, len(a) // FEW)
    few, among = a[::step][:FEW].contiguous(), c[::step][:FEW]
    apart = cost(few)
    # Of two kernels one may overflow a little before the other.
    differ = ~torch.isclose(among, apart, rtol=1e-5, atol=1e-37, equal_nan=True) & ~(among.abs() > 1e38)
    if differ.any():
        i = int(differ.nonzero()[0])
        raise Refuted(
            f"C depends on its batch: C({few[i].item():.9g}) is {among[i].item():.9g} among {len(a):,} values and"
            f" {apart[i].item():.9g} among {len(few)}",
            f"x = torch.tensor([{few[i].item()!r}]); a = x.repeat({len(a)});"
            " assert torch.allclose(cost(a)[:1], cost(x)), (cost(a)[:1], cost(x))",
            a=few[i].item(), batch=among[i].item(), apart=apart[i].item(),
        )  # fmt: skip


def halves_examined(cost: Cost, device: str = "cpu") -> dict[str, Tally]:
    """Conditions (I) and (II) at every finite bfloat16 and float16: the tally by the dtype's name."""
    tallies = {}
    for dtype in HALVES:
        a = torch.arange(-(2**15), 2**15, dtype=torch.int32, device=device).to(torch.int16).view(dtype)
        a = a[a.isfinite()]
        found: dict[str, Violations] = {}
        with torch.no_grad():
            c = cost(a)
        for condition, fails in (("(I)", ~(c >= a)), ("(II)", (a >= 0) & (c != a))):
            _note(found, a, fails, condition, cost)
        tallies[named(dtype)] = Tally(finite=len(a), violations=found)
    return tallies
