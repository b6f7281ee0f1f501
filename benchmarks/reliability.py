"""What reliability costs, and how fast it acts: each figure against its goal and something named, in one run.

    python benchmarks/reliability.py [--quick] [--cores 2] [--only NAME ...] [--out FILE.json]

* checkpoints: seconds of saving over those of training, as each cell's `timing.json` has them.
* a cell: what it costs to lay out, place, fence, log and settle a trivial cell, beyond training the same cell by
  `ganzoo.party.train_cells` in one process. Starting the worker is taken out: the same with one cell is subtracted.
* training share: of a comparison of 100 cells, sum of the cells' seconds of training and measuring over processes x
  wall clock, from the start of the command to its end: imports, checks, baselines, table and figures are in the latter.
* lost: from a worker's SIGSTOP to the first beat of the attempt that takes its place.
* driver: from its kill -9 to the end of the last process that it had started.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chaos import COMMAND, MARK, marked, until_gone
from ganzoo.bench import Run, prepare, provenance
from ganzoo.cell_folder import fences, read_beat
from ganzoo.config import read_plan
from ganzoo.durable import commit, read_json
from ganzoo.zoo import Zoo

Row = dict[str, Any]

TRIVIAL: dict[str, Any] = {
    "objectives": ["dcgan"],
    "epochs": 1,
    "validate_every": 1,
    "batch_size": 8,
    "z_dim": 1,
    "data.set": "npy",
    "data.split": [8, 2, 2],
    "generator.width": 1,
    "critic.width": 1,
    "validation_images": 1,
    "test_images": 2,
    "control_images": 1,
    "validation_mre": {"steps": 1, "restarts": 1, "starts": "random", "axes": "z"},
    "test_mre": {"steps": 1, "restarts": 1, "starts": "random", "axes": "z"},
}
"""One round each, on 3x32x32 images: too large for a stack, so that each cell is placed by itself."""
LARGE: dict[str, Any] = {
    "objectives": ["gls-gan"],
    "seeds": 1,
    "epochs": 4,
    "validate_every": 1,
    "batch_size": 64,
    "data.set": "npy",
    "data.split": [64 * 80, 64, 64],
    "generator.width": 64,
    "critic.width": 64,
    "validation_images": 8,
    "test_images": 8,
    "control_images": 4,
    "validation_mre": {"steps": 10, "restarts": 1},
    "test_mre": {"steps": 10, "restarts": 1},
}
"""CIFAR-10's networks; its 320 rounds take about two minutes on a core."""
DIGITS: dict[str, Any] = {"objectives": ["ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"]}


class Setting(NamedTuple):
    folder: Path
    cores: int
    quick: bool


# Figures: each returns rows with `figure`, `value`, `unit`, `goal`, `met`


def checkpoints(setting: Setting) -> Iterator[Row]:
    digits = {**DIGITS, "seeds": 1 if setting.quick else 3} | ({"epochs": 4} if setting.quick else {})
    large = {**LARGE, "data.path": _images(setting, 64 * 82)} | ({"epochs": 1} if setting.quick else {})
    for name, changes in (("digits, in stacks", digits), ("32x32, width 64", large)):
        run = Run(setting.folder / name.split(",")[0], prepare(read_plan(None, **changes), Zoo.installed()))
        with run.held():
            run.train(setting.cores, lambda event: None)
        timings = _timings(run.folder)
        saving, training = sum(one["saving_s"] for one in timings), sum(one["training_s"] for one in timings)
        size = max(path.stat().st_size for path in run.folder.glob("cells/*/checkpoint-*"))
        said = f"{len(timings)} cells of {training / len(timings):.1f} s, checkpoints of {size / 1e6:.1f} MB"
        yield _row(f"checkpoints: {name}", 100 * saving / training, "% of training", 2.0, said)


def a_cell(setting: Setting) -> Iterator[Row]:
    many = 50 if setting.quick else 1000
    images = _images(setting, 12)
    seconds: dict[tuple[str, int], float] = {}
    for count in (1, many):
        plan = read_plan(None, **{**TRIVIAL, "seeds": count, "data.path": images})
        for way in ("placed", "in one process"):
            run = Run(setting.folder / f"{way}-{count}", prepare(plan, Zoo.installed()))
            began = time.perf_counter()
            with run.held():
                laid_out = time.perf_counter() - began
                if way == "placed":
                    run.train(1, lambda event: None)
                else:
                    _alone(run)
            seconds[way, count] = time.perf_counter() - began
            if way == "placed" and count > 1:
                seconds["laid out", count] = laid_out
                timings = _timings(run.folder)
    each = {way: (seconds[way, many] - seconds[way, 1]) / (many - 1) for way in ("placed", "in one process")}
    # Both lay their cells out, so what that takes is added to the difference.
    laid_out = seconds["laid out", many] / many
    overhead = each["placed"] - each["in one process"] + laid_out
    work = statistics.mean(one["training_s"] + one["measuring_s"] - one["saving_s"] for one in timings)
    said = (
        f"{many} cells: {1000 * each['placed']:.0f} ms each placed, {1000 * each['in one process']:.0f} in one process"
        f" by train_cells, of which {1000 * work:.0f} are training and measuring; {1000 * laid_out:.0f} laid out"
    )
    yield _row("a cell: overhead of local", 1000 * overhead, "ms", 50.0, said)
    yield _row("a cell: all but training and measuring", 1000 * (each["placed"] - work), "ms", None, said)


def _alone(run: Run) -> None:
    """The same cells, one after the other, in a process that has done nothing else; its start is in the first."""
    code = (
        "import sys, torch; from pathlib import Path; from ganzoo.party import measure_baselines, train_cells\n"
        "torch.set_num_threads(1)\n"
        "run = Path(sys.argv[1]); measure_baselines(run / 'baselines')\n"
        "for cell in sorted((run / 'cells').iterdir()):\n"
        "    (row,) = train_cells([cell])\n"
        "    assert row['verdict'] == 'done'"
    )
    subprocess.run([sys.executable, "-c", code, str(run.folder)], check=True)


def training_share(setting: Setting) -> Iterator[Row]:
    objectives, seeds = ("ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan"), 2 if setting.quick else 20
    folder = setting.folder / "share"
    words = [f"-o{name}" for name in objectives]
    words += ["--seeds", str(seeds), "--jobs", str(setting.cores), "--set=epochs=4" if setting.quick else ""]
    began = time.perf_counter()
    with _bench(setting, folder, [word for word in words if word]) as process:
        assert process.wait() == 0, "the comparison failed"
    wall = time.perf_counter() - began
    timings = _timings(folder)
    busy = sum(one["training_s"] + one["measuring_s"] for one in timings)
    said = f"{len(timings)} cells of the digits plan in {wall:.0f} s on {setting.cores} processes"
    yield _row("training share", 100 * busy / (setting.cores * wall), "% of slots x wall clock", -90.0, said)


def lost(setting: Setting) -> Iterator[Row]:
    lost_seconds, found = 5.0, []
    words = ["-ogls-gan", "--seeds", "1", "--jobs", "1", "--lost-seconds", str(lost_seconds)]
    with _bench(setting, setting.folder / "lost", [*words, "--retries", "99", "--set=epochs=100000"]):
        for _ in range(1 if setting.quick else 5):
            directory = _until(lambda: next((setting.folder / "lost" / "cells").glob("gls-gan*"), None))
            _until(partial(_beats, directory))
            worker = _until(lambda: [one for one in marked(MARK, _mark(setting)) if one.role == "worker"])[0]
            attempt, began = max(fences(directory)), time.monotonic()
            os.kill(worker.pid, signal.SIGSTOP)
            _until(partial(_beats, directory, after=attempt))
            found.append(time.monotonic() - began)
            time.sleep(2)
    said = f"{len(found)} times, --lost-seconds {lost_seconds:g}; median {statistics.median(found):.1f} s"
    yield _row("lost: seconds to re-place a stopped worker's cell, at most", max(found), "s", lost_seconds + 5, said)


def _beats(cell: Path, after: int = 0) -> bool:
    """Whether its last attempt, one after that, is at work."""
    beat, there = read_beat(cell), fences(cell)
    return beat is not None and bool(there) and beat.fence == there[-1] > after and not beat.left


def driver(setting: Setting) -> Iterator[Row]:
    draw, found = random.Random(0), []
    for number in range(2 if setting.quick else 10):
        folder = setting.folder / f"driver-{number}"
        words = ["-ogls-gan", "-owgan", "--seeds", "1", "--jobs", str(setting.cores), "--set=epochs=100000"]
        with _bench(setting, folder, words) as process:
            if number % 2 == 0:  # else at any moment of its start
                _until(lambda: [one for one in marked(MARK, _mark(setting)) if one.role == "worker"])
            time.sleep(draw.uniform(0, 5))
            process.kill()
            process.wait()
            seconds, left = until_gone(MARK, _mark(setting), within=60)
            assert not left
            found.append(seconds)
    said = f"{len(found)} kills, half of them while it starts; median {statistics.median(found):.2f} s"
    yield _row("driver: seconds until its last process is gone, at most", max(found), "s", 5.0, said)


FIGURES: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "checkpoints": checkpoints,
    "a-cell": a_cell,
    "training-share": training_share,
    "lost": lost,
    "driver": driver,
}


def _row(figure: str, value: float, unit: str, goal: float | None, said: str) -> Row:
    """`goal`: not to be exceeded; a negative one is to be reached."""
    met = None if goal is None else (value <= goal if goal > 0 else value >= -goal)
    wanted = None if goal is None else f"{'<=' if goal > 0 else '>='} {abs(goal):g}"
    return {"figure": figure, "value": value, "unit": unit, "goal": wanted, "met": met, "of": said}


def _timings(folder: Path) -> list[dict[str, float]]:
    return [read_json(path) for path in sorted(folder.glob("cells/*/timing.json"))]


def _images(setting: Setting, count: int) -> str:
    """A file of so many synthetic 3x32x32 images."""
    path = setting.folder / f"images-{count}.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))
    return str(path)


def _mark(setting: Setting) -> str:
    return f"{os.getpid()}-{setting.folder.name}"


@contextmanager
def _bench(setting: Setting, folder: Path, words: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The command at work on the digits; what is left of it is ended at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "bench", "--out", str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", MARK: _mark(setting)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        until_gone(MARK, _mark(setting), within=10)


def _until(found: Callable[[], Any], within: float = 120) -> Any:
    """What it finds, as soon as it finds something. Raises TimeoutError."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if there := found():
                return there
        except OSError:
            pass  # the folder is still being laid out
        time.sleep(0.01)
    raise TimeoutError("what was waited for did not come")


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'figure':60} {'value':>8}  {'unit':24} {'goal':>8}  met"]
    for row in rows:
        met = "" if row["met"] is None else "met" if row["met"] else "NOT MET"
        lines.append(f"{row['figure']:60} {row['value']:8.2f}  {row['unit']:24} {row['goal'] or '':>8}  {met}")
        lines.append(f"    {row['of']}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look at the program, not at the figures")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=FIGURES, help="these figures alone")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    os.environ["OMP_NUM_THREADS"] = "1"
    rows: list[Row] = []
    for name in given.only or FIGURES:
        folder = Path(tempfile.mkdtemp(prefix="reliability-"))
        try:
            for row in FIGURES[name](Setting(folder, given.cores, given.quick)):
                rows.append({**row, "load": os.getloadavg()[0]})
                print(table(rows[-1:]), flush=True)
        finally:
            shutil.rmtree(folder)
    if given.out is not None:
        words = " ".join([*(["--quick"] if given.quick else []), f"--cores {given.cores}"])
        cause = provenance("cpu") | {"command": f"python benchmarks/reliability.py {words}"}
        commit(given.out, (json.dumps({"rows": rows, "provenance": cause}, indent=1) + "\n").encode())
    return 0 if all(row["met"] is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
