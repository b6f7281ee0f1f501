"""Where worker processes come from: a server that has ganzoo imported already and makes each by a fork.

A process that is spawned imports torch itself, seconds of all cores. The server starts before its owner imports
anything, so the two imports run side by side. It computes nothing and never looks at a GPU: no thread of torch and no
CUDA context is there to be torn by the fork.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

STARTER = "GANZOO_STARTER"
"""Variable of the environment: the process that started the server of workers."""


def start_server() -> None:
    """Start the server of worker processes now, so that it is ready when `context` is asked; twice does nothing.

    It and its children never hear Ctrl-C: the process that started them decides.
    """
    resource_tracker.ensure_running()  # before the block: it lets Ctrl-C through again when it has started
    # Of a thread that ends the server would be a child that ends with it.
    leash = ["ganzoo.leash"] if threading.current_thread() is threading.main_thread() else []
    multiprocessing.set_forkserver_preload([*leash, "ganzoo.engines", "torch._dynamo"])
    with ctrl_c_held_back(), _told_who_starts_it():
        forkserver.ensure_running()


def context(device: str = "cpu") -> BaseContext:
    """What makes worker processes; for a GPU each is spawned, since nobody has tried yet what a fork does to it."""
    if device != "cpu":
        return multiprocessing.get_context("spawn")
    start_server()
    return multiprocessing.get_context("forkserver")


@contextmanager
def _told_who_starts_it() -> Iterator[None]:
    """Processes started in the block find us by number in their environment: by then we may be gone."""
    before = os.environ.get(STARTER)
    os.environ[STARTER] = str(os.getpid())
    try:
        yield
    finally:
        if before is None:
            del os.environ[STARTER]
        else:
            os.environ[STARTER] = before


def die_with_the_parent() -> None:
    """The kernel ends this process, even one that was stopped, once the thread that started it is gone. Linux only;
    elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


def leave_with_the_driver() -> None:
    """In a worker process: end it, and whatever it started, once the process that asked for it is gone."""
    die_with_the_parent()  # the server, which goes with the driver

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Processes started in the block never hear Ctrl-C, not even while they start up; we hear it after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
