"""A plugin that never comes back: its check is ended after so many seconds, where the system can do that."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ganzoo.checks.counterexample import Refuted

AGAIN = 1.0
"""Seconds after which it is said again, for what a signal raises in a callback of the garbage collector is lost."""


class TooLong(BaseException):
    """The time of a check is over."""


@contextmanager
def at_most(seconds: float | None) -> Iterator[None]:
    """Raises Refuted where the block takes longer. Outside the main thread, and where there is no SIGALRM, the block
    takes as long as it likes; an operation of torch ends first."""
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TooLong:
        raise Refuted(f"no answer within {seconds:g} s: it hangs, or is very slow", seconds=seconds) from None
    finally:
        signal.signal(signal.SIGALRM, before)
