"""Plugins read from their source, without running it: for a listing that does not wait for torch.

A plain plugin is a module whose import can do nothing but define: imports of what is known to be there, constants,
functions, classes of methods. What is read of it is what an import would give. Of any other there is no saying, and
nothing is said (`NotPlain`): a listing then loads it. So this never guesses; it may only decline.
"""

import ast
import builtins
import math
import sys
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import ganzoo
from ganzoo.errors import UserError
from ganzoo.hooks import KINDS
from ganzoo.zoo.entry import Entry, read_signature
from ganzoo.zoo.origin import Origin, module_file

LARGEST = 4 * 1024 * 1024
"""Bytes of a source that is read."""
TORCH = {
    "torch": frozenset({"Tensor", "autograd", "nn", "optim"}),
    "torch.nn": frozenset(
        {
            "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten",
            "GroupNorm", "InstanceNorm2d", "LayerNorm", "LeakyReLU", "Linear", "Module", "ModuleList", "Parameter",
            "ReLU", "Sequential", "Sigmoid", "Tanh", "Unflatten", "Upsample", "functional", "init", "utils",
        }
    ),
    "torch.nn.functional": frozenset(
        {
            "avg_pool2d", "binary_cross_entropy_with_logits", "cross_entropy", "elu", "interpolate", "l1_loss",
            "leaky_relu", "log_softmax", "logsigmoid", "mse_loss", "pad", "relu", "sigmoid", "softmax", "softplus",
        }
    ),
    "torch.nn.utils": frozenset({"parametrizations", "parametrize"}),
    "torch.nn.utils.parametrizations": frozenset({"spectral_norm", "weight_norm"}),
}  # fmt: skip
"""What a plain plugin may name of torch: what every torch has that ganzoo runs on."""
BASES = frozenset({"torch.nn.Module", "torch.nn.Sequential"})
DECORATORS = frozenset({"contextlib.contextmanager", "functools.cache"})
"""Of functions that are no hook's."""
METHODS = frozenset({"property", "staticmethod", "classmethod"})
HOOKS = frozenset(f"ganzoo.{kind}" for kind in KINDS)
MARKS = frozenset({"name", "expected_failures", "by_default"})
"""What a hook's decorator takes."""
BUILT_IN = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))
UNSAFE = frozenset({"antigravity", "idlelib", "lib2to3", "test", "this", "tkinter", "turtle", "turtledemo"})
"""Modules of Python whose import does something."""


class NotPlain(Exception):  # noqa: N818 (no error: what it is)
    """What an import would do cannot be told from the source."""


@dataclass
class Plain:
    """A plain module, as far as it is read."""

    name: str
    path: Path
    package: str
    """The first part of the module's name: what a function of the plugin's own has in common with it."""
    known: dict[str, str] = field(default_factory=dict)
    """Name at the top level -> what it stands for: `torch.nn`, or `.leaky` for what is defined here."""
    real: dict[str, Any] = field(default_factory=dict)
    """Those of them that are at hand without torch: a hyperparameter's annotation is made of these."""
    constants: dict[str, ast.expr] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    hooks: list[ast.FunctionDef] = field(default_factory=list)
    others: "Others" = field(default_factory=dict)
    future: list[ast.stmt] = field(default_factory=list)


Others = dict[str, Plain]
"""Modules that were read already, by name."""


def read_plain(name: str, path: Path, origin: Origin, file: str, others: Others | None = None) -> list[Entry]:
    """The entries of the module `name` at `path`, in the order of the source, as an import would give them; of each
    the function has a docstring and a signature and no body. `file`: the path as an import would give it. `others`:
    what was read just before, so that a package is not read for each of its modules.

    Raises NotPlain.
    """
    module = _read(name, path, (), {} if others is None else others)
    if not module.hooks:
        raise NotPlain("it marks no function")
    entries = []
    for node in module.hooks:
        try:
            entry = read_signature(_skeleton(node, module, file), origin)
        except UserError as error:
            raise NotPlain(str(error)) from None
        for hyperparameter in entry.hyperparameters.values():
            if not within(hyperparameter.default, hyperparameter.annotation):
                raise NotPlain(f"who knows whether {hyperparameter.name} is in its domain")
        entries.append(entry)
    return entries


def within(value: Any, annotation: Any) -> bool:
    """Whether a default is certain to lie in a hyperparameter's domain, as pydantic's strict mode judges it. False
    where it does not, and where we cannot say."""
    if get_origin(annotation) in (Union, UnionType):
        return any(within(value, one) for one in get_args(annotation))
    if get_origin(annotation) is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(annotation))
    if get_origin(annotation) is Annotated:
        kind, *bounds = get_args(annotation)
        numeric = kind in (int, float) and within(value, kind)
        return numeric and all(_holds(value, bound) for bound in bounds)
    if annotation is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if annotation in (None, type(None)):
        return value is None
    return annotation in (int, bool, str) and type(value) is annotation


def _holds(value: float, bound: Any) -> bool:
    name = f"{type(bound).__module__}.{type(bound).__name__}"
    limit: Any = getattr(bound, type(bound).__name__.lower(), None)
    if type(limit) not in (int, float):
        return False
    holds = {
        "annotated_types.Ge": lambda: value >= limit,
        "annotated_types.Gt": lambda: value > limit,
        "annotated_types.Le": lambda: value <= limit,
        "annotated_types.Lt": lambda: value < limit,
    }
    return name in holds and bool(holds[name]())


def _skeleton(node: ast.FunctionDef, module: Plain, file: str) -> Any:
    """The marked function without its body, in a world of its own: what it is called, takes and says."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    has_default = {argument.arg for argument in positional[len(positional) - len(arguments.defaults) :]}
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    has_default |= {argument.arg for argument, default in named if default is not None}
    for argument in (*positional, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is None or argument.annotation is None:
            continue
        if argument.arg not in has_default:
            argument.annotation = None  # torch's, as a rule
        elif not _at_hand(argument.annotation, module):
            raise NotPlain(f"the annotation of {argument.arg} names what is not at hand")
    node.returns = None
    docstring = ast.get_docstring(node, clean=False)
    node.body = node.body[:1] if docstring is not None else [ast.copy_location(ast.Pass(), node)]
    world = {**module.real, "__name__": module.name, "__builtins__": builtins}
    try:
        exec(compile(ast.Module([*module.future, node], []), file, "exec", dont_inherit=True), world)
    except Exception as error:  # noqa: BLE001 (a load says it as it is)
        raise NotPlain(str(error)) from None
    return world[node.name]


def _at_hand(annotation: ast.AST, module: Plain) -> bool:
    """Whether it can be put together without torch."""
    match annotation:
        case ast.Name(name):
            return name in module.real or (name in BUILT_IN and name not in module.known)
        case ast.Attribute(value):
            return module.known.get(_dotted(value) or "") in ("typing", "annotated_types")
        case ast.Subscript(value) if _means(value, module) == "typing.Literal":
            return _at_hand(value, module)
        case ast.Constant(str()):
            return False  # a name that would be looked up where torch's names are not
    return all(_at_hand(part, module) for part in ast.iter_child_nodes(annotation))


# The top level


def _read(name: str, path: Path, above: tuple[Path, ...], others: Others) -> Plain:
    """The module at `path`, which those `above` are importing."""
    if name in others and others[name].path == path:
        return others[name]
    if path in above:
        raise NotPlain("modules that import one another")
    if path.suffix != ".py":
        raise NotPlain("no source")
    try:
        if path.stat().st_size > LARGEST:
            raise NotPlain("large")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape sequence: an import says it
            source = path.read_bytes()
            tree = ast.parse(source)
            compile(source, str(path), "exec", dont_inherit=True)  # it refuses more: an argument twice, a stray return
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotPlain(str(error)) from None
    module = Plain(name, path, name.partition(".")[0], others=others)
    for parent in _parents(name):
        there = others[parent].path if parent in others else module_file(parent)
        if there is not None and there != path:
            _read(parent, there, (*above, path), others)
    try:
        for node in tree.body:
            _take(node, module, (*above, path))
    except RecursionError:
        raise NotPlain("deep") from None
    others[name] = module
    return module


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for length in range(1, len(parts)):
        yield ".".join(parts[:length])


def _take(node: ast.stmt, module: Plain, above: tuple[Path, ...]) -> None:
    match node:
        case ast.Expr(ast.Constant()) | ast.Pass():
            return
        case ast.Import():
            for alias in node.names:
                _import(alias, module, above)
        case ast.ImportFrom():
            _import_from(node, module, above)
        case ast.Assign([ast.Name(name)], ast.Name() | ast.Attribute() | ast.Tuple([ast.Attribute(), *_])):
            for part in node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]:
                if _means(part, module).startswith("."):
                    raise NotPlain("another name for what is defined here")
            _define(name, module)
        case ast.Assign([ast.Name(name)]):
            _define(name, module, real=_constant(node.value, module))
            module.constants[name] = node.value
        case ast.AnnAssign(ast.Name(name), annotation, value):
            _look_at(annotation, module)
            if value is not None:
                _define(name, module, real=_constant(value, module))
                module.constants[name] = value
        case ast.If(ast.Name(name), _, []) if module.known.get(name) == "typing.TYPE_CHECKING":
            return
        case ast.FunctionDef():
            _function(node, module)
        case ast.ClassDef():
            _class(node, module)
        case _:
            raise NotPlain(f"line {node.lineno} does more than define")


def _define(name: str, module: Plain, means: str | None = None, real: Any = None) -> None:
    means = f".{name}" if means is None else means
    # An import twice is none the less one; whatever else takes a name again leaves the first nameless.
    if module.known.get(name, means) != means or (means.startswith(".") and name in module.known):
        raise NotPlain(f"'{name}' is defined twice")
    if name.startswith("__") and name != "__all__":
        raise NotPlain(f"'{name}' may mean something to Python")
    module.known[name] = means
    if real is not None:
        module.real[name] = real


def _import(alias: ast.alias, module: Plain, above: tuple[Path, ...]) -> None:
    wanted, bound = alias.name, alias.asname or alias.name.partition(".")[0]
    means = wanted if alias.asname else bound
    if not _is_there(wanted, module, above):
        raise NotPlain(f"who knows what an import of {wanted} does")
    _define(bound, module, means, _at_once(means))


def _import_from(node: ast.ImportFrom, module: Plain, above: tuple[Path, ...]) -> None:
    if node.module == "__future__":
        module.future.append(node)
        return
    if node.level or node.module is None or not _is_there(node.module, module, above):
        raise NotPlain(f"who knows what is in {node.module}")
    for alias in node.names:
        means = f"{node.module}.{alias.name}"
        if not _holds_name(node.module, alias.name, module, above):
            raise NotPlain(f"who knows what {means} is")
        light = node.module != "ganzoo" or alias.name in KINDS  # others of ours bring torch
        real = getattr(_at_once(node.module), alias.name, None) if light else None
        _define(alias.asname or alias.name, module, means, real)


def _is_there(wanted: str, module: Plain, above: tuple[Path, ...]) -> bool:
    """Whether its import is certain to succeed and to do nothing that matters here."""
    top = wanted.partition(".")[0]
    if wanted in ("ganzoo", "annotated_types"):
        return True
    if top == "torch":
        return wanted in TORCH and find_spec("torch") is not None
    if top in sys.stdlib_module_names:
        return top not in UNSAFE and not top.startswith("_") and _at_once(wanted) is not None
    return _beside(wanted, module, above) is not None


def _holds_name(holder: str, name: str, module: Plain, above: tuple[Path, ...]) -> bool:
    if holder == "ganzoo":
        return name in ganzoo.__all__
    if holder in TORCH:
        return name in TORCH[holder]
    there = _at_once(holder)
    if there is not None:
        return hasattr(there, name)
    beside = _beside(holder, module, above)
    if beside is None:
        return False
    if name in beside.known:
        # What is marked there and bound here would be found in both.
        return name not in {node.name for node in beside.hooks}
    return _beside(f"{holder}.{name}", module, above) is not None


def _beside(wanted: str, module: Plain, above: tuple[Path, ...]) -> Plain | None:
    """Another module of the same package, if that is plain too."""
    if wanted.partition(".")[0] != module.package or module.package == module.name:
        return None
    path = module_file(wanted)
    return None if path is None else _read(wanted, path, above, module.others)


def _at_once(name: str) -> ModuleType | None:
    """A module that is at hand without torch: ganzoo, annotated_types, Python's own."""
    if name == "ganzoo":
        return ganzoo
    if name != "annotated_types" and name.partition(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        return import_module(name)
    except ImportError:
        return None


# What is defined


def _function(node: ast.FunctionDef, module: Plain) -> None:
    decorators = [_decorator(decorator, module) for decorator in node.decorator_list]
    hook = len(decorators) == 1 and decorators[0] in HOOKS
    if not hook and not DECORATORS.issuperset(decorators):
        raise NotPlain(f"who knows what becomes of {node.name}")
    _look_at_signature(node, module, hook=hook)
    _define(node.name, module)
    if hook:
        module.hooks.append(node)


def _decorator(decorator: ast.expr, module: Plain) -> str:
    """What it stands for. Its arguments, where it has any, are constants."""
    if not isinstance(decorator, ast.Call):
        return _means(decorator, module)
    found = _means(decorator.func, module)
    taken = MARKS if found in HOOKS else {"eq", "frozen"} if found == "dataclasses.dataclass" else {}
    for keyword in decorator.keywords:
        if keyword.arg not in taken:
            raise NotPlain(f"who knows what {found} makes of its arguments")
        if keyword.arg == "name" and not isinstance(keyword.value, ast.Constant):
            raise NotPlain("a name that is not written out")
        _constant(keyword.value, module)
    if decorator.args:
        raise NotPlain(f"who knows what {found} makes of its arguments")
    return found


def _class(node: ast.ClassDef, module: Plain) -> None:
    if node.keywords or len(node.bases) > 1 or getattr(node, "type_params", None):
        raise NotPlain("a class of more than one base")
    for base in node.bases:
        means = _means(base, module)
        if means not in BASES and means not in module.classes:
            raise NotPlain(f"who knows what a class of {means} does")
    decorators = [_decorator(decorator, module) for decorator in node.decorator_list]
    if decorators and (decorators != ["dataclasses.dataclass"] or node.bases):
        raise NotPlain(f"who knows what becomes of {node.name}")
    has_default = False
    for part in node.body:
        match part:
            case ast.Expr(ast.Constant()) | ast.Pass():
                pass
            case ast.FunctionDef(name) if name not in ("__init_subclass__", "__class_getitem__"):
                _look_at_signature(part, module)
                for decorator in part.decorator_list:
                    if _means(decorator, module) not in METHODS:
                        raise NotPlain(f"who knows what becomes of {name}")
            case ast.AnnAssign(ast.Name(name), annotation, value) if not name.startswith("__"):
                _look_at(annotation, module)
                if value is None and has_default and decorators:
                    raise NotPlain("a field without a default after one that has one")
                has_default = has_default or value is not None
                if value is not None and not isinstance(value, ast.Constant):
                    raise NotPlain("a field whose default may be shared")
            case _:
                raise NotPlain(f"line {part.lineno} does more than define")
    _define(node.name, module)
    module.classes.add(f".{node.name}")


def _look_at_signature(node: ast.FunctionDef, module: Plain, *, hook: bool = False) -> None:
    """Its annotations and defaults are evaluated where it is defined; a hook's also where they are strings."""
    if getattr(node, "type_params", None):
        raise NotPlain("type parameters")
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is not None:
            _look_at(argument.annotation, module, strings=hook)
    if node.returns is not None:
        _look_at(node.returns, module, strings=hook)
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            _constant(default, module)


def _constant(value: ast.expr, module: Plain) -> Any:
    """The value of an expression of constants, those of the module's own among them. Raises NotPlain for any other."""
    try:
        return ast.literal_eval(_Filled(module).visit(deepcopy(value)))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise NotPlain(f"line {value.lineno} computes") from None


class _Filled(ast.NodeTransformer):
    """An expression with a constant's value in place of its name."""

    def __init__(self, module: Plain) -> None:
        self.constants = module.constants

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return deepcopy(self.constants.get(node.id, node))


def _look_at(annotation: ast.expr, module: Plain, *, strings: bool = False) -> None:
    """Raises NotPlain unless all that it names is there and it can be put together. `strings`: also in a string."""
    match annotation:
        case ast.Constant(None):
            return
        case ast.Constant(str(text)):
            try:
                within_text = ast.parse(text, mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                raise NotPlain(f"'{text}' is no annotation") from None
            if strings:
                _look_at(within_text, module, strings=True)
        case ast.Name() | ast.Attribute():
            if not _is_type(_means(annotation, module), module):
                raise NotPlain(f"{_dotted(annotation)} is no type")
        case ast.Subscript(value, inside):
            _look_at_parameters(_means(value, module), inside, module, strings)
        case ast.BinOp(left, ast.BitOr(), right):
            constants = [side.value for side in (left, right) if isinstance(side, ast.Constant)]
            if constants not in ([], [None]):
                raise NotPlain("a union of values")
            _look_at(left, module, strings=strings)
            _look_at(right, module, strings=strings)
        case _:
            raise NotPlain(f"line {annotation.lineno}: who knows what that annotation is")


def _is_type(means: str, module: Plain) -> bool:
    holder, _, name = means.rpartition(".")
    return (
        means in BUILT_IN
        or means in BASES
        or means in ("torch.Tensor", "torch.nn.Parameter", "typing.Any")
        or means in module.classes
        or (holder == "ganzoo" and name[0].isupper())
        or (holder not in ("", "ganzoo") and isinstance(getattr(_at_once(holder), name, None), type))
    )


def _look_at_parameters(generic: str, inside: ast.expr, module: Plain, strings: bool) -> None:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    match generic, parts:
        case "typing.Literal", _:
            if not all(isinstance(part, ast.Constant) for part in parts):
                raise NotPlain("a literal of more than constants")
            return
        case "typing.Annotated", [kind, _, *_]:
            for bound in parts[1:]:
                if not (isinstance(bound, ast.Call) and _means(bound.func, module) in BOUNDS and len(bound.args) == 1):
                    raise NotPlain("who knows what that bound is")
                if bound.keywords:
                    raise NotPlain("a bound has one value")
                _constant(bound.args[0], module)
            parts = [kind]
        case "typing.Callable" | "collections.abc.Callable", [ast.List(taken), returned]:
            parts = [*taken, returned]
        case "typing.Callable" | "collections.abc.Callable", [ast.Constant(value), returned] if value is ...:
            parts = [returned]
        case "tuple", [kind, ast.Constant(value)] if value is ...:
            parts = [kind]
        case (("tuple" | "typing.Union"), [_, *_]):
            pass
        case (("list" | "set" | "frozenset" | "type" | "typing.Optional"), [_]):
            pass
        case (
            ("collections.abc.Iterable" | "collections.abc.Iterator" | "collections.abc.Sequence" | "typing.IO"),
            [_],
        ):
            pass
        case (("dict" | "collections.abc.Mapping"), [_, _]):
            pass
        case _:
            raise NotPlain(f"who knows what {generic} makes of that")
    for part in parts:
        _look_at(part, module, strings=strings)


BOUNDS = frozenset(f"annotated_types.{bound}" for bound in ("Ge", "Gt", "Le", "Lt"))


def _means(name: ast.expr, module: Plain) -> str:
    """What a name or an attribute stands for: `torch.nn.Module`, `.Convolutional` of this module, `float`. Raises
    NotPlain where it may stand for nothing."""
    dotted = _dotted(name)
    if dotted is None:
        raise NotPlain("more than a name")
    first, *rest = dotted.split(".")
    if first not in module.known:
        if first in BUILT_IN | METHODS and not rest:
            return first
        raise NotPlain(f"'{first}' is not defined before")
    found = module.known[first]
    for part in rest:
        if found == "ganzoo":
            there = part in ganzoo.__all__
        elif found in TORCH:
            there = part in TORCH[found]
        else:
            there = hasattr(_at_once(found), part)
        if not there:
            raise NotPlain(f"who knows whether {found} has {part}")
        found = f"{found}.{part}"
    return found


def _dotted(name: ast.expr) -> str | None:
    if isinstance(name, ast.Name):
        return name.id
    if isinstance(name, ast.Attribute):
        before = _dotted(name.value)
        return None if before is None else f"{before}.{name.attr}"
    return None
