"""What the zoo has, for those who only want to read about it: `ganzoo`, `ganzoo list`, completion. Without torch.

Plugins import torch at their top, and torch takes seconds. So a listing first reads what the last full load kept
(`ganzoo.zoo.kept`), then the sources (`ganzoo.zoo.plain`); where both cannot know (a plugin that does more at its
import than define, two things of one name, anything that is broken), it loads the zoo, and keeps what it found for the
next time. Whichever way was gone, what is listed is what a full load lists.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import KINDS
from ganzoo.zoo import Zoo, kept
from ganzoo.zoo.announced import announced, limit
from ganzoo.zoo.entry import Entry, describe
from ganzoo.zoo.origin import Broken, Origin, module_file
from ganzoo.zoo.plain import NotPlain, Others, read_plain

PRIVATE = ("_", "test_")


@dataclass(frozen=True)
class Listed:
    """One plugin, as `describe` tells of it."""

    about: dict[str, Any]
    origin: Origin

    @property
    def kind(self) -> str:
        return str(self.about["kind"])

    @property
    def name(self) -> str:
        return str(self.about["name"])

    @property
    def formula(self) -> str:
        """The first line of its docstring."""
        return str(self.about["doc"]).partition("\n")[0]


@dataclass(frozen=True)
class Listing:
    """What there is, in the zoo's order, and what is broken."""

    plugins: tuple[Listed, ...]
    broken: tuple[Broken, ...] = ()
    known: Literal["kept", "read", "loaded"] = "loaded"
    """How: from the last full load, from the sources, by a full load."""

    def of(self, kind: str | None = None) -> list[Listed]:
        """Those of one kind, or all. Raises UserError for what is no kind."""
        if kind is None:
            return list(self.plugins)
        if kind not in KINDS:
            raise UserError(f"no kind '{kind}'{did_you_mean(kind, KINDS)}")
        return [one for one in self.plugins if one.kind == kind]

    def names(self, kind: str) -> list[str]:
        """Of one kind. Raises UserError for what is no kind."""
        return [one.name for one in self.of(kind)]


def listing(paths: Sequence[str | Path] = ()) -> Listing:
    """All that `Zoo.installed(*paths)` has, without torch where that can be known; else by loading it.

    Raises UserError as `Zoo.installed` does.
    """
    given = [Path(path) for path in paths]
    name = kept.key(given)
    return _kept(name) or _read(given) or _loaded(given, name)


def listing_at_once(paths: Sequence[str | Path] = ()) -> Listing:
    """As `listing`, but it never loads: where it cannot know, what can be read alone. For completion."""
    given = [Path(path) for path in paths]
    try:
        return _kept(kept.key(given)) or _of_entries(list(_readable(given)))
    except UserError:
        return Listing((), (), "read")


def _kept(name: str) -> Listing | None:
    content = kept.read(name)
    if content is None:
        return None
    try:
        plugins = tuple(Listed(one["about"], Origin(**one["origin"])) for one in content["plugins"])
        return Listing(plugins, tuple(_broken(one) for one in content["broken"]), "kept")
    except (KeyError, TypeError):
        return None


def _broken(one: dict[str, Any]) -> Broken:
    pairs = {key: None if one[key] is None else tuple(one[key]) for key in ("claims", "subject")}
    return Broken(**{**one, "origin": Origin(**one["origin"]), **pairs})


def _loaded(given: list[Path], name: str) -> Listing:
    zoo = Zoo.installed(*given)
    entries = list(zoo)
    plugins = tuple(Listed(about, entry.origin) for about, entry in zip(describe(entries), entries, strict=True))
    content = {
        "plugins": [{"about": one.about, "origin": asdict(one.origin)} for one in plugins],
        "broken": [asdict(broken) for broken in zoo.broken],
    }
    modules = [one.point.module for one in announced(limit())[0]]
    kept.keep(name, content, zoo.broken, modules, given)
    return Listing(plugins, zoo.broken, "loaded")


# From the sources


class _Source(NamedTuple):
    origin: Origin
    module: str
    path: Path
    file: str
    """The path as a function's code would give it."""

    def read(self, others: Others) -> list[Entry]:
        """Raises NotPlain."""
        return read_plain(self.module, self.path, self.origin, self.file, others)


def _read(given: list[Path]) -> Listing | None:
    """From the sources alone; None where they leave anything open."""
    try:
        others: Others = {}
        entries = [entry for one in _sources(given) for entry in one.read(others)]
    except NotPlain:
        return None
    names = [(entry.kind, entry.name) for entry in entries]
    return _of_entries(entries) if len(set(names)) == len(names) else None


def _of_entries(entries: list[Entry]) -> Listing:
    entries = sorted(entries, key=lambda entry: (KINDS.index(entry.kind), entry.name))
    about = zip(describe(entries), entries, strict=True)
    return Listing(tuple(Listed(described, entry.origin) for described, entry in about), (), "read")


def _sources(given: list[Path]) -> list[_Source]:
    """What the doors would load. Raises NotPlain where one of them has something to say; UserError as `announced`."""
    found, unreadable = announced(limit())
    if unreadable:
        raise NotPlain(unreadable[0].reason)
    sources = []
    for one in found:
        path = module_file(one.point.module)
        if one.rivals or one.point.attr or one.point.extras or path is None:
            raise NotPlain(f"entry point {one.point.name}")
        sources.append(_Source(one.origin, one.point.module, path, str(path)))
    return sources + list(_given_sources(given))


def _given_sources(given: list[Path]) -> Iterator[_Source]:
    seen = set()
    for door in given:
        try:
            folder, files = door.is_dir(), [door]
            if folder:
                files = [path for path in sorted(door.glob("*.py")) if not path.name.startswith(PRIVATE)]
            for path in files:
                if not path.is_file() or path.suffix != ".py":
                    raise NotPlain(f"{path} is no plugin file")
                identity = (path.resolve(), path.stem)  # as the zoo tells files apart
                if identity in seen:
                    continue
                seen.add(identity)
                yield _Source(Origin(str(path)), "ganzoo_file", path, os.path.abspath(path))
        except OSError as error:
            raise NotPlain(str(error)) from None


def _readable(given: list[Path]) -> Iterator[Entry]:
    """All that can be read, whatever the rest is like."""
    sources = []
    for one in announced(limit())[0]:
        path = module_file(one.point.module)
        if path is not None and not one.rivals:
            sources.append(_Source(one.origin, one.point.module, path, str(path)))
    with suppress(NotPlain):
        sources += list(_given_sources(given))
    others: Others = {}
    for source in sources:
        try:
            yield from source.read(others)
        except NotPlain:
            continue
