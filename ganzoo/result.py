"""What a finished training leaves: the row of its cell, with everything it was measured by, and pictures.

row.json        the result, the same bits each time but for its provenance
pictures.npz    samples, test images, their reconstructions, the training images nearest to them; the error of every
                test image; the shape of the cost
timing.json     seconds
"""

import hashlib
import io
import math
import time
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo import distances
from ganzoo.cell_folder import CellFolder
from ganzoo.classify import accuracy, evaluating
from ganzoo.collapse import collapse
from ganzoo.config import ADDED, Cell
from ganzoo.data import scaled
from ganzoo.durable import DiskError, json_bytes, read_sealed, seal, sealed_bytes
from ganzoo.errors import UserError
from ganzoo.game import Need
from ganzoo.health import health, nearest
from ganzoo.lipschitz import CLASS_LOSS, lipschitz
from ganzoo.mre import Reconstruction, over_all_labels, self_inversion
from ganzoo.pulse import beat
from ganzoo.randomness import seeded, stream
from ganzoo.train import Diverged, Training, fingerprint

SETTLED = 0.05
"""A curve has settled if its last fifth stays within this share of its last value."""
HEALTH_PAIRS = 256
"""Training images, and as many generated and test ones, at which the players' health is measured."""
STEEPNESS_PAIRS = 64
"""Training images, and as many generated ones, at which the critic's steepness is sampled."""
DIVERSITY_IMAGES = 500
"""Test images, and as many generated ones, that tell of collapse."""
NEAREST_OF = 20_000
"""Training images at most among which the nearest one to a picture is sought."""
COST_STEPS, COST_STEP = 120, 0.025
"""Where the cost is kept to be drawn: at so many multiples of this on either side of 0."""
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
    row = read_sealed(path)
    whole = isinstance(row.get("label"), str) and isinstance(row.get("seed"), int)
    whole = whole and isinstance(row.get("verdict"), str) and isinstance(row.get("provenance", {}), dict)
    if whole and row["verdict"] == "done":
        wanted = ("test_mre", "test_mre_last", "gap", "control_mre") if "test_mre" in row else ("validation_accuracy",)
        whole = all(isinstance(row.get(key), float) for key in wanted)
        whole = whole and isinstance(row.get("test_accuracy"), float | None)
    if not whole:
        raise UserError(f"{path} is no row of a cell; delete it to have the cell measured again")
    return row


def whole_row(directory: Path) -> dict[str, Any] | None:
    """As `read_row`, but a damaged row is none: it is set aside as row.json.damaged, with a warning, and is made again
    from the cell's last checkpoint."""
    try:
        return read_row(directory)
    except UserError as error:
        _set_aside(directory, str(error))
        return None


def require_pictures(directory: Path) -> None:
    """Where a finished cell's pictures are not those of its verdict, set its row aside: both are made again."""
    try:
        wanted = read_sealed(directory / "verdict.json")["files"].get("pictures.npz")
        path = directory / "pictures.npz"
        if wanted is None or (path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted):
            return
    except (UserError, KeyError, AttributeError):
        return  # no verdict: the cell is not finished
    _set_aside(directory, f"{path} was altered")


def _set_aside(directory: Path, why: str) -> None:
    with suppress(OSError):
        (directory / "row.json").replace(directory / "row.json.damaged")
    warnings.warn(f"{why}: set aside, it is made again from the last checkpoint", stacklevel=3)


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
        cell = Cell.model_validate_json(path.read_text(encoding="utf-8"))
        _ = cell.settings  # a plan that is none is a slip now, not when it is trained
        return cell
    except FileNotFoundError:
        raise UserError(f"no cell at {directory}: it has no cell.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} describes no cell: {str(error).splitlines()[0]}") from None


def write_row(
    folder: CellFolder, training: Training, end: BaseException | None, seconds: float, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Measure a training that ended so, and leave its row; raises `end` where that is no result.

    `seconds`: how long it trained. Raises UserError, LostFence.
    """
    trained = time.monotonic()
    files: dict[str, bytes] = {}
    try:
        if end is not None:
            raise end
        measured = _reconstructed if training.plan.measure == "mre" else _classified
        with training.products():
            found, pictures = measured(training)
            described = _described(training)
            row = {**described, **found, "hashes": {**described["hashes"], **found.get("hashes", {})}}
            row["lipschitz"] = _steepness(training)
            row["health"] = _health(training)
            pictures |= _cost_shape(training)
        files["pictures.npz"] = _packed(pictures)
    except Diverged as diverged:
        row = {**_described(training), "verdict": str(diverged), "reason": diverged.what}
    folder.begin_curve(training.curve)  # the file may have been altered since it was written
    saving = training.saving.spent
    timing = {"training_s": seconds, "saving_s": saving, "measuring_s": time.monotonic() - trained}
    files["timing.json"] = json_bytes(timing)
    return _leave(folder, _with_origin(folder, row, provenance), files)


def fail(
    folder: CellFolder, verdict: str, reason: str, provenance: dict[str, Any] | None = None, **report: Any
) -> dict[str, Any]:
    """The row of a cell that could not be finished. `report`: what else is known of its end. Raises as `write_row`."""
    return _leave(folder, failed_row(folder, verdict, reason, provenance, **report), {})


def failed_row(
    folder: CellFolder, verdict: str, reason: str, provenance: dict[str, Any] | None = None, **report: Any
) -> dict[str, Any]:
    """As `fail`, but nothing is written: where the disk takes nothing."""
    row = {**_identity(read_cell(folder.directory)), "verdict": verdict, "reason": reason, **report}
    return _with_origin(folder, row, provenance)


def _with_origin(folder: CellFolder, row: dict[str, Any], provenance: dict[str, Any] | None) -> dict[str, Any]:
    return {**row, "provenance": {**(provenance or {}), "attempt": folder.fence, "recovered": folder.recovered}}


def _leave(folder: CellFolder, row: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """The files, then the row, then the verdict. Raises UserError, LostFence."""
    verdict = {key: row.get(key) for key in ("label", "seed", "fold", "verdict", "reason", "inexact")}
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    folder.conclude(verdict, {**checksums, "row.json": seal(row)}, {**files, "row.json": sealed_bytes(row)})
    return row


def verdict_of(directory: Path, attempt: int) -> str | None:
    """The verdict that stands in a cell's folder, if it is final or of this attempt; else None."""
    row = whole_row(directory)
    if row is None or not concluded(directory, row):
        return None
    verdict: str = row["verdict"]
    return verdict if is_final(row) or row.get("provenance", {}).get("attempt") == attempt else None


def concluded(directory: Path, row: dict[str, Any]) -> bool:
    """Whether the verdict beside a row is of that row: a kill may come between the two."""
    try:
        found = read_sealed(directory / "verdict.json")["files"]
    except (UserError, KeyError):
        return False
    return isinstance(found, dict) and found.get("row.json") == seal(row)


def failure(error: BaseException) -> tuple[str, str]:
    """The verdict of a cell that ended so, and the reason."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    if isinstance(error, DiskError):
        return "failed:disk", str(error)
    if isinstance(error, UserError):
        return "invalid", str(error)
    return ("failed:oom" if out_of_memory(error) else "failed:error"), said


def out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory for it, on the host or on a GPU."""
    said = str(error)
    on_host = isinstance(error, RuntimeError) and ("allocate memory" in said or "not enough memory" in said)
    return on_host or isinstance(error, MemoryError | torch.OutOfMemoryError)


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
        **{name: getattr(contender, name) for name in ADDED},
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
        "inexact": training.inexact,
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


def _classified(training: Training) -> tuple[dict[str, Any], dict[str, Any]]:
    """The accuracy of the last round's critic: nothing is selected on validation. No test accuracy of a cell that holds
    out a fold, which is there to choose by."""
    data, few = training.data, training.plan.test_images
    classify, test = training.classifier(), data.test.first(few)
    held_out = training.cell.fold is not None
    found = {
        "verdict": "done",
        "collapse": None if Need.ALONE in training.needs else _diversity(training),
        "classifier": "argmin L(x, y)" if training.players.classes else "L2-SVM on the critic's layers",
        "validation_accuracy": accuracy(classify(training.validation), training.validation),
        "test_accuracy": None if held_out else accuracy(classify(test), test),
        "labelled_images": len((data.train if training.labelling is None else training.labelling.labelled).images),
        "test_images": min(few, len(data.test.images)),
    }
    return found, _samples(training)


def _reconstructed(training: Training) -> tuple[dict[str, Any], dict[str, Any]]:
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
    pictures = _pictures(training, best, last)
    diversity = _diversity(training)
    others, networks = _other_metrics(training)
    players.generator.load_state_dict(last_state)
    varied = last_fifth(curve)
    figures = {
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
    finite = all(math.isfinite(value) for value in figures.values() if isinstance(value, float))
    if not finite or not all(map(math.isfinite, others.values())):
        raise Diverged(training.round, "a figure on the test images is not finite")
    more: dict[str, Any] = {"metrics": others, "hashes": networks} if others else {}
    return {"verdict": "done", **figures, "collapse": diversity, **more}, pictures


def _other_metrics(training: Training) -> tuple[dict[str, float], dict[str, str]]:
    """What the plan asks for besides, of as many generated images as test images, and the networks that it looks by."""
    plan, players = training.plan, training.players
    if not plan.metrics:
        return {}, {}
    real = training.data.test.first(plan.test_images)
    labels = real.labels.to(training.device) if players.classes and real.labels is not None else None
    z = _z(training, "metrics", len(real.images))
    made = []
    with evaluating(players.generator):
        for place in torch.split(torch.arange(len(z), device=z.device), distances.CHUNK):
            beat()
            made.append(as_bytes(players.generate(z[place], None if labels is None else labels[place])))
    fake = torch.from_numpy(np.concatenate(made))
    return distances.measured(plan.metrics, training.data.train, real.images, fake, training.device)


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


def _health(training: Training) -> dict[str, float | None] | None:
    """What the players do after the last round; None where no generator plays, or a figure is not finite."""
    if Need.ALONE in training.needs:
        return None
    players, device = training.players, training.device
    real, test = training.data.train.first(HEALTH_PAIRS), training.data.test.first(HEALTH_PAIRS)
    images, unseen = scaled(real.images.to(device)), scaled(test.images.to(device))
    labels = real.labels.to(device) if players.classes and real.labels is not None else None
    test_labels = test.labels.to(device) if players.classes and test.labels is not None else None
    z = _z(training, "health", len(images))
    with seeded("health", training.cell.seed), evaluating(players.generator), evaluating(players.critic):
        critic = players.loss(labels)
        fake = players.generate(z, labels)
        found = health(
            critic,
            players.generator,
            images,
            fake,
            on_test=players.loss(test_labels)(unseen),
            margin=None if training.margin is None else training.margin(images, fake),
            generator_loss=lambda: training.game.generator_loss(critic, images, players.generate(z, labels)),
        )
    finite = all(value is None or math.isfinite(value) for value in found)
    return found._asdict() if finite else None


def _cost_shape(training: Training) -> dict[str, Any]:
    """C(a) to be drawn; nothing where the objective takes no cost."""
    if training.cost is None:
        return {}
    a = torch.arange(-COST_STEPS, COST_STEPS + 1) * COST_STEP
    with torch.no_grad():
        return {"cost_a": a.numpy(), "cost": training.cost(a.clone()).float().numpy()}


def _nearest(training: Training, images: np.ndarray, name: str) -> dict[str, Any]:
    """The training image nearest to each of these, (n, C, H, W) uint8, and its distance: under `name`."""
    known = training.data.train.first(NEAREST_OF)
    place, distance = nearest(known.images, torch.from_numpy(images))
    return {name: known.images[place].numpy(), f"{name}_errors": distance.float().numpy()}


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
    samples = as_bytes(made)
    kept = {"samples": samples, "across": min(players.classes, PICTURES) or int(PICTURES**0.5)}
    return {**kept, **_nearest(training, samples[: PICTURES // 8], "samples_nearest")}


def _z(training: Training, purpose: str, n: int) -> Tensor:
    """z ~ Unif[-1, 1]^z_dim, the same for every objective of a seed: (n, z_dim), on the device."""
    z = torch.rand(n, training.plan.z_dim, generator=stream("z", purpose, training.cell.seed)) * 2 - 1
    return z.to(training.device)


def _pictures(training: Training, best: Reconstruction, last: Reconstruction) -> dict[str, Any]:
    """Of the generator that is best on validation."""
    players, test = training.players, training.data.test
    few = min(PICTURES // 8, len(best.errors))
    own = test.labels[:few].to(training.device) if players.classes and test.labels is not None else None
    with evaluating(players.generator):
        again = players.generate(best.z[:few].to(training.device), own)
    return {
        **_samples(training),
        "originals": test.images[:few].numpy(),
        "reconstructions": as_bytes(again),
        **_nearest(training, test.images[:few].numpy(), "nearest"),
        "errors": best.errors.numpy(),
        "errors_last": last.errors.numpy(),
    }


def _packed(pictures: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **pictures)
    return buffer.getvalue()


def as_bytes(images: Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] -> uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
