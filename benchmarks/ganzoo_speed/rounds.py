"""Rounds of every contender, interleaved: what disturbs a shared machine then hits all of them alike."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from ganzoo.arithmetic import Precision, products_in, require_precision
from ganzoo.config import Plan, cells, read_plan
from ganzoo.errors import UserError
from ganzoo.party import read_data
from ganzoo.randomness import stream, undisturbed
from ganzoo.train import LOOK_EVERY, Diverged, Training
from ganzoo.zoo import Zoo
from ganzoo_speed import networks, roofline
from ganzoo_speed.drivers.answer import Setting
from ganzoo_speed.plain import BETAS, RATE, ExamplesRound, PlainRound, model_flops
from ganzoo_speed.rivals import RIVALS, Process, Rival, Unusable, environment
from ganzoo_speed.table import COMPILED, OURS, PLAIN, UNCAPTURED, quartiles
from ganzoo_speed.timing import Play, seconds_of, usual_precision

IMAGES = 4096
"""In memory, for our rounds; half of them are trained on."""


class Effort(NamedTuple):
    """How long is measured."""

    turns: int
    """How often each contender has its turn."""
    rounds: int
    """Rounds a turn."""
    warm_up: int
    """Rounds before the first turn, not counted: compilation, memory, caches."""


def effort(*, quick: bool, device: str) -> Effort:
    """A GPU waits for a whole turn at a time and is much faster: more rounds a turn."""
    if torch.device(device).type == "cuda":
        return Effort(turns=3, rounds=32, warm_up=32) if quick else Effort(turns=20, rounds=96, warm_up=64)
    return Effort(turns=3, rounds=1, warm_up=2) if quick else Effort(turns=10, rounds=3, warm_up=5)


class Contender(NamedTuple):
    """Who plays an objective, and how it is timed."""

    name: str
    version: str
    precision: str
    notes: Sequence[str]
    """What is to be said of its rounds, complete once they were played."""
    seconds: Callable[[int], list[float]]
    """So many rounds -> seconds of each. Raises Unusable."""


class Refused(NamedTuple):
    """Who does not play an objective, and why: one line."""

    name: str
    version: str
    precision: str
    reason: str


def random_images(path: Path) -> Path:
    """An archive of IMAGES random colour images 32x32, uint8."""
    shape = (IMAGES, networks.CHANNELS, networks.SIDE, networks.SIDE)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=stream("speed", "images"))
    np.savez(path, images=images.numpy())
    return path


def plan(objective: str, images: Path, setting: Setting, threads: int, changes: Mapping[str, Any]) -> Plan:
    """One cell of one objective on these images; everything else is what the zoo does by itself."""
    own = {} if setting.width == 64 else {"generator.width": setting.width, "critic.width": setting.width}
    return read_plan(
        **{
            "objectives": [objective],
            "seeds": 1,
            "data.set": "npz",
            "data.path": str(images),
            "batch_size": setting.batch,
            "z_dim": networks.Z_DIM,
            "device": setting.device,
            "threads": threads,
            "shared.critic_rate": setting.rate,
            "shared.generator_rate": setting.rate,
            **own,
            **changes,
        }
    )


def ways(device: str, compiled: bool) -> Iterator[tuple[str, Precision, dict[str, Any]]]:
    """(contender, precision, changes of the plan): ganzoo in each precision, as it is; on a GPU without captured rounds
    as well; `compiled`, if that is asked for."""
    for precision in get_args(Precision):
        yield OURS, precision, {"precision": precision}
        if torch.device(device).type == "cuda":
            yield UNCAPTURED, precision, {"precision": precision, "capture": False}
        if compiled:
            yield COMPILED, precision, {"precision": precision, "compile": True}


def ours(
    objective: str, images: Path, setting: Setting, threads: int, zoo: Zoo, *, compiled: bool = False
) -> Iterator[Contender | Refused]:
    """The rounds of the zoo's own training."""
    for who, precision, changes in ways(setting.device, compiled):
        name = (who, version("ganzoo"), precision)
        try:
            require_precision(precision, torch.device(setting.device))
            cell = cells(plan(objective, images, setting, threads, changes), zoo)[0]
            training = Training(cell, zoo, read_data(cell.settings.data))
        except UserError as error:
            yield Refused(*name, str(error))
            continue
        yield Contender(*name, training.notes, _trained(training, setting, threads))


def _trained(training: Training, setting: Setting, threads: int) -> Callable[[int], list[float]]:
    # As `Training.going` plays them: one by one on a processor, on a GPU so many that it has to wait but seldom.
    at_once = 1 if torch.device(setting.device).type == "cpu" else LOOK_EVERY
    block = _timed(partial(training.advance, at_once), setting, threads)

    def seconds(rounds: int) -> list[float]:
        with products_in(training.precision):
            return [value / at_once for value in block(math.ceil(rounds / at_once))]

    return seconds


def plainly(objective: str, setting: Setting, threads: int) -> Iterator[Contender]:
    """The plain round, and for the logistic game the one in the manner of PyTorch's example."""
    real, name = setting.real(), (torch.__version__, usual_precision(setting.device))
    random = stream("speed", "plain", device=setting.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # initial weights
        play = PlainRound(objective, real, width=setting.width, generator=random)
        yield Contender(PLAIN, *name, (), _timed(play, setting, threads))
        if objective == "dcgan":
            example = ExamplesRound(real, width=setting.width, generator=random)
            notes = ("BatchNorm in its critic; one batch of generated images for both steps",)
            yield Contender("pytorch/examples style", *name, notes, _timed(example, setting, threads))


def _timed(play: Play, setting: Setting, threads: int) -> Callable[[int], list[float]]:
    def seconds(rounds: int) -> list[float]:
        torch.set_num_threads(threads)
        try:
            return seconds_of(play, rounds, setting.device)
        except Diverged as error:
            raise Unusable(str(error)) from None

    return seconds


class Rivals:
    """The libraries' processes, for as long as the measurement lasts."""

    def __init__(self, chosen: Sequence[Rival], environments: Path, setting: Setting, folder: Path) -> None:
        """Makes the environments that are missing. What does not start is kept with its reason."""
        self._precision = usual_precision(setting.device)
        self._stack = ExitStack()
        self._processes: dict[Rival, Process | str] = {}
        for rival in chosen:
            try:
                python = environment(rival, environments)
                process = Process(python, f"ganzoo_speed.drivers.{rival.driver}", setting, folder / rival.name)
                self._processes[rival] = self._stack.enter_context(process)
            except Unusable as why:
                self._processes[rival] = str(why)

    def contenders(self, objective: str, threads: int) -> Iterator[Contender | Refused]:
        """Each library, where it has this objective or cannot be asked."""
        for rival, process in self._processes.items():
            if isinstance(process, str):
                yield Refused(rival.name, rival.version, self._precision, process)
            elif objective in process.objectives:
                seconds = _asked(process, objective, threads)
                notes = (process.note,) if process.note else ()
                yield Contender(rival.name, rival.version, process.precision, notes, seconds)

    def close(self) -> None:
        self._stack.close()


def _asked(process: Process, objective: str, threads: int) -> Callable[[int], list[float]]:
    return lambda rounds: process.seconds(objective, threads, rounds)


def interleaved(contenders: Sequence[Contender], effort: Effort) -> list[list[float] | str]:
    """Seconds of each round of each contender, their turns one after another; of one that fails the reason."""
    found: list[list[float]] = [[] for _ in contenders]
    failed: dict[int, str] = {}

    def turn(place: int, rounds: int) -> list[float]:
        if place in failed:
            return []
        try:
            return contenders[place].seconds(rounds)
        except Unusable as why:
            failed[place] = str(why)
            return []

    places = range(len(contenders))
    for place in places:
        turn(place, effort.warm_up)
    for number in range(effort.turns):
        # Nobody always comes after the same one: what it leaves in the caches would be part of the result.
        start = number % max(1, len(places))
        for place in (*places[start:], *places[:start]):
            found[place] += turn(place, effort.rounds)
    return [failed.get(place, seconds) for place, seconds in enumerate(found)]


def rows_of(
    objective: str, threads: int, setting: Setting, contenders: Sequence[Contender | Refused], effort: Effort
) -> list[dict[str, Any]]:
    """A row for each: its median, quartiles and every figure behind them, or why there are none."""
    flops = model_flops(objective, batch=setting.batch, width=setting.width)
    at_play = [contender for contender in contenders if isinstance(contender, Contender)]
    measured = iter(interleaved(at_play, effort))
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {
            "section": "rounds",
            "what": objective,
            "contender": contender.name,
            "version": contender.version,
            "precision": contender.precision,
            "threads": threads,
            "batch": setting.batch,
            "width": setting.width,
        }
        found = contender.reason if isinstance(contender, Refused) else next(measured)
        if isinstance(found, str):
            row["skipped"] = found
        else:
            lower, median, upper = quartiles(found)
            row |= {"seconds": median, "quartiles": [lower, upper], "all": found, "gflops": flops / 1e9}
        if isinstance(contender, Contender):
            row["notes"] = list(dict.fromkeys(contender.notes))
        rows.append(row)
    return rows


def measure(
    *,
    effort: Effort,
    device: str,
    objectives: Sequence[str],
    threads: Sequence[int],
    rivals: Sequence[Rival] = RIVALS,
    environments: Path,
    folder: Path,
    compiled: bool = False,
    batch: int = 64,
    width: int = 64,
) -> list[dict[str, Any]]:
    """The section "rounds": the machine's peak before and after the rounds of each number of threads, and every
    contender's rounds of every objective. `folder` takes what the contenders write."""
    setting = Setting(batch, width, device, RATE, BETAS)
    images = random_images(folder / "images.npz")
    zoo, works = Zoo.installed(), roofline.works(batch, width, device)
    before, rows = torch.get_num_threads(), []
    try:
        with undisturbed(), closing(Rivals(rivals, environments, setting, folder)) as others:
            for count in threads:
                peak = partial(roofline.measure, works, threads=count, device=device, repetitions=5 * effort.turns)
                rows += peak()
                for objective in objectives:
                    print(f"{objective}, threads {count} ...", file=sys.stderr, flush=True)
                    contenders = [
                        *ours(objective, images, setting, count, zoo, compiled=compiled),
                        *plainly(objective, setting, count),
                        *others.contenders(objective, count),
                    ]
                    rows += rows_of(objective, count, setting, contenders, effort)
                rows += peak()
    finally:
        torch.set_num_threads(before)
    return rows
