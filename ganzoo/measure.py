"""The MRE of a trained generator, from its checkpoint alone."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ganzoo.cell_folder import checkpoints
from ganzoo.config import Cell
from ganzoo.durable import Damaged, load_checkpoint
from ganzoo.errors import UserError, did_you_mean
from ganzoo.game import Need
from ganzoo.mre import Protocol, self_inversion
from ganzoo.party import read_data, require_planned_code
from ganzoo.train import Training
from ganzoo.zoo import Zoo


def _found(path: Path) -> tuple[Path, dict[str, Any]]:
    for candidate in checkpoints(path) if os.path.isdir(path) else ():  # a name of any length is no error to it
        with suppress(Damaged):
            return candidate, load_checkpoint(candidate)
    return path, load_checkpoint(path)


def measure_checkpoint(
    path: Path, split: str = "test", n: int | None = None, last: bool = False, changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """MRE over the first n images of a split ("train", "validation", "test"), the control, the convergence.

    `path`: a checkpoint, or the folder of a cell, whose newest whole checkpoint is taken.
    `changes` are laid over the plan's test protocol. Raises UserError for a file that is not a whole checkpoint, for
    data or plugins that are no longer there, for a protocol that does not exist.
    """
    path, state = _found(path)
    try:
        cell = Cell.model_validate_json(state["cell"])
        plan = cell.settings
    except (KeyError, TypeError, ValidationError):
        raise UserError(f"{path} is not the checkpoint of a cell, or one of another version of ganzoo") from None
    if Need.ALONE in cell.needs:
        raise UserError(f"{cell.contender.label} trains no generator: there is nothing that could reconstruct an image")
    if not torch.cuda.is_available():  # trained on a GPU, measured wherever one is
        cell = cell.model_copy(update={"plan": {**cell.plan, "device": "cpu"}})
    for key in changes or {}:
        if key not in Protocol.model_fields:
            raise UserError(f"the protocol has no '{key}'{did_you_mean(key, Protocol.model_fields)}")
    try:
        protocol = Protocol(**{**plan.test_mre.model_dump(), **(changes or {})})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]} = {first['input']!r}: {first['msg'].lower()}") from None
    torch.set_num_threads(plan.threads)
    zoo = Zoo.installed(*plan.plugins)
    require_planned_code(cell, zoo)
    training = Training(cell, zoo, read_data(plan.data))
    if state.get("data") != [part.sha256 for part in training.data]:
        raise UserError(f"{path} was trained on other images than are there now; put those back")
    generator = training.players.generator
    try:
        rounds = state["round"]
        generator.load_state_dict(state["generator" if last else "best_generator"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path} lacks a part of the state: {' '.join(str(error).split())}") from None
    images = getattr(training.data, split)
    found = training.error(images, min(n or plan.test_images, len(images.images)), protocol)
    control = self_inversion(
        generator,
        plan.control_images,
        z_dim=plan.z_dim,
        protocol=protocol,
        seed=cell.seed,
        classes=training.players.classes,
    )
    return {
        "objective": cell.contender.label,
        "seed": cell.seed,
        "rounds": rounds,
        "generator": "last epoch" if last or plan.measure == "accuracy" else "best on validation",
        "split": split,
        "images": len(found.errors),
        "mre": found.mean,
        "control_mre": control.mean,
        "restart_spread": found.restart_spread,
        "last_gain": found.last_gain,
        "protocol": protocol.id,
    }
