"""A comparison under a random storm, and a cell killed a thousand times: both must end in the calm run's bits.

    python benchmarks/chaos.py --minutes 30 --seed 0 --cores 2 --out DIR [--data digits]
    python benchmarks/chaos.py --kills 1000 --seed 0 --cores 1 --out DIR

First the calm run, then the same comparison again and again in fresh folders while seeded faults are dealt at random
moments (`FAULTS`); whenever `ganzoo bench` has ended unfinished, it is started again. `storm.jsonl` says what was dealt
when and what came of it, `storm.json` (or `kills.json`) adds it up. Exit status 1 if a row was lost or wrong, or a
process outlived its driver by five seconds; what is wrong is kept in DIR.

Every second comparison lies on a small tmpfs that can be filled, where we may mount one. Linux only: looks for
processes in /proc by an environment variable that the command is started with.
"""

import argparse
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from ganzoo.bench import Run, prepare, provenance
from ganzoo.cell_folder import LostFence, checkpoints, fences, raise_fence, read_beat
from ganzoo.config import Plan, read_plan
from ganzoo.durable import commit, load_checkpoint, read_sealed, sealed_lines
from ganzoo.engines import local_engine
from ganzoo.errors import UserError
from ganzoo.placing import WORKER, Engine
from ganzoo.result import concluded, read_row
from ganzoo.verify import verify
from ganzoo.zoo import Zoo

STORM: dict[str, Any] = {
    "objectives": ["ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"],
    "seeds": 2,
    "epochs": 20,
    "validate_every": 2,
    "validation_images": 60,
    "test_images": 80,
    "control_images": 20,
    "checkpoint_seconds": 1.0,
    "test_mre": {"steps": 60, "restarts": 4},
}
"""Laid over the digits' plan: 12 cells, about a minute on two cores."""
KILLED: dict[str, Any] = {
    "objectives": ["gls-gan", "cls-gan:unlabeled_weight=0.5"],
    "seeds": 1,
    "epochs": 3,
    "validate_every": 1,
    "data.split": [320, 40, 40],
    "labels.per_class": 10,
    "validation_images": 10,
    "test_images": 10,
    "control_images": 5,
    "generator.width": 4,
    "critic.width": 4,
    "validation_mre": {"steps": 10, "restarts": 2, "starts": "random", "axes": "z"},
    "test_mre": {"steps": 10, "restarts": 2, "starts": "random", "axes": "z"},
}
"""The same for the cells that are killed, one after the other: 30 rounds each."""
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ganzoo.cli import main; main()"
"""A shell without job control starts what is in the background deaf to Ctrl-C; a user's terminal does not."""
PATIENCE = ("--retries", "1000000", "--lost-seconds", "5", "--hang-seconds", "20")
MARK, RIVAL = "CHAOS", "CHAOS_RIVAL"
"""Environment variables by which what a command has started is known, and the workers that we set beside it."""
EVERY = 4.0
"""Seconds between two faults, in the mean."""
WITHIN = 5.0
"""Seconds after the end of a driver; what then still runs is an orphan."""
LONGEST = 900.0
"""Seconds after which a comparison that still is not whole is stuck, and lost."""
TORN = ("checkpoint-*", "checkpoint-*", "manifest.json", "curve.jsonl", "row.json", "verdict.json", "attempt-*")
"""Of a cell's files, those that are torn."""
SMALL_DISK = 24
"""Megabytes of the tmpfs; the comparison takes 10."""


# What a storm must not change


class Difference(NamedTuple):
    """Between a run's folder and the calm one."""

    kind: str
    """`lost`: a planned cell without a row or verdict; `wrong`: other than in the calm run."""
    cell: str
    what: str


def differences(folder: Path, calm: Path) -> list[Difference]:
    """What of a run is not as in the calm run: rows apart from their provenance; curve, the last checkpoint and the
    run's own results byte for byte; verdicts; whatever `ganzoo verify` finds."""
    found = []
    wanted, rows = _rows(calm), _rows(folder)
    listed = Counter(row["cell"] for row in rows)
    found += [Difference("wrong", cell, f"{times} rows") for cell, times in listed.items() if times > 1]
    by_cell = {row["cell"]: row for row in rows}
    planned = {row["cell"] for row in wanted}
    found += [Difference("wrong", cell, "a row that nobody planned") for cell in by_cell if cell not in planned]
    for row in wanted:
        if row["cell"] not in by_cell:
            found.append(Difference("lost", _name(row), "it has no row"))
        elif other := _unlike(by_cell[row["cell"]], row):
            found.append(Difference("wrong", _name(row), f"its row differs in {other}"))
    for path in sorted((calm / "cells").iterdir()):
        found += [Difference(kind, path.name, what) for kind, what in _cell(folder / "cells" / path.name, path)]
    for name in ("baselines.json", "table.txt", "summary.json"):
        if _bytes(folder / name) != _bytes(calm / name):
            found.append(Difference("wrong", name, "other bytes"))
    return found


def _rows(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "rows.jsonl").exists():
        return []
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def _name(row: dict[str, Any]) -> str:
    return f"{row['label']} seed {row['seed']}"


def _unlike(row: dict[str, Any], calm: dict[str, Any]) -> str:
    """`verdict, curve`: in which keys two rows differ; empty where they do not."""
    keys = sorted((row.keys() | calm.keys()) - {"provenance"})
    return ", ".join(key for key in keys if row.get(key) != calm.get(key))


def _cell(directory: Path, calm: Path) -> Iterator[tuple[str, str]]:
    """Kind of each difference between two cells' folders, and what it is."""
    try:
        row = read_row(directory)
    except UserError as error:
        row = None
        yield "wrong", str(error)
    if row is None or not concluded(directory, row):
        yield "lost", "it has no verdict"
    lines = _bytes(directory / "curve.jsonl").splitlines()
    if _bytes(directory / "curve.jsonl") != _bytes(calm / "curve.jsonl"):
        yield "wrong", "its curve has other bytes"
    if len(set(lines)) != len(lines):
        yield "wrong", "a line of its curve is there twice"
    mine, theirs = (next(iter(checkpoints(path)), path / "checkpoint") for path in (directory, calm))
    if mine.name != theirs.name or _bytes(mine) != _bytes(theirs):
        yield "wrong", "its last checkpoint is another"
    if len(checkpoints(directory)) > len(checkpoints(calm)):
        yield "wrong", f"{len(checkpoints(directory))} checkpoints"


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


# Who runs


class Process(NamedTuple):
    pid: int
    parent: int
    role: str
    """`driver`, `fork server`, `worker`, `guard` or `tracker`."""
    state: str
    """As in /proc: T is stopped."""


def marked(variable: str, value: str) -> list[Process]:
    """The processes that were started with this variable in their environment, or by such ones; one that has ended, and
    waits for whoever started it, has none any more."""
    wanted, found = f"{variable}={value}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has just ended
        pid = int(entry.name)
        role = "driver"
        for part, name in (("guard.py", "guard"), ("resource_tracker", "tracker"), ("forkserver", "fork server")):
            if part in command:
                role = name
        # The server's children have its command line; each leads a group of its own.
        found.append(
            Process(pid, int(parent), "worker" if role == "fork server" and int(group) == pid else role, state)
        )
    return found


def until_gone(variable: str, value: str, within: float = WITHIN) -> tuple[float, list[Process]]:
    """Seconds until the last of them is gone, and those that are not after `within`, which are then ended."""
    began = time.monotonic()
    while left := marked(variable, value):
        if time.monotonic() - began > within:
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    return time.monotonic() - began, left


# The storm


class Fault(NamedTuple):
    weight: float
    """How often, among the others."""
    deal: "Callable[[Storm], str | None]"
    """Returns to whom it was dealt; None where nobody was there."""


class Storm:
    """Comparisons of one plan, one after the other, and what was dealt to them."""

    def __init__(self, out: Path, plan: Plan, seed: int, minutes: float, cores: int) -> None:
        self.out, self.plan, self.cores, self.minutes = out.resolve(), plan, cores, minutes
        self.random = random.Random(seed)
        self.id = f"{os.getpid()}-{time.time_ns()}"
        self.calm = self.out / "calm"
        self.began = time.monotonic()
        self.number = self.starts = 0
        self.folder = self.calm
        """Of the comparison at hand."""
        self.mark = ""
        """Of the command at work."""
        self.torn: dict[Path, tuple[int, str]] = {}
        """File that we damaged -> its inode then, by which one that was written anew since is told, and how."""
        self.rivals: list[tuple[subprocess.Popen[bytes], float]] = []
        """Workers that we set beside the driver's, and when they are ended."""
        self.full_until: float | None = None
        self.faults: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.tracebacks: list[str] = []
        self.wrong: list[dict[str, Any]] = []
        self.orphans: list[dict[str, Any]] = []
        self.gone_after: list[float] = []
        """Seconds from the end of a driver to that of its last process."""
        self.stopped_after: dict[str, list[float]] = {}
        """Signal -> seconds until the driver had saved and ended."""
        self.told = self.attempts = self.cells = self.completed = 0
        self.recovered: Counter[str] = Counter()
        self._log: IO[str] | None = None
        self._next = 0.0

    # The whole of it

    def rage(self) -> dict[str, Any]:
        """The calm run, the storm, and its summary. Raises UserError where the calm run does not get through."""
        self.out.mkdir(parents=True, exist_ok=True)
        commit(self.out / "plan.toml", self.plan.toml().encode())
        with (self.out / "storm.jsonl").open("w") as self._log, self._small_disk() as small:
            self._calm_run()
            self.began = time.monotonic()
            while not self._over():
                self.number += 1
                on_small = small is not None and self.number % 2 == 1
                self.folder = (small if small is not None and on_small else self.out) / f"run-{self.number}"
                self._compare()
                if on_small and self.folder.exists():
                    shutil.move(self.folder, self.out / self.folder.name)
            summary = self._summary(small is not None)
            self.note("summary", **summary)
        return summary

    def _over(self) -> bool:
        return time.monotonic() - self.began > 60 * self.minutes

    def _calm_run(self) -> None:
        began = time.monotonic()
        process = self._started()
        if process.wait() != 0:
            raise UserError(f"the calm run failed: {self._said()[-1]}")
        self.note("calm", seconds=round(time.monotonic() - began, 1), cells=len(_rows(self.calm)))
        until_gone(MARK, self.mark)
        found = verify(self.calm)
        if not found.is_whole:
            raise UserError(f"the calm run is not whole: {found.text()}")

    def _compare(self) -> None:
        """One comparison, from its first start to its last row, and what became of it."""
        began, idle, self._status = time.monotonic(), 0, None
        self.torn.clear()
        dealt = Counter(self.faults)
        while not self._whole():
            if time.monotonic() - began > LONGEST or idle > 4:
                self._keep("lost", self.folder.name, f"stuck: {self._said()[-1]}")
                break
            before, full = self.faults.total(), self.full_until is not None
            if self.folder.exists() and not self._over():
                self._between()
            self._endure(self._started())
            idle = idle + 1 if self.faults.total() == before and not full else 0
        self._clear_disk()
        self._end_rivals(all_of_them=True)
        self._mend()
        found = differences(self.folder, self.calm)
        for difference in found:
            self._keep(*difference)
        self._count()
        self.completed += 1
        self.note(
            "compared",
            seconds=round(time.monotonic() - began, 1),
            faults=dict(self.faults - dealt),
            wrong=[f"{kind}: {cell}: {what}" for kind, cell, what in found],
        )
        if not found:
            shutil.rmtree(self.folder)

    def _whole(self) -> bool:
        """The last start ended well, every planned cell done."""
        return self.folder.exists() and self._status == 0 and not marked(MARK, self.mark)

    _status: int | None = None

    def _started(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """The command in a session of its own, marked, what it says kept in a file."""
        if self.full_until is not None and self.random.random() < 0.7:
            self._clear_disk()  # a refused start is no news
        self.starts += 1
        self.mark = f"{self.id}-{self.starts}"
        given = arguments or (
            *("bench", "plan.toml", "--out", str(self.folder.relative_to(self.out)), "--jobs", str(self.cores)),
            *PATIENCE,
        )
        with (self.out / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *given],
                cwd=self.out,
                env={**os.environ, "OMP_NUM_THREADS": "1", MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._status = None
        return process

    def _said(self) -> list[str]:
        """What the last command said, without our own paths."""
        text = (self.out / "said.txt").read_text(errors="replace").replace(f"{self.out}/", "")
        return text.splitlines()[-40:] or ["nothing"]

    def _endure(self, process: "subprocess.Popen[bytes]", seconds: float = LONGEST) -> None:
        """Deal faults until the command has ended; `seconds`: after which it is asked to."""
        began, asked = time.monotonic(), False
        self._wait_for_the_next()
        while process.poll() is None:
            time.sleep(0.01)
            now = time.monotonic()
            self._end_rivals()
            if self.full_until is not None and now > self.full_until:
                self._clear_disk()
            if not asked and now - began > seconds:
                asked = True
                process.send_signal(self.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            if asked and now - began > seconds + 30:
                self._keep("lost", self.folder.name, "a command did not end")
                process.kill()
            if now > self._next and not self._over():
                self._deal()
        self._ended(process.returncode)

    def _wait_for_the_next(self) -> None:
        self._next = time.monotonic() + self.random.expovariate(1 / EVERY)

    def _deal(self) -> None:
        names = list(FAULTS)
        (name,) = self.random.choices(names, [FAULTS[name].weight for name in names])
        dealt = FAULTS[name].deal(self)
        self._wait_for_the_next()  # also where there was nobody to deal it to, or drivers would be hit the oftener
        if dealt is not None:
            self.faults[name] += 1
            self.note("dealt", fault=name, to=dealt)

    def _ended(self, status: int) -> None:
        """A command has ended: whether all that it started has, too."""
        seconds, left = until_gone(MARK, self.mark)
        self._status = status
        self.ends[str(status)] += 1
        said = self._said()
        self.gone_after.append(seconds)
        self.note("ended", status=status, gone_after=round(seconds, 2), said=said[-1][:300])
        if any(line.startswith("Traceback") for line in said) and status not in (0, 1):
            self.tracebacks.append(said[-1][:300])
            self.note("traceback", said=said)
        if left:
            self.orphans.append({"roles": [f"{one.role} {one.state}" for one in left], "start": self.starts})
            self.note("orphans", **self.orphans[-1])

    # While nobody is at work

    def _between(self) -> None:
        """Sometimes files are torn, and sometimes others claim the cells for a while."""
        for _ in range(self.random.choice([0, 0, 1, 2])):
            name = self.random.choice(["torn file", "flipped bit"])
            dealt = FAULTS[name].deal(self)
            if dealt is not None:
                self.faults[name] += 1
                self.note("dealt", fault=name, to=dealt, while_="nobody is at work")
        if self.random.random() < 0.3 and (self.folder / "run.json").exists():
            arguments = ("worker", "--claim", str(self.folder.relative_to(self.out)), *PATIENCE)
            first = self._started(*arguments)
            mark = self.mark
            second = self._started(*arguments)
            self.faults["claimed by two others"] += 1
            self.note("dealt", fault="claimed by two others", to=self.folder.name)
            self._endure(second, self.random.uniform(5, 25))
            first.send_signal(self.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            try:
                first.wait(20)
            except subprocess.TimeoutExpired:
                self._keep("lost", self.folder.name, "a claimer did not end")
                first.kill()
                first.wait()
            self.mark = mark
            self._ended(first.returncode)
            self._status = None

    # What is dealt

    def processes(self, role: str) -> list[Process]:
        return [one for one in marked(MARK, self.mark) if one.role == role]

    def send(self, role: str, number: int, *, everyone: bool = False) -> str | None:
        there = self.processes(role)
        if not there:
            return None
        chosen = there if everyone else [self.random.choice(there)]
        for one in chosen:
            with suppress(ProcessLookupError):
                os.kill(one.pid, number)
        return f"{len(chosen)} of {len(there)}"

    def cell_folders(self) -> list[Path]:
        return sorted((self.folder / "cells").glob("*")) if self.folder.exists() else []

    def fill(self) -> str | None:
        """Take what is left on the small disk, all but a little, for some seconds."""
        if not self.folder.parent.is_mount() or self.full_until is not None:
            return None
        left = self.random.choice([0, 0, 1000, 100_000])
        with (self.folder.parent / "filler").open("wb", buffering=0) as file:
            piece = 1 << 20
            while piece >= 512 and file.tell() <= SMALL_DISK << 20:  # never a disk of another size
                try:
                    file.write(bytes(piece))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2
            file.truncate(max(0, file.tell() - left))
        seconds = self.random.uniform(0.5, 8)
        self.full_until = time.monotonic() + seconds
        return f"{left} bytes left for {seconds:.1f} s"

    def _clear_disk(self) -> None:
        self.full_until = None
        if self.folder.parent.is_mount():
            (self.folder.parent / "filler").unlink(missing_ok=True)

    def tear(self, how: str) -> str | None:
        """Truncate a random file of a cell, or flip one of its bits; never the only whole checkpoint."""
        cells = self.cell_folders()
        if not cells:
            return None
        directory = self.random.choice(cells)
        kinds = (
            "checkpoint-*",
            "checkpoint-*",
            "manifest.json",
            "curve.jsonl",
            "row.json",
            "verdict.json",
            "attempt-*",
        )
        there = sorted(directory.glob(self.random.choice(kinds)))
        if not there:
            return None
        path = self.random.choice(there)
        if path.name.startswith("checkpoint-") and not self._another_is_whole(path):
            return None
        try:
            with path.open("r+b") as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:
                    return None
                place = self.random.randrange(size)
                if how == "torn":
                    file.truncate(place)
                else:
                    file.seek(place)
                    (byte,) = file.read(1)
                    file.seek(place)
                    file.write(bytes([byte ^ 1 << self.random.randrange(8)]))
                self.torn[path] = os.fstat(file.fileno()).st_ino, how
        except FileNotFoundError:
            return None  # it was replaced just now
        return f"{directory.name}/{path.name} at {place} of {size}"

    def _another_is_whole(self, path: Path) -> bool:
        for other in checkpoints(path.parent):
            if other != path:
                with suppress(UserError):
                    load_checkpoint(other)
                    return True
        return False

    def cut_link(self) -> str | None:
        """Somebody who no longer hears of the driver takes a cell at work for lost, and goes on with it himself."""
        cells = [path for path in self.cell_folders() if (beat := read_beat(path)) is not None and not beat.left]
        if not cells or len(self.rivals) > 1:
            return None
        directory = self.random.choice(cells)
        try:
            fence = raise_fence(directory)
        except (UserError, LostFence):
            return None
        rival = subprocess.Popen(
            [*WORKER, "--fence", str(fence), "--log", str(directory)],
            env={**os.environ, "OMP_NUM_THREADS": "1", RIVAL: self.id},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.rivals.append((rival, time.monotonic() + self.random.uniform(3, 30)))
        return f"{directory.name}, attempt {fence}"

    def _end_rivals(self, *, all_of_them: bool = False) -> None:
        for rival, until in list(self.rivals):
            if rival.poll() is None and (all_of_them or time.monotonic() > until):
                rival.kill()
                rival.wait()
            if rival.poll() is not None:
                self.rivals.remove((rival, until))
                self.note("rival ended", status=rival.returncode)

    # What came of it

    def _mend(self) -> None:
        """Do what a reader of `ganzoo verify` does about files that we damaged behind a finished cell: delete them and
        its row, and start the command again."""
        bad: list[Path] = []
        for found in verify(self.folder).cells:
            directory = self.folder / "cells" / found.cell
            for name in found.damaged:
                path = directory / name
                if path in self.torn and path.exists() and path.stat().st_ino == self.torn[path][0]:
                    bad.append(path)
        if not bad:
            return
        self.told += len(bad)
        self.note("told by verify", files=[str(path.relative_to(self.folder)) for path in bad])
        for path in bad:
            path.unlink(missing_ok=True)
            (path.parent / "row.json").unlink(missing_ok=True)
        process = self._started()
        self._ended(process.wait())
        if (status := self._status) != 0:
            self._keep("lost", self.folder.name, f"after mending: exit status {status}: {self._said()[-1]}")

    def _keep(self, kind: str, cell: str, what: str) -> None:
        self.wrong.append({"kind": kind, "comparison": self.folder.name, "cell": cell, "what": what})
        self.note("wrong", kind=kind, cell=cell, what=what)

    def _count(self) -> None:
        """How often the cells were placed, and what was recovered."""
        self.cells += len(self.cell_folders())
        self.attempts += sum(max(fences(path), default=0) for path in self.cell_folders())
        for path in self.cell_folders():
            with suppress(UserError):
                self.recovered.update(_kind_of(said) for said in read_sealed(path / "verdict.json")["recovered"])
        log = _bytes(self.folder / "log.jsonl")
        events = Counter(str(line.get("how", line["event"])) for _, line in sealed_lines(log))
        self.note("log", events=dict(events), attempts=self.attempts)

    def note(self, event: str, **more: Any) -> None:
        """A line of the log."""
        assert self._log is not None
        line = {"t": round(time.monotonic() - self.began, 2), "run": self.number, "start": self.starts, "event": event}
        self._log.write(json.dumps({**line, **more}) + "\n")
        self._log.flush()

    def _summary(self, small_disk: bool) -> dict[str, Any]:
        wrong = Counter(one["kind"] for one in self.wrong)
        return {
            "measured": "storm",
            "minutes": round((time.monotonic() - self.began) / 60, 1),
            "comparisons": self.completed,
            "cells": self.cells,
            "rows lost": wrong["lost"],
            "wrong": wrong["wrong"],
            "orphans": sum(len(one["roles"]) for one in self.orphans),
            "faults": self.faults.total(),
            "faults by kind": dict(sorted(self.faults.items())),
            "left out": [] if small_disk else ["full disk: no tmpfs can be mounted here (root only)"],
            "starts": self.starts,
            "ends by status": dict(sorted(self.ends.items())),
            "tracebacks": self.tracebacks,
            "attempts": self.attempts,
            "recovered": dict(self.recovered),
            "damaged behind a finished cell, told by verify, made again": self.told,
            "seconds until a driver's last process was gone": _spread(self.gone_after),
            "what is wrong": self.wrong,
        }

    @contextmanager
    def _small_disk(self) -> Iterator[Path | None]:
        """A folder on a disk of its own that can be filled; None where we may not mount one."""
        folder = self.out / "small"
        folder.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}m", "chaos", str(folder)]
        try:
            mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
        try:
            yield folder if mounted else None
        finally:
            self._end_rivals(all_of_them=True)
            until_gone(MARK, self.mark, 0)
            if mounted:
                subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def _kind_of(recovered: str) -> str:
    return next((name for name in ("curve.jsonl", "manifest.json", "checkpoint") if name in recovered), "other")


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {"median": round(statistics.median(values), 2), "most": round(max(values), 2)}


def _hurried(storm: Storm) -> str | None:
    if storm.send("driver", signal.SIGINT) is None:
        return None
    time.sleep(storm.random.uniform(0, 3))
    return "twice" if storm.send("driver", signal.SIGINT) else "once"


FAULTS: dict[str, Fault] = {
    "kill -9 worker": Fault(4, lambda storm: storm.send("worker", signal.SIGKILL)),
    "kill -9 all workers": Fault(2, lambda storm: storm.send("worker", signal.SIGKILL, everyone=True)),
    "kill -9 driver": Fault(1, lambda storm: storm.send("driver", signal.SIGKILL)),
    "kill -9 fork server": Fault(1, lambda storm: storm.send("fork server", signal.SIGKILL)),
    "kill -9 guard": Fault(1, lambda storm: storm.send("guard", signal.SIGKILL)),
    "stop worker": Fault(2, lambda storm: storm.send("worker", signal.SIGSTOP)),
    "Ctrl-C": Fault(0.5, lambda storm: storm.send("driver", signal.SIGINT)),
    "Ctrl-C twice": Fault(0.5, _hurried),
    "SIGTERM": Fault(0.5, lambda storm: storm.send("driver", signal.SIGTERM)),
    "SIGUSR2": Fault(0.5, lambda storm: storm.send("driver", signal.SIGUSR2)),
    "full disk": Fault(3, Storm.fill),
    "torn file": Fault(4, lambda storm: storm.tear("torn")),
    "flipped bit": Fault(4, lambda storm: storm.tear("flipped")),
    "cut link": Fault(2, Storm.cut_link),
}


# A cell that is killed again and again


def killed(kills: int, seed: int, out: Path, plan: Plan) -> dict[str, Any]:
    """So many kills of small cells, at random moments of an attempt; whenever a cell has come to its end it is compared
    with the one that nobody disturbed, and begins anew.

    Each cell of the plan in turn, in one life saved after every round, in the next now and then.
    """
    draw, began = random.Random(seed), time.monotonic()
    run = Run(out / "killed", prepare(plan, Zoo.installed(*map(Path, plan.plugins))))
    dealt = ends = 0
    wrong: list[dict[str, Any]] = []
    calm: dict[tuple[str, float], dict[str, str]] = {}
    lives: list[int] = []

    def attempt(engine: Engine, directory: Path, until: float | None) -> bool:
        """Whether it came to its end before it was killed."""
        placed = engine.place([*WORKER, "--fence", str(raise_fence(directory)), "--log", str(directory)])
        deadline = None if until is None else time.monotonic() + until
        while (status := placed.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                placed.kill()
                return False
            time.sleep(0.001)
        if status != 0:
            log = sorted(directory.glob("attempt-*.log"))[-1].read_text()[-2000:]
            raise UserError(f"an attempt ended with status {status}: {log}")
        return True

    with run.held():
        ways = [(cell, seconds) for seconds in (0.0, 0.1) for cell in run.cells]
        for cell, seconds in [ways[0], *ways]:  # the first of them starts the server of the processes
            directory, started = _begin(run, cell, seconds), time.monotonic()
            # In a process of its own, as after each kill: a warm one is done before a cold one has begun.
            with closing(local_engine(1, 0.0, slots=1)) as engine:
                attempt(engine, directory, None)
            calm[cell.directory, seconds] = {"seconds": str(time.monotonic() - started), **_ended_as(directory)}
        with closing(local_engine(1, 0.0, slots=1)) as engine:
            while dealt < kills:
                (name, seconds), undisturbed = list(calm.items())[ends % len(calm)]
                cell = next(cell for cell in run.cells if cell.directory == name)
                directory, here = _begin(run, cell, seconds), 0
                # On a machine that has become slower than it was, it must come to its end all the same.
                while not attempt(engine, directory, draw.uniform(0, 0.7 + here / 20) * float(undisturbed["seconds"])):
                    dealt, here = dealt + 1, here + 1
                ends += 1
                lives.append(here)
                found = _ended_as(directory)
                other = [key for key, value in found.items() if value != undisturbed[key]]
                if other:
                    wrong.append({"life": ends, "cell": name, "differs in": other})
                    shutil.copytree(directory, out / f"life-{ends}")
    return {
        "measured": "kills",
        "kills": dealt,
        "ends": ends,
        "identical": ends - len(wrong),
        "kills a life": {"least": min(lives), "most": max(lives)},
        "seconds of an undisturbed attempt": [round(float(one["seconds"]), 2) for one in calm.values()],
        "minutes": round((time.monotonic() - began) / 60, 1),
        "what is wrong": wrong,
    }


def _begin(run: Run, cell: Any, seconds: float) -> Path:
    """The cell's folder with nothing in it but the cell, to be saved every so many seconds."""
    directory = run.directory(cell)
    for path in directory.iterdir():
        path.unlink()
    described = cell.model_copy(update={"settings": cell.settings.model_copy(update={"checkpoint_seconds": seconds})})
    (directory / "cell.json").write_text(described.model_dump_json())
    return directory


def _ended_as(directory: Path) -> dict[str, str]:
    """Digests of what a finished cell has left."""
    row = read_row(directory)
    assert row is not None
    assert concluded(directory, row)
    del row["provenance"]
    last = checkpoints(directory)[0]
    content = {
        "row": json.dumps(row, sort_keys=True).encode(),
        "curve": (directory / "curve.jsonl").read_bytes(),
        "checkpoint": last.name.encode() + last.read_bytes(),
    }
    return {name: hashlib.sha256(one).hexdigest() for name, one in content.items()}


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of storm; the comparison at hand is then finished")
    parser.add_argument("--kills", type=int, help="instead of a storm: so many kills of one small cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--path", help="of the data")
    given = parser.parse_args(arguments)
    out: Path = given.out
    usable = sorted(os.sched_getaffinity(0))[: given.cores]
    os.sched_setaffinity(0, usable)
    changes = {"data.set": given.data} if given.path is None else {"data.set": given.data, "data.path": given.path}
    plan = read_plan(None, **{**(STORM if given.kills is None else KILLED), **changes})
    out.mkdir(parents=True, exist_ok=True)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    if given.kills is None:
        found, name = Storm(out, plan, given.seed, given.minutes, len(usable)).rage(), "storm.json"
    else:
        found, name = killed(given.kills, given.seed, out, plan), "kills.json"
    named = {key: value for key, value in vars(given).items() if key not in ("out", "path")}
    words = " ".join(f"--{key} {value}" for key, value in named.items() if value is not None)
    cause = provenance("cpu") | {"command": f"python benchmarks/chaos.py {words} --out DIR", "started": began}
    plan_said = plan.model_dump(mode="json", exclude_none=True, exclude={"data": {"path"}})
    report = {**found, "cores": len(usable), "seed": given.seed, "provenance": cause, "plan": plan_said}
    commit(out / name, (json.dumps(report, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))
    bad = found["what is wrong"] or found.get("orphans")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
