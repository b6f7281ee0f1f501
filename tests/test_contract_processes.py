"""Memory, hangs, crashes, locks, orphans, data-loading processes, strangers' folders: rows 9, 10, 11, 14, 15, 18 and 26
of docs/reliability.md, each with the real fault."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import (
    attempts,
    directory_of,
    faulty_plugin,
    forget,
    laid_out,
    memory_limit,
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
from ganzoo.cell_folder import fences
from ganzoo.config import Plan
from ganzoo.result import read_row
from ganzoo.seam import Policy

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

# A shell without job control starts what is in the background deaf to Ctrl-C; a user's terminal does not.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ganzoo.cli import main; main()"
CRASHES = ("segfault", "kill", "abort", "exit")
HANGS = ("sleep", "spin", "hold_gil", "stop", "stuck_reader", "with_child")
ALL = (*CRASHES, *HANGS, "bytes", "tensor", "killed_reader", "calm")


class Calm(NamedTuple):
    """The faulty plugin, and what its cells leave where nothing befalls them."""

    plugin: Path
    plan: Callable[..., Plan]
    results: dict[str, dict[str, Any]]
    baselines: Path

    def run(self, folder: Path, *ways: str, **changes: Any) -> Run:
        """Checked, not yet begun, its baselines known."""
        made = laid_out(folder / "run", self.plan(*ways, **changes))
        made.folder.mkdir()
        shutil.copy(self.baselines, made.folder)
        return made


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan]) -> Calm:
    plugin = faulty_plugin(tmp_path_factory.mktemp("faulty"))

    def plan(*ways: str, **changes: Any) -> Plan:
        objectives = [*map(way, ways), "dcgan"]
        more = {"epochs": 6, "checkpoint_seconds": 0.0, "plugins": [str(plugin)], **changes}
        return tiny(objectives=objectives, **more)

    run = laid_out(tmp_path_factory.mktemp("calm") / "run", plan(*ALL))
    rows = train(run, 1)
    assert {row["verdict"] for row in rows.values()} == {"done"}
    left = {label: result(directory_of(run, label)) for label in rows}
    return Calm(plugin, plan, left, run.folder / "baselines.json")


@pytest.fixture(autouse=True)
def told_nothing(calm: Calm) -> Iterator[None]:
    forget(calm.plugin)
    yield
    for pid in victims(calm.plugin):
        assert within(5, lambda pid=pid: not running(pid)), "an orphan"
    forget(calm.plugin)


def same(run: Run, calm: Calm, *labels: str) -> None:
    for label in labels:
        assert result(directory_of(run, label)) == calm.results[label], label


# Row 11: always crashing


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_who_always_crashes_is_tried_so_often_and_the_others_are_done(retries: int, calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, *CRASHES)
    for name in CRASHES:
        tell(calm.plugin, name)
    rows = train(run, 1 + len(CRASHES), Policy(retries=retries))
    for name in CRASHES:
        row, directory = rows[way(name)], directory_of(run, way(name))
        assert row["verdict"] == "failed:crash"
        assert attempts(run)[directory.name] == 1 + retries == row["provenance"]["attempt"]
    said = {name: rows[way(name)]["reason"] for name in CRASHES}
    died = {"segfault": "signal 11", "kill": "signal 9", "abort": "signal 6", "exit": "exit status 3"}
    assert all(died[name] in said[name] for name in CRASHES), said
    log = directory_of(run, way("segfault")) / f"attempt-{1 + retries}.log"
    assert "Segmentation fault" in log.read_text()
    assert rows["dcgan"]["verdict"] == "done"
    same(run, calm, "dcgan")


def test_who_crashes_only_once_ends_in_the_same_bits(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, *CRASHES)
    for name in CRASHES:
        tell(calm.plugin, name, 1)
    train(run, 2, Policy(retries=2))
    same(run, calm, *map(way, CRASHES), "dcgan")
    assert len(victims(calm.plugin)) == len(CRASHES)


# Row 10: hanging


@pytest.mark.slow
def test_every_way_to_hang_is_ended_with_all_it_started_and_tried_so_often(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, *HANGS)
    for name in HANGS:
        tell(calm.plugin, name)
    rows = train(run, 1 + len(HANGS), Policy(retries=1, lost_seconds=12.0, hang_seconds=16.0))
    for name in HANGS:
        assert rows[way(name)]["verdict"] == "failed:hang", rows[way(name)]
        assert attempts(run)[directory_of(run, way(name)).name] == 2
    assert "did not beat for 12 s in 2 attempts" in rows[way("stop")]["reason"]
    assert "did not beat for 12 s in 2 attempts" in rows[way("hold_gil")]["reason"]
    assert "no round was finished for 16 s in 2 attempts" in rows[way("sleep")]["reason"]
    same(run, calm, "dcgan")
    assert len(victims(calm.plugin)) >= len(HANGS) + 2  # two of them start a child
    assert within(1, lambda: not any(map(running, victims(calm.plugin))))


@pytest.mark.slow
def test_who_hangs_only_once_ends_in_the_same_bits(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, "stop", "sleep")
    tell(calm.plugin, "stop", 1)
    tell(calm.plugin, "sleep", 1)
    train(run, 3, Policy(retries=1, lost_seconds=12.0, hang_seconds=12.0))
    same(run, calm, way("stop"), way("sleep"), "dcgan")
    assert len(victims(calm.plugin)) == 2


# Row 9: no memory


def test_who_finds_no_memory_is_tried_once_more_alone_and_has_its_peak_told(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, "bytes", "tensor")
    tell(calm.plugin, "bytes")
    tell(calm.plugin, "tensor")
    rows = train(run, 3, Policy(retries=2))
    for name, error in (("bytes", "MemoryError"), ("tensor", "RuntimeError")):
        row = rows[way(name)]
        assert row["verdict"] == "failed:oom"
        assert row["reason"].startswith(error)
        assert 50e6 < row["peak_bytes"] < 8e9
        assert attempts(run)[directory_of(run, way(name)).name] == 2
    same(run, calm, "dcgan")


def test_who_finds_memory_the_second_time_ends_in_the_same_bits(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, "bytes", "tensor")
    tell(calm.plugin, "bytes", 1)
    tell(calm.plugin, "tensor", 1)
    train(run, 3, Policy(retries=1))
    same(run, calm, way("bytes"), way("tensor"), "dcgan")  # the same batches, among other things
    assert len(victims(calm.plugin)) == 2


@pytest.mark.slow
def test_whom_the_system_kills_for_want_of_memory_is_tried_once_more_alone(calm: Calm, tmp_path: Path) -> None:
    tell(calm.plugin, "fill")
    try:
        with memory_limit(2 << 30) as group:
            process = start(calm.plan("fill", "calm"), tmp_path, group=group)
            _, said = process.communicate(timeout=120)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    assert process.returncode == 1, said
    run = laid_out(tmp_path / "run", calm.plan("fill", "calm"))
    rows = {row["label"]: row for row in run.rows()}
    assert rows[way("fill")]["verdict"] == "failed:oom"
    assert "the system killed its process for want of memory in 2 attempts" in rows[way("fill")]["reason"]
    assert "MB at most" in rows[way("fill")]["reason"]
    assert attempts(run)[directory_of(run, way("fill")).name] == 2
    same(run, calm, way("calm"), "dcgan")


# Rows 14 and 15: two at one folder; a driver that is killed


def start(plan: Plan, folder: Path, group: Path | None = None, mark: str = "") -> "subprocess.Popen[str]":
    """`ganzoo bench` as a shell starts it, in a control group, its environment marked."""
    (folder / "plan.toml").write_text(plan.toml())
    enter = () if group is None else ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    return subprocess.Popen(
        [*enter, sys.executable, "-c", COMMAND, "bench", "plan.toml", "--out", "run", "--jobs", "5"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GANZOO_TEST": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[int]:
    """Processes that were started with this mark in their environment, and all that they started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"GANZOO_TEST={mark}".encode() in path.read_bytes().split(b"\0") and running(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_second_command_gives_way_and_a_killed_driver_leaves_no_orphan(calm: Calm, tmp_path: Path) -> None:
    stuck = ("stop", "hold_gil", "with_child", "sleep")
    for name in stuck:
        tell(calm.plugin, name)
    plan, mark = calm.plan(*stuck), f"mark-{os.getpid()}"
    first = start(plan, tmp_path, mark=mark)
    done = tmp_path / "run" / "cells" / directory_of(laid_out(tmp_path / "run", plan), "dcgan").name / "verdict.json"
    assert within(90, lambda: len(victims(calm.plugin)) == 5 and done.exists())

    before = os.times()
    second = start(plan, tmp_path)
    _, said = second.communicate(timeout=60)
    after = os.times()
    assert second.returncode == 75
    who = f"process {first.pid} on {os.uname().nodename}"
    assert said == f"ganzoo: run is in use by another process ({who}); wait, or take --out\n"
    # Of a processor, which is no longer than the promised second of a clock on an idle machine.
    assert after.children_user - before.children_user + after.children_system - before.children_system < 1

    left = marked(mark)
    assert {first.pid, *victims(calm.plugin)} <= set(left)
    os.kill(first.pid, signal.SIGKILL)
    assert within(5, lambda: not marked(mark))
    first.communicate()

    forget(calm.plugin)
    kept = done.stat().st_mtime_ns
    again = start(plan, tmp_path)
    _, said = again.communicate(timeout=90)
    assert again.returncode == 0, said
    assert done.stat().st_mtime_ns == kept
    same(laid_out(tmp_path / "run", plan), calm, *map(way, stuck), "dcgan")


def worker_process(*arguments: str) -> Any:
    """`python -m ganzoo.worker` from a server that has it imported."""
    process = processes.context().Process(target=_worker, args=arguments, daemon=True)
    process.start()  # type: ignore[attr-defined]
    return process


def _worker(*arguments: str) -> None:
    sys.exit(worker.main(arguments))


def laid_out_only(run: Run) -> None:
    with run.held():
        pass


def test_a_second_worker_at_a_cell_gives_way_until_the_first_is_killed(
    calm: Calm, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = calm.run(tmp_path, "sleep")
    laid_out_only(run)
    directory = directory_of(run, way("sleep"))
    tell(calm.plugin, "sleep", 1)
    first = worker_process(str(directory))
    assert within(30, lambda: victims(calm.plugin))
    assert worker.main([str(directory)]) == 75
    said = f"in use by another process (process {first.pid} on {os.uname().nodename}); wait, or end that one\n"
    assert capfd.readouterr().err.endswith(said)
    assert fences(directory) == [1]
    first.kill()
    first.join()
    assert worker.main([str(directory)]) == 0
    same(run, calm, way("sleep"))


# Row 18: data-loading processes


def test_a_plugin_that_reads_with_0_2_or_4_processes_has_the_same_curve(calm: Calm, tmp_path: Path) -> None:
    labels = [f"gls-gan:cost=faulty,workers={n}" for n in (0, 2, 4)]
    plan = calm.plan(epochs=2).model_copy(update={"objectives": tuple(labels)})
    run = laid_out(tmp_path / "run", plan)
    rows = train(run, 3, Policy(retries=0))
    found = [{key: rows[label][key] for key in ("verdict", "curve", "test_mre", "trace")} for label in labels]
    assert found[0]["verdict"] == "done"
    assert found[0] == found[1] == found[2]


def test_a_killed_reader_is_another_attempt_and_no_shorter_epoch(calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, "killed_reader")
    tell(calm.plugin, "killed_reader", 1)
    train(run, 2, Policy(retries=1))
    directory = directory_of(run, way("killed_reader"))
    assert attempts(run)[directory.name] == 2
    assert "DataLoader worker" in (directory / "attempt-1.log").read_text()
    same(run, calm, way("killed_reader"), "dcgan")


@pytest.mark.parametrize("jobs", [2, 4])
def test_rows_do_not_depend_on_how_many_work_at_a_time(jobs: int, calm: Calm, tmp_path: Path) -> None:
    run = calm.run(tmp_path, *CRASHES, "calm")  # nobody is told to do anything
    train(run, jobs)
    same(run, calm, *map(way, CRASHES), way("calm"), "dcgan")


# Row 26: a stranger's folder


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def strange(calm: Calm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is laid out, and things around it that are no cells of it."""
    folder = tmp_path_factory.mktemp("strange")
    run = calm.run(folder)
    laid_out_only(run)
    (cell,) = (run.folder / "cells").iterdir()
    cell.rename(run.folder / "cells" / "cell-of-its-own-name")
    shutil.copytree(run.folder / "cells" / "cell-of-its-own-name", cell)
    shutil.copytree(run.folder, folder / "other")
    shutil.copytree(cell, folder / "loose")
    shutil.copytree(cell, folder / "no-plan" / "cells" / cell.name)
    (run.folder / "cells" / "out").symlink_to(folder / "other" / "cells" / cell.name)
    (run.folder / "cells" / "loose").symlink_to(folder / "loose")
    (run.folder / "cells" / "loop").symlink_to("loop")
    (run.folder / "cells" / "empty").mkdir()
    (run.folder / "cells" / "broken").mkdir()
    (run.folder / "cells" / "broken" / "cell.json").write_text('{"contender": 1}')
    (run.folder / "cells" / "file").write_text("")
    linked = folder / "linked"
    linked.mkdir()
    shutil.copy(run.folder / "plan.toml", linked)
    (linked / "cells").symlink_to(run.folder / "cells")
    return folder


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tmp",
        "",
        "run",
        "run/cells",
        "run/cells/absent",
        "run/cells/empty",
        "run/cells/broken",
        "run/cells/file",
        "run/cells/out",
        "run/cells/loose",
        "run/cells/loop",
        "run/cells/cell-of-its-own-name",
        "run/cells/CELL/..",
        "run/cells/../../loose",
        "no-plan/cells/CELL",
        "linked/cells/CELL",
        "loose",
        "no-plan/baselines",
        "a\nb\x1b[31m",
    ],
)
def test_a_worker_refuses_what_is_no_cell_of_a_run(
    path: str, strange: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = (one.name for one in (strange / "other" / "cells").iterdir() if one.name.startswith("dcgan"))
    monkeypatch.chdir(strange)
    path, before = path.replace("CELL", name), tree(strange)
    assert worker.main([path]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("ganzoo: ")
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert tree(strange) == before
    # Nor is a true cell trained beside it.
    assert worker.main([f"run/cells/{name}", path]) == 2
    assert tree(strange) == before


def test_the_same_paths_lead_to_a_cell_where_there_is_one(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = (one.name for one in (strange / "other" / "cells").iterdir() if one.name.startswith("dcgan"))
    elsewhere = strange / "a link to the run"
    elsewhere.symlink_to(strange / "other")  # a run may lie behind a link
    monkeypatch.chdir(strange / "other" / "cells" / name)
    assert worker.main(["."]) == 0
    assert worker.main([f"../../../{elsewhere.name}/cells/{name}"]) == 0
    assert read_row(Path.cwd()) is not None


def test_a_refusal_of_the_command_is_one_line_and_status_2(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "ganzoo.worker", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    assert made.stderr == f"ganzoo: {tmp_path} is not a cell of a run: RUN/cells/CELL, with RUN/plan.toml\n"
    assert not list(tmp_path.iterdir())
