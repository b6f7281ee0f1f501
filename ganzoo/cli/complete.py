"""What the shell may offer next, without torch, and without ever failing: a Tab is no place for an error.

Beside a name stands its kind, never a plugin's docstring: shells evaluate what they are told.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path

Offer = tuple[str, str]
"""What to type, and what that is."""

INERT = re.compile(r"[\w./:=,-]+", re.ASCII)
"""What no shell finds a meaning in."""
PENALTIES = ("r1", "r2", "dragan", "theta_penalty")
"""The names of `ganzoo.penalty.PENALTIES`, which imports torch."""
RUNS = 200
"""Folders that are looked at."""
SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "folder", "npy", "npz")
VARIED = (
    "epochs", "z_dim", "batch_size", "recipe", "generator", "critic", "data", "machine", "code", "selection", "initial",
)  # fmt: skip
"""Image sets, and what two runs may differ in: `ganzoo.data.SETS` and `IMPLIED` of `ganzoo.share.compare`, which import
torch."""


def complete_name(incomplete: str) -> list[Offer]:
    """A plugin by name, or by KIND/NAME where a slash has been typed."""
    return _offered(_names, incomplete)


def complete_show(incomplete: str) -> list[Offer]:
    """As `complete_name`, `plan`, and the penalties."""
    besides = [("plan", "the keys of a plan"), *((name, "penalty") for name in PENALTIES)]
    return _offered(lambda typed: [*besides, *_names(typed)], incomplete)


def complete_why(incomplete: str) -> list[Offer]:
    """As `complete_name`, and what is announced: distributions, entry points."""
    return _offered(lambda typed: [*_names(typed), *_announced()], incomplete)


def complete_objective(incomplete: str) -> list[Offer]:
    """An objective, or, after its colon, one of its hyperparameters."""
    return _offered(_objectives, incomplete)


def complete_kind(incomplete: str) -> list[Offer]:
    """A kind of plugin."""
    return _offered(_kinds, incomplete)


def complete_item(incomplete: str) -> list[Offer]:
    """An item of our paper; others' would have to be loaded to be named."""
    return _offered(_items, incomplete)


def complete_run(incomplete: str) -> list[Offer]:
    """The folder of a run beneath `runs`. Of any other the shell itself knows."""
    return _offered(_runs, incomplete)


def complete_run_or_share(incomplete: str) -> list[Offer]:
    """As `complete_run`, and the zips that lie here."""
    return _offered(lambda typed: [*_runs(typed), *_shares()], incomplete)


def complete_share(incomplete: str) -> list[Offer]:
    """A zip that lies here."""
    return _offered(lambda _: _shares(), incomplete)


def complete_engine(incomplete: str) -> list[Offer]:
    """An engine."""
    return _offered(lambda _: _of_kind("engine"), incomplete)


def complete_listener(incomplete: str) -> list[Offer]:
    """A listener."""
    return _offered(lambda _: _of_kind("listener"), incomplete)


def complete_data(incomplete: str) -> list[Offer]:
    """An image set."""
    return _offered(lambda _: [(name, "images") for name in SETS], incomplete)


def complete_varying(incomplete: str) -> list[Offer]:
    """What two runs may differ in on purpose."""
    return _offered(lambda _: [(name, "differs") for name in VARIED], incomplete)


def _offered(offers: Callable[[str], Iterable[Offer]], incomplete: str) -> list[Offer]:
    found: dict[str, str] = {}
    with suppress(Exception), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        for what, about in offers(incomplete):
            if what.startswith(incomplete) and INERT.fullmatch(what):
                found[what] = f"{found[what]}, {about}" if what in found and about not in found[what] else about
    return list(found.items())


def _names(typed: str) -> Iterator[Offer]:
    from ganzoo.zoo.listing import listing_at_once

    for one in listing_at_once().plugins:
        yield (f"{one.kind}/{one.name}" if "/" in typed else one.name), one.kind


def _of_kind(kind: str) -> Iterator[Offer]:
    from ganzoo.zoo.listing import listing_at_once

    for one in listing_at_once().plugins:
        if one.kind == kind:
            yield one.name, kind


def _announced() -> Iterator[Offer]:
    from ganzoo.zoo.announced import announced

    found, unreadable = announced()
    for one in found:
        yield str(one.origin.distribution), "distribution"
        yield one.point.name, "entry point"
    for broken in unreadable:
        yield str(broken.origin.distribution), "distribution"


def _objectives(typed: str) -> Iterator[Offer]:
    from ganzoo.zoo.listing import listing_at_once

    plugins = listing_at_once().plugins
    name, colon, rest = typed.partition(":")
    begun, comma, last = rest.rpartition(",")
    key, equals, _ = last.partition("=")
    before = f"{name}{colon}{begun}{comma}"
    for one in plugins:
        if equals and one.kind == key:
            yield f"{before}{key}={one.name}", one.kind
        elif one.kind == "objective" and not colon:
            yield one.name, "objective"
        elif one.kind == "objective" and one.name == name and not equals:
            for taken in (*(kind for kind in one.about["inputs"]), *one.about["hyperparameters"]):
                yield f"{before}{taken}=", "hyperparameter"


def _kinds(typed: str) -> Iterator[Offer]:
    from ganzoo.hooks import KINDS

    for kind in KINDS:
        yield kind, "kind"


def _items(typed: str) -> Iterator[Offer]:
    from importlib.metadata import entry_points

    for point in entry_points(group="ganzoo.paper"):
        if point.dist is not None and point.dist.name == "ganzoo":
            for name in import_module(point.module).NAMES:
                yield name, "item"


def _runs(typed: str) -> Iterator[Offer]:
    for count, plan in enumerate(sorted(Path("runs").glob("*/plan.toml"))):
        if count < RUNS:
            yield str(plan.parent), "run"


def _shares() -> Iterator[Offer]:
    for count, path in enumerate(sorted(Path().glob("*.zip"))):
        if count < RUNS:
            yield str(path), "share"
