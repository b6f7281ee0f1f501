"""The command's root, and what every command's screen is made of."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.errors import UserError, printable, printable_lines

if TYPE_CHECKING:
    from ganzoo.zoo import Zoo
    from ganzoo.zoo.listing import Listing

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A plugin-based zoo of GAN objectives, compared fairly on held-out images.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", "-p", metavar="PATH", help="A plugin file or folder, beside what is installed."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def say(text: str, file: IO[str] | None = None) -> None:
    """For people: what a plugin, a plan or a file put into it does nothing to their terminal."""
    print(printable_lines(text), file=file or sys.stdout)


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, allow_nan=False, default=str))


def zoo_of(plugins: list[Path] | None) -> "Zoo":
    from ganzoo.zoo import Zoo

    return Zoo.installed(*(plugins or []))


def warn_of_broken(zoo: "Zoo | Listing") -> None:
    for broken in zoo.broken:
        # A line each: what breaks a plugin may be its own name, of any length and with line feeds in it.
        what = printable(f"{broken.origin}: {broken.reason}", 500)
        say(f"broken: {what}   (ganzoo why {broken.asked})", file=sys.stderr)


def width() -> int | None:
    """Columns of the terminal that standard output is; None where it is none, and lines may be as long as they like."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def paired(pairs: Sequence[tuple[str, str]], columns: int | None, indent: int = 2) -> str:
    """Two columns: names on the left, what belongs to them on the right, broken to fit. Where that leaves the right one
    too little room, it stands below the left. `columns`: None for lines of any length."""
    left = max((len(name) for name, _ in pairs), default=0)
    margin = " " * indent
    lines = []
    for name, text in ((printable(name), printable(text)) for name, text in pairs):
        start = f"{margin}{name:<{left}}  "
        if columns is None:
            lines.append(f"{start}{text}".rstrip())
        elif columns - len(start) >= NARROWEST:
            lines += _wrapped(text, columns, start, " " * len(start))
        else:
            lines += _wrapped(name, columns, margin, margin) if name else []
            lines += _wrapped(text, columns, margin * 2, margin * 2)
    return "\n".join(lines)


NARROWEST = 28
"""Columns that a text beside a name needs."""


def wrapped(text: str, columns: int | None) -> str:
    """The lines of a text, broken to fit; `columns`: None for lines of any length."""
    text = printable_lines(text)
    if columns is None:
        return text
    return "\n".join(line for one in text.split("\n") for line in _wrapped(one, columns, "", ""))


def indented(text: str, columns: int | None) -> str:
    """As `wrapped`, two columns further in."""
    lines = printable_lines(text).split("\n")
    if columns is None:
        return "\n".join(f"  {line}".rstrip() for line in lines)
    return "\n".join(part.rstrip() for line in lines for part in _wrapped(line, columns, "  ", "  "))


def _wrapped(text: str, columns: int, first: str, others: str) -> list[str]:
    found = textwrap.wrap(
        text,
        max(columns, len(others) + 8),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return found or [first.rstrip()]


def fitted(text: str, columns: int | None) -> str:
    """A report, tables and notes with empty lines between them, for a terminal of so many columns: a table that is too
    wide stands in parts, one below the other, each beginning with the columns that tell its lines apart; notes are
    filled anew. `columns`: None for lines of any length."""
    text = printable_lines(text)
    if columns is None or all(len(line) <= columns for line in text.split("\n")):
        return text
    found = []
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        starts = [k for k, line in enumerate(lines[:-1], 1) if line.endswith(":") and _is_row(lines[k])]
        said, table = (lines[: starts[0]], lines[starts[0] :]) if starts else (lines, [])
        if _is_row(lines[0]):
            said, table = [], lines
        found.append("\n".join([*_refilled(said, columns), *(_parts(table, columns) if table else [])]))
    return "\n\n".join(found) + "\n" * (len(text) - len(text.rstrip("\n")))


def _is_row(line: str) -> bool:
    """Of a table: something stands apart from something else."""
    return "  " in line.strip()


def _parts(lines: list[str], columns: int) -> list[str]:
    """Of a table: split where all lines are blank for two columns or more, and where that leaves a name without a
    figure beside it, a line for each figure."""
    longest = max(map(len, lines))
    padded = [line.ljust(longest) for line in lines]
    blank = [all(line[i] == " " for line in padded) for i in range(longest)]
    starts = [0, *(i for i in range(2, longest) if blank[i - 2] and blank[i - 1] and not blank[i])]
    cells = [[line[i:j].rstrip() for i, j in pairwise([*starts, longest])] for line in padded]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    named = 1 if cells[0][0] else 2  # columns that say of whom a line tells: a place has no heading
    if (
        len(widths) <= named
        or sum(widths[: named + 1]) + 2 * named > columns
        or (named == 1 and 2 * widths[0] > columns)
    ):
        return _singly(cells, named, columns)
    apart = _telling_apart(cells)
    if apart > 1 and sum(widths[:apart]) + 2 * apart > columns / 2:
        return _singly(cells, apart, columns)
    head = list(range(apart))
    parts, part = [], head
    for k in range(len(head), len(widths)):
        if sum(widths[i] + 2 for i in [*part, k]) - 2 > columns and len(part) > len(head):
            parts.append(part)
            part = head
        part = [*part, k]
    shown: list[str] = []
    for ks in [*parts, part]:
        told = [line for line in cells if not shown or any(line[k] for k in ks[len(head) :])]
        shown += [""] * bool(shown)
        shown += ["  ".join(line[k].ljust(widths[k]) for k in ks).rstrip() for line in told]
    return [piece for line in shown for piece in _cut(line, columns)]


def _telling_apart(cells: list[list[str]]) -> int:
    """How many columns, from the left, no two lines have alike; 1 where none do. A line without a place has no figures
    that could be mistaken for another's."""
    told = [line for line in cells[1:] if line[0]]
    return next((k for k in range(1, len(cells[0])) if len({tuple(line[:k]) for line in told}) == len(told)), 1)


def _singly(cells: list[list[str]], named: int, columns: int) -> list[str]:
    """A name, and below it a line for each of its figures."""
    heading, *lines = cells
    shown = []
    for line in lines:
        shown += _cut("  ".join(line[:named]).rstrip(), columns)
        figures = [(of.strip(), figure.strip()) for of, figure in zip(heading[named:], line[named:], strict=True)]
        shown += [
            piece for of, figure in figures if figure for piece in _wrapped(f"{of} {figure}", columns, "   ", "     ")
        ]
    return shown


def _cut(line: str, columns: int) -> list[str]:
    """A line that nothing divides, in pieces."""
    return [line[i : i + columns] for i in range(0, len(line), columns)] or [""]


FILLED = 120
"""Columns to which notes were filled."""


def _refilled(lines: list[str], columns: int) -> list[str]:
    """Of notes, each a paragraph whose further lines are indented, or follow on a line that had no room."""
    notes: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if notes and (line.startswith("  ") or len(f"{before} {line.partition(' ')[0]}") > FILLED):
            notes[-1] += ("" if re.search(r"\w-$", notes[-1]) else " ") + line.strip()
        else:
            notes.append(line)
    return [line for note in notes for line in _wrapped(note, columns, "", "  ")]


def settings_of(settings: list[str] | None) -> dict[str, Any]:
    """The `--set KEY=VALUE` of a command line."""
    from ganzoo.config import value_of

    changes: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected KEY=VALUE")
        changes[key.strip()] = value_of(value.strip())
    return changes
