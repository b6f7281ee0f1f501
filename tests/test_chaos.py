"""What the storm compares, whom it finds and what it deals; that it sees code which a kill can harm."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chaos
from chaos import Storm, differences, killed, marked, until_gone
from ganzoo.bench import Run
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan
from ganzoo.durable import load_checkpoint
from ganzoo.errors import UserError

MakePlan = Callable[..., Plan]

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def cell(run: Path) -> Path:
    return min((run / "cells").iterdir())


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]


def write_rows(run: Path, rows: list[dict[str, Any]]) -> None:
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


# What is compared


def test_a_copy_of_the_calm_run_does_not_differ_nor_does_other_provenance(run: Path, finished: Run) -> None:
    assert differences(run, finished.folder) == []
    write_rows(run, [{**row, "provenance": {"attempt": 9}} for row in rows(run)])
    assert differences(run, finished.folder) == []


def lose_a_row(run: Path) -> None:
    write_rows(run, rows(run)[1:])


def write_a_row_twice(run: Path) -> None:
    write_rows(run, [*rows(run), rows(run)[0]])


def add_a_row(run: Path) -> None:
    write_rows(run, [*rows(run), {**rows(run)[0], "cell": "0" * 64}])


def alter_a_row(run: Path) -> None:
    write_rows(run, [{**rows(run)[0], "test_mre": 0.5}, *rows(run)[1:]])


def fail_a_row(run: Path) -> None:
    write_rows(run, [{**rows(run)[0], "verdict": "failed:crash"}, *rows(run)[1:]])


def lose_a_verdict(run: Path) -> None:
    (cell(run) / "verdict.json").unlink()


def lose_a_cell(run: Path) -> None:
    shutil.rmtree(cell(run))


def tear_a_cells_row(run: Path) -> None:
    content = (cell(run) / "row.json").read_bytes()
    (cell(run) / "row.json").write_bytes(content[: len(content) // 2])


def repeat_a_line_of_a_curve(run: Path) -> None:
    lines = (cell(run) / "curve.jsonl").read_bytes().splitlines(keepends=True)
    (cell(run) / "curve.jsonl").write_bytes(b"".join([*lines, lines[-1]]))


def lose_a_line_of_a_curve(run: Path) -> None:
    lines = (cell(run) / "curve.jsonl").read_bytes().splitlines(keepends=True)
    (cell(run) / "curve.jsonl").write_bytes(b"".join(lines[:-1]))


def flip_a_bit_of_the_last_checkpoint(run: Path) -> None:
    last = checkpoints(cell(run))[0]
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)


def lose_the_last_checkpoint(run: Path) -> None:
    checkpoints(cell(run))[0].unlink()


def leave_a_checkpoint_behind(run: Path) -> None:
    for round in range(3):
        shutil.copy(checkpoints(cell(run))[0], cell(run) / f"checkpoint-{round:08d}")


def alter_the_baselines(run: Path) -> None:
    (run / "baselines.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (lose_a_row, "lost"),
        (lose_a_verdict, "lost"),
        (lose_a_cell, "lost"),
        (write_a_row_twice, "wrong"),
        (add_a_row, "wrong"),
        (alter_a_row, "wrong"),
        (fail_a_row, "wrong"),
        (tear_a_cells_row, "wrong"),
        (repeat_a_line_of_a_curve, "wrong"),
        (lose_a_line_of_a_curve, "wrong"),
        (flip_a_bit_of_the_last_checkpoint, "wrong"),
        (lose_the_last_checkpoint, "wrong"),
        (leave_a_checkpoint_behind, "wrong"),
        (alter_the_baselines, "wrong"),
    ],
)
def test_harm_is_seen(harm: Callable[[Path], None], kind: str, run: Path, finished: Run) -> None:
    harm(run)
    assert kind in {found.kind for found in differences(run, finished.folder)}


# Who runs


@pytest.fixture
def lingering() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that carries a mark and does not end."""
    code = "import time; print('here', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "CHAOS": "of-a-test"}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_an_orphan_is_counted_and_then_ended(lingering: "subprocess.Popen[bytes]") -> None:
    os.kill(lingering.pid, signal.SIGSTOP)
    seconds, left = until_gone("CHAOS", "of-a-test", within=0.1)
    assert [one.pid for one in left] == [lingering.pid]
    assert left[0].parent == os.getpid()
    assert seconds >= 0.1
    assert lingering.wait(10) == -signal.SIGKILL
    assert marked("CHAOS", "of-a-test") == []


def test_who_has_no_mark_another_or_has_ended_is_no_orphan(lingering: "subprocess.Popen[bytes]") -> None:
    assert marked("CHAOS", "of-another-test") == []
    assert marked("CHAOS", "of-a-tes") == []
    assert marked("CHAOS_RIVAL", "of-a-test") == []
    os.kill(lingering.pid, signal.SIGKILL)
    os.waitid(os.P_PID, lingering.pid, os.WEXITED | os.WNOWAIT)
    assert marked("CHAOS", "of-a-test") == []  # a zombie: nobody has taken its status


# What is dealt


@pytest.fixture
def storm(run: Path, finished: Run) -> Storm:
    made = Storm(run.parent, finished.plan, seed=0, minutes=0, cores=1)
    made.folder = run
    return made


def test_a_torn_file_is_shorter_and_a_flipped_one_differs_in_one_bit(storm: Storm, run: Path, finished: Run) -> None:
    for how in ("torn", "flipped") * 20:
        storm.torn.clear()
        if storm.tear(how) is None:
            continue
        ((path, (_, said)),) = storm.torn.items()
        before = (finished.folder / path.relative_to(run)).read_bytes()
        after = path.read_bytes()
        assert said == how
        if how == "torn":
            assert before.startswith(after)
            assert len(after) < len(before)
        else:
            assert len(after) == len(before)
            assert sum((a ^ b).bit_count() for a, b in zip(after, before, strict=True)) == 1
        path.write_bytes(before)


def test_the_only_whole_checkpoint_is_left_alone(storm: Storm, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "TORN", ("checkpoint-*",))
    for _ in range(50):
        storm.tear("flipped")
        storm.tear("torn")
    assert storm.torn
    for directory in (run / "cells").iterdir():
        assert any(is_whole(path) for path in checkpoints(directory))


def is_whole(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except UserError:
        return False
    return True


def test_a_small_disk_is_filled_but_no_other(storm: Storm, run: Path) -> None:
    assert storm.fill() is None
    assert storm.full_until is None
    with storm._small_disk() as small:
        if small is None:
            pytest.skip("no tmpfs can be mounted here: root only")
        storm.folder = small / "run"
        storm.folder.mkdir()
        assert storm.fill() is not None
        assert shutil.disk_usage(small).free <= 200_000
        storm._clear_disk()
        assert shutil.disk_usage(small).free > 20_000_000


def test_every_fault_has_a_weight_and_none_is_dealt_where_nobody_is(tmp_path: Path, finished: Run) -> None:
    storm = Storm(tmp_path, finished.plan, seed=0, minutes=0, cores=1)
    storm.folder = tmp_path / "not yet"
    storm.mark = storm.id
    for fault in chaos.FAULTS.values():
        assert fault.weight > 0
        assert fault.deal(storm) is None


# The whole of it


@pytest.mark.slow
def test_a_short_storm_harms_nothing(tiny: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "EVERY", 1.0)
    plan = tiny(objectives=["dcgan", "gls-gan"], seeds=2, epochs=60, validate_every=10, checkpoint_seconds=0.2)
    found = Storm(tmp_path, plan, seed=3, minutes=0.2, cores=2).rage()
    assert found["what is wrong"] == []
    assert found["orphans"] == found["rows lost"] == found["wrong"] == 0
    assert found["cells"] == 4 * found["comparisons"] > 0
    assert found["faults"] > 0
    log = [json.loads(line) for line in (tmp_path / "storm.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "dealt" for line in log) == found["faults"]
    assert str(tmp_path) not in (tmp_path / "storm.jsonl").read_text()


@pytest.mark.slow
def test_a_cell_that_is_killed_ends_in_the_same_bits(tiny: MakePlan, tmp_path: Path) -> None:
    plan = tiny(objectives=["dcgan"], epochs=10, validate_every=5)
    found = killed(4, 0, tmp_path, plan)
    assert found["kills"] >= 4
    assert found["identical"] == found["ends"] > 0


HARMED_BY_KILLS = """
    import time

    rounds = 0

    @ganzoo.objective
    def forgetful() -> ganzoo.Objective:
        def critic_loss(critic, real, fake):
            global rounds
            rounds += 1
            time.sleep(0.03)  # most of an attempt is play, which a kill interrupts
            return (1 + rounds / 100) * (critic(real) - critic(fake)).mean()

        return ganzoo.Objective(critic_loss)
"""
"""A plugin whose game depends on how long its process has played: a resumed one plays another."""


@pytest.mark.slow
def test_code_that_a_kill_harms_is_seen(tiny: MakePlan, plugin: Callable[..., Path], tmp_path: Path) -> None:
    path = plugin(HARMED_BY_KILLS)
    plan = tiny(objectives=["forgetful"], epochs=10, validate_every=5, plugins=[str(path)])
    # On a busy machine all kills may fall where nothing is saved yet, and harm nothing.
    for seed in range(5):
        out = tmp_path / str(seed)
        found = killed(6, seed, out, plan)
        if found["identical"] < found["ends"]:
            break
    assert found["what is wrong"][0]["differs in"]
    assert (out / f"life-{found['what is wrong'][0]['life']}").is_dir()
