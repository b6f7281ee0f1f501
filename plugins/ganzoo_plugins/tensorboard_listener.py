"""TensorBoard: curves and final figures as scalars, samples and reconstructions as images."""

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

import ganzoo


@ganzoo.listener(name="tensorboard")
def tensorboard_listener(
    folder: Path, plan: dict[str, Any], images: Annotated[int, Ge(0), Le(64)] = 16
) -> ganzoo.Listener:
    """Event files in RUN/listeners/tensorboard, one folder a training: `tensorboard --logdir` shows them, also while
    the run goes on. `images`: of each grid at most. Needs `pip install 'ganzoo[tensorboard]'`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        reason = f"the tensorboard package is not here ({error})"
        raise ganzoo.UserError(f"listener 'tensorboard': {reason}; pip install 'ganzoo[tensorboard]'") from None
    writers: dict[str, SummaryWriter] = {}

    def writer(cell: dict[str, Any]) -> SummaryWriter:
        if cell["name"] not in writers:
            writers[cell["name"]] = SummaryWriter(str(folder / cell["name"]))
        return writers[cell["name"]]

    def scalars(cell: dict[str, Any], values: dict[str, Any], step: int, group: str) -> None:
        for key, value in values.items():
            if isinstance(value, float):
                writer(cell).add_scalar(f"{group}/{key}", value, step)
        writer(cell).flush()

    def point(cell: dict[str, Any], point: dict[str, Any]) -> None:
        scalars(cell, point, point["epoch"], "curve")

    def row(cell: dict[str, Any], row: dict[str, Any]) -> None:
        scalars(cell, {**row, **row.get("metrics", {})}, cell["epochs"], "result")
        verdict = f"{row['verdict']} {row.get('reason') or ''}".strip()
        writer(cell).add_text("verdict", verdict, cell["epochs"])
        writer(cell).flush()
        if row["verdict"] != "done":  # of one that is done the pictures follow
            writers.pop(cell["name"]).close()

    def pictures(cell: dict[str, Any], pictures: dict[str, Any]) -> None:
        for name in ("samples", "originals", "reconstructions"):
            if images and name in pictures:
                writer(cell).add_images(name, pictures[name][:images], cell["epochs"])
        writers.pop(cell["name"], writer(cell)).close()

    def close() -> None:
        for one in writers.values():
            one.close()

    return ganzoo.Listener(row=row, point=point, pictures=pictures, close=close)
