"""The seam: verdicts, retries counted exactly, fences, hangs; engines that lose workers; warm workers."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import attempts, faulty_plugin, forget, laid_out, running, tell, train, victims, way, within

from ganzoo import seam
from ganzoo.bench import Log
from ganzoo.cell_folder import LostFence, Watch, fences, raise_fence
from ganzoo.config import Plan
from ganzoo.engines import Guard, Started, local_engine, started, usable_cores
from ganzoo.errors import UserError
from ganzoo.placing import WORKER, Engine, Placed
from ganzoo.processes import STARTER
from ganzoo.seam import Cells, Policy, Task, see_through
from ganzoo.worker import AGAIN, DISK

PATIENT = Policy(retries=2, lost_seconds=60.0, hang_seconds=900.0)
SOON = PATIENT._replace(lost_seconds=0.7)
"""Of workers that are to fall silent once they were heard: on a busy machine others seem to hang, too."""

# What a worker does to its directory, as a shell script: $1 its attempt, $2 the directory.
DONE = "echo done > $2/verdict-$1"
BEATS = 'i=0; while :; do i=$((i+1)); echo "$1 $i 0 5000000" > $2/beat; sleep 0.1; done'
SILENT = 'echo "$1 1 0 5000000" > $2/beat; sleep 1000'
SAVES = BEATS.replace("sleep 0.1", 'sleep 0.1; [ "$(cat $2/stop 2>/dev/null)" = $1 ] && touch $2/saved && exit 75')


class Shell:
    """An engine whose workers are shell scripts, each directory's in turn, the last one again and again."""

    def __init__(self, folder: Path, scripts: dict[str, list[str]], slots: int = 2) -> None:
        self.folder, self.scripts = folder, scripts
        self.placed: list[tuple[str, ...]] = []
        self.processes: list[Started] = []
        self.most = 0
        self.verdicts: dict[str, list[str]] = {}
        self.reasons: dict[str, str] = {}
        self.events: list[tuple[str, str]] = []
        self.engine = Engine(self.place, slots)
        self.directories = {name: folder / name for name in scripts}
        for directory in self.directories.values():
            directory.mkdir()

    def place(self, command: list[str]) -> Placed:
        assert command[: len(WORKER)] == WORKER
        options = command[len(WORKER) :]
        assert options[:3:2] == ["--fence", "--log"]
        fence, names = int(options[1]), tuple(Path(path).name for path in options[3:])
        self.placed.append(names)
        script = self.script(fence, names)
        process = started(["sh", "-c", script, "sh", str(fence), *options[3:]])
        self.processes.append(process)
        self.most = max(self.most, sum(one.poll() is None for one in self.processes))
        return process

    def script(self, fence: int, names: tuple[str, ...]) -> str:
        """The first one's; of a party the first directory decides."""
        scripts = self.scripts[names[0]]
        return scripts[min(fence, len(scripts)) - 1]

    def cells(self) -> Cells:
        def verdict(directory: Path, attempt: int) -> str | None:
            path = directory / f"verdict-{attempt}"
            return path.read_text().strip() if path.exists() else None

        def fail(directory: Path, attempt: int, verdict: str, reason: str) -> None:
            self.verdicts.setdefault(directory.name, []).append(verdict)
            self.reasons[directory.name] = reason

        def tell(event: str, directory: Path) -> None:
            self.events.append((event, directory.name))
            if event == "row" and directory.name not in self.verdicts:
                self.verdicts[directory.name] = [verdict(directory, max(fences(directory))) or "none"]

        return Cells(verdict, fail, lambda *_, **__: None, tell)

    def through(self, policy: Policy = PATIENT, parties: list[tuple[str, ...]] | None = None) -> None:
        together = parties or [(name,) for name in self.scripts]
        tasks = [Task(tuple(self.directories[name] for name in names)) for names in together]
        see_through(tasks, self.engine, policy, self.cells())
        assert not any(process.poll() is None for process in self.processes)


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize(
    ("script", "said"), [("exit 7", "exit status 7"), ("kill -SEGV $$", "killed by signal 11"), ("exit 0", "status 0")]
)
def test_a_worker_that_never_leaves_a_verdict_is_placed_once_and_as_often_again_as_asked(
    retries: int, script: str, said: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, {"a": [script], "b": [DONE]})
    shell.through(PATIENT._replace(retries=retries))
    assert shell.placed.count(("a",)) == 1 + retries
    assert shell.placed.count(("b",)) == 1
    assert shell.verdicts == {"a": ["failed:crash"], "b": ["done"]}
    assert said in shell.reasons["a"]
    assert f"attempt-{1 + retries}.log" in shell.reasons["a"]


def test_a_worker_that_succeeds_at_its_last_attempt_has_that_verdict(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": ["exit 1", "kill -9 $$", DONE, "exit 9"]})
    shell.through()
    assert shell.verdicts == {"a": ["done"]}
    assert fences(shell.directories["a"])[-1] == 3


def test_there_are_never_more_at_work_than_slots(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {name: [f"sleep 0.05; {DONE}"] for name in "abcdef"}, slots=2)
    shell.through()
    assert shell.most == 2
    assert set(map(tuple, shell.verdicts.values())) == {("done",)}


def test_a_worker_that_beats_but_does_no_work_hangs(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [BEATS], "b": [DONE]})
    shell.through(PATIENT._replace(retries=1, hang_seconds=3.0))  # within which the other one begins
    assert shell.verdicts == {"a": ["failed:hang"], "b": ["done"]}
    assert shell.placed.count(("a",)) == 2


def test_a_worker_that_falls_silent_within_reach_hangs(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [SILENT]})
    shell.through(SOON._replace(retries=1))
    assert shell.verdicts == {"a": ["failed:hang"]}
    assert shell.placed.count(("a",)) == 2


def test_a_worker_that_never_beats_is_given_the_time_that_work_may_hang(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [f"sleep 2; {DONE}"]})
    shell.through(SOON._replace(lost_seconds=0.5))
    assert shell.placed == [("a",)]


def test_what_a_killed_worker_started_is_ended_with_it(tmp_path: Path) -> None:
    child = f"sleep 1000 & echo $! > $2/child; {SILENT}"
    shell = Shell(tmp_path, {"a": [child]})
    shell.through(SOON._replace(retries=0))
    assert within(2, lambda: not running(int((shell.directories["a"] / "child").read_text())))


def test_what_a_crashed_worker_started_is_ended_too(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": ["sleep 1000 & echo $! > $2/child; exit 3"]})
    shell.through(PATIENT._replace(retries=0))
    assert within(2, lambda: not running(int((shell.directories["a"] / "child").read_text())))


def test_of_a_disk_that_is_gone_no_figure_is_told_and_of_one_that_is_full_what_is_free(tmp_path: Path) -> None:
    attempt: Any = SimpleNamespace(watch=SimpleNamespace(peak_bytes=0))
    told = {there: seam._failed(tmp_path / there, "crash", DISK, attempt, 1) for there in ("", "gone")}
    assert re.fullmatch(r"\S+: the disk is too full for a verdict, [\d,]+ bytes are free", told[""][1])
    assert told["gone"] == ("failed:disk", f"{tmp_path / 'gone'}: the disk is too full for a verdict")


class OutOfReach:
    """A worker behind a cut cable: nothing is heard of it, and it cannot be ended."""

    def __init__(self, process: Started) -> None:
        self.process = process

    def poll(self) -> int | None:
        return None

    def kill(self) -> None: ...


@pytest.mark.parametrize("retries", [0, 2])
def test_a_worker_out_of_reach_is_replaced_under_a_higher_fence_and_at_last_lost(retries: int, tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [SILENT], "b": [DONE]})
    kept: list[Started] = []

    def place(command: list[str]) -> Placed:
        process = shell.place(command)
        assert isinstance(process, Started)
        if shell.placed[-1] == ("b",):
            return process
        kept.append(process)
        return OutOfReach(process)

    began = time.monotonic()
    try:
        tasks = [Task((path,)) for path in shell.directories.values()]
        see_through(tasks, Engine(place, 2), SOON._replace(retries=retries), shell.cells())
    finally:
        for process in kept:
            process.kill()
    assert shell.verdicts == {"a": ["lost"], "b": ["done"]}
    assert [names for names in shell.placed if names == ("a",)] == [("a",)] * (1 + retries)
    assert fences(shell.directories["a"])[-1] == 1 + retries
    assert time.monotonic() - began < (1 + retries) * (SOON.lost_seconds + 5)


def test_a_party_that_crashes_is_split_and_its_innocent_members_are_done(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": ["exit 1"], "b": [DONE], "c": [DONE]})
    shell.through(PATIENT._replace(retries=1), parties=[("a", "b", "c")])
    assert shell.placed[0] == ("a", "b", "c")
    assert sorted(shell.placed[1:]) == [("a",), ("b",), ("c",)]
    assert shell.verdicts == {"a": ["failed:crash"], "b": ["done"], "c": ["done"]}


def test_whoever_crashed_in_company_is_tried_alone_even_without_retries(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": ["exit 1"], "b": [DONE]})
    shell.through(PATIENT._replace(retries=0), parties=[("a", "b")])
    assert shell.verdicts == {"a": ["failed:crash"], "b": ["done"]}
    assert shell.placed.count(("a",)) == 1


def test_of_a_party_only_those_without_a_verdict_are_placed_again(tmp_path: Path) -> None:
    first = "echo done > $2/verdict-$1; echo diverged@3 > $3/verdict-$1; exit 1"
    shell = Shell(tmp_path, {"a": [first], "b": [DONE], "c": [DONE]})
    shell.through(parties=[("a", "b", "c")])
    assert shell.placed == [("a", "b", "c"), ("c",)]
    assert shell.verdicts == {"a": ["done"], "b": ["diverged@3"], "c": ["done"]}


def test_a_cell_without_memory_is_tried_once_more_with_nothing_beside_it(tmp_path: Path) -> None:
    starved = "echo failed:oom > $2/verdict-$1"
    shell = Shell(tmp_path, {"a": [starved], **{name: [f"sleep 0.3; {DONE}"] for name in "bcd"}}, slots=2)
    beside: list[int] = []
    place = shell.place

    def watched(command: list[str]) -> Placed:
        process = place(command)
        if shell.placed[-1] == ("a",):
            beside.append(sum(one.poll() is None for one in shell.processes[:-1]))
        return process

    shell.engine = Engine(watched, 2)
    shell.through()
    assert shell.placed.count(("a",)) == 2
    assert beside[-1] == 0
    assert shell.verdicts == {"a": ["failed:oom"], "b": ["done"], "c": ["done"], "d": ["done"]}


def test_a_cell_that_crashed_before_it_was_out_of_memory_is_still_tried_alone(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": ["exit 1", "echo failed:oom > $2/verdict-$1", DONE]})
    shell.through(PATIENT._replace(retries=1))
    assert shell.verdicts == {"a": ["done"]}


@pytest.mark.parametrize(("script", "verdict"), [("echo failed:error > $2/verdict-$1", "failed:error"), (DONE, "done")])
def test_a_verdict_that_the_worker_left_is_never_tried_again(script: str, verdict: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [f"{script}; exit 1"]})
    shell.through()
    assert shell.placed == [("a",)]
    assert shell.verdicts == {"a": [verdict]}


def test_a_full_disk_is_not_tried_again(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [f"exit {DISK}"]})
    shell.through()
    assert shell.placed == [("a",)]
    assert shell.verdicts == {"a": ["failed:disk"]}


def test_a_cell_that_another_attempt_took_over_is_left_to_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [f"touch $2/fence-7; exit {AGAIN}"], "b": [DONE]})
    shell.through()
    assert shell.placed.count(("a",)) == 1
    assert shell.verdicts == {"b": ["done"]}


def test_an_older_fence_is_never_reused(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [DONE] * 9})
    raise_fence(shell.directories["a"], 8)
    shell.through()
    assert fences(shell.directories["a"])[-1] == 9
    with pytest.raises(LostFence):
        raise_fence(shell.directories["a"], 9)


def test_whatever_is_raised_has_every_worker_save_first(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"a": [SAVES], "b": [SAVES], "c": [DONE]})

    class Enough(BaseException): ...

    cells = shell.cells()
    began = time.monotonic()

    def tell(event: str, directory: Path) -> None:
        if event == "look" and (directory / "beat").exists():
            raise Enough

    with pytest.raises(Enough):
        see_through(
            [Task((path,)) for path in shell.directories.values()],
            shell.engine,
            PATIENT._replace(lost_seconds=900.0),
            cells._replace(tell=tell),
        )
    assert time.monotonic() - began < 8
    assert (shell.directories["a"] / "saved").exists()
    assert (shell.directories["b"] / "saved").exists()
    assert ("c",) not in shell.placed


def test_whoever_does_not_end_when_asked_to_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.seam.GRACE", 0.5)
    shell = Shell(tmp_path, {"a": [BEATS]})
    task, patient = Task((shell.directories["a"],)), PATIENT

    def tell(event: str, directory: Path) -> None:
        if event == "look":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        see_through([task], shell.engine, patient, shell.cells()._replace(tell=tell))
    assert shell.processes[0].poll() == -9


# The guard


def test_the_guard_kills_the_groups_of_an_owner_that_is_gone_and_only_those(tmp_path: Path) -> None:
    groups = [started(["sh", "-c", "sleep 1000 & sleep 1000"]) for _ in range(3)]
    script = (
        "import os, sys; from ganzoo.engines import Guard; g = Guard();"
        f"g.tell({groups[0].pid}); g.tell({groups[1].pid}); g.tell(-{groups[1].pid});"
        "print('ready', flush=True); os.kill(os.getpid(), 9)"
    )
    try:
        subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.DEVNULL)
        assert within(5, lambda: groups[0].poll() is not None)
        assert groups[0].poll() == -9
        assert [group.poll() for group in groups[1:]] == [None, None]
    finally:
        for group in groups:
            group.kill()


def test_the_guard_is_not_confused_by_half_a_line() -> None:
    guard, group = Guard(), started(["sleep", "1000"])
    guard.tell(group.pid)
    assert guard._process.stdin is not None
    guard._process.stdin.write(b"+12\n-")
    guard.close()
    assert within(5, lambda: group.poll() == -9)


# This machine's engine


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_plugin(tmp_path_factory.mktemp("faulty"))


def test_warm_workers_are_reused_and_never_after_a_failure(
    plugin: Path, tiny: Callable[..., Plan], tmp_path: Path
) -> None:
    # Of one kind but with different plugins' ways, one process each, in a fixed order.
    ways = ["fails", "exit", "calm", "sleep"]
    plan = tiny(objectives=[way(name) for name in ways], plugins=[str(plugin)], epochs=6)
    run = laid_out(tmp_path / "run", plan)
    forget(plugin)
    tell(plugin, "fails")
    tell(plugin, "exit", 1)
    local = local_engine(1, 0.0, 1)
    pids: list[int] = []

    def place(command: list[str]) -> Placed:
        placed = local.place(command)
        pids.append(placed._warm._process.pid)  # type: ignore[attr-defined]
        return placed

    with run.held(), Log(run.folder / "log.jsonl") as log:
        cells = run._seen(lambda event: None, log)
        tasks = [Task((run.directory(cell),)) for cell in run.cells]
        see_through(tasks, Engine(place, 1, local.close), Policy(), cells)
        local.close()
    fails, exits, none, sleep, again = pids
    assert fails != exits  # what a plugin that failed has left behind is nobody's to inherit
    assert exits != none
    assert none == sleep == again
    assert within(5, lambda: not any(map(running, pids)))
    verdicts = {row["cost_hyperparameters"]["way"]: row["verdict"] for row in run.rows()}
    assert verdicts == {"fails": "failed:error", "exit": "done", "calm": "done", "sleep": "done"}
    assert sum(attempts(run).values()) == 5


def test_an_idle_worker_that_died_is_not_given_work(plugin: Path, tiny: Callable[..., Plan], tmp_path: Path) -> None:
    run = laid_out(tmp_path / "run", tiny(objectives=["dcgan"]))
    local = local_engine(1, 0.0, 1)
    warm: list[Any] = []

    def place(command: list[str]) -> Placed:
        if warm:
            os.kill(warm[-1]._process.pid, 9)
            assert within(5, lambda: not warm[-1].alive)
        placed = local.place(command)
        warm.append(placed._warm)  # type: ignore[attr-defined]
        return placed

    rows = train(run, 1, Policy(retries=0), Engine(place, 1, local.close))
    assert rows["dcgan"]["verdict"] == "done"
    assert len(set(map(id, warm))) == 2  # the baselines', the cell's


def test_a_crash_takes_what_the_plugin_started_with_it(plugin: Path, tiny: Callable[..., Plan], tmp_path: Path) -> None:
    forget(plugin)
    run = laid_out(tmp_path / "run", tiny(objectives=[way("crash_with_child")], plugins=[str(plugin)], epochs=6))
    tell(plugin, "crash_with_child")
    rows = train(run, 2, Policy(retries=0))
    assert rows[way("crash_with_child")]["verdict"] == "failed:crash"
    assert len(victims(plugin)) == 2  # the worker and its child
    assert within(5, lambda: not any(map(running, victims(plugin))))


@pytest.mark.parametrize(("cores", "slots"), [(1, usable_cores()), (usable_cores(), 1), (10_000, 1)])
def test_there_are_as_many_slots_as_the_cores_allow(cores: int, slots: int) -> None:
    engine = local_engine(cores, 0.0)
    engine.close()
    assert engine.slots == slots


def test_a_share_of_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match=r"engine 'local' finds 0 GPUs, and a cell needs 0\.5"):
        local_engine(1, 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_server_whose_starter_is_gone_before_it_came_up_ends_at_once() -> None:
    program = "import ganzoo.leash; print('up')"
    for starter, said in ((str(os.getpid()), "up\n"), ("1", "")):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, STARTER: starter}, capture_output=True, text=True
        )
        assert (done.stdout, done.returncode) == (said, 0 if said else 1)


def test_a_beat_torn_by_the_death_of_its_machine_is_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("ganzoo.cell_folder.time", SimpleNamespace(monotonic=lambda: now))
    watch = Watch([tmp_path], 1, lost_seconds=0.3, hang_seconds=60.0)
    (tmp_path / "beat").write_text("1 7 3 1000")
    assert watch.look() is None
    (tmp_path / "beat").write_text("")
    now = 0.2
    assert watch.look() is None
    now = 0.4
    assert watch.look() == "lost"
