"""The contracts of the six hooks as one table of checks: the command, pytest and JSON all read it.

report = run_checks(Zoo.installed().find("cost", "leaky"))
print(report.text())
"""

from types import ModuleType
from typing import Any

from ganzoo.checks.costs import COSTS
from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.engines import ENGINES
from ganzoo.checks.margins import MARGINS
from ganzoo.checks.networks import NETWORKS
from ganzoo.checks.objectives import OBJECTIVES
from ganzoo.checks.table import Check, Report, Result, Subject
from ganzoo.errors import UserError, did_you_mean
from ganzoo.zoo import Entry, Zoo

__all__ = [
    "CHECKS", "Check", "Refuted", "Report", "Result", "Skipped", "Subject", "as_entry", "replay", "run_checks",
]  # fmt: skip

CHECKS: tuple[Check, ...] = (*COSTS, *MARGINS, *OBJECTIVES, *NETWORKS, *ENGINES)


def run_checks(
    entry: Entry, zoo: Zoo | None = None, *, seed: int = 0, device: str = "cpu", examples: int = 15
) -> Report:
    """All checks of the entry's kind.

    `zoo`: objectives are then also played with each of its costs and margins. `examples`: settings of the
    hyperparameters drawn for each check, beyond the defaults. The same arguments give the same report.
    """
    subject = Subject(entry, zoo, seed, device, examples)
    results = [check.run(subject) for check in CHECKS if check.kind == entry.kind]
    return Report(entry.kind, entry.name, results)


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
    laws = {check.id: check.law for check in CHECKS if check.kind == entry.kind}
    if check_id not in laws:
        raise UserError(f"no check '{check_id}' of a {entry.kind}{did_you_mean(check_id, laws)}")
    laws[check_id](Subject(entry, seed=seed, device=device), entry.validate(**hyperparameters))
