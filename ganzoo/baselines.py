"""What a comparison has to beat: reconstructions without a generator, classes without a network."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from ganzoo.data import ImageSet, draw_labels
from ganzoo.errors import UserError
from ganzoo.mre import scaled


def baselines(train: Tensor, test: Tensor, z_dim: int) -> dict[str, float]:
    """The mean |x - reconstruction| over the test images, pixels in [-1, 1], of each baseline:

    `training mean`: the mean training image, whatever x is;
    `pca-{k}`: x projected on the training set's first k = min(z_dim, training images, pixels) principal
    components, clipped to [-1, 1];
    `nearest training image`: the training image with the least mean |x - x'|.

    train, test: (N, C, H, W) of one image shape, float in [-1, 1] or uint8; at least 2 training images.
    Raises UserError.
    """
    train, test = scaled(train), scaled(test)
    if train.shape[1:] != test.shape[1:]:
        raise UserError(f"training images are {tuple(train.shape[1:])}, test images {tuple(test.shape[1:])}")
    if len(train) < 2 or z_dim < 1:
        raise UserError(
            f"baselines need 2 training images or more, not {len(train)}, and z_dim at least 1, not {z_dim}"
        )
    known, x = train.flatten(1).float(), test.flatten(1).float().to(train.device)  # (M, pixels), (N, pixels)
    components = min(z_dim, *known.shape)
    return {
        "training mean": _distance(x, known.mean(0)),
        f"pca-{components}": _distance(x, _pca(known, x, components)),
        "nearest training image": _nearest(known, x),
    }


def classifying_baselines(
    train: ImageSet, test: ImageSet, per_class: int | None, seeds: Iterable[int], folds: int | None = None
) -> dict[str, float]:
    """The share of images given their right class, the mean over the labelled subsets of the seeds, by

    `largest class`: the commonest class of the labelled images, whatever x is;
    `nearest labelled image`: the class of the labelled image with the least mean |x - x'|.

    Of the test images; with `folds` of each fold of the labelled ones in turn, and the test images are not looked at.
    """
    found: dict[str, list[float]] = {"largest class": [], "nearest labelled image": []}
    differ = per_class is not None or folds is not None
    for seed, fold in itertools.product(seeds if differ else [0], range(folds or 1)):
        known, _, held_out, _ = draw_labels(train, per_class, seed=seed, folds=folds, fold=fold)
        asked = test if held_out is None else held_out
        assert known.labels is not None
        assert asked.labels is not None
        x, images = scaled(asked.images).flatten(1), scaled(known.images).flatten(1)
        nearest = torch.cat([torch.cdist(part, images, p=1).argmin(1) for part in torch.split(x, 256)])
        guesses = {"largest class": known.labels.mode().values, "nearest labelled image": known.labels[nearest]}
        for name, guess in guesses.items():
            found[name].append(float((guess == asked.labels).double().mean()))
    return {name: sum(values) / len(values) for name, values in found.items()}


def _distance(x: Tensor, reconstruction: Tensor) -> float:
    return float((x - reconstruction).abs().mean(1).double().mean())


def _pca(known: Tensor, x: Tensor, components: int) -> Tensor:
    from sklearn.decomposition import PCA  # a second of import that training need not pay

    # Both solvers are exact and deterministic; the covariance is the cheaper one unless there are more
    # pixels than images.
    solver = "covariance_eigh" if len(known) >= known.shape[1] else "full"
    pca = PCA(components, svd_solver=solver).fit(known.cpu().numpy())
    found = torch.from_numpy(pca.inverse_transform(pca.transform(x.cpu().numpy())))
    return found.to(x).clamp(-1, 1)


def _nearest(known: Tensor, x: Tensor, chunk: int = 256) -> float:
    least = torch.cat([torch.cdist(part, known, p=1).amin(1) for part in torch.split(x, chunk)])  # summed over pixels
    return float(least.double().mean()) / x.shape[1]
