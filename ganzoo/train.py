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

from ganzoo.config import Cell
from ganzoo.data import Batches, ImageSet, Splits
from ganzoo.durable import load_checkpoint, save_checkpoint
from ganzoo.errors import UserError, blamed
from ganzoo.game import Critic, Need, Objective, Recipe, class_loss
from ganzoo.mre import Protocol, Reconstruction, minimum_reconstruction_error
from ganzoo.randomness import derive, seeded, stream, undisturbed
from ganzoo.zoo import Zoo

LOOK_EVERY = 32
"""Rounds between two looks at an accelerator's losses; each look waits for the device."""

Tell = Callable[[dict[str, Any]], None]
"""Receives each point of the curve as it is made."""


class Diverged(Exception):  # noqa: N818 (a result, not an error)
    """A loss was NaN or infinite in this round; the step was not taken (an accelerator notices it rounds later)."""

    def __init__(self, round: int) -> None:
        super().__init__(f"diverged@{round}")
        self.round = round


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
        if self.classes:
            assert labels is not None
            here = labels
            # Real and generated images may come in one tensor, one after the other: the labels then repeat.
            return lambda x: class_loss(self.critic(x), here.repeat(len(x) // len(here)))
        if Need.NON_NEGATIVE in self.needs:
            return lambda x: F.softplus(self.critic(x))
        return self.critic

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
                ' statistics); use its norm-free form (critic.norm = "none"), or penalty_weight=0'
            )
    made.critic.load_state_dict(state)
    made.generator.load_state_dict(memory)


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
        self.game: Objective = cell.contender.game(zoo)
        self.players = players(cell, zoo, data)
        self.initial = {
            "generator": weights_sha256(self.players.generator),
            "critic": weights_sha256(self.players.critic),
        }
        self.players.generator.to(self.device)
        self.players.critic.to(self.device)
        self.batches = Batches(data.train, plan.batch_size, seed=cell.seed, device=self.device)
        self.critic_optimizer = optimizer(cell.recipe, self.players.critic, cell.recipe.critic_rate)
        self.generator_optimizer = optimizer(cell.recipe, self.players.generator, cell.recipe.generator_rate)
        self.round = 0
        self.curve: list[dict[str, Any]] = []
        self.best_generator: dict[str, Tensor] = {}
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self._diverged_at = torch.full((), -1, device=self.device)

    # The schedule, in rounds of `critic_steps` batches each

    @property
    def evaluations(self) -> list[tuple[int, int]]:
        """(epoch, round) of each point of the curve, the first before any training."""
        plan = self.plan
        epochs = [*range(0, plan.epochs, plan.validate_every), plan.epochs]
        return [(epoch, epoch * self.batches.per_epoch // self.cell.recipe.critic_steps) for epoch in epochs]

    @property
    def rounds(self) -> int:
        return self.evaluations[-1][1]

    # The game

    def play(self) -> tuple[Tensor, Tensor]:
        """One round: `critic_steps` critic steps, then one generator step on fresh z. Returns both losses."""
        recipe = self.cell.recipe
        generator, critic = self.players.generator, self.players.critic
        torch.manual_seed(derive("round", self.cell.seed, self.round))  # for whatever a plugin draws; see `run`
        self._set_rates()
        for step in range(self.round * recipe.critic_steps, (self.round + 1) * recipe.critic_steps):
            real, labels = self.batches[step]
            with torch.no_grad():
                fake = self.players.generate(self.noise("critic", step), labels)
            critic_loss = self.game.critic_loss(self.players.loss(labels), real, fake)
            self._step(self.critic_optimizer, critic_loss)
            self.game.constrain(critic)
        critic.requires_grad_(False)
        fake = self.players.generate(self.noise("generator", self.round), labels)
        generator_loss = self.game.generator_loss(self.players.loss(labels), real, fake)
        self._step(self.generator_optimizer, generator_loss)
        critic.requires_grad_(True)
        self.round += 1
        generator.zero_grad(set_to_none=True)
        return critic_loss.detach(), generator_loss.detach()

    def noise(self, player: str, step: int) -> Tensor:
        """z ~ Unif[-1, 1]^z_dim for this player's step: (batch_size, z_dim)   (Qi 2017, sec. 9.2)."""
        z = torch.rand(self.plan.batch_size, self.plan.z_dim, generator=stream("z", player, self.cell.seed, step))
        return (z * 2 - 1).to(self.device, non_blocking=True)

    def _set_rates(self) -> None:
        recipe = self.cell.recipe
        epoch = self.round * recipe.critic_steps // self.batches.per_epoch
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
                critic_loss, generator_loss = self.play()
                self._sums += torch.stack([critic_loss, generator_loss]).double()
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
        error = self.error(self.data.validation, self.plan.validation_images, self.plan.validation_mre).mean
        if not error < float("inf"):
            raise Diverged(self.round)
        rounds = self.round - (self.curve[-1]["round"] if self.curve else 0)
        critic_loss, generator_loss = (self._sums / rounds).tolist() if rounds else (None, None)
        self._sums.zero_()
        if not self.curve or error < min(point["validation_mre"] for point in self.curve):
            state = self.players.generator.state_dict()
            self.best_generator = {key: value.detach().clone() for key, value in state.items()}
        self.curve.append(
            {
                "epoch": epoch,
                "round": self.round,
                "critic_loss": critic_loss,
                "generator_loss": generator_loss,
                "validation_mre": error,
            }
        )

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
