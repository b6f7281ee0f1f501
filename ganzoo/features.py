"""Frozen networks whose feature maps a margin compares   (Qi 2017, sec. 9.2: Inception and VGG-16).

A network is one of torchvision's classifiers, cut off at a named layer, or a small one trained here, on the labels of
the training split. Features of the critic itself are to be avoided: they collapse together with the margin.
"""

import hashlib
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.data.batches import Batches, scaled
from ganzoo.data.image_set import ImageSet
from ganzoo.errors import UserError, did_you_mean
from ganzoo.randomness import derive, seeded, stream

TRAINED_HERE = "trained-here"
DOWNLOAD, RANDOM = "download", "random"
"""The two values of `weights` that name no file."""

LAYERS = {"vgg16": "features.22", "inception_v3": "Mixed_5d"}
"""The layer of a network where none is asked for: conv4_3 with its ReLU; the last block before the maps shrink."""
BUILT_WITH: dict[str, dict[str, Any]] = {
    name: {"transform_input": True, "aux_logits": True} for name in ("inception_v3", "googlenet")
}
"""What torchvision builds these with when it loads its own weights; else they mean another function."""

PAIRS = 64
"""Of training images, over which the unit of features is measured."""

STEPS, BATCH, RATE, WIDTH = 600, 64, 2e-3, 16
"""How the classifier is trained here: Adam steps, images in each, its rate, channels of the first layer."""
SMALLEST_MAP = 4
"""Its layers halve the side until it is at most this."""
LARGEST_INPUT = 64
"""Larger images are resized to this for it, where no size is asked for: its cost is bounded."""
JUDGED = 10_000
"""Training images over which its accuracy is taken, at most."""

_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, pickle.UnpicklingError)
# What torch.load raises for absent, truncated or foreign files.


class FeatureNetwork(nn.Module):
    """f(x): (N, C, H, W) in [-1, 1] -> (N, ...), the maps of one layer; frozen, and always in eval mode.

    Grey images are repeated to the network's channels, every image is resized to size x size (bilinear, antialiased)
    and normalised. Computed in the dtype of the weights, returned in the images'. Gradients reach the images only.
    """

    centre: Tensor
    spread: Tensor
    unit: Tensor
    """The maps are divided by it (float, > 0): see `Networks`."""
    training_accuracy: float | None
    """Of a network that was trained here, on the training split, in [0, 1]."""

    def __init__(
        self, network: nn.Module, size: int, mean: Iterable[float], std: Iterable[float], accuracy: float | None = None
    ) -> None:
        """`mean` and `std` are a channel's, of pixels in [0, 1]."""
        super().__init__()
        self.network, self.size, self.training_accuracy = network, size, accuracy
        # (x + 1) / 2 is the pixel in [0, 1], so (x - (2 mean - 1)) / (2 std) is that pixel normalised.
        self.register_buffer("centre", 2 * torch.tensor([*mean])[:, None, None] - 1, persistent=False)
        self.register_buffer("spread", 2 * torch.tensor([*std])[:, None, None], persistent=False)
        self.register_buffer("unit", torch.tensor(1.0), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stays in eval mode: a network with batch statistics would be another one in each batch."""
        return super().train(False)

    def prepared(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, channels, size, size), as the network wants it."""
        channels = len(self.centre)
        if images.dim() != 4 or images.shape[1] not in (1, channels):
            raise UserError(
                f"features are made of grey images or of {channels} channels, (N, {channels}, H, W);"
                f" these are {tuple(images.shape)}"
            )
        x = images.to(self.centre.dtype).expand(-1, channels, -1, -1)
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return (x - self.centre) / self.spread

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.prepared(images))[_MAPS]
        return (features / self.unit).to(images.dtype)


class Networks:
    """The feature networks of one training, each made when it is first asked for and then kept.

    Features come in a unit of their own: divided by the constant that makes mean |f(x) - f(x')|, over pairs of
    training images, equal mean |x - x'| of the same pairs. So a margin's scale means the same for every network
    and for raw pixels. Without `images` they are as the network gives them.
    """

    sha256s: dict[str, str]
    """`vgg16:layer=features.22,size=224` -> hex digest over the weights used, the layer and the size."""
    training_accuracies: dict[str, float]
    """The same keys, of networks that were trained here."""

    def __init__(
        self, images: ImageSet | None, device: torch.device | str = "cpu", seed: int = 0, steps: int = STEPS
    ) -> None:
        """`images`: the training split; `steps`: of Adam, for a network trained here (1 to try things out)."""
        self.sha256s, self.training_accuracies = {}, {}
        self._images, self._device, self._seed, self._steps = images, torch.device(device), seed, steps
        self._made: dict[tuple[str, str | None, str | None, int | None], FeatureNetwork] = {}

    def __call__(
        self, name: str, layer: str | None = None, weights: str | None = None, size: int | None = None
    ) -> FeatureNetwork:
        """The network `name`, cut off at `layer`, on the device.

        `name`: one of torchvision's classifiers, or "trained-here": a small classifier trained on the labels of the
        training split. `layer`: a node of the network (`torchvision.models.feature_extraction`); by default conv4_3 of
        vgg16, Mixed_5d of inception_v3, the last map trained here. `weights`: the file of a state dict; "download"
        for torchvision's own (its default ones), which are taken without being asked for where they are in torch's
        cache already; "random", by the seed, for tests and ablations. `size`: the side that images are resized to; by
        default what torchvision's weights were made for, and the images' own, up to 64, for a network trained here.

        Raises UserError for names, weights and sizes that there are not or that do not fit.
        """
        asked = (name, layer, weights, size)
        if asked not in self._made:
            made = _made(self._images, self._device, self._seed, self._steps, *asked)
            self.sha256s[made.key], self._made[asked] = made.sha256, made.network
            if made.network.training_accuracy is not None:
                self.training_accuracies[made.key] = made.network.training_accuracy
        return self._made[asked]


class _Made(NamedTuple):
    network: FeatureNetwork
    key: str
    sha256: str


@lru_cache(maxsize=4)  # the cells of one process share what a minute of training made; frozen, it can be shared
def _made(
    images: ImageSet | None,
    device: torch.device,
    seed: int,
    steps: int,
    name: str,
    layer: str | None,
    weights: str | None,
    size: int | None,
) -> _Made:
    # The first call may come from inside a margin: no gradients there, and somebody else's random state.
    with torch.inference_mode(False), torch.enable_grad(), seeded("features", name, seed):
        if name == TRAINED_HERE:
            if weights is not None:
                raise UserError(f"{TRAINED_HERE} learns its weights from the training split; it takes no weights")
            network, layer = trained_here(images, device, seed, layer, size, steps)
        else:
            network, layer = pretrained(name, layer, weights, size)
        network.to(device)
        _look_at(network, name, layer)
        if images is not None:
            network.unit.fill_(_unit(network, images, seed, f"{name} at layer '{layer}'"))
    key = f"{name}:layer={layer},size={network.size}" + ("" if weights is None else f",weights={weights}")
    return _Made(network, key, features_sha256(network, layer))


def features_sha256(network: FeatureNetwork, layer: str) -> str:
    """Hex digest over the weights and buffers up to the layer, the layer's name and the size."""
    digest = hashlib.sha256(f"{layer} {network.size}".encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _look_at(network: FeatureNetwork, name: str, layer: str) -> None:
    """Two images through it: what does not fit is said in one line before the first round."""
    device, size = network.centre.device, network.size
    try:
        with torch.no_grad():
            features: Any = network(torch.zeros(2, len(network.centre), size, size, device=device))
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} gives no features of {size} x {size} pixels at layer '{layer}': {reason}") from error
    if features.dim() < 2 or len(features) != 2 or not features.is_floating_point():
        raise UserError(f"{name}: layer '{layer}' gives {tuple(features.shape)} for 2 images, not (2, ...)")


def _unit(network: FeatureNetwork, images: ImageSet, seed: int, who: str) -> float:
    """mean |f(x) - f(x')| / mean |x - x'| over fixed pairs of different images."""
    order = torch.randperm(len(images.images), generator=stream("feature pairs", seed))
    count = min(PAIRS, len(order) // 2)
    if not count:
        raise UserError(f"{who}: pairs of training images are wanted, and {images.name} has only {len(order)}")
    apart = torch.zeros(2, dtype=torch.float64)
    for i, j in zip(torch.split(order[:count], 8), torch.split(order[count : 2 * count], 8), strict=True):
        x, other = (scaled(images.images[drawn]).to(network.centre.device) for drawn in (i, j))
        with torch.no_grad():
            for place, difference in enumerate((network(x) - network(other), x - other)):
                apart[place] += difference.double().abs().flatten(1).mean(dim=1).sum().cpu()
    features, pixels = float(apart[0]) / count, float(apart[1]) / count
    if not 0 < features < math.inf or not pixels:
        raise UserError(
            f"{who}: the mean distance between training images is {features:g} in features and {pixels:g} in pixels;"
            " no unit can be had from that, choose another layer or other images"
        )
    return features / pixels


# Torchvision's


def pretrained(
    name: str, layer: str | None = None, weights: str | None = None, size: int | None = None
) -> tuple[FeatureNetwork, str]:
    """torchvision's classifier of that name up to a layer, and the layer's name; on the CPU.

    Arguments as of `Networks.__call__`; `weights = "random"` draws from torch's default generator.
    """
    from torchvision import models  # a second of import that raw pixels need not pay
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"no network named '{name}'{did_you_mean(name, [TRAINED_HERE, *names])}")
    known = models.get_model_weights(name).DEFAULT
    wanted = known.transforms()
    size = _size(name, size, wanted.crop_size[0], max(known.meta.get("min_size", (1, 1))))
    # Nobody waits for the initial weights of a network that gets others.
    options = {**BUILT_WITH.get(name, {}), **_initialised(name, weights == RANDOM)}
    state = None if weights == RANDOM else state_of(name, known.url, weights)
    whole = models.get_model(name, weights=None, **options)
    _, nodes = get_graph_node_names(whole, suppress_diff_warning=True)
    layer = _layer(name, layer, nodes[1:])  # the first is the input
    try:
        network = create_feature_extractor(whole, {layer: _MAPS}, suppress_diff_warning=True)
    except ValueError as error:
        raise UserError(f"{name} cannot be cut off at layer '{layer}': {' '.join(str(error).split())}") from error
    if state is not None:
        source = weights if weights not in (None, DOWNLOAD) else known.url.rpartition("/")[2]
        _fill(network, state, set(whole.state_dict()), f"{source}: these are no weights of {name}")
    return FeatureNetwork(network, size, wanted.mean, wanted.std), layer


_MAPS = "maps"


def _initialised(name: str, drawn: bool) -> dict[str, bool]:
    return {"init_weights": drawn} if name.startswith(("vgg", "inception", "googlenet")) else {}


def _size(name: str, asked: int | None, default: int, least: int) -> int:
    if asked is not None and asked < least:
        raise UserError(f"{name} takes images of at least {least} x {least} pixels: size={asked} is too small")
    return default if asked is None else asked


def _layer(name: str, asked: str | None, nodes: list[str]) -> str:
    """The layer asked for, or the default; a block stands for its last node, as it does in torchvision."""
    if asked is None and name in LAYERS:
        return LAYERS[name]
    if asked is not None and any(node == asked or node.startswith(f"{asked}.") for node in nodes):
        return asked
    some = nodes[:: max(1, len(nodes) // 10)]
    if asked is None:
        raise UserError(f"{name} has no default layer: name one with layer=...; there are: {', '.join(some)}, ...")
    near = get_close_matches(asked, nodes, n=1)
    raise UserError(f"{name} has no layer '{asked}'{did_you_mean(asked, {*some, *near})}, ...")


def state_of(name: str, url: str, weights: str | None) -> Mapping[str, Any]:
    """The state dict that `weights` asks for: a file's, torch's cached file's, or a downloaded one.

    Raises UserError where there is none, saying both ways to one.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if weights == DOWNLOAD and not cached.exists():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            # The name ends with the first digits of the file's sha256.
            digest = cached.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(cached), digest, progress=False)
        except (OSError, RuntimeError, ValueError) as error:  # URLError is an OSError
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the weights of {name} could not be downloaded from {url}: {reason}; give a file with weights=FILE"
            ) from error
    if weights is None and not cached.exists():
        raise UserError(
            f"there are no weights of {name} here: give the file of its state dict with weights=FILE, or permit"
            f" torchvision's own ({url}) with weights={DOWNLOAD}; features={TRAINED_HERE} needs none"
        )
    return read_state(cached if weights in (None, DOWNLOAD) else Path(weights))


def read_state(path: Path) -> Mapping[str, Any]:
    """The state dict in a file: names to tensors. Runs no code of the file's. Raises UserError for anything else."""
    try:
        path = path.expanduser()
        if not path.is_file():
            raise UserError(f"no weights at {str(path)[:200]}; give the file of a state dict, or weights={DOWNLOAD}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise UserError(f"{str(path)[:200]} cannot be read as a state dict: {reason}") from error
    content: dict[Any, Any] = dict(state) if isinstance(state, Mapping) else {"its content": state}
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(state, Mapping):
            raise UserError(
                f"{path} holds no state dict: {key} is of type {type(value).__name__};"
                " save one with torch.save(network.state_dict(), FILE)"
            )
    # Old densenet files, torchvision's own among them, write norm.1 where the module is norm1.
    return {re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", str(key)): value for key, value in content.items()}


def _fill(network: nn.Module, state: Mapping[str, Tensor], known: set[str], complaint: str) -> None:
    """Load what the layer needs. Of the layers after it, whose weights are not used, only the names must be right."""
    needed = network.state_dict()
    for key in state:
        if key not in known:
            raise UserError(f"{complaint}: they have '{key}' {tuple(state[key].shape)}, which the network has not")
    for key, value in needed.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                continue  # files of old torch lack it, and eval mode does not use it
            raise UserError(f"{complaint}: '{key}' {tuple(value.shape)} is missing")
        if state[key].shape != value.shape:
            raise UserError(f"{complaint}: '{key}' is {tuple(state[key].shape)}, the network's is {tuple(value.shape)}")
    network.load_state_dict({key: state.get(key, value) for key, value in needed.items()})


# Trained here


def trained_here(
    images: ImageSet | None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    layer: str | None = None,
    size: int | None = None,
    steps: int = STEPS,
) -> tuple[FeatureNetwork, str]:
    """A classifier of the images' labels, cut off at `layer` (the last map), and the layer's name.

    The same images, seed, device and thread count give the same bits. Raises UserError without labels of 2 classes.
    """
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    if images is None:
        raise UserError(f"{TRAINED_HERE} needs training images, and there are none")
    present = 0 if images.labels is None else len(torch.unique(images.labels))
    if present < 2:
        raise UserError(
            f"{TRAINED_HERE} needs labels of at least 2 classes, and {images.name} has {present or 'none'};"
            " choose the features of a torchvision network instead, features=vgg16, say"
        )
    channels, side, _ = images.image_shape
    size = _size(TRAINED_HERE, size, min(side, LARGEST_INPUT), 1)
    halves = [0.5] * channels  # pixels in [-1, 1] stay as they are
    with seeded(TRAINED_HERE, seed):
        network = classifier(channels, size, len(images.classes))
    _, nodes = get_graph_node_names(network)
    layer = _layer(TRAINED_HERE, layer or [node for node in nodes if node.startswith("relu")][-1], nodes[1:])
    whole = FeatureNetwork(network, size, halves, halves).to(device)
    accuracy = _train(whole, images, seed, steps)
    cut = create_feature_extractor(network, {layer: _MAPS})
    return FeatureNetwork(cut, size, halves, halves, accuracy), layer


def classifier(channels: int, size: int, classes: int) -> nn.Sequential:
    """(N, channels, size, size) -> (N, classes): convolutions, each with BatchNorm and ReLU, then the mean of a map.

    The side is halved, and the channels doubled up to four times the first, until a map is at most 4 x 4.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    plan = [(WIDTH, 3, 1)]
    while size > SMALLEST_MAP:
        plan.append((min(2 * plan[-1][0], 4 * WIDTH), 4, 2))
        size //= 2
    plan.append((4 * WIDTH, 3, 1))
    for depth, (width, kernel, stride) in enumerate(plan):
        layers[f"conv{depth}"] = nn.Conv2d(channels, width, kernel, stride, 1, bias=False)
        layers[f"norm{depth}"] = nn.BatchNorm2d(width)
        layers[f"relu{depth}"] = nn.ReLU()
        channels = width
    layers |= {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "linear": nn.Linear(channels, classes)}
    return nn.Sequential(layers)


def _train(whole: FeatureNetwork, images: ImageSet, seed: int, steps: int) -> float:
    """Adam on the cross-entropy, its rate falling to 0; the accuracy afterwards, on the same images."""
    assert images.labels is not None
    network, device = whole.network, whole.centre.device
    batches = Batches(images, min(BATCH, len(images.images)), seed=derive(TRAINED_HERE, seed), device=device)
    network.requires_grad_(True).train()
    adam = torch.optim.Adam(network.parameters(), RATE, fused=True)
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        for step in range(steps):
            real, labels = batches[step]
            adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
            adam.zero_grad(set_to_none=True)
            assert labels is not None
            loss = F.cross_entropy(network(whole.prepared(real)), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    network.requires_grad_(False).eval()
    right = 0
    with torch.no_grad():
        for part in torch.split(torch.arange(min(JUDGED, len(images.images))), 1024):
            guess = network(whole.prepared(scaled(images.images[part]).to(device))).argmax(dim=1)
            right += int((guess.cpu() == images.labels[part]).sum())
    return right / min(JUDGED, len(images.images))
