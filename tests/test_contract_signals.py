"""Ctrl-C, SIGTERM and SIGUSR2 at many moments; clocks that jump: rows 16 and 17 of docs/reliability.md."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import (
    attempts,
    directory_of,
    faulty_plugin,
    forget,
    laid_out,
    result,
    running,
    tell,
    train,
    victims,
    way,
    within,
)

from ganzoo import processes, worker
from ganzoo.bench import Run
from ganzoo.cell_folder import checkpoints, fences, read_beat
from ganzoo.config import Plan
from ganzoo.durable import load_checkpoint, read_json, sealed_lines

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

# A shell without job control starts what is in the background deaf to Ctrl-C; a user's terminal does not.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ganzoo.cli import main; main()"
MEANT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR2: 75}
PATIENCE = 10
"""Seconds that are promised from the signal to the end."""


class Calm(NamedTuple):
    """The faulty plugin, a run that is laid out, and what is left where nothing befalls it."""

    plugin: Path
    plan: Plan
    fresh: Path
    finished: Run

    def copy(self, folder: Path) -> Run:
        forget(self.plugin)
        shutil.copytree(self.fresh, folder / "run")
        return laid_out(folder / "run", self.plan)

    def same(self, run: Run) -> None:
        for cell in run.cells:
            label = cell.contender.label
            assert result(directory_of(run, label)) == result(directory_of(self.finished, label)), label


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan]) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    plugin = faulty_plugin(folder / "faulty")
    objectives = [way("sleep"), way("exit")]
    plan = tiny(objectives=objectives, epochs=6, checkpoint_seconds=0.0, plugins=[str(plugin)])
    fresh, finished = laid_out(folder / "fresh", plan), laid_out(folder / "finished", plan)
    rows = train(finished, 1)
    assert {row["verdict"] for row in rows.values()} == {"done"}
    with fresh.held():
        shutil.copy(finished.folder / "baselines.json", fresh.folder)
    return Calm(plugin, plan, fresh.folder, finished)


def work(directory: Path, grace: float = worker.GRACE) -> Any:
    """`python -m ganzoo.worker` as a shell starts it, from a server that has it imported."""
    process = processes.context().Process(target=_work, args=(str(directory), grace), daemon=True)
    process.start()  # type: ignore[attr-defined]
    return process


def _work(directory: str, grace: float) -> None:
    worker.GRACE = grace
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.exit(worker.main([directory]))


def ended(process: Any, since: float) -> int:
    """Its exit status; it ends in time, if the machine is not overloaded."""
    process.join(3 * PATIENCE)
    assert process.exitcode is not None, "it does not end"
    status: int = process.exitcode
    print(f"status {status} after {time.monotonic() - since:.2f} s")
    return status


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


# Row 16: a worker


def test_a_worker_that_is_stopped_at_twenty_moments_ends_in_the_same_bits(calm: Calm, tmp_path: Path) -> None:
    moments, stops = random.Random(16), []
    copies = iter(range(100))
    run = calm.copy(tmp_path / str(next(copies)))
    directory = directory_of(run, way("sleep"))
    for moment in range(20):
        number = list(MEANT)[moment % 3]
        tell(calm.plugin, "drag")
        process = work(directory)
        beating = directory / f"fence-{max(fences(directory), default=0) + 1}"
        assert within(30, beating.exists)  # signals are heard from here on
        time.sleep(moments.uniform(0.05, 0.6))
        began = time.monotonic()
        with suppress(ProcessLookupError):  # it is done
            os.kill(process.pid, number)
        status = ended(process, began)
        assert status in (MEANT[number], 0)
        if status == 0:  # it was done before it heard
            run = calm.copy(tmp_path / str(next(copies)))
            directory = directory_of(run, way("sleep"))
        else:
            stops.append(number)
            assert not (directory / "row.json").exists()
    assert len(stops) >= 10
    forget(calm.plugin)
    assert ended(work(directory), time.monotonic()) == 0
    assert result(directory) == result(directory_of(calm.finished, way("sleep")))


@pytest.mark.parametrize("number", list(MEANT))
def test_a_worker_saves_the_round_in_which_it_is_stopped(
    number: signal.Signals, calm: Calm, tmp_path: Path, tiny: Callable[..., Plan]
) -> None:
    forget(calm.plugin)
    tell(calm.plugin, "drag")
    plan = tiny(objectives=[way("sleep")], epochs=200, validate_every=200, plugins=[str(calm.plugin)])
    run = laid_out(tmp_path / "run", plan)  # saves every 30 s only
    with run.held():
        pass
    directory = directory_of(run, way("sleep"))
    process = work(directory)
    assert within(60, lambda: (beat := read_beat(directory)) and beat.work > 60)  # past the first search for z
    os.kill(process.pid, number)
    assert ended(process, time.monotonic()) == MEANT[number]
    (saved,) = (load_checkpoint(path) for path in checkpoints(directory)[:1])
    assert saved["round"] > 20
    assert (directory / "beat").read_text().split()[1] == "-1"  # it has left: another need not wait


@pytest.mark.parametrize("number", list(MEANT))
def test_asked_twice_a_worker_ends_at_once_and_asked_once_in_time_however_deep_it_is(
    number: signal.Signals, calm: Calm, tmp_path: Path
) -> None:
    run = calm.copy(tmp_path)
    directory = directory_of(run, way("sleep"))
    tell(calm.plugin, "sleep", 2 if number == signal.SIGTERM else 1)
    process = work(directory, grace=600.0)
    assert within(30, lambda: victims(calm.plugin))
    before = threads(process.pid)
    os.kill(process.pid, number)
    assert within(30, lambda: threads(process.pid) > before)  # heard: its patience has a thread of its own
    process.join(0.5)
    assert process.exitcode is None
    os.kill(process.pid, number)
    process.join(3)
    assert process.exitcode == MEANT[number]
    if number == signal.SIGTERM:
        process = work(directory)
        assert within(30, lambda: len(victims(calm.plugin)) == 2)
        began = time.monotonic()
        os.kill(process.pid, number)
        assert ended(process, began) == MEANT[number]
        assert time.monotonic() - began > 5  # it was given its time
    assert ended(work(directory), time.monotonic()) == 0
    assert result(directory) == result(directory_of(calm.finished, way("sleep")))


# Row 16: the commands


def command(folder: Path, *words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def session(leader: int) -> list[int]:
    """Processes of that session which still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == leader and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def placed(run: Run) -> dict[str, int]:
    """How many attempts each cell has seen."""
    return {path.name: max(fences(path), default=0) for path in (run.folder / "cells").iterdir()}


def stopped(process: "subprocess.Popen[str]", number: signal.Signals, *, done: bool = False) -> str:
    """What it says after the signal, which a terminal sends to the whole group if it is Ctrl-C. `done`: it may be at
    its end already."""
    began = time.monotonic()
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=3 * PATIENCE)
    print(f"{number.name}: status {process.returncode} after {time.monotonic() - began:.2f} s")
    assert process.returncode == MEANT[number] or (done and process.returncode == 0), said
    assert "Traceback" not in said
    assert within(5, lambda: not session(process.pid))
    return said


BENCH = ("bench", "plan.toml", "--out", "run", "--jobs", "2")


def test_the_command_saves_and_ends_and_at_last_has_the_same_rows(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    (tmp_path / "plan.toml").write_text(calm.plan.toml())
    tell(calm.plugin, "drag")
    again = " ".join(["ganzoo", *BENCH])
    for number, line in (
        (signal.SIGTERM, f"ganzoo: stopped and saved; resume with: {again}"),
        (signal.SIGUSR2, f"ganzoo: stopped and saved; resume with: {again}"),
        (signal.SIGINT, f"ganzoo: interrupted, everything is saved; resume with: {again}"),
    ):
        before = placed(run)
        process = command(tmp_path, *BENCH)
        assert within(60, lambda before=before: placed(run) != before)
        time.sleep(0.2)
        assert stopped(process, number).splitlines()[-1] == line
    forget(calm.plugin)
    process = command(tmp_path, *BENCH)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    calm.same(run)


def test_ctrl_c_twice_ends_the_command_at_once_with_all_it_started(calm: Calm, tmp_path: Path) -> None:
    calm.copy(tmp_path)
    (tmp_path / "plan.toml").write_text(calm.plan.toml())
    tell(calm.plugin, "sleep")
    process = command(tmp_path, *BENCH)
    assert within(60, lambda: victims(calm.plugin))
    os.killpg(process.pid, signal.SIGINT)
    assert within(30, lambda: len([*tmp_path.glob("run/cells/*/stop")]) == 2)  # heard: it waits for both
    began = time.monotonic()
    stopped(process, signal.SIGINT)
    assert time.monotonic() - began < 7  # it waits for 8 s where nobody hurries it
    assert not any(map(running, victims(calm.plugin)))


@pytest.mark.parametrize("number", list(MEANT))
def test_a_command_that_is_stopped_while_it_starts_says_so(number: signal.Signals, calm: Calm, tmp_path: Path) -> None:
    calm.copy(tmp_path)
    (tmp_path / "plan.toml").write_text(calm.plan.toml())
    process = command(tmp_path, *BENCH)
    assert within(60, lambda: len(session(process.pid)) >= 2)  # the server of its workers is there: it is importing
    time.sleep(0.3)
    stopped(process, number)


@pytest.mark.slow
def test_a_command_that_is_stopped_at_twenty_moments_ends_in_the_same_bits(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    (tmp_path / "plan.toml").write_text(calm.plan.toml())
    moments, stops = random.Random(61), 0
    tell(calm.plugin, "drag")
    for moment in range(20):
        process = command(tmp_path, *BENCH)
        assert within(60, lambda pid=process.pid: len(session(pid)) >= 2)
        time.sleep(moments.uniform(0.2, 5))
        if process.poll() is not None:
            process.communicate()
            break
        stopped(process, list(MEANT)[moment % 3], done=True)
        if process.returncode == 0:
            break
        stops += 1
    assert stops >= 5
    forget(calm.plugin)
    process = command(tmp_path, *BENCH)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    calm.same(run)


def test_a_claiming_worker_saves_and_ends_too(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    # Whom a signal met before his first beat has left no word; the next waits for as long as he may be silent.
    claims = ("worker", "--claim", "run", "--lost-seconds=5")
    tell(calm.plugin, "drag")
    for number in MEANT:
        before = placed(run)
        process = command(tmp_path, *claims)
        assert within(60, lambda before=before: placed(run) != before)
        time.sleep(0.2)
        stopped(process, number)
    forget(calm.plugin)
    process = command(tmp_path, *claims)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    calm.same(run)


# Row 17: clocks


def faketime() -> Path | None:
    spec = find_spec("libfaketime")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    return next((found for place in places for found in place.rglob("libfaketime.so.1")), None)


@pytest.mark.skipif(faketime() is None, reason="no libfaketime here; it comes with ganzoo[dev]")
def test_a_clock_that_jumps_by_a_day_and_a_strange_time_zone_change_nothing(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    (tmp_path / "plan.toml").write_text(calm.plan.toml())
    tell(calm.plugin, "drag")
    tell(calm.plugin, "exit", 1)
    clock = tmp_path / "clock"
    clock.write_text("+0d")
    process = command(
        tmp_path,
        *BENCH,
        "--lost-seconds=20",
        "--hang-seconds=60",
        LD_PRELOAD=str(faketime()),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",  # as the kernel's: no one sets it
        TZ="Pacific/Chatham",
    )
    directory = directory_of(run, way("sleep"))
    for days in ("+1d", "-1d", "+400d"):
        seen = len(checkpoints(directory)) and checkpoints(directory)[0].name
        assert within(60, lambda seen=seen: checkpoints(directory) and checkpoints(directory)[0].name != seen)
        clock.write_text(days)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    calm.same(run)
    assert attempts(run) == {directory.name: 1, directory_of(run, way("exit")).name: 2}
    rows = [json.loads(line) for line in (run.folder / "rows.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [way("sleep"), way("exit")]
    stamps = [note["time"] for _, note in sealed_lines((run.folder / "log.jsonl").read_bytes())]
    stamps += [row["provenance"]["started"] for row in rows] + [read_json(max(directory.glob("fence-*")))["began"]]
    assert all(datetime.fromisoformat(stamp).utcoffset() == timedelta(0) for stamp in stamps)
    days_told = {datetime.fromisoformat(stamp).date() for stamp in stamps}
    assert len(days_told) >= 2  # it did jump
    seconds = [read_json(directory_of(run, row["label"]) / "timing.json") for row in rows]
    assert all(0 < value < 600 for timing in seconds for value in timing.values())
