"""Who starts workers, and where: the types of an engine.

An engine only places a command and says how it ended. Retries, hangs, fences and verdicts are the seam's.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol

WORKER = [sys.executable, "-m", "ganzoo.worker"]
"""How each command begins that an engine is given; directories and options follow."""


class Placed(Protocol):
    """A command at work somewhere; what `started` returns is one."""

    def poll(self) -> int | None:
        """Its exit status once it has ended, negative for the signal that ended it; None before. Never waits."""

    def kill(self) -> None:
        """End it and every process that it started, at once. One that has ended is left alone."""


def nothing() -> None:
    """What there is to close where there is nothing."""


class Engine(NamedTuple):
    """Places commands. A plugin that returns one is marked `@ganzoo.engine`."""

    place: Callable[[list[str]], Placed]
    """Start `[python, "-m", "ganzoo.worker", option or directory, ...]` somewhere that sees those directories."""
    slots: int
    """How many of them at a time."""
    close: Callable[[], None] = nothing
    """Give everything back; called once, also after an error."""
