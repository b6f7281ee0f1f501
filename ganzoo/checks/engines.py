"""What the seam relies on in an engine: that commands run, end with their status, and can be ended."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ganzoo.checks.counterexample import Refuted
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.placing import Engine, Placed

PATIENCE = 60.0
"""Seconds for a command that does nothing to be placed and to end."""

REFUSED = [sys.executable, "-m", "ganzoo.worker", "/"]
"""A command that ends at once: / is no cell of a run."""


def _engine(subject: Subject, settings: Settings) -> Engine:
    made = subject.entry.bind(**settings)(1, 0.0)
    if not isinstance(made, Engine):
        raise Refuted(f"it returns {type(made).__name__}; an Engine is wanted", hyperparameters=settings)
    return made


def _slots(subject: Subject, settings: Settings) -> str | None:
    """There is room for one command at least."""
    engine = _engine(subject, settings)
    engine.close()
    if engine.slots < 1:
        raise Refuted(f"slots = {engine.slots!r}: nothing could ever be placed", hyperparameters=settings)
    return f"{engine.slots} slots here"


def _status(subject: Subject, settings: Settings) -> str | None:
    """A worker that refuses its directory ends with status 2, and `poll` says so without waiting for it."""
    engine = _engine(subject, settings)
    try:
        with _unheard():
            placed = engine.place(REFUSED)
        began = time.monotonic()
        placed.poll()
        waited = time.monotonic() - began
        status = _waited(placed)
    finally:
        engine.close()
    if status is None:
        raise Refuted(f"no status within {PATIENCE:g} s of a command that ends at once", hyperparameters=settings)
    if status != 2:
        raise Refuted(f"status {status}; a worker that is refused its directory ends with 2", hyperparameters=settings)
    if waited > 1:
        raise Refuted(f"poll waited {waited:.1f} s for a command at work", hyperparameters=settings)
    return None


def _kill(subject: Subject, settings: Settings) -> str | None:
    """A command that was killed has ended, and killing it again does nothing."""
    engine = _engine(subject, settings)
    try:
        with _unheard():
            placed = engine.place(REFUSED)
        placed.kill()
        status = _waited(placed)
        placed.kill()
    finally:
        engine.close()
    if status is None:
        raise Refuted(f"no status within {PATIENCE:g} s of being killed", hyperparameters=settings)
    return None


@contextmanager
def _unheard() -> Iterator[None]:
    """What begins in the block says nothing on the terminal: that this worker is refused is no news to whoever asked
    about an engine."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _waited(placed: Placed) -> int | None:
    deadline = time.monotonic() + PATIENCE
    while (status := placed.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


ENGINES = (
    Check("engine-slots", "engine", "returns an Engine with room for one command", True, _slots, drawn=False),
    Check("engine-status", "engine", "runs a command and tells its exit status", True, _status, drawn=False),
    Check("engine-kill", "engine", "ends a command that is killed", True, _kill, drawn=False),
)
