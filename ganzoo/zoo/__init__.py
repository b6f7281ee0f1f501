"""The zoo: finds plugins, refuses what cannot work, names what there is, binds hyperparameters.

Three doors, one object: installed packages (entry-point group `ganzoo`), a folder of files, a file.
One broken plugin never takes the program down: it stands in `broken` with its reason.
"""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import KINDS, PROJECT, Hooks
from ganzoo.zoo.announced import VARIABLE, announced, limit
from ganzoo.zoo.entry import (
    AMBIGUOUS,
    SPECIFICATION,
    Bound,
    Entry,
    Hyperparameter,
    describe,
    read_entry,
    said,
    source_sha256,
    specname,
)
from ganzoo.zoo.origin import Broken, Origin, module_file

if TYPE_CHECKING:
    from ganzoo.game import Cost, Margin, Objective

__all__ = ["SPECIFICATION", "Bound", "Broken", "Entry", "Hyperparameter", "Origin", "Zoo", "describe", "source_sha256"]


class Zoo:
    """Plugins by kind and name. Every zoo stands for itself: no globals, no shared state."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._entries: dict[tuple[str, str], Entry] = {}
        self._broken: list[Broken] = []
        self._files: dict[str, Origin] = {}
        self._places: dict[tuple[tuple[str, str], Origin], str] = {}
        self._limit: tuple[str, ...] | None = None

    @classmethod
    def installed(cls, *paths: str | Path) -> "Zoo":
        """Everything that installed packages announce and GANZOO_PLUGINS lets in (`ganzoo.zoo.announced`), and the
        plugins in these files and folders.

        Raises UserError where a path given here is absent or, being a file, broken, and where GANZOO_PLUGINS names what
        is not installed.
        """
        zoo = cls()
        zoo.add_installed(limit())
        for path in map(Path, paths):
            try:
                folder = path.is_dir()
            except OSError as error:
                raise UserError(f"no plugin at {str(path)[:200]}: {error.strerror}") from None
            if folder:
                zoo.add_folder(path)
            else:
                zoo.add_file(path)
        return zoo

    # Doors

    def add_installed(self, only: Iterable[str] | None = None) -> None:
        """What installed packages announce; `only` limits it to these distributions and entry points.

        Raises UserError for a name in `only` that is none of either.
        """
        self._limit = None if only is None else tuple(only)
        found, unreadable = announced(self._limit)
        self._broken += unreadable
        for one in found:
            origin = one.origin
            if one.rivals:
                self._refuse(
                    origin,
                    f"entry point '{one.point.name}' is also announced by {', '.join(one.rivals)}",
                    source=str(module_file(one.point.module) or ""),
                )
                continue
            try:
                with redirect_stdout(sys.stderr):  # what a plugin prints must not end up in somebody's JSON
                    module = one.point.load()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                self._refuse(
                    origin, said(error), traceback.format_exc(), source=str(module_file(one.point.module) or "")
                )
                continue
            self.add(module, origin)

    def add_folder(self, folder: Path) -> None:
        """Every `*.py` file of the folder that does not begin with `_` or `test_`; a broken one is listed as broken."""
        if not folder.is_dir():
            raise UserError(f"no plugin folder at {folder}")
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith(("_", "test_")):
                self._add_path(path)

    def add_file(self, path: Path) -> None:
        """One file. Raises UserError if it is absent or broken: it was asked for by name."""
        if not path.is_file():
            raise UserError(f"no plugin file at {path}")
        origin = self._add_path(path)
        for broken in self._broken:
            if broken.origin == origin:
                raise UserError(f"plugin {broken.origin}: {broken.reason}")

    def _add_path(self, path: Path) -> Origin:
        digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        name = f"ganzoo_file_{digest}_{path.stem}"
        if name in self._files:
            return self._files[name]  # a folder and then a file of it: once is enough
        origin = self._files[name] = Origin(str(path))
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            self._refuse(origin, "is not a Python file (its name should end in .py)", source=str(path))
            return origin
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with redirect_stdout(sys.stderr):
                spec.loader.exec_module(module)
        except BaseException as error:
            sys.modules.pop(name, None)
            if isinstance(error, KeyboardInterrupt):
                raise
            self._refuse(origin, said(error), traceback.format_exc(), source=str(path))
            return origin
        self.add(module, origin)
        return origin

    def add(self, module: ModuleType | type, origin: Origin | None = None) -> None:
        """The implementations of a module or of any other namespace of decorated functions."""
        if origin is None:
            origin = Origin(module.__name__)
        if not isinstance(module, ModuleType | type):
            self._refuse(origin, f"is not a module but of type {type(module).__name__}; announce the module itself")
            return
        decorated = [f for f in vars(module).values() if specname(f) is not None and _at_home(f, module)]
        if not decorated:
            own = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
            hint = f"; did you forget a decorator on '{own[0].__name__}'?" if own else ""
            kinds = ", ".join(f"@ganzoo.{kind}" for kind in KINDS)
            self._refuse(
                origin,
                f"supplies nothing: no function in it is marked with {kinds}{hint}",
                source=str(getattr(module, "__file__", "") or ""),
            )
        for function in decorated:
            try:
                self._add_function(function, origin)
            except UserError as error:
                self._refuse(origin, str(error), subject=_subject(function), source=_place(function))
            except Exception as error:  # noqa: BLE001 (no plugin takes the program down)
                trace = traceback.format_exc()
                self._refuse(origin, said(error), trace, subject=_subject(function), source=_place(function))

    def _add_function(self, function: Callable[..., Any], origin: Origin) -> None:
        entry = read_entry(function, origin)
        key = (entry.kind, entry.name)
        present = self._entries.get(key)
        if present is not None and present.function is function:
            return
        self._places[key, origin] = _place(function)
        losers = [b.origin for b in self._broken if b.claims == key]
        if present is not None or losers:
            keeps = self._contest(key, present, losers, origin)
            if not keeps:
                return
        namespace = type(entry.name, (), {function.__name__: staticmethod(function)})
        try:
            self._manager.register(namespace, name="/".join(key))
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise UserError(" ".join(str(error).split())) from None
        self._entries[key] = entry

    def _contest(self, key: tuple[str, str], present: Entry | None, losers: list[Origin], newcomer: Origin) -> bool:
        """Several claim one name. True where the newcomer gets it.

        Ours keeps its name. Of strangers nobody gets it: which one came first depends on the order of sys.path.
        """
        winner: Origin | None = None
        if present is not None and present.origin.ours:
            winner = present.origin
            losers = [*losers, newcomer]
        else:
            if present is not None:
                del self._entries[key]
                self._manager.unregister(name="/".join(key))
                losers = [*losers, present.origin]
            if newcomer.ours:
                winner = newcomer
            else:
                losers = [*losers, newcomer]
        losers.sort(key=str)
        kind, name = key
        claimants = " and from ".join(str(origin) for origin in ([winner] if winner else []) + losers)
        reason = f"two things of one name: {kind} '{name}' comes from {claimants}"
        self._broken = [b for b in self._broken if b.claims != key]
        self._broken += [
            Broken(origin, reason, claims=key, source=self._places.get((key, origin), "")) for origin in losers
        ]
        return newcomer not in losers

    def _refuse(
        self,
        origin: Origin,
        reason: str,
        traceback: str = "",
        *,
        subject: tuple[str, str] | None = None,
        source: str = "",
    ) -> None:
        self._broken.append(Broken(origin, reason, traceback, subject=subject, source=source))

    # What there is

    @property
    def broken(self) -> tuple[Broken, ...]:
        return tuple(self._broken)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda e: (KINDS.index(e.kind), e.name)))

    def entries(self, kind: str) -> list[Entry]:
        if kind not in KINDS:
            raise UserError(f"no kind '{kind}'{did_you_mean(kind, KINDS)}")
        return [entry for entry in self if entry.kind == kind]

    def names(self, kind: str) -> list[str]:
        return [entry.name for entry in self.entries(kind)]

    def find(self, kind: str, name: str) -> Entry:
        """The entry of that kind and name. Raises UserError with the nearest name and all there are."""
        names = self.names(kind)
        wanted = name.lower().replace("_", "-")
        if wanted in AMBIGUOUS:
            raise UserError(f"'{name}' is ambiguous: {AMBIGUOUS[wanted]}")
        for broken in self._broken:
            if broken.claims == (kind, wanted) and wanted not in names:
                raise UserError(broken.reason)
        if wanted not in names:
            raise UserError(f"no {kind} named '{name}'{self.limited}{did_you_mean(wanted, names)}")
        return self._entries[kind, wanted]

    def named(self, name: str) -> list[Entry]:
        """All entries of that name, whatever their kind; `kind/name` asks for one. Raises UserError if none."""
        kind, _, rest = name.rpartition("/")
        if kind:
            return [self.find(kind, rest)]
        wanted = name.lower().replace("_", "-")
        found = [entry for entry in self if entry.name == wanted]
        if not found:
            if wanted in AMBIGUOUS:
                raise UserError(f"'{name}' is ambiguous: {AMBIGUOUS[wanted]}")
            for broken in self._broken:
                if broken.claims is not None and broken.claims[1] == wanted:
                    raise UserError(broken.reason)
            raise UserError(f"nothing is named '{name}'{self.limited}{did_you_mean(wanted, {e.name for e in self})}")
        return found

    @property
    def limited(self) -> str:
        """What is not here may be installed all the same: words for an error; empty where nothing is left out."""
        if self._limit is None:
            return ""
        return f" ({VARIABLE} lets in {', '.join(self._limit) or 'nothing that is installed'})"

    # Binding

    def cost(self, name: str, /, **hyperparameters: Any) -> "Cost":
        return self.find("cost", name).bind(**hyperparameters)

    def margin(self, name: str, /, **hyperparameters: Any) -> "Margin":
        return self.find("margin", name).bind(**hyperparameters)

    def generator(self, name: str, /, **hyperparameters: Any) -> Bound:
        """(z_dim, image_shape) -> nn.Module"""
        return self.find("generator", name).bind(**hyperparameters)

    def critic(self, name: str, /, **hyperparameters: Any) -> Bound:
        """(image_shape, outputs) -> nn.Module"""
        return self.find("critic", name).bind(**hyperparameters)

    def objective(self, name: str, /, cost: "Cost", margin: "Margin", **hyperparameters: Any) -> "Objective":
        """The game, played with this cost and margin where it takes them."""
        from ganzoo.game import Objective

        game = self.find("objective", name).bind(**hyperparameters)(cost, margin)
        if not isinstance(game, Objective):
            raise UserError(f"objective '{name}' returned {type(game).__name__}; it should return a ganzoo.Objective")
        return game


def _at_home(function: Any, module: ModuleType | type) -> bool:
    """Not merely imported from somebody else's plugin."""
    home = module.__name__ if isinstance(module, ModuleType) else module.__module__
    return str(function.__module__).partition(".")[0] == home.partition(".")[0]


def _subject(function: Any) -> tuple[str, str]:
    name = getattr(function, "ganzoo_name", None) or getattr(function, "__name__", type(function).__name__)
    return str(specname(function)), str(name).replace("_", "-")


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
