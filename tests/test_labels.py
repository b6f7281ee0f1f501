"""Which images keep their labels: drawn by seed, stratified, disjoint, and each slip said in one line."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganzoo.bench import prepare
from ganzoo.config import Plan
from ganzoo.data import ImageSet, Labelling, draw_labels
from ganzoo.errors import UserError
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]
COUNTS = (7, 12, 5)


def numbered(counts: tuple[int, ...] = COUNTS) -> ImageSet:
    """Image i holds i; the classes are dealt out at random."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).clone()
    return ImageSet("numbered", images, labels, tuple("abcdefgh"[: len(counts)]))


def numbers(images: ImageSet | None) -> list[int]:
    return [] if images is None else images.images[:, 0, 0, 0].tolist()


def counts_of(images: ImageSet, classes: int = len(COUNTS)) -> list[int]:
    assert images.labels is not None
    return images.labels.bincount(minlength=classes).tolist()


def right_labels(found: Labelling, whole: ImageSet) -> bool:
    assert whole.labels is not None
    parts = [part for part in (found.labelled, found.held_out) if part is not None]
    return all(torch.equal(part.labels, whole.labels[numbers(part)]) for part in parts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 9), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 1000))
def test_so_many_images_of_each_class_keep_their_labels_and_all_the_others_lose_them(
    counts: list[int], per_class: int, seed: int
) -> None:
    whole = numbered(tuple(counts))
    found = draw_labels(whole, per_class, seed=seed)
    assert counts_of(found.labelled, len(counts)) == [per_class] * len(counts)
    assert right_labels(found, whole)
    assert found.held_out is None
    assert sorted(numbers(found.labelled) + numbers(found.unlabelled)) == list(range(len(whole.images)))
    assert found.unlabelled is None or found.unlabelled.labels is None
    assert numbers(found.labelled) == sorted(numbers(found.labelled))


def test_the_subset_is_a_function_of_the_seed_alone() -> None:
    whole = numbered()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawn = [numbers(draw_labels(whole, 3, seed=seed).labelled) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(numbers) for numbers in drawn}) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_each_image_of_a_class_is_as_likely_to_keep_its_label() -> None:
    whole = numbered((6, 4))
    times = torch.zeros(10)
    for seed in range(300):
        times[numbers(draw_labels(whole, 2, seed=seed).labelled)] += 1
    assert whole.labels is not None
    for label, share in ((0, 2 / 6), (1, 2 / 4)):
        # 300 draws: a standard deviation is at most 0.03.
        assert (times[whole.labels == label] / 300 - share).abs().max() < 0.1


def test_more_labels_of_the_same_seed_include_the_fewer() -> None:
    whole = numbered()
    few, more = (set(numbers(draw_labels(whole, per_class, seed=4).labelled)) for per_class in (2, 4))
    assert few < more


def test_without_a_number_all_images_keep_their_labels_in_their_order() -> None:
    whole = numbered()
    found = draw_labels(whole, None, seed=0)
    assert found.labelled.sha256 == whole.sha256
    assert found.unlabelled is None
    assert found.learnt is whole
    # As many as there are: nothing is left over, either.
    same = draw_labels(numbered((4, 4)), 4, seed=0)
    assert numbers(same.labelled) == list(range(8))
    assert same.unlabelled is None


@pytest.mark.parametrize("per_class", [None, 4, 5])
@pytest.mark.parametrize("folds", [2, 3, 4])
def test_folds_part_the_labelled_images_class_by_class(per_class: int | None, folds: int) -> None:
    whole = numbered()
    labelled = numbers(draw_labels(whole, per_class, seed=5).labelled)
    unlabelled = numbers(draw_labels(whole, per_class, seed=5).unlabelled)
    dealt = [draw_labels(whole, per_class, seed=5, folds=folds, fold=fold) for fold in range(folds)]
    held = [numbers(found.held_out) for found in dealt]
    assert sorted(itertools.chain(*held)) == labelled  # disjoint, and all of them
    for found, out in zip(dealt, held, strict=True):
        assert right_labels(found, whole)
        assert numbers(found.labelled) == sorted(set(labelled) - set(out))
        assert numbers(found.unlabelled) == unlabelled  # the same for every fold
        assert numbers(found.learnt) == sorted({*range(len(whole.images))} - set(out))
    for label in range(len(COUNTS)):
        sizes = [counts_of(found.held_out)[label] for found in dealt if found.held_out is not None]
        assert len(sizes) == folds
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"per_class": 6}, r"labels.per_class = 6, but class 'c' has 5 images in the training part of numbered"),
        ({"per_class": 3, "folds": 4}, r"labels.folds = 4, but class 'a' has 3 labelled images to deal out"),
        ({"per_class": None, "folds": 6}, r"labels.folds = 6, but class 'c' has 5 labelled images to deal out"),
    ],
)
def test_more_labels_than_images_and_more_folds_than_labels_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        draw_labels(numbered(), seed=0, **arguments)
    assert "\n" not in str(caught.value)


def test_a_class_without_an_image_is_named_where_labels_of_it_are_asked_for() -> None:
    with pytest.raises(UserError, match="class 'b' has no image in the training part of numbered"):
        draw_labels(numbered((3, 0, 3)), 1, seed=0)


def test_a_rare_class_that_fell_into_another_part_is_no_hindrance_where_all_labels_are_kept() -> None:
    found = draw_labels(numbered((3, 0, 3)), None, seed=0)
    assert len(found.labelled.images) == 6
    assert found.unlabelled is None


def test_images_without_labels_have_none_to_keep() -> None:
    with pytest.raises(UserError, match="numbered has no labels to keep"):
        draw_labels(numbered()._replace(labels=None, classes=()), 2, seed=0)


# Through a plan, before anything is written


def npz(path: Path, labels: Tensor | None, count: int = 48) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, **({} if labels is None else {"labels": labels.numpy()}))
    return {"data.set": "npz", "data.path": str(path), "data.split": [24, 12, 12], "data.shuffle": False}


SEMI = "cls-gan:unlabeled_weight=1.0"


@pytest.mark.parametrize(
    ("objective", "changes", "match"),
    [
        (SEMI, {}, "needs unlabelled images, and all are labelled; .*--set labels.per_class=10"),
        (SEMI, {"labels.per_class": 13}, "labels.per_class = 13, but class '0' has 12 images in the training part"),
        (SEMI, {"labels.per_class": 12}, "needs unlabelled images, and every training image is labelled"),
        (SEMI, {"labels.per_class": 3}, f"{SEMI} has 6 labelled images to learn from, which make no batch of 8; lower"),
        (SEMI, {"labels.per_class": 10}, f"{SEMI} has 4 unlabelled images to learn from, which make no batch of 8"),
        ("cls-gan", {"labels.per_class": 3}, "cls-gan has 6 labelled images to learn from, which make no batch of 8"),
        (SEMI, {"labels.per_class": 6, "labels.folds": 7}, "labels.folds = 7, but class '0' has 6 labelled images"),
        (SEMI, {"labels.per_class": 5, "labels.folds": 2}, "has 4 labelled images to learn from, which make no batch"),
        ("dcgan", {"labels.folds": 2, "measure": "mre"}, "labels.folds = 2 holds out labelled images to classify"),
        ("supervised", {"measure": "mre"}, "supervised trains no generator, .*--set measure=accuracy"),
    ],
)
def test_labels_that_do_not_suffice_are_refused_before_anything_is_written(
    objective: str, changes: dict[str, Any], match: str, tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    data = npz(tmp_path / "x.npz", torch.arange(48) % 2)
    asked = {"measure": "accuracy", "batch_size": 8, **data, **changes}
    with pytest.raises(UserError, match=match) as caught:
        prepare(tiny(objectives=[objective], **asked), zoo)
    assert "\n" not in str(caught.value)


def test_what_suffices_is_prepared(tiny: MakePlan, zoo: Zoo, tmp_path: Path) -> None:
    data = npz(tmp_path / "x.npz", torch.arange(48) % 2)
    plan = tiny(
        objectives=[SEMI, "dcgan"], measure="accuracy", batch_size=8, seeds=2, **data, **{"labels.per_class": 8}
    )
    assert len(prepare(plan, zoo).cells) == 4


@pytest.mark.parametrize("objective", ["dcgan", "supervised"])
def test_accuracy_asks_for_labelled_images_of_two_classes(
    objective: str, tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    for labels, has in ((None, "no labels"), (torch.zeros(48, dtype=torch.int64), "1")):
        data = npz(tmp_path / "x.npz", labels)
        with pytest.raises(UserError, match=rf"needs images of at least 2 classes; npz has {has}"):
            prepare(tiny(objectives=[objective], measure="accuracy", **data), zoo)
        if objective == "dcgan":
            prepare(tiny(objectives=[objective], **data), zoo)
