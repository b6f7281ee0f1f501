"""A plan -> cells -> rows: one folder a run, resumed by the same command, ranked at the end.

plan.toml       the plan, whole                 run.json        versions, commit, device, command
rows.jsonl      a row a cell, in plan order     baselines.json  what a generator has to beat
cells/          a directory a cell              table.txt, *.png, summary.json
"""

import fcntl
import itertools
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from heapq import heapreplace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from ganzoo import processes, worker
from ganzoo.arithmetic import SMALL, natural_precision, require_precision
from ganzoo.baselines import baselines, classifying_baselines
from ganzoo.classify import pooled_layers
from ganzoo.config import Cell, Plan, cells, read_plan
from ganzoo.data import Batches, Splits, scaled
from ganzoo.durable import commit, commit_json, read_json
from ganzoo.errors import UserError, blamed
from ganzoo.features import Networks
from ganzoo.game import Need
from ganzoo.players import players
from ganzoo.randomness import seeded
from ganzoo.stacked import kind
from ganzoo.train import batches_of, labelling_of
from ganzoo.zoo import Zoo

CODE = ("ganzoo", "plugins", "benchmarks/*.py", "benchmarks/ganzoo_paper", "benchmarks/ganzoo_speed")
"""What a row may come from, in a checkout."""
BASELINE_IMAGES = 50_000
"""Training images that the baselines know at most: they take them all into memory, as float32."""
ATTEMPTS = 2
"""How often a cell is started whose process dies."""

Listener = Callable[[dict[str, Any]], None]
"""Receives events: {"event": "start" | "point" | "row", "label", "seed", "fold", ...}."""


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
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"ganzoo does not run on '{plan.device}'; there are: cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device '{plan.device}': torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu"
        )
    if plan.precision is not None:
        require_precision(plan.precision, device)
    made = cells(plan, zoo)
    data = worker.read_data(plan.data)
    batches = plan.epochs * Batches(data.train, plan.batch_size, seed=0).per_epoch
    for cell in {cell.contender.label: cell for cell in made}.values():
        if batches < cell.recipe.critic_steps:
            raise UserError(
                f"{cell.contender.label}: {batches} batches in all are not one round of {cell.recipe.critic_steps}"
                " critic steps; raise epochs or lower batch_size"
            )
        try_out(cell, zoo, data)
    if plan.measure == "accuracy" and (data.train.labels is None or len(data.train.classes) < 2):
        raise UserError(
            f"measure = accuracy needs images of at least 2 classes; {data.train.name} has"
            f" {len(data.train.classes) or 'no labels'}"
        )
    for cell in {(cell.seed, cell.fold, cell.needs): cell for cell in made}.values():
        batches_of(cell, data, labelling_of(cell, data), torch.device("cpu"))
    return Prepared(plan, made, data)


def try_out(cell: Cell, zoo: Zoo, data: Splits) -> None:
    """Both losses once on four images. Raises UserError for networks, data and objective that do not go together."""
    made = players(cell, zoo, data)
    game = cell.contender.game(zoo, Networks(data.train, steps=1))
    real = scaled(data.train.images[:4])
    labels = data.train.labels[:4] if made.classes and data.train.labels is not None else None
    losses = {"critic_loss": game.critic_loss, "generator_loss": game.generator_loss}
    if (Need.UNLABELED in game.needs) != (game.unlabeled_loss is not None):
        raise UserError(f"{cell.contender.label}: Need.UNLABELED and an unlabeled_loss go together; it has one of them")
    if game.unlabeled_loss is not None:
        losses["unlabeled_loss"] = game.unlabeled_loss
        if Need.LABELS not in game.needs:
            raise UserError(f"{cell.contender.label}: unlabeled_loss is of min_l L(x, l), so Need.LABELS goes with it")
    with blamed(cell.contender.label), seeded("try out", cell.seed):
        fake = made.generate(torch.rand(len(real), cell.settings.z_dim) * 2 - 1, labels)
        for name, loss in losses.items():
            critic = made.unlabeled_loss() if name == "unlabeled_loss" else made.loss(labels)
            found: Any = loss(critic, real, fake if name == "generator_loss" else fake.detach())
            if not isinstance(found, torch.Tensor) or found.dim() != 0:
                shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
                raise UserError(f"{cell.contender.label}: {name} is {shape}; a scalar tensor is wanted")
            if not found.requires_grad and not (name == "generator_loss" and Need.ALONE in game.needs):
                raise UserError(f"{cell.contender.label}: {name} has no gradient; something in it detaches")
    if cell.settings.measure == "accuracy" and not made.classes:
        pooled_layers(made.critic, data.train.first(1), torch.device("cpu"))


class Run:
    """The folder of a run, held by this process alone."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.folder, self.plan, self.cells, self.data = folder, prepared.plan, prepared.cells, prepared.data
        self.provenance = provenance(prepared.plan.device)
        self._rows_due = 0.0

    def directory(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises UserError where the folder is another plan's or another process is at work in it."""
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise UserError(f"{self.folder} is in use by another process ({holder}); wait, or take --out") from None
            try:
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {platform.node()}")
                lock.flush()
            except OSError as error:
                raise self._unusable(error) from None
            self._claim()
            yield

    def _lock_file(self) -> IO[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / "run.lock").open("a+")
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> UserError:
        return UserError(f"cannot use {self.folder} as a run folder: {(error.strerror or str(error)).lower()}")

    def _claim(self) -> None:
        path = self.folder / "plan.toml"
        if path.exists():
            known = read_plan(path)
            other = known.identity
            differing = [key for key, value in self.plan.identity.items() if other[key] != value]
            if differing:
                raise UserError(
                    f"{self.folder} holds a run of another plan ({', '.join(differing)} differ); take --out"
                )
            if self.plan.measure == "accuracy" and known.seed_range != self.plan.seed_range:
                self._baselines.unlink(missing_ok=True)  # a mean over the labelled subsets of those seeds
        commit(path, self.plan.toml().encode())
        commit_json(self.folder / "run.json", self.provenance)
        for cell in self.cells:
            described = (cell.model_dump_json(indent=1) + "\n").encode()
            path = self.directory(cell) / "cell.json"
            if not path.is_file() or path.read_bytes() != described:  # its plugins may have moved
                commit(path, described)
        self.rows()  # a damaged one is told of before the work begins
        for left in self.folder.rglob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)

    # Results

    def rows(self) -> list[dict[str, Any]]:
        """A row for every planned cell, in plan order; one that has no result yet has the verdict `planned`."""
        return [
            worker.read_row(self.directory(cell))
            or {
                "label": cell.contender.label,
                "seed": cell.seed,
                "fold": cell.fold,
                "cell": cell.sha256,
                "verdict": "planned",
            }
            for cell in self.cells
        ]

    def write_rows(self) -> list[dict[str, Any]]:
        """rows.jsonl, replaced as a whole: an index of the cells' own rows that no kill can tear.

        After the planned cells those that the folder holds besides, of plans of other objectives or seeds. Returns
        the planned ones.
        """
        rows = self.rows()
        planned = {cell.directory for cell in self.cells}
        besides = [path for path in sorted((self.folder / "cells").iterdir()) if path.name not in planned]
        kept = [*rows, *(row for path in besides if (row := worker.read_row(path)) is not None)]
        lines = [json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in kept if row["verdict"] != "planned"]
        commit(self.folder / "rows.jsonl", "".join(lines).encode())
        return rows

    def _write_rows_now_and_then(self) -> None:
        """It reads every cell's row: a twentieth of the time at most, however many cells there are."""
        began = time.monotonic()
        if began >= self._rows_due:
            self.write_rows()
            self._rows_due = time.monotonic() + 20 * (time.monotonic() - began)

    def baselines(self) -> dict[str, float]:
        """What a generator has to beat on the same test images, as `train` left it."""
        known = read_json(self._baselines)
        if not all(isinstance(error, float) for error in known.values()):
            raise UserError(f"{self._baselines} holds other things than figures; delete it and start again")
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
        alone = False
        while (todo := [c for c in self.cells if not self._settled(c, attempts)]) or not self._baselines.exists():
            before = sum(attempts.values())
            try:
                self._train(parties(todo, jobs, small=small(self.plan, self.data) and not alone), jobs, tell, attempts)
            except BrokenProcessPool:
                if sum(attempts.values()) == before:
                    raise UserError("the worker processes die before they begin; is there memory for them?") from None
                # Whoever was at work when the process died is suspect: they go on one at a time.
                jobs, alone = 1, True
        rows = self.write_rows()
        require_fair(rows, one_recipe=self.plan.recipe == "shared")
        return rows

    def _plainest(self) -> Cell:
        """Whose untrained generator is a baseline: an unconditional one where there is one."""
        return min(self.cells, key=lambda cell: (Need.LABELS in cell.needs, cell.seed))

    def _settled(self, cell: Cell, attempts: dict[str, int]) -> bool:
        row = worker.read_row(self.directory(cell))
        if row is not None and (worker.is_final(row) or attempts.get(cell.directory, 0) > 0):
            return True
        if attempts.get(cell.directory, 0) >= ATTEMPTS:
            worker.fail_cell(self.directory(cell), "its process died (killed, or out of memory)", self.provenance)
            return True
        return False

    def _train(self, parties: list[list[Cell]], jobs: int, tell: Listener, attempts: dict[str, int]) -> None:
        context = processes.context(self.plan.device)
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
                with suppress(Exception):  # whoever draws the progress must not stop the counting
                    tell(event)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        arguments = (events, self.plan.threads, self.provenance)
        # One process has the whole of a GPU.
        count = 1 if self.plan.device != "cpu" else max(1, min(jobs, len(parties)))
        pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=arguments)
        try:
            pending: set[Future[list[dict[str, Any]] | None]] = set()
            with processes.ctrl_c_held_back():
                if not self._baselines.exists():
                    plainest, seeds = str(self.directory(self._plainest())), list(self.plan.seed_range)
                    pending.add(pool.submit(_measure_baselines, str(self.folder), plainest, seeds))
                pending |= {pool.submit(_work, [str(self.directory(cell)) for cell in party]) for party in parties}
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    rows = future.result() or []
                    if rows:
                        self._write_rows_now_and_then()
                    for row in rows:
                        name = {key: row[key] for key in ("label", "seed", "fold")}
                        tell({"event": "row", **name, "row": row})
            pool.shutdown()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            done.set()
            listener.join(timeout=5)


_events: Any = None
_provenance: dict[str, Any] = {}


def _begin(events: Any, threads: int, provenance: dict[str, Any]) -> None:
    """In each worker process, first."""
    global _events, _provenance
    _events, _provenance = events, provenance
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the driver decides
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with_the_driver, daemon=True).start()


def _leave_with_the_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure_baselines(folder: str, directory: str, seeds: list[int]) -> None:
    plan = worker.read_cell(Path(directory)).settings
    data = worker.read_data(plan.data)
    if plan.measure == "mre":
        known = data.train.images[:BASELINE_IMAGES].to(plan.device)
        found = baselines(known, data.test.images[: plan.test_images], plan.z_dim)
        found["untrained generator"] = worker.untrained_mre(Path(directory))
    else:
        labels, test = plan.labels, data.test.first(plan.test_images)
        found = classifying_baselines(data.train, test, labels.per_class, seeds, labels.folds)
    commit_json(Path(folder) / "baselines.json", found)


def _work(directories: list[str]) -> list[dict[str, Any]]:
    """The rows of cells that play beside one another."""
    cells = {Path(directory): worker.read_cell(Path(directory)) for directory in directories}
    names = {
        path: {"label": cell.contender.label, "seed": cell.seed, "fold": cell.fold, "cell": cell.directory}
        for path, cell in cells.items()
    }
    for name in names.values():
        _events.put({"event": "start", **name})

    def tell(path: Path, point: dict[str, Any]) -> None:
        _events.put({"event": "point", **names[path], "point": point})

    rows = worker.train_cells(list(cells), tell, _provenance)
    return [
        row if isinstance(row, dict) else worker.fail_cell(path, _told(row), _provenance)
        for path, row in zip(cells, rows, strict=True)
    ]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


ON_A_GPU = 6
"""Cells that play on one GPU at a time; not yet measured."""
LARGEST_PARTY = 32
"""Cells that play beside one another: more of them gain nothing more, and nobody hears of any before all are done."""
BESIDE = 4
"""What a round of a stack costs beside its cells' own shares, in such shares   (benchmarks/small_cells.py)."""


def parties(cells: list[Cell], jobs: int, *, small: bool) -> list[list[Cell]]:
    """Which cells one process trains beside one another: on a GPU `jobs` at a time; `small` ones on a processor as
    stacks of alike ones, cut so that `jobs` processes are done soonest; any other by itself. The longest come first.
    """
    on_gpu = bool(cells) and cells[0].settings.device != "cpu"
    if on_gpu:
        return _cut(cells, -(-len(cells) // jobs))
    if not small:
        return [[cell] for cell in cells]
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(kind(cell), []).append(cell)
    fewest = [-(-len(alike) // LARGEST_PARTY) for alike in kinds.values()]
    choices: list[Sequence[int]] = [range(least, max(jobs, least) + 1) for least in fewest]
    if len(choices) > 3:  # rare, and their product long
        choices = [
            [max(least, -(-len(alike) * jobs // len(cells)))]
            for least, alike in zip(fewest, kinds.values(), strict=True)
        ]

    def found(parts: Sequence[int]) -> list[list[Cell]]:
        cut = [party for alike, into in zip(kinds.values(), parts, strict=True) for party in _cut(alike, into)]
        return sorted(cut, key=len, reverse=True)

    def until(parts: Sequence[int]) -> float:
        return makespan([BESIDE + len(party) for party in found(parts)], jobs)

    return found(min(itertools.product(*choices), key=until))


def _cut(cells: list[Cell], parts: int) -> list[list[Cell]]:
    return [party for part in range(parts) if (party := cells[part::parts])]


def makespan(durations: Iterable[float], jobs: int) -> float:
    """When the last of the tasks ends, each taken in this order by the first of `jobs` workers that is free."""
    free = [0.0] * jobs
    for duration in durations:
        heapreplace(free, free[0] + duration)
    return max(free)


def small(plan: Plan, data: Splits) -> bool:
    """Whether cells may be small enough to be stacked; whoever trains them sees for itself."""
    shape, device = data.train.image_shape, torch.device(plan.device)
    precision = plan.precision or natural_precision(device, shape)
    return device.type == "cpu" and precision == "fp32" and shape[1] * shape[2] <= SMALL


def require_fair(rows: list[dict[str, Any]], one_recipe: bool = True) -> None:
    """Cells of one seed differ in the objective alone: same data, order, z, machine and, labels apart, initial weights;
    with one recipe for all also the same optimisation and number of rounds. Raises UserError."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if "hashes" not in row:
            continue
        shared = {**row["hashes"], "fingerprint": row["fingerprint"]}
        if one_recipe and not row["recipe_changes"]:
            shared |= {"recipe": row["recipe"], "rounds": row["rounds"]}
        for name, value in shared.items():
            # A conditional game has other inputs, so other networks.
            kind = row["conditional"] if name.startswith("initial") else False
            # One machine and one precision for all seeds, too: the table means over them.
            seed = None if name == "fingerprint" else row["seed"]
            known = first.setdefault((seed, row["fold"], name, kind), {"value": value, "label": row["label"]})
            if known["value"] != value:
                raise UserError(
                    f"unfair: {name} of {row['label']} and {known['label']} differ at seed {row['seed']};"
                    " the run folder mixes runs, take --out"
                )


def provenance(device_name: str) -> dict[str, Any]:
    """Where a row comes from: versions, commit, device, command."""
    names = ("ganzoo", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
    device = torch.device(device_name)
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "commit": commit_id(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "command": " ".join(["ganzoo", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit_id() -> str | None:
    """Of the checkout that this package runs from, `+` where it has uncommitted changes; None outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    try:
        said = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", *CODE])
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


def natural_jobs(plan: Plan) -> int:
    """How many cells, or stacks of small cells, play at a time where nobody says."""
    return ON_A_GPU if plan.device != "cpu" else max(1, usable_cores() // plan.threads)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
