"""Rounds that are recorded and replayed end where rounds played one by one do; what cannot be recorded says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganzoo.capture import BLOCK, Replayed
from ganzoo.config import Cell
from ganzoo.cuda_graph import Replay
from ganzoo.durable import save_checkpoint
from ganzoo.party import read_data
from ganzoo.train import Training
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
GAMES: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {"critic.norm": "batch"}),
    ("ls-gan", {}),
    ("ls-gan:balance=2.0", {}),
    ("wgan", {"recipe": "native", "epochs": 5}),
    ("wgan-gp", {"shared.critic_steps": 2}),
    ("cls-gan:unlabeled_weight=1.0,feature_matching=1.0", {"labels.per_class": 3, "measure": "accuracy"}),
    ("supervised", {"measure": "accuracy"}),
    ("hinge:r2=1", {"critic.spectral": True}),
    ("rpgan", {}),
]
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def training(cell: Cell, zoo: Zoo) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


def state(one: Training) -> dict[str, Any]:
    """Everything that a round changes, as bytes."""

    def bits(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().cpu().contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return {key: bits(inner) for key, inner in value.items()}
        return [bits(inner) for inner in value] if isinstance(value, list | tuple) else value

    found: dict[str, Any] = bits({key: value for key, value in one.state_dict().items() if key != "cell"})
    return found


def again(work: Callable[[], None]) -> Replay:
    """A recording that does the work anew: what a CUDA graph does, without one."""
    return work


def refusing(work: Callable[[], None]) -> Replay:
    work()
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


@pytest.mark.parametrize(("objective", "changes"), GAMES)
def test_a_recording_replayed_ends_in_the_bits_of_the_rounds_one_by_one(
    objective: str, changes: dict[str, Any], one_cell: MakeCell, zoo: Zoo
) -> None:
    cell = one_cell(objective, **{"epochs": 12, "validate_every": 10, **changes})
    plain, recorded = training(cell, zoo), training(cell, zoo)
    assert plain.rounds > 2
    plain.run()
    recorded.record(again)
    recorded.run()
    assert not recorded.notes
    assert state(recorded) == state(plain)


def test_more_rounds_than_a_block_holds_are_laid_down_block_by_block(one_cell: MakeCell, zoo: Zoo) -> None:
    cell = one_cell("gls-gan", epochs=20)
    plain, recorded = training(cell, zoo), training(cell, zoo)
    rounds = 2 * BLOCK + 3
    for _ in range(rounds):
        plain.play()
    recorded.record(again)
    recorded.advance(rounds)
    assert recorded.round == rounds
    assert state(recorded) == state(plain)


def test_a_recording_of_a_training_taken_up_in_the_middle_goes_on_there(
    one_cell: MakeCell, zoo: Zoo, tmp_path: Path
) -> None:
    whole, second = (training(one_cell("wgan-gp"), zoo) for _ in range(2))
    whole._evaluate(0)
    for _ in range(4):
        whole.play()
    save_checkpoint(tmp_path / "checkpoint", whole.state_dict())
    second.resume(tmp_path / "checkpoint")
    second.record(again)
    second.advance(4)
    for _ in range(4):
        whole.play()
    assert state(second) == state(whole)


@pytest.mark.parametrize(("objective", "draws"), [("wgan-gp", True), ("ls-gan", False)])
def test_only_a_plugin_that_draws_is_seeded_between_replays(
    objective: str, draws: bool, one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell(objective), zoo)
    one.record(again)
    rounds: list[int] = []
    monkeypatch.setattr(type(one), "prepare", lambda self: rounds.append(self.round))
    one.advance(3)
    assert rounds == ([0, 1, 2] if draws else [])


def test_what_cannot_be_recorded_is_played_and_says_why(one_cell: MakeCell, zoo: Zoo) -> None:
    cell = one_cell("gls-gan")
    plain, refused = training(cell, zoo), training(cell, zoo)
    plain.run()
    refused.record(refusing)
    assert refused.notes == [
        "rounds are not captured, which is slower: operation not permitted when stream is capturing"
    ]
    refused.run()
    assert state(refused) == state(plain)


def test_images_that_do_not_lie_on_the_device_are_not_recorded(
    one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell("dcgan"), zoo)
    monkeypatch.setattr(type(one), "resident", property(lambda self: False))
    one.record(again)
    assert one.notes == ["rounds are not captured: the training images do not fit on the device"]
    one.run()
    assert one.round == one.rounds


def test_recording_changes_nothing(one_cell: MakeCell, zoo: Zoo) -> None:
    one = training(one_cell("wgan"), zoo)
    for _ in range(2):
        one.play()
    before = state(one)
    one.record(again)
    assert isinstance(one._replayed, Replayed)
    assert state(one) == before


@pytest.mark.parametrize("objective", [pytest.param(name, marks=gpu) for name, _ in GAMES[:5]])
def test_a_cuda_graph_makes_the_rounds_that_the_device_makes_one_by_one(
    objective: str, one_cell: MakeCell, zoo: Zoo
) -> None:
    changes = {"device": "cuda", "epochs": 12, "validate_every": 10}
    plain = training(one_cell(objective, capture=False, **changes), zoo)
    graph = training(one_cell(objective, **changes), zoo)
    plain.run()
    graph.run()
    assert isinstance(graph._replayed, Replayed), graph.notes
    for one, other in zip(plain.players.generator.parameters(), graph.players.generator.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    for one_point, other_point in zip(plain.curve, graph.curve, strict=True):
        assert one_point["validation_mre"] == pytest.approx(other_point["validation_mre"], rel=1e-2)
