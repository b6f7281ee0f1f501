"""The geometry of the page's drawings: numbers in, coordinates and words out. The template makes SVG of them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Point = tuple[float, float]


class Tick(NamedTuple):
    at: float
    """Pixels."""
    text: str


class Line(NamedTuple):
    name: str
    path: str
    """SVG path data."""
    band: str
    """The outline of the band; empty where there is none."""
    marks: tuple[Point, ...]
    end: Point
    label_at: float
    """Pixels from the top, where the name stands beside the line's end."""
    style: int
    """Which colour, dash and mark: the same number for a contender everywhere on the page."""


class Level(NamedTuple):
    """A horizontal line across the chart."""

    name: str
    at: float


class Area(NamedTuple):
    name: str
    path: str
    kind: str


class Chart(NamedTuple):
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    """The frame, in pixels from the left and from the top."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_name: str
    y_name: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    areas: tuple[Area, ...] = ()
    labelled: bool = False
    """Whether the names stand beside the lines' ends."""


LETTER = 7.4
"""Pixels that a letter of a name beside a line takes."""
LONGEST_NAME = 22
"""Letters of such a name."""


class Series(NamedTuple):
    """x ascending; low and high equal to y where there is no band."""

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


class Scale(NamedTuple):
    """Values -> pixels, linearly or by their logarithm."""

    least: float
    most: float
    start: float
    """Pixels where `least` is; `most` is at `end`."""
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        form: Callable[[float], float] = math.log if self.log else float
        least, most = form(self.least), form(self.most)
        value = form(min(max(value, self.least), self.most))
        return round(self.start + (value - least) / (most - least) * (self.end - self.start), 2)

    def ticks(self, about: int) -> tuple[Tick, ...]:
        values = round_values(self.least, self.most, about)
        if self.log and self.most / self.least > 2:
            values = round_powers(self.least, self.most, about)
        step = min((b - a for a, b in itertools.pairwise(values)), default=0.0)
        own = self.log and values == round_powers(self.least, self.most, about)
        return tuple(Tick(self(value), tick_text(value, value if own else step)) for value in values)


def scale(values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.04) -> Scale:
    """One that holds all the values, with some room at either end; any will do for none of them."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    least, most = (min(finite), max(finite)) if finite else (1.0, 2.0)
    if log:
        room = max((most / least) ** margin, 1.01)
        return Scale(least / room, most * room, start, end, True)
    room = (most - least) * margin or abs(most) * 0.1 or 1.0
    return Scale(least - room, most + room, start, end)


def round_values(least: float, most: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [least, most], some `about` of them."""
    span = most - least
    if not span > 0 or not math.isfinite(span):
        return [least]
    power = 10.0 ** math.floor(math.log10(span / max(1, about)))
    step = next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= about)
    first, last = math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9)
    return [i * step for i in range(first, last + 1)] or [least]


def round_powers(least: float, most: float, about: int) -> list[float]:
    """Powers of ten and round numbers between them in [least, most]; of many decades every so many powers alone."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    every = max(1, math.ceil((high - low) / max(1, about)))
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [k * 10.0**p for p in range(low, high + 1, every) for k in digits]
        found = [value for value in found if least * (1 - 1e-9) <= value <= most * (1 + 1e-9)]
        if len(found) <= about + 1 and len(found) >= 2:
            return found
    return found or round_values(least, most, about)


def tick_text(value: float, step: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 4
    decimals += value == step and round(value * 10**decimals) != round(value * 10**decimals, 6)
    return f"{value:.{min(decimals, 6)}f}".replace("-", "\N{MINUS SIGN}") if value else "0"


def path_of(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points) if points else ""


def curves(
    series: Sequence[Series],
    *,
    width: float,
    height: float,
    x_name: str,
    y_name: str,
    log: bool = False,
    levels: dict[str, float] | None = None,
    until: float = 0.0,
    labelled: bool = False,
) -> Chart:
    """Lines with bands from 0 to `until` at least; a level far outside what the lines span is left out. `labelled`:
    names beside the lines' ends."""
    beside = 28.0 + LETTER * max((min(len(one.name), LONGEST_NAME) for one in series), default=0)
    left, right, top, bottom = 52.0, width - (beside if labelled else 10.0), 22.0, height - 40.0
    xs = [0.0, until, *(x for one in series for x in one.x)]
    ys = [y for one in series for part in (one.y, one.low, one.high) for y in part]
    log = log and all(y > 0 for y in ys)
    across = scale(xs, left, right, margin=0.02)
    inside = {name: at for name, at in (levels or {}).items() if ys and _near(at, min(ys), max(ys))}
    up = scale([*ys, *inside.values()], bottom, top, log=log)
    lines = []
    for one in series:
        points = [(across(x), up(y)) for x, y in zip(one.x, one.y, strict=True)]
        upper = [(across(x), up(y)) for x, y in zip(one.x, one.high, strict=True)]
        lower = [(across(x), up(y)) for x, y in zip(one.x, one.low, strict=True)]
        band = path_of([*upper, *reversed(lower)]) + "Z" if upper != lower else ""
        # As many marks as one can tell apart, and not all at one place.
        every = max(1, len(points) // 8)
        marks = tuple(points[one.style % every :: every]) or tuple(points[-1:])
        lines.append(Line(one.name, path_of(points), band, marks, points[-1], points[-1][1], one.style))
    return Chart(
        width, height, left, right, top, bottom,
        across.ticks(8 if width > 500 else 5), up.ticks(6), x_name, y_name,
        tuple(_apart(lines, top, bottom)), tuple(Level(name, up(at)) for name, at in inside.items()), (), labelled,
    )  # fmt: skip


def _near(value: float, least: float, most: float) -> bool:
    return least - (most - least) / 2 <= value <= most


def _apart(lines: list[Line], top: float, bottom: float, least: float = 15.0) -> list[Line]:
    """The names beside the ends, moved up and down until none covers another."""
    order = sorted(lines, key=lambda line: line.end[1])
    places = [line.end[1] for line in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + least)
    if places and (over := places[-1] - bottom) > 0:
        places[-1] -= over
        for i in reversed(range(len(places) - 1)):
            places[i] = min(places[i], places[i + 1] - least)
    at = {line.name: max(top - 8, place) for line, place in zip(order, places, strict=True)}
    return [line._replace(label_at=at[line.name]) for line in lines]


SPAN = 3.0
"""Costs are drawn over [-SPAN, SPAN]."""


def cost_shape(a: Sequence[float], c: Sequence[float], *, width: float = 260.0, height: float = 220.0) -> Chart:
    """C over [-3, 3], with what the two conditions leave: (I) C(a) >= a everywhere, (II) C(a) = a for a >= 0.

    What (I) forbids, below the diagonal, and what (II) forbids besides, above it right of 0, are areas.
    """
    left, right, top, bottom = 30.0, width - 8.0, 8.0, height - 34.0
    across, up = Scale(-SPAN, SPAN, left, right), Scale(-SPAN, SPAN, bottom, top)
    shown = [(across(x), up(y)) for x, y in zip(a, c, strict=True) if math.isfinite(y)]
    line = Line("C(a)", path_of(shown), "", (), shown[-1] if shown else (left, bottom), 0.0, 0)
    corner, origin, far = (across(-SPAN), up(-SPAN)), (across(0), up(0)), (across(SPAN), up(SPAN))
    areas = (
        Area("(I) forbids C(a) < a", path_of([corner, far, (far[0], corner[1])]) + "Z", "one"),
        Area("(II) forbids C(a) > a here", path_of([origin, far, (origin[0], far[1])]) + "Z", "two"),
    )
    ticks = [-2, 0, 2]
    return Chart(
        width, height, left, right, top, bottom,
        tuple(Tick(across(t), tick_text(t, 1)) for t in ticks), tuple(Tick(up(t), tick_text(t, 1)) for t in ticks),
        "a", "C(a)", (line,), (), areas,
    )  # fmt: skip


class Bar(NamedTuple):
    """One contender's figure on the table's common axis, in pixels from the left."""

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]


def bars(
    figures: Mapping[str, tuple[Sequence[float], float, tuple[float, float] | None]],
    others: dict[str, float],
    width: float = 180.0,
) -> tuple[dict[str, Bar], dict[str, float], tuple[Tick, ...]]:
    """label -> (its seeds' figures, their mean, the interval): the bars; where the `others` (baselines) lie, those
    that lie within or near the bars; the ticks of the axis."""
    values = [v for seeds, mean, _ in figures.values() for v in (*seeds, mean)]
    ends = [v for _, _, interval in figures.values() if interval for v in interval]
    if not values:
        return {}, {}, ()
    least, most = min(values), max(values)
    room = (most - least) or abs(most) * 0.1 or 1.0
    # An interval of two or three seeds may be many times as long as all that is there.
    kept = [min(max(v, least - room), most + room) for v in ends]
    inside = {name: v for name, v in others.items() if least - room / 2 <= v <= most + room / 2}
    across = scale([*values, *kept, *inside.values()], 6.0, width - 6.0)
    made = {
        label: Bar(
            across(mean),
            across(interval[0]) if interval else None,
            across(interval[1]) if interval else None,
            tuple(across(seed) for seed in seeds),
        )
        for label, (seeds, mean, interval) in figures.items()
    }
    return made, {name: across(v) for name, v in inside.items()}, across.ticks(4)
