"""Another machine's arithmetic, a machine that is switched off, a worker behind a cut cable: rows 7, 12 and 13 of
docs/reliability.md. Nobody resumes falsely, and of two at one cell one history is left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from faults import (
    directory_of,
    faulty_plugin,
    forget,
    laid_out,
    result,
    tell,
    way,
)

from ganzoo import processes, worker
from ganzoo.bench import Log, Run
from ganzoo.cell_folder import CellFolder, LostFence, checkpoints, fences, raise_fence, read_beat, read_curve
from ganzoo.config import Plan
from ganzoo.durable import load_checkpoint, read_sealed, save_checkpoint, sealed_lines
from ganzoo.errors import UserError
from ganzoo.placing import WORKER, Engine, Placed
from ganzoo.result import read_row
from ganzoo.seam import Policy, Task, see_through

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Two at one cell who both ignore the fence may disturb each other for ever; no test here takes a minute."""

    def over(*_: object) -> None:
        raise TimeoutError("the cell does not come to its end")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def work(*arguments: str) -> Any:
    """`python -m ganzoo.worker` in a process of its own, from a server that has it imported."""
    process = processes.context().Process(target=_work, args=arguments, daemon=True)
    process.start()  # type: ignore[attr-defined]
    return process


def _work(*arguments: str) -> None:
    sys.exit(worker.main(arguments))


def worked(*arguments: str) -> int:
    process = work(*arguments)
    process.join()
    status: int = process.exitcode
    return status


class Halfway(NamedTuple):
    """A cell that was killed in the middle, and what it leaves where nothing befalls it."""

    plugin: Path
    plan: Callable[..., Plan]
    run: Path
    calm: dict[str, Any]

    def again(self, folder: Path) -> Path:
        """A copy of it: the cell's folder."""
        shutil.copytree(self.run, folder / "run")
        return directory_of(laid_out(folder / "run", self.plan()), way("kill"))


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan]) -> Halfway:
    folder = tmp_path_factory.mktemp("halfway")
    plugin = faulty_plugin(folder / "faulty")
    pixels, classes = np.random.default_rng(3).integers(0, 256, (96, 8, 8), dtype=np.uint8), np.arange(96) % 3
    np.savez(folder / "images.npz", images=pixels, labels=classes)

    def plan(**changes: Any) -> Plan:
        more = {"epochs": 6, "checkpoint_seconds": 0.0, "plugins": [str(plugin)], **changes}
        more |= {"data.set": "npz", "data.path": str(folder / "images.npz")}
        return tiny(objectives=[way("kill")], **more)

    runs = {name: laid_out(folder / name, plan()) for name in ("run", "calm")}
    for name, run in runs.items():
        with run.held():
            pass
        if name == "run":
            tell(plugin, "kill", 1)
        assert worked(str(directory_of(run, way("kill")))) == (-9 if name == "run" else 0)
    return Halfway(plugin, plan, runs["run"].folder, result(directory_of(runs["calm"], way("kill"))))


# Row 7: other numbers


def refused(directory: Path, match: str) -> None:
    row = read_row(directory)
    assert row is not None
    assert row["verdict"] == "invalid"
    assert match in row["reason"]
    assert 0 < load_checkpoint(checkpoints(directory)[0])["round"] < 24  # it stands


def test_more_threads_do_not_resume(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    assert worked("--threads", "2", str(directory)) == 1
    refused(directory, "threads 1, here 2")
    assert worked(str(directory)) == 0
    assert result(directory) == halfway.calm


@pytest.mark.parametrize(
    "variable",
    ["ONEDNN_MAX_CPU_ISA=SSE41", "ONEDNN_MAX_CPU_ISA=AVX2", "MKL_CBWR=COMPATIBLE", "ATEN_CPU_CAPABILITY=default"],
)
def test_another_instruction_set_does_not_resume_unless_it_makes_the_same_bits(
    variable: str, halfway: Halfway, tmp_path: Path
) -> None:
    directory = halfway.again(tmp_path)
    name, _, value = variable.partition("=")
    made = subprocess.run(
        [sys.executable, "-m", "ganzoo.worker", str(directory)], env={**os.environ, name: value}, check=False
    )
    if made.returncode == 0:
        assert result(directory) == halfway.calm
    else:
        refused(directory, "instruction set" if name.startswith("ATEN") else "arithmetic")


def test_another_torch_does_not_resume(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    for path in checkpoints(directory):
        state = load_checkpoint(path)
        state["fingerprint"]["torch"] = "2.0.0"
        save_checkpoint(path, state)
    assert worked(str(directory)) == 1
    refused(directory, "was made with torch 2.0.0, here 2.")


def test_other_images_do_not_resume(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    path = Path(str(halfway.plan().data.path))
    kept = path.read_bytes()
    with np.load(path) as found:
        images, labels = found["images"].copy(), found["labels"]
    images[0, 0, 0] ^= 1
    try:
        np.savez(path, images=images, labels=labels)
        assert worked(str(directory)) == 1
    finally:
        path.write_bytes(kept)
    refused(directory, "holds a run on other images (test images differ)")


def test_an_edited_plugin_does_not_resume_and_the_same_command_begins_anew(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    kept = halfway.plugin.read_text()
    try:
        halfway.plugin.write_text(kept.replace("torch.relu(a) * weight", "torch.relu(a) * weight * 1.0"))
        assert worked(str(directory)) == 1
        refused(directory, "cost 'faulty' has changed since this run was planned; start the command again")
        anew = directory_of(laid_out(tmp_path / "run", halfway.plan()), way("kill"))
        assert anew != directory
        assert not anew.exists()
    finally:
        halfway.plugin.write_text(kept)


def test_a_compiled_run_is_another_run(halfway: Halfway, tmp_path: Path) -> None:
    halfway.again(tmp_path)
    compiled = laid_out(tmp_path / "run", halfway.plan(compile=True))
    with pytest.raises(UserError, match=r"holds a run of another plan \(compile differ\)"), compiled.held():
        pass


def test_what_was_resumed_inexactly_is_inexact_for_ever(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    forget(halfway.plugin)
    tell(halfway.plugin, "kill", 2)
    inexactly = ("--threads", "2", "--allow-inexact", str(directory))
    assert worked(*inexactly) == -9
    assert load_checkpoint(checkpoints(directory)[0])["inexact"] is True
    assert worked(str(directory)) == 1  # the first machine's numbers are not its numbers any more
    refused(directory, "threads 2, here 1")
    assert worked("--allow-inexact", str(directory)) in (-9, 0)
    assert worked("--allow-inexact", str(directory)) == 0
    row = read_row(directory)
    assert row is not None
    assert (row["verdict"], row["inexact"], row["fingerprint"]["threads"]) == ("done", True, "1")
    assert read_sealed(directory / "verdict.json")["inexact"] is True
    assert read_sealed(directory / "fingerprint.json")["threads"] == "1"  # where it began


def test_what_was_never_resumed_elsewhere_is_exact_even_where_it_might_have_been(
    halfway: Halfway, tmp_path: Path
) -> None:
    directory = halfway.again(tmp_path)
    forget(halfway.plugin)
    assert worked("--allow-inexact", str(directory)) == 0
    assert result(directory) == halfway.calm
    assert halfway.calm["row"]["inexact"] is False


# Rows 12 and 13: a machine that is gone, and one that only seems to be


class CutOff:
    """A process on a machine to which the cable is cut: it goes on, it cannot be ended from here, and nothing is heard
    of it but what it writes to the shared folder. `said`: what the engine makes of that, None or a status."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.cut = False
        self.said: int | None = None

    def poll(self) -> int | None:
        status: int | None = self.process.exitcode
        return self.said if self.cut else status

    def kill(self) -> None:
        if not self.cut:
            self.process.kill()
            self.process.join()


class Cluster:
    """An engine of processes that can be cut off."""

    def __init__(self) -> None:
        self.placed: list[CutOff] = []

    def place(self, command: list[str]) -> Placed:
        self.placed.append(CutOff(work(*command[len(WORKER) :])))
        return self.placed[-1]

    def join(self) -> list[int]:
        found = []
        for one in self.placed:
            one.process.join(60)
            found.append(one.process.exitcode)
        return found


def dragging(folder: Path, halfway: Halfway) -> Run:
    """The cell from its beginning, slow enough that two can be at work on it."""
    forget(halfway.plugin)
    tell(halfway.plugin, "drag")
    return laid_out(folder / "run", halfway.plan())


def one_history(run: Run, halfway: Halfway, *, attempt: int) -> None:
    directory = directory_of(run, way("kill"))
    assert result(directory) == halfway.calm
    row = read_row(directory)
    assert row is not None
    assert row["provenance"]["attempt"] == attempt == fences(directory)[-1]
    rounds = [point["round"] for _, point in sealed_lines((directory / "curve.jsonl").read_bytes())]
    assert rounds == sorted(set(rounds)) == [point["round"] for point in row["curve"]]


def see(run: Run, cluster: Cluster, disturb: Callable[[], None], policy: Policy) -> None:
    """Train, `disturb` being called twice a second."""
    with run.held(), Log(run.folder / "log.jsonl") as log:
        cells = run._seen(lambda event: None, log)

        def told(event: str, directory: Path) -> None:
            disturb()
            cells.tell(event, directory)

        tasks = [Task((run.directory(cell),)) for cell in run.cells]
        see_through(tasks, Engine(cluster.place, 1), policy, cells._replace(tell=told))


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """All but what a replaced attempt prints, and who had the lock last."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.iterdir()
        if path.name not in ("attempt-1.log", "lock")
    }


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_a_worker_out_of_reach_is_replaced_in_time_and_writes_nothing_if_it_comes_back(
    end: signal.Signals, halfway: Halfway, tmp_path: Path
) -> None:
    run, cluster = dragging(tmp_path, halfway), Cluster()
    directory = directory_of(run, way("kill"))
    moments: list[float] = []

    def disturb() -> None:
        if len(cluster.placed) == 1 and not moments and len(checkpoints(directory)) == 2:
            os.kill(cluster.placed[0].process.pid, end)
            cluster.placed[0].cut = True
            moments.append(time.monotonic())
        if len(cluster.placed) == 2 and len(moments) == 1:
            moments.append(time.monotonic())

    policy = Policy(retries=1, lost_seconds=2.0, hang_seconds=900.0)
    see(run, cluster, disturb, policy)
    print(f"re-placed {moments[1] - moments[0]:.2f} s after the end, lost_seconds being {policy.lost_seconds}")
    assert moments[1] - moments[0] < policy.lost_seconds + 5
    assert [named["event"] for _, named in sealed_lines((run.folder / "log.jsonl").read_bytes())] == [
        "placed", "ended", "placed", "settled",
    ]  # fmt: skip
    one_history(run, halfway, attempt=2)
    before = snapshot(directory)
    if end == signal.SIGSTOP:
        os.kill(cluster.placed[0].process.pid, signal.SIGCONT)
    assert cluster.join() == [75 if end == signal.SIGSTOP else -9, 0]
    assert snapshot(directory) == before
    assert ("attempt 1 was replaced" in (directory / "attempt-1.log").read_text()) == (end == signal.SIGSTOP)


def test_of_two_at_work_on_one_cell_the_older_stops_at_its_next_commit(halfway: Halfway, tmp_path: Path) -> None:
    run, cluster = dragging(tmp_path, halfway), Cluster()
    directory = directory_of(run, way("kill"))

    def disturb() -> None:
        first = cluster.placed[0] if cluster.placed else None
        if first and not first.cut and len(checkpoints(directory)) == 2:
            first.cut, first.said = True, -9  # the engine takes it for dead; it goes on, and the folder is the same

    see(run, cluster, disturb, Policy(retries=1, hang_seconds=900.0))
    assert cluster.join() == [75, 0]  # so it was at work when it was replaced
    one_history(run, halfway, attempt=2)


def test_a_worker_that_was_replaced_before_it_began_writes_nothing(halfway: Halfway, tmp_path: Path) -> None:
    directory = halfway.again(tmp_path)
    raise_fence(directory, 7)
    before = snapshot(directory)
    assert worked("--fence", "6", str(directory)) == 75
    assert snapshot(directory) == before


def test_a_driver_that_stood_still_itself_does_not_take_its_workers_for_lost(halfway: Halfway, tmp_path: Path) -> None:
    run, cluster = dragging(tmp_path, halfway), Cluster()
    stood: list[float] = []

    def disturb() -> None:
        if not stood and cluster.placed and read_beat(directory_of(run, way("kill"))):
            stood.append(time.monotonic())
            time.sleep(3)

    see(run, cluster, disturb, Policy(retries=0, lost_seconds=2.5, hang_seconds=900.0))
    assert stood
    one_history(run, halfway, attempt=1)


@pytest.mark.parametrize("kept", [0, 1], ids=["before any point", "after a point"])
def test_a_worker_that_sleeps_between_its_look_at_the_fence_and_its_point_leaves_no_point(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [{"round": number, "validation_mre": 0.5} for number in range(3)]
    sleeper = CellFolder(tmp_path, raise_fence(tmp_path))
    sleeper.begin_curve([])
    for point in points[:kept]:
        sleeper.tell(point)

    def look_and_sleep() -> None:
        CellFolder.require_fence(sleeper)
        other = CellFolder(tmp_path, raise_fence(tmp_path))
        other.begin_curve(points[:kept])
        other.tell(points[kept])

    with monkeypatch.context() as patched:
        patched.setattr(sleeper, "require_fence", look_and_sleep)
        sleeper.tell(points[kept])
    assert read_curve(tmp_path) == points[: kept + 1]
    with pytest.raises(LostFence, match="attempt 1 was replaced"):
        sleeper.tell(points[2])
    assert read_curve(tmp_path) == points[: kept + 1]
