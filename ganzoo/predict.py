"""What a comparison will take, from a miniature of it: as many processes at a time, each with its timed rounds.

Alone on the machine a cell is faster than among others, so each contender's rounds are timed while all the other
processes are at work, too. What is long is cut short and scaled: a search for z to a few of its steps and, if those
are slow, to a few of its images; the neighbours of the baselines to a few of the training images.
"""

import math
import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from ganzoo import party, processes, result
from ganzoo.arithmetic import products_in
from ganzoo.bench import Prepared, makespan, parties, small
from ganzoo.cell_folder import KEPT
from ganzoo.classify import svm_on_layers
from ganzoo.config import Cell, Plan
from ganzoo.data import ImageSet, Splits, scaled
from ganzoo.durable import checkpoint_bytes
from ganzoo.errors import UserError
from ganzoo.lipschitz import CLASS_LOSS, lipschitz
from ganzoo.mre import Protocol
from ganzoo.randomness import undisturbed
from ganzoo.stacked import Stack, stackable
from ganzoo.train import LOOK_EVERY, Diverged, Training
from ganzoo.zoo import Zoo

COSTLY = 0.2
"""Share of a training that its validation should stay under."""
ROUNDS = 20
WARM_UP = 3
ENOUGH = 3.0
"""Seconds after which the rounds of a slow cell are enough, and a piece of a search."""
PIECE = 2.0
"""Seconds of the shortest search from which on fewer images are sought."""
SHORT = 5
"""Steps of the shorter one of two searches; the longer one has four times as many."""
IMPORT_TIMEOUT = 180.0
FIGURES_MB = 1.0
"""table.txt, the figures and summary.json of a comparison."""


class Rates(NamedTuple):
    """What one contender's cell costs in a process that others run beside. Seconds, unless it says otherwise."""

    set_up: float
    """Networks, batches, hashes."""
    round: float
    """The median of the timed ones; of a stack of cells, a cell's share."""
    evaluation: float
    """A point of the curve."""
    checkpoint: float
    """A save."""
    test: float
    """Everything after the last round."""
    test_search: float
    """The part of it that seeks z, or classifies."""
    rounds: int
    evaluations: int
    checkpoint_bytes: int
    peak_mb: float
    """Of its process, at most resident; libraries that processes share are counted in each."""

    @property
    def training(self) -> float:
        """The rounds and the saves."""
        return self.rounds * self.round + self.evaluations * self.checkpoint

    @property
    def validation(self) -> float:
        return self.evaluations * self.evaluation

    @property
    def cell(self) -> float:
        return self.set_up + self.training + self.validation + self.test


class Measured(NamedTuple):
    """What is known after the miniature."""

    rates: dict[str, Rates]
    """By the contender's label."""
    baselines: float
    """Seconds of one process."""
    start_up: float
    """Seconds from the decision to have worker processes to all of them being ready."""


class Prediction(NamedTuple):
    """Of a whole comparison. Seconds are of work, summed over all processes; `wall` is of the clock."""

    training: float
    validation: float
    test: float
    baselines: float
    start_up: float
    set_up: float
    wall: float
    mre_share: float
    """Of the seconds of training and validation, those of the validation's search."""
    memory_mb: float
    """Of one worker, at most resident."""
    jobs: int
    disk_mb: float
    rates: dict[str, Rates]

    def text(self) -> str:
        """Three lines."""
        alone = "" if self.jobs == 1 else f", {self.jobs} at a time; work in all"
        costly = "" if self.mre_share <= COSTLY else "; for less raise validate_every or lower validation_images"
        longest = self.test > self.training + self.validation
        tested = " (for less lower test_images or the steps of test_mre)" if longest else ""
        return (
            f"about {_clock(self.wall)}{alone}: training {_clock(self.training)},"
            f" validation {_clock(self.validation)} ({self.mre_share:.0%} of a training{costly}),"
            f" test {_clock(self.test)}{tested}, baselines {_clock(self.baselines)}, start {_clock(self.start_up)}\n"
            f"memory {_size(self.memory_mb)} a process, {_size(self.memory_mb * self.jobs)} in all;"
            f" disk {_size(self.disk_mb)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "rates": {label: rates._asdict() for label, rates in self.rates.items()}}


def predict(prepared: Prepared, jobs: int, measure: Callable[[Prepared, int], Measured] | None = None) -> Prediction:
    """What `Run.train` takes for every cell of the plan with `jobs` at a time, from nothing to the last row.

    `measure` says what the contenders cost; by default it is measured, in about 10 seconds and some for slow cells.
    Raises UserError where the worker processes die.
    """
    # One process has the whole of a GPU: its cells take turns there.
    at_once = 1 if prepared.plan.device != "cpu" else max(1, min(jobs, len(prepared.cells)))
    measured = (measure or measured_rates)(prepared, at_once)
    rates = [measured.rates[cell.contender.label] for cell in prepared.cells]
    training, validation = sum(r.training for r in rates), sum(r.validation for r in rates)
    together = parties(prepared.cells, at_once, small=small(prepared.plan, prepared.data))
    cells = [sum(measured.rates[cell.contender.label].cell for cell in party) for party in together]
    durations = [measured.baselines, *cells]
    return Prediction(
        training=training,
        validation=validation,
        test=sum(r.test for r in rates),
        baselines=measured.baselines,
        start_up=measured.start_up,
        set_up=sum(r.set_up for r in rates),
        wall=measured.start_up + makespan(durations, at_once),
        mre_share=validation / (training + validation) if training + validation else 0.0,
        memory_mb=max(r.peak_mb for r in rates),
        jobs=at_once,
        disk_mb=disk_mb(prepared, measured.rates),
        rates=measured.rates,
    )


def disk_mb(prepared: Prepared, rates: dict[str, Rates]) -> float:
    """Checkpoints, pictures and rows of all the cells, and the comparison's figures."""
    plan, (channels, height, width) = prepared.plan, prepared.data.train.image_shape
    image = channels * height * width
    pictures = (result.PICTURES + result.PICTURES // 4) * image + 8 * plan.test_images
    found = 0
    for cell in prepared.cells:
        known = rates[cell.contender.label]
        described = len(cell.model_dump_json(indent=1))
        # row.json is indented; rows.jsonl holds it again.
        row = 2 * (6_000 + 250 * known.evaluations)
        found += KEPT * known.checkpoint_bytes + pictures + described + row
    return found / 1e6 + FIGURES_MB


def free_mb(folder: Path) -> float:
    """On the disk that the folder lies on, or would."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.exists(place))
    return shutil.disk_usage(there).free / 1e6


# Measuring


def measured_rates(prepared: Prepared, jobs: int) -> Measured:
    """Each distinct contender's rates, timed in `jobs` processes side by side, as the comparison will have them."""
    distinct = list({cell.contender.label: cell for cell in prepared.cells}.values())
    # Every process is given something to do, as it will be: a contender that is timed twice counts by its median.
    cells = [distinct[i % len(distinct)] for i in range(math.ceil(len(distinct) / jobs) * jobs)]
    together = parties(prepared.cells, jobs, small=small(prepared.plan, prepared.data))
    company = {cell.contender.label: len(party) for party in together for cell in party}
    context = processes.context(prepared.plan.device)
    everybody = context.Barrier(jobs)
    started = time.monotonic()
    try:
        with ProcessPoolExecutor(jobs, context, _begin, (everybody, prepared.plan.threads)) as pool:
            timings = [pool.submit(_timed, cell.model_dump_json(), company[cell.contender.label]) for cell in cells]
            compared = pool.submit(_timed_baselines, prepared.cells[0].model_dump_json())
            found = [(cell.contender.label, *timing.result()) for cell, timing in zip(cells, timings, strict=True)]
            baselines = compared.result()
    except BrokenProcessPool:
        raise UserError("the worker processes die before they have measured; is there memory for them?") from None
    rates: dict[str, list[Rates]] = {}
    for label, _, each in found:
        rates.setdefault(label, []).append(each)
    middle = {label: _middle(several) for label, several in rates.items()}
    if prepared.plan.measure == "mre":
        baselines += max(each.test_search for each in middle.values()) / 3  # an untrained generator's
    return Measured(middle, baselines, min(began for _, began, _ in found) - started)


def _middle(several: list[Rates]) -> Rates:
    return Rates(*(type(values[0])(median(values)) for values in zip(*several, strict=True)))


def _begin(everybody: Any, threads: int) -> None:
    """In each process, first: nobody is timed before all are there."""
    torch.set_num_threads(threads)
    import_module("torch._dynamo")  # what the first optimizer does, for seconds: it belongs to the start
    everybody.wait(IMPORT_TIMEOUT)


def _data_of(cell: Cell) -> Splits:
    """The cell's images; what there is to warn of is told where the plan is prepared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return party.data_of(cell.settings.data.model_dump_json())


def _timed(cell_json: str, company: int) -> tuple[float, Rates]:
    """When this process began, and the cell's rates."""
    began = time.monotonic()
    cell = Cell.model_validate_json(cell_json)
    return began, rates_of(cell, party.zoo_of(cell.settings.plugins), _data_of(cell), company)


def rates_of(cell: Cell, zoo: Zoo, data: Any, company: int = 1) -> Rates:
    """The rates of one cell, timed in this process. A cell that diverges is timed up to there.

    company: the cells beside which it will play, itself included; where they are stacked, their rounds are one.
    """
    start = time.perf_counter()
    training = Training(cell, zoo, data)
    set_up = time.perf_counter() - start
    with undisturbed(), products_in(training.precision):
        if stackable([training]) is None:
            twins = [Training(cell, zoo, data) for _ in range(company - 1)]
            stack = Stack([training, *twins])
            round = _seconds_a_round(training, lambda: stack.play()) / company
            stack.release()
        else:
            at_a_time = 1 if training.device.type == "cpu" else LOOK_EVERY
            round = _seconds_a_round(training, lambda: training.advance(at_a_time)) / at_a_time
        plan, validation, test = training.plan, training.data.validation, training.data.test
        start = time.perf_counter()
        best = {key: value.clone() for key, value in training.players.generator.state_dict().items()}
        content, _ = checkpoint_bytes({**training.state_dict(), "best_generator": best})
        checkpoint = time.perf_counter() - start
        peak = _peak_mb()
        if plan.measure == "mre":
            images = min(plan.validation_images, len(validation.images))
            evaluation = _search(training, validation, images, plan.validation_mre).seconds(images)
            few = min(plan.test_images, len(test.images))
            search = _search(training, test, few, plan.test_mre)
            # The best generator's error, the training images', as often as not the last generator's; then the controls.
            classes, control = training.players.classes, plan.control_images
            test_search = 2.5 * search.seconds(few) + search.seconds(control)
            test_search += search.seconds(control * classes) if classes else 0.0
            peak = _peak_mb()  # a search takes its images in parts that fill as much memory, however many there are
        else:
            evaluation = _seconds_to_classify(training, plan.validation_images) if training.players.classes else 0.0
            test_search = _seconds_to_classify(training, plan.validation_images + plan.test_images)
        return Rates(
            set_up=set_up,
            round=round,
            evaluation=evaluation,
            checkpoint=checkpoint,
            test=test_search + _seconds_of_steepness(training),
            test_search=test_search,
            rounds=training.rounds,
            evaluations=len(training.evaluations),
            checkpoint_bytes=len(content),
            peak_mb=peak,
        )


def _seconds_a_round(training: Training, play: Callable[[], Any]) -> float:
    """The median of 20 rounds after 3 that warm up; of fewer where they are slow, or where the training ends."""
    times: list[float] = []
    begun = time.perf_counter()
    try:
        for played in range(WARM_UP + ROUNDS):
            slow = time.perf_counter() - begun > ENOUGH
            if training.round >= training.rounds or (slow and played > WARM_UP):
                break
            start = time.perf_counter()
            play()
            _wait_for(training.device)
            times.append(time.perf_counter() - start)
    except Diverged:
        pass
    return median(times[WARM_UP:] or times) if times else 0.0


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Search(NamedTuple):
    """What `training.error` takes. Seconds."""

    once: float
    image: float

    def seconds(self, images: int) -> float:
        return self.once + self.image * images


def _search(training: Training, images: ImageSet, n: int, protocol: Protocol) -> Search:
    """What a search of about n of the images costs once, and for each of them."""

    def timed(count: int, steps: int) -> float:
        start = time.perf_counter()
        training.error(images, count, protocol.model_copy(update={"steps": steps}))
        _wait_for(training.device)
        return time.perf_counter() - start

    timed(1, 1)  # warms up
    once = timed(1, 1)
    few = min(n, 64 if once < PIECE else 16)
    steps = min(protocol.steps, 4 * SHORT)
    short, long = timed(few, min(SHORT, steps)), timed(few, steps)
    taken = [protocol.model_copy(update={"steps": count}).samples for count in (min(SHORT, steps), steps)]
    sample = max(long - short, 0.0) / few / max(taken[1] - taken[0], 1)
    image = max(short - once, 0.0) / few - sample * taken[0]
    return Search(once, max(image, 0.0) + sample * protocol.samples)


def _seconds_to_classify(training: Training, images: int) -> float:
    """The classifier's making, from a few of the labelled images, and its answers."""
    start = time.perf_counter()
    if training.players.classes:
        training.accuracy(training.validation)
        return (time.perf_counter() - start) * images / len(training.validation.images)
    labelled = training.data.train if training.labelling is None else training.labelling.labelled
    few = labelled.first(400)
    classify = svm_on_layers(training.players.critic, few, training.device)
    made = (time.perf_counter() - start) * len(labelled.images) / len(few.images)
    start = time.perf_counter()
    seen = training.validation.first(200)
    classify(seen)
    return made + (time.perf_counter() - start) * images / len(seen.images)


def _seconds_of_steepness(training: Training) -> float:
    """The critic's Lipschitz constant, from 8 pairs of images: the layers' part does not grow with them."""
    pairs = min(8, len(training.data.train.images))
    real = training.data.train.first(pairs)
    x, players = scaled(real.images).to(training.device), training.players
    labels = real.labels.to(training.device) if players.classes and real.labels is not None else None
    start = time.perf_counter()
    head = CLASS_LOSS if players.classes else 1.0
    lipschitz(players.loss(labels), players.critic, x, x.flip(0), seed=0, head=head, labels=labels)
    return time.perf_counter() - start


def _timed_baselines(cell_json: str) -> float:
    """The seconds of the baselines that need no generator, each from a part of the images."""
    cell = Cell.model_validate_json(cell_json)
    data, plan = _data_of(cell), cell.settings
    return baseline_seconds(data.train, data.test.first(plan.test_images), plan)


def baseline_seconds(train: ImageSet, test: ImageSet, plan: Plan) -> float:
    """Nearest neighbours grow with N_train x N_test x pixels, a covariance with N pixels^2, its axes with pixels^3."""
    known, x = scaled(train.first(1000).images).flatten(1), scaled(test.first(32).images).flatten(1)
    n, pixels = len(train.images), known.shape[1]
    nearest = _seconds(lambda: torch.cdist(x, known, p=1)) * n / len(known) * len(test.images) / len(x)
    if plan.measure != "mre":
        return nearest
    covariance = _seconds(lambda: known.T @ known) * n / len(known)
    side = min(pixels, 512)
    square = (known.T @ known)[:side, :side]
    axes = _seconds(lambda: torch.linalg.eigh(square)) * (pixels / side) ** 3
    return nearest + covariance + axes


def _seconds(work: Callable[[], Any]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _size(megabytes: float) -> str:
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
