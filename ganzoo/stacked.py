"""Many small cells in one process: cells of one network shape, that differ in objective and seed, play their rounds
together.

A small network spends its time on calls, not on arithmetic. Here the networks of all cells meet their images in one
call: their weights are slices of stacked tensors, `torch.func.vmap` runs over the stack, convolutions are `bmm`
(`ganzoo.dense`). Everything else stays the cell's own: images, z, labels, loss, optimizer, random numbers, verdict.

An objective's loss is a plain function of a critic, and is called for each cell with a critic that knows the outputs
for the cell's real and generated images. Where it asks for more (a gradient, other images) it is left, the questions
of all cells are answered together, and it is called again; the answers come in the order of the questions.

A cell's bits do not depend on how many cells, or which, share its stack: see `Stack`.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ganzoo.arithmetic import SMALL
from ganzoo.cell_folder import LostFence
from ganzoo.config import IMMATERIAL, Cell
from ganzoo.dense import ENTRIES, Dense, Recorder, Sizes, spread
from ganzoo.errors import UserError
from ganzoo.game import Need
from ganzoo.heads import BoundCritic, Head, WeightNormTwiceDifferentiable
from ganzoo.pulse import Stopped, beat
from ganzoo.randomness import derive, stream, undisturbed
from ganzoo.saving import Keep, Saving
from ganzoo.train import Diverged, Draws, Played, Tell, Training

KINDS = frozenset({Need.LABELS, Need.UNLABELED, Need.ALONE})
"""Needs that change what a round consists of: cells of one stack share them."""


class Question(NamedTuple):
    """What a cell's loss asks of its critic's network."""

    what: str
    """`outputs`, `features`, `gradient_in_x` or `gradient_in_theta`."""
    images: Tensor
    head: Head
    labels: Tensor | None


class Unanswered(BaseException):
    """A loss cannot go on before this is answered. Not an Exception: a plugin that catches those must let it pass."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.what)
        self.question = question


@dataclass
class Conversation:
    """What one cell's loss asks, and what it was answered, in order."""

    answers: list[Tensor] = field(default_factory=list)
    asked: int = 0

    def ask(self, what: str, critic: BoundCritic, images: Tensor) -> Tensor:
        self.asked += 1
        if self.asked > len(self.answers):
            raise Unanswered(Question(what, images, critic.head, critic._labels_of(images)))
        return self.answers[self.asked - 1]


@dataclass(frozen=True)
class AskingCritic(BoundCritic):
    """A critic that knows some outputs and asks for the others."""

    known: tuple[tuple[Tensor, Tensor], ...] = ()
    """(images, the network's outputs for them); asked for by the very tensor."""
    conversation: Conversation = field(default_factory=Conversation)

    def __call__(self, x: Tensor) -> Tensor:
        outputs = next((outputs for images, outputs in self.known if images is x), None)
        if outputs is None:
            outputs = self.conversation.ask("outputs", self, x)
        return self.head(outputs, self._labels_of(x))

    def features(self, x: Tensor) -> Tensor:
        return self.conversation.ask("features", self, x)

    def gradient_in_x(self, x: Tensor) -> Tensor:
        return self.conversation.ask("gradient_in_x", self, x)

    def gradient_in_theta(self, x: Tensor) -> Tensor:
        return self.conversation.ask("gradient_in_theta", self, x)


class _Method(nn.Module):
    """A method of a network as a module's forward, so that it can be called with other weights."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = getattr(self.network, self.method)(x)
        return made


class _PiecewiseLinear(TorchFunctionMode):
    """ReLU and LeakyReLU as products with a constant: their second derivative is not 0 but absent, so that nobody
    carries zeros back through the network."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        slope: Any = None
        if function is F.relu:
            slope = 0.0
        elif function is F.leaky_relu:
            slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
        if slope is None:
            return function(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        return x * torch.where(x.detach() > 0, 1.0, slope)


Weights = Mapping[str, Tensor]


class State(NamedTuple):
    """Of some rows, each tensor (rows, ...)."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    matrices: list[Tensor]


class StackedNetwork:
    """The networks of S cells as one: stacked weights (S, ...), of which the networks' own are slices.

    What is done to a network's own weights (an optimizer's step, clipping, load_state_dict) is done to its slice.
    Of a single network there are two rows, one idle: products of one matrix take another way in the library and end
    in other bits than those of many.
    """

    def __init__(self, networks: Sequence[nn.Module], entries: int = ENTRIES) -> None:
        self.entries = entries
        self.networks = list(networks)
        self.rows = max(2, len(self.networks))
        padded = [*self.networks, *self.networks][: self.rows]
        self._skeleton = deepcopy(self.networks[0]).requires_grad_(False)
        self.weights = self._stacked([dict(network.named_parameters()) for network in padded])
        self.buffers = self._stacked([dict(network.named_buffers()) for network in padded])
        for weight in self.weights.values():
            weight.requires_grad_()
        self.own = [list(network.parameters()) for network in self.networks]
        self._met: dict[str, list[tuple[str, Sizes]]] = {}
        """Method -> the weights that convolutions met in it, and what matrices they became."""
        self._matrices: dict[tuple[str, Sizes], Tensor] = {}
        self.left_alone = 0
        """Convolutions of the first pass that did not become dense."""

    def _stacked(self, own: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        stacks = {}
        for name, first in own[0].items():
            # Laid out row by row as the networks' own: optimizers go through a weight and its state in step.
            stack = first.new_empty_strided((len(own), *first.shape), (first.numel(), *first.stride()))
            for row, tensors in enumerate(own):
                stack[row].copy_(tensors[name].detach())
                if row < len(self.networks):
                    tensors[name].data = stack[row]
            stacks[name] = stack
        return stacks

    def release(self) -> None:
        """Give each network weights of its own again."""
        for network in self.networks:
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.clone(memory_format=torch.preserve_format)

    def changed(self) -> None:
        """To be told when weights are not what they were: their matrices are made again."""
        self._matrices = {}

    def __call__(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """(rows, N, ...) -> (rows, N, ...): each row through its own network. Frozen: no gradient in the weights."""
        self._meet("forward", x)
        return self._call("forward", self._state("forward", None, frozen=frozen), x)

    def answer(self, asked: Sequence[tuple[int, Question]], *, frozen: bool = False) -> list[Tensor]:
        """The questions of some rows, alike but for their heads and labels, in one pass."""
        rows = [row for row, _ in asked]
        first = asked[0][1]
        if len(rows) == 1:
            rows, asked = rows * 2, [*asked, *asked]
        index = torch.tensor(rows, device=first.images.device)
        x = torch.stack([question.images for _, question in asked])
        # Selected even where it is all of them: sums of gradients then add up in one order, whoever asks besides.
        method = "features" if first.what == "features" else "forward"
        self._meet(method, x[:1].expand(self.rows, *x.shape[1:]))
        state = self._state(method, index, frozen=frozen)
        if first.what == "gradient_in_theta":
            made = list(self._gradient_in_theta(state, x, asked))
        elif first.what == "gradient_in_x":
            made = list(self._gradient_in_x(state, x, asked))
        else:
            made = list(self._call(method, state, x).unbind())
        for name, buffer in state.buffers.items():
            self.buffers[name].index_copy_(0, index, buffer)
        return made

    def _state(self, method: str, index: Tensor | None, *, frozen: bool) -> State:
        """What a pass of the rows at `index` (all of them) needs."""

        def taken(stack: Tensor) -> Tensor:
            stack = stack.detach() if frozen else stack
            return stack if index is None else stack.index_select(0, index)

        with torch.enable_grad():
            met = self._met[method]
            for name, sizes in met:
                if (name, sizes) not in self._matrices:
                    self._matrices[name, sizes] = spread(self.weights[name].flatten(1), sizes)
            weights = {name: taken(weight) for name, weight in self.weights.items()}
            matrices = [taken(self._matrices[key]) for key in met]
        buffers = {
            name: buffer if index is None else buffer.index_select(0, index) for name, buffer in self.buffers.items()
        }
        return State(weights, buffers, matrices)

    def _gradient_in_x(self, state: State, x: Tensor, asked: Sequence[tuple[int, Question]]) -> Iterator[Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad(), _PiecewiseLinear():
            outputs = self._call("forward", state, x)
        losses = [
            question.head(outputs, question.labels).sum()
            for outputs, (_, question) in zip(outputs.unbind(), asked, strict=True)
        ]
        yield from torch.autograd.grad(losses, x, create_graph=True)[0].unbind()

    def _gradient_in_theta(self, state: State, x: Tensor, asked: Sequence[tuple[int, Question]]) -> Iterator[Tensor]:
        head, labels = asked[0][1].head, None
        if asked[0][1].labels is not None:
            labels = torch.stack([question.labels for _, question in asked if question.labels is not None])

        def loss(weights: Weights, buffers: Weights, image: Tensor, label: Tensor | None) -> Tensor:
            outputs = functional_call(self._skeleton, {**weights, **buffers}, (image[None],))
            return head(outputs, None if label is None else label[None])[0]

        one = None if labels is None else 0
        per_sample = vmap(grad(loss), in_dims=(None, None, 0, one))
        with Dense(self.entries), WeightNormTwiceDifferentiable():
            gradients = vmap(per_sample, in_dims=(0, 0, 0, one))(state.weights, state.buffers, x.detach(), labels)
        yield from torch.cat([gradient.flatten(2) for gradient in gradients.values()], dim=2).unbind()

    def _call(self, method: str, state: State, x: Tensor) -> Tensor:
        met = self._met[method]

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], matrices: list[Tensor], x: Tensor) -> Tensor:
            for (name, sizes), matrix in zip(met, matrices, strict=True):
                dense.know(weights[name], sizes, matrix)
            return self._apply(method, {**weights, **buffers}, x)

        with WeightNormTwiceDifferentiable(), Dense(self.entries) as dense:
            found: Tensor = vmap(one)(state.weights, state.buffers, state.matrices, x)
        return found

    def _meet(self, method: str, x: Tensor) -> None:
        """See which weights become which matrices. The first pass of a stack is then made like every other: sums of
        gradients add up in one order."""
        if method in self._met:
            return
        names: list[tuple[str, Sizes]] = []

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            made = self._apply(method, {**weights, **buffers}, x)
            own = {id(weight): name for name, weight in weights.items()}
            names.extend((own[id(kernel)], sizes) for kernel, sizes in recorder.met if id(kernel) in own)
            return made

        with torch.no_grad(), WeightNormTwiceDifferentiable(), Recorder(self.entries) as recorder:
            vmap(one)(self.weights, {name: buffer.clone() for name, buffer in self.buffers.items()}, x)
        self._met[method] = list(dict.fromkeys(names))
        self.left_alone += recorder.left_alone

    def _apply(self, method: str, state: dict[str, Tensor], x: Tensor) -> Tensor:
        called: nn.Module = self._skeleton
        if method != "forward":
            called = _Method(self._skeleton, method)
            state = {f"network.{name}": tensor for name, tensor in state.items()}
        made: Tensor = functional_call(called, state, (x,))
        return made


def kind(cell: Cell) -> str:
    """Cells of one kind, and only they, can be a stack: one plan, one rhythm, networks of one shape."""
    plan = {key: value for key, value in cell.plan.items() if key not in IMMATERIAL}
    return json.dumps([plan, cell.recipe.critic_steps, sorted(KINDS & set(cell.needs))], sort_keys=True)


def stackable(trainings: Sequence[Training]) -> str | None:
    """Why these cells cannot play as a stack and end as if each had played alone; None if they can.

    Their networks are tried: a call on copies of the first cell's, which changes nothing.
    """
    if not trainings:
        return "there are no cells"
    first = trainings[0]
    if first.device.type != "cpu":
        return f"stacks play on the CPU, not on {first.device.type}"
    if first.precision != "fp32":
        return f"stacks compute in fp32, not in {first.precision}"
    if first.plan.compile:
        return "stacks are not compiled"
    if first.plan.processes > 1:
        return "stacks play in one process"
    _, height, width = first.data.train.image_shape
    if height * width > SMALL:
        return f"their images are large, {height}x{width}"
    if len({kind(one.cell) for one in trainings}) > 1:
        return "they differ in more than objective and seed: in the plan, critic_steps, labels or what plays"
    for name, network in (("generator", first.players.generator), ("critic", first.players.critic)):
        others = [getattr(one.players, name) for one in trainings]
        if len({_shapes(other) for other in others}) > 1:
            return f"their {name}s differ in shape"
        if (why := _unlike_alone(network, _example(first, name))) is not None:
            return f"{name} '{getattr(first.plan, name).name}' {why}"
    return None


def _shapes(network: nn.Module) -> str:
    state = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in network.state_dict().items()}
    return f"{state} {network.training}"


def _example(one: Training, name: str) -> Tensor:
    draw = stream("stackable", one.cell.seed)
    if name == "generator":
        return torch.rand(8, one.plan.z_dim + one.players.classes, generator=draw) * 2 - 1
    return torch.rand(8, *one.data.train.image_shape, generator=draw) * 2 - 1


def _unlike_alone(network: nn.Module, x: Tensor) -> str | None:
    """What keeps a stack of this network from being the network."""
    pair = [deepcopy(network), deepcopy(network)]
    names = [name for name, _ in network.named_parameters()]
    if len(names) != len(list(network.parameters())) or len({*names, *dict(network.named_buffers())}) != len(
        network.state_dict()
    ):
        return "keeps a state that a stack does not see"
    weight = next(network.parameters(), None)
    x = x if weight is None else x.to(weight.dtype)
    stacked = StackedNetwork(pair)
    with undisturbed(), torch.no_grad():
        alone = deepcopy(network)(x)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # that vmap goes through the rows one by one
                made = stacked(torch.stack([x, x]))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, Warning) as error:
            return f"does not run under torch.func.vmap: {' '.join(str(error).split())[:200]}"
    if stacked.left_alone:
        return "has convolutions that are too large, or not plain enough, to be dense matrices"
    if made.shape[1:] != alone.shape or not torch.allclose(made[1], alone, rtol=1e-3, atol=1e-4):
        return "computes something else in a stack than alone"
    return None


class Stepped(NamedTuple):
    """What a step of all cells leaves."""

    losses: dict[int, Tensor]
    """By row, of the cells that still play."""
    norms: Sequence[Tensor]
    """Of each row's gradient."""


class Stack:
    """Cells that play together; each is left as if it had played alone, to rounding.

    To rounding: the sums are the same, added up in another order. In float64 a round differs by less than 1e-8 of a
    value; in float32 the networks and the curve of a short training (8 rounds) by less than 1e-3.

    A cell's bits do not depend on the stack's size and company, nor on when a stack was made: so small cells are
    exact under resume and any number of jobs if they are always played as stacks, be it of one. That rests on
    * two rows at least: the library multiplies a single matrix by a vector in another way than several;
    * each cell's own loss and optimizer: fused Adam rounds the last few of a tensor's numbers otherwise, wherever
      that tensor ends;
    * gradients of several passes that add up in one order, whoever takes part in them;
    * elementwise functions in a network that round alike at the end of a tensor and within it: ReLU, LeakyReLU and
      tanh always, softplus and sigmoid where a row has a multiple of 16 numbers, as with batches of 16, 32, 64.
    """

    def __init__(self, trainings: Sequence[Training], entries: int = ENTRIES) -> None:
        """The trainings must be `stackable`, and may be at different rounds; `entries` as in `ganzoo.dense.Dense`."""
        self.trainings = list(trainings)
        first = self.trainings[0]
        self.alone = Need.ALONE in first.needs
        self.generator = StackedNetwork([one.players.generator for one in self.trainings], entries)
        self.critic = StackedNetwork([one.players.critic for one in self.trainings], entries)
        self.per_sample = first.players.per_sample
        self.left: dict[int, BaseException] = {}
        """Row -> why it plays no more: `Diverged`, or what its objective raised."""

    def release(self) -> None:
        self.generator.release()
        self.critic.release()

    def play(self) -> list[Played | BaseException]:
        """One round of every cell: what each leaves to record, or why it plays no more."""
        self.generator.changed()
        self.critic.changed()
        draws = [one.draws(one.round) for one in self.trainings]
        for one in self.trainings:
            one.set_rates()
        random: dict[int, Tensor] = {}
        for step in range(self.trainings[0].cell.recipe.critic_steps):
            batches = [one.batches.at(drawn.batch[step]) for one, drawn in zip(self.trainings, draws, strict=True)]
            reals, labels = [real for real, _ in batches], [labels for _, labels in batches]
            if self.alone:
                fakes = [torch.zeros_like(real) for real in reals]
            else:
                with torch.no_grad():
                    fakes = self._generate([drawn.z[step] for drawn in draws], labels)
            critic_losses = self._critic_step(step, draws, reals, fakes, labels, random).losses
        if not self.alone:
            fakes = self._generate([drawn.generator_z for drawn in draws], labels)
            generator_losses, norms = self._generator_step(reals, fakes, labels, random)
        played: list[Played | BaseException] = []
        for row, one in enumerate(self.trainings):
            if row in self.left:
                played.append(self.left[row])
                continue
            zero = torch.zeros(())
            rest = (zero, zero) if self.alone else (generator_losses[row], norms[row])
            played.append(_noted(one, Played(critic_losses[row], *rest)))
        return played

    def _generate(self, z: Sequence[Tensor], labels: Sequence[Tensor | None]) -> list[Tensor]:
        inputs = [_inputs(one, own, its) for one, own, its in zip(self.trainings, z, labels, strict=True)]
        made = self.generator(self._rows(inputs, self.generator))
        return list(made.unbind())[: len(self.trainings)]

    @staticmethod
    def _rows(own: Sequence[Tensor], network: StackedNetwork) -> Tensor:
        return torch.stack([*own, *own][: network.rows])

    def _critic_step(
        self,
        step: int,
        draws: list[Draws],
        reals: list[Tensor],
        fakes: list[Tensor],
        labels: list[Tensor | None],
        random: dict[int, Tensor],
    ) -> Stepped:
        unlabelled: list[Any] = [None] * len(self.trainings)
        if self.trainings[0].unlabelled is not None:
            unlabelled = self._unlabelled(step, draws)
        known: list[tuple[tuple[Tensor, Tensor], ...]] = [()] * len(self.trainings)
        if self.per_sample:
            # Only images of one batch that do not see each other may come in one tensor.
            images = [torch.cat([real, fake]) for real, fake in zip(reals, fakes, strict=True)]
            outputs = self.critic(self._rows(images, self.critic)).unbind()
            known = [
                ((real, both[: len(real)]), (fake, both[len(real) :]))
                for real, fake, both in zip(reals, fakes, outputs, strict=False)
            ]

        def loss(row: int, conversation: Conversation) -> Tensor:
            one = self.trainings[row]
            critic = _asking(one.players.loss(labels[row]), known[row], conversation)
            found = one.game.critic_loss(critic, reals[row], fakes[row])
            if unlabelled[row] is not None:
                assert one.game.unlabeled_loss is not None
                other = _asking(one.players.unlabeled_loss(), (), conversation)
                found = found + one.game.unlabeled_loss(other, *unlabelled[row])
            return found

        return self._step("critic", self.critic, loss, random, frozen=False)

    def _unlabelled(self, step: int, draws: list[Draws]) -> list[tuple[Tensor, Tensor]]:
        """Unlabelled images and generated ones of classes drawn evenly."""
        reals = []
        for one, drawn in zip(self.trainings, draws, strict=True):
            assert one.unlabelled is not None
            reals.append(one.unlabelled.at(drawn.unlabelled[step]).real)
        with torch.no_grad():
            z, classes = [drawn.unlabelled_z[step] for drawn in draws], [drawn.classes[step] for drawn in draws]
            fakes = self._generate(z, classes)
        return list(zip(reals, fakes, strict=True))

    def _generator_step(
        self, reals: list[Tensor], fakes: list[Tensor], labels: list[Tensor | None], random: dict[int, Tensor]
    ) -> Stepped:
        known: list[tuple[tuple[Tensor, Tensor], ...]] = [()] * len(self.trainings)
        if self.per_sample:
            outputs = self.critic(self._rows(fakes, self.critic), frozen=True).unbind()
            known = [((fake, own),) for fake, own in zip(fakes, outputs, strict=False)]

        def loss(row: int, conversation: Conversation) -> Tensor:
            one = self.trainings[row]
            critic = _asking(one.players.loss(labels[row]), known[row], conversation)
            return one.game.generator_loss(critic, reals[row], fakes[row])

        return self._step("generator", self.generator, loss, random, frozen=True)

    def _step(
        self,
        player: str,
        network: StackedNetwork,
        loss: Callable[[int, Conversation], Tensor],
        random: dict[int, Tensor],
        *,
        frozen: bool,
    ) -> Stepped:
        """Each cell's loss, all their gradients at once, each cell's own optimizer."""
        found = self._losses(loss, random, frozen=frozen)
        finite = torch.stack([value.detach() for value in found.values()]).isfinite().tolist() if found else []
        for row, is_finite in zip(list(found), finite, strict=True):
            if not is_finite:
                said = f"the {player} loss is {float(found[row].detach())}"
                self.left[row] = Diverged(self.trainings[row].round, said)
                del found[row]
        if not found:
            return Stepped({}, ())
        names = list(network.weights)
        weights = [network.weights[name] for name in names]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(list(found.values()), weights, allow_unused=True)
        norms = _norms([gradient for gradient in gradients if gradient is not None])
        steady = torch.stack(norms).isfinite().tolist() if norms else [True] * network.rows
        for row in [row for row in found if not steady[row]]:
            said = f"the gradient of the {player} loss is not finite"
            self.left[row] = Diverged(self.trainings[row].round, said)
            del found[row]
        laid = [
            None if gradient is None else torch.empty_like(weight).copy_(gradient)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        for row in found:
            one = self.trainings[row]
            own = one.players.critic if player == "critic" else one.players.generator
            optimizer = one.critic_optimizer if player == "critic" else one.generator_optimizer
            for parameter, gradient in zip(network.own[row], laid, strict=True):
                parameter.grad = None if gradient is None else gradient[row]
            optimizer.step()
            for parameter in network.own[row]:
                parameter.grad = None
            if player == "critic":
                one.game.constrain(own)
        network.changed()
        return Stepped({row: value.detach() for row, value in found.items()}, norms)

    def _losses(
        self, loss: Callable[[int, Conversation], Tensor], random: dict[int, Tensor], *, frozen: bool
    ) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        conversations = {row: Conversation() for row in range(len(self.trainings)) if row not in self.left}
        waiting = list(conversations)
        while waiting:
            asked: list[tuple[int, Question]] = []
            for row in waiting:
                one = self.trainings[row]
                if row in random:
                    torch.default_generator.set_state(random[row])
                else:
                    # Not torch.manual_seed, which takes as long as a small loss: it asks every kind of device.
                    torch.default_generator.manual_seed(derive("round", one.cell.seed, one.round))
                conversations[row].asked = 0
                try:
                    value = loss(row, conversations[row])
                    if value.dim() != 0:
                        raise TypeError(f"a loss has shape {tuple(value.shape)}; a scalar is wanted")
                except Unanswered as question:
                    asked.append((row, question.question))
                except (Exception, SystemExit) as error:  # noqa: BLE001 (a plugin may raise anything: the others go on)
                    self.left[row] = error
                else:
                    found[row] = value
                    random[row] = torch.default_generator.get_state()
            for _, alike in groupby(sorted(asked, key=_kind), key=_kind):
                questions = list(alike)
                answers = self.critic.answer(questions, frozen=frozen)
                for (row, _), answer in zip(questions, answers, strict=False):
                    conversations[row].answers.append(answer)
            waiting = [row for row, _ in asked]
        return dict(sorted(found.items()))


def _inputs(one: Training, z: Tensor, labels: Tensor | None) -> Tensor:
    """What the generator is given: z, and the one-hot label where the game is conditional."""
    if not one.players.classes:
        return z
    assert labels is not None
    return torch.cat([z, F.one_hot(labels, one.players.classes).to(z.dtype)], dim=1)


def _noted(one: Training, played: Played) -> Played:
    """The training's own record of a round, as `Training.turn` and `Training.play` keep it."""
    one._sums += torch.stack(played).double()
    one._turns += 1
    one.round += 1
    return played


def _norms(gradients: Sequence[Tensor]) -> list[Tensor]:
    """||gradient||_2 over all of a row's parameters."""
    each = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    return list(torch.linalg.vector_norm(torch.stack(each, dim=1), dim=1).unbind()) if each else []


def _kind(asked: tuple[int, Question]) -> str:
    """Questions of one kind are answered in one pass."""
    _, question = asked
    shapes = f"{question.what} {tuple(question.images.shape)} {question.images.dtype}"
    if question.what == "gradient_in_theta":
        shapes += f" {id(question.head)} {question.labels is None}"
    return shapes


def _asking(bound: Any, known: tuple[tuple[Tensor, Tensor], ...], conversation: Conversation) -> AskingCritic:
    assert isinstance(bound, BoundCritic)
    return AskingCritic(bound.network, bound.head, bound.labels, known=known, conversation=conversation)


def run(
    trainings: Sequence[Training], keeps: Sequence[Keep | None] | None = None, tells: Sequence[Tell] | None = None
) -> list[BaseException | None]:
    """`Training.run` of every cell, together: each plays on from its present round to its last, is evaluated at its
    points of the curve and saved there and every so many seconds.

    The cells must be `stackable`; they may be at different rounds. Returns, in their order, why a cell ended early:
    `Diverged`, or what its own plugins raised; None where it went to its end. Raises UserError (a full disk), and
    Stopped, all of them saved.
    """
    ends: list[BaseException | None] = [None] * len(trainings)
    playing = list(range(len(trainings)))
    for one, keep in zip(trainings, keeps or [None] * len(trainings), strict=True):
        one.saving = Saving(keep, one.plan.checkpoint_seconds, len(trainings))

    def arrive(row: int) -> bool:
        """What is due at this round; False once the cell plays no more."""
        one = trainings[row]
        epoch = next((epoch for epoch, round in one.evaluations if round == one.round), None)
        point = epoch is not None and not (one.curve and one.curve[-1]["round"] == one.round)
        if point:
            try:
                assert epoch is not None
                one._evaluate(epoch)
            except UserError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 (`Diverged`, or a network that raises: as above)
                ends[row] = error
                return False
        try:
            if point and tells is not None:
                tells[row](one.curve[-1])
            if (point and one.round >= one.rounds) or one.saving.due(point=point and one.round > 0):
                one.saving.save(one.state_dict)
        except LostFence as error:  # this cell is another's now; the others are not
            ends[row] = error
            return False
        return one.round < one.rounds

    def save_all() -> None:
        for row in playing:
            if ends[row] is None:  # one that diverged stands in the middle of a round
                with suppress(LostFence):
                    trainings[row].saving.save(trainings[row].state_dict)

    # torch's default generators are put back as they were: a library does not reseed its caller.
    with undisturbed():
        try:
            playing = [row for row in playing if arrive(row)]
        except Stopped:
            save_all()
            raise
        while playing:
            stack = Stack([trainings[row] for row in playing])
            try:
                gone: list[int] = []
                while not gone:
                    beat()
                    for row, played in zip(playing, stack.play(), strict=True):
                        if isinstance(played, BaseException):
                            ends[row] = played
                            gone.append(row)
                            continue
                        if not arrive(row):
                            gone.append(row)
            except Stopped:
                save_all()
                raise
            finally:
                stack.release()
            playing = [row for row in playing if row not in gone]
    return ends
