"""The two networks of a cell, with the initial weights of its seed, and how they meet z, labels and the objective."""

import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.arithmetic import Apply, as_written
from ganzoo.config import Cell
from ganzoo.data import Splits
from ganzoo.errors import UserError, blamed
from ganzoo.game import Need
from ganzoo.heads import BoundCritic, Rows, at_once, head_of, least_class_loss
from ganzoo.randomness import seeded
from ganzoo.zoo import Zoo


class Players(NamedTuple):
    """The two networks and how they meet labels and z."""

    generator: nn.Module
    critic: nn.Module
    classes: int
    """0 where the game is unconditional."""
    needs: frozenset[Need]
    per_sample: bool = False
    """L(x_i) depends on x_i alone: no batch statistics, nothing drawn."""
    apply: Apply = as_written
    """How the networks compute."""
    rows: Rows = at_once
    """How they do what is not a call of them."""

    def generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """G(z), or G(z, y): (N, z_dim), (N,) -> (N, C, H, W)."""
        inputs = z
        if self.classes:
            assert labels is not None
            # Not F.one_hot, which looks at the labels and so waits for the device.
            classes = torch.arange(self.classes, device=labels.device)
            inputs = torch.cat([z, (labels[:, None] == classes).to(z.dtype)], dim=1)
        return self._checked(self.apply(self.generator, inputs), z)

    def loss(self, labels: Tensor | None) -> BoundCritic:
        """L as the objective sees it: (N, C, H, W) -> (N,), bound to the labels of this batch where it has any."""
        bound = labels if self.classes else None
        return BoundCritic(self.critic, head_of(self.needs), bound, self.apply, rows=self.rows)

    def unlabeled_loss(self) -> BoundCritic:
        """L_ul(x) = min_l L(x, l)   (Qi 2017, sec. 8.2)."""
        return BoundCritic(self.critic, least_class_loss, None, self.apply, rows=self.rows)

    @staticmethod
    def _checked(images: Any, z: Tensor) -> Tensor:
        if not isinstance(images, Tensor):
            raise UserError(f"the generator made {type(images).__name__} of z; images (N, C, H, W) are wanted")
        if images.dim() != 4 or len(images) != len(z):
            raise UserError(f"the generator made {tuple(images.shape)} of z {tuple(z.shape)}; (N, C, H, W) is wanted")
        return images


def players(cell: Cell, zoo: Zoo, data: Splits) -> Players:
    """The cell's networks with the initial weights of its seed, checked: shapes, range, what the objective needs.

    The weights depend on the seed and the network alone, so every objective of a comparison starts from the same.
    Raises UserError for networks, data and objective that do not go together.
    """
    plan, needs = cell.settings, frozenset(cell.needs)
    shape = data.train.image_shape
    classes = 0
    if Need.LABELS in needs:
        classes = len(data.train.classes)
        if not data.train.classified:
            raise UserError(
                f"{cell.contender.objective} needs images of at least 2 classes;"
                f" {data.train.name} has {classes or 'no labels'}"
            )
    make_generator = zoo.generator(plan.generator.name, **plan.generator.hyperparameters)
    make_critic = zoo.critic(plan.critic.name, **plan.critic.hyperparameters)
    with blamed(f"generator '{plan.generator.name}'"), seeded("initial weights", "generator", cell.seed):
        generator: nn.Module = make_generator(plan.z_dim + classes, shape)
    with blamed(f"critic '{plan.critic.name}'"), seeded("initial weights", "critic", cell.seed):
        critic: nn.Module = make_critic(shape, classes or 1)
    made = Players(generator, critic, classes, needs)
    with seeded("look at the networks", cell.seed), torch.no_grad():
        return made._replace(per_sample=_look_at(made, cell, shape, plan.z_dim))


def _look_at(made: Players, cell: Cell, shape: tuple[int, int, int], z_dim: int) -> bool:
    """Shapes once, before the first step: an (N, 1) against an (N,) would silently make an N x N matrix.

    Returns whether the critic sees each image alone.
    """
    plan = cell.settings
    state = {key: value.clone() for key, value in made.critic.state_dict().items()}
    memory = {key: value.clone() for key, value in made.generator.state_dict().items()}
    labels = torch.arange(4) % made.classes if made.classes else None
    fake = made.generate(torch.rand(4, z_dim) * 2 - 1, labels)
    if fake.shape[1:] != shape:
        raise UserError(f"generator '{plan.generator.name}' makes images {tuple(fake.shape[1:])}, the data are {shape}")
    if fake.abs().max() > 1:
        raise UserError(f"generator '{plan.generator.name}' leaves [-1, 1]; end it with tanh")
    outputs: Any = made.critic(fake)
    wanted = (4, made.classes) if made.classes else (4,)
    if not isinstance(outputs, Tensor):
        raise UserError(f"critic '{plan.critic.name}' returns {type(outputs).__name__}; {wanted} is wanted")
    if tuple(outputs.shape) != wanted:
        raise UserError(f"critic '{plan.critic.name}' returns {tuple(outputs.shape)} for 4 images; {wanted} is wanted")
    images = torch.rand(4, *shape) * 2 - 1
    others = torch.cat([images[:1], 3 * torch.rand(3, *shape) - 1])
    made.critic.load_state_dict(state)
    first = made.critic(images)[0]
    made.critic.load_state_dict(state)  # a pass of spectral normalisation leaves another state, which is no statistic
    same = made.critic(others)[0]
    # A critic that begins with zeros everywhere would hide its statistics.
    statistics = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in made.critic.modules())
    per_sample = not statistics and not bool((first - same).abs().max() > 1e-3 * first.abs().max())
    if Need.PER_SAMPLE in made.needs and not per_sample:
        raise UserError(
            f"{cell.contender.label} penalises a gradient per sample, but critic '{plan.critic.name}'"
            f" {plan.critic.hyperparameters} lets images of one batch change one another's loss (batch"
            ' statistics); use its norm-free form (critic.norm = "none"), or no penalty (penalty_weight=0, r1=0, r2=0,'
            " theta_penalty=0)"
        )
    if Need.FEATURES in made.needs:
        features: Any = getattr(made.critic, "features", None)
        found = features(fake) if callable(features) else None
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != 4:
            raise UserError(
                f"{cell.contender.label} matches features, but critic '{plan.critic.name}' has no features(images)"
                " -> (N, d); use a critic that has them (dcgan, table-1), or feature_matching=0"
            )
    made.critic.load_state_dict(state)
    made.generator.load_state_dict(memory)
    return per_sample


def weights_sha256(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
