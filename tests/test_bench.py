"""A run: nothing is trained twice, how it is worked off changes no bit, a bad cell harms no other."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganzoo import bench, party
from ganzoo.bench import Run, makespan, parties, prepare, require_fair, small
from ganzoo.cell_folder import fences
from ganzoo.config import Cell, Plan, cells
from ganzoo.errors import UserError
from ganzoo.measure import measure_checkpoint
from ganzoo.seam import Policy
from ganzoo.stacked import kind
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]


def work(folder: Path, plan: Plan, zoo: Zoo, jobs: int = 2) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One command: its rows and its events."""
    events: list[dict[str, Any]] = []
    run = Run(folder, prepare(plan, zoo))
    with run.held():
        return run.train(jobs, events.append), events


def apart_from_provenance(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "provenance"} for row in rows]


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def started(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((event["label"], event["seed"]) for event in events if event["event"] == "start")


def test_every_planned_cell_has_a_row_in_plan_order(finished: Run) -> None:
    rows = finished.rows()
    assert [(row["label"], row["seed"]) for row in rows] == [
        ("dcgan", 0),
        ("dcgan", 1),
        ("gls-gan", 0),
        ("gls-gan", 1),
    ]
    assert {row["verdict"] for row in rows} == {"done"}
    assert len((finished.folder / "rows.jsonl").read_text().splitlines()) == 4
    assert set(finished.baselines()) >= {"untrained generator"}
    assert not list(finished.folder.rglob("*.tmp"))


def test_a_row_carries_its_cause(finished: Run) -> None:
    for row in finished.rows():
        assert set(row["hashes"]) >= {"initial generator", "initial critic", "test images", "data order", "z"}
        assert row["provenance"]["versions"]["torch"]
        assert row["mre"].startswith("mre2-l1-")
        assert all(len(digest) == 64 for digest in [*row["hashes"].values(), *row["sources"].values(), row["cell"]])
        assert len(row["curve"]) == 3


def test_the_same_command_again_trains_nothing_and_writes_the_same_rows(
    copied: Path, finished: Run, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "see_through", lambda *_: pytest.fail("a process was started"))
    before = {path: path.stat().st_mtime_ns for path in (copied / "cells").rglob("*") if path.is_file()}
    _, events = work(copied, finished.plan, zoo)
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in (copied / "cells").rglob("*") if path.is_file()} == before
    assert (copied / "rows.jsonl").read_bytes() == (finished.folder / "rows.jsonl").read_bytes()


def test_one_at_a_time_gives_the_same_rows_as_two(finished: Run, zoo: Zoo, tmp_path: Path) -> None:
    work(tmp_path / "run", finished.plan, zoo, jobs=1)
    assert apart_from_provenance(tmp_path / "run") == apart_from_provenance(finished.folder)
    assert (tmp_path / "run" / "baselines.json").read_bytes() == (finished.folder / "baselines.json").read_bytes()


@pytest.mark.parametrize("jobs", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("seeds", [1, 3, 8, 64])
def test_small_cells_are_cut_into_alike_stacks_that_end_together(
    seeds: int, jobs: int, tiny: MakePlan, zoo: Zoo
) -> None:
    planned = cells(tiny(seeds=seeds), zoo)
    found = parties(planned, jobs, small=True)
    assert sorted(cell.sha256 for party in found for cell in party) == sorted(cell.sha256 for cell in planned)
    assert all(len({kind(cell) for cell in party}) == 1 for party in found)
    assert [len(party) for party in found] == sorted((len(party) for party in found), reverse=True)
    assert max(map(len, found)) <= bench.LARGEST_PARTY
    whole = [[cell for cell in planned if kind(cell) == name] for name in dict.fromkeys(map(kind, planned))]
    simple = [part for alike in whole for part in bench._cut(alike, max(jobs, -(-len(alike) // bench.LARGEST_PARTY)))]

    def until(cut: list[list[Cell]]) -> float:
        return makespan([bench.BESIDE + len(party) for party in cut], jobs)

    assert until(found) <= until(simple)


def test_large_cells_are_trained_one_by_one_and_those_of_a_gpu_some_at_a_time(tiny: MakePlan, zoo: Zoo) -> None:
    planned = cells(tiny(seeds=3), zoo)
    assert parties(planned, 4, small=False) == [[cell] for cell in planned]
    on_gpu = cells(tiny(seeds=3, device="cuda"), zoo)
    found = parties(on_gpu, 5, small=False)
    assert sorted(map(len, found)) == [4, 4, 5, 5]
    assert parties([], 3, small=True) == parties([], 3, small=False) == []


def test_only_small_images_in_fp32_on_a_processor_are_small(tiny: MakePlan, zoo: Zoo) -> None:
    plan, data = tiny(), prepare(tiny(), zoo).data
    assert small(plan, data)
    assert not small(tiny(precision="bf16"), data)
    assert not small(tiny(device="cuda", precision="fp32"), data)
    large = tiny(**{"data.size": 28})
    assert not small(large, prepare(large, zoo).data)


def test_more_objectives_and_seeds_reuse_what_is_finished(
    copied: Path, finished: Run, tiny: MakePlan, zoo: Zoo
) -> None:
    plan = tiny(objectives=["gls-gan", "dcgan", "wgan"], seeds=3)
    rows, events = work(copied, plan, zoo)
    assert started(events) == [("dcgan", 2), ("gls-gan", 2), ("wgan", 0), ("wgan", 1), ("wgan", 2)]
    assert [(row["label"], row["seed"]) for row in rows] == [
        (label, seed) for label in ("gls-gan", "dcgan", "wgan") for seed in range(3)
    ]
    old = {row["cell"]: row for row in apart_from_provenance(finished.folder)}
    new = {row["cell"]: row for row in apart_from_provenance(copied)}
    assert {key: new[key] for key in old} == old


def test_the_cells_of_one_seed_share_all_but_the_objective(finished: Run) -> None:
    rows = finished.rows()
    for seed in (0, 1):
        one, two = [row["hashes"] for row in rows if row["seed"] == seed]
        assert one == two
    assert rows[0]["hashes"]["z"] != rows[1]["hashes"]["z"]
    assert rows[0]["hashes"]["data order"] != rows[1]["hashes"]["data order"]
    assert rows[0]["hashes"]["initial generator"] != rows[1]["hashes"]["initial generator"]
    assert rows[0]["hashes"]["test images"] == rows[1]["hashes"]["test images"]


@pytest.mark.parametrize("name", ["initial generator", "initial critic", "training images", "data order", "z"])
def test_a_comparison_whose_cells_differ_in_more_than_the_objective_is_unfair(finished: Run, name: str) -> None:
    rows = json.loads(json.dumps(finished.rows()))
    require_fair(rows)
    rows[3]["hashes"][name] = "0" * 64
    with pytest.raises(UserError, match=f"unfair: {name} of gls-gan and dcgan differ at seed 1"):
        require_fair(rows)
    # A conditional game has other networks: only its weights may differ.
    rows[3]["conditional"] = True
    if name.startswith("initial"):
        require_fair(rows)
    else:
        with pytest.raises(UserError, match="unfair"):
            require_fair(rows)


# Who else is there


def test_seeds_of_another_machine_or_precision_are_unfair(finished: Run) -> None:
    rows = finished.rows()
    other = [{**row, "fingerprint": {**row["fingerprint"], "precision": "bf16"}} for row in rows if row["seed"] == 1]
    with pytest.raises(UserError, match=r"unfair: fingerprint of .* differ at seed 1"):
        require_fair([*(row for row in rows if row["seed"] == 0), *other])


def test_a_folder_in_use_names_the_process(copied: Path, finished: Run, zoo: Zoo) -> None:
    with (copied / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 4711 on elsewhere")
        lock.flush()
        with pytest.raises(UserError, match=r"is in use by another process \(process 4711 on elsewhere\); wait"):
            work(copied, finished.plan, zoo)
    work(copied, finished.plan, zoo)  # a lock that nobody holds any more is none
    assert f"process {os.getpid()} " in (copied / "run.lock").read_text()


@pytest.mark.parametrize(
    ("changes", "differing"), [({"epochs": 3}, "epochs"), ({"z_dim": 4, "cost": "elu"}, "cost, z_dim")]
)
def test_the_folder_of_another_plan_is_left_as_it_is(
    copied: Path, tiny: MakePlan, zoo: Zoo, changes: dict[str, Any], differing: str
) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != "run.lock"}
    with pytest.raises(UserError, match=rf"holds a run of another plan \({differing} differ\); take --out"):
        work(copied, tiny(objectives=["dcgan"], **changes), zoo)
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file() and p.name != "run.lock"} == before


def test_a_file_is_no_run_folder(finished: Run, zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"cannot use .*run as a run folder"):
        work(tmp_path / "run", finished.plan, zoo)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"device": "gpu"}, "no device named 'gpu'"),
        ({"device": ""}, "no device named ''"),
        ({"data.set": "digit"}, "no image set named 'digit'; did you mean 'digits'"),
        ({"batch_size": 65}, "batch_size 65: expected 1 to 64"),
        ({"generator.name": "dcgann"}, "no generator named 'dcgann'; did you mean 'dcgan'"),
        ({"critic.wide": 3}, "has no hyperparameter 'wide'; did you mean 'width'"),
        ({"critic.width": 0}, "width = 0 is outside its domain"),
        ({"critic.norm": "batch"}, "gls-gan penalises a gradient per sample"),
        ({"data.split": [2000, 1, 1]}, "ask for 2002 images, but there are 1797"),
        ({"data.size": 9}, "the dcgan networks take"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is_written(
    changes: dict[str, Any], match: str, tiny: MakePlan, zoo: Zoo
) -> None:
    with pytest.raises(UserError, match=match):
        prepare(tiny(**{"objectives": ["gls-gan"], **changes}), zoo)


def test_a_plan_so_short_that_it_would_train_nothing_is_refused(tiny: MakePlan, zoo: Zoo) -> None:
    with pytest.raises(UserError, match="not one round"):
        prepare(tiny(objectives=["wgan"], recipe="native", epochs=1), zoo)


# Bad cells

BAD = """
    BROKEN = Path(__file__).with_name("broken")
    calls = 0

    @ganzoo.cost
    def raises(a):
        if BROKEN.exists() and len(a) > 4:  # not when it is tried out
            raise RuntimeError("a slip [/b]\\nin <the> plugin")
        return a

    @ganzoo.cost
    def dies(a):
        global calls
        calls += 1
        if BROKEN.exists() and len(a) > 4 and calls > 2:
            os._exit(3)
        return a

    @ganzoo.cost
    def nan(a):
        return a * float("nan") if len(a) > 4 else a  # quiet while it is tried out
"""


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, tiny: MakePlan) -> tuple[Path, Plan, Zoo, Any, Any]:
    folder = tmp_path_factory.mktemp("troubled")
    header = "import os\nimport ganzoo\nfrom pathlib import Path\n"
    (folder / "bad.py").write_text(header + BAD.replace("\n    ", "\n"))
    (folder / "broken").touch()
    names = ["gls-gan:cost=dies", "gls-gan:cost=raises", "gls-gan:cost=nan", "dcgan", "gls-gan"]
    plan = tiny(objectives=names, plugins=[str(folder / "bad.py")])
    zoo = Zoo.installed(folder / "bad.py")
    rows, events = work(folder / "run", plan, zoo)
    return folder, plan, zoo, rows, events


def test_a_bad_cell_says_why_and_harms_no_other(troubled: tuple[Path, Plan, Zoo, Any, Any], finished: Run) -> None:
    folder, _, _, rows, _ = troubled
    verdicts = {row["label"]: row["verdict"] for row in rows}
    assert verdicts == {
        "gls-gan:cost=dies": "failed:crash",
        "gls-gan:cost=raises": "failed:error",
        "gls-gan:cost=nan": "diverged@0",
        "dcgan": "done",
        "gls-gan": "done",
    }
    assert len((folder / "run" / "rows.jsonl").read_text().splitlines()) == 5
    reasons = {row["label"]: row.get("reason") for row in rows}
    assert reasons["gls-gan:cost=raises"] == "RuntimeError: a slip [/b] in <the> plugin"
    assert reasons["gls-gan:cost=dies"].startswith("its process died (exit status 3) in 3 attempts")
    assert fences(next((folder / "run" / "cells").glob("*dies*")))[-1] == 1 + Policy().retries
    mine = next(row for row in rows if row["label"] == "gls-gan")
    alone = next(row for row in finished.rows() if row["label"] == "gls-gan" and row["seed"] == 0)
    assert mine["test_mre"] == alone["test_mre"]


def test_a_failed_cell_is_tried_again_and_a_diverged_one_is_not(
    troubled: tuple[Path, Plan, Zoo, Any, Any], finished: Run
) -> None:
    folder, plan, zoo, _, _ = troubled
    (folder / "broken").unlink()
    rows, events = work(folder / "run", plan, zoo)
    assert started(events) == [("gls-gan:cost=dies", 0), ("gls-gan:cost=raises", 0)]
    verdicts = {row["label"]: row["verdict"] for row in rows}
    assert verdicts.pop("gls-gan:cost=nan") == "diverged@0"
    assert set(verdicts.values()) == {"done"}


# Images that change

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 8, 8), dtype=np.uint8)


@pytest.fixture
def on_file(tiny: MakePlan, tmp_path: Path) -> Plan:
    """A plan on IMAGES in a file."""
    np.savez(tmp_path / "images.npz", images=IMAGES)
    return tiny(objectives=["dcgan"], **{"data.set": "npz", "data.path": str(tmp_path / "images.npz")})


def test_a_run_whose_images_have_changed_is_refused_by_name_and_goes_on_once_they_are_back(
    on_file: Plan, zoo: Zoo, tmp_path: Path
) -> None:
    folder, path = tmp_path / "run", tmp_path / "images.npz"
    rows, _ = work(folder, on_file, zoo)
    more = on_file.model_copy(update={"objectives": ("dcgan", "wgan")})
    checkpoint = max(folder.glob("cells/*/checkpoint-*"))
    np.savez(path, images=np.roll(IMAGES, 1, axis=1))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    differ = (
        r"run holds a run on other images \(training images, validation images, test images differ\); put those back"
    )
    for changed in (on_file, more):
        with pytest.raises(UserError, match=differ):
            work(folder, changed, zoo)
        with pytest.raises(UserError, match=differ):
            bench.due(prepare(changed, zoo), folder)
    with pytest.raises(UserError, match=rf"{checkpoint.name} was trained on other images than are there now"):
        measure_checkpoint(checkpoint)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    np.savez(path, images=IMAGES)
    again, events = work(folder, more, zoo)
    assert again[0] == rows[0]
    assert started(events) == [("wgan", 0)]


def test_a_worker_that_finds_other_images_than_the_run_is_on_makes_no_row(
    on_file: Plan, zoo: Zoo, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", prepare(on_file, zoo))
    with run.held():
        directory = run.directory(run.cells[0])
    np.savez(tmp_path / "images.npz", images=255 - IMAGES)
    with pytest.raises(UserError, match="run holds a run on other images"):
        party.prepare(directory)
    with pytest.raises(UserError, match="run holds a run on other images"):
        party.measure_baselines(run.folder / "baselines")
    assert not (run.folder / "baselines.json").exists()
