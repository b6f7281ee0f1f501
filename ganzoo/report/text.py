"""Tables and notes as plain text, the same whatever the window of whoever started it."""

from collections import Counter
from collections.abc import Sequence
from io import StringIO
from textwrap import fill, shorten
from typing import Any

from rich.console import Console
from rich.table import Table

from ganzoo.errors import printable
from ganzoo.statistics import Interval


def as_text(table: Table, notes: Sequence[str], width: int = 180) -> str:
    """The table, an empty line, the notes folded at 120 characters."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join([*lines, "", *(fill(printable(note), 120, subsequent_indent="  ") for note in notes)]) + "\n"


def counted(verdicts: Sequence[str], inexact: int = 0) -> str:
    """`2 done, diverged@41, 1 inexact`."""
    counts = Counter(verdicts)
    parts = [f"{counts.pop('done')} done" if "done" in counts else ""]
    parts += [verdict if n == 1 else f"{n} x {verdict}" for verdict, n in counts.items()]
    parts += [f"{inexact} inexact"] if inexact else []
    return ", ".join(shorten(printable(part), 60) for part in parts if part)


INEXACT = (
    "inexact: resumed where numbers round differently (--allow-inexact); the same plan elsewhere ends in other bits."
)


def machines(rows: Sequence[dict[str, Any]]) -> int:
    """On how many that round differently the finished cells were made; those that say so themselves apart."""
    made = {
        str(sorted(row.get("fingerprint", {}).items()))
        for row in rows
        if row["verdict"] == "done" and not row.get("inexact")
    }
    return max(1, len(made))


def mixed(count: int) -> str:
    """The note of a table whose cells come from several such machines."""
    return (
        f"The cells were made in {count} ways of rounding (torch, processor, threads or precision differ:"
        " `fingerprint` of the rows); allowed by --allow-inexact. A difference may be the machines'."
    )


def inexact(rows: Sequence[dict[str, Any]]) -> int:
    """How many of the rows were resumed where numbers round differently."""
    return sum(bool(row.get("inexact")) for row in rows)


FEW_IMAGES = 30
"""Test images below which a table says so."""


def few_images(count: int) -> str:
    """The note of a table over so many test images; empty where they are enough to say nothing of."""
    if count >= FEW_IMAGES:
        return ""
    return (
        f"{count} test image{'s are' if count != 1 else ' is'} few: seeds tell how trainings vary, not how images do;"
        " no number of seeds makes up for them."
    )


NAME = 240
"""Characters of a contender's name in a table or a note."""


def named(label: str) -> str:
    """A contender's name for people: it may hold anything, a hyperparameter's value say, of any length."""
    return printable(label, NAME)


def number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else f"{value:{form}}"


def span(interval: Interval | None, form: str = ".4f") -> str:
    return "-" if interval is None else f"{interval.low:{form}} {interval.high:{form}}"
