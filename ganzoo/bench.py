"""A plan -> cells -> rows: one folder a run, resumed by the same command, ranked at the end.

plan.toml       the plan, whole                 run.json        versions, commit, device, command
rows.jsonl      a row a cell, in plan order     baselines.json  what a generator has to beat
cells/          a directory a cell              table.txt, *.png, summary.json
"""

import fcntl
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganzoo import worker
from ganzoo.baselines import baselines
from ganzoo.config import Cell, Plan, cells, read_plan
from ganzoo.data import Batches, Splits
from ganzoo.durable import commit, commit_json
from ganzoo.errors import UserError
from ganzoo.game import Need
from ganzoo.train import players
from ganzoo.zoo import Zoo

ATTEMPTS = 2
"""How often a cell is started whose process dies."""

Listener = Callable[[dict[str, Any]], None]
"""Receives events: {"event": "start" | "point" | "row", "label", "seed", ...}."""


class Prepared(NamedTuple):
    """A plan that was checked against the zoo and the data; nothing is written yet."""

    plan: Plan
    cells: list[Cell]
    data: Splits


def prepare(plan: Plan, zoo: Zoo) -> Prepared:
    """Everything that can be refused is refused here. Raises UserError."""
    try:
        device = torch.device(plan.device)
    except RuntimeError:
        raise UserError(f"no device named '{plan.device}'; there are: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device '{plan.device}': torch sees no CUDA device here; use --device cpu")
    made = cells(plan, zoo)
    data = worker.read_data(plan.data)
    batches = plan.epochs * Batches(data.train, plan.batch_size, seed=0).per_epoch
    for cell in {cell.contender.label: cell for cell in made}.values():
        if batches < cell.recipe.critic_steps:
            raise UserError(
                f"{cell.contender.label}: {batches} batches in all are not one round of {cell.recipe.critic_steps}"
                " critic steps; raise epochs or lower batch_size"
            )
        players(cell, zoo, data)
    return Prepared(plan, made, data)


class Run:
    """The folder of a run, held by this process alone."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.folder, self.plan, self.cells, self.data = folder, prepared.plan, prepared.cells, prepared.data

    def directory(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises UserError where the folder is another plan's or another process is at work in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "run.lock").open("a+")
        except OSError as error:
            raise UserError(f"cannot use {self.folder} as a run folder: {error.strerror or error}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise UserError(f"{self.folder} is in use by another process ({holder}); wait, or take --out") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
            self._claim()
            yield

    def _claim(self) -> None:
        path = self.folder / "plan.toml"
        if path.exists():
            other = read_plan(path).identity
            differing = [key for key, value in self.plan.identity.items() if other[key] != value]
            if differing:
                raise UserError(
                    f"{self.folder} holds a run of another plan ({', '.join(differing)} differ); take --out"
                )
        commit(path, self.plan.toml().encode())
        if not (self.folder / "run.json").exists():
            commit_json(self.folder / "run.json", provenance(self.plan))
        for cell in self.cells:
            described = (cell.model_dump_json(indent=1) + "\n").encode()
            path = self.directory(cell) / "cell.json"
            if not path.exists() or path.read_bytes() != described:  # its plugins may have moved
                commit(path, described)
        for left in self.folder.rglob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)

    # Results

    def rows(self) -> list[dict[str, Any]]:
        """A row for every planned cell, in plan order; one that has no result yet has the verdict `planned`."""
        origin = json.loads((self.folder / "run.json").read_text())
        found = []
        for cell in self.cells:
            row = worker.read_row(self.directory(cell)) or {
                "label": cell.contender.label,
                "seed": cell.seed,
                "cell": cell.sha256,
                "verdict": "planned",
            }
            found.append({**row, "provenance": origin})
        return found

    def write_rows(self) -> list[dict[str, Any]]:
        """rows.jsonl, replaced as a whole: an index of the cells' own rows that no kill can tear."""
        rows = self.rows()
        lines = [json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in rows if row["verdict"] != "planned"]
        commit(self.folder / "rows.jsonl", "".join(lines).encode())
        return rows

    def baselines(self) -> dict[str, float]:
        """What a generator has to beat on the same test images, as `train` left it."""
        known: dict[str, float] = json.loads(self._baselines.read_text())
        return known

    @property
    def _baselines(self) -> Path:
        return self.folder / "baselines.json"

    # Work

    def train(self, jobs: int, tell: Listener) -> list[dict[str, Any]]:
        """Every cell that is not finished, `jobs` at a time in processes of their own. Returns all the rows.

        Raises UserError as soon as one is met (a full disk, a foreign checkpoint): the same command resumes.
        """
        attempts: dict[str, int] = {}
        while (todo := [c for c in self.cells if not self._settled(c, attempts)]) or not self._baselines.exists():
            before = sum(attempts.values())
            try:
                self._train(todo, jobs, tell, attempts)
            except BrokenProcessPool:
                if sum(attempts.values()) == before:
                    raise UserError("the worker processes die before they begin; is there memory for them?") from None
                # Whoever was at work when the process died is suspect: they go on one at a time.
                jobs = 1
        rows = self.write_rows()
        require_fair(rows)
        return rows

    def _plainest(self) -> Cell:
        """Whose untrained generator is a baseline: an unconditional one where there is one."""
        return min(self.cells, key=lambda cell: (Need.LABELS in cell.needs, cell.seed))

    def _settled(self, cell: Cell, attempts: dict[str, int]) -> bool:
        row = worker.read_row(self.directory(cell))
        if row is not None and (worker.is_final(row) or attempts.get(cell.directory, 0) > 0):
            return True
        if attempts.get(cell.directory, 0) >= ATTEMPTS:
            worker.fail_cell(self.directory(cell), "its process died (killed, or out of memory)")
            return True
        return False

    def _train(self, todo: list[Cell], jobs: int, tell: Listener, attempts: dict[str, int]) -> None:
        context = multiprocessing.get_context("spawn")
        events = context.SimpleQueue()
        done = threading.Event()

        def listen() -> None:
            while not (done.is_set() and events.empty()):
                if events.empty():
                    time.sleep(0.05)
                    continue
                event = events.get()
                if event["event"] == "start":
                    attempts[event["cell"]] = attempts.get(event["cell"], 0) + 1
                tell(event)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        arguments = (events, self.plan.threads)
        pool = ProcessPoolExecutor(max(1, min(jobs, len(todo))), context, initializer=_begin, initargs=arguments)
        try:
            pending: set[Future[dict[str, Any] | None]] = set()
            with _ctrl_c_held_back():
                if not self._baselines.exists():
                    pending.add(
                        pool.submit(_measure_baselines, str(self.folder), str(self.directory(self._plainest())))
                    )
                pending |= {pool.submit(_work, str(self.directory(cell))) for cell in todo}
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    row = future.result()
                    if row is not None:
                        self.write_rows()
                        tell({"event": "row", "label": row["label"], "seed": row["seed"], "row": row})
            pool.shutdown()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            done.set()
            listener.join(timeout=5)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes started in the block never hear Ctrl-C, not even while they start up; we hear it after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_events: Any = None


def _begin(events: Any, threads: int) -> None:
    """In each worker process, first."""
    global _events
    _events = events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the driver decides
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with_the_driver, daemon=True).start()


def _leave_with_the_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure_baselines(folder: str, directory: str) -> None:
    plan = worker.read_cell(Path(directory)).settings
    data = worker.read_data(plan.data)
    found = baselines(data.train.images, data.test.images[: plan.test_images], plan.z_dim)
    found["untrained generator"] = worker.untrained_mre(Path(directory))
    commit_json(Path(folder) / "baselines.json", found)


def _work(directory: str) -> dict[str, Any]:
    path = Path(directory)
    cell = worker.read_cell(path)
    name = {"label": cell.contender.label, "seed": cell.seed, "cell": cell.directory}
    _events.put({"event": "start", **name})
    try:
        return worker.train_cell(path, lambda point: _events.put({"event": "point", **name, "point": point}))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (a plugin's code: the cell fails, the others go on)
        return worker.fail_cell(path, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


def require_fair(rows: list[dict[str, Any]]) -> None:
    """Cells of one seed differ in the objective alone: same data, order, z and, labels apart, initial weights."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if "hashes" not in row:
            continue
        for name, value in row["hashes"].items():
            # A conditional game has other inputs, so other networks.
            kind = row["conditional"] if name.startswith("initial") else False
            known = first.setdefault((row["seed"], name, kind), {"value": value, "label": row["label"]})
            if known["value"] != value:
                raise UserError(
                    f"unfair: {name} of {row['label']} and {known['label']} differ at seed {row['seed']};"
                    " the run folder mixes runs, take --out"
                )


def provenance(plan: Plan) -> dict[str, Any]:
    """Where a row comes from: versions, commit, device, command."""
    names = ("ganzoo", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
    device = torch.device(plan.device)
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "commit": commit_id(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "command": " ".join(["ganzoo", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit_id() -> str | None:
    """Of the checkout that this package runs from, `+` where it has uncommitted changes; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        said = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return said[0].strip() + ("+" if said[1].strip() else "")


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
