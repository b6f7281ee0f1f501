"""Whole rounds as a CUDA graph: recorded once, replayed for every round, nothing but a count between two replays.

What the host draws (which images, z, classes) is laid on the device a block of rounds at a time; the graph reads the
row that its own counter names. Without CUDA the same rounds are played one by one through the same `Training.turn`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganzoo.cuda_graph import Record
from ganzoo.randomness import random_state

if TYPE_CHECKING:
    from ganzoo.train import Draws, Training

BLOCK = 32
"""Rounds whose draws are laid on the device at a time."""
WARM_UP = 3
"""Rounds before the recording, in which libraries choose their kernels and optimizers make their state."""


class Replayed:
    """The rounds of a training, recorded at its present one and replayed."""

    def __init__(self, training: "Training", record: Record) -> None:
        self.training = training
        self._at = torch.zeros(1, dtype=torch.int64, device=training.device)
        drawn = training.draws(training.round)
        self._draws = type(drawn)
        self._block = [part[None].repeat(BLOCK, *[1] * part.dim()).to(training.device) for part in drawn]
        with unchanged(training):
            before = random_state(training.device)
            for _ in range(WARM_UP):
                self._turn()
            self._plugin_draws = not torch.equal(before, random_state(training.device))
            self._at.zero_()
            self._replay = record(self._turn)

    def _turn(self) -> None:
        """The round of the block that the counter names."""
        self.training.turn(self._draws(*(part.index_select(0, self._at)[0] for part in self._block)))
        self._at += 1

    def play(self, rounds: int) -> None:
        """So many rounds from the training's present one. Raises Diverged for what went before them."""
        training = self.training
        for first in range(0, rounds, BLOCK):
            count = min(BLOCK, rounds - first)
            drawn = [training.draws(training.round + ahead) for ahead in range(count)]
            training.look()  # which waits for the rounds before: the host has drawn meanwhile
            self._lay(drawn)
            for _ in range(count):
                if self._plugin_draws:
                    training.prepare()
                else:
                    training.set_rates()
                self._replay()
                training.round += 1

    def _lay(self, drawn: "list[Draws]") -> None:
        """The draws of the next rounds on the device."""
        for part, fresh in zip(self._block, zip(*drawn, strict=True), strict=True):
            stacked = torch.stack(fresh)
            if stacked.device.type == "cpu" and part.device.type == "cuda":
                stacked = stacked.pin_memory()  # the copy then overlaps the rounds before it
            part[: len(drawn)].copy_(stacked, non_blocking=True)
        self._at.zero_()


def replayed(training: "Training", record: Record) -> Replayed | str:
    """The training's rounds as a recording, or why they cannot be recorded, in one line; it is then as it was."""
    if not training.resident:
        return "rounds are not captured: the training images do not fit on the device"
    try:
        return Replayed(training, record)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        return f"rounds are not captured, which is slower: {reason}"


@contextmanager
def unchanged(training: "Training") -> Iterator[None]:
    """After the block the training is in the state it had before it, in the same tensors: a recording reads those.

    State that was made in the block, as optimizers make theirs in their first step, is 0 after it.
    """
    before = {name: tensor.detach().clone() for name, tensor in _tensors(training).items()}
    on_cuda = training.device.type == "cuda"
    side = torch.cuda.Stream(training.device) if on_cuda else None  # type: ignore[no-untyped-call]
    if side is not None:
        side.wait_stream(torch.cuda.current_stream(training.device))
    try:
        with torch.cuda.stream(side):  # of None: nothing
            yield
    finally:
        if side is not None:
            torch.cuda.current_stream(training.device).wait_stream(side)
        with torch.no_grad():
            for name, tensor in _tensors(training).items():
                if name in before:
                    tensor.copy_(before[name])
                else:
                    tensor.zero_()
        for network in (training.players.generator, training.players.critic):
            network.requires_grad_(True)
            network.zero_grad(set_to_none=True)


def _tensors(training: "Training") -> dict[str, Tensor]:
    """Everything that a round changes, by name."""
    found: dict[str, Tensor] = {f"counter {i}": tensor for i, tensor in enumerate(training.counters)}
    for name, network in (("generator", training.players.generator), ("critic", training.players.critic)):
        found |= {f"{name} {key}": value for key, value in network.state_dict(keep_vars=True).items()}
    for name, optimizer in (("generator", training.generator_optimizer), ("critic", training.critic_optimizer)):
        for i, state in enumerate(optimizer.state.values()):
            found |= {f"{name} optimizer {i} {key}": value for key, value in state.items() if torch.is_tensor(value)}
    return found
