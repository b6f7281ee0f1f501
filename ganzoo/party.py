"""Cells that are trained beside one another in this process, from their directories to their rows."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ganzoo import stacked
from ganzoo.baselines import baselines, classifying_baselines
from ganzoo.cell_folder import CellFolder, raise_fence
from ganzoo.config import Cell, DataPlan, core_sha256, read_plan
from ganzoo.data import Splits, load_images, split
from ganzoo.data_parallel import part
from ganzoo.durable import commit_sealed, read_sealed
from ganzoo.errors import UserError
from ganzoo.result import concluded, is_final, read_cell, require_pictures, whole_row, write_row
from ganzoo.saving import Keep
from ganzoo.side_by_side import side_by_side
from ganzoo.stacked import kind, stackable
from ganzoo.train import Tell, Training, fingerprint, unlike
from ganzoo.zoo import Zoo

BASELINE_IMAGES = 50_000
"""Training images that the baselines know at most: they take them all into memory, as float32."""


@lru_cache(maxsize=2)
def data_of(plan_json: str) -> Splits:
    return read_data(DataPlan.model_validate_json(plan_json))


def read_data(plan: DataPlan) -> Splits:
    images = load_images(
        plan.set,
        path=None if plan.path is None else Path(plan.path),
        size=plan.size,
        download=plan.download,
        skip_corrupt=plan.skip_corrupt,
    )
    return split(images, plan.split, shuffle=plan.shuffle)


IMAGES = "images.json"
"""Of a run's folder: which images it is a run on."""


def digests(data: Splits) -> dict[str, str]:
    """What tells the images of a run from others."""
    return {f"{name} images": part.sha256 for name, part in zip(("training", "validation", "test"), data, strict=True)}


def require_same_images(run: Path, data: Splits) -> None:
    """Raises UserError where the run's folder holds a run on other images than these."""
    try:
        known = read_sealed(run / IMAGES)
    except UserError:
        return  # none, or damaged: what the rows say of their images is compared at the end
    differing = [name for name, digest in digests(data).items() if known.get(name) != digest]
    if differing:
        raise UserError(
            f"{run} holds a run on other images ({', '.join(differing)} differ); put those back, or take another --out"
        )


@lru_cache(maxsize=2)
def zoo_of(plugins: tuple[str, ...]) -> Zoo:
    return Zoo.installed(*plugins)


def prepare(directory: Path, *, allow_inexact: bool = False, recovered: CellFolder | None = None) -> Training:
    """The cell of `directory`, at its newest whole checkpoint where there is one.

    Raises UserError for a foreign checkpoint, for one made where numbers round differently unless that is allowed, and
    where the code of a plugin or the images are no longer the planned ones.
    """
    cell = read_cell(directory)
    zoo = zoo_of(cell.settings.plugins)
    require_planned_code(cell, zoo)
    data = data_of(cell.settings.data.model_dump_json())
    require_same_images(directory.parents[1], data)
    training = Training(cell, zoo, data)
    # A stack of one makes the bits of a stack of many, so who plays beside it may change with every start.
    training.stacked = stackable([training]) is None
    folder = recovered or CellFolder(directory, 0)
    folder.resume(partial(training.resume, allow_inexact=allow_inexact))
    return training


def require_planned_code(cell: Cell, zoo: Zoo) -> None:
    """Raises UserError where ganzoo or a plugin is no longer what the cell was planned with."""
    if cell.core_sha256 != core_sha256():
        raise UserError(f"ganzoo has changed since {cell.contender.label} was planned; start the command again")
    for where, planned in {**cell.contender.sources, **cell.network_sources}.items():
        kind, _, name = where.partition("/")
        if zoo.find(kind, name).source_sha256 != planned:
            raise UserError(f"{kind} '{name}' has changed since this run was planned; start the command again")


def train_cell(
    directory: Path, tell: Tell = lambda point: None, provenance: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train, measure, write `row.json` and return it. Exceptions other than divergence are the caller's to judge.

    `provenance` (versions, commit, device, command) is kept in the row.
    """
    (row,) = train_cells([directory], lambda _, point: tell(point), provenance)
    if isinstance(row, BaseException):
        raise row
    return row


def train_cells(
    directories: Sequence[Path],
    tell: Callable[[Path, dict[str, Any]], None] = lambda directory, point: None,
    provenance: dict[str, Any] | None = None,
    *,
    fence: int | None = None,
    allow_inexact: bool = False,
) -> list[dict[str, Any] | BaseException]:
    """Train cells beside one another, and measure one after the other: each cell's row, in their order, or why it has
    none (what its plugins raised, UserError, LostFence). `tell` receives each point of each curve.

    Small cells on a processor play as stacks, those of a GPU on a stream each, all others in turn. `fence`: the number
    of this attempt, which the caller has raised; by default the next one. Raises Stopped, everything saved.
    """
    found: dict[Path, dict[str, Any] | BaseException] = {}
    folders: dict[Path, CellFolder] = {}
    trainings: dict[Path, Training] = {}
    for directory in directories:
        try:
            require_pictures(directory)
            row = whole_row(directory)
            # Without its verdict it is made again: a kill or a power cut may have left it without its pictures.
            if row is not None and is_final(row) and concluded(directory, row):
                found[directory] = row
                continue
            folder = CellFolder(directory, fence or raise_fence(directory))
            folders[directory] = folder
            trainings[directory] = prepare(directory, allow_inexact=allow_inexact, recovered=folder)
            folder.begin_curve(trainings[directory].curve)
            _note_fingerprint(folder, trainings[directory])
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a plugin may raise anything: the others go on)
            found[directory] = error
    started = time.monotonic()
    for together, run in _parties(trainings):
        party = [trainings[directory] for directory in together]
        tells = [partial(_told, folders[directory], partial(tell, directory)) for directory in together]
        ends: Sequence[BaseException | None]
        try:
            ends = run(party, [folders[directory].keep for directory in together], tells)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
            ends = [error] * len(party)
        part()  # to measure takes one process
        seconds = (time.monotonic() - started) / len(party)
        for directory, training, end in zip(together, party, ends, strict=True):
            try:
                found[directory] = write_row(folders[directory], training, end, seconds, provenance or {})
            except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
                found[directory] = error
        started = time.monotonic()
    return [found[directory] for directory in directories]


def _told(folder: CellFolder, tell: Tell, point: dict[str, Any]) -> None:
    folder.tell(point)
    tell(point)


def _note_fingerprint(folder: CellFolder, training: Training) -> None:
    """Where the cell's numbers are made; with an inexact one, where they were first."""
    path = folder.directory / "fingerprint.json"
    here = fingerprint(training.device, training.precision)
    try:
        known = read_sealed(path) if path.exists() else {}
    except UserError:
        known = {}
        folder.recover(f"{path} was altered; it is made again")
    if not known or (training.round == 0 and unlike(known, here)):
        folder.require_fence()
        commit_sealed(path, here)


Run = Callable[[Sequence[Training], Sequence[Keep], Sequence[Tell]], Sequence[BaseException | None]]


def _parties(trainings: dict[Path, Training]) -> list[tuple[list[Path], Run]]:
    """Who plays beside whom, and how."""
    on_gpu = [path for path, one in trainings.items() if one.device.type == "cuda"]
    parties: list[tuple[list[Path], Run]] = [(on_gpu, side_by_side)] if on_gpu else []
    stacks: dict[str, list[Path]] = {}
    for path, one in trainings.items():
        if one.stacked:
            stacks.setdefault(kind(one.cell), []).append(path)
    for stack in stacks.values():
        whole = stackable([trainings[path] for path in stack]) is None
        parties += [(part, stacked.run) for part in ([stack] if whole else [[path] for path in stack])]
    alone = [path for path, one in trainings.items() if not one.stacked and path not in on_gpu]
    return [*parties, *(([path], side_by_side) for path in alone)]


def untrained_mre(directory: Path) -> float:
    """The test MRE of the cell's generator as it was before the first step."""
    cell = read_cell(directory)
    training = Training(cell, zoo_of(cell.settings.plugins), data_of(cell.settings.data.model_dump_json()))
    return training.error(training.data.test, cell.settings.test_images, cell.settings.test_mre).mean


def measure_baselines(directory: Path) -> None:
    """What a generator has to beat on the same test images: baselines.json in the run's folder.

    `directory`: RUN/baselines, with the cell.json of the plainest cell.
    """
    plan, run = read_cell(directory).settings, directory.parent
    data = read_data(plan.data)
    require_same_images(run, data)
    if plan.measure == "mre":
        known = data.train.images[:BASELINE_IMAGES].to(plan.device)
        found = baselines(known, data.test.images[: plan.test_images], plan.z_dim)
        found["untrained generator"] = untrained_mre(directory)
    else:
        seeds = list(read_plan(run / "plan.toml").seed_range)
        labels, test = plan.labels, data.test.first(plan.test_images)
        found = classifying_baselines(data.train, test, labels.per_class, seeds, labels.folds)
    commit_sealed(run / "baselines.json", found)
