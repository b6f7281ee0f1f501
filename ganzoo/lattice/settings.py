"""At which settings of a plugin's hyperparameters one formula may turn into another."""

import itertools
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ganzoo.config import Plan
from ganzoo.zoo import Entry, Hyperparameter, Zoo

SPECIAL = (0, 1, 2, -1)
"""At which one formula turns into another more often than elsewhere; the edges of a domain are tried as well."""


def asked_of(entry: Entry, zoo: Zoo) -> Iterator[str]:
    """`gls-gan`, `gls-gan:slope=0`, `gls-gan:cost=elu,alpha=0`, ...: the defaults and what lies near them."""
    yield entry.name
    for setting in settings_of(entry, zoo):
        yield f"{entry.name}:{setting}"
    plan = Plan()
    chosen: dict[str, list[str]] = {}
    for kind, default in (("cost", plan.cost), ("margin", plan.margin)):
        if kind not in entry.inputs:
            continue
        # What compares feature maps depends on a network that is not at hand.
        parts = [part for part in zoo.entries(kind) if "networks" not in part.inputs]
        chosen[kind] = [part.name for part in parts if part.name != default]
        for part in parts:
            first = "" if part.name == default else f"{kind}={part.name},"
            if first:
                yield f"{entry.name}:{kind}={part.name}"
            for setting in settings_of(part, zoo):
                own = setting.partition("=")[0] in entry.hyperparameters
                yield f"{entry.name}:{first}{kind + '.' if own else ''}{setting}"
    for cost, margin in itertools.product(chosen.get("cost", ()), chosen.get("margin", ())):
        yield f"{entry.name}:cost={cost},margin={margin}"


def settings_of(entry: Entry, zoo: Zoo) -> Iterator[str]:
    """`slope=0`: each hyperparameter at the values where one formula may turn into another."""
    for hyperparameter in entry.hyperparameters.values():
        others = [
            other.hyperparameters[hyperparameter.name].default
            for other in zoo.entries(entry.kind)
            if hyperparameter.name in other.hyperparameters
        ]
        for value in _values(hyperparameter, others):
            yield f"{hyperparameter.name}={value}"


def _values(hyperparameter: Hyperparameter, others: Sequence[Any]) -> list[Any]:
    found: list[Any] = []

    def visit(annotation: Any) -> None:
        if get_origin(annotation) in (Union, UnionType):
            for part in get_args(annotation):
                visit(part)
        elif get_origin(annotation) is Annotated:
            kind, *bounds = get_args(annotation)
            edges = [getattr(bound, edge, None) for bound in bounds for edge in ("ge", "le")]
            found.extend(kind(edge) for edge in edges if edge is not None and kind in (int, float))
            visit(kind)
        elif get_origin(annotation) is Literal:
            found.extend(get_args(annotation))
        elif annotation is bool:
            found.extend((True, False))
        elif annotation in (int, float):
            found.extend(annotation(value) for value in (*SPECIAL, *others) if isinstance(value, int | float))

    visit(hyperparameter.annotation)
    return list(dict.fromkeys(_plain(value) for value in found if value != hyperparameter.default))


def _plain(value: Any) -> Any:
    """2 for 2.0: a plan takes either, and the plainer is read more easily."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
