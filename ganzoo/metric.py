"""MRE as a torchmetrics metric, for training loops that collect their figures that way."""

import torch
from torch import Tensor

from ganzoo.mre import Generator, Protocol, minimum_reconstruction_error

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError("ganzoo.metric needs torchmetrics: pip install 'ganzoo[metrics]'") from error


class MinimumReconstructionError(Metric):
    """The mean of min_z mean |x - G(z)| over all images seen; lower is better   (Qi 2017, sec. 9.5).

    Updates in parts equal one update with all: the n-th image seen has the n-th image's starts. (`forward`
    starts each batch as if it were the first.) The generator is used as it is at each update, and is no part
    of the metric's own state or modules. inf once an image's every evaluation was NaN or infinite.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(
        self,
        generator: Generator,
        z_dim: int,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        seed: int = 0,
        classes: int = 0,
        chunk: int | None = None,
    ) -> None:
        """Arguments as of `ganzoo.mre.minimum_reconstruction_error`."""
        super().__init__()
        self._generator = (generator,)  # in a tuple torch does not register it: state_dict stays the metric's own
        self.z_dim, self.protocol, self.seed = z_dim, protocol, seed
        self.classes, self.chunk = classes, chunk
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, labels: Tensor | None = None) -> None:
        """images: (N, C, H, W), float in [-1, 1] or uint8; labels: (N,) where classes > 0."""
        found = minimum_reconstruction_error(
            self._generator[0],
            images,
            z_dim=self.z_dim,
            protocol=self.protocol,
            seed=self.seed,
            labels=labels,
            classes=self.classes,
            chunk=self.chunk,
            first=int(self.count),
        )
        self.total += found.errors.double().sum().to(self.total)
        self.count += len(images)

    def compute(self) -> Tensor:
        """The mean so far, a float64 scalar in [0, 2]; nan before the first update."""
        return self.total / self.count
