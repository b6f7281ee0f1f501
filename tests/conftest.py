"""Comparisons small enough to be made many times: a few digits, a few epochs, a narrow network."""

import re
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, called_within
from hypothesis import HealthCheck, settings

from ganzoo.bench import Prepared, Run, prepare
from ganzoo.config import Cell, Plan, cells, read_plan
from ganzoo.predict import Measured, Rates
from ganzoo.zoo import Zoo

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in the background deaf to Ctrl-C, and so would be all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A busy machine is slow, which is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
torch.set_num_threads(1)  # as in the worker processes: their floats are compared with ours

TINY: dict[str, Any] = {
    "seeds": 1,
    "epochs": 2,
    "validate_every": 1,
    "batch_size": 16,
    "z_dim": 3,
    "data.split": [64, 16, 16],
    "generator.width": 4,
    "critic.width": 4,
    "validation_images": 4,
    "test_images": 8,
    "control_images": 4,
    "validation_mre": {"steps": 3, "restarts": 1},
    "test_mre": {"steps": 4, "restarts": 2},
}
"""64 training images in 4 batches: 8 rounds at one critic step each."""


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Plan]:
    """tiny(seeds=2, **{"data.set": "npz"}) -> a plan that trains in a fraction of a second."""
    return lambda **changes: read_plan(None, **{**deepcopy(TINY), **changes})


@pytest.fixture(scope="session")
def tiny_arguments() -> list[str]:
    """The same plan for the command line; `=` between key and value as one types it."""
    found = []
    for key, value in TINY.items():
        if isinstance(value, dict):
            found += [f"--set={key}.{inner}={number}" for inner, number in value.items()]
        else:
            found.append(f"--set={key}={value}")
    return found


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    return Zoo.installed()


@pytest.fixture(scope="session")
def one_cell(tiny: Callable[..., Plan], zoo: Zoo) -> Callable[..., Cell]:
    """one_cell("gls-gan:slope=0", epochs=3) -> that contender's cell at seed 0, or of the `seed` asked for."""

    def made(objective: str, seed: int = 0, zoo: Zoo = zoo, **changes: Any) -> Cell:
        return cells(tiny(**{"objectives": [objective], "seeds": seed + 1, **changes}), zoo)[seed]

    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan], zoo: Zoo) -> Run:
    """Two objectives of two seeds, trained by two processes. Look, or copy the folder; do not write to it."""
    plan = tiny(objectives=["dcgan", "gls-gan"], seeds=2)
    run = Run(tmp_path_factory.mktemp("finished") / "run", prepare(plan, zoo))
    with run.held():
        run.train(2, lambda event: None)
    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """plugin(text) -> a plugin file of that text, after the imports that a plugin begins with."""

    def written(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        header = "import os\nimport torch\nimport ganzoo\nfrom torch import nn\nfrom pathlib import Path\n\n"
        path.write_text(header + re.sub(r"^    ", "", text, flags=re.MULTILINE))
        return path

    return written


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run's seconds without timing anything: it takes ten of them."""
    rates = Rates(0.1, 0.01, 0.1, 0.01, 1.0, 0.5, 8, 3, 100_000, 500.0)

    def made_up(prepared: Prepared, jobs: int) -> Measured:
        return Measured({cell.contender.label: rates for cell in prepared.cells}, 1.0, 2.0)

    monkeypatch.setattr("ganzoo.predict.measured_rates", made_up)


@pytest.fixture
def ganzoo(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """ganzoo("bench", "--dry-run") in an empty folder, within this process."""
    (tmp_path / "here").mkdir()
    return called_within(tmp_path / "here", monkeypatch, capfd)
