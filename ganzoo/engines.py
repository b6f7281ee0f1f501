"""The engine that needs nothing but this machine, and what others may start processes with."""

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ganzoo import guard, processes, worker
from ganzoo.errors import UserError
from ganzoo.placing import WORKER, Engine, Placed


class Started(subprocess.Popen[bytes]):
    """A command in a process group of its own, so that all it started can be ended with it."""

    def kill(self) -> None:
        end_group(self.pid)
        with suppress(subprocess.TimeoutExpired):
            self.wait(5)


def started(command: list[str], **environment: str) -> Started:
    """The command, a list of words, on this machine, `environment` added to ours. Ctrl-C does not reach it.

    Raises OSError where it cannot be started.
    """
    return Started(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, start_new_session=True)


def end_group(leader: int) -> None:
    """Kill the process group of that process, or the process where it leads none yet."""
    for end in (os.killpg, os.kill):
        with suppress(OSError):
            end(leader, signal.SIGKILL)


class Guard:
    """A process that kills the groups it was told of as soon as this process is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guard.__file__))], stdin=subprocess.PIPE, start_new_session=True
        )

    def tell(self, change: int) -> None:
        """A group under guard, or, negative, one that has ended."""
        assert self._process.stdin is not None
        with suppress(OSError):  # somebody killed it: the workers notice by themselves, if they can
            self._process.stdin.write(b"%+d\n" % change)
            self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


class _Warm:
    """A worker process that takes one command after another, as long as each ends well: starting one takes seconds on
    a cold machine. Whatever befalls a command befalls no other: the process has only the one."""

    def __init__(self, device: str, guard: Guard) -> None:
        context: Any = processes.context(device)
        self._connection, theirs = context.Pipe()
        self._guard = guard
        with processes.ctrl_c_held_back():
            self._process = context.Process(target=_serve, args=(theirs,), daemon=False)
            self._process.start()
        theirs.close()
        guard.tell(self._process.pid)

    def give(self, arguments: list[str]) -> None:
        with suppress(OSError):  # it has died while it waited: `poll` says so
            self._connection.send(arguments)

    def poll(self) -> int | None:
        """The status of the command it was given last; that of the process where it has died."""
        with suppress(EOFError, OSError):
            if self._connection.poll():
                return int(self._connection.recv())
        status: int | None = self._process.exitcode
        return status

    @property
    def alive(self) -> bool:
        return self._process.exitcode is None

    def end(self) -> None:
        end_group(self._process.pid)
        self._process.join(5)
        self._guard.tell(-self._process.pid)
        self._connection.close()


def _serve(connection: Connection) -> None:
    """In a warm worker: a group of its own, commands until nobody sends any."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.leave_with_the_driver()
    # How we were started is our affair; processes that a plugin starts are started as anywhere else.
    multiprocessing.set_start_method(None, force=True)
    with suppress(EOFError, OSError):
        while True:
            status = worker.main(connection.recv())
            connection.send(status)
            if status != 0:
                return  # what a command that did not end well has left behind is nobody's to inherit


class _OnWarm:
    """A command that a warm worker was given."""

    def __init__(self, warm: _Warm, idle: list[_Warm]) -> None:
        self._warm, self._idle = warm, idle
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._warm.poll()
            if self._status == 0 and self._warm.alive:
                self._idle.append(self._warm)
            elif self._status is not None:
                self._warm.end()
        return self._status

    def kill(self) -> None:
        if self._status is None:
            self._warm.end()


def local_engine(cores: int, gpus: float, slots: int | None = None) -> Engine:
    """This machine: a worker for every `cores` CPU cores, or, where a task needs a share of a GPU, as many as there are
    such shares. Workers on the CPU stay warm from one task to the next.

    cores: at least 1, threads of a worker. gpus: GPUs of a worker, 0.0 on CPUs, below 1 a share of one. slots: workers
    at a time, where these are not to be counted.
    Raises UserError where there is no GPU to share.
    """
    shares = gpu_shares(torch.cuda.device_count(), gpus) if gpus else []
    if gpus and not shares:
        there = torch.cuda.device_count()
        raise UserError(
            f"engine 'local' finds {there} GPUs, and a cell needs {gpus:g}; take --device cpu, or another --engine"
        )
    count = slots or (len(shares) if gpus else max(1, usable_cores() // cores))
    guard = Guard()
    idle: list[_Warm] = []
    on_gpu: list[tuple[tuple[int, ...], Started]] = []

    def place(command: list[str]) -> Placed:
        if not gpus:
            warm = _pop_alive(idle) or _Warm("cpu", guard)
            warm.give(command[len(WORKER) :])
            return _OnWarm(warm, idle)
        on_gpu[:] = [(share, process) for share, process in on_gpu if process.poll() is None]
        busy = [share for share, _ in on_gpu]
        share = min(dict.fromkeys(shares), key=busy.count)
        process = started(command, CUDA_VISIBLE_DEVICES=",".join(map(_visible, share)))
        guard.tell(process.pid)
        on_gpu.append((share, process))
        return process

    def close() -> None:
        for warm in idle:
            warm.end()
        for _, process in on_gpu:
            process.kill()
        guard.close()

    return Engine(place, count, close)


def gpu_shares(devices: int, gpus: float) -> list[tuple[int, ...]]:
    """Which GPUs each slot has: as many slots to a GPU as there are such shares of it, or so many GPUs to a slot."""
    if gpus < 1:
        return [(number,) for number in range(devices) for _ in range(int(1 / gpus + 1e-6))]
    whole = int(gpus)
    return [tuple(range(first, first + whole)) for first in range(0, devices - whole + 1, whole)]


def _pop_alive(idle: list[_Warm]) -> _Warm | None:
    while idle:
        warm = idle.pop()
        if warm.alive:
            return warm
        warm.end()
    return None


def _visible(number: int) -> str:
    """The name of our `number`-th GPU for a process of its own."""
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    return ours.split(",")[number] if ours else str(number)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
