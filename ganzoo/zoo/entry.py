"""One implementation of one hook: read from a decorated function, refused where it could not work, bound.

pydantic takes as long to import as all the rest of a listing: it is imported where a value is compared with a domain.
"""

import hashlib
import inspect
import re
import reprlib
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import CodeType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import KINDS, PROJECT, Hooks
from ganzoo.zoo.origin import Origin

if TYPE_CHECKING:
    from pydantic import BaseModel

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
AMBIGUOUS = {"lsgan": "ls-gan (loss-sensitive, Qi 2017) or least-squares (Mao 2017)?"}
SPECIFICATION = {kind: tuple(inspect.signature(getattr(Hooks, kind)).parameters)[1:] for kind in KINDS}
"""What the harness gives to each kind, in order: {"cost": ("a",), "margin": ("real", "fake"), ...}."""

Bound = Callable[..., Any]


@dataclass(frozen=True)
class Hyperparameter:
    name: str
    annotation: Any
    default: Any

    @property
    def domain(self) -> str:
        """`float, <= 1`, for people."""
        return _domain(self.annotation)


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

    @property
    def code(self) -> CodeType:
        """Of the function as written, without what other decorators wrap around it."""
        written = getattr(self.function, "ganzoo_source", self.function)  # a cost made of its slack
        code: CodeType = inspect.unwrap(written).__code__
        return code

    @cached_property
    def source_sha256(self) -> str:
        """Of the file that defines it and, within a package, of the files beside it: the code that made a row."""
        path = Path(self.code.co_filename)
        return source_sha256(path.parent.glob("*.py") if (path.parent / "__init__.py").exists() else [path])

    @cached_property
    def _model(self) -> "type[BaseModel]":
        from pydantic import ConfigDict, Field, create_model

        # By alias: pydantic keeps `copy`, `schema`, `_x` and others for itself.
        fields: dict[str, Any] = {
            f"value_{name}": (h.annotation, Field(alias=name)) for name, h in self.hyperparameters.items()
        }
        config = ConfigDict(
            strict=True,
            extra="forbid",
            allow_inf_nan=False,
            arbitrary_types_allowed=True,
        )
        return create_model(self.name, __config__=config, **fields)

    def validate(self, /, **given: Any) -> dict[str, Any]:
        """All hyperparameters, defaults filled in. UserError for an unknown name or a value outside its domain."""
        from pydantic import ValidationError

        for name in given:
            if name not in self.hyperparameters:
                raise UserError(
                    f"{self.kind} '{self.name}' has no hyperparameter '{name}'"
                    f"{did_you_mean(name, self.hyperparameters)}"
                )
        try:
            model = self._model(**{h.name: h.default for h in self.hyperparameters.values()} | given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise UserError(
                f"{self.kind} '{self.name}': {name} = {reprlib.repr(first['input'])} is outside its domain"
                f" ({self.hyperparameters[name].domain}): {first['msg'].lower()}"
            ) from None
        return {name: getattr(model, f"value_{name}") for name in self.hyperparameters}

    def bind(self, /, **given: Any) -> Bound:
        """The function with its hyperparameters fixed; it takes all that the spec offers and uses what it declared."""
        values = self.validate(**given)
        offered = SPECIFICATION[self.kind]

        def bound(*arguments: Any, **named: Any) -> Any:
            if len(arguments) > len(offered):
                raise TypeError(f"{self.kind} '{self.name}' takes {', '.join(offered)}, not {len(arguments)} arguments")
            for name, argument in zip(offered, arguments, strict=False):
                if name in named:
                    raise TypeError(f"{self.kind} '{self.name}' was given '{name}' twice")
                named[name] = argument
            for name in named:
                if name not in offered:
                    raise TypeError(
                        f"{self.kind} '{self.name}' takes {', '.join(offered)}, not '{name}';"
                        " hyperparameters are fixed by bind"
                    )
            for name in self.inputs:
                if name not in named:
                    raise TypeError(f"{self.kind} '{self.name}' was not given '{name}'")
            return self.function(**{name: named[name] for name in self.inputs}, **values)

        return bound


def source_sha256(paths: Iterable[Path]) -> str:
    """Of the names and contents of these files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_entry(function: Callable[..., Any], origin: Origin) -> Entry:
    """Read a decorated function; UserError, with its signature quoted, for what could not work."""
    entry = read_signature(function, origin)
    try:
        entry.validate()  # a default outside its own domain fails now, not at step 10,000
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (pydantic promises no type for an annotation without sense)
        raise UserError(f"{quoted(entry)}: its annotations give no domain: {said(error)}") from None
    return entry


def read_signature(function: Callable[..., Any], origin: Origin) -> Entry:
    """As `read_entry`, without a look at whether the defaults lie in their domains."""
    kind = specname(function)
    if kind not in KINDS:
        raise UserError(f"'{_called(function)}' implements no hook named '{kind}'{did_you_mean(str(kind), KINDS)}")
    if isinstance(function, type) or not inspect.isfunction(inspect.unwrap(function)):
        raise UserError(f"{kind} '{_called(function)}' is not a function; mark one, it may return what it likes")
    name = getattr(function, "ganzoo_name", function.__name__.replace("_", "-"))
    signature = inspect.signature(function)
    about = f"{kind} '{name}': {function.__name__}{_short(signature)}"
    if not NAME.fullmatch(name) or ".." in name:
        raise UserError(f"{about}: '{name}' is no name; one matches {NAME.pattern} and has no '..' in it")
    if name in AMBIGUOUS:
        raise UserError(f"{about}: the name '{name}' is ambiguous: {AMBIGUOUS[name]}")
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 (an annotation may run any code)
        raise UserError(f"{about}: its annotations cannot be read: {said(error)}") from None
    offered, inputs, hyperparameters = SPECIFICATION[kind], [], {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"{about}: '{parameter}' cannot be filled by name; name each parameter")
        if parameter.default is parameter.empty:
            if parameter.name not in offered:
                # pluggy says nothing of a keyword-only one.
                raise UserError(
                    f"{about}: '{parameter.name}' has no default and the harness does not give it;"
                    f" a {kind} gets {', '.join(offered)}"
                )
            inputs.append(parameter.name)
        elif parameter.name in offered:
            raise UserError(f"{about}: '{parameter.name}' comes from the harness and takes no default")
        elif parameter.name not in hints:
            raise UserError(
                f"{about}: hyperparameter '{parameter.name}' has no annotation, which is its domain;"
                f" write {parameter.name}: Annotated[float, Ge(0)] = {parameter.default!r}, say"
            )
        else:
            hyperparameters[parameter.name] = Hyperparameter(parameter.name, hints[parameter.name], parameter.default)
    return Entry(kind, name, function, origin, tuple(inputs), hyperparameters)


def quoted(entry: Entry) -> str:
    """`cost 'leaky': leaky(a, slope=0.01)`."""
    return f"{entry.kind} '{entry.name}': {entry.function.__name__}{_short(inspect.signature(entry.function))}"


def specname(function: object) -> str | None:
    if not callable(function):
        return None
    try:
        options = getattr(function, f"{PROJECT}_impl", None)
    except Exception:  # noqa: BLE001 (an object that answers to every name, or dislikes being asked)
        return None
    if not isinstance(options, dict) or "specname" not in options:
        return None
    return options["specname"] or _called(function)


def _called(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _short(signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def said(error: BaseException) -> str:
    where = ""
    if isinstance(error, SyntaxError):
        return f"SyntaxError in line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    if frames and "importlib" not in frames[-1].filename and frames[-1].filename != __file__:
        where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})"
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 (an error that cannot even be printed)
        text = "(it has no message)"
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"


def _domain(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return ", or ".join("None" if one is type(None) else _domain(one) for one in get_args(annotation))
    if get_origin(annotation) is not Annotated:
        return _type_name(annotation)
    kind, *bounds = get_args(annotation)
    return ", ".join([_type_name(kind), *(_bound_name(bound) for bound in bounds)])


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
                h.name: {"domain": h.domain, "default": _jsonable(h.default)} for h in entry.hyperparameters.values()
            },
            "origin": str(entry.origin),
            "source": f"{entry.code.co_filename}:{entry.code.co_firstlineno}",
        }
        for entry in entries
    ]


def _jsonable(default: Any) -> Any:
    if default is None or type(default) in (str, int, float, bool):
        return default
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(default, fallback=repr)
