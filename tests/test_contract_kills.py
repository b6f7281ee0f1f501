"""The contract's rows 1 and 8: a cell that is killed, at whatever moment, and one whose numbers go wrong."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injected import Forks, wait_until
from torch import Tensor

from ganzoo import stacked
from ganzoo.bench import Run, prepare
from ganzoo.cell_folder import checkpoints, fences
from ganzoo.config import Plan
from ganzoo.data import load_images
from ganzoo.durable import load_checkpoint
from ganzoo.errors import UserError
from ganzoo.party import prepare as prepare_cell
from ganzoo.party import train_cell
from ganzoo.report import reported
from ganzoo.result import read_row
from ganzoo.side_by_side import side_by_side
from ganzoo.verify import verify
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sees in /proc when a process has ended")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as made:
        yield made


def laid_out(folder: Path, plan: Plan, zoo: Zoo) -> Path:
    """The folder of the one cell of a run that nobody has begun."""
    run = Run(folder, prepare(plan, zoo))
    with run.held():
        return run.directory(run.cells[0])


def end_of(directory: Path) -> dict[str, Any]:
    """What must be the same, however the cell came there."""
    row = read_row(directory)
    assert row is not None
    del row["provenance"]
    names = [checkpoints(directory)[0].name, "curve.jsonl", "pictures.npz"]
    return {"row": row, **{name: (directory / name).read_bytes() for name in names}}


# Row 1


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("seconds", [0.0, 0.02])
@pytest.mark.parametrize("objective", ["gls-gan", "cls-gan"])
def test_a_cell_killed_at_random_moments_ends_in_the_same_bits(
    objective: str, seconds: float, forks: Forks, tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    """13 kills each, 52 in all; with 0 seconds each round is saved."""
    cell = laid_out(tmp_path / "run", tiny(objectives=[objective], epochs=3, checkpoint_seconds=seconds), zoo)
    forks.warm(cell)

    def fresh(name: str) -> Path:
        shutil.copytree(cell.parents[1], tmp_path / name)
        return tmp_path / name / "cells" / cell.name

    calm = fresh("calm")
    began = time.monotonic()
    assert forks.start("worker", calm).go().wait() == 0
    length = time.monotonic() - began
    moments = random.Random(f"{objective} {seconds}")
    kills = ends = 0
    while kills < 13:
        ends += 1
        directory = fresh(f"killed {ends}")
        status = None
        while status != 0:
            child = forks.start("worker", directory)
            child.go()
            if kills < 13:
                time.sleep(moments.uniform(0, length))
                child.kill()
            status = child.wait()
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
        assert end_of(directory) == end_of(calm)
        assert verify(directory.parents[1]).is_whole
        assert len(checkpoints(directory)) <= 2
        assert not list(directory.glob(".*"))


@pytest.mark.slow
@needs_proc
def test_a_worker_killed_three_times_on_the_command_line_ends_in_the_same_bits(
    forks: Forks, tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    cell = laid_out(tmp_path / "run", tiny(objectives=["wgan-gp"], epochs=30, checkpoint_seconds=0.0), zoo)
    calm = shutil.copytree(cell.parents[1], tmp_path / "calm") / "cells" / cell.name
    assert forks.start("worker", calm).go().wait() == 0
    command = [sys.executable, "-m", "ganzoo.worker", str(cell)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(3):
        before = checkpoints(cell)[:1]
        process = subprocess.Popen(command, env=environment)
        wait_until(lambda before=before: checkpoints(cell)[:1] > before)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, env=environment).returncode == 0
    assert fences(cell)[-1] == 4
    assert end_of(cell) == end_of(calm)


# Row 8

AFTER = """
    calls = 0

    def soon(x, wrong, after={after}):  # x, and something else from a certain call of the training on
        global calls
        calls += Path(__file__).with_name("in earnest").exists()
        return wrong(x) if calls > after else x
"""
WRONG = {
    "the loss is not a number": (
        "gls-gan:cost=bad",
        6,
        """
    @ganzoo.cost
    def bad(a):
        return soon(a, lambda a: a * float("nan"))
    """,
        r"the critic loss is nan",
    ),
    "the loss is infinite": (
        "gls-gan:cost=bad",
        6,
        """
    @ganzoo.cost
    def bad(a):
        return soon(a, lambda a: a + float("inf"))
    """,
        r"the critic loss is inf",
    ),
    "the gradient alone is not a number": (
        "gls-gan:cost=bad",
        6,
        """
    @ganzoo.cost
    def bad(a):
        return soon(a, lambda a: a + torch.sqrt(torch.relu(a) * 0))
    """,
        r"the gradient of the critic loss is not finite",
    ),
    "the generator's loss is not a number": (
        "bad",
        6,
        """
    @ganzoo.objective
    def bad():
        return ganzoo.Objective(lambda critic, real, fake: torch.relu(1 + critic(real) - critic(fake)).mean(),
                                lambda critic, real, fake: soon(critic(fake).mean(), lambda t: t * float("nan")))
    """,
        r"the generator loss is nan",
    ),
    "a critic's output is not a number": (
        "wgan",
        14,
        """
    class Bad(nn.Module):
        def __init__(self, image_shape):
            super().__init__()
            c, h, w = image_shape
            self.line = nn.Linear(c * h * w, 1)

        def forward(self, x):
            return soon(self.line(x.flatten(1))[:, 0], lambda l: torch.where(torch.arange(len(l)) == 0, torch.nan, l))

    @ganzoo.critic
    def bad(image_shape, outputs, width: int = 4, init_std: float = 0.02):
        return Bad(image_shape)
    """,
        r"the (critic|generator) loss is nan",
    ),
    "one generated pixel is not a number": (
        "wgan",
        30,
        """
    class Bad(nn.Module):
        def __init__(self, z_dim, image_shape):
            super().__init__()
            c, h, w = image_shape
            self.line, self.shape = nn.Linear(z_dim, c * h * w), image_shape

        def forward(self, z):
            made = torch.tanh(self.line(z)).view(len(z), *self.shape)
            spot = torch.zeros_like(made)
            spot[0, 0, 0, 0] = float("nan")
            return soon(made, lambda x: x + spot)

    @ganzoo.generator
    def bad(z_dim, image_shape, width: int = 4, init_std: float = 0.02):
        return Bad(z_dim, image_shape)
    """,
        r"the (critic|generator) loss is nan|the reconstruction error is not finite",
    ),
}


def strictly(text: str) -> Any:
    """JSON without the words that Python adds to it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, dict | list):
        for value in part.values() if isinstance(part, dict) else part:
            yield from tensors(value)


def state_at(directory: Path, round: int) -> dict[str, Any]:
    """Of a cell at that round, played anew."""
    kept: list[dict[str, Any]] = []

    def keep(state: dict[str, Any]) -> None:
        if state["round"] == round:
            kept.append(deepcopy(state))

    for path in checkpoints(directory):
        path.unlink()
    training = prepare_cell(directory)
    (stacked.run if training.stacked else side_by_side)([training], [keep], [lambda point: None])
    return kept[-1]


def bits_of(state: dict[str, Any]) -> dict[str, list[bytes]]:
    names = ("generator", "critic", "generator_optimizer", "critic_optimizer")
    return {name: [tensor.numpy().tobytes() for tensor in tensors(state[name])] for name in names}


def diverged_well(directory: Path) -> tuple[int, dict[str, Any]]:
    """(step, state kept last) of a cell: it diverged, says why, and kept nothing that went wrong."""
    row = read_row(directory)
    assert row is not None
    assert re.fullmatch(r"diverged@\d+", row["verdict"])
    step = int(row["verdict"].removeprefix("diverged@"))
    for path in checkpoints(directory):
        state = load_checkpoint(path)
        assert state["round"] <= step
        assert all(tensor.isfinite().all() for tensor in tensors(state))
    for path in directory.rglob("*.json"):
        strictly(path.read_text())
    for path in directory.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            strictly(line)
    assert strictly((directory / "verdict.json").read_text())["verdict"] == row["verdict"]
    assert strictly((directory / "verdict.json").read_text())["reason"] == row["reason"]
    return step, load_checkpoint(checkpoints(directory)[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # played in a stack, and by itself
@pytest.mark.parametrize("case", WRONG)
def test_numbers_that_go_wrong_end_the_cell_before_the_step_and_keep_the_last_good_state(
    case: str, precision: str, tiny: MakePlan, plugin: Callable[..., Path], tmp_path: Path
) -> None:
    objective, after, text, reason = WRONG[case]
    networks = {f"{kind}.name": "bad" for kind in ("generator", "critic") if f"@ganzoo.{kind}" in text}
    rows, cells = {}, {}
    for name, calls in {"wrong": after, "right": 10**9}.items():
        path = plugin(AFTER.format(after=calls) + text, f"{name}.py")
        changes = {"plugins": [str(path)], "checkpoint_seconds": 0.0, "precision": precision, **networks}
        plan = tiny(objectives=[objective], **changes)
        (tmp_path / "in earnest").unlink(missing_ok=True)
        cells[name] = laid_out(tmp_path / name, plan, Zoo.installed(path))
        (tmp_path / "in earnest").touch()
        rows[name] = train_cell(cells[name])
        assert rows[name]["stacked"] == (precision == "fp32")
    step, state = diverged_well(cells["wrong"])
    assert re.fullmatch(reason, rows["wrong"]["reason"]), rows["wrong"]["reason"]
    assert 0 < step < 8
    at_the_point = rows["wrong"]["reason"].startswith("the reconstruction")  # before that round was to be saved
    assert state["round"] == step - at_the_point
    assert rows["right"]["verdict"] == "done"
    # What was kept is what a cell that stays well has at that round: the wrong step was not taken.
    assert rows["wrong"]["curve"] == rows["right"]["curve"][: len(rows["wrong"]["curve"])]
    assert bits_of(state) == bits_of(state_at(cells["right"], state["round"]))
    # The same again, from what was kept: it is a result, not a mishap.
    assert train_cell(cells["wrong"]) == json.loads(json.dumps(rows["wrong"]))


def test_a_rate_of_a_million_diverges_counts_in_the_table_and_leaves_json(
    tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    wild = "gls-gan:critic_rate=1000000.0,generator_rate=1000000.0"
    plan = tiny(objectives=[wild, "dcgan"], seeds=2, epochs=6, checkpoint_seconds=0.0)
    run = Run(tmp_path / "run", prepare(plan, zoo))
    with run.held():
        rows = run.train(2, lambda event: None)
    assert [row["verdict"] for row in rows[2:]] == ["done", "done"]
    for cell in run.cells[:2]:
        diverged_well(run.directory(cell))
    for path in [run.folder / "rows.jsonl", run.folder / "log.jsonl"]:
        for line in path.read_text().splitlines():
            strictly(line)
    table, summary = reported(plan, rows, run.baselines(), run.folder)
    strictly(json.dumps(summary))
    verdicts = {standing["label"]: standing["verdicts"] for standing in summary["standings"]}
    assert [len(of) for of in verdicts.values()] == [2, 2]
    (said,) = [line for line in table.splitlines() if "1000000" in line]
    assert len(re.findall(r"diverged@", said)) == 2 or "2 x diverged@" in said
    assert "done" not in said


def test_a_pixel_that_is_not_a_number_does_not_come_in(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((20, 8, 8)).astype(np.float32)
    images[3, 4, 5] = np.nan
    np.savez(tmp_path / "images.npz", images=images)
    with pytest.raises(UserError, match=r"float32"):
        load_images("npz", path=tmp_path / "images.npz")
