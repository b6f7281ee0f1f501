"""One round of the game, the loop, exact checkpoints: a cell in, a trained pair of networks and its curve out.

Which images, which z and which random numbers a round uses is a function of (seed, stream, step), so a run that was
killed and resumed from any round ends in the same bits as one that was not (same machine, same thread count).
"""

import hashlib
import platform
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.arithmetic import Arithmetic, compiled, natural_precision, products_in
from ganzoo.capture import Replayed, replayed
from ganzoo.classify import Classifier, accuracy, least_loss, svm_on_layers
from ganzoo.config import Cell, LabelPlan
from ganzoo.cuda_graph import Record, cuda_graph
from ganzoo.data import Batches, ImageSet, Labelling, Splits, draw_labels, scaled
from ganzoo.data_parallel import Shared, own_device, require_in_step, require_shareable, require_world, world
from ganzoo.durable import load_checkpoint
from ganzoo.errors import UserError
from ganzoo.features import Networks
from ganzoo.game import Need, Objective, Recipe
from ganzoo.heads import BoundCritic, Seen, asked_of, head_of
from ganzoo.mre import Protocol, Reconstruction, minimum_reconstruction_error
from ganzoo.players import players, weights_sha256
from ganzoo.pulse import Stopped, beat
from ganzoo.randomness import derive, stream, undisturbed
from ganzoo.saving import Keep, Saving
from ganzoo.zoo import Zoo

LARGEST_REST = 64 * 1024 * 1024
"""Bytes of a checkpoint's curve and cell at most."""

STATE = (
    "cell", "fingerprint", "stacked", "inexact", "data", "round", "curve", "sums", "generator", "critic",
    "generator_optimizer", "critic_optimizer", "best_generator",
)  # fmt: skip
"""What a checkpoint holds."""

LOOK_EVERY = 32
"""Rounds between two looks at an accelerator's losses; each look waits for the device."""

CURVE = ("critic_loss", "generator_loss", "gradient_norm")
"""Of `Played`, as means since the last point of the curve."""

Tell = Callable[[dict[str, Any]], None]
"""Receives each point of the curve as it is made."""


class Diverged(Exception):  # noqa: N818 (a result, not an error)
    """A loss or a gradient was NaN or infinite in this round; the step was not taken (an accelerator notices it rounds
    later, and what it then holds is not saved)."""

    def __init__(self, round: int, what: str) -> None:
        super().__init__(f"diverged@{round}")
        self.round, self.what = round, what


class Played(NamedTuple):
    """What one round leaves to record, each a scalar on the device."""

    critic_loss: Tensor
    """S in the last of the critic's steps."""
    generator_loss: Tensor
    """T; 0 where no generator plays."""
    gradient_norm: Tensor
    """||grad_phi T||_2 over all of the generator's parameters   (Qi 2017, figure 5)."""


class Draws(NamedTuple):
    """What the host draws for one round: a row for each of the critic's n steps, B images or samples in each."""

    batch: Tensor
    """(n, B) int64: which training images."""
    z: Tensor
    """(n, B, z_dim) for the critic's steps."""
    generator_z: Tensor
    """(B, z_dim) for the generator's."""
    unlabelled: Tensor
    """(n, B) int64: which unlabelled images; (n, 0) where none are needed, as in the two below."""
    unlabelled_z: Tensor
    """(n, B, z_dim)"""
    classes: Tensor
    """(n, B) int64: of the images generated to go with the unlabelled ones."""

    def on(self, device: torch.device) -> "Draws":
        """On the device; which images stays where the images lie."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in DRAWN}
        return self._replace(**moved)


DRAWN = ("z", "generator_z", "unlabelled_z", "classes")
"""Of `Draws`, what is drawn on the host."""


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


def optimizer(recipe: Recipe, network: nn.Module, rate: float, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's, in one pass over all parameters; on a GPU its rate is a tensor, so that a graph can read it."""
    captured = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if captured else rate
    if recipe.optimizer == "adam":
        betas = (recipe.beta1, recipe.beta2)
        return torch.optim.Adam(network.parameters(), lr, betas=betas, fused=True, capturable=captured)
    return torch.optim.RMSprop(network.parameters(), lr, foreach=True, capturable=captured)


class Training:
    """A cell at some round. Everything that changes is in `state_dict`; everything else follows from the cell."""

    def __init__(self, cell: Cell, zoo: Zoo, data: Splits) -> None:
        plan = cell.settings
        self.cell, self.data, self.plan = cell, data, plan
        self.device = own_device(plan.device)
        self.needs = frozenset(cell.needs)
        shape = data.train.image_shape
        self.precision = plan.precision or natural_precision(self.device, shape)
        self.players = players(cell, zoo, data)._replace(apply=Arithmetic(self.precision, self.device.type))
        self.labelling = labelling_of(cell, data)
        few = self.labelling is not None and plan.labels.per_class is not None
        self.networks = Networks(self.labelling.labelled if few and self.labelling else data.train, self.device)
        if cell.contender.wants_networks(zoo):
            # Made now, not in the first round: a training that is taken up at its end then knows their hashes, too.
            image = scaled(data.train.images[:1]).to(self.device)
            with torch.no_grad():
                cell.contender.bound_margin(zoo, self.networks)(image, image)
        self.game: Objective = cell.contender.game(zoo, self.networks)
        contender = cell.contender
        self.cost = zoo.cost(contender.cost, **contender.cost_hyperparameters) if contender.cost else None
        self.margin = contender.bound_margin(zoo, self.networks) if contender.margin else None
        self.initial = {
            "generator": weights_sha256(self.players.generator),
            "critic": weights_sha256(self.players.critic),
        }
        for network in (self.players.generator, self.players.critic):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world().size > 1:
            require_shareable(self.players, plan.z_dim, shape, self.device)
            shared = Shared(self.players.apply)
            self.players = self.players._replace(apply=shared, rows=shared.rows)
        self.notes: list[str] = []
        """What a fast path could not do, and why."""
        self.asked = asked_of(self.game.critic_loss, head_of(self.needs), shape, self.players.classes, self.device)
        if self.asked.unheard:
            self.notes.append(f"the critic sees images in more passes than it needs: {self.asked.unheard}")
        if plan.compile:
            self._compile(shape)
        self.batches, self.unlabelled = batches_of(cell, data, self.labelling, self.device)
        self.per_epoch = max(1, len(data.train.images) // plan.batch_size)
        self.critic_optimizer = optimizer(cell.recipe, self.players.critic, cell.recipe.critic_rate, self.device)
        self.generator_optimizer = optimizer(
            cell.recipe, self.players.generator, cell.recipe.generator_rate, self.device
        )
        self.saving = Saving(None, 0.0)
        self.inexact = False
        """Whether some of its rounds were played where numbers round differently."""
        self.stacked = False
        """Whether its rounds are played as part of a stack, which rounds differently."""
        self.round = 0
        self.curve: list[dict[str, Any]] = []
        self.best_generator: dict[str, Tensor] = {}
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self._diverged_at = torch.full((), -1, device=self.device)
        self._turns = torch.zeros((), dtype=torch.int64, device=self.device)
        self._replayed: Replayed | str | None = None
        self._factor: float | None = None
        """By which the optimizers' rates are the recipe's now."""

    def _compile(self, shape: tuple[int, int, int]) -> None:
        z_dim, size = self.plan.z_dim + self.players.classes, self.plan.batch_size
        networks = {"the generator": (self.players.generator, torch.zeros(size, z_dim, device=self.device))}
        if self.asked.gradient:
            self.notes.append("the critic is not compiled: a penalty differentiates it twice, torch.compile does not")
        else:
            networks["the critic"] = self.players.critic, torch.zeros(size, *shape, device=self.device)
        forms, notes = compiled(networks)
        self.notes += notes
        self.players = self.players._replace(apply=Arithmetic(self.precision, self.device.type, forms))

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
        self.prepare()
        played = self.turn(self.draws(self.round).on(self.device))
        self.round += 1
        return played

    def prepare(self) -> None:
        """What the host sets before the present round: the rates, and a seed for whatever a plugin draws."""
        seed = derive("round", self.cell.seed, self.round)
        # As torch.manual_seed, which takes longer than a small network's step; `run` puts the generators back.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)
        self.set_rates()

    def draws(self, round: int) -> Draws:
        """What this round sees, a function of (seed, round)."""
        recipe, seed, size = self.cell.recipe, self.cell.seed, self.plan.batch_size
        steps = range(round * recipe.critic_steps, (round + 1) * recipe.critic_steps)
        z = torch.stack([self.noise("critic", step) for step in steps])
        none = torch.empty(len(steps), 0, dtype=torch.int64)
        drawn = Draws(
            torch.stack([self.batches.index(step) for step in steps]),
            z,
            self.noise("generator", round),
            none,
            z[:, :0],
            none,
        )
        if self.unlabelled is None:
            return drawn
        streams = [stream("classes", "unlabelled", seed, step) for step in steps]
        return drawn._replace(
            unlabelled=torch.stack([self.unlabelled.index(step) for step in steps]),
            unlabelled_z=torch.stack([self.noise("unlabelled", step) for step in steps]),
            classes=torch.stack([torch.randint(self.players.classes, (size,), generator=one) for one in streams]),
        )

    def turn(self, draws: Draws) -> Played:
        """A round's work for the device, and nothing that waits for it."""
        generator, critic = self.players.generator, self.players.critic
        for step in range(self.cell.recipe.critic_steps):
            real, labels = self.batches.at(draws.batch[step])
            real = real.contiguous(memory_format=torch.channels_last)
            fake = self._fake(draws.z[step], real, labels)
            critic_loss = self.game.critic_loss(self._ready(real, fake, labels), real, fake)
            if self.unlabelled is not None:
                critic_loss = critic_loss + self._unlabeled_loss(draws, step)
            self._step(self.critic_optimizer, critic_loss)
            self.game.constrain(critic)
        generator_loss = norm = torch.zeros((), device=self.device)
        if Need.ALONE not in self.needs:
            critic.requires_grad_(False)
            fake = self.players.generate(draws.generator_z, labels)
            generator_loss = self.game.generator_loss(self.players.loss(labels), real, fake)
            norm = self._step(self.generator_optimizer, generator_loss)
            critic.requires_grad_(True)
            generator.zero_grad(set_to_none=True)
        played = Played(critic_loss.detach(), generator_loss.detach(), norm)
        self._sums += torch.stack(played).double()
        self._turns += 1
        return played

    def _ready(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> BoundCritic:
        """The critic of a critic step, having seen what the loss will ask for in as few passes as there are."""
        critic = self.players.loss(labels)
        if not self.players.per_sample:
            return critic
        wanted = ((real, self.asked.gradient_at_real), (fake, self.asked.gradient_at_fake))
        if any(differentiated for _, differentiated in wanted):
            return replace(critic, seen=tuple(critic.see(x) for x, differentiated in wanted if differentiated))
        if self.asked.both:
            outputs = critic.apply(critic.network, torch.cat([real, fake]))
            return replace(critic, seen=(Seen(real, outputs[: len(real)]), Seen(fake, outputs[len(real) :])))
        return critic

    def _fake(self, z: Tensor, real: Tensor, labels: Tensor | None) -> Tensor:
        """Generated images for a critic step; grey ones where no generator plays, whose BatchNorm would learn of it."""
        if Need.ALONE in self.needs:
            return torch.zeros_like(real)
        with torch.no_grad():
            return self.players.generate(z, labels)

    def _unlabeled_loss(self, draws: Draws, step: int) -> Tensor:
        """The unlabelled term of S, on generated images of classes drawn evenly."""
        assert self.unlabelled is not None
        assert self.game.unlabeled_loss is not None
        real, _ = self.unlabelled.at(draws.unlabelled[step])
        with torch.no_grad():
            fake = self.players.generate(draws.unlabelled_z[step], draws.classes[step])
        return self.game.unlabeled_loss(self.players.unlabeled_loss(), real, fake)

    def noise(self, player: str, step: int) -> Tensor:
        """z ~ Unif[-1, 1]^z_dim for this player's step: (batch_size, z_dim), on the host   (Qi 2017, sec. 9.2)."""
        z = torch.rand(self.plan.batch_size, self.plan.z_dim, generator=stream("z", player, self.cell.seed, step))
        return z * 2 - 1

    def set_rates(self) -> None:
        """Both learning rates as the recipe has them at the present round."""
        recipe = self.cell.recipe
        epoch = self.round * recipe.critic_steps // self.per_epoch
        factor = recipe.decay ** (epoch // recipe.decay_epochs)
        if factor == self._factor:
            return
        self._factor = factor
        for which, rate in (
            (self.critic_optimizer, recipe.critic_rate),
            (self.generator_optimizer, recipe.generator_rate),
        ):
            for group in which.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate * factor)
                else:
                    group["lr"] = rate * factor

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        """One step of a player, and the norm of its gradient. Raises Diverged before the step."""
        if loss.dim() != 0:
            raise TypeError(f"a loss has shape {tuple(loss.shape)}; a scalar is wanted")
        player = "critic" if optimizer is self.critic_optimizer else "generator"
        on_host, loss_is_finite = self.device.type == "cpu", loss.detach().isfinite()
        if on_host and not loss_is_finite:
            raise Diverged(self.round, f"the {player} loss is {float(loss.detach())}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.get_total_norm(p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None)
        if on_host and not norm.isfinite():
            raise Diverged(self.round, f"the gradient of the {player} loss is not finite")
        if not on_host:
            first = ~(loss_is_finite & norm.isfinite()) & (self._diverged_at < 0)
            self._diverged_at.copy_(torch.where(first, self._turns, self._diverged_at))
        optimizer.step()
        return norm

    def look(self) -> None:
        """Raise Diverged if a loss or gradient on an accelerator was not finite; waits for its work so far."""
        if self.device.type != "cpu" and (round := int(self._diverged_at)) >= 0:
            raise Diverged(round, "a loss or its gradient is not finite")

    # The loop

    def run(self, keep: Keep | None = None, tell: Tell = lambda point: None) -> None:
        """Play on from the present round to the last; `keep` is given the state at points of the curve and every so
        many seconds, and at the end.

        Raises Diverged; what was kept last is then the state some rounds before it. Raises Stopped, the state kept,
        where whoever hears the beats asks for it.
        """
        # torch's default generators are put back as they were: a library does not reseed its caller.
        with undisturbed():
            for _ in self.going(keep, tell):
                pass

    def going(self, keep: Keep | None = None, tell: Tell = lambda point: None) -> Generator[None]:
        """As `run`, a step of at most LOOK_EVERY rounds at a time, so that trainings can go on side by side."""
        require_world(self.plan.processes)
        require_in_step(self.round, self.players)
        evaluations = {round: epoch for epoch, round in self.evaluations}
        rounds = self.rounds
        at_once = 1 if self.device.type == "cpu" else LOOK_EVERY
        saving = self.saving = Saving(keep, self.plan.checkpoint_seconds)
        try:
            while True:
                beat()
                with self.products():
                    point = self.round in evaluations and not (self.curve and self.curve[-1]["round"] == self.round)
                    if point:
                        self._evaluate(evaluations[self.round])
                        tell(self.curve[-1])
                    if (point and self.round >= rounds) or saving.due(point=point and self.round > 0):
                        self.look()
                        saving.save(self.state_dict)
                    if self.round >= rounds:
                        return
                    following = min(round for round in evaluations if round > self.round)
                    self.advance(min(following, self.round + at_once) - self.round)
                yield
        except Stopped:
            # Between two rounds, or in the search for z, which changes nothing of the state.
            self.look()
            saving.save(self.state_dict)
            raise

    def products(self) -> AbstractContextManager[None]:
        """In the block an accelerator's products are of the training's precision."""
        return nullcontext() if self.device.type == "cpu" else products_in(self.precision, self.plan.deterministic)

    def release(self) -> None:
        """Let go of the recording, which holds memory of the device."""
        if isinstance(self._replayed, Replayed):
            self._replayed = None

    def advance(self, rounds: int) -> None:
        """So many rounds: as a replayed recording where the device has such, else one by one.

        On an accelerator they are then under way, not done: whoever takes turns with another training loses no time.
        Raises Diverged for what went before them.
        """
        alone = self.plan.processes == 1
        if self.device.type == "cuda" and self.plan.capture and alone and self._replayed is None:
            self.record(partial(cuda_graph, device=self.device))
        if isinstance(self._replayed, Replayed):
            self._replayed.play(rounds)
        else:
            self.look()
            for _ in range(rounds):
                self.play()

    def record(self, record: Record) -> None:
        """Replay the rounds from here on, if `record` can; a note says why it cannot."""
        self._replayed = replayed(self, record)
        if isinstance(self._replayed, str):
            self.notes.append(self._replayed)

    @property
    def resident(self) -> bool:
        """Whether every image that a round sees lies on the device."""
        return self.batches.resident and (self.unlabelled is None or self.unlabelled.resident)

    @property
    def counters(self) -> tuple[Tensor, ...]:
        """What a round changes beside the networks and the optimizers' state."""
        return self._sums, self._turns, self._diverged_at

    def _evaluate(self, epoch: int) -> None:
        """A point of the curve: mean losses since the last one and the MRE on the validation images."""
        self.look()
        require_in_step(self.round, self.players)
        rounds = self.round - (self.curve[-1]["round"] if self.curve else 0)
        means = (self._sums / rounds).tolist() if rounds else (None, None, None)
        point = {"epoch": epoch, "round": self.round, **dict(zip(CURVE, means, strict=True))}
        if self.plan.measure == "mre":
            error, *test = self._errors_of_the_curve()
            if not error < float("inf"):
                raise Diverged(self.round, "the reconstruction error is not finite")
            if not self.curve or error < min(point["validation_mre"] for point in self.curve):
                self._keep_generator()
            point["validation_mre"] = error
            if test:
                (point["test_mre"],) = test
        else:
            self._keep_generator()
            if self.players.classes:
                point["validation_accuracy"] = self.accuracy(self.validation)
        # Last: whoever ends the search for z leaves the state as it was.
        self._sums.zero_()
        self.curve.append(point)

    def _errors_of_the_curve(self) -> list[float]:
        """The MRE of the validation images and, where the plan asks for it, of test images: in one search."""
        plan, parts = self.plan, [self.data.validation.first(self.plan.validation_images)]
        if plan.curve_test_images:
            parts.append(self.data.test.first(plan.curve_test_images))
        labels = [part.labels for part in parts if part.labels is not None]
        whole = parts[0]._replace(
            images=torch.cat([part.images for part in parts]), labels=torch.cat(labels) if labels else None
        )
        errors = self.error(whole, len(whole.images), plan.validation_mre).errors.double()
        return [float(part.mean()) for part in torch.split(errors, [len(part.images) for part in parts])]

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
            raise Diverged(self.round, "a weight of the critic is not finite")
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
            "fingerprint": fingerprint(self.device, self.precision),
            "stacked": self.stacked,
            "inexact": self.inexact,
            "data": [part.sha256 for part in self.data],
            "round": self.round,
            "curve": self.curve,
            "sums": self._sums,
            "generator": self.players.generator.state_dict(),
            "critic": self.players.critic.state_dict(),
            # Without their hyperparameters: those are the recipe's.
            "generator_optimizer": self.generator_optimizer.state_dict()["state"],
            "critic_optimizer": self.critic_optimizer.state_dict()["state"],
            "best_generator": self.best_generator,
        }

    @property
    def largest_checkpoint(self) -> int:
        """Bytes that a checkpoint of this training can have at most."""
        networks = (self.players.generator, self.players.critic)
        weights: int = sum(value.nbytes for network in networks for value in network.state_dict().values())
        return 4 * weights + LARGEST_REST

    def resume(self, path: Path, *, allow_inexact: bool = False) -> None:
        """Take up the state saved at `path`.

        Raises UserError for a damaged file, another cell's, and one made where numbers round differently: with
        `allow_inexact` that is taken up, and the training is inexact from then on.
        """
        state = load_checkpoint(path, self.device, self.largest_checkpoint)
        try:
            self._take_up(state, path, allow_inexact)
        except UserError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} lacks a part of the state: {' '.join(str(error).split())}") from None

    def _take_up(self, state: dict[str, Any], path: Path, allow_inexact: bool) -> None:
        if set(state) != set(STATE):
            missing, strange = sorted(set(STATE) - set(state)), sorted(set(state) - set(STATE))
            raise ValueError(f"{', '.join([*missing, *strange])[:200]} does not fit")
        kinds = {"stacked": bool, "inexact": bool, "round": int, "curve": list}
        for name, kind in kinds.items():
            if type(state[name]) is not kind:
                raise ValueError(f"its {name} is no {kind.__name__}")
        if Cell.model_validate_json(state["cell"]).sha256 != self.cell.sha256:
            raise UserError(f"{path} is a checkpoint of another plan; choose another run folder, or delete the file")
        differing = unlike(state["fingerprint"], fingerprint(self.device, self.precision))
        if differing and not allow_inexact:
            raise UserError(
                f"{path} was made with {differing}: it cannot be continued exactly; restore that, choose another run"
                " folder, or take --allow-inexact, which marks the result"
            )
        if state["stacked"] != self.stacked:
            how = {True: "in a stack", False: "outside a stack"}
            raise UserError(
                f"{path} was made {how[state['stacked']]} and cannot be continued exactly {how[self.stacked]}; choose"
                " another run folder"
            )
        if state["data"] != [part.sha256 for part in self.data]:
            raise UserError(f"{path} was trained on other images than are there now; choose another run folder")
        generator, critic = self.players.generator, self.players.critic
        # A round that is due twice has the last epoch's point.
        due = [(at, epoch) for at, epoch in {at: e for e, at in self.evaluations}.items() if at <= state["round"]]
        for point in state["curve"]:
            self._require_point(point)
        seen = [(point["round"], point["epoch"]) for point in state["curve"]]
        if not 0 <= state["round"] <= self.rounds or seen not in (due, [one for one in due if one[0] < state["round"]]):
            rounds = [at for at, _ in seen[-3:]]
            raise ValueError(f"a curve at rounds {rounds} does not belong to round {state['round']}")
        require_like(generator.state_dict(), state["generator"])
        require_like(critic.state_dict(), state["critic"])
        require_like({"sums": self._sums}, {"sums": state["sums"]})
        require_like(generator.state_dict() if seen else {}, state["best_generator"])
        taken_up = [
            moments(optimizer, network, state[name])
            for optimizer, network, name in (
                (self.generator_optimizer, generator, "generator_optimizer"),
                (self.critic_optimizer, critic, "critic_optimizer"),
            )
        ]
        # Nothing was changed yet: what does not fit leaves the training as it was.
        self.generator_optimizer.load_state_dict(taken_up[0])
        self.critic_optimizer.load_state_dict(taken_up[1])
        self._sums.copy_(state["sums"])
        generator.load_state_dict(state["generator"])
        critic.load_state_dict(state["critic"])
        self.round, self.curve, self.best_generator = state["round"], state["curve"], state["best_generator"]
        self.inexact = bool(differing) or state["inexact"]
        self._turns.fill_(self.round)
        # These know the optimizers' rates and tensors, which are others now.
        self._factor = self._replayed = None

    def _require_point(self, point: dict[str, Any]) -> None:
        """Raises ValueError for what is no point of this training's curve."""
        kinds: dict[str, tuple[type, ...]] = {"epoch": (int,), "round": (int,)}
        kinds |= dict.fromkeys(CURVE, (float, type(None)))
        if self.plan.measure == "mre":
            kinds["validation_mre"] = (float,)
            if self.plan.curve_test_images:
                kinds["test_mre"] = (float,)
        elif self.players.classes:
            kinds["validation_accuracy"] = (float,)
        if set(point) != set(kinds) or not all(type(point[name]) in kind for name, kind in kinds.items()):
            raise ValueError(f"a point of its curve is none of this plan: {', '.join(map(str, point))[:200]}")


def require_like(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises ValueError where what was found has other keys, shapes or types than our own."""
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError("a part of it is no table of tensors")
    if list(own) != list(found):
        raise ValueError(f"{', '.join(sorted(set(own) ^ set(found)))[:200] or 'the order of its parts'} does not fit")
    for key, value in own.items():
        other = found[key]
        if other.shape != value.shape or other.dtype != value.dtype:
            raise ValueError(
                f"{key} is {other.dtype} of shape {tuple(other.shape)}; wanted {value.dtype} of {tuple(value.shape)}"
            )


def moments(optimizer: torch.optim.Optimizer, network: nn.Module, found: dict[int, Any]) -> dict[str, Any]:
    """The state dict of an optimizer with the moments found, each laid out as its parameter: a fused step goes through
    their memory side by side and looks at no size. Raises ValueError where they are not of these parameters."""
    parameters = list(network.parameters())
    names = ("exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.Adam) else ("square_avg",)
    laid: dict[int, dict[str, Tensor]] = {}
    for place, values in found.items():
        if type(place) is not int or not 0 <= place < len(parameters):
            raise ValueError(f"moments of parameter {place!r:.40}; there are {len(parameters)}")
        like = parameters[place].detach()
        require_like({"step": torch.zeros(()), **dict.fromkeys(names, like)}, values)
        laid[place] = {"step": values["step"].clone()}
        for name in names:
            laid[place][name] = torch.empty_like(like, requires_grad=False).copy_(values[name])
    return {"state": laid, "param_groups": optimizer.state_dict()["param_groups"]}


def fingerprint(device: torch.device, precision: str) -> dict[str, str]:
    """What a float's last bit depends on; a run resumes only under the same."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "torch": str(torch.__version__),  # a class of torch's own, which is no text to JSON
        "threads": str(torch.get_num_threads()),
        "precision": precision,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": f"{device.type} {where}".strip(),
        "arithmetic": arithmetic_sha256(torch.get_num_threads()),
    }


@lru_cache(maxsize=8)
def arithmetic_sha256(threads: int) -> str:
    """The first digits of the sha256 of a small computation's bits on the processor, with that many threads.

    It tells what has no name to ask for: the instruction set that a library chose, an environment variable.
    """
    draw = stream("fingerprint")
    x, w = torch.randn(8, 16, 17, 17, generator=draw), torch.randn(32, 16, 4, 4, generator=draw)
    w.requires_grad_()
    made = torch.nn.functional.conv2d(x, w, stride=2, padding=1)
    a, b = torch.randn(130, 517, generator=draw), torch.randn(517, 67, generator=draw)
    product = (a @ b).tanh().sum() + (a.double() @ b.double()).exp().sum().log().float() + made.square().mean().sqrt()
    (gradient,) = torch.autograd.grad(made.sigmoid().sum() * product, w)
    return hashlib.sha256(gradient.numpy().tobytes() + (a @ b).numpy().tobytes()).hexdigest()[:16]


def unlike(made: Mapping[str, str], here: Mapping[str, str]) -> str:
    """`threads 1, here 2`: in which fields two fingerprints differ; empty where they do not."""
    names = [name for name in here if made.get(name) != here[name]]
    return ", ".join(f"{name} {made.get(name, 'unknown')}, here {here[name]}" for name in names)
