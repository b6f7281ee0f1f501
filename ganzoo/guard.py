"""Ends process groups whose owner is gone. Run as a file of its own, without importing anything of ganzoo.

Its standard input is a pipe that the owner alone holds open: `+123` puts group 123 under guard, `-123` releases it.
When the pipe ends, the owner has died, in whatever way; the groups still under guard are killed.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    guarded: set[int] = set()
    for line in sys.stdin.buffer:
        with suppress(ValueError):  # half a line: the owner died in the middle of it
            change = int(line)
            guarded.add(change) if change > 0 else guarded.discard(-change)
    for group in guarded:
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
