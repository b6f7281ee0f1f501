"""All that the table says of one plugin: for a terminal, as JSON, and as a table for a README."""

import json
import textwrap
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from ganzoo.checks.table import Result
from ganzoo.errors import printable

SCHEMA = 2
"""Of the JSON. 1 had no level, cure, holds or reason, and two verdicts less."""
LEVELS = ("required", "recommended", "information")
NOT_ASKED = "only with --exhaustive"
"""Why a check of all floats did not run; the text names all such checks in one line."""
INDENT = " " * 9
NARROWEST, ROOM = 20, 28
"""Columns that a text is broken to at the least; those that it needs beside what stands before it."""


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
        """No required check fails, and none passes that was expected to fail."""
        return not any(result.refuses for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        results = [asdict(result) for result in self.results]
        return {"schema": SCHEMA, "kind": self.kind, "name": self.name, "passed": self.passed, "results": results}

    def as_json(self) -> str:
        """Strict JSON: NaN and the infinities stand as text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def text(self, columns: int | None = None) -> str:
        """For the terminal: a line a check, and below a failure its counterexample, its cure and how to see it.

        `columns`: to which lines are broken, but for those to copy; None: lines of any length.
        """
        lines = [f"{self.kind} {self.name}"]
        for level in LEVELS:
            asked = [r for r in self.results if r.level == level and r.message != NOT_ASKED]
            if asked:
                lines += [level, *(line for result in asked for line in _lines(result, columns))]
        left = [result.check_id for result in self.results if result.message == NOT_ASKED]
        if left:
            lines += _broken(
                f"not run: {left[0]} to {left[-1]}, {NOT_ASKED}: every float32 there is", columns, "", "  "
            )
        return "\n".join([*lines, *_broken(self._counts(), columns, "  ", "  ")])

    def _counts(self) -> str:
        counts = {verdict: sum(r.verdict == verdict for r in self.results) for verdict in ("pass", "skip", "expected")}
        refused = sum(result.refuses for result in self.results)
        expected = f"{counts['expected']} failed as expected, " if counts["expected"] else ""
        return (
            f"{counts['pass']} passed, {counts['skip']} skipped, {expected}{refused} failed,"
            f" {len(self.failures) - refused} recommendations not met"
        )

    def markdown(self) -> str:
        """For a README: what was checked with what, and a row a check. Nothing in it is markup but the table's own."""
        lines = [
            f"**{escaped(self.kind)} {escaped(self.name)}** {'conforms' if self.passed else '**does not conform**'}:"
            f" {self._counts()} (ganzoo {version('ganzoo')}, torch {version('torch')})",
            "",
            "| check | level | result | what it tests |",
            "|---|---|---|---|",
        ]
        for result in self.results:
            cells = (escaped(result.check_id), result.level, _cell(result), escaped(result.title))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def _word(result: Result) -> str:
    words = {"pass": "ok", "skip": "--", "expected": "xfail", "told": "info"}
    return words.get(result.verdict) or ("FAIL" if result.refuses else "advice")


def _lines(result: Result, columns: int | None) -> list[str]:
    lines = _broken(result.title, columns, f"  {_word(result):<6} {result.check_id:<13} ", INDENT)
    below = [f"as expected: {result.reason}"] if result.verdict == "expected" else []
    below += result.message.split("\n") if result.message else []
    if result.counterexample and result.verdict != "told":
        found = ", ".join(f"{name} = {value}" for name, value in result.counterexample.items())
        below.append(f"counterexample: {found}")
    if result.verdict == "fail" and result.cure:
        below.append(f"cure: {result.cure}")
    lines += [line for text in below for line in _broken(text, columns, INDENT, INDENT + "  ")]
    if result.verdict == "fail" and result.reproduce:
        lines += [f"{INDENT}to see it:", textwrap.indent(result.reproduce, INDENT + "  ")]
    return lines


def _broken(text: str, columns: int | None, first: str, others: str) -> list[str]:
    """The text after `first`, broken to fit, its further lines after `others`; both give way where there is no room."""
    if columns is None:
        return [first + text]
    room = max(columns, NARROWEST)
    begun = []
    if room - len(first) < ROOM and first.strip():
        begun, first = [" ".join(first.split())], others
    first, others = (indent if room - len(indent) >= ROOM else "  " for indent in (first, others))
    return begun + textwrap.wrap(text, room, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _cell(result: Result) -> str:
    said = escaped(result.message)
    match result.verdict:
        case "pass":
            return "passes" + (f"; {said}" if said else "")
        case "skip":
            return f"not run: {said}"
        case "expected":
            return f"fails as expected: {escaped(result.reason or '')}"
        case "fail":
            return f"**{'fails' if result.refuses else 'advice'}**: {said}"
        case "told":
            return said


def escaped(text: str) -> str:
    """One line that neither Markdown nor HTML takes for markup, whatever a plugin put into it."""
    line = printable("; ".join(text.split("\n")))
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(character, entity)
    return "".join(f"\\{c}" if c in "\\`*_[]|~#!$" else c for c in line)
