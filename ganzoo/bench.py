"""A plan -> cells -> rows: one folder a run, resumed by the same command, ranked at the end.

plan.toml       the plan, whole                 run.json        versions, commit, device, command
rows.jsonl      a row a cell, in plan order     baselines.json  what a generator has to beat
cells/          a directory a cell              images.json     which images they are of
table.txt, *.png, summary.json
"""

import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from heapq import heapreplace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganzoo import worker
from ganzoo.arithmetic import SMALL, natural_precision, require_precision
from ganzoo.cell_folder import CellFolder, LostFence, checkpoints, read_curve
from ganzoo.classify import pooled_layers
from ganzoo.config import Cell, Plan, cells, contenders, default_objectives, read_plan, value_of
from ganzoo.contract import require_contract, require_loss
from ganzoo.data import Batches, Splits, scaled
from ganzoo.distances import require_metrics
from ganzoo.durable import DiskError, commit, commit_sealed, read_json, read_sealed, sealed_line, sealed_lines
from ganzoo.engines import local_engine, usable_cores
from ganzoo.errors import UserError, blamed
from ganzoo.features import Networks
from ganzoo.game import Need
from ganzoo.lock import Busy, holder, lock_file, try_lock
from ganzoo.party import IMAGES, digests, read_data, require_same_images
from ganzoo.placing import Engine
from ganzoo.players import players
from ganzoo.pulse import Stopped
from ganzoo.randomness import seeded
from ganzoo.result import concluded, fail, failed_row, is_final, read_row, require_pictures, verdict_of, whole_row
from ganzoo.seam import Cells, Policy, Task, see_through
from ganzoo.stacked import kind
from ganzoo.train import batches_of, labelling_of
from ganzoo.zoo import Zoo

CODE = ("ganzoo", "plugins", "benchmarks/*.py", "benchmarks/ganzoo_paper", "benchmarks/ganzoo_speed")
"""What a row may come from, in a checkout."""

Listener = Callable[[dict[str, Any]], None]
"""Receives events: {"event": "start" | "point" | "row", "label", "seed", "fold", ...}."""


class Prepared(NamedTuple):
    """A plan that was checked against the zoo and the data; nothing is written yet."""

    plan: Plan
    cells: list[Cell]
    data: Splits
    left_out: tuple[str, ...] = ()
    """Objectives that play by default and are not played on these images: they need labels."""


def prepare(plan: Plan, zoo: Zoo) -> Prepared:
    """Everything that can be refused is refused here. Raises UserError.

    A plan that names no objectives and whose images have no labels comes back naming those that need none.
    """
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
    data = read_data(plan.data)
    left_out: tuple[str, ...] = ()
    if not plan.objectives and not data.train.classified:
        labelled = {cell.contender.label for cell in made if Need.LABELS in cell.needs}
        by_name = {text: contenders(text, zoo, plan)[0].label for text in default_objectives(zoo, plan)}
        left_out = tuple(text for text, label in by_name.items() if label in labelled)
        if played := tuple(text for text in by_name if text not in left_out):
            plan = plan.model_copy(update={"objectives": played})
            made = cells(plan, zoo)
    batches = plan.epochs * Batches(data.train, plan.batch_size, seed=0).per_epoch
    for cell in {cell.contender.label: cell for cell in made}.values():
        if batches < cell.recipe.critic_steps:
            raise UserError(
                f"{cell.contender.label}: {batches} batches in all are not one round of {cell.recipe.critic_steps}"
                " critic steps; raise epochs or lower batch_size"
            )
        try_out(cell, zoo, data)
    if plan.measure == "accuracy" and not data.train.classified:
        raise UserError(
            f"measure = accuracy needs images of at least 2 classes; {data.train.name} has"
            f" {len(data.train.classes) or 'no labels'}"
        )
    require_metrics(plan.metrics, plan.measure, data, plan.test_images)
    for cell in {(cell.seed, cell.fold, cell.needs): cell for cell in made}.values():
        batches_of(cell, data, labelling_of(cell, data), torch.device("cpu"))
    return Prepared(plan, made, data, left_out)


def try_out(cell: Cell, zoo: Zoo, data: Splits) -> None:
    """Both losses once on four images. Raises UserError for networks, data and objective that do not go together."""
    made = players(cell, zoo, data)
    networks = Networks(data.train, steps=1)
    game = cell.contender.game(zoo, networks)
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
            require_loss(f"{cell.contender.label}: {name}", found)
            if not found.requires_grad and not (name == "generator_loss" and Need.ALONE in game.needs):
                raise UserError(f"{cell.contender.label}: {name} has no gradient; something in it detaches")
    require_contract(cell.contender, zoo, real, networks)
    if cell.settings.measure == "accuracy" and not made.classes:
        pooled_layers(made.critic, data.train.first(1), torch.device("cpu"))


INEXACT = "--allow-inexact"
"""Of a worker's options: the one that lets cells of machines that round differently stand beside one another."""
FORMAT = 2
"""Of the run's folder: another number is another ganzoo's."""


class Run:
    """The folder of a run, held by this process alone."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        # Absolute: a worker may start elsewhere.
        self.folder, self.plan, self.cells, self.data = folder, prepared.plan, prepared.cells, prepared.data
        self.provenance = provenance(prepared.plan.device)
        self._rows_due = 0.0
        self._unwritten: dict[str, dict[str, Any]] = {}
        """Cell's folder -> the row that the disk did not take."""

    def directory(self, cell: Cell) -> Path:
        return self.folder.resolve() / "cells" / cell.directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises Busy where another process is at work in the folder, UserError where it is of another plan or
        other images."""
        with lock_file(self.folder / "run.lock") as lock:
            if not try_lock(lock, exclusive=True):
                raise Busy(f"{self.folder} is in use by another process ({holder(lock)}); wait, or take --out")
            self._claim()
            yield

    def _claim(self) -> None:
        path = self.folder / "plan.toml"
        if path.exists():
            known = require_same_plan(self.folder, self.plan)
            require_same_images(self.folder, self.data)
            if self.plan.measure == "accuracy" and known.seed_range != self.plan.seed_range:
                self._baselines.unlink(missing_ok=True)  # a mean over the labelled subsets of those seeds
        commit_sealed(self.folder / "run.json", {"format": FORMAT, **self.provenance})
        commit(path, self.plan.toml().encode())
        commit_sealed(self.folder / IMAGES, digests(self.data))
        self._describe(self._plainest(), self.folder / worker.BASELINES)
        for cell in self.cells:
            self._describe(cell, self.directory(cell))
            if whole_row(self.directory(cell)) is not None:  # what is damaged is told of before the work begins
                require_pictures(self.directory(cell))
        self._require_baselines()
        for left in self.folder.rglob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)

    @staticmethod
    def _describe(cell: Cell, directory: Path) -> None:
        described = (json.dumps(cell.model_dump(mode="json"), indent=1) + "\n").encode()
        path = directory / "cell.json"
        if not path.is_file() or path.read_bytes() != described:  # its plugins may have moved
            commit(path, described)

    # Results

    def rows(self) -> list[dict[str, Any]]:
        """A row for every planned cell, in plan order; one that has no result yet has the verdict `planned`."""
        return [
            self._unwritten.get(cell.directory)
            or whole_row(self.directory(cell))
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
        kept = [*rows, *(row for path in besides if (row := whole_row(path)) is not None)]
        lines = [json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in kept if row["verdict"] != "planned"]
        commit(self.folder / "rows.jsonl", "".join(lines).encode())
        return rows

    def _write_rows_now_and_then(self) -> None:
        """It reads every cell's row: a twentieth of the time at most, however many cells there are."""
        began = time.monotonic()
        if began >= self._rows_due:
            with suppress(DiskError):  # the cells' own rows stand; the last time tells
                self.write_rows()
            self._rows_due = time.monotonic() + 20 * (time.monotonic() - began)

    def baselines(self) -> dict[str, float]:
        """What a generator has to beat on the same test images, as `train` left it."""
        known = read_sealed(self._baselines)
        if not all(isinstance(error, float) for error in known.values()):
            raise UserError(f"{self._baselines} holds other things than figures; delete it and start again")
        return known

    def _require_baselines(self) -> None:
        try:
            if self._baselines.exists():
                self.baselines()
        except UserError as error:
            self._baselines.unlink()
            warnings.warn(f"{error}: it is made again", stacklevel=2)

    @property
    def _baselines(self) -> Path:
        return self.folder / "baselines.json"

    # Work

    def train(
        self, jobs: int, tell: Listener, engine: Engine | None = None, policy: Policy | None = None
    ) -> list[dict[str, Any]]:
        """Every cell that is not finished, `jobs` at a time on the engine, by default this machine. Returns all the
        rows.

        A cell that cannot be finished has a row that says why. Raises UserError where the baselines cannot be measured,
        and Stopped after SIGTERM or SIGUSR2, everything saved.
        """
        todo = [cell for cell in self.cells if not self._finished(cell)]
        baselines = not self._baselines.exists()
        if todo or baselines:
            together = parties(todo, jobs, small=small(self.plan, self.data))
            tasks = [Task(tuple(self.directory(cell) for cell in party)) for party in together]
            if baselines:
                tasks.insert(0, Task((self.folder.resolve() / worker.BASELINES,)))
            placing = engine or self.local(min(jobs, len(tasks)))
            with Log(self.folder / "log.jsonl") as log, signals_stop():
                try:
                    see_through(tasks, placing, policy or Policy(), self._seen(tell, log))
                except LostFence as lost:
                    raise Busy(
                        f"{lost}: another process has begun to train cells of this run; wait, or end it"
                    ) from None
                finally:
                    placing.close()
        rows = self.rows()
        with suppress(DiskError):
            self.write_rows()
        inexact = policy is not None and INEXACT in policy.options
        require_fair(rows, one_recipe=self.plan.recipe == "shared", mixed=inexact)
        return rows

    def local(self, slots: int) -> Engine:
        """This machine, so many processes at a time; one has the whole of a GPU."""
        cores, gpus = needed(self.plan)
        return local_engine(cores, gpus, None if self.plan.device != "cpu" else slots)

    def _plainest(self) -> Cell:
        """Whose untrained generator is a baseline: an unconditional one where there is one."""
        return min(self.cells, key=lambda cell: (Need.LABELS in cell.needs, cell.seed))

    def _finished(self, cell: Cell) -> bool:
        row = read_row(self.directory(cell))
        return row is not None and is_final(row) and concluded(self.directory(cell), row)

    def _seen(self, tell: Listener, log: "Log") -> Cells:
        """What the seam sees of our cells, and the events that it causes."""
        cells = {self.directory(cell): cell for cell in self.cells}
        names = {
            path: {"label": cell.contender.label, "seed": cell.seed, "fold": cell.fold} for path, cell in cells.items()
        }
        points: dict[Path, int] = {}
        started: set[Path] = set()

        def heard(event: dict[str, Any]) -> None:
            with suppress(Exception):  # whoever draws the progress must not stop the work
                tell(event)

        def verdict(directory: Path, attempt: int) -> str | None:
            if directory not in cells:
                return "done" if self._baselines.exists() else None
            return verdict_of(directory, attempt)

        def give_up(directory: Path, attempt: int, verdict: str, reason: str) -> None:
            if directory not in cells:
                raise UserError(f"the baselines cannot be measured: {reason}")
            folder = CellFolder(directory, attempt)
            try:
                fail(folder, verdict, reason, self.provenance)
            except DiskError as error:
                row = failed_row(folder, "failed:disk", str(error), self.provenance)
                self._unwritten[cells[directory].directory] = row

        def told(event: str, directory: Path) -> None:
            if directory not in cells:
                return
            name = names[directory]
            if event == "start" and directory not in started:
                started.add(directory)
                heard({"event": "start", **name})
            elif event == "look":
                curve = read_curve(directory)
                for point in curve[points.get(directory, 0) :]:
                    heard({"event": "point", **name, "point": point})
                points[directory] = max(points.get(directory, 0), len(curve))
            elif event == "row":
                self._write_rows_now_and_then()
                row = self._unwritten.get(cells[directory].directory) or whole_row(directory)
                if row is not None:
                    heard({"event": "row", **name, "row": row})

        return Cells(verdict, give_up, partial(log.note, self.folder.resolve()), told)


def needed(plan: Plan) -> tuple[int, float]:
    """CPU threads and GPUs of one process. A GPU that the plan names is the plan's affair, not an engine's."""
    return plan.threads * plan.processes, float(plan.processes) if plan.device == "cuda" else 0.0


def engine_of(asked: str, zoo: Zoo, plan: Plan, slots: int | None, address: str | None) -> Engine | None:
    """The engine of `--engine NAME:key=value,key=value`, `slots` and `address` laid over where it takes them; None for
    this machine as it is. Raises UserError for what it does not take."""
    name, _, rest = asked.partition(":")
    entry = zoo.find("engine", name)
    given: dict[str, Any] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--engine {asked}: expected KEY=VALUE after the colon, not '{item}'")
        given[key.strip()] = value_of(value.strip())
    if address is not None and "address" not in entry.hyperparameters:
        raise UserError(f"engine '{name}' takes no --address")
    given |= {} if address is None else {"address": address}
    if slots is not None and "slots" in entry.hyperparameters:
        given["slots"] = slots
    if name == "local" and entry.origin.ours and not given.keys() - {"slots"}:
        return None
    with blamed(f"engine '{name}'"):
        made = entry.bind(**given)(*needed(plan))
    if not isinstance(made, Engine):
        raise UserError(f"engine '{name}' returned {type(made).__name__}; it should return a ganzoo.Engine")
    return made


def require_same_plan(folder: Path, plan: Plan) -> Plan:
    """The plan of a run's folder. Raises UserError where it is another one, or another version's."""
    require_format(folder)
    known = read_plan(folder / "plan.toml")
    other = known.identity
    differing = [key for key, value in plan.identity.items() if other[key] != value]
    if differing:
        raise UserError(f"{folder} holds a run of another plan ({', '.join(differing)} differ); take --out")
    return known


class Due(NamedTuple):
    """What the same command would do about a cell."""

    cell: Cell
    cached: str | None
    """The verdict that stands; None where it is to be trained."""
    round: int
    """At which it would be taken up; 0 from the beginning."""


def due(prepared: Prepared, folder: Path) -> list[Due]:
    """What is cached in the folder and what is to be done, cell by cell; nothing is written.

    Raises UserError for a folder of another plan, of other images, or another version.
    """
    if not os.path.isdir(folder):  # a name of any length is no error to it
        return [Due(cell, None, 0) for cell in prepared.cells]
    if (folder / "plan.toml").exists():
        require_same_plan(folder, prepared.plan)
        require_same_images(folder, prepared.data)
    return [_due(cell, folder / "cells" / cell.directory) for cell in prepared.cells]


def _due(cell: Cell, directory: Path) -> Due:
    with suppress(UserError):  # a damaged row is made again from the checkpoint
        row = read_row(directory)
        if row is not None and is_final(row) and concluded(directory, row):
            return Due(cell, str(row["verdict"]), 0)
    newest = next((path.name.rpartition("-")[2] for path in checkpoints(directory)), "0")
    return Due(cell, None, int(newest) if newest.isdecimal() else 0)


def require_format(folder: Path) -> None:
    """Raises UserError for a run folder of another version of ganzoo. One whose run.json is damaged or gone counts as
    this version's: what its cells hold says so of itself."""
    path = folder / "run.json"
    try:
        said = read_json(path)
        found = (read_sealed(path) if "sha256" in said else said).get("format", 1)
    except UserError:
        return
    if type(found) is not int:
        raise UserError(f"{folder} is not a run's folder: run.json has no format")
    if found != FORMAT:
        age, cure = ("a newer", "update ganzoo, or take --out") if found > FORMAT else ("an older", "take --out")
        raise UserError(f"{folder} was made by {age} ganzoo (format {found}; this one has {FORMAT}); {cure}")


class Log:
    """log.jsonl: what happened to which cell when, a checksum a line. A torn end is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "Log":
        there = self._path.read_bytes() if self._path.exists() else b""
        end = max((end for end, _ in sealed_lines(there)), default=0)
        if end < len(there):
            warnings.warn(f"{self._path} was torn; its last {len(there) - end} bytes are cut off", stacklevel=2)
            commit(self._path, there[:end])
        return self

    def __exit__(self, *_: object) -> None: ...

    def note(self, folder: Path, event: str, directory: Path, **more: Any) -> None:
        """A line; a disk that is full drops it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = sealed_line({"time": now, "event": event, "cell": directory.relative_to(folder).name, **more})
        with suppress(OSError), self._path.open("ab", buffering=0) as file:
            written = file.write(line)
            if written < len(line):  # the disk took a part: for a reader the log would end there
                file.truncate(file.tell() - written)


@contextmanager
def signals_stop() -> Iterator[None]:
    """In the block SIGTERM and SIGUSR2, which Slurm sends before a job's time is over, raise Stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise Stopped(worker.AGAIN if number == signal.SIGUSR2 else 128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    if on_gpu and cells[0].settings.processes == 1:
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
    alone = plan.processes == 1
    return alone and device.type == "cpu" and precision == "fp32" and shape[1] * shape[2] <= SMALL


def require_fair(rows: list[dict[str, Any]], one_recipe: bool = True, *, mixed: bool = False) -> None:
    """Cells of one seed differ in the objective alone: same data, order, z, machine and, labels apart, initial weights;
    with one recipe for all also the same optimisation and number of rounds. Raises UserError.

    `mixed`: cells may come from machines that round differently; the table says so.
    """
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if "hashes" not in row or row.get("inexact"):  # of an inexact row the table says so
            continue
        shared = {**row["hashes"], **({} if mixed else {"fingerprint": row["fingerprint"]})}
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
    return ON_A_GPU if plan.device != "cpu" else max(1, usable_cores() // (plan.threads * plan.processes))
