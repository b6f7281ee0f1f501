"""Where worker processes come from: a server that has ganzoo imported already and makes each by a fork.

A process that is spawned imports torch itself, seconds of all cores. The server starts before its owner imports
anything, so the two imports run side by side. It computes nothing and never looks at a GPU: no thread of torch and no
CUDA context is there to be torn by the fork.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext


def start_server() -> None:
    """Start the server of worker processes now, so that it is ready when `context` is asked; twice does nothing.

    It and its children never hear Ctrl-C: the process that started them decides.
    """
    resource_tracker.ensure_running()  # before the block: it lets Ctrl-C through again when it has started
    multiprocessing.set_forkserver_preload(["ganzoo.bench", "torch._dynamo"])
    with ctrl_c_held_back():
        forkserver.ensure_running()


def context(device: str = "cpu") -> BaseContext:
    """What makes worker processes; for a GPU each is spawned, since nobody has tried yet what a fork does to it."""
    if device != "cpu":
        return multiprocessing.get_context("spawn")
    start_server()
    return multiprocessing.get_context("forkserver")


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Processes started in the block never hear Ctrl-C, not even while they start up; we hear it after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
