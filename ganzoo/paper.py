"""The items of a paper (figures, tables, theorems), announced by the entry-point group `ganzoo.paper`.

Each announces a function that returns its items by name. An item is listed, and made into a folder.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.bench import provenance
from ganzoo.devices import require_device
from ganzoo.durable import commit, commit_json
from ganzoo.engines import usable_cores
from ganzoo.errors import UserError, blamed, did_you_mean

SIZES = ("small", "paper")
RUNS = Path("runs/paper")
BARE = ("synthetic", "digits")
"""Data that every machine has."""


class Options(NamedTuple):
    """What one run of an item is asked for."""

    folder: Path
    """Where rows and figures go; it exists. `table.txt` and `item.json` are written there by `make`."""
    size: str = "small"
    """`small`: two CPU cores, minutes, data that a bare machine has. `paper`: the paper's own size, for a GPU."""
    data: str = "synthetic"
    """One of the item's `data`."""
    path: str | None = None
    """The folder or file of the data set, where it has one."""
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1`."""
    jobs: int = 1
    """Processes at a time."""


class Item(NamedTuple):
    """A figure, a table or a theorem."""

    shows: str
    """One line."""
    small: str
    """How long the small size takes on two CPU cores: `20 s`, `4 min`."""
    paper: str
    """How long the paper's size takes on one GPU, and whether that was measured."""
    run: Callable[[Options], str]
    """Writes `rows.jsonl` and its PNGs into the folder and returns the text of `table.txt`, which is also printed: a
    table, and what came out against the paper's claim."""
    data: Sequence[str] = ("synthetic",)
    """The data sets it runs on; the first is the default of the small size."""
    paper_data: str | None = None
    """The default of the paper's size; None: as in the small size."""


def items() -> dict[str, Item]:
    """Name -> item, of every installed distribution that announces some. UserError for one that fails, or takes a name
    that another has."""
    found: dict[str, Item] = {}
    for point in entry_points(group="ganzoo.paper"):
        with blamed(f"{point.value}, announced for `ganzoo paper`,"):
            announced = point.load()()
        if twice := found.keys() & announced.keys():
            raise UserError(f"{point.value} announces '{min(twice)}' for `ganzoo paper`, which another has announced")
        found |= announced
    return found


def described(name: str, item: Item) -> dict[str, Any]:
    """What there is to know of an item before it is run, and whether it was."""
    needs = "" if item.data[0] in BARE else f"--path FOLDER of {item.data[0]}"
    done = (RUNS / name / "item.json").exists()
    return {
        "item": name,
        "shows": item.shows,
        "command": f"ganzoo paper {name}",
        "data": list(item.data),
        "small": item.small,
        "paper": item.paper,
        "state": f"done: {RUNS / name}" if done else f"needs {needs}" if needs else "ready",
    }


def listing(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Each item, and the lines on what it shows, its command and data, whether it was made, and how long it takes."""
    return [
        (
            item["item"],
            [
                item["shows"],
                f"{item['command']}   (data: {', '.join(item['data'])})   [{item['state']}]",
                f"small: {item['small']}; paper: {item['paper']}",
            ],
        )
        for item in found
    ]


def make(
    name: str,
    known: Mapping[str, Item],
    *,
    size: str = "small",
    data: str | None = None,
    path: str | None = None,
    device: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Run one item into its folder (rows.jsonl, figures, table.txt, item.json: how they came about); what it made.

    Raises UserError for an unknown item, size, data set or device, and for whatever the item refuses, before anything
    is written.
    """
    if name not in known:
        raise UserError(f"the paper has no '{name}'{did_you_mean(name, known)}")
    if size not in SIZES:
        raise UserError(f"no size '{size}'{did_you_mean(size, SIZES)}")
    item = known[name]
    chosen = data or (item.paper_data if size == "paper" and item.paper_data else item.data[0])
    if chosen not in item.data:
        raise UserError(f"{name} does not run on '{chosen}'{did_you_mean(chosen, item.data)}")
    if path is not None and chosen in BARE:
        others = " or ".join(other for other in item.data if other not in BARE)
        raise UserError(f"{name} on {chosen} reads no --path" + (f"; say --data {others}" if others else ""))
    where = device or ("cuda" if size == "paper" and chosen != "synthetic" else "cpu")
    require_device(where, f"{name} at size {size}")
    folder = out or RUNS / name
    try:
        absent = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {folder}: {(error.strerror or str(error)).lower()}") from None
    options = Options(folder, size, chosen, path, where, jobs or (usable_cores() if where == "cpu" else 1))
    came_from = provenance(where)
    started = time.monotonic()
    try:
        text = item.run(options).rstrip()
    except BaseException:
        with suppress(OSError):  # what the item made before it failed is there to be resumed
            for place in absent:
                place.rmdir()
        raise
    commit(folder / "table.txt", f"{text}\n".encode())
    made = {
        "item": name,
        "shows": item.shows,
        "options": {**options._asdict(), "folder": None},
        "seconds": round(time.monotonic() - started, 1),
        "provenance": came_from,
    }
    commit_json(folder / "item.json", made)
    files = [str(path) for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in (".png", ".jsonl")]
    return {**made, "folder": str(folder), "text": text, "files": files}


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """rows.jsonl: a JSON object a line. ValueError for NaN, which is not JSON."""
    lines = [json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in rows]
    commit(folder / "rows.jsonl", "".join(lines).encode())
