"""Long work says that it goes on: whoever listens hears a beat after each piece, and may end the work there.

Without a listener nothing happens. A round of the game is a piece, and a step of the search for z.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[], None]
"""Hears each beat; may raise Stopped."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Stopped(BaseException):
    """Somebody asked the work to end here, to be taken up later. Not an Exception: a plugin that catches those must
    let it pass."""

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped, exit status {status}")
        self.status = status
        """With which the process is to end."""


def beat() -> None:
    """A piece of work is done. Raises Stopped where the listener asks for it."""
    listener = _listener.get()
    if listener is not None:
        listener()


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """In the block each beat of this thread reaches the listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
