"""Workers that find their own work in a run's folder: each cell is done once, whoever comes, goes or dies."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import directory_of, faulty_plugin, forget, laid_out, result, running, tell, train, victims, way, within

from ganzoo import processes
from ganzoo.bench import Run
from ganzoo.cell_folder import fences, raise_fence
from ganzoo.claim import claim
from ganzoo.config import Plan
from ganzoo.durable import commit_json, read_json
from ganzoo.errors import UserError
from ganzoo.lock import Busy
from ganzoo.result import read_row
from ganzoo.seam import Policy

WAYS = ("sleep", "exit", "fails")
Claimer = Callable[..., Any]
SOON = Policy(retries=1, lost_seconds=3.0, hang_seconds=900.0)
PATIENT = SOON._replace(lost_seconds=900.0)
"""Of one who is to take over nothing: on a busy machine another may seem to be lost."""


class Calm(NamedTuple):
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
    plan = tiny(objectives=list(map(way, WAYS)), epochs=6, checkpoint_seconds=0.0, plugins=[str(plugin)])
    fresh, finished = laid_out(folder / "fresh", plan), laid_out(folder / "finished", plan)
    train(finished, 2)
    with fresh.held():
        pass
    return Calm(plugin, plan, fresh.folder, finished)


@pytest.fixture
def claimer() -> Iterator[Claimer]:
    """claimer(folder) -> `ganzoo worker --claim` in a process of its own, from a server that has it imported."""
    begun = []

    def begin(folder: Path, policy: Policy = SOON) -> Any:
        process = processes.context().Process(target=_claim, args=(folder, policy), daemon=False)
        process.start()  # type: ignore[attr-defined]
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.join()


def _claim(folder: Path, policy: Policy) -> None:
    sys.exit(claim(folder, policy))


def placed(run: Run) -> dict[str, int]:
    return {path.name: max(fences(path), default=0) for path in (run.folder / "cells").iterdir()}


def test_one_who_claims_does_all_of_it_baselines_too(calm: Calm, tmp_path: Path) -> None:
    run, said = calm.copy(tmp_path), []
    assert claim(run.folder, SOON, said.append) == 0
    calm.same(run)
    assert (run.folder / "baselines.json").read_bytes() == (calm.finished.folder / "baselines.json").read_bytes()
    assert sorted(said) == ["baselines: done", *(f"{name}: done" for name in sorted(placed(run)))]
    assert set(placed(run).values()) == {1}
    assert claim(run.folder, SOON) == 0  # nothing is left to do
    assert set(placed(run).values()) == {1}


def test_of_two_who_claim_each_cell_is_done_by_one(calm: Calm, claimer: Claimer, tmp_path: Path) -> None:
    for life in range(5):  # on a busy machine one may have done everything before the other begins
        run = calm.copy(tmp_path / str(life))
        tell(calm.plugin, "drag")
        both = [claimer(run.folder, PATIENT) for _ in range(2)]
        for one in both:
            one.join(120)
        assert [one.exitcode for one in both] == [0, 0]
        calm.same(run)
        assert set(placed(run).values()) == {1}
        found = {read_json(path / "fence-1")["process"] for path in (run.folder / "cells").iterdir()}
        if len(found) == 2:
            break
    assert found == {one.pid for one in both}


def test_what_a_killed_claimer_left_is_taken_over_and_no_process_of_his_is_left(
    calm: Calm, claimer: Claimer, tmp_path: Path
) -> None:
    run = calm.copy(tmp_path)
    tell(calm.plugin, "sleep", 1)
    first = claimer(run.folder)
    assert within(60, lambda: victims(calm.plugin))
    second = claimer(run.folder)
    assert within(60, lambda: len([path for path in (run.folder / "cells").iterdir() if read_row(path)]) == 2)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert within(5, lambda: not any(map(running, victims(calm.plugin))))
    second.join(90)
    assert second.exitcode == 0
    calm.same(run)
    assert placed(run)[directory_of(run, way("sleep")).name] == 2


def test_a_cell_that_is_left_in_good_order_is_taken_up_at_once(calm: Calm, claimer: Claimer, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    tell(calm.plugin, "drag")
    first = claimer(run.folder, Policy(lost_seconds=900.0))
    assert within(60, lambda: any((path / "beat").exists() for path in (run.folder / "cells").iterdir()))
    os.kill(first.pid, signal.SIGTERM)
    first.join(30)
    forget(calm.plugin)
    second = claimer(run.folder, Policy(lost_seconds=900.0))
    second.join(60)
    assert second.exitcode == 0
    calm.same(run)


def test_who_fails_is_tried_so_often_by_one_claimer_and_told_of_in_the_status(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    tell(calm.plugin, "exit")
    tell(calm.plugin, "fails")
    assert claim(run.folder, SOON) == 1
    verdicts = {label: (read_row(directory_of(run, label)) or {})["verdict"] for label in map(way, WAYS)}
    assert verdicts == {way("sleep"): "done", way("exit"): "failed:crash", way("fails"): "failed:error"}
    attempts = {label: placed(run)[directory_of(run, label).name] for label in map(way, WAYS)}
    assert attempts == {way("sleep"): 1, way("exit"): 2, way("fails"): 1}
    forget(calm.plugin)
    assert claim(run.folder, SOON) == 0  # who comes later tries once more what failed before
    calm.same(run)


def test_a_claimer_beside_a_bench_gives_way(calm: Calm, claimer: Claimer, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    with run.held():
        process = claimer(run.folder)
        process.join(30)
        assert process.exitcode == 1  # an exception: the command makes 75 of it
        with pytest.raises(Busy, match=r"is in use by a `ganzoo bench`, which starts its own workers"):
            claim(run.folder, SOON)
    assert set(placed(run).values()) == {0}


def test_a_bench_beside_a_claimer_gives_way(calm: Calm, claimer: Claimer, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    tell(calm.plugin, "drag")
    process = claimer(run.folder)
    assert within(60, lambda: any(placed(run).values()))
    with pytest.raises(Busy, match=f"process {process.pid} on {os.uname().nodename}"), run.held():
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with run.held():
        pass


def test_a_beat_of_an_older_attempt_does_not_keep_a_cell(calm: Calm, tmp_path: Path) -> None:
    run = calm.copy(tmp_path)
    for path in (run.folder / "cells").iterdir():
        raise_fence(path, 3)  # somebody took it, and was never heard of
        (path / "beat").write_text("2 100 5 1000000")
    assert claim(run.folder, SOON) == 0
    calm.same(run)
    assert set(placed(run).values()) == {4}


@pytest.mark.parametrize("what", ["nothing", "file", "other version"])
def test_what_is_no_run_is_refused(what: str, calm: Calm, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if what == "other version":
        folder = calm.copy(tmp_path).folder
        commit_json(folder / "run.json", {"format": 99})
    elif what == "file":
        folder.write_text("")
    said = "made by a newer ganzoo" if what == "other version" else "is not a run's folder"
    with pytest.raises(UserError, match=said):
        claim(folder, SOON)
