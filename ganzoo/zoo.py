"""The zoo: finds plugins, refuses what cannot work, names what there is, binds hyperparameters.

Three doors, one object: installed packages (entry-point group `ganzoo`), a folder of files, a file.
One broken plugin never takes the program down: it stands in `broken` with its reason.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pluggy
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ganzoo.errors import UserError, did_you_mean
from ganzoo.game import Cost, Margin, Objective
from ganzoo.hooks import KINDS, PROJECT, Hooks

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
AMBIGUOUS = {"lsgan": "ls-gan (loss-sensitive, Qi 2017) or least-squares (Mao 2017)?"}
SPECIFICATION = {kind: tuple(inspect.signature(getattr(Hooks, kind)).parameters)[1:] for kind in KINDS}
"""What the harness gives to each kind, in order: {"cost": ("a",), "margin": ("real", "fake"), ...}."""

Bound = Callable[..., Any]


@dataclass(frozen=True)
class Origin:
    """Where a plugin came from: a distribution with its version, or a file."""

    plugin: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return self.plugin if self.distribution is None else f"{self.distribution} {self.version} ({self.plugin})"

    @property
    def ours(self) -> bool:
        return self.distribution == PROJECT


@dataclass(frozen=True)
class Broken:
    """A plugin, or one function of it, that the zoo refuses."""

    origin: Origin
    reason: str
    traceback: str = ""
    claims: tuple[str, str] | None = None
    """The (kind, name) that nobody has, because several claim it."""


@dataclass(frozen=True)
class Hyperparameter:
    name: str
    annotation: Any
    default: Any

    @property
    def domain(self) -> str:
        """`float, <= 1`, for people."""
        if get_origin(self.annotation) is not Annotated:
            return _type_name(self.annotation)
        kind, *bounds = get_args(self.annotation)
        return ", ".join([_type_name(kind), *(_bound_name(bound) for bound in bounds)])


@dataclass(frozen=True)
class Entry:
    """One implementation of one hook."""

    kind: str
    name: str
    function: Callable[..., Any]
    origin: Origin
    inputs: tuple[str, ...]
    """The parameters that it takes from the harness."""
    hyperparameters: dict[str, Hyperparameter] = field(default_factory=dict)

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @cached_property
    def source_sha256(self) -> str:
        """Of the file that defines it: a row names the code that made it."""
        return hashlib.sha256(Path(self.function.__code__.co_filename).read_bytes()).hexdigest()

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {h.name: (h.annotation, h.default) for h in self.hyperparameters.values()}
        config = ConfigDict(
            strict=True,
            extra="forbid",
            allow_inf_nan=False,
            validate_default=True,
            arbitrary_types_allowed=True,
        )
        return create_model(self.name, __config__=config, **fields)

    def validate(self, **given: Any) -> dict[str, Any]:
        """All hyperparameters, defaults filled in. Raises UserError for an unknown name or a value outside its domain."""
        for name in given:
            if name not in self.hyperparameters:
                raise UserError(
                    f"{self.kind} '{self.name}' has no hyperparameter '{name}'"
                    f"{did_you_mean(name, self.hyperparameters)}"
                )
        try:
            model = self._model(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise UserError(
                f"{self.kind} '{self.name}': {name} = {first['input']!r} is outside its domain"
                f" ({self.hyperparameters[name].domain}): {first['msg'].lower()}"
            ) from None
        return {name: getattr(model, name) for name in self.hyperparameters}

    def bind(self, **given: Any) -> Bound:
        """The function with its hyperparameters fixed; it takes all that the spec offers and uses what it declared."""
        values = self.validate(**given)
        offered = SPECIFICATION[self.kind]

        def bound(*arguments: Any, **named: Any) -> Any:
            named.update(zip(offered, arguments, strict=False))
            return self.function(**{name: named[name] for name in self.inputs}, **values)

        return bound


class Zoo:
    """Plugins by kind and name. Every zoo stands for itself: no globals, no shared state."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._entries: dict[tuple[str, str], Entry] = {}
        self._broken: list[Broken] = []

    @classmethod
    def installed(cls, *paths: str | Path) -> "Zoo":
        """Everything that installed packages announce, and the plugins in these files and folders.

        Raises UserError where a path given here is absent or, being a file, broken.
        """
        zoo = cls()
        zoo.add_installed()
        for path in map(Path, paths):
            if path.is_dir():
                zoo.add_folder(path)
            else:
                zoo.add_file(path)
        return zoo

    # Doors

    def add_installed(self) -> None:
        announced: dict[tuple[str, str, str], tuple[Distribution, EntryPoint]] = {}
        for distribution in distributions():
            for entry_point in distribution.entry_points:
                if entry_point.group == PROJECT:
                    # An editable install can be seen twice on sys.path: once is enough.
                    key = (distribution.metadata["Name"], entry_point.name, entry_point.value)
                    announced.setdefault(key, (distribution, entry_point))
        found = [
            (Origin(point.value, _normal(distribution.metadata["Name"]), distribution.version), point)
            for _, (distribution, point) in sorted(announced.items(), key=lambda item: item[0])
        ]
        # Ours first: a stranger cannot take a name from under a plan that has always meant ours.
        for origin, point in sorted(found, key=lambda pair: not pair[0].ours):
            rivals = [str(other) for other, p in found if p.name == point.name and other is not origin]
            if rivals and not origin.ours:
                # pluggy would keep the first and say nothing.
                self._refuse(origin, f"entry point '{point.name}' is also announced by {', '.join(rivals)}")
                continue
            try:
                module = point.load()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                self._refuse(origin, _said(error), traceback.format_exc())
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
        before = len(self._broken)
        self._add_path(path)
        for broken in self._broken[before:]:
            raise UserError(f"plugin {broken.origin}: {broken.reason}")

    def _add_path(self, path: Path) -> None:
        origin = Origin(str(path))
        digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        name = f"ganzoo_file_{digest}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            self._refuse(origin, "is not a Python file (its name should end in .py)")
            return
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, KeyboardInterrupt):
                raise
            self._refuse(origin, _said(error), traceback.format_exc())
            return
        self.add(module, origin)

    def add(self, module: ModuleType | type, origin: Origin | None = None) -> None:
        """The implementations of a module or of any other namespace of decorated functions."""
        if origin is None:
            origin = Origin(module.__name__)
        decorated = [f for f in vars(module).values() if _specname(f) is not None and _at_home(f, module)]
        if not decorated:
            own = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
            hint = f"; did you forget a decorator on '{own[0].__name__}'?" if own else ""
            kinds = ", ".join(f"@ganzoo.{kind}" for kind in KINDS)
            self._refuse(origin, f"supplies nothing: no function in it is marked with {kinds}{hint}")
        for function in decorated:
            try:
                self._add_function(function, origin)
            except UserError as error:
                self._refuse(origin, str(error))

    def _add_function(self, function: Callable[..., Any], origin: Origin) -> None:
        entry = _entry(function, origin)
        key = (entry.kind, entry.name)
        claimants = [b for b in self._broken if b.claims == key]
        present = self._entries.get(key)
        if present is not None and present.function is function:
            return
        if present is not None or claimants:
            others = [str(present.origin)] if present else [str(b.origin) for b in claimants]
            said = f"two things of one name: {entry.kind} '{entry.name}' comes from {' and from '.join(others)}"
            self._broken.append(Broken(origin, f"{said} and from {origin}", claims=key))
            if present is not None and not present.origin.ours:
                # Whichever came second would depend on the order of sys.path: neither keeps the name.
                del self._entries[key]
                self._manager.unregister(name="/".join(key))
                self._broken.append(Broken(present.origin, f"{said} and from {origin}", claims=key))
            return
        namespace = type(entry.name, (), {function.__name__: staticmethod(function)})
        try:
            self._manager.register(namespace, name="/".join(key))
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise UserError(" ".join(str(error).split())) from None
        self._entries[key] = entry

    def _refuse(self, origin: Origin, reason: str, traceback: str = "") -> None:
        self._broken.append(Broken(origin, reason, traceback))

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
            raise UserError(f"no {kind} named '{name}'{did_you_mean(wanted, names)}")
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
            raise UserError(f"nothing is named '{name}'{did_you_mean(wanted, {e.name for e in self})}")
        return found

    # Binding

    def cost(self, name: str, **hyperparameters: Any) -> Cost:
        return self.find("cost", name).bind(**hyperparameters)

    def margin(self, name: str, **hyperparameters: Any) -> Margin:
        return self.find("margin", name).bind(**hyperparameters)

    def generator(self, name: str, **hyperparameters: Any) -> Bound:
        """(z_dim, image_shape) -> nn.Module"""
        return self.find("generator", name).bind(**hyperparameters)

    def critic(self, name: str, **hyperparameters: Any) -> Bound:
        """(image_shape, outputs) -> nn.Module"""
        return self.find("critic", name).bind(**hyperparameters)

    def objective(self, name: str, cost: Cost, margin: Margin, **hyperparameters: Any) -> Objective:
        """The game, played with this cost and margin where it takes them."""
        game = self.find("objective", name).bind(**hyperparameters)(cost, margin)
        if not isinstance(game, Objective):
            raise UserError(f"objective '{name}' returned {type(game).__name__}; it should return a ganzoo.Objective")
        return game


def _entry(function: Callable[..., Any], origin: Origin) -> Entry:
    """Read a decorated function; UserError, with its signature quoted, for what could not work."""
    kind = _specname(function)
    if kind not in KINDS:
        raise UserError(f"'{function.__name__}' implements no hook named '{kind}'{did_you_mean(str(kind), KINDS)}")
    name = getattr(function, "ganzoo_name", function.__name__.replace("_", "-"))
    signature = inspect.signature(function)
    quoted = f"{kind} '{name}': {function.__name__}{_short(signature)}"
    if not NAME.fullmatch(name):
        raise UserError(f"{quoted}: '{name}' is no name; one matches {NAME.pattern}")
    if name in AMBIGUOUS:
        raise UserError(f"{quoted}: the name '{name}' is ambiguous: {AMBIGUOUS[name]}")
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 (an annotation may run any code)
        raise UserError(f"{quoted}: its annotations cannot be read: {_said(error)}") from None
    offered, inputs, hyperparameters = SPECIFICATION[kind], [], {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"{quoted}: '{parameter}' cannot be filled by name; name each parameter")
        if parameter.default is parameter.empty:
            if parameter.name not in offered:
                # pluggy says nothing of a keyword-only one.
                raise UserError(
                    f"{quoted}: '{parameter.name}' has no default and the harness does not give it;"
                    f" a {kind} gets {', '.join(offered)}"
                )
            inputs.append(parameter.name)
        elif parameter.name in offered:
            raise UserError(f"{quoted}: '{parameter.name}' comes from the harness and takes no default")
        elif parameter.name not in hints:
            raise UserError(
                f"{quoted}: hyperparameter '{parameter.name}' has no annotation, which is its domain;"
                f" write {parameter.name}: Annotated[float, Ge(0)] = {parameter.default!r}, say"
            )
        else:
            hyperparameters[parameter.name] = Hyperparameter(parameter.name, hints[parameter.name], parameter.default)
    entry = Entry(kind, name, function, origin, tuple(inputs), hyperparameters)
    entry.validate()  # a default outside its own domain fails now, not at step 10,000
    return entry


def _specname(function: object) -> str | None:
    options = getattr(function, f"{PROJECT}_impl", None) if callable(function) else None
    return None if options is None else options["specname"] or getattr(function, "__name__", "")


def _at_home(function: Any, module: ModuleType | type) -> bool:
    """Not merely imported from somebody else's plugin."""
    home = module.__name__ if isinstance(module, ModuleType) else module.__module__
    return bool(function.__module__.partition(".")[0] == home.partition(".")[0])


def _short(signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def _said(error: BaseException) -> str:
    where = ""
    if isinstance(error, SyntaxError):
        return f"SyntaxError in line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    if frames and "importlib" not in frames[-1].filename and frames[-1].filename != __file__:
        where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


_SIGNS = {"Ge": ("ge", ">="), "Gt": ("gt", ">"), "Le": ("le", "<="), "Lt": ("lt", "<")}


def _bound_name(bound: Any) -> str:
    attribute, sign = _SIGNS.get(type(bound).__name__, ("", ""))
    return f"{sign} {getattr(bound, attribute)}" if attribute else str(bound)


def describe(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """What `list --json` and `show --json` print."""
    return [
        {
            "kind": entry.kind,
            "name": entry.name,
            "doc": entry.doc,
            "inputs": list(entry.inputs),
            "hyperparameters": {
                h.name: {"domain": h.domain, "default": h.default} for h in entry.hyperparameters.values()
            },
            "origin": str(entry.origin),
            "source": f"{entry.function.__code__.co_filename}:{entry.function.__code__.co_firstlineno}",
        }
        for entry in entries
    ]
