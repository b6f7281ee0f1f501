"""What a check is, what it finds, and how that reads on a terminal and as JSON."""

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from hypothesis.strategies import SearchStrategy

from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.search import search
from ganzoo.zoo import Entry, Zoo

Verdict = Literal["pass", "fail", "skip"]
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
    """Settings of the hyperparameters that are drawn for a check, beyond the defaults."""


Law = Callable[..., str | None]
"""(subject, settings) -> a note or None. Raises Refuted or Skipped."""


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

    def run(self, subject: Subject) -> "Result":
        """Look for a counterexample: at the defaults and each choice, then where Hypothesis draws and shrinks."""
        passed = Result(self.id, subject.entry.kind, subject.entry.name, self.title, self.required, "pass")
        try:
            return replace(passed, message=search(self.law, subject, self.inputs, self.drawn) or "")
        except Skipped as reason:
            return replace(passed, verdict="skip", message=str(reason))
        except Refuted as found:
            return replace(
                passed,
                verdict="fail",
                message=found.message,
                counterexample=found.counterexample,
                reproduce=reproduce(self, subject.entry, found),
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
    message: str = ""
    counterexample: dict[str, Any] | None = None
    """Numbers and names only; `hyperparameters` among them where it has any."""
    reproduce: str | None = None
    """Three lines of Python that raise the failure; None where the function cannot be imported."""


@dataclass(frozen=True)
class Report:
    """All that the table says of one plugin."""

    kind: str
    name: str
    results: list[Result]

    @cached_property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.verdict == "fail"]

    @property
    def passed(self) -> bool:
        """No required check fails."""
        return not any(result.required for result in self.failures)

    def as_dict(self) -> dict[str, Any]:
        results = [asdict(result) for result in self.results]
        return {"kind": self.kind, "name": self.name, "passed": self.passed, "results": results}

    def as_json(self) -> str:
        """Strict JSON: NaN and the infinities stand as text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def text(self) -> str:
        """For the terminal: a line a check, and below a failure its counterexample and how to see it."""
        words = {"pass": "ok", "skip": "--"}
        lines = [f"{self.kind} {self.name}"]
        for result in self.results:
            word = words.get(result.verdict, "FAIL" if result.required else "advice")
            lines.append(f"  {word:<6} {result.check_id:<13} {result.title}")
            if result.message:
                lines.append(textwrap.indent(result.message, " " * 9))
            if result.counterexample:
                found = ", ".join(f"{name} = {value}" for name, value in result.counterexample.items())
                lines.append(f"{'':9}counterexample: {found}")
            if result.reproduce:
                lines += [f"{'':9}to see it:", textwrap.indent(result.reproduce, " " * 11)]
        counts = {verdict: sum(r.verdict == verdict for r in self.results) for verdict in ("pass", "skip")}
        refused = sum(result.required for result in self.failures)
        lines.append(
            f"  {counts['pass']} passed, {counts['skip']} skipped, {refused} failed,"
            f" {len(self.failures) - refused} recommendations not met"
        )
        return "\n".join(lines)


def reproduce(check: Check, entry: Entry, found: Refuted) -> str | None:
    """Import the plugin, name its entry, fail on the counterexample: three lines."""
    settings = found.counterexample.get("hyperparameters", {})
    given = "".join(f", {name}={value!r}" for name, value in settings.items())
    function, file = entry.function, entry.function.__code__.co_filename
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
