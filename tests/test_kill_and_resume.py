"""A comparison that was killed, however often, ends in the rows of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# A shell without job control starts what is in the background deaf to Ctrl-C; a user's terminal does not.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ganzoo.cli import main; main()"
PLAN = """
objectives = ["gls-gan", "cls-gan:unlabeled_weight=0.5"]
seeds = 2
epochs = 30
validate_every = 5
batch_size = 16
z_dim = 3
validation_images = 4
test_images = 8
control_images = 4
checkpoint_seconds = 0.02
data = { split = [64, 16, 16] }
labels = { per_class = 3 }
generator = { name = "dcgan", width = 4 }
critic = { name = "dcgan", width = 4 }
validation_mre = { steps = 3, restarts = 1 }
test_mre = { steps = 4, restarts = 2 }
"""
"""120 rounds a cell, saved many times on the way."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def start(folder: Path) -> "subprocess.Popen[str]":
    """The command in a process group of its own, as a shell starts it."""
    (folder / "plan.toml").write_text(PLAN)
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "bench", "plan.toml", "--out", "run", "--jobs", "2"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def alive(session: int) -> list[int]:
    """Processes of that session that still run; a new session's id is that of its first process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has just ended
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def all_gone(session: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while alive(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_until(found: Any, process: "subprocess.Popen[str]", within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "run" / "rows.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "provenance"} for row in found]


def to_the_end(folder: Path) -> None:
    process = start(folder)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert all_gone(process.pid, within=5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    to_the_end(folder)
    assert len(rows(folder)) == 4
    return folder


def same(folder: Path, undisturbed: Path) -> None:
    assert rows(folder) == rows(undisturbed)
    for name in ("baselines.json", "table.txt", "curves.png", "samples.png", "reconstructions.png"):
        assert (folder / "run" / name).read_bytes() == (undisturbed / "run" / name).read_bytes(), name


def folders(tmp_path: Path) -> Iterator[Path]:
    """Some to begin anew in: on a busy machine the command may have come further than it should before we look."""
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        yield folder
    pytest.fail("the command was always further than it should be")


def kill_when(folder: Path, found: Any, delay: float = 0.0) -> bool:
    """Whether it was still at work when the signal came."""
    process = start(folder)
    wait_until(found, process)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)  # the driver alone: its workers must notice by themselves
    process.communicate()
    assert all_gone(process.pid, within=5)
    return process.returncode == -signal.SIGKILL


def test_a_run_killed_in_the_middle_of_a_cell_resumes_to_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    for folder in folders(tmp_path):
        cells = folder / "run" / "cells"
        if kill_when(folder, lambda cells=cells: any(cells.glob("*/checkpoint-*")), delay=0.1):
            break
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("*/row.json")}
    to_the_end(folder)
    same(folder, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list((folder / "run").rglob("*.tmp"))


@pytest.mark.slow
def test_a_run_killed_ten_times_at_random_moments_ends_in_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    moments, places, kills = random.Random(10), folders(tmp_path), 0
    folder = next(places)
    while kills < 10:
        begun, run = time.time(), folder / "run"

        def at_work(begun: float = begun, run: Path = run) -> bool:
            with suppress(FileNotFoundError):  # an older checkpoint is removed while we look
                return max((path.stat().st_mtime for path in run.glob("cells/*/*")), default=0.0) > begun
            return False

        # Some kills fall while the command starts up, the others while cells are at work.
        early = moments.random() < 0.3
        if kill_when(folder, (lambda: True) if early else at_work, delay=moments.uniform(0, 2 if early else 0.1)):
            kills += 1
        else:
            same(folder, undisturbed)
            folder = next(places)
    to_the_end(folder)
    same(folder, undisturbed)


@pytest.mark.parametrize("moment", ["while the workers start", "in the middle of a cell"])
def test_ctrl_c_ends_with_one_line_and_the_same_command_resumes(moment: str, tmp_path: Path, undisturbed: Path) -> None:
    for folder in folders(tmp_path):
        process = start(folder)
        run = folder / "run"
        if moment == "while the workers start":
            wait_until(lambda pid=process.pid: len(alive(pid)) >= 3, process)
            time.sleep(0.3)
        else:
            wait_until(lambda run=run: any(run.glob("cells/*/checkpoint-*")), process)
        late = process.poll() is not None or (moment == "while the workers start" and run.exists())
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the driver and its workers
        _, said = process.communicate(timeout=20)
        assert "Traceback" not in said
        assert all_gone(process.pid, within=5)
        if not late and process.returncode != 0:
            break
    assert process.returncode == 130
    how = "stopped" if moment == "while the workers start" else "interrupted, everything is saved"
    assert said.splitlines()[-1] == f"ganzoo: {how}; resume with: ganzoo bench plan.toml --out run --jobs 2"
    to_the_end(folder)
    same(folder, undisturbed)
