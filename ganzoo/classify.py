"""Classification by a trained critic: by its own conditional loss, or by an SVM on its features."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.data import ImageSet, scaled
from ganzoo.errors import UserError
from ganzoo.heads import predicted

Classifier = Callable[[ImageSet], Tensor]
"""N images -> the class of each, (N,) int64 on the CPU."""

CHUNK = 512
"""Images at a time."""
GRID = 4
"""Feature maps are max-pooled to GRID x GRID   (Qi 2017, sec. 9.4; Radford et al. 2016, sec. 5.1)."""
PENALTIES = (0.01, 0.1, 1.0)
"""The SVM's C times the number of features, one of which is chosen by cross-validation on the labelled images."""
FOLDS = 5


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In eval mode within the block, without gradients; after it every module is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def chunks(images: ImageSet, device: torch.device) -> Iterator[Tensor]:
    """(n, C, H, W) in [-1, 1], on the device."""
    for part in torch.split(images.images, CHUNK):
        yield scaled(part.to(device))


def least_loss(network: nn.Module, device: torch.device) -> Classifier:
    """argmin_l L(x, l) of each image, in eval mode   (Qi 2017, sec. 8.1)."""

    def classes(images: ImageSet) -> Tensor:
        with evaluating(network):
            return torch.cat([predicted(network, x).cpu() for x in chunks(images, device)])

    return classes


def pooled_layers(network: nn.Module, images: ImageSet, device: torch.device) -> np.ndarray:
    """Every hidden layer's activation, max-pooled to 4x4 (a smaller map stays as it is), side by side: (N, d) float32.

    A layer is what an activation function (ReLU, LeakyReLU, ELU, Tanh, ...) of the network puts out as a map. Raises
    UserError where there is none.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.dim() == 4:
            side = min(GRID, output.shape[-1])
            maps.append(F.adaptive_max_pool2d(output, side).flatten(1))

    activations = [m for m in network.modules() if type(m).__module__ == "torch.nn.modules.activation"]
    hooks = [module.register_forward_hook(keep) for module in activations]
    found = []
    try:
        with evaluating(network):
            for x in chunks(images, device):
                maps.clear()
                network(x)
                if not maps:
                    raise UserError(
                        f"the critic, a {type(network).__name__}, has no feature maps to classify by: no activation"
                        " module (nn.ReLU, nn.LeakyReLU, ...) that puts out (N, C, H, W)"
                    )
                found.append(torch.cat(maps, dim=1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found).numpy()


def svm_on_layers(network: nn.Module, labelled: ImageSet, device: torch.device) -> Classifier:
    """An L2-SVM (squared hinge) on the critic's max-pooled layers, trained on the labelled images.

    Radford et al. 2016, sec. 5.1, the DCGAN of Qi 2017, table 2. Features are standardised; C is chosen by
    cross-validation on the labelled images where each class has enough of them, else the middle of the grid.
    """
    assert labelled.labels is not None
    features, labels = pooled_layers(network, labelled, device), labelled.labels.numpy()
    penalties = [c / features.shape[1] for c in PENALTIES]
    # A second of import that a comparison by reconstruction need not pay.
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    vectors = LinearSVC(C=penalties[1], dual=True, tol=1e-3, max_iter=10_000, random_state=0)
    if np.bincount(labels).min() >= FOLDS:
        vectors = GridSearchCV(vectors, {"C": penalties}, cv=FOLDS)
    # Fewer images than features: a rotation into the images' own span changes no distance and is several times faster.
    turned = [PCA(svd_solver="full")] if len(features) < features.shape[1] else []
    machine = make_pipeline(StandardScaler(), *turned, vectors).fit(features, labels)
    return lambda images: torch.from_numpy(machine.predict(pooled_layers(network, images, device)))


def accuracy(found: Tensor, images: ImageSet) -> float:
    """The share of right classes, in [0, 1]."""
    assert images.labels is not None
    return float((found == images.labels).double().mean())
