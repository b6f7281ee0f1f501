"""Trainings that take turns end as they end alone, and one that fails leaves the others be."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ganzoo.config import Cell
from ganzoo.durable import load_checkpoint, save_checkpoint
from ganzoo.party import read_data
from ganzoo.side_by_side import _streams, side_by_side
from ganzoo.train import Diverged, Training, weights_sha256
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

BREAKS = """
    calls = 0

    @ganzoo.cost
    def breaks(a):  # the harness listens to the loss once before it plays
        global calls
        calls += 1
        if calls > 4:
            raise ZeroDivisionError("no more")
        return a

    @ganzoo.cost
    def never(a):
        return a * float("nan")
"""


def training(cell: Cell, zoo: Zoo) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


def ends(one: Training) -> tuple[str, str, list[dict[str, Any]]]:
    return weights_sha256(one.players.generator), weights_sha256(one.players.critic), one.curve


def test_taking_turns_changes_no_bit(one_cell: MakeCell, zoo: Zoo, tmp_path: Path) -> None:
    cells = [one_cell("wgan-gp"), one_cell("dcgan", epochs=3), one_cell("cls-gan")]
    alone, together = ([training(cell, zoo) for cell in cells] for _ in range(2))
    for one in alone:
        one.run()
    before = torch.get_rng_state()
    told: list[list[dict[str, Any]]] = [[], [], []]
    paths = [tmp_path / str(i) for i in range(3)]
    assert (
        side_by_side(together, [partial(save_checkpoint, path) for path in paths], [points.append for points in told])
        == [None] * 3
    )
    assert [ends(one) for one in together] == [ends(one) for one in alone]
    assert [[point["epoch"] for point in points] for points in told] == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2]]
    assert [load_checkpoint(path)["round"] for path in paths] == [8, 12, 8]
    assert torch.equal(torch.get_rng_state(), before)


def test_one_that_fails_or_diverges_leaves_the_others(
    one_cell: MakeCell, plugin: Callable[..., Path], zoo: Zoo
) -> None:
    own = Zoo.installed(plugin(BREAKS))
    names = ["gls-gan:cost=breaks", "gls-gan", "gls-gan:cost=never"]
    trainings = [training(one_cell(name, zoo=own), own) for name in names]
    healthy = training(one_cell("gls-gan"), zoo)
    healthy.run()
    broken, fine, diverged = side_by_side(trainings, [None] * 3, [lambda point: None] * 3)
    assert isinstance(broken, ZeroDivisionError)
    assert fine is None
    assert isinstance(diverged, Diverged)
    assert diverged.round == 0
    assert ends(trainings[1]) == ends(healthy)


def test_those_whose_plugins_draw_share_a_stream_and_the_others_have_their_own(
    one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.side_by_side._stream", lambda device: object())
    names = ["wgan-gp", "dcgan", "wgan-gp", "ls-gan"]
    first, second, third, fourth = _streams([training(one_cell(name), zoo) for name in names])
    assert first is third
    assert len({first, second, fourth}) == 3


@pytest.mark.parametrize("capture", [pytest.param(value, marks=gpu) for value in (False, True)])
def test_streams_of_one_gpu_do_not_mix(capture: bool, one_cell: MakeCell, zoo: Zoo) -> None:
    cells = [one_cell(name, device="cuda", epochs=12, capture=capture) for name in ("wgan-gp", "dcgan", "ls-gan")]
    alone, together = ([training(cell, zoo) for cell in cells] for _ in range(2))
    for one in alone:
        one.run()
    assert side_by_side(together, [None] * 3, [lambda point: None] * 3) == [None] * 3
    for one, other in zip(alone, together, strict=True):
        assert one.curve[-1]["validation_mre"] == pytest.approx(other.curve[-1]["validation_mre"], rel=1e-2)
