"""What holds above every engine: each task is placed until its cells have a verdict, or were placed often enough.

An attempt is fenced: it has a number, and one with a higher number makes it stop at its next commit. Whether it is
alive is judged by its beats and this process's clock. So an engine may lose a worker, or think so wrongly, and the
cell still has one history.
"""

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ganzoo.cell_folder import Watch, ask_to_stop, fences, raise_fence
from ganzoo.placing import WORKER, Engine, Placed
from ganzoo.worker import DISK, GRACE

POLL = 0.01
"""Seconds between two looks at what has ended."""
LOOK = 0.5
"""Seconds between two looks at the beats."""
REACH = 1.0
"""Seconds in which a process that is killed ends, if it is within reach."""


class Policy(NamedTuple):
    """When an attempt is given up, and how often a cell is tried."""

    retries: int = 2
    """Further attempts after one that ended without a verdict."""
    lost_seconds: float = 30.0
    """So long without a beat, and a worker is lost: it, or the way to it, is gone."""
    hang_seconds: float = 900.0
    """So long without a piece of work done, and a worker hangs."""
    options: tuple[str, ...] = ()
    """Options for every worker."""


class Task(NamedTuple):
    """Cells for one process."""

    directories: tuple[Path, ...]
    alone: bool = False
    """Nothing else is placed beside it: there was no memory for it."""


class Cells(NamedTuple):
    """What the seam has to know of cells."""

    verdict: Callable[[Path, int], str | None]
    """(directory, attempt) -> the verdict that this attempt has left; None if it has left none."""
    fail: Callable[[Path, int, str, str], None]
    """(directory, attempt, verdict, reason): leave this verdict."""
    log: Callable[..., None]
    """(event, directory, attempt=..., ...): keep a note."""
    tell: Callable[[str, Path], None]
    """`start`, `look` (its curve may have grown) or `row`, and the directory."""


@dataclass
class Attempt:
    task: Task
    fence: int
    placed: Placed
    watch: Watch
    oom_kills: int
    looked: float

    def ended(self) -> tuple[str, int | None] | None:
        """How it ended: `exit` with its status, `lost`, `hang`; None while it is at work."""
        status = self.placed.poll()
        if status is not None:
            return "exit", status
        if time.monotonic() - self.looked < LOOK:
            return None
        self.looked = time.monotonic()
        how = self.watch.look()
        return None if how is None else (how, None)


def see_through(tasks: Iterable[Task], engine: Engine, policy: Policy, cells: Cells) -> None:
    """Place every task until each of its cells has a verdict. Whatever is raised meanwhile (Ctrl-C, say) first has all
    workers save and end."""
    waiting, at_work = deque(tasks), list[Attempt]()
    failures: Counter[Path] = Counter()
    try:
        while waiting or at_work:
            while (
                waiting
                and len(at_work) < engine.slots
                and not (at_work and (waiting[0].alone or at_work[0].task.alone))
            ):
                at_work.append(_placed(waiting.popleft(), engine, policy, cells))
            time.sleep(POLL)
            for attempt in list(at_work):
                looked = attempt.looked
                how = attempt.ended()
                if how is not None or attempt.looked != looked:
                    for directory in attempt.task.directories:
                        cells.tell("look", directory)
                if how is not None:
                    at_work.remove(attempt)
                    attempt.placed.kill()
                    if how[0] == "lost" and _within_reach(attempt.placed):
                        how = "silent", None
                    waiting.extend(_judged(attempt, *how, policy, cells, failures))
    except BaseException:
        _wind_down(at_work)
        raise


def _placed(task: Task, engine: Engine, policy: Policy, cells: Cells) -> Attempt:
    fence = 1 + max(max(fences(directory), default=0) for directory in task.directories)
    for directory in task.directories:
        raise_fence(directory, fence)
        cells.log("placed", directory, attempt=fence)
        cells.tell("start", directory)
    command = [*WORKER, "--fence", str(fence), "--log", *policy.options, *map(str, task.directories)]
    watch = Watch(list(task.directories), fence, policy.lost_seconds, policy.hang_seconds)
    return Attempt(task, fence, engine.place(command), watch, oom_kills(), time.monotonic())


def _within_reach(placed: Placed) -> bool:
    """Whether what was killed has ended: it was there all the time, and only fell silent."""
    deadline = time.monotonic() + REACH
    while placed.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL)
    return placed.poll() is not None


def _judged(
    attempt: Attempt, how: str, status: int | None, policy: Policy, cells: Cells, failures: Counter[Path]
) -> list[Task]:
    """Settle the cells of an attempt that has ended; those to be placed again, each by itself."""
    starved = status == -9 and oom_kills() > attempt.oom_kills
    in_company = len(attempt.task.directories) > 1  # whoever it was, the others are to have a chance
    again = []
    for directory in attempt.task.directories:
        verdict = cells.verdict(directory, attempt.fence)
        if verdict is None and max(fences(directory), default=0) > attempt.fence:
            cells.log("taken over", directory, attempt=attempt.fence)  # by another, whose affair it is now
            continue
        if verdict is None or (verdict == "failed:oom" and not attempt.task.alone):
            failures[directory] += 1
            kind = "oom" if starved or verdict == "failed:oom" else {"exit": "crash"}.get(how, how)
            cells.log("ended", directory, attempt=attempt.fence, how=kind, status=status)
            once_more = policy.retries > 0 and not attempt.task.alone
            allowed = once_more if kind == "oom" else failures[directory] <= policy.retries
            if (allowed or in_company) and status != DISK:
                again.append(Task((directory,), alone=kind == "oom"))
                continue
            if verdict is None:
                cells.fail(directory, attempt.fence, *_failed(directory, kind, status, attempt, failures[directory]))
        cells.log("settled", directory, attempt=attempt.fence)
        cells.tell("row", directory)
    return again


def _failed(directory: Path, kind: str, status: int | None, attempt: Attempt, attempts: int) -> tuple[str, str]:
    """Verdict and reason of a cell that was tried so often."""
    peak = f"its process had {attempt.watch.peak_bytes / 1e6:,.0f} MB at most"
    tried = f"in {attempts} attempts" if attempts > 1 else "in its only attempt"
    if status == DISK:
        free = ""
        with suppress(OSError):  # the disk may be gone by now
            free = f", {shutil.disk_usage(directory).free:,} bytes are free"
        return "failed:disk", f"{directory}: the disk is too full for a verdict{free}"
    if kind == "lost":
        return "lost", f"its worker was not heard of again {tried}"
    if kind == "silent":
        return "failed:hang", f"its process did not beat for {attempt.watch.lost_seconds:g} s {tried}"
    if kind == "hang":
        return "failed:hang", f"no round was finished for {attempt.watch.hang_seconds:g} s {tried}"
    if kind == "oom":
        return "failed:oom", f"the system killed its process for want of memory {tried}; {peak}"
    how = f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"
    return "failed:crash", f"its process died ({how}) {tried}; see attempt-{attempt.fence}.log"


def _wind_down(at_work: list[Attempt]) -> None:
    """Everybody saves and ends; whoever takes too long, or whom a second signal hurries, is ended."""
    try:
        for attempt in at_work:
            for directory in attempt.task.directories:
                ask_to_stop(directory, attempt.fence)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(attempt.placed.poll() is None for attempt in at_work):
            time.sleep(POLL)
    finally:
        for attempt in at_work:
            attempt.placed.kill()


def oom_kills() -> int:
    """How many processes of our control group the system has killed for want of memory; 0 where it does not say."""
    found = 0
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for group in groups:
        _, controllers, path = group.split(":", 2)
        root, name = ("/sys/fs/cgroup", "memory.events")
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            root, name = ("/sys/fs/cgroup/memory", "memory.oom_control")
        try:
            lines = Path(f"{root}{path}/{name}").read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found
