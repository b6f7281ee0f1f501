"""The process that trains the cells of some directories and leaves their rows there: `python -m ganzoo.worker DIR...`.

It needs nothing but the directories of a run (`ganzoo.cell_folder`), so any machine that sees them may be the one, and
an engine has only to start it. Exit status: 0, every cell is done or has diverged; 1, one could not be finished, as its
verdict says; 2, refused, with one line; 74, a disk so full that no verdict could be written; 75, to be started again:
another attempt has taken over, somebody is at work there, or it was asked to stop (SIGUSR2) and has saved; 130 and 143,
saved after SIGINT and SIGTERM; others, a crash.
"""

import argparse
import faulthandler
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ganzoo.cell_folder import (
    LOGS_KEPT,
    Beating,
    CellFolder,
    LostFence,
    ask_to_stop,
    fences,
    raise_fence,
)
from ganzoo.data_parallel import MEETING, Lost, asked_for, environment, joined, launch
from ganzoo.durable import DiskError, read_sealed
from ganzoo.errors import UserError, printable
from ganzoo.lock import Busy, holder, lock_file, try_lock
from ganzoo.party import measure_baselines, prepare, train_cells
from ganzoo.pulse import Stopped, heard_by
from ganzoo.result import fail, failure, read_cell
from ganzoo.train import Diverged

BASELINES = "baselines"
"""The folder beside `cells` in which the baselines are measured, as if they were a cell."""
GRACE = 8.0
"""Seconds that a worker has to save once it is asked to stop; then it ends as it is."""
STATUS = "status"
"""The file in which the first of several processes leaves its exit status."""
AGAIN, DISK, REFUSED, FAILED = 75, 74, 2, 1
"""Exit statuses: EX_TEMPFAIL and EX_IOERR of sysexits.h, that of a slip, and of a cell that could not be finished."""


# The process


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    options = _options().parse_args(arguments)
    try:
        directories = [_own(path) for path in options.directories]
    except UserError as error:
        return _refused(error)
    with ExitStack() as stack:
        try:
            fence = _entered(stack, directories, options.fence)
        except (UserError, LostFence) as error:
            return _refused(error)
        if options.log:
            stack.enter_context(_logged(directories, fence))
        if options.leash:
            threading.Thread(target=_leave_with_whoever_holds_the_leash, daemon=True).start()
        plan = read_cell(directories[0]).settings
        if plan.processes > 1 and directories[0].name != BASELINES:
            if asked_for() is None:
                return _over_processes(plan.processes, directories[0], fence, options)
            try:
                there = stack.enter_context(joined(plan.processes, plan.device))
            except UserError as error:
                return _refused(error)
            if there.rank > 0:
                return _follow(directories[0], options)
        threads = options.threads or plan.threads
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        stack.callback(torch.set_num_threads, before)
        wish = Wish()
        stack.enter_context(wish.heard())
        beating = Beating([CellFolder(path, fence) for path in directories], peak_bytes, wish.again)
        stack.enter_context(beating)

        def heard() -> None:
            beating.work += 1
            wish.obey()

        try:
            with heard_by(heard):
                return _told(_work(directories, fence, allow_inexact=options.allow_inexact))
        except Stopped as stopped:
            return _told(stopped.status)
        except Lost as lost:
            print(f"ganzoo: {lost}", file=sys.stderr)
            return 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m ganzoo.worker", description="Train the cells of some directories.")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="RUN/cells/CELL")
    parser.add_argument("--fence", type=int, help="the number of this attempt, raised by whoever starts it")
    parser.add_argument("--threads", type=int, help="CPU threads; others than the plan's make other numbers")
    parser.add_argument("--allow-inexact", action="store_true", help="resume where numbers round differently")
    parser.add_argument("--log", action="store_true", help="print to attempt-N.log in the first directory")
    parser.add_argument("--leash", action="store_true", help="end, with all of the process group, when stdin ends")
    return parser


def _own(path: Path) -> Path:
    """The directory, absolute. Raises UserError for what is not a cell within a run: a worker trains nothing else."""
    at = Path(os.path.abspath(path))
    try:
        directory, run = at.resolve(), (at.parent if at.name == BASELINES else at.parent.parent).resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be followed: {error}") from None
    # A link that leads elsewhere is no cell of this run.
    inside = directory in (run / BASELINES, run / "cells" / at.name)
    if not inside or not (run / "plan.toml").is_file():
        raise UserError(f"{path} is not a cell of a run: RUN/cells/CELL, with RUN/plan.toml")
    cell = read_cell(directory)
    if at.name not in (BASELINES, cell.directory):
        raise UserError(f"{path} is not the cell that its cell.json describes, {cell.directory}")
    return directory


def _entered(stack: ExitStack, directories: list[Path], fence: int | None) -> int:
    """The number of this attempt, the folders' locks taken. Raises Busy, LostFence, UserError."""
    for directory in directories:
        file = stack.enter_context(lock_file(directory / "lock"))
        # With a number of its own it was told to take over: whoever still has the lock stops at his next commit.
        if not try_lock(file, exclusive=True) and fence is None:
            raise Busy(f"{directory} is in use by another process ({holder(file)}); wait, or end that one")
    if fence is None:
        fence = 1 + max(max(fences(directory), default=0) for directory in directories)
        for directory in directories:
            raise_fence(directory, fence)
    for directory in directories:
        CellFolder(directory, fence).require_fence()
    return fence


def _refused(error: Exception) -> int:
    print(f"ganzoo: {printable(error)}", file=sys.stderr)
    return AGAIN if isinstance(error, Busy | LostFence) else REFUSED


def _work(directories: list[Path], fence: int, *, allow_inexact: bool) -> int:
    if directories[0].name == BASELINES:
        measure_baselines(directories[0])
        return 0
    rows = train_cells(directories, provenance=_provenance(directories[0]), fence=fence, allow_inexact=allow_inexact)
    return max(_settled(directory, row, fence) for directory, row in zip(directories, rows, strict=True))


def _settled(directory: Path, row: dict[str, Any] | BaseException, fence: int) -> int:
    """Leave the verdict of a cell that has no row, and say with which status to end for its sake."""
    if not isinstance(row, BaseException):
        return 0
    if isinstance(row, LostFence):
        print(f"ganzoo: {row}", file=sys.stderr)
        return AGAIN
    sys.excepthook(type(row), row, row.__traceback__)
    if isinstance(row, RuntimeError) and "DataLoader worker" in str(row):
        return FAILED  # a process of its own was killed: no fault of the cell's, and no verdict
    verdict, reason = failure(row)
    report = {"peak_bytes": peak_bytes()} if verdict == "failed:oom" else {}
    try:
        fail(CellFolder(directory, fence), verdict, reason, _provenance(directory), **report)
    except DiskError:
        return DISK
    except LostFence:
        return AGAIN
    return FAILED


# Over several processes


def _over_processes(processes: int, directory: Path, fence: int, options: argparse.Namespace) -> int:
    """One cell over several processes of this machine; when one dies, all end. The status is that of the first."""
    given = [*(["--threads", str(options.threads)] if options.threads else []), *_flags(options)]
    wish, asked = Wish(), False
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as meeting, wish.heard():
        arguments = ["--fence", str(fence), *given, str(directory)]
        command = launch(processes, Path(meeting), "ganzoo.worker", *arguments)
        ranks = subprocess.Popen(command, env=environment(Path(meeting)), stdin=subprocess.DEVNULL)
        while ranks.poll() is None:
            if wish.status is not None and not asked:
                asked = True
                ask_to_stop(directory, fence)
            time.sleep(0.05)
        left = Path(meeting) / STATUS
        status = int(left.read_text()) if left.exists() else ranks.returncode
    return wish.status if status == AGAIN and wish.status is not None else status


def _flags(options: argparse.Namespace) -> list[str]:
    return ["--allow-inexact"] if options.allow_inexact else []


def _told(status: int) -> int:
    """The status of a cell's first process is that of the cell: torchrun itself knows only 0 and 1."""
    if asked_for() is not None and MEETING in os.environ:
        (Path(os.environ[MEETING]) / STATUS).write_text(str(status))
    return status


def _follow(directory: Path, options: argparse.Namespace) -> int:
    """A process that is not the first: it plays its share of every round, and writes nothing."""
    torch.set_num_threads(options.threads or read_cell(directory).settings.threads)
    try:
        prepare(directory, allow_inexact=options.allow_inexact).run()
    except Diverged:
        return 0
    except Lost as lost:
        print(f"ganzoo: {lost}", file=sys.stderr)
        return 1
    return 0


def _provenance(directory: Path) -> dict[str, Any]:
    """Of the run, as its driver left it."""
    try:
        return read_sealed(directory.parent.parent / "run.json")
    except UserError:
        return {}


def peak_bytes() -> int:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Wish:
    """That this process save and end, as a signal or a file asks for it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._patience: threading.Timer | None = None

    def ask(self, status: int) -> None:
        """Asked twice, it ends at once; if it is deep in something that does not beat, after a while. What was saved
        stands."""
        if self.status is not None:
            os._exit(self.status)
        self.status = status
        self._patience = threading.Timer(GRACE, os._exit, [status])
        self._patience.daemon = True
        self._patience.start()

    def again(self) -> None:
        """Heard with each beat of a process that is asked by file to end, and to be started again later."""
        if self.status is None:
            self.ask(AGAIN)

    def obey(self) -> None:
        if self.status is not None:
            raise Stopped(self.status)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """In the block signals are wishes; elsewhere than in a main thread there are none."""
        meant = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR2: AGAIN}
        if threading.current_thread() is not threading.main_thread():
            meant = {}
        before = {number: signal.getsignal(number) for number in meant}
        for number in meant:
            if before[number] is not signal.SIG_IGN:  # whoever started us decides on Ctrl-C
                signal.signal(number, lambda number, _: self.ask(meant[signal.Signals(number)]))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._patience is not None:
                self._patience.cancel()


@contextmanager
def _logged(directories: list[Path], fence: int) -> Iterator[None]:
    """In the block everything that the process prints, and the traceback of a crash, goes to the first cell's log."""
    path = directories[0] / f"attempt-{fence}.log"
    for directory in directories[1:]:
        with suppress(OSError):
            (directory / path.name).write_text(f"played together with others: see {path}\n")
    for directory in directories:
        for old_log in directory.glob("attempt-*.log"):  # all of them: not every attempt came as far as this
            attempt = old_log.stem.removeprefix("attempt-")
            if attempt.isdecimal() and int(attempt) <= fence - LOGS_KEPT:
                old_log.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with path.open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        faulthandler.enable(2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def _leave_with_whoever_holds_the_leash() -> None:
    while os.read(0, 1024):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
