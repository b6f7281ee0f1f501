"""How generated images lie among held-out ones: Frechet and kernel distances, precision and recall, of features.

Of Inception's features they are called fid, kid, precision and recall, and its weights come from a file that is here:
nothing is downloaded. Of the features of a small classifier trained here on the training split they are another figure
with another name, classifier-fd and so on: comparable within one data set and split, and with nobody's FID.

The arithmetic is torch-fidelity's.
"""

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganzoo.data import ImageSet, Splits
from ganzoo.errors import UserError, did_you_mean
from ganzoo.features import TRAINED_HERE, Networks, read_state

INCEPTION, CLASSIFIER = "inception", "classifier"
NAMES = {
    "fid": (INCEPTION, "frechet"),
    "kid": (INCEPTION, "kernel"),
    "precision": (INCEPTION, "precision"),
    "recall": (INCEPTION, "recall"),
    "classifier-fd": (CLASSIFIER, "frechet"),
    "classifier-kd": (CLASSIFIER, "kernel"),
    "classifier-precision": (CLASSIFIER, "precision"),
    "classifier-recall": (CLASSIFIER, "recall"),
}
"""Metric -> (whose features, which distance)."""
HIGHER = ("precision", "recall")
"""Distances of which more is better."""
LAYER = "flat"
"""Of the classifier: the mean of its last maps, before the classes."""
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"
FEWEST = 5
"""Images: a ball around an image has its 3 nearest neighbours in it."""
NEIGHBOURS = 3
"""Of an image, in whose ball others lie   (Kynkaanniemi et al. 2019, sec. 2)."""
SUBSET, SUBSETS = 1000, 100
"""Images of a kernel distance and how often they are drawn; of fewer images all are taken, once."""
CHUNK = 128
"""Images at a time."""

Extract = Callable[[Tensor], Tensor]
"""(N, C, H, W) uint8 -> (N, d) float64, on the CPU."""


class Metric(NamedTuple):
    """A metric as a plan asks for it."""

    name: str
    weights: Path | None

    @property
    def network(self) -> str:
        return NAMES[self.name][0]

    @property
    def higher_is_better(self) -> bool:
        return NAMES[self.name][1] in HIGHER


def metric_of(text: str) -> Metric:
    """`fid`, `fid:weights=FILE`, `classifier-fd`. Raises UserError for another name or key."""
    name, colon, rest = text.partition(":")
    if name not in NAMES:
        hint = "; is it classifier-fd?" if name in ("classifier-fid", "fd") else did_you_mean(name, NAMES)
        raise UserError(f"no metric named '{name}'{hint}")
    key, _, value = rest.partition("=")
    if colon and (key != "weights" or not value or NAMES[name][0] == CLASSIFIER):
        wanted = "it takes weights=FILE" if NAMES[name][0] == INCEPTION else "it is trained here and takes none"
        raise UserError(f"metric '{text}': {wanted}")
    return Metric(name, Path(value) if value else None)


def metrics_of(texts: tuple[str, ...]) -> list[Metric]:
    """Those of a plan. Raises UserError as `metric_of`, and where one is asked for twice."""
    found = [metric_of(text) for text in texts]
    for metric in found:
        if [one.name for one in found].count(metric.name) > 1:
            raise UserError(f"metrics: {metric.name} is asked for twice")
    return found


def require_metrics(texts: tuple[str, ...], measure: str, data: Splits, test_images: int) -> None:
    """Raises UserError where a plan's metrics could not be had at the end: before a run, not after it."""
    found = metrics_of(texts)
    if not found:
        return
    if measure != "mre":
        raise UserError(f"metrics = [{found[0].name}] are of generated images; take them with measure = mre")
    if (few := min(test_images, len(data.test.images))) < FEWEST:
        raise UserError(f"{found[0].name} needs {FEWEST} test images or more; there are {few}")
    _library()
    for metric in found:
        if metric.network == INCEPTION:
            read_state(weights_of(metric))
            if data.train.image_shape[0] not in (1, 3):
                raise UserError(f"{metric.name}: Inception sees grey or RGB, not {data.train.image_shape[0]} channels")
        elif data.train.labels is None or len(torch.unique(data.train.labels)) < 2:
            raise UserError(
                f"{metric.name} trains a classifier on the training images' labels, and {data.train.name} has"
                f" {'one class' if data.train.labels is not None else 'none'}; fid:weights=FILE needs no labels"
            )


def weights_of(metric: Metric) -> Path:
    """The file of Inception's weights: the one asked for, or torch's cached one. Raises UserError where it is not
    there; nothing is downloaded."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    path = cached if metric.weights is None else metric.weights.expanduser()
    if not path.is_file():
        raise UserError(
            f"{metric.name} needs Inception's weights of 2015-12-05, and there is no file {path}: get {SOURCE} and name"
            f" it, {metric.name}:weights=FILE; nothing is downloaded (classifier-fd needs none)"
        )
    return path


def _library() -> Any:
    try:
        from torch_fidelity import metric_fid, metric_kid, metric_prc
    except ImportError:
        raise UserError(
            "metrics are computed by torch-fidelity, which is not here: pip install 'ganzoo[metrics]'"
        ) from None
    return metric_fid, metric_kid, metric_prc


# Distances


def frechet(real: Tensor, fake: Tensor) -> float:
    """||m - m'||^2 + tr(S + S' - 2 (S S')^(1/2)) of (N, d) and (M, d) features, means m and covariances S   (Heusel et
    al. 2017)."""
    fid, _, _ = _library()
    one, two = (fid.fid_features_to_statistics(features.double().cpu()) for features in (real, fake))
    return float(fid.fid_statistics_to_metric(one, two, verbose=False)[fid.KEY_METRIC_FID])


def kernel(real: Tensor, fake: Tensor) -> float:
    """The unbiased MMD^2 with the kernel (x'y / d + 1)^3   (Binkowski et al. 2018); can lie below 0."""
    _, kid, _ = _library()
    size = min(SUBSET, len(real), len(fake))
    drawn = SUBSETS if size < max(len(real), len(fake)) else 1
    found = kid.kid_features_to_metric(
        fake.double().cpu(), real.double().cpu(), kid_subsets=drawn, kid_subset_size=size, rng_seed=0, verbose=False
    )
    return float(found[kid.KEY_METRIC_KID_MEAN])


def precision_and_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The share of fake features within the ball of some real one, and the reverse; a ball reaches to the third nearest
    of its own kind   (Kynkaanniemi et al. 2019)."""
    _, _, prc = _library()
    found = prc.prc_features_to_metric(
        fake.double().cpu(), real.double().cpu(), prc_neighborhood=NEIGHBOURS, prc_batch_size=10_000, verbose=False
    )
    return float(found[prc.KEY_METRIC_PRECISION]), float(found[prc.KEY_METRIC_RECALL])


def distance(kind: str, real: Tensor, fake: Tensor) -> float:
    """`kind`: frechet, kernel, precision, recall."""
    if kind in ("frechet", "kernel"):
        return {"frechet": frechet, "kernel": kernel}[kind](real, fake)
    return precision_and_recall(real, fake)[kind == "recall"]


# Features


class Extractor(NamedTuple):
    extract: Extract
    sha256: str
    """Of the weights."""


def extractor(metric: Metric, train: ImageSet, device: torch.device) -> Extractor:
    """The network whose features a metric compares; kept by the process. Raises UserError."""
    if metric.network == INCEPTION:
        path = weights_of(metric)
        return _inception(str(path), path.stat().st_mtime_ns, device)
    return _classifier(train, device)


@lru_cache(maxsize=1)
def _inception(path: str, changed: int, device: torch.device) -> Extractor:
    """torch-fidelity's, which is TensorFlow's of 2015. What it would unpickle without a look was read safely before."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    state = dict(read_state(Path(path)))
    safe = io.BytesIO()
    torch.save(state, safe)
    safe.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)
    except (RuntimeError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path} holds no weights of Inception as of 2015-12-05 ({WEIGHTS}): {said}") from None
    network = network.to(device).eval()

    def extract(images: Tensor) -> Tensor:
        found: tuple[Tensor, ...] = network(images.to(device).expand(-1, 3, -1, -1))
        return found[0].double().cpu()

    return Extractor(extract, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def _classifier(train: ImageSet, device: torch.device) -> Extractor:
    networks = Networks(train, device)
    network = networks(TRAINED_HERE, layer=LAYER)
    (sha256,) = networks.sha256s.values()

    def extract(images: Tensor) -> Tensor:
        found: Tensor = network(images.to(device) / 127.5 - 1)
        return found.flatten(1).double().cpu()

    return Extractor(extract, sha256)


def features_of(extract: Extract, images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> (N, d) float64."""
    with torch.no_grad():
        return torch.cat([extract(part) for part in torch.split(images, CHUNK)])


def measured(
    texts: tuple[str, ...], train: ImageSet, real: Tensor, fake: Tensor, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Each metric of `fake` against `real`, both (N, C, H, W) uint8; and the sha256 of each network's weights.

    The same images, weights, device and thread count give the same figures.
    """
    values: dict[str, float] = {}
    hashes: dict[str, str] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for metric in metrics_of(texts):
        network = metric.network
        if network not in seen:
            extract, hashes[f"metric {network}"] = extractor(metric, train, device)
            seen[network] = features_of(extract, real), features_of(extract, fake)
        values[metric.name] = distance(NAMES[metric.name][1], *seen[network])
    return values, hashes
