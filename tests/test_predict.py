"""What a comparison will take: the sums, the schedule, what is extrapolated, and a miniature of a real plan."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ganzoo.predict
from ganzoo.bench import Prepared, prepare
from ganzoo.config import Plan
from ganzoo.durable import save_checkpoint
from ganzoo.errors import UserError
from ganzoo.mre import Protocol
from ganzoo.predict import Measured, Prediction, Rates, disk_mb, makespan, measured_rates, predict, rates_of
from ganzoo.train import Diverged, Training
from ganzoo.zoo import Zoo

RATES = Rates(
    set_up=0.5,
    round=0.01,
    evaluation=0.25,
    checkpoint=0.125,
    test=3.0,
    test_search=2.0,
    rounds=100,
    evaluations=4,
    checkpoint_bytes=10_000,
    peak_mb=500.0,
)
SECONDS = 0.5 + 100 * 0.01 + 4 * (0.25 + 0.125) + 3.0
"""Of a cell with these rates."""


@pytest.fixture
def planned(tiny: Callable[..., Plan], zoo: Zoo) -> Prepared:
    return prepare(tiny(objectives=["dcgan", "wgan"], seeds=3), zoo)


def as_told(prepared: Prepared, jobs: int, **changes: Any) -> Prediction:
    known = {"dcgan": RATES, "wgan": RATES._replace(**changes)}
    return predict(prepared, jobs, lambda prepared, jobs: Measured(known, baselines=1.0, start_up=5.0))


# --- sums


def test_one_at_a_time_the_clock_shows_the_sum_of_all_the_work(planned: Prepared) -> None:
    found = as_told(planned, 1)
    assert found.wall == pytest.approx(5 + 1 + 6 * SECONDS)
    parts = found.set_up + found.training + found.validation + found.test + found.baselines + found.start_up
    assert found.wall == pytest.approx(parts)


def test_each_part_is_of_all_the_cells(planned: Prepared) -> None:
    found = as_told(planned, 2, round=0.02, test=7.0)
    assert found.training == pytest.approx(3 * 100 * 0.01 + 3 * 100 * 0.02 + 6 * 4 * 0.125)
    assert found.validation == pytest.approx(6 * 4 * 0.25)
    assert found.test == pytest.approx(3 * 3 + 3 * 7)
    assert found.mre_share == pytest.approx(found.validation / (found.training + found.validation))


def test_memory_is_that_of_the_largest_contender_and_disk_grows_with_the_cells(planned: Prepared) -> None:
    found = as_told(planned, 2, peak_mb=900.0)
    assert (found.memory_mb, found.jobs) == (900, 2)
    fewer = disk_mb(planned._replace(cells=planned.cells[:3]), {"dcgan": RATES, "wgan": RATES})
    none = disk_mb(planned._replace(cells=[]), {})
    assert found.disk_mb - none == pytest.approx(2 * (fewer - none), rel=0.01)
    larger = as_told(planned, 2, checkpoint_bytes=1_010_000)
    assert larger.disk_mb - found.disk_mb == pytest.approx(6)  # two checkpoints a cell


def test_more_processes_than_cells_are_not_counted(planned: Prepared) -> None:
    assert as_told(planned, 64).jobs == 6


# --- the schedule


@given(durations=st.lists(st.floats(0, 100), min_size=1, max_size=20), jobs=st.integers(1, 8))
def test_no_schedule_ends_before_its_longest_task_or_its_share_nor_later_than_both_together(
    durations: list[float], jobs: int
) -> None:
    ends = makespan(durations, jobs)
    longest, share = max(durations), math.fsum(durations) / jobs
    assert max(longest, share) - 1e-9 <= ends <= longest + share + 1e-9  # Graham 1966


def test_each_task_is_taken_by_the_first_worker_that_is_free() -> None:
    assert makespan([4, 1, 1, 1, 5], 2) == 8  # the second worker has the three short ones, then the long one
    assert makespan([4, 1, 1, 1, 5], 1) == 12
    assert makespan([4, 1, 1, 1, 5], 5) == 5


# --- what is extrapolated


class Clock:
    """Stands still until somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("begin", "image", "sample", "images", "steps"),
    [(0.05, 0.0001, 1e-5, 120, 100), (1.2, 0.002, 1e-3, 1000, 200), (0.01, 0.0, 1e-4, 10, 3)],
)
def test_a_search_is_foretold_from_a_few_of_its_steps_on_a_few_of_its_images(
    begin: float, image: float, sample: float, images: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beginning a search, an image of it and a step of each start still in it each take their time."""
    clock = Clock()

    def error(some: Any, count: int, protocol: Protocol) -> None:
        clock.now += begin + (image + sample * protocol.samples) * count

    monkeypatch.setattr(ganzoo.predict, "time", clock)
    training: Any = SimpleNamespace(error=error, device=torch.device("cpu"))
    given: Any = SimpleNamespace(images=torch.zeros(images, 1))
    protocol = Protocol(steps=steps, restarts=8)
    found = ganzoo.predict._search(training, given, images, protocol).seconds(images)
    true = begin + (image + sample * protocol.samples) * images
    assert found == pytest.approx(true, rel=0.01, abs=image * images + sample * 8)
    assert clock.now < 4.5 * begin + 0.2 * true + 1000 * sample  # whatever it would take


def test_rounds_are_timed_after_some_that_warm_up_and_fewer_of_them_where_they_are_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(ganzoo.predict, "time", clock)

    def timed(seconds: float, rounds: int = 1000) -> tuple[float, int]:
        training: Any = SimpleNamespace(round=0, rounds=rounds, device=torch.device("cpu"))

        def advance(by: int) -> None:
            clock.now += seconds * (50 if training.round < ganzoo.predict.WARM_UP else 1)
            training.round += by

        training.advance = advance
        return ganzoo.predict._seconds_a_round(training, lambda: training.advance(1)), training.round

    assert timed(0.001) == (pytest.approx(0.001), 23)
    found, played = timed(10)
    assert found == pytest.approx(10)
    assert played == 4
    assert timed(0.001, rounds=2) == (pytest.approx(0.05), 2)  # a training that ends while it warms up


def test_a_cell_that_diverges_at_once_costs_no_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(by: int) -> None:
        raise Diverged(0, "made up")

    training: Any = SimpleNamespace(round=0, rounds=9, device=torch.device("cpu"), advance=advance)
    assert ganzoo.predict._seconds_a_round(training, lambda: training.advance(1)) == 0


# --- a real plan


def test_the_rates_of_a_cell_know_its_schedule_and_its_checkpoint(planned: Prepared, zoo: Zoo, tmp_path: Path) -> None:
    cell = planned.cells[0]
    found = rates_of(cell, zoo, planned.data)
    training = Training(cell, zoo, planned.data)
    assert (found.rounds, found.evaluations) == (training.rounds, len(training.evaluations))
    training.run(partial(save_checkpoint, tmp_path / "checkpoint"))
    assert found.checkpoint_bytes == pytest.approx((tmp_path / "checkpoint").stat().st_size, rel=0.1)
    assert all(value > 0 for value in found)
    assert found.test > found.test_search


@pytest.mark.parametrize("objective", ["dcgan", "cls-gan"], ids=["by an SVM", "by its own loss"])
def test_a_plan_of_accuracies_is_foretold_too(tiny: Callable[..., Plan], zoo: Zoo, objective: str) -> None:
    prepared = prepare(tiny(objectives=[objective], measure="accuracy"), zoo)
    found = rates_of(prepared.cells[0], zoo, prepared.data)
    assert found.test_search > 0
    assert (found.evaluation > 0) == (objective == "cls-gan")  # the SVM is trained at the end alone


def test_all_contenders_are_timed_side_by_side_and_told_in_text_and_json(planned: Prepared) -> None:
    found = predict(planned, 2)
    assert set(found.rates) == {"dcgan", "wgan"}
    assert found.start_up > 0
    assert found.memory_mb > 50
    said = found.text()
    assert "2 at a time" in said
    assert len(said.splitlines()) <= 4
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["rates"]["wgan"]["rounds"] > 0


def test_processes_that_die_are_one_line(tiny: Callable[..., Plan], plugin: Callable[..., Path]) -> None:
    path = plugin(
        """
        import multiprocessing

        @ganzoo.objective
        def deadly() -> ganzoo.Objective:
            if multiprocessing.parent_process() is not None:
                os._exit(9)
            return ganzoo.Objective(lambda critic, real, fake: critic(real).mean() - critic(fake).mean())
        """.replace("\n        ", "\n    ")
    )
    prepared = prepare(tiny(objectives=["deadly"], plugins=[str(path)]), Zoo.installed(path))
    with pytest.raises(UserError, match="worker processes die before they have measured"):
        measured_rates(prepared, 1)


@pytest.mark.parametrize(("seconds", "said"), [(12, "12 s"), (300, "5 min"), (7200, "2.0 h")])
def test_the_text_gives_the_time_in_a_readable_unit(planned: Prepared, seconds: float, said: str) -> None:
    known = {"dcgan": RATES, "wgan": RATES}
    found = predict(planned, 1, lambda prepared, jobs: Measured(known, baselines=1.0, start_up=5.0))
    assert found._replace(wall=seconds).text().startswith(f"about {said}:")


def test_the_text_says_what_the_seconds_are_of_and_what_spares_most(planned: Prepared) -> None:
    known = {"dcgan": RATES, "wgan": RATES}
    found = predict(planned, 2, lambda prepared, jobs: Measured(known, baselines=1.0, start_up=5.0))
    assert ", 2 at a time; work in all: training " in found.text()
    spared = "(for less lower test_images or the steps of test_mre)"
    assert spared in found._replace(training=5.0, validation=5.0, test=11.0).text()
    assert spared not in found._replace(training=5.0, validation=5.0, test=10.0).text()


def test_what_is_warned_of_a_data_set_is_told_once(
    tiny: Callable[..., Plan], zoo: Zoo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "0.png").write_bytes(b"no image")
    asked = {"data.set": "folder", "data.path": str(tmp_path), "data.skip_corrupt": True, "data.split": [48, 16, 16]}
    with pytest.warns(UserWarning, match="left out 1 of 96 files"):
        prepared = prepare(tiny(objectives=["dcgan"], **asked), zoo)
    predict(prepared, 1)
    assert "left out" not in capfd.readouterr().err
