"""How a command ends that is ended from outside, and what to type to go on: the user's own command line."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

RESUMES = ("bench", "demo", "paper", "worker", "check")
"""Commands that go on where they were stopped."""


def leave(number: int, _: object) -> None:
    """A signal's handler for while nothing is at work that could be saved: end, now. An exception might meet an import
    that swallows it."""
    shown = "\x1b[?25h" if os.isatty(2) else ""  # the cursor, which bars hide
    os.write(2, (shown + ending("stopped", sys.argv)).encode(errors="backslashreplace"))
    os._exit(75 if number == signal.SIGUSR2 else 128 + number)


@contextmanager
def ctrl_c_leaves() -> Iterator[None]:
    """In the block, while nothing is at work that could be saved, Ctrl-C ends the process: what imports for seconds, or
    collects garbage, hears no exception."""
    with _ctrl_c(leave):
        yield


@contextmanager
def ctrl_c_asks() -> Iterator[Callable[[], None]]:
    """In the block Ctrl-C asks for an end, and a second one ends the process. Gives what raises KeyboardInterrupt once
    the end is asked for, to be called where what is done can be kept."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            leave(number, frame)
        asked.set()

    def comply() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    with _ctrl_c(ask):
        yield comply


@contextmanager
def _ctrl_c(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    # A shell's job in the background is deaf to Ctrl-C, and only a main thread may have handlers.
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ending(how: str, arguments: Sequence[str]) -> str:
    """The line that ends a command which did not come to its end; whole, however long the command is."""
    hint = f"; resume with: {again(arguments)}" if resumes(arguments) else ""
    return f"ganzoo: {how}{hint}\n"


def resumes(arguments: Sequence[str]) -> bool:
    """Whether that command, typed again, goes on where it was. Of the checks only a sweep keeps what it did."""
    command = next((word for word in arguments[1:] if not word.startswith("-")), "")
    return command in RESUMES and (command != "check" or "--exhaustive" in arguments)


def again(arguments: Sequence[str]) -> str:
    """`ganzoo bench plan.toml --out 'my run'`: what to type to have the same command again.

    Quoted for a POSIX shell, and harmless to a terminal: what is not printed stands as `$'\\x1b'`, which bash, zsh and
    ksh understand.
    """
    program, *rest = arguments
    called = ["python", "-m", "ganzoo.cli"] if program.endswith("__main__.py") else ["ganzoo"]
    return " ".join([*called, *map(quoted, rest)])


def quoted(argument: str) -> str:
    """One argument."""
    if argument.isprintable():
        return shlex.quote(argument)
    # Byte by byte: a name that is no text reached us as surrogates.
    escaped = "".join(
        c
        if c.isprintable() and c not in "\\'"
        else "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape"))
        for c in argument
    )
    return f"$'{escaped}'"
