"""The command: parses, calls, prints. Nothing heavy is imported before it is needed."""

import atexit
import io
import os
import signal
import sys
import warnings

import typer

from ganzoo.cli.app import app
from ganzoo.cli.leaving import ending, leave, resumes
from ganzoo.errors import UserError, printable

# isort: off
# Each adds its commands; in this order `--help` names them.
from ganzoo.cli import look, why, new, check, bench, demo, report, share, runs, measure, lattice, paper  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Exit status 2 for a user's slip, 1 for a failed or diverged cell or check, 75 where another process is at work or
    after SIGUSR2, 130 after Ctrl-C, 143 after SIGTERM, 0 otherwise."""
    from ganzoo.pulse import Stopped

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, leave)
        atexit.register(signal.signal, number, signal.SIG_IGN)  # what is done while Python ends is done
    # What a plugin or a damaged file put into it does nothing to a terminal.
    warnings.formatwarning = lambda message, *_, **__: f"ganzoo: {printable(message)}\n"
    # By version, typer carries a copy of click or takes the installed one; the class has the same name in both.
    slip: type[typer.BadParameter] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a formula in a terminal that has only ASCII
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()  # a reader that left early is met here, not while Python exits
    except UserError as error:
        from ganzoo.lock import Busy

        _end(str(error), 75 if isinstance(error, Busy) else 2)
    except Stopped as stopped:
        _interrupted("stopped and saved", stopped.status)
    except slip as error:
        _end(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if status == 130:  # how typer returns a KeyboardInterrupt
        _interrupted("interrupted", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _interrupted(how: str, status: int) -> None:
    saved = ", everything is saved" if how == "interrupted" and resumes(sys.argv) else ""
    sys.stderr.write(ending(f"{how}{saved}", sys.argv))
    sys.exit(status)


def _end(message: str, status: int) -> None:
    print(f"ganzoo: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)
