"""Runs of tiny cells under real faults: a cost that misbehaves when it is told to, and what is left afterwards."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganzoo.bench import Run, prepare
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan
from ganzoo.durable import sealed_lines
from ganzoo.placing import Engine
from ganzoo.result import read_row
from ganzoo.seam import Policy
from ganzoo.zoo import Zoo

PLUGIN = '''
"""max(a, 0), until it is told to misbehave."""

import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import ganzoo

HERE = Path(__file__).parent
AFTER = 12
"""Calls in one process before anything goes wrong: the cell is then in the middle of its rounds."""
calls = Counter()
hoard = []


class Images(Dataset):
    def __init__(self, way=""):
        self.way = way

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if self.way == "stuck_reader":
            note(os.getpid())
            time.sleep(1e6)
        if self.way == "killed_reader" and i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((3,), 0.1 * i)


def read(workers, way=""):
    """The sum of what a pass over the images reads: 4.5, unless some of it is missing."""
    return float(sum(x.sum() for x in DataLoader(Images(way), batch_size=2, num_workers=workers)))


def note(pid):
    with (HERE / "pids").open("a") as file:
        file.write(f"{pid}\\n")


def limited():
    """No room for 8 GB, as in a small container; the limit goes with the call."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), before[1]))
    return before


def greedy(allocate):
    before = limited()
    try:
        allocate()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def with_child():
    note(subprocess.Popen(["sleep", "1000"]).pid)
    time.sleep(1e6)


def crash_with_child():
    note(subprocess.Popen(["sleep", "1000"]).pid)
    os._exit(3)


def fill():
    kept = []
    while True:
        kept.append(bytearray(b"x") * (64 << 20))


def fails():
    hoard.append(1)
    raise ValueError(f"{len(hoard)} hoarded")


WAYS = {
    "sleep": lambda: time.sleep(1e6),
    "spin": lambda: [None for _ in iter(int, 1)],
    "hold_gil": lambda: ctypes.PyDLL(None).sleep(1_000_000),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stuck_reader": lambda: read(1, "stuck_reader"),
    "killed_reader": lambda: read(2, "killed_reader"),
    "with_child": with_child,
    "crash_with_child": crash_with_child,
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "bytes": lambda: greedy(lambda: bytearray(8 << 30)),
    "tensor": lambda: greedy(lambda: torch.zeros(2 << 30)),
    "fill": fill,
    "fails": fails,
    "calm": lambda: None,
}


def in_worker():
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return multiprocessing.parent_process() is not None or getattr(spec, "name", "") == "ganzoo.worker"


def told(way):
    calls[way] += 1
    if not in_worker() or calls[way] < AFTER:
        return False
    if (HERE / f"{way}.always").exists():
        return True
    for token in HERE.glob(f"{way}.[0-9]*"):
        try:
            token.unlink()
        except FileNotFoundError:
            continue
        return True
    return False


@ganzoo.cost
def faulty(a: torch.Tensor, way: str = "calm", workers: int = -1) -> torch.Tensor:
    """max(a, 0), until it is told to misbehave in its way; with `workers` processes it reads on the side."""
    if in_worker() and (HERE / "drag.always").exists():
        time.sleep(0.03)
    if told(way):
        note(os.getpid())
        WAYS[way]()
    weight = 1.0 if workers < 0 or not in_worker() else read(workers) / 4.5
    return torch.relu(a) * weight
'''


def faulty_plugin(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faulty.py"
    path.write_text(PLUGIN)
    return path


def tell(plugin: Path, way: str, times: int | None = None) -> None:
    """That this way of it is to go wrong so many times from now on; None: always. `drag`: all take their time."""
    tokens = ["always"] if times is None else [str(i) for i in range(times)]
    for token in tokens:
        plugin.with_name(f"{way}.{token}").touch()


def forget(plugin: Path) -> None:
    for left in plugin.parent.glob("*.[0-9]*"):
        left.unlink()
    for left in plugin.parent.glob("*.always"):
        left.unlink()
    plugin.with_name("pids").unlink(missing_ok=True)


def victims(plugin: Path) -> list[int]:
    """The processes in which it went wrong, and those that they started."""
    path = plugin.with_name("pids")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def way(name: str) -> str:
    return f"gls-gan:cost=faulty,way={name}"


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def within(seconds: float, found: Callable[[], Any]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def laid_out(folder: Path, plan: Plan) -> Run:
    return Run(folder, prepare(plan, Zoo.installed(*plan.plugins)))


def train(run: Run, jobs: int, policy: Policy | None = None, engine: Engine | None = None) -> dict[str, dict[str, Any]]:
    """{label: row} of a run of one seed."""
    with run.held():
        return {row["label"]: row for row in run.train(jobs, lambda event: None, engine, policy)}


def directory_of(run: Run, label: str) -> Path:
    (found,) = (run.directory(cell) for cell in run.cells if cell.contender.label == label)
    return found


def attempts(run: Run) -> Counter[str]:
    """Of each cell, by its folder's name, how often it was placed."""
    lines = (run.folder / "log.jsonl").read_bytes()
    return Counter(note["cell"] for _, note in sealed_lines(lines) if note["event"] == "placed")


def result(directory: Path) -> dict[str, Any]:
    """All that a cell leaves which must not depend on what befell it: row, curve, weights, pictures."""
    row = read_row(directory)
    assert row is not None, directory
    return {
        "row": {key: value for key, value in row.items() if key != "provenance"},
        "curve": (directory / "curve.jsonl").read_bytes(),
        "checkpoint": checkpoints(directory)[0].read_bytes(),
        "pictures": (directory / "pictures.npz").read_bytes(),
    }


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {re.sub("-[0-9a-f]{8}$", "", path.name): result(path) for path in sorted((folder / "cells").iterdir())}


@contextmanager
def memory_limit(bytes_: int) -> Iterator[Path]:
    """A control group with so much memory (version 1 or 2): whoever is written into its cgroup.procs has no more.

    Raises OSError where we may not make one.
    """
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    first = next((path for _, controllers, path in groups if "memory" in controllers.split(",")), None)
    root = Path("/sys/fs/cgroup/memory" if first is not None else "/sys/fs/cgroup")
    own = first if first is not None else next(path for _, controllers, path in groups if not controllers)
    group = root / own.lstrip("/") / f"ganzoo-{os.getpid()}"
    group.mkdir()
    try:
        name = "memory.limit_in_bytes" if first is not None else "memory.max"
        (group / name).write_text(str(bytes_))
        yield group
    finally:
        within(5, lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
