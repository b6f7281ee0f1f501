"""Who hears what a run makes: rows, points, pictures, its end; each once, also after a resume.

A listener is called in the driver, in a thread of its own, and the workers that train are other processes: it can be
slow, and it can raise, and no training waits for it or changes by it. Only at the end does the command wait, PATIENCE
seconds at most; what a listener has not taken by then, or did not take because it raised, the same command delivers
again.
"""

import contextlib
import copy
import hashlib
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.bench import Prepared
from ganzoo.cell_folder import read_curve
from ganzoo.config import value_of
from ganzoo.durable import commit, make_folder, refused, sealed_line, sealed_lines
from ganzoo.errors import UserError, blamed
from ganzoo.listening import Listener
from ganzoo.result import concluded, read_pictures, read_row
from ganzoo.zoo import Entry, Zoo

PATIENCE = 30.0
"""Seconds that a command waits at its end for all listeners together."""
HURRIED = 2.0
"""The same after Ctrl-C or an error."""
SEEN = "seen.jsonl"
"""In a listener's folder: what it has taken."""


class Message(NamedTuple):
    what: str
    cell: str
    """The cell's folder; empty for the end of a run."""
    key: str
    """Of the cell's messages of that kind: a message with a known key was taken before."""
    arguments: Callable[[], tuple[Any, ...]]
    """What the listener gets, made when it is its turn."""


class _Heard:
    """One listener, its thread, and what it has taken."""

    def __init__(self, name: str, listener: Listener, folder: Path) -> None:
        self.name, self.listener, self.path = name, listener, folder / SEEN
        self.taken = 0
        self.failures: list[str] = []
        self.seen = self._read()
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._waiting = 0
        self._thread = threading.Thread(target=self._go, name=f"listener {name}", daemon=True)
        self._thread.start()

    def _read(self) -> set[tuple[str, str, str]]:
        there = self.path.read_bytes() if self.path.exists() else b""
        notes = list(sealed_lines(there))
        end = notes[-1][0] if notes else 0
        if end < len(there):  # torn by a kill
            commit(self.path, there[:end])
        return {(note["what"], note["cell"], note["key"]) for _, note in notes}

    def put(self, message: Message) -> None:
        if tuple(message[:3]) not in self.seen:
            self.seen.add((message.what, message.cell, message.key))
            self._waiting += 1
            self._queue.put(message)

    @property
    def left(self) -> int:
        return self._waiting

    def _go(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                getattr(self.listener, message.what)(*message.arguments())
                self._note(message)
                self.taken += 1
            except BaseException as error:  # noqa: BLE001 (a plugin may raise anything; SystemExit is nobody's end here)
                self.failures.append(f"{message.what}: {type(error).__name__}: {' '.join(str(error).split())}"[:500])
            self._waiting -= 1
        try:
            self.listener.close()
        except BaseException as error:  # noqa: BLE001 (as above)
            self.failures.append(f"close: {type(error).__name__}: {' '.join(str(error).split())}"[:500])
        self._over.set()

    def _note(self, message: Message) -> None:
        """After the call: a kill between the two repeats one message, and loses none."""
        line = sealed_line({"what": message.what, "cell": message.cell, "key": message.key})
        with suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(line)

    def end(self) -> None:
        self._queue.put(None)

    def ended(self, seconds: float) -> bool:
        return self._over.wait(max(0.0, seconds))

    def notes(self) -> list[str]:
        """What to tell of it at the end: its first failure, and what it left."""
        said = []
        if self.failures:
            more = f" ({len(self.failures)} times in all)" if len(self.failures) > 1 else ""
            said.append(
                f"listener '{self.name}' failed{more}: {self.failures[0]}; the run is as it would be without it"
            )
        if self.left:
            said.append(
                f"listener '{self.name}' was given no more time: {self.left} messages are left; the same command"
                " delivers them"
            )
        return said


class Listening:
    """All listeners of a command."""

    def __init__(self, prepared: Prepared, folder: Path, heard: list[_Heard]) -> None:
        self.folder, self.heard = folder, heard
        self.cells = {
            (cell.contender.label, cell.seed, cell.fold): (
                {
                    "label": cell.contender.label,
                    "seed": cell.seed,
                    "fold": cell.fold,
                    "name": cell.directory,
                    "epochs": prepared.plan.epochs,
                },
                folder / "cells" / cell.directory,
            )
            for cell in prepared.cells
        }

    def tell(self, event: dict[str, Any]) -> None:
        """Pass on an event of `ganzoo.bench`; never waits, never raises what a listener raises."""
        if not self.heard or event["event"] == "start":
            return
        cell, directory = self.cells[event["label"], event["seed"], event["fold"]]
        if event["event"] == "point":
            self._point(cell, event["point"])
        else:
            # Its last points may not have been looked at yet.
            for point in event["row"].get("curve", []):
                self._point(cell, point)
            self._row(cell, directory, event["row"])

    def catch_up(self) -> None:
        """Everything that stands in the folder already: what earlier commands made, or made without this listener."""
        for cell, directory in self.cells.values() if self.heard else ():
            for point in read_curve(directory):
                self._point(cell, point)
            with suppress(UserError):  # a damaged one is made again, and then told
                row = read_row(directory)
                if row is not None and concluded(directory, row):
                    self._row(cell, directory, row)

    def notes(self) -> list[str]:
        """What to tell of them at the end."""
        return [note for one in self.heard for note in one.notes()]

    def finished(self, rows: list[dict[str, Any]]) -> None:
        """Every planned cell has a verdict."""
        key = _digest([(row["cell"], row["verdict"]) for row in rows])
        self._put("finished", "", key, lambda: (copy.deepcopy(rows),))

    def _point(self, cell: dict[str, Any], point: dict[str, Any]) -> None:
        self._put("point", cell["name"], str(point["round"]), lambda: (dict(cell), dict(point)))

    def _row(self, cell: dict[str, Any], directory: Path, row: dict[str, Any]) -> None:
        key = _digest({name: value for name, value in row.items() if name != "provenance"})
        self._put("row", cell["name"], key, lambda: (dict(cell), copy.deepcopy(row)))
        if row["verdict"] == "done":
            self._put("pictures", cell["name"], key, lambda: (dict(cell), read_pictures(directory)))

    def _put(self, what: str, cell: str, key: str, arguments: Callable[[], tuple[Any, ...]]) -> None:
        for one in self.heard:
            one.put(Message(what, cell, key, arguments))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


Asked = tuple[Entry, dict[str, Any]]
"""A listener and its hyperparameters."""
Tell = Callable[[dict[str, Any]], None]


def asked_listeners(asked: Sequence[str], zoo: Zoo) -> list[Asked]:
    """Entry and hyperparameters of each `NAME:key=value,key=value`. Raises UserError for what there is not."""
    found = []
    for text in asked:
        name, _, rest = text.partition(":")
        entry, given = zoo.find("listener", name), dict[str, Any]()
        for item in rest.split(",") if rest else []:
            key, equals, value = item.partition("=")
            if not equals:
                raise UserError(f"--listener {text}: expected KEY=VALUE after the colon, not '{item}'")
            given[key.strip()] = value_of(value.strip())
        found.append((entry, entry.validate(**given)))
    names = [entry.name for entry, _ in found]
    if len(set(names)) < len(names):
        raise UserError(f"--listener {max(names, key=names.count)} is asked for twice; once is enough")
    return found


def both(one: Tell, other: Tell) -> Tell:
    """Tells the one, then the other; what the first raises keeps nothing from the second."""

    def tell(event: dict[str, Any]) -> None:
        try:
            one(event)
        finally:
            other(event)

    return tell


@contextmanager
def listening(asked: Sequence[Asked], prepared: Prepared, folder: Path) -> Iterator[Listening]:
    """In the block the listeners asked for hear the run in `folder`, first what is there already.

    What they print goes to standard error. Raises UserError where one cannot be made, before anything is trained.
    """
    with ExitStack() as stack:
        if asked:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        made = []
        for entry, given in asked:
            own = folder / "listeners" / entry.name
            try:
                make_folder(own)
            except OSError as error:
                raise refused(own, 0, error) from None
            with blamed(f"listener '{entry.name}'"):
                listener = entry.bind(**given)(own, prepared.plan.model_dump(mode="json"))
            if not isinstance(listener, Listener):
                raise UserError(
                    f"listener '{entry.name}' returned {type(listener).__name__}; it should return a ganzoo.Listener"
                )
            made.append((entry.name, listener, own))
        heard = [_Heard(*one) for one in made]
        found = Listening(prepared, folder, heard)
        patience = HURRIED
        try:
            found.catch_up()
            yield found
            patience = PATIENCE
        finally:
            _wait(heard, patience)


def _wait(heard: list[_Heard], seconds: float) -> None:
    for one in heard:
        one.end()
    until = time.monotonic() + seconds
    for one in heard:
        if not one.ended(min(HURRIED, until - time.monotonic())) and until - time.monotonic() > 1:
            print(f"waiting for listener '{one.name}', {seconds:g} s at most", file=sys.stderr)
        one.ended(until - time.monotonic())
