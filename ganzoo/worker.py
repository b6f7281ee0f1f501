"""Train the cell of a directory and leave its row there. Needs nothing but the directory.

cell.json       what to train (`config.Cell`)
checkpoint      the whole state at the last save
row.json        the result, written last: a cell with a final row is finished
pictures.npz    samples, test images, their reconstructions; the error of every test image
timing.json     seconds; apart from the row, which is the same bits each time
"""

import hashlib
import io
import math
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo import stacked
from ganzoo.classify import accuracy, evaluating
from ganzoo.collapse import collapse
from ganzoo.config import Cell, DataPlan, core_sha256
from ganzoo.data import Splits, load_images, scaled, split
from ganzoo.durable import commit, commit_json, read_json
from ganzoo.errors import UserError
from ganzoo.game import Need
from ganzoo.lipschitz import CLASS_LOSS, lipschitz
from ganzoo.mre import Reconstruction, over_all_labels, self_inversion
from ganzoo.randomness import stream
from ganzoo.side_by_side import side_by_side
from ganzoo.stacked import kind, stackable
from ganzoo.train import Diverged, Tell, Training, fingerprint
from ganzoo.zoo import Zoo

CHECKPOINT = "checkpoint"
SETTLED = 0.05
"""A curve has settled if its last fifth stays within this share of its last value."""
STEEPNESS_PAIRS = 64
"""Training images, and as many generated ones, at which the critic's steepness is sampled."""
DIVERSITY_IMAGES = 500
"""Test images, and as many generated ones, that tell of collapse."""
PICTURES = 64
"""Samples kept for the grid; the reconstructions keep an eighth of it."""


def is_final(row: dict[str, Any]) -> bool:
    """Done, or diverged (which would happen again, bit for bit); a failed cell is tried again."""
    verdict: str = row["verdict"]
    return verdict == "done" or verdict.startswith("diverged")


def read_row(directory: Path) -> dict[str, Any] | None:
    """The row in a cell's folder; None where there is none yet. Raises UserError for a damaged one."""
    path = directory / "row.json"
    if not path.exists():
        return None
    row = read_json(path)
    whole = isinstance(row.get("label"), str) and isinstance(row.get("seed"), int)
    whole = whole and isinstance(row.get("verdict"), str)
    if whole and row["verdict"] == "done":
        wanted = ("test_mre", "test_mre_last", "gap", "control_mre") if "test_mre" in row else ("validation_accuracy",)
        whole = all(isinstance(row.get(key), float) for key in wanted)
        whole = whole and isinstance(row.get("test_accuracy"), float | None)
    if not whole:
        raise UserError(f"{path} is no row of a cell; delete it to have the cell measured again")
    return row


def read_pictures(directory: Path) -> dict[str, np.ndarray]:
    """pictures.npz: `samples`, `originals`, `reconstructions` (n, C, H, W) uint8, `errors` (N,). UserError if bad."""
    path = directory / "pictures.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())}); delete row.json beside it: it is made again"
        ) from None


def read_cell(directory: Path) -> Cell:
    path = directory / "cell.json"
    try:
        return Cell.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no cell at {directory}: it has no cell.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} describes no cell: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=2)
def _data(plan_json: str) -> Splits:
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


@lru_cache(maxsize=2)
def _zoo(plugins: tuple[str, ...]) -> Zoo:
    return Zoo.installed(*plugins)


def prepare(directory: Path) -> Training:
    """The cell of `directory`, at its last checkpoint where there is one.

    Raises UserError for a damaged or foreign checkpoint, and where the code of a plugin is no longer the planned one.
    """
    cell = read_cell(directory)
    zoo = _zoo(cell.settings.plugins)
    require_planned_code(cell, zoo)
    training = Training(cell, zoo, _data(cell.settings.data.model_dump_json()))
    # A stack of one makes the bits of a stack of many, so who plays beside it may change with every start.
    training.stacked = stackable([training]) is None
    if (directory / CHECKPOINT).exists():
        training.resume(directory / CHECKPOINT)
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
) -> list[dict[str, Any] | BaseException]:
    """Train cells beside one another, and measure one after the other: each cell's row, in their order, or what its
    plugins raised. `tell` receives each point of each curve.

    Small cells on a processor play as stacks, those of a GPU on a stream each, all others in turn. Raises UserError.
    """
    found: dict[Path, dict[str, Any] | BaseException] = {}
    trainings: dict[Path, Training] = {}
    for directory in directories:
        row = read_row(directory)
        if row is not None and is_final(row):
            found[directory] = row
            continue
        try:
            trainings[directory] = prepare(directory)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a plugin may raise anything: the others go on)
            found[directory] = error
    started = time.monotonic()
    for together, run in _parties(trainings):
        party = [trainings[directory] for directory in together]
        tells = [partial(tell, directory) for directory in together]
        ends: Sequence[BaseException | None]
        try:
            ends = run(party, [directory / CHECKPOINT for directory in together], tells)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
            ends = [error] * len(party)
        seconds = (time.monotonic() - started) / len(party)
        for directory, training, end in zip(together, party, ends, strict=True):
            try:
                found[directory] = _finished(directory, training, end, seconds, provenance)
            except UserError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 (as above)
                found[directory] = error
        started = time.monotonic()
    return [found[directory] for directory in directories]


Run = Callable[[Sequence[Training], Sequence[Path], Sequence[Tell]], Sequence[BaseException | None]]


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


def _finished(
    directory: Path, training: Training, end: BaseException | None, seconds: float, provenance: dict[str, Any] | None
) -> dict[str, Any]:
    """The row of a cell whose training ended so, written; raises `end` where that is no result."""
    trained = time.monotonic()
    try:
        if end is not None:
            raise end
        measured = _reconstructed if training.plan.measure == "mre" else _classified
        with training.products():
            row = {**_described(training), **measured(training, directory)}
            row["lipschitz"] = _steepness(training)
    except Diverged as diverged:
        row = {**_described(training), "verdict": str(diverged)}
    row["provenance"] = provenance
    timing = {"training_s": seconds, "measuring_s": time.monotonic() - trained}
    commit_json(directory / "timing.json", timing)
    commit_json(directory / "row.json", row)
    return row


def fail_cell(directory: Path, why: str, provenance: dict[str, Any] | None = None) -> dict[str, Any]:
    """The row of a cell that could not be finished."""
    cell = read_cell(directory)
    row = {**_identity(cell), "verdict": f"failed: {why}", "provenance": provenance}
    commit_json(directory / "row.json", row)
    return row


def _identity(cell: Cell) -> dict[str, Any]:
    contender = cell.contender
    return {
        "label": contender.label,
        "seed": cell.seed,
        "fold": cell.fold,
        "cell": cell.sha256,
        "objective": contender.objective,
        "hyperparameters": contender.hyperparameters,
        "cost": contender.cost,
        "cost_hyperparameters": contender.cost_hyperparameters,
        "margin": contender.margin,
        "margin_hyperparameters": contender.margin_hyperparameters,
        "recipe_changes": contender.recipe_changes,
        "theta_penalty": contender.theta_penalty,
        "feature_matching": contender.feature_matching,
        "recipe": cell.recipe.model_dump(),
        "needs": list(cell.needs),
        "sources": {**contender.sources, **cell.network_sources},
    }


def _described(training: Training) -> dict[str, Any]:
    data, cell = training.data, training.cell
    return {
        **_identity(cell),
        "hashes": {
            "initial generator": training.initial["generator"],
            "initial critic": training.initial["critic"],
            "training images": data.train.sha256,
            "validation images": data.validation.sha256,
            "test images": data.test.sha256,
            **_orders(training),
            "z": _sha256(training.noise("generator", 0)),
            **{f"network {name}": digest for name, digest in training.networks.sha256s.items()},
        },
        "conditional": bool(training.players.classes),
        "rounds": training.rounds,
        "fingerprint": fingerprint(training.device, training.precision),
        "precision": training.precision,
        "stacked": training.stacked,
        "notes": training.notes,
        "curve": training.curve,
    }


def _orders(training: Training) -> dict[str, str]:
    """Of the images that are learnt from: all of them, or the labelled and the unlabelled ones."""
    labelling = training.labelling
    if labelling is None:
        return {"data order": training.batches.order_sha256}
    unlabelled = {} if labelling.unlabelled is None else {"unlabelled images": labelling.unlabelled.sha256}
    # Of fewer images another order; of all of them the one that every game of the comparison has.
    few = training.players.classes and len(labelling.labelled.images) < len(training.data.train.images)
    order = "labelled order" if few else "data order"
    return {"labelled images": labelling.labelled.sha256, **unlabelled, order: training.batches.order_sha256}


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


def _classified(training: Training, directory: Path) -> dict[str, Any]:
    """The accuracy of the last round's critic: nothing is selected on validation. No test accuracy of a cell that holds
    out a fold, which is there to choose by."""
    data, few = training.data, training.plan.test_images
    classify, test = training.classifier(), data.test.first(few)
    held_out = training.cell.fold is not None
    _keep_samples(directory, training)
    return {
        "verdict": "done",
        "collapse": None if Need.ALONE in training.needs else _diversity(training),
        "classifier": "argmin L(x, y)" if training.players.classes else "L2-SVM on the critic's layers",
        "validation_accuracy": accuracy(classify(training.validation), training.validation),
        "test_accuracy": None if held_out else accuracy(classify(test), test),
        "labelled_images": len((data.train if training.labelling is None else training.labelling.labelled).images),
        "test_images": min(few, len(data.test.images)),
    }


def _reconstructed(training: Training, directory: Path) -> dict[str, Any]:
    """The test MRE of the last epoch's generator and of the one that was best on validation, and the controls."""
    plan, data, players = training.cell.settings, training.data, training.players
    curve = training.curve
    best_point = min(curve, key=lambda point: float(point["validation_mre"]))
    last = training.error(data.test, plan.test_images, plan.test_mre)
    last_state = {key: value.detach().clone() for key, value in players.generator.state_dict().items()}
    players.generator.load_state_dict(training.best_generator)
    best = last if best_point is curve[-1] else training.error(data.test, plan.test_images, plan.test_mre)
    train = training.error(data.train, len(best.errors), plan.test_mre)
    control = self_inversion(
        players.generator,
        plan.control_images,
        z_dim=plan.z_dim,
        protocol=plan.test_mre,
        seed=training.cell.seed,
        classes=players.classes,
    )
    any_label = None
    few = min(plan.control_images, len(best.errors))
    if players.classes:
        any_label = over_all_labels(
            players.generator,
            data.test.images[:few],
            z_dim=plan.z_dim,
            classes=players.classes,
            protocol=plan.test_mre,
            seed=training.cell.seed,
        )
    _keep_pictures(directory, training, best, last)
    diversity = _diversity(training)
    players.generator.load_state_dict(last_state)
    varied = last_fifth(curve)
    measured = {
        "test_mre": best.mean,
        "test_mre_last": last.mean,
        "best_epoch": best_point["epoch"],
        "validation_mre": best_point["validation_mre"],
        "validation_mre_last": curve[-1]["validation_mre"],
        "train_mre": train.mean,
        "gap": best.mean - train.mean,
        "control_mre": control.mean,
        "test_mre_any_label": None if any_label is None else any_label.mean,
        "test_mre_own_label": None if any_label is None else float(best.errors[:few].double().mean()),
        "label_images": None if any_label is None else few,
        "test_images": len(best.errors),
        "last_gain": best.last_gain,
        "restart_spread": best.restart_spread,
        "trace": best.trace,
        "last_fifth": varied,
        "settled": varied is not None and varied < SETTLED,
        "mre": plan.test_mre.id,
        "validation_mre_protocol": plan.validation_mre.id,
    }
    finite = all(math.isfinite(value) for value in measured.values() if isinstance(value, float))
    if not finite:
        return {"verdict": f"diverged@{training.round}"}
    return {"verdict": "done", **measured, "collapse": diversity}


def _steepness(training: Training) -> dict[str, float | None] | None:
    """The critic's Lipschitz constant after the last round, sampled and by its layers; None if it is not finite."""
    players, real = training.players, training.data.train.first(STEEPNESS_PAIRS)
    images, labels = scaled(real.images.to(training.device)), real.labels if players.classes else None
    labels = None if labels is None else labels.to(training.device)
    with evaluating(players.generator), evaluating(players.critic):
        fake = players.generate(_z(training, "lipschitz", len(images)), labels)
        head = CLASS_LOSS if players.classes else 1.0
        found = lipschitz(
            players.loss(labels), players.critic, images, fake, seed=training.cell.seed, head=head, labels=labels
        )
    finite = all(value is None or math.isfinite(value) for value in found)
    return found._asdict() if finite else None


def _diversity(training: Training) -> dict[str, float | None] | None:
    """How the generator's images spread over the test images, within classes too where it is conditional; None where
    there are too few images to say."""
    players, real = training.players, training.data.test.first(DIVERSITY_IMAGES)
    labels = real.labels if players.classes else None
    with evaluating(players.generator):
        z = _z(training, "collapse", len(real.images))
        fake = players.generate(z, None if labels is None else labels.to(training.device)).cpu()
    try:
        return collapse(fake, real.images, labels, labels)._asdict()
    except UserError:
        return None


def last_fifth(curve: list[dict[str, Any]]) -> float | None:
    """By how much the validation MRE varies over the last 20 % of the epochs, as a share of its last value.

    From the last point at or before 80 % of the epochs; None where fewer than 3 points can speak of it.
    """
    start = max(point["epoch"] for point in curve if point["epoch"] <= 0.8 * curve[-1]["epoch"])
    values = [float(point["validation_mre"]) for point in curve if point["epoch"] >= start]
    return (max(values) - min(values)) / values[-1] if len(values) >= 3 else None


def _samples(training: Training) -> dict[str, Any]:
    """PICTURES samples, the same z for every objective of a seed; a class a column."""
    players = training.players
    labels = torch.arange(PICTURES) % players.classes if players.classes else None
    with evaluating(players.generator):
        z = _z(training, "samples", PICTURES)
        made = players.generate(z, None if labels is None else labels.to(training.device))
    return {"samples": as_bytes(made), "across": min(players.classes, PICTURES) or int(PICTURES**0.5)}


def _z(training: Training, purpose: str, n: int) -> Tensor:
    """z ~ Unif[-1, 1]^z_dim, the same for every objective of a seed: (n, z_dim), on the device."""
    z = torch.rand(n, training.plan.z_dim, generator=stream("z", purpose, training.cell.seed)) * 2 - 1
    return z.to(training.device)


def _keep_samples(directory: Path, training: Training) -> None:
    _keep(directory, _samples(training))


def _keep_pictures(directory: Path, training: Training, best: Reconstruction, last: Reconstruction) -> None:
    """Of the generator that is best on validation."""
    players, test = training.players, training.data.test
    few = min(PICTURES // 8, len(best.errors))
    own = test.labels[:few].to(training.device) if players.classes and test.labels is not None else None
    with evaluating(players.generator):
        again = players.generate(best.z[:few].to(training.device), own)
    _keep(
        directory,
        {
            **_samples(training),
            "originals": test.images[:few].numpy(),
            "reconstructions": as_bytes(again),
            "errors": best.errors.numpy(),
            "errors_last": last.errors.numpy(),
        },
    )


def _keep(directory: Path, pictures: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **pictures)
    commit(directory / "pictures.npz", buffer.getvalue())


def as_bytes(images: Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] -> uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def untrained_mre(directory: Path) -> float:
    """The test MRE of the cell's generator as it was before the first step."""
    cell = read_cell(directory)
    training = Training(cell, _zoo(cell.settings.plugins), _data(cell.settings.data.model_dump_json()))
    return training.error(training.data.test, cell.settings.test_images, cell.settings.test_mre).mean
