"""Few labelled images among many: which ones, and which of them are held out."""

from typing import NamedTuple

import torch

from ganzoo.data.image_set import ImageSet
from ganzoo.errors import UserError
from ganzoo.randomness import stream


class Labelling(NamedTuple):
    """A training set in disjoint parts."""

    labelled: ImageSet
    """What may be learnt from with its labels."""
    unlabelled: ImageSet | None
    """The remaining images, `labels` None; None where all are labelled."""
    held_out: ImageSet | None
    """The fold of the labelled images that validates; None without folds."""
    learnt: ImageSet
    """All but the fold that is held out: what an unconditional game plays with, whichever of them are labelled."""


def draw_labels(
    train: ImageSet, per_class: int | None, *, seed: int, folds: int | None = None, fold: int = 0
) -> Labelling:
    """Keep the labels of `per_class` images of each class, drawn by (seed, class); None keeps them all.

    With `folds` the labelled images are dealt, class by class, into so many equal parts, and part `fold` is held out
    (Qi 2017, sec. 9.4: five-fold cross-validation on the labelled examples). The unlabelled images are the same for
    every fold. Raises UserError for unlabelled data, a class with fewer images than asked for, and more folds than
    labelled images of a class.
    """
    if train.labels is None or not train.classes:
        raise UserError(f"{train.name} has no labels to keep")
    kept, held = [], []
    for label, name in enumerate(train.classes):
        places = (train.labels == label).nonzero().flatten()
        wanted = len(places) if per_class is None else per_class
        if per_class is None and not len(places):
            continue  # a rare class that fell into another part
        if not len(places):
            raise UserError(f"class '{name}' has no image in the training part of {train.name}")
        if wanted > len(places):
            raise UserError(
                f"labels.per_class = {wanted}, but class '{name}' has {len(places)} images in the training part of"
                f" {train.name}"
            )
        if folds is not None and folds > wanted:
            raise UserError(f"labels.folds = {folds}, but class '{name}' has {wanted} labelled images to deal out")
        chosen = places[torch.randperm(len(places), generator=stream("labelled", seed, label))[:wanted]]
        part = torch.arange(wanted) % folds == fold if folds is not None else torch.zeros(wanted, dtype=torch.bool)
        kept.append(chosen[~part])
        held.append(chosen[part])
    labelled, held_out = torch.cat(kept).sort().values, torch.cat(held).sort().values
    rest = torch.ones(len(train.images), dtype=torch.bool)
    rest[held_out] = False
    learnt = train if folds is None else train.part(rest)
    rest[labelled] = False
    unlabelled = train._replace(labels=None).part(rest) if rest.any() else None
    return Labelling(train.part(labelled), unlabelled, None if folds is None else train.part(held_out), learnt)
