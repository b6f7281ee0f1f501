"""A cell over two processes, from the command down: one that loses a process is taken up by both, and ends in the bits
of one that lost none."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ganzoo.bench import Run, parties, prepare, small
from ganzoo.cell_folder import checkpoints, fences
from ganzoo.config import Plan, cells
from ganzoo.engines import gpu_shares
from ganzoo.zoo import Zoo

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")

SHARED: dict[str, Any] = {
    "objectives": ["gls-gan"],
    "processes": 2,
    "epochs": 20,
    "validate_every": 10,
    "checkpoint_seconds": 0.0,
}


def ranks(directory: Path) -> Iterator[tuple[int, int]]:
    """(rank, process) of those that train that cell."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            environment = dict(v.split(b"=", 1) for v in (process / "environ").read_bytes().split(b"\0") if b"=" in v)
        except OSError:
            continue  # it has just ended
        if str(directory).encode() in words and b"RANK" in environment:
            yield int(environment[b"RANK"]), int(process.name)


def trained(folder: Path, plan: Plan, zoo: Zoo, disturb: Callable[[Path, threading.Event], None] | None = None) -> Path:
    run = Run(folder, prepare(plan, zoo))
    directory = run.directory(run.cells[0])
    over = threading.Event()
    with run.held():
        other = threading.Thread(target=disturb, args=(directory, over)) if disturb is not None else None
        if other is not None:
            other.start()
        try:
            (row,) = run.train(1, lambda event: None)
        finally:
            over.set()
            if other is not None:
                other.join()
    assert row["verdict"] == "done", row
    return directory


@pytest.mark.slow
def test_a_cell_that_loses_a_process_restarts_whole_and_ends_in_the_same_bits(
    tiny: Callable[..., Plan], zoo: Zoo, tmp_path: Path
) -> None:
    plan = tiny(**SHARED)
    killed: list[int] = []

    def kill_the_second(directory: Path, over: threading.Event) -> None:
        while not over.wait(0.01) and not killed:
            if len(checkpoints(directory)) >= 2:
                for rank, process in ranks(directory):
                    if rank == 1 and not (directory / "row.json").exists():
                        with suppress(ProcessLookupError):  # it has just ended
                            os.kill(process, signal.SIGKILL)
                            killed.append(process)

    calm = trained(tmp_path / "calm", plan, zoo)
    for life in range(5):  # on a busy machine it may be done before we look
        stormy = trained(tmp_path / f"stormy {life}", plan, zoo, kill_the_second)
        if killed:
            break
    assert killed
    assert fences(stormy)[-1] == 2
    assert not list(ranks(stormy))
    assert (calm / "curve.jsonl").read_bytes() == (stormy / "curve.jsonl").read_bytes()
    assert checkpoints(calm)[0].read_bytes() == checkpoints(stormy)[0].read_bytes()
    assert (calm / "pictures.npz").read_bytes() == (stormy / "pictures.npz").read_bytes()


def test_a_cell_of_several_processes_is_a_party_of_its_own(tiny: Callable[..., Plan], zoo: Zoo) -> None:
    plan = tiny(objectives=["dcgan", "wgan"], seeds=3, processes=2)
    prepared = prepare(plan, zoo)
    assert not small(plan, prepared.data)
    assert [len(party) for party in parties(cells(plan, zoo), 2, small=small(plan, prepared.data))] == [1] * 6


def test_gpus_are_shared_out_in_parts_or_in_groups() -> None:
    assert gpu_shares(2, 0.5) == [(0,), (0,), (1,), (1,)]
    assert gpu_shares(3, 1.0) == [(0,), (1,), (2,)]
    assert gpu_shares(5, 2.0) == [(0, 1), (2, 3)]
    assert gpu_shares(1, 2.0) == []
    assert len(gpu_shares(1, 0.1)) == 10
