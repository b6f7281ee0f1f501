"""Why a plugin is there, or is not: where it comes from, who else claims its name, what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ganzoo.errors import UserError, did_you_mean
from ganzoo.zoo import Zoo
from ganzoo.zoo.announced import VARIABLE, announced, limit
from ganzoo.zoo.entry import Entry, source_sha256
from ganzoo.zoo.origin import Broken, Origin, module_file, normal


@dataclass(frozen=True)
class Account:
    """What there is to say of one plugin, or of one function of it."""

    what: str
    """`cost 'leaky'`, or the plugin where no single function is meant."""
    state: Literal["works", "broken", "left out"]
    """Left out: by GANZOO_PLUGINS."""
    origin: Origin
    source: str = ""
    """FILE:LINE, or FILE; empty where no source is to be found."""
    sha256: str = ""
    """Of the file and, within a package, of the files beside it: as a row of a comparison records it."""
    also: tuple[str, ...] = ()
    """Who else claims the name."""
    reason: str = ""
    """Why it is not loaded, in one line."""
    traceback: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        origin = self.origin
        return {
            "what": self.what,
            "state": self.state,
            "origin": {
                "distribution": origin.distribution,
                "version": origin.version,
                "entry_point": origin.entry_point,
                "plugin": origin.plugin,
            },
            "source": self.source,
            "sha256": self.sha256,
            "also_claimed_by": list(self.also),
            "reason": self.reason,
            "traceback": self.traceback,
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{self.what}: {self.state}"]
        lines += [f"  reason      {self.reason}"] if self.reason else []
        lines += _origin(self.origin)
        lines += [f"  source      {self.source}"] if self.source else []
        lines += [f"  sha256      {self.sha256}"] if self.sha256 else []
        lines += [f"  also from   {other}" for other in self.also]
        lines += ["", *(f"  | {line}" for line in self.traceback.rstrip().split("\n"))] if self.traceback else []
        return "\n".join(lines)


def _origin(origin: Origin) -> list[str]:
    if origin.distribution is None:
        return []  # the file is the source
    point = f", entry point {origin.entry_point} = {origin.plugin}" if origin.entry_point else f", {origin.plugin}"
    return [f"  origin      {origin.distribution} {origin.version}{point}"]


def why(zoo: Zoo, asked: str) -> list[Account]:
    """All that the zoo knows of what is asked for: a name, KIND/NAME, a distribution, an entry point, the module
    that it announces, or the path of a file or folder that the zoo was given.

    Raises UserError where nothing is called so, with the nearest name and all there are.
    """
    found = [_of_entry(entry, zoo) for entry in zoo if asked in _names_of(entry) or _is_of(entry.origin, asked)]
    found += [_of_broken(one, zoo) for one in zoo.broken if _names_broken(one, asked) or _is_of(one.origin, asked)]
    found = found or list(_left_out(asked))
    if found:
        return found
    known = {name for entry in zoo for name in (entry.name, *_called(entry.origin))}
    known |= {name for one in zoo.broken for name in (*_called(one.origin), *([one.subject[1]] if one.subject else []))}
    raise UserError(f"nothing is named '{asked}'{did_you_mean(asked, known)}")


def given_files(zoo: Zoo, path: Path) -> None:
    """Add a file or folder to the zoo; a broken file is listed as broken. Raises UserError for one that is absent."""
    if path.is_dir():
        zoo.add_folder(path)
        return
    before = len(zoo.broken)
    try:
        zoo.add_file(path)
    except UserError:
        if len(zoo.broken) == before and not any(one.origin.plugin == str(path) for one in zoo.broken):
            raise


def _names_of(entry: Entry) -> tuple[str, ...]:
    return (entry.name, f"{entry.kind}/{entry.name}")


def _names_broken(broken: Broken, asked: str) -> bool:
    return any(pair is not None and asked in (pair[1], "/".join(pair)) for pair in (broken.claims, broken.subject))


def _called(origin: Origin) -> tuple[str, ...]:
    """What one may ask for it by, as far as one would type it."""
    if origin.distribution is None:
        return (origin.plugin,)
    return tuple(name for name in (origin.distribution, origin.entry_point) if name)


def _is_of(origin: Origin, asked: str) -> bool:
    if origin.distribution is not None:
        same = {normal(name) for name in (origin.distribution, origin.entry_point) if name}
        return normal(asked) in same or asked in (origin.plugin, f"{origin.distribution} {origin.version}")
    try:
        wanted, path = Path(asked).resolve(), Path(origin.plugin).resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return wanted == path or (wanted in path.parents and wanted.is_dir())


def _of_entry(entry: Entry, zoo: Zoo) -> Account:
    key = (entry.kind, entry.name)
    also = tuple(str(one.origin) for one in zoo.broken if one.claims == key)
    source = f"{entry.code.co_filename}:{entry.code.co_firstlineno}"
    try:
        digest = entry.source_sha256
    except OSError:
        digest = ""  # the file has gone since
    return Account(f"{entry.kind} '{entry.name}'", "works", entry.origin, source, digest, also)


def _of_broken(broken: Broken, zoo: Zoo) -> Account:
    key = broken.claims or broken.subject
    what = str(broken.origin) if key is None else f"{key[0]} '{key[1]}'"
    also = tuple(str(entry.origin) for entry in zoo if (entry.kind, entry.name) == broken.claims)
    if broken.claims is not None:
        also += tuple(str(one.origin) for one in zoo.broken if one.claims == broken.claims and one is not broken)
    path = _file(broken)
    source = broken.source or ("" if path is None else str(path))
    return Account(what, "broken", broken.origin, source, _digest(path), also, broken.reason, broken.traceback)


def _file(broken: Broken) -> Path | None:
    if broken.source:
        path = Path(broken.source.rpartition(":")[0] if broken.source.rpartition(":")[2].isdecimal() else broken.source)
        return path if path.is_file() else None
    if broken.origin.distribution is None:
        return Path(broken.origin.plugin)
    return module_file(broken.origin.plugin.partition(":")[0])


def _digest(path: Path | None) -> str:
    try:
        if path is None:
            return ""
        return source_sha256(path.parent.glob("*.py") if (path.parent / "__init__.py").exists() else [path])
    except OSError:
        return ""


def _left_out(asked: str) -> Iterator[Account]:
    """What is announced, and GANZOO_PLUGINS does not let in."""
    only = limit()
    if only is None:
        return
    admitted = {(one.origin.distribution, one.point.name) for one in announced(only)[0]}
    for one in announced()[0]:
        if (one.origin.distribution, one.point.name) not in admitted and _is_of(one.origin, asked):
            reason = f"{VARIABLE} lets in {', '.join(only) or 'nothing that is installed'}"
            path = module_file(one.point.module)
            yield Account(str(one.origin), "left out", one.origin, str(path or ""), _digest(path), (), reason)
