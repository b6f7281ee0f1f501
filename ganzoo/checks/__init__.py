"""The contracts of the seven hooks as one table of checks: the command, pytest and JSON all read it.

report = run_checks(Zoo.installed().find("cost", "leaky"))
print(report.text())
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from ganzoo.checks.arrangements import ARRANGEMENTS
from ganzoo.checks.costs import COSTS
from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.engines import ENGINES
from ganzoo.checks.every_float import EVERY_FLOAT
from ganzoo.checks.exhaustive import Tally
from ganzoo.checks.listeners import LISTENERS
from ganzoo.checks.margins import MARGINS
from ganzoo.checks.networks import NETWORKS
from ganzoo.checks.objectives import OBJECTIVES
from ganzoo.checks.penalties import PENALTIES
from ganzoo.checks.questions import QUESTIONS
from ganzoo.checks.report import Report
from ganzoo.checks.table import Check, Result, Settings, Subject, expected_failures, unheard
from ganzoo.errors import UserError, did_you_mean
from ganzoo.zoo import Entry, Zoo

__all__ = [
    "CHECKS", "TABLE", "Check", "Refuted", "Report", "Result", "Skipped", "Subject", "as_entry", "replay",
    "require_expected", "run_checks",
]  # fmt: skip

CHECKS: tuple[Check, ...] = (*COSTS, *MARGINS, *ARRANGEMENTS, *OBJECTIVES, *PENALTIES, *NETWORKS, *ENGINES, *LISTENERS)
TABLE: tuple[Check, ...] = (*CHECKS, *QUESTIONS, *EVERY_FLOAT)
"""CHECKS are what every plugin is put to; beside them the questions, and what --exhaustive adds."""

SOLID = ("cost-6", "cost-7", "cost-9")
"""Elementwise, of its input's shape, deterministic: without these a value of C is not the value of C."""
UNMET = ("fail", "expected")


def run_checks(
    entry: Entry,
    zoo: Zoo | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    examples: int = 15,
    given: Sequence[Settings] = (),
    patience: float | None = None,
    every_float: Callable[[Entry, Settings], Tally] | None = None,
) -> Report:
    """All checks of the entry's kind.

    `zoo`: objectives are then also played with each of its costs and margins. `examples`: settings of the
    hyperparameters drawn for each check, beyond the defaults and those `given`. `patience`: seconds after which a check
    is ended and fails. `every_float`: what evaluates a cost at all 2^32 float32 values, at the defaults and at each of
    the settings given (`ganzoo.checks.sweeps`). The same arguments give the same report. Raises UserError for expected
    failures that are none, and where the settings given are outside their domains.
    """
    require_expected(entry)
    subject = Subject(entry, zoo, seed, device, examples, tuple(entry.validate(**one) for one in given), None, patience)
    results = [check.run(subject) for check in CHECKS if check.kind == entry.kind]
    if every_float is not None and entry.kind == "cost":
        with unheard():
            subject = replace(subject, sweep=_sweeps(subject, results, every_float))
    results += [check.run(subject) for check in (*QUESTIONS, *EVERY_FLOAT) if check.kind == entry.kind]
    return Report(entry.kind, entry.name, results)


def _sweeps(
    subject: Subject, results: Sequence[Result], every_float: Callable[[Entry, Settings], Tally]
) -> Callable[[Settings], Tally]:
    """Every sweep is made now; a law that asks for one gets its tally, or is told what became of it."""
    failed = [result.check_id for result in results if result.check_id in SOLID and result.verdict in UNMET]
    found: list[tuple[Settings, Tally | Refuted]] = []
    for settings in subject.settings if not failed else ():
        try:
            found.append((settings, every_float(subject.entry, settings)))
        except Refuted as refuted:
            found.append((settings, refuted))

    def tally_of(settings: Settings) -> Tally:
        if failed:
            raise Skipped(f"{failed[0]} fails: what such a cost gives in one batch proves nothing of another")
        tally = next(tally for of, tally in found if of == settings)
        if isinstance(tally, Refuted):
            raise Refuted(tally.message, tally.show, tally.cure, **tally.counterexample)
        return tally

    return tally_of


def require_expected(entry: Entry) -> None:
    """Raises UserError where the plugin expects to fail what is no check of its kind, or gives no reason."""
    ids = [check.id for check in TABLE if check.kind == entry.kind and not check.informs]
    for check_id in expected_failures(entry):
        if check_id not in ids:
            raise UserError(
                f"{entry.kind} '{entry.name}': expected_failures names {check_id!r}, no check of a {entry.kind}"
                f"{did_you_mean(str(check_id), ids)}"
            )


def as_entry(function: Any) -> Entry:
    """The zoo's entry of a decorated function. Raises UserError where the zoo refuses it."""
    module = ModuleType(getattr(function, "__module__", "") or "plugin")
    vars(module)["plugin"] = function
    zoo = Zoo()
    zoo.add(module)
    for broken in zoo.broken:
        raise UserError(broken.reason)
    return next(iter(zoo))


def replay(check_id: str, entry: Entry, *, seed: int = 0, device: str = "cpu", **hyperparameters: Any) -> None:
    """One check at these hyperparameters. Raises Refuted where it fails, UserError for an unknown id."""
    laws = {check.id: check.law for check in TABLE if check.kind == entry.kind}
    if check_id not in laws:
        raise UserError(f"no check '{check_id}' of a {entry.kind}{did_you_mean(check_id, laws)}")
    laws[check_id](Subject(entry, seed=seed, device=device), entry.validate(**hyperparameters))
