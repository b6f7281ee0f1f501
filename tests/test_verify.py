"""`ganzoo verify`: what is whole, what is not, what the same command would do; and nothing is changed by asking."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganzoo import cli
from ganzoo.bench import Run, prepare
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan
from ganzoo.durable import commit_json, commit_sealed, read_json
from ganzoo.errors import UserError
from ganzoo.verify import Found, verify
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Path:
    """A finished run of four cells to damage, in a folder with a name of its own."""
    return Path(shutil.copytree(finished.folder, tmp_path / "Läufe und mehr" / "ein Lauf"))


def first(run: Path) -> Path:
    """The folder of the first cell."""
    return min((run / "cells").iterdir())


def of(run: Path, directory: Path) -> Found:
    return next(found for found in verify(run).cells if found.cell == directory.name)


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_whole_and_there_is_nothing_to_do(run: Path) -> None:
    found = verify(run)
    assert found.is_whole
    assert len(found.cells) == 4
    for cell in found.cells:
        assert (cell.verdict, cell.resume, cell.damaged) == ("done", "nothing to do", {})
        assert {"row.json", "verdict.json", "manifest.json", "curve.jsonl", "pictures.npz", "cell.json"} < set(
            cell.whole
        )
        assert sum(name.startswith("checkpoint-") for name in cell.whole) >= 1
    assert found.text().splitlines()[-1] == f"4 cells, {sum(len(c.whole) for c in found.cells)} files whole, 0 damaged"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("row.json", "was altered"),
        ("verdict.json", "was altered"),
        ("manifest.json", "was altered"),
        ("fingerprint.json", "was altered"),
        ("curve.jsonl", "torn or altered after 1 lines; the same command goes on from there"),
        ("pictures.npz", "cannot be read"),
        ("timing.json", "its checksum is not that of the verdict"),
        ("cell.json", "describes"),
    ],
)
def test_a_flipped_bit_is_found_in_its_file_and_in_no_other(name: str, why: str, run: Path) -> None:
    flip(first(run) / name, -9 if name.endswith("n") else None)  # of one that is sealed, its checksum
    found = of(run, first(run))
    assert list(found.damaged) == [name]
    assert why in found.damaged[name]
    assert name not in found.whole
    assert not verify(run).is_whole
    assert [bool(cell.damaged) for cell in verify(run).cells] == [True, False, False, False]


@pytest.mark.parametrize("name", ["row.json", "curve.jsonl", "pictures.npz", "cell.json", "timing.json"])
def test_a_file_that_is_gone_is_missed_or_would_be_made_again(name: str, run: Path) -> None:
    (first(run) / name).unlink()
    found = of(run, first(run))
    if name == "row.json":
        assert found.verdict == "planned"
        assert found.resume == "it would be resumed at round 8"
    else:
        assert list(found.damaged) == [name]
        assert "not" in found.damaged[name]


def test_a_checkpoint_that_the_manifest_names_and_nobody_finds_is_missed(run: Path) -> None:
    gone = checkpoints(first(run))[0]
    gone.unlink()
    assert of(run, first(run)).damaged == {gone.name: "the manifest names it, and it is not there"}


@pytest.mark.parametrize("name", ["baselines.json", "images.json", "log.jsonl", "rows.jsonl", "run.json", "plan.toml"])
def test_a_file_of_the_run_itself_is_looked_at_too(name: str, run: Path) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2 + 1])
    found = verify(run)
    assert list(found.damaged) == [name]
    assert not any(cell.damaged for cell in found.cells)
    assert not found.is_whole
    assert f"BAD  {name}: {found.damaged[name]}" in found.text()


def test_a_plan_that_reads_well_and_is_another_is_found_by_its_cells(run: Path) -> None:
    path = run / "plan.toml"
    path.write_text(path.read_text().replace("z_dim = 3", "z_dim = 2"))
    assert "it is not the plan that " in verify(run).damaged["plan.toml"]


@pytest.mark.parametrize("content", ["[1]", '{"cell": 3}', "3", '{"label": "x"}', "\xff", '{"cell": ["a"]}'])
def test_rows_that_are_none_are_damage_and_no_traceback(content: str, run: Path) -> None:
    (run / "rows.jsonl").write_bytes(content.encode("latin-1") + b"\n")
    assert list(verify(run).damaged) == ["rows.jsonl"]


def test_a_row_that_the_index_lacks_is_told(run: Path) -> None:
    lines = (run / "rows.jsonl").read_text().splitlines(keepends=True)
    (run / "rows.jsonl").write_text("".join(lines[:-1]))
    assert verify(run).damaged["rows.jsonl"].endswith("; the same command writes it again")


# What a resume would do


def no_result(directory: Path) -> None:
    for name in ("row.json", "verdict.json", "pictures.npz"):
        (directory / name).unlink()


def test_it_tells_from_where_a_cell_would_go_on(run: Path) -> None:
    directory = first(run)
    no_result(directory)
    (directory / "beat").unlink()
    assert of(run, directory).resume == "it would be resumed at round 8"
    newest = checkpoints(directory)[0]
    before = newest.with_name("checkpoint-00000004")
    if not before.exists():
        shutil.copy(newest, before)
    newest.write_bytes(b"")
    assert of(run, directory).resume.startswith("it would be resumed at round ")
    for path in checkpoints(directory):
        path.write_bytes(b"")
    assert of(run, directory).resume == (
        "it would be refused until its checkpoints, none of which is whole, are deleted"
    )
    for path in [*checkpoints(directory), directory / "manifest.json"]:
        path.unlink()
    assert of(run, directory).resume == "it would be trained from the beginning"
    for path in directory.glob("fence-*"):
        path.unlink()
    assert of(run, directory).resume == "it would be trained"


def test_the_verdict_of_a_failed_cell_is_told_and_that_it_would_be_tried_again(run: Path) -> None:
    directory = first(run)
    row = {key: value for key, value in read_json(directory / "row.json").items() if key != "sha256"}
    commit_sealed(directory / "row.json", {**row, "verdict": "failed:disk"})
    found = of(run, directory)
    assert found.verdict == "failed:disk"
    assert found.resume == "it would be tried again: it would be resumed at round 8"


def test_a_result_whose_verdict_a_kill_prevented_would_be_measured_again(run: Path) -> None:
    (first(run) / "verdict.json").unlink()
    found = of(run, first(run))
    assert (found.verdict, found.resume, found.damaged) == ("done", "it would be measured again", {})


def test_a_worker_that_beats_or_died_beating_is_told_of(run: Path) -> None:
    (first(run) / "beat").write_text("3 17 40 123456")
    assert of(run, first(run)).resume == "attempt 3 is at work or died at work; nothing to do"
    (first(run) / "beat").write_text("3 -1 40 123456")
    assert of(run, first(run)).resume == "nothing to do"
    (first(run) / "beat").write_text("3 17")  # it is being written
    assert of(run, first(run)).resume == "nothing to do"


def test_what_it_says_of_a_resume_is_what_the_same_command_does(run: Path, finished: Run, zoo: Zoo) -> None:
    directory = first(run)
    no_result(directory)
    again = Run(run, prepare(finished.plan, zoo))
    with again.held():
        again.train(1, lambda event: None)
    assert verify(run).is_whole
    assert of(run, directory).resume == "nothing to do"


# Which folders


@pytest.mark.parametrize(
    ("format_", "match"),
    [
        (None, r"was made by an older ganzoo \(format 1; this one has 2\); take --out"),
        (1, r"was made by an older ganzoo \(format 1; this one has 2\); take --out"),
        (3, r"was made by a newer ganzoo \(format 3; this one has 2\); update ganzoo, or take --out"),
    ],
)
def test_a_run_of_another_version_is_refused_by_name(
    format_: int | None, match: str, run: Path, finished: Run, zoo: Zoo
) -> None:
    said: dict[str, Any] = {key: value for key, value in read_json(run / "run.json").items() if key != "sha256"}
    del said["format"]
    commit_json(run / "run.json", said if format_ is None else {**said, "format": format_})
    with pytest.raises(UserError, match=match):
        verify(run)
    before = everything(run)
    with pytest.raises(UserError, match=match), Run(run, prepare(finished.plan, zoo)).held():
        pass
    del before[run / "run.lock"]
    assert {path: was for path, was in everything(run).items() if path in before} == before


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run's folder: it has no plan.toml"):
        verify(tmp_path)
    with pytest.raises(UserError, match=r"absent is not a run's folder"):
        verify(tmp_path / "absent")


def test_a_run_that_has_only_been_laid_out_is_whole_and_planned(tiny: MakePlan, zoo: Zoo, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", prepare(tiny(objectives=["dcgan"]), zoo))
    with run.held():
        pass
    (cell,) = verify(run.folder).cells
    assert (cell.verdict, cell.resume, cell.damaged) == ("planned", "it would be trained", {})


# The command


def verified(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["ganzoo", "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_ends_with_1_for_damage_with_0_for_none_and_changes_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    assert verified([str(run)], monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"ok   {first(run).name}: done; nothing to do"
    assert everything(run) == before
    for path in (first(run) / "row.json", checkpoints(first(run))[0], first(run) / "curve.jsonl", run / "log.jsonl"):
        path.write_bytes(path.read_bytes()[:-7])
    (first(run) / ".row.json.0123abcd.tmp").write_bytes(b"half")
    before = everything(run)
    assert verified([str(run)], monkeypatch) == 1
    said = capsys.readouterr().out
    assert f"BAD  {first(run).name}: planned; " in said
    assert "BAD  log.jsonl: torn or altered after " in said
    assert said.splitlines()[-1].endswith(", 4 damaged")
    assert everything(run) == before


def test_the_command_prints_json_and_a_slip_as_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(first(run) / "row.json")
    assert verified([str(run), "--json"], monkeypatch) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] is False
    assert list(found["cells"][0]["damaged"]) == ["row.json"]
    assert verified([str(tmp_path)], monkeypatch) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_damage(run: Path) -> None:
    (first(run) / "row.json").chmod(0)
    assert "Permission denied" in of(run, first(run)).damaged["row.json"]
