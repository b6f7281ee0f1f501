"""Rows as other programs read them: CSV, JSON, Parquet."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganzoo.durable import commit, json_bytes
from ganzoo.errors import UserError, did_you_mean
from ganzoo.share.reading import ReadRun

FIRST = ("label", "seed", "fold", "verdict", "test_mre", "test_accuracy", "validation_accuracy")
"""Columns that come first, in this order; the others follow by name."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula, which can start a program."""

Flat = dict[str, str | int | float | bool | None]


def flat(row: dict[str, Any], before: str = "") -> Flat:
    """One level: `hashes.test images`; a list stands as JSON. The curve is left out: see `points`."""
    found: Flat = {}
    for key, value in row.items():
        if key == "curve" and not before:
            continue
        if isinstance(value, dict):
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return found


def points(row: dict[str, Any]) -> list[Flat]:
    """A row for each point of a training's curve."""
    name = {key: row[key] for key in ("label", "seed", "fold", "verdict")}
    return [{**name, **flat(point)} for point in row.get("curve", [])]


def columns(rows: list[Flat]) -> list[str]:
    """Every key that any of the rows has."""
    keys = {key for row in rows for key in row}
    return [*(key for key in FIRST if key in keys), *sorted(keys - set(FIRST))]


def csv_bytes(rows: list[Flat]) -> bytes:
    """RFC 4180, UTF-8. Floats are exact. A text that a spreadsheet would take for a formula has a `'` before
    it; None is empty."""
    out = io.StringIO()
    names = columns(rows)
    writer = csv.DictWriter(out, names, lineterminator="\r\n")
    writer.writerow({name: _harmless(name) for name in names})
    writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value


def parquet_bytes(rows: list[Flat]) -> bytes:
    """A column that holds several kinds of values holds them as text."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            "a .parquet file is written by pyarrow, which is not here: pip install 'ganzoo[parquet]'; .csv and .json"
            " need nothing"
        ) from None
    names = columns(rows)
    table = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values] if float in kinds else values
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]


WRITERS: dict[str, Callable[[list[Flat]], bytes]] = {".csv": csv_bytes, ".parquet": parquet_bytes}


def export(run: ReadRun, out: Path, *, curves: bool = False, force: bool = False) -> int:
    """Write the rows of a run, or with `curves` the points of its curves, by the file's ending. Returns how many.

    JSON holds the rows as they are; the others one level, `hashes.test images`. Raises UserError for another ending, a
    file that is there unless `force`, a missing library.
    """
    suffix = out.suffix.lower()
    if suffix not in (".json", *WRITERS):
        raise UserError(f"{out}: no format '{out.suffix}'{did_you_mean(out.suffix, ['.csv', '.json', '.parquet'])}")
    if out.exists() and not force:
        raise UserError(f"{out} is there already; take another name, or --force")
    if not run.rows:
        raise UserError(f"{run.name} has no row yet ({run.unfinished} cells are planned)")
    of_curves = [point for row in run.rows for point in points(row)]
    if suffix == ".json":
        rows: list[Any] = of_curves if curves else run.rows
        content = json_bytes(rows)
    else:
        rows = of_curves if curves else [flat(row) for row in run.rows]
        content = WRITERS[suffix](rows)
    commit(out, content)
    return len(rows)
