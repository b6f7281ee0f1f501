"""Look for a counterexample: Hypothesis draws hyperparameters from their annotations and shrinks what it finds."""

import os
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import HypothesisException, HypothesisWarning, Unsatisfiable

from ganzoo.checks.counterexample import Refuted, Skipped, Told, plain
from ganzoo.checks.kept import cache_folder
from ganzoo.checks.patience import TooLong
from ganzoo.errors import UserError
from ganzoo.zoo import Entry, Hyperparameter

if TYPE_CHECKING:
    from ganzoo.checks.table import Law, Subject

LARGEST, SMALLEST = 1000, 1e-6
"""Magnitudes of the numbers drawn, besides 0: 1e308 and 5e-324 are inside a domain and outside every use."""


def domain(annotation: Any) -> st.SearchStrategy[Any]:
    """The values of an annotation: `X | None` and Literals whole, numbers finite and of usable magnitude."""
    if get_origin(annotation) in (Union, types.UnionType):
        return st.one_of(*map(domain, get_args(annotation)))
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if kind in (float, int):
        numbers: st.SearchStrategy[Any] = st.from_type(Annotated[annotation, Ge(-LARGEST), Le(LARGEST)])  # type: ignore[arg-type]
        usable = numbers.filter(lambda number: number == 0 or abs(number) >= SMALLEST)
        edges = [
            kind(edge)
            for bound in get_args(annotation)[1:]
            for edge in (getattr(bound, "ge", None), getattr(bound, "le", None))
            if edge is not None and abs(edge) <= LARGEST
        ]
        # A formula is wrong at the edge of its domain first, where a random number hardly falls.
        return usable | st.sampled_from(edges) if edges else usable
    return st.from_type(annotation)


def hyperparameters(entry: Entry) -> st.SearchStrategy[dict[str, Any]]:
    """Settings that the entry accepts."""
    named = {h.name: _domain_or_default(h) for h in entry.hyperparameters.values()}
    return st.fixed_dictionaries(named).filter(lambda settings: _accepted(entry, settings))


def _domain_or_default(h: Hyperparameter) -> st.SearchStrategy[Any]:
    strategy = domain(h.annotation)
    try:
        strategy.validate()
    except HypothesisException:  # a type that nothing can be drawn from
        return st.just(h.default)
    return strategy


def _accepted(entry: Entry, settings: dict[str, Any]) -> bool:
    try:
        entry.validate(**settings)
    except UserError:
        return False
    return True


def alternatives(entry: Entry) -> Iterator[dict[str, Any]]:
    """The defaults, and the defaults with one choice (a Literal, a bool) made otherwise."""
    defaults = entry.validate()
    yield defaults
    for h in entry.hyperparameters.values():
        options = (False, True) if h.annotation is bool else ()
        if get_origin(h.annotation) is Literal:
            options = get_args(h.annotation)
        yield from (defaults | {h.name: option} for option in options if option != h.default)


@contextmanager
def kept_in_cache() -> Iterator[None]:
    """In the block, what Hypothesis keeps of the modules that it reads goes to the user's cache folder, and not to
    .hypothesis in the working folder, of which whoever only checks a plugin knows nothing."""
    if os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY"):
        yield
        return
    set_hypothesis_home_dir(cache_folder().parent / "hypothesis")
    try:
        yield
    finally:
        set_hypothesis_home_dir(None)


def search(
    law: "Law", subject: "Subject", inputs: st.SearchStrategy[Any] | None = None, drawn: bool = True
) -> str | None:
    """Run the law at the defaults and each other choice, then at drawn settings. The note of the first run.

    Raises table.Skipped where it does not apply, table.Refuted with the simplest counterexample found.
    """
    entry = subject.entry
    choices = [*subject.given, *alternatives(entry)]
    first, *_ = [attempt(law, subject, choice) for choice in choices]
    note = _note(first)
    if not drawn or (inputs is None and not entry.hyperparameters):
        return note
    strategy = hyperparameters(entry) if entry.hyperparameters else st.just({})
    arguments = st.tuples(strategy) if inputs is None else st.tuples(strategy, inputs)
    count = subject.examples * (1 if inputs is None else 10)
    found: list[Exception] = []

    # derandomize: the same plugin gets the same verdict, everywhere.
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments)
    def run(drawn: tuple[Any, ...]) -> None:
        try:
            attempt(law, subject, *drawn)
        except Skipped:
            return
        except Refuted as refuted:
            found.append(refuted)
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        try:
            run()
        except Unsatisfiable:
            return "note: no hyperparameters could be drawn; judged at the defaults only"
        except BaseException as error:
            # Last comes the shrunk one. Hypothesis calls a plugin of changing output flaky: it is refuted all the same.
            if not found or isinstance(error, (KeyboardInterrupt, TooLong)):
                raise
            raise found[-1] from None
    return note


def _note(said: str | Told | None) -> str | None:
    return said.message if isinstance(said, Told) else said


def attempt(law: "Law", subject: "Subject", settings: dict[str, Any], *inputs: Any) -> str | Told | None:
    """The law at these settings; an error in the plugin refutes it as well."""
    try:
        return law(subject, settings, *inputs)
    except (Refuted, Skipped) as said:
        if isinstance(said, Refuted) and settings:
            said.counterexample = {"hyperparameters": plain(settings)} | said.counterexample
        raise
    except (Exception, SystemExit) as error:
        told = " ".join(str(error).split())[:300]
        raise Refuted(
            f"raised {type(error).__name__}: {told}", hyperparameters=settings, error=type(error).__name__
        ) from error
