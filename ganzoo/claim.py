"""Workers that find their own work in a run's folder: for schedulers that start as many as they like, where they like.

Who takes a cell is decided by its fences, which only one can make; whether he still works on it by his beats and our
own clock. Nothing else is shared but the folder.
"""

import time
from collections.abc import Callable
from pathlib import Path

from ganzoo.bench import needed, require_format, signals_stop
from ganzoo.cell_folder import CellFolder, LostFence, Watch, fences, read_beat
from ganzoo.durable import DiskError, read_sealed
from ganzoo.engines import local_engine
from ganzoo.errors import UserError
from ganzoo.lock import Busy, lock_file, try_lock
from ganzoo.placing import Engine
from ganzoo.result import concluded, fail, is_final, read_cell, verdict_of, whole_row
from ganzoo.seam import Cells, Policy, Task, see_through
from ganzoo.worker import BASELINES

EVERY = 1.0
"""Seconds between two looks at the cells of others."""

Say = Callable[[str], None]


def claim(folder: Path, policy: Policy, say: Say = lambda line: None) -> int:
    """Train what is not finished in a run's folder, beside others who do the same, until nothing is left to anybody.

    A cell whose worker has not beaten for `policy.lost_seconds` by our clock is taken over. Returns an exit status: 0
    where every cell is done, else 1. Raises UserError for a folder that is no run's, Busy where a `ganzoo bench` is at
    work in it, Stopped after SIGTERM or SIGUSR2, everything saved.
    """
    folder = folder.resolve()
    if not (folder / "plan.toml").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no plan.toml; `ganzoo bench --lay-out` makes one")
    require_format(folder)
    with lock_file(folder / "run.lock") as lock:
        if not try_lock(lock, exclusive=False):
            raise Busy(f"{folder} is in use by a `ganzoo bench`, which starts its own workers; wait, or end it")
        found = [folder / BASELINES, *sorted(path for path in (folder / "cells").iterdir() if path.is_dir())]
        engine = local_engine(*needed(read_cell(found[0]).settings), slots=1)
        try:
            with signals_stop():
                _Claimer(folder, found, engine, policy, say).go()
        finally:
            engine.close()
        verdicts = [row["verdict"] for path in found[1:] if (row := whole_row(path)) is not None]
    return 0 if verdicts == ["done"] * (len(found) - 1) else 1


class _Claimer:
    """One of those at work in the folder."""

    def __init__(self, folder: Path, directories: list[Path], engine: Engine, policy: Policy, say: Say) -> None:
        self.folder, self.engine, self.policy, self.say = folder, engine, policy, say
        self.directories = directories
        # What failed before we came is tried once more.
        self.before = {path: max(fences(path), default=0) for path in directories}
        self.watches: dict[Path, Watch] = {}
        self.cells = Cells(self._verdict, self._fail, lambda *_, **__: None, lambda *_: None)

    def go(self) -> None:
        while left := [path for path in self.directories if not self._settled(path)]:
            taken = [path for path in left if not self._settled(path) and self._is_free(path) and self._take(path)]
            if not taken:
                time.sleep(EVERY)

    def _settled(self, directory: Path) -> bool:
        if directory.name == BASELINES:
            return (self.folder / "baselines.json").exists()
        row = whole_row(directory)
        if row is None or not concluded(directory, row):
            return False
        return is_final(row) or row["provenance"]["attempt"] > self.before[directory]

    def _is_free(self, directory: Path) -> bool:
        """Nobody is at work there, or he has not been heard of for too long."""
        there = fences(directory)
        if not there or (there[-1] <= self.before[directory] and self._verdict(directory, there[-1]) is not None):
            return True
        beat = read_beat(directory)
        if beat is not None and beat.fence == there[-1] and beat.left:
            return True
        watch = self.watches.get(directory)
        if watch is None or watch.fence != there[-1]:
            # One that has not beaten yet is on its way for as long as one that beats may be silent.
            seconds = self.policy.lost_seconds
            watch = self.watches[directory] = Watch([directory], there[-1], seconds, self.policy.hang_seconds, seconds)
        return watch.look() == "lost"

    def _take(self, directory: Path) -> bool:
        """Whether it was ours to see through."""
        try:
            see_through([Task((directory,))], self.engine, self.policy, self.cells)
        except LostFence:
            return False  # somebody else was quicker
        self.say(f"{directory.name}: {self._verdict(directory, max(fences(directory))) or 'taken over by another'}")
        return True

    def _verdict(self, directory: Path, attempt: int) -> str | None:
        if directory.name == BASELINES:
            return "done" if (self.folder / "baselines.json").exists() else None
        return verdict_of(directory, attempt)

    def _fail(self, directory: Path, attempt: int, verdict: str, reason: str) -> None:
        if directory.name == BASELINES:
            raise UserError(f"the baselines cannot be measured: {reason}")
        try:
            fail(CellFolder(directory, attempt), verdict, reason, read_sealed(self.folder / "run.json"))
        except DiskError as error:
            raise UserError(
                f"{directory.name}: {verdict} ({reason}), and its verdict cannot be written: {error}"
            ) from None
