"""One round of the game, the loop, exact checkpoints: a cell in, a trained pair of networks and its curve out.

Which images, which z and which random numbers a round uses is a function of (seed, stream, step), so a run that was
killed and resumed from any round ends in the same bits as one that was not (same machine, same thread count).
"""

import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo.classify import Classifier, accuracy, least_loss, svm_on_layers
from ganzoo.config import Cell, LabelPlan
from ganzoo.data import Batches, ImageSet, Labelling, Splits, draw_labels, scaled
from ganzoo.durable import load_checkpoint, save_checkpoint
from ganzoo.errors import UserError, blamed
from ganzoo.features import Networks
from ganzoo.game import Critic, Need, Objective, Recipe
from ganzoo.heads import BoundCritic, head_of, least_class_loss
from ganzoo.mre import Protocol, Reconstruction, minimum_reconstruction_error
from ganzoo.randomness import derive, seeded, stream, undisturbed
from ganzoo.zoo import Zoo

LOOK_EVERY = 32
"""Rounds between two looks at an accelerator's losses; each look waits for the device."""

CURVE = ("critic_loss", "generator_loss", "gradient_norm")
"""Of `Played`, as means since the last point of the curve."""

Tell = Callable[[dict[str, Any]], None]
"""Receives each point of the curve as it is made."""


class Diverged(Exception):  # noqa: N818 (a result, not an error)
    """A loss was NaN or infinite in this round; the step was not taken (an accelerator notices it rounds later)."""

    def __init__(self, round: int) -> None:
        super().__init__(f"diverged@{round}")
        self.round = round


class Played(NamedTuple):
    """What one round leaves to record, each a scalar on the device."""

    critic_loss: Tensor
    """S in the last of the critic's steps."""
    generator_loss: Tensor
    """T; 0 where no generator plays."""
    gradient_norm: Tensor
    """||grad_phi T||_2 over all of the generator's parameters   (Qi 2017, figure 5)."""


class Players(NamedTuple):
    """The two networks and how they meet labels and z."""

    generator: nn.Module
    critic: nn.Module
    classes: int
    """0 where the game is unconditional."""
    needs: frozenset[Need]

    def generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """G(z), or G(z, y): (N, z_dim), (N,) -> (N, C, H, W)."""
        if not self.classes:
            return self._checked(self.generator(z), z)
        assert labels is not None
        one_hot = F.one_hot(labels, self.classes).to(z.dtype)
        return self._checked(self.generator(torch.cat([z, one_hot], dim=1)), z)

    def loss(self, labels: Tensor | None) -> Critic:
        """L as the objective sees it: (N, C, H, W) -> (N,), bound to the labels of this batch where it has any."""
        return BoundCritic(self.critic, head_of(self.needs), labels if self.classes else None)

    def unlabeled_loss(self) -> Critic:
        """L_ul(x) = min_l L(x, l)   (Qi 2017, sec. 8.2)."""
        return BoundCritic(self.critic, least_class_loss)

    @staticmethod
    def _checked(images: Tensor, z: Tensor) -> Tensor:
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
        if data.train.labels is None or classes < 2:
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
        _look_at(made, cell, shape, plan.z_dim)
    return made


def _look_at(made: Players, cell: Cell, shape: tuple[int, int, int], z_dim: int) -> None:
    """Shapes once, before the first step: an (N, 1) against an (N,) would silently make an N x N matrix."""
    plan = cell.settings
    state = {key: value.clone() for key, value in made.critic.state_dict().items()}
    memory = {key: value.clone() for key, value in made.generator.state_dict().items()}
    labels = torch.arange(4) % made.classes if made.classes else None
    fake = made.generate(torch.rand(4, z_dim) * 2 - 1, labels)
    if fake.shape[1:] != shape:
        raise UserError(f"generator '{plan.generator.name}' makes images {tuple(fake.shape[1:])}, the data are {shape}")
    if fake.abs().max() > 1:
        raise UserError(f"generator '{plan.generator.name}' leaves [-1, 1]; end it with tanh")
    outputs = made.critic(fake)
    wanted = (4, made.classes) if made.classes else (4,)
    if tuple(outputs.shape) != wanted:
        raise UserError(f"critic '{plan.critic.name}' returns {tuple(outputs.shape)} for 4 images; {wanted} is wanted")
    if Need.PER_SAMPLE in made.needs:
        images = torch.rand(4, *shape) * 2 - 1
        others = torch.cat([images[:1], 3 * torch.rand(3, *shape) - 1])
        first, same = made.critic(images)[0], made.critic(others)[0]
        if (first - same).abs().max() > 1e-3 * first.abs().max():
            raise UserError(
                f"{cell.contender.label} penalises a gradient per sample, but critic '{plan.critic.name}'"
                f" {plan.critic.hyperparameters} lets images of one batch change one another's loss (batch"
                ' statistics); use its norm-free form (critic.norm = "none"), or no penalty (penalty_weight=0,'
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


def labelling_of(cell: Cell, data: Splits) -> Labelling | None:
    """Which training images the cell sees with their labels; None for an unconditional game that keeps all images.

    Raises UserError where the plan asks for more labels than there are.
    """
    labels = cell.settings.labels
    if labels == LabelPlan() and Need.LABELS not in cell.needs:
        return None
    return draw_labels(data.train, labels.per_class, seed=cell.seed, folds=labels.folds, fold=cell.fold or 0)


def batches_of(
    cell: Cell, data: Splits, labelling: Labelling | None, device: torch.device
) -> tuple[Batches, Batches | None]:
    """What the cell learns from, with labels where it is conditional, and the unlabelled images if it needs them.

    Raises UserError where there are not enough for a batch.
    """
    learnt = data.train
    if labelling is not None:
        learnt = labelling.labelled if Need.LABELS in cell.needs else labelling.learnt
    parts = {"labelled" if Need.LABELS in cell.needs else "training": (learnt, cell.seed)}
    if Need.UNLABELED in cell.needs:
        if labelling is None or labelling.unlabelled is None:
            raise UserError(f"{cell.contender.label} needs unlabelled images, and every training image is labelled")
        # Another order than that of the labelled ones, which are fewer.
        parts["unlabelled"] = (labelling.unlabelled, derive("unlabelled", cell.seed))
    size = cell.settings.batch_size
    for name, (images, _) in parts.items():
        if len(images.images) < size:
            raise UserError(
                f"{cell.contender.label} has {len(images.images)} {name} images to learn from, which make no batch of"
                f" {size}; lower batch_size"
            )
    made = [Batches(images, size, seed=seed, device=device) for images, seed in parts.values()]
    return made[0], made[1] if len(made) == 2 else None


def weights_sha256(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def optimizer(recipe: Recipe, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=(recipe.beta1, recipe.beta2), fused=True)
    return torch.optim.RMSprop(network.parameters(), rate)


class Training:
    """A cell at some round. Everything that changes is in `state_dict`; everything else follows from the cell."""

    def __init__(self, cell: Cell, zoo: Zoo, data: Splits) -> None:
        plan = cell.settings
        self.cell, self.data, self.plan = cell, data, plan
        self.device = torch.device(plan.device)
        self.needs = frozenset(cell.needs)
        self.players = players(cell, zoo, data)
        self.labelling = labelling_of(cell, data)
        few = self.labelling is not None and plan.labels.per_class is not None
        self.networks = Networks(self.labelling.labelled if few and self.labelling else data.train, self.device)
        if cell.contender.wants_networks(zoo):
            # Made now, not in the first round: a training that is taken up at its end then knows their hashes, too.
            image = scaled(data.train.images[:1]).to(self.device)
            with torch.no_grad():
                cell.contender.bound_margin(zoo, self.networks)(image, image)
        self.game: Objective = cell.contender.game(zoo, self.networks)
        self.initial = {
            "generator": weights_sha256(self.players.generator),
            "critic": weights_sha256(self.players.critic),
        }
        self.players.generator.to(self.device)
        self.players.critic.to(self.device)
        self.batches, self.unlabelled = batches_of(cell, data, self.labelling, self.device)
        self.per_epoch = max(1, len(data.train.images) // plan.batch_size)
        self.critic_optimizer = optimizer(cell.recipe, self.players.critic, cell.recipe.critic_rate)
        self.generator_optimizer = optimizer(cell.recipe, self.players.generator, cell.recipe.generator_rate)
        self.round = 0
        self.curve: list[dict[str, Any]] = []
        self.best_generator: dict[str, Tensor] = {}
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self._diverged_at = torch.full((), -1, device=self.device)

    # The schedule, in rounds of `critic_steps` batches each

    @property
    def evaluations(self) -> list[tuple[int, int]]:
        """(epoch, round) of each point of the curve, the first before any training.

        An epoch is as many batches as all training images make, however few of them are labelled.
        """
        plan = self.plan
        epochs = [*range(0, plan.epochs, plan.validate_every), plan.epochs]
        return [(epoch, epoch * self.per_epoch // self.cell.recipe.critic_steps) for epoch in epochs]

    @property
    def rounds(self) -> int:
        return self.evaluations[-1][1]

    # The game

    def play(self) -> Played:
        """One round: `critic_steps` critic steps, then one generator step on fresh z."""
        recipe = self.cell.recipe
        generator, critic = self.players.generator, self.players.critic
        torch.manual_seed(derive("round", self.cell.seed, self.round))  # for whatever a plugin draws; see `run`
        self._set_rates()
        for step in range(self.round * recipe.critic_steps, (self.round + 1) * recipe.critic_steps):
            real, labels = self.batches[step]
            fake = self._fake(step, real, labels)
            critic_loss = self.game.critic_loss(self.players.loss(labels), real, fake)
            if self.unlabelled is not None:
                critic_loss = critic_loss + self._unlabeled_loss(step)
            self._step(self.critic_optimizer, critic_loss)
            self.game.constrain(critic)
        generator_loss = norm = torch.zeros((), device=self.device)
        if Need.ALONE not in self.needs:
            critic.requires_grad_(False)
            fake = self.players.generate(self.noise("generator", self.round), labels)
            generator_loss = self.game.generator_loss(self.players.loss(labels), real, fake)
            self._step(self.generator_optimizer, generator_loss)
            critic.requires_grad_(True)
            norm = torch.nn.utils.get_total_norm(p.grad for p in generator.parameters() if p.grad is not None)
            generator.zero_grad(set_to_none=True)
        self.round += 1
        return Played(critic_loss.detach(), generator_loss.detach(), norm)

    def _fake(self, step: int, real: Tensor, labels: Tensor | None) -> Tensor:
        """Generated images for a critic step; grey ones where no generator plays, whose BatchNorm would learn of it."""
        if Need.ALONE in self.needs:
            return torch.zeros_like(real)
        with torch.no_grad():
            return self.players.generate(self.noise("critic", step), labels)

    def _unlabeled_loss(self, step: int) -> Tensor:
        """The unlabelled term of S, on generated images of classes drawn evenly."""
        assert self.unlabelled is not None
        assert self.game.unlabeled_loss is not None
        real, _ = self.unlabelled[step]
        draw = stream("classes", "unlabelled", self.cell.seed, step)
        classes = torch.randint(self.players.classes, (len(real),), generator=draw).to(self.device)
        with torch.no_grad():
            fake = self.players.generate(self.noise("unlabelled", step), classes)
        return self.game.unlabeled_loss(self.players.unlabeled_loss(), real, fake)

    def noise(self, player: str, step: int) -> Tensor:
        """z ~ Unif[-1, 1]^z_dim for this player's step: (batch_size, z_dim)   (Qi 2017, sec. 9.2)."""
        z = torch.rand(self.plan.batch_size, self.plan.z_dim, generator=stream("z", player, self.cell.seed, step))
        return (z * 2 - 1).to(self.device, non_blocking=True)

    def _set_rates(self) -> None:
        recipe = self.cell.recipe
        epoch = self.round * recipe.critic_steps // self.per_epoch
        factor = recipe.decay ** (epoch // recipe.decay_epochs)
        for which, rate in (
            (self.critic_optimizer, recipe.critic_rate),
            (self.generator_optimizer, recipe.generator_rate),
        ):
            for group in which.param_groups:
                group["lr"] = rate * factor

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if loss.dim() != 0:
            raise TypeError(f"a loss has shape {tuple(loss.shape)}; a scalar is wanted")
        finite = loss.detach().isfinite()
        if self.device.type == "cpu":
            if not finite:
                raise Diverged(self.round)
        else:
            first = ~finite & (self._diverged_at < 0)
            self._diverged_at = torch.where(first, self.round, self._diverged_at)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _look(self) -> None:
        """Raise Diverged if a loss on the accelerator was not finite."""
        round = int(self._diverged_at)
        if round >= 0:
            raise Diverged(round)

    # The loop

    def run(self, checkpoint: Path | None = None, tell: Tell = lambda point: None) -> None:
        """Play on from the present round to the last; save at each point of the curve and every so many seconds.

        Raises Diverged; the last checkpoint then holds the state before it.
        """
        evaluations = {round: epoch for epoch, round in self.evaluations}
        rounds = self.rounds
        saved = time.monotonic()
        # torch's default generators are put back as they were: a library does not reseed its caller.
        with undisturbed():
            while True:
                if self.round in evaluations and not (self.curve and self.curve[-1]["round"] == self.round):
                    self._evaluate(evaluations[self.round])
                    tell(self.curve[-1])
                    if checkpoint is not None:
                        save_checkpoint(checkpoint, self.state_dict())
                        saved = time.monotonic()
                if self.round >= rounds:
                    return
                self._sums += torch.stack(self.play()).double()
                if self.device.type != "cpu" and self.round % LOOK_EVERY == 0:
                    self._look()
                late = time.monotonic() - saved > self.plan.checkpoint_seconds
                if checkpoint is not None and late:
                    self._look()
                    save_checkpoint(checkpoint, self.state_dict())
                    saved = time.monotonic()

    def _evaluate(self, epoch: int) -> None:
        """A point of the curve: mean losses since the last one and the MRE on the validation images."""
        if self.device.type != "cpu":
            self._look()
        rounds = self.round - (self.curve[-1]["round"] if self.curve else 0)
        means = (self._sums / rounds).tolist() if rounds else (None, None, None)
        self._sums.zero_()
        point = {"epoch": epoch, "round": self.round, **dict(zip(CURVE, means, strict=True))}
        if self.plan.measure == "mre":
            error = self.error(self.data.validation, self.plan.validation_images, self.plan.validation_mre).mean
            if not error < float("inf"):
                raise Diverged(self.round)
            if not self.curve or error < min(point["validation_mre"] for point in self.curve):
                self._keep_generator()
            point["validation_mre"] = error
        else:
            self._keep_generator()
            if self.players.classes:
                point["validation_accuracy"] = self.accuracy(self.validation)
        self.curve.append(point)

    def _keep_generator(self) -> None:
        state = self.players.generator.state_dict()
        self.best_generator = {key: value.detach().clone() for key, value in state.items()}

    @property
    def validation(self) -> ImageSet:
        """The first `validation_images` of the validation images, or of the labelled ones that are held out."""
        held_out = None if self.labelling is None else self.labelling.held_out
        return (self.data.validation if held_out is None else held_out).first(self.plan.validation_images)

    def accuracy(self, images: ImageSet) -> float:
        """The share of the images whose class `classifier` tells, in [0, 1]."""
        return accuracy(self.classifier()(images), images)

    def classifier(self) -> Classifier:
        """What the critic says of an image's class: argmin_l L(x, l) where the game is conditional, else an SVM on the
        critic's layers, trained on the labelled images.

        Raises Diverged where a weight is not finite: a class would be found all the same.
        """
        critic = self.players.critic
        if not all(value.isfinite().all() for value in critic.state_dict().values()):
            raise Diverged(self.round)
        if self.players.classes:
            return least_loss(critic, self.device)
        labelled = self.data.train if self.labelling is None else self.labelling.labelled
        return svm_on_layers(critic, labelled, self.device)

    def error(self, images: ImageSet, n: int, protocol: Protocol) -> Reconstruction:
        """The reconstruction of the first n images, each under its own label where the game is conditional."""
        labels = images.labels[:n] if self.players.classes and images.labels is not None else None
        return minimum_reconstruction_error(
            self.players.generator,
            images.images[:n],
            z_dim=self.plan.z_dim,
            protocol=protocol,
            seed=self.cell.seed,
            labels=labels,
            classes=self.players.classes,
        )

    # Exact checkpoints

    def state_dict(self) -> dict[str, Any]:
        return {
            "cell": self.cell.model_dump_json(),
            "fingerprint": fingerprint(self.device),
            "data": [part.sha256 for part in self.data],
            "round": self.round,
            "curve": self.curve,
            "sums": self._sums,
            "generator": self.players.generator.state_dict(),
            "critic": self.players.critic.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "best_generator": self.best_generator,
        }

    def resume(self, path: Path) -> None:
        """Take up the state saved at `path`.

        Raises UserError for a damaged file, another cell's, and one made where numbers round differently.
        """
        state = load_checkpoint(path, self.device)
        try:
            self._take_up(state, path)
        except UserError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} lacks a part of the state: {' '.join(str(error).split())}") from None

    def _take_up(self, state: dict[str, Any], path: Path) -> None:
        if Cell.model_validate_json(state["cell"]).sha256 != self.cell.sha256:
            raise UserError(f"{path} is a checkpoint of another plan; choose another run folder, or delete the file")
        here = fingerprint(self.device)
        for name, value in here.items():
            if state["fingerprint"].get(name) != value:
                raise UserError(
                    f"{path} was made with {name} {state['fingerprint'].get(name)} and cannot be continued exactly with"
                    f" {value}; choose another run folder"
                )
        if state["data"] != [part.sha256 for part in self.data]:
            raise UserError(f"{path} was trained on other images than are there now; choose another run folder")
        self.round, self.curve, self._sums = state["round"], state["curve"], state["sums"]
        self.players.generator.load_state_dict(state["generator"])
        self.players.critic.load_state_dict(state["critic"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.best_generator = state["best_generator"]


def fingerprint(device: torch.device) -> dict[str, str]:
    """What a float's last bit depends on; a run resumes only under the same."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "torch": str(torch.__version__),  # a class of torch's own, which weights_only refuses
        "threads": str(torch.get_num_threads()),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": f"{device.type} {where}".strip(),
    }
