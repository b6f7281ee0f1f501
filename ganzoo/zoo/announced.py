"""What installed distributions announce under the entry-point group `ganzoo`, and which of it is let in.

The variable GANZOO_PLUGINS of the environment, where it is set, limits what is loaded to the distributions and entry
points that it names, separated by commas: `GANZOO_PLUGINS=ganzoo,acme-gans,leaky`. Empty, it lets none of them in. What
it leaves out is not imported, claims no name and is not listed as broken: so one gets to work beside a plugin that
hangs or takes the interpreter down. Names are compared as the package index compares them: case, `-`, `_` and `.` do
not matter. Files and folders given by path are loaded all the same: they were asked for. Processes that a comparison
starts on this machine inherit it; a cell whose plugin is left out where it should be trained is refused by name.
"""

import os
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import PROJECT
from ganzoo.zoo.entry import said
from ganzoo.zoo.origin import Broken, Origin, normal

VARIABLE = "GANZOO_PLUGINS"


@dataclass(frozen=True)
class Announced:
    """One entry point of one distribution."""

    origin: Origin
    point: EntryPoint
    rivals: tuple[str, ...] = ()
    """Others of the same entry-point name, as people are told of them; none where it is ours and so has the name."""


def limit(environment: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """The names in GANZOO_PLUGINS, which may be none at all; None where it is not set and everything is let in."""
    if VARIABLE not in environment:
        return None
    return tuple(name for name in map(str.strip, environment[VARIABLE].split(",")) if name)


def announced(only: Iterable[str] | None = None) -> tuple[list[Announced], list[Broken]]:
    """All that is announced, ours first, and the distributions whose announcement cannot be read.

    `only`: distributions and entry points that are let in, None for all. Raises UserError for a name among them that no
    distribution and no entry point has.
    """
    found: dict[tuple[str, str, str], Announced] = {}
    unreadable: list[Broken] = []
    for distribution in distributions():
        text = _entry_points(distribution)
        if f"[{PROJECT}]" not in text:
            continue
        name = normal(_metadata(distribution, "Name") or "a distribution without a name")
        version = _metadata(distribution, "Version") or "(no version)"
        try:
            points = [point for point in distribution.entry_points if point.group == PROJECT]
        except Exception as error:  # noqa: BLE001 (importlib.metadata promises no type for a corrupt file)
            unreadable.append(Broken(Origin("entry_points.txt", name, version), said(error), traceback.format_exc()))
            continue
        for point in points:
            # An editable install can be seen twice on sys.path: once is enough.
            origin = Origin(point.value, name, version, point.name)
            found.setdefault((name, point.name, point.value), Announced(origin, point))
    every = [found[key] for key in sorted(found)]
    if only is not None:
        wanted = {normal(name): name for name in only}
        there = {str(one.origin.distribution) for one in every} | {one.point.name for one in every}
        there |= {str(broken.origin.distribution) for broken in unreadable}
        for key, name in wanted.items():
            if key not in {normal(one) for one in there}:
                raise UserError(f"{VARIABLE} names '{name}', which is not installed{did_you_mean(name, there)}")
        every = [one for one in every if {str(one.origin.distribution), normal(one.point.name)} & wanted.keys()]
        unreadable = [broken for broken in unreadable if broken.origin.distribution in wanted]
    every = [Announced(one.origin, one.point, _rivals(one, every)) for one in every]
    # Ours first: a stranger cannot take a name from under a plan that has always meant ours.
    return sorted(every, key=lambda one: not one.origin.ours), unreadable


def _rivals(one: Announced, every: list[Announced]) -> tuple[str, ...]:
    if one.origin.ours:
        return ()
    # pluggy would keep the first and say nothing.
    return tuple(str(other.origin) for other in every if other.point.name == one.point.name and other is not one)


def _entry_points(distribution: Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, ValueError):  # not ours to judge: it may be anybody's
        return ""


def _metadata(distribution: Distribution, key: str) -> str | None:
    # From Python 3.12 on `metadata[key]` warns of a key that is not there.
    return distribution.metadata[key] if key in distribution.metadata else None  # noqa: SIM401 (no `get` in its type)
