"""The pictures of a run: samples, reconstructions, the training images nearest to them."""

from typing import Any, NamedTuple

import numpy as np

from ganzoo.report.page.contenders import ContenderShown
from ganzoo.report.page.grids import Picture, picture
from ganzoo.report.page.run_folder import RunFolder, pictures_of
from ganzoo.report.page.standings import Standings

PICTURE_BYTES = 1_900_000
"""Of all pictures together, as text."""
SHOWN = ("samples", "samples_nearest", "samples_nearest", "reconstructions", "originals", "nearest")
"""What of a cell's pictures is shown; the nearest images with the samples that they are nearest to."""


class PicturesShown(NamedTuple):
    contender: ContenderShown
    seed: int
    samples: Picture | None
    number: int
    nearest: Picture | None
    """Samples and, below each, the training image that is nearest to it."""
    nearest_errors: list[str]
    reconstructions: Picture | None
    errors: list[str]
    mean: str
    """Over all test images."""


class Originals(NamedTuple):
    images: Picture
    number: int
    nearest: Picture | None
    nearest_errors: list[str]


class Kept(NamedTuple):
    by_label: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]
    """Of each contender its first finished seed's row and pictures."""
    shown: list[PicturesShown]
    originals: Originals | None
    said: list[str]


def kept_of(run: RunFolder, contenders: list[ContenderShown]) -> Kept:
    by_label: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}
    said: list[str] = []
    for contender in contenders:
        for row in contender.done:
            found, why = pictures_of(run, row)
            if why:
                said.append(why)
            if found:
                by_label[contender.label] = row, found
                break
    images = sum(len(found.get(name, ())) for _, found in by_label.values() for name in SHOWN)
    budget = PICTURE_BYTES * 3 / 4 / max(1, images)
    shown = [
        _of_contender(contender, *by_label[contender.label], budget)
        for contender in contenders
        if contender.label in by_label
    ]
    originals = next((made for _, found in by_label.values() if (made := _originals(found, budget))), None)
    return Kept(by_label, shown, originals, said)


def by_rank(shown: list[PicturesShown], standings: Standings) -> list[PicturesShown]:
    places = {row.contender.label: i for i, row in enumerate(standings.rows)}
    return sorted(shown, key=lambda one: places[one.contender.label])


def _of_contender(
    contender: ContenderShown, row: dict[str, Any], found: dict[str, np.ndarray], budget: float
) -> PicturesShown:
    samples, errors, again = found.get("samples"), found.get("errors"), found.get("reconstructions")
    across = int(found["across"]) if "across" in found else 8
    made = nearest = None
    number = 0
    if samples is not None and len(samples):
        across = min(max(1, across), len(samples))
        for rows in range(-(-len(samples) // across), 0, -1):
            number = min(rows * across, len(samples))
            if made := picture(samples[:number], across, int(budget * len(samples))):
                break
    of = found.get("samples_nearest")
    if samples is not None and of is not None and 0 < len(of) <= len(samples) and of.shape[1:] == samples.shape[1:]:
        nearest = picture(np.concatenate([samples[: len(of)], of]), len(of), int(2 * budget * len(of)))
    return PicturesShown(
        contender, row["seed"], made, number, nearest, _numbers(found.get("samples_nearest_errors")),
        _strip(again, budget), _numbers(errors)[: 0 if again is None else len(again)],
        "" if errors is None else f"{errors.mean():.4f}",
    )  # fmt: skip


def _strip(images: np.ndarray | None, budget: float) -> Picture | None:
    return None if images is None or not len(images) else picture(images, len(images), int(budget * len(images)))


def _originals(found: dict[str, np.ndarray], budget: float) -> Originals | None:
    images, near = found.get("originals"), found.get("nearest")
    made = _strip(images, budget)
    if images is None or made is None:
        return None
    nearest = _strip(near, budget) if near is not None and near.shape == images.shape else None
    return Originals(made, len(images), nearest, _numbers(found.get("nearest_errors")))


def _numbers(values: np.ndarray | None) -> list[str]:
    return [] if values is None else [f"{value:.3f}" for value in values[:64].tolist()]
