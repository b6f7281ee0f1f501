"""The zoo's checks in a stranger's pytest.

from ganzoo.testing import parametrize_with_checks
from my_plugin import my_cost

@parametrize_with_checks([my_cost])
def test_my_cost(check):
    check()
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ganzoo.checks import CHECKS, Check, Refuted, Subject, as_entry, require_expected
from ganzoo.errors import UserError
from ganzoo.zoo import Entry, Zoo

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class EntryCheck:
    """One check of one plugin; called, it raises Refuted, skips the test or returns."""

    check: Check
    subject: Subject

    @property
    def id(self) -> str:
        """`cost-leaky-cost-1`"""
        return f"{self.subject.entry.kind}-{self.subject.entry.name}-{self.check.id}"

    def __call__(self) -> None:
        import pytest

        result = self.check.run(self.subject)
        if result.verdict == "skip":
            pytest.skip(result.message)
        if result.verdict == "expected":
            pytest.xfail(f"{result.reason}: {result.message}")
        if result.verdict == "fail":
            said = "\n".join(filter(None, (f"{self.id}: {result.message}", result.reproduce)))
            if not result.refuses:
                pytest.skip(f"recommendation not met: {said}")
            raise Refuted(said, **(result.counterexample or {}))


def entries_of(thing: Any) -> list[Entry]:
    """The entries of a decorated function, a module, the path of a file, or an entry itself.

    Raises UserError, naming the reason, where the zoo refuses one of them.
    """
    if isinstance(thing, Entry):
        return [thing]
    if not isinstance(thing, ModuleType | str | Path):
        return [as_entry(thing)]
    zoo = Zoo()
    if isinstance(thing, ModuleType):
        zoo.add(thing)
    else:
        zoo.add_file(Path(thing))
    for broken in zoo.broken:
        raise UserError(f"plugin {broken.origin}: {broken.reason}")
    return list(zoo)


def checks_of(things: Iterable[Any], *, seed: int = 0, device: str = "cpu", examples: int = 15) -> Iterator[EntryCheck]:
    """Every check of every entry of the things."""
    for thing in things:
        for entry in entries_of(thing):
            require_expected(entry)
            subject = Subject(entry, None, seed, device, examples)
            yield from (EntryCheck(check, subject) for check in CHECKS if check.kind == entry.kind)


def parametrize_with_checks(
    things: Iterable[Any], *, seed: int = 0, device: str = "cpu", examples: int = 15
) -> "pytest.MarkDecorator":
    """One test a check of decorated functions, modules, files (paths) or zoo entries; its argument is `check`.

    A recommendation that is not met skips its test and says why; what the plugin expects to fail is an xfail. Raises
    UserError at collection where the zoo refuses one of the things.
    """
    import pytest

    checks = list(checks_of(things, seed=seed, device=device, examples=examples))
    return pytest.mark.parametrize("check", checks, ids=[check.id for check in checks])
