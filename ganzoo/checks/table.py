"""What a check is and what it finds."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypothesis.strategies import SearchStrategy

from ganzoo.checks.about import CURES
from ganzoo.checks.counterexample import Refuted, Skipped, Told, plain
from ganzoo.checks.exhaustive import Tally
from ganzoo.checks.patience import at_most
from ganzoo.checks.search import attempt, search
from ganzoo.errors import UserError, printable
from ganzoo.zoo import Entry, Zoo

Verdict = Literal["pass", "fail", "expected", "skip", "told"]
"""`expected`: it fails, as the plugin declares, with a reason. `told`: a piece of information, neither good nor bad."""
Level = Literal["required", "recommended", "information"]
Settings = dict[str, Any]
"""Hyperparameters by name."""


@dataclass(frozen=True)
class Subject:
    """What is checked, and with what."""

    entry: Entry
    zoo: Zoo | None = None
    """Objectives are also played with each of its costs and margins."""
    seed: int = 0
    device: str = "cpu"
    examples: int = 15
    """Settings of the hyperparameters that are drawn for a check, beyond the defaults and those given."""
    given: tuple[Settings, ...] = ()
    """Settings that somebody asked for, all hyperparameters in each."""
    sweep: Callable[[Settings], Tally] | None = None
    """Settings -> what all 2^32 float32 values showed of a cost; None: nobody asked for that."""
    patience: float | None = None
    """Seconds after which a check is ended and fails; None: never."""

    @property
    def settings(self) -> tuple[Settings, ...]:
        """The defaults, and what was asked for."""
        defaults = self.entry.validate()
        return (defaults, *(given for given in self.given if given != defaults))


Law = Callable[..., str | Told | None]
"""(subject, settings) -> a note or None; of information, what there is to tell. Raises Refuted or Skipped."""


@dataclass(frozen=True)
class Check:
    """One law of one kind of plugin. `kind` and `id` never change their meaning once released."""

    id: str
    kind: str
    title: str
    required: bool
    """False: a recommendation. A sound plugin may fail it, and the title of the law says when."""
    law: Law = field(repr=False)
    inputs: SearchStrategy[Any] | None = None
    """Drawn besides the hyperparameters, the law's third argument."""
    drawn: bool = True
    """False: the defaults and each choice only. A network of width 1000 is too dear to draw."""
    informs: bool = False
    """A question, told at the defaults and at what was asked for; nothing is right or wrong."""
    every_float: bool = False
    """Needs the sweep; judged at the defaults and at what was asked for."""

    @property
    def level(self) -> Level:
        return "information" if self.informs else "required" if self.required else "recommended"

    def run(self, subject: Subject) -> "Result":
        """Look for a counterexample: at what was asked for, the defaults and each choice, then where Hypothesis draws
        and shrinks. What the plugin prints is not heard. Raises UserError for expected failures that are none."""
        reason = expected_failures(subject.entry).get(self.id)
        result = self._found(subject)
        if reason is None or result.verdict in ("skip", "told"):
            return result
        if result.verdict == "fail":
            return replace(result, verdict="expected", reason=reason)
        message = f"was expected to fail and passes: take it out of expected_failures, where it says: {reason}"
        return replace(result, verdict="fail", reason=reason, message=message)

    def _found(self, subject: Subject) -> "Result":
        result = Result(self.id, subject.entry.kind, subject.entry.name, self.title, self.required, "pass", self.level)
        patience = None if self.every_float else subject.patience  # the sweep has its own
        try:
            with unheard(), at_most(patience):
                if not self.informs and not self.every_float:
                    return replace(result, message=search(self.law, subject, self.inputs, self.drawn) or "")
                return self._at_each_setting(subject, result)
        except Skipped as reason:
            return replace(result, verdict="skip", message=str(reason))
        except Refuted as found:
            if self.informs:
                return replace(result, verdict="skip", message=f"could not be told: {found.message}")
            return replace(
                result,
                verdict="fail",
                message=found.message,
                counterexample=found.counterexample,
                reproduce=reproduce(self, subject.entry, found),
                cure=found.cure or CURES.get(self.id),
            )

    def _at_each_setting(self, subject: Subject, result: "Result") -> "Result":
        said, first = [], Told("", None)
        for settings in subject.settings:
            told = attempt(self.law, subject, settings)
            told = told if isinstance(told, Told) else Told(told or "", None)
            said.append(f"at {in_words(settings)}: {told.message}" if settings else told.message)
            if told.holds is False and first.holds is not False:
                found = {"hyperparameters": plain(settings)} if settings else {}
                first = Told("", False, found | plain(told.counterexample or {}))
            elif told.holds and first.holds is None:
                first = Told("", True)
        return replace(
            result,
            verdict="told" if self.informs else "pass",
            message="\n".join(said),
            holds=first.holds,
            counterexample=first.counterexample,
        )


@dataclass(frozen=True)
class Result:
    """What one check found."""

    check_id: str
    kind: str
    name: str
    title: str
    required: bool
    verdict: Verdict
    level: Level = "required"
    message: str = ""
    counterexample: dict[str, Any] | None = None
    """Numbers and names only; `hyperparameters` among them where it has any."""
    reproduce: str | None = None
    """Three lines of Python that raise the failure; None where the function cannot be imported."""
    cure: str | None = None
    """What usually helps."""
    holds: bool | None = None
    """Of information: no counterexample at any setting; one; or it is no matter of yes and no."""
    reason: str | None = None
    """Why the plugin declares that it fails this check."""

    @property
    def refuses(self) -> bool:
        """The plugin is not fit for use: a required check fails, or one passes that was declared to fail."""
        return self.verdict == "fail" and (self.required or self.reason is not None)


@contextmanager
def unheard() -> Iterator[None]:
    """What a plugin prints in the block goes nowhere: a command's output is its result."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def expected_failures(entry: Entry) -> dict[str, str]:
    """Id of a check -> why the plugin declares that it fails it. Raises UserError for what is no such thing."""
    declared: object = getattr(entry.function, "ganzoo_expected_failures", {})
    if not isinstance(declared, Mapping):
        raise UserError(
            f"{entry.kind} '{entry.name}': expected_failures should be {{'cost-2': 'the reason'}}, not"
            f" {printable(repr(declared), 80)}"
        )
    for check_id, reason in declared.items():
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"{entry.kind} '{entry.name}': expected_failures gives no reason for {check_id!r}")
    return dict(declared)


def in_words(settings: Settings) -> str:
    """`slope = 0.01, scale = 1.0`"""
    return ", ".join(f"{name} = {json.dumps(plain(value))}" for name, value in settings.items())


def reproduce(check: Check, entry: Entry, found: Refuted) -> str | None:
    """Import the plugin, name its entry, fail on the counterexample: three lines."""
    settings = found.counterexample.get("hyperparameters", {})
    given = "".join(f", {name}={value!r}" for name, value in settings.items())
    function, file = entry.function, entry.code.co_filename
    if entry.origin.plugin == file or function.__module__.startswith("ganzoo_file_"):
        imports, named = "import ganzoo, ganzoo.checks, torch", f"ganzoo.Zoo.installed({file!r})"
        named += f".find({entry.kind!r}, {entry.name!r})"
    elif function.__qualname__.isidentifier():
        imports = f"import ganzoo.checks, torch, {function.__module__}"
        named = f"ganzoo.checks.as_entry({function.__module__}.{function.__name__})"
    else:
        return None
    last = f"ganzoo.checks.replay({check.id!r}, entry{given})"
    if found.show:
        bound = f"entry.bind({given.removeprefix(', ')})"
        if "networks" in entry.inputs:
            bound = f"ganzoo.checks.stand_ins.partner(entry{given})"
        last = f"{entry.kind} = {bound}; {found.show}"
    return f"{imports}\nentry = {named}\n{last}"
