"""Two runs beside each other, and several made one: what is the same, what may differ, what is refused and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ganzoo import Zoo
from ganzoo.bench import Run, prepare
from ganzoo.config import Plan, read_plan
from ganzoo.durable import commit_sealed, read_sealed
from ganzoo.errors import UserError
from ganzoo.lock import lock_file, try_lock
from ganzoo.share.compare import compare
from ganzoo.share.merge import merge
from ganzoo.share.reading import ReadRun, read_run, table_of
from ganzoo.verify import verify


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan], zoo: Zoo) -> Run:
    """As `finished`, of three epochs."""
    return made(
        tmp_path_factory.mktemp("longer") / "run", tiny(objectives=["dcgan", "gls-gan"], seeds=2, epochs=3), zoo
    )


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan], zoo: Zoo) -> Run:
    """Another objective of the same plan, and one of the same at a third seed."""
    return made(tmp_path_factory.mktemp("others") / "run", tiny(objectives=["wgan"], seeds=2), zoo)


@pytest.fixture(scope="module")
def third_seed(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan], zoo: Zoo) -> Run:
    plan = tiny(objectives=["gls-gan"], seeds=1, first_seed=2)
    return made(tmp_path_factory.mktemp("third") / "run", plan, zoo)


def made(folder: Path, plan: Plan, zoo: Zoo) -> Run:
    run = Run(folder, prepare(plan, zoo))
    with run.held():
        run.train(2, lambda event: None)
    return run


def changed(run: ReadRun, **changes: Any) -> ReadRun:
    """Every row with these changes, `hashes__z="..."` for one within a table."""
    rows = json.loads(json.dumps(run.rows))
    for row in rows:
        for key, value in changes.items():
            at, _, inner = key.partition("__")
            if inner:
                row[at][inner.replace("_", " ")] = value
            else:
                row[at] = value
    return run._replace(name="other", rows=rows)


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


# Compare


def test_other_objectives_of_one_plan_are_ranked_together_and_paired_by_seed(finished: Run, others: Run) -> None:
    found = compare(read_run(finished.folder), read_run(others.folder))
    figures = {one.label: one.figures for one in found.contenders}
    rows = [*finished.rows(), *others.rows()]
    assert figures == {
        label: {row["seed"]: row["test_mre"] for row in rows if row["label"] == label}
        for label in ("dcgan", "gls-gan", "wgan")
    }
    means = [one.mean for one in found.contenders]
    assert means == sorted(means)
    best, *rest = found.contenders
    for one in rest:
        assert one.difference is not None
        apart = [one.figures[seed] - best.figures[seed] for seed in (0, 1)]
        assert one.difference.mean == pytest.approx(np.mean(apart))
        assert one.difference.interval is not None
        half = stats.t.ppf(0.975, 1) * np.std(apart, ddof=1) / np.sqrt(2)
        assert one.difference.interval.high == pytest.approx(np.mean(apart) + half)
        assert one.difference.p == 0.5  # the least of two pairs; or 1
    assert found.pairs == ()
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["contenders"][0]["label"] == best.label


def test_a_run_beside_itself_is_the_same_cell_for_cell(finished: Run) -> None:
    run = read_run(finished.folder)
    found = compare(run, run)
    assert found.same == 4
    assert found.pairs == ()
    assert {one.runs for one in found.contenders} == {(1, 2)}
    assert "4 cells are the same in both runs, figure for figure" in found.text()


def test_one_objective_at_more_seeds_is_one_contender(finished: Run, third_seed: Run) -> None:
    found = compare(read_run(finished.folder), read_run(third_seed.folder))
    (more,) = [one for one in found.contenders if one.label == "gls-gan"]
    assert more.runs == (1, 2)
    assert sorted(more.figures) == [0, 1, 2]


def test_runs_that_differ_on_purpose_are_paired_objective_by_objective(finished: Run, longer: Run) -> None:
    one, two = read_run(finished.folder), read_run(longer.folder)
    with pytest.raises(
        UserError, match=r"differ in epochs \(2 and 3\); if that is what you compare, say --varying epochs"
    ):
        compare(one, two)
    found = compare(one, two, ("epochs",))
    assert found.differing == ("epochs (2 and 3)",)
    for pair in found.pairs:
        first, second = (
            {row["seed"]: row["test_mre"] for row in run.rows if row["label"] == pair.label} for run in (one, two)
        )
        assert pair.difference.mean == pytest.approx(np.mean([second[seed] - first[seed] for seed in (0, 1)]))
        assert (pair.first, pair.second) == (np.mean(list(first.values())), np.mean(list(second.values())))
    assert [pair.label for pair in found.pairs] == ["dcgan", "gls-gan"]
    turned = compare(two, one, ("epochs",))
    assert [pair.difference.mean for pair in turned.pairs] == pytest.approx([-p.difference.mean for p in found.pairs])
    with pytest.raises(UserError, match="differ in epochs"):
        compare(one, two, ("batch_size",))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hashes__test_images": "0" * 64}, "not measured alike: the test images differ"),
        ({"mre": "mre9"}, "not measured alike: the search for z differ"),
        ({"test_images": 5}, "not measured alike: their number differ"),
    ],
)
def test_what_is_measured_otherwise_is_never_compared(changes: dict[str, Any], match: str, finished: Run) -> None:
    run = read_run(finished.folder)
    with pytest.raises(UserError, match=match):
        compare(run, changed(run, **changes), ("data", "machine", "code", "epochs"))


@pytest.mark.parametrize(
    ("changes", "key", "match"),
    [
        ({"hashes__z": "0" * 64}, "z_dim", "z of dcgan at seed 0"),
        ({"hashes__training_images": "0" * 64}, "data", "training images of dcgan at seed 0"),
        ({"hashes__data_order": "0" * 64}, "batch_size", "data order of dcgan"),
        ({"hashes__initial_critic": "0" * 64}, "critic", "initial critic of dcgan"),
        ({"fingerprint__torch": "1.0"}, "machine", "fingerprint of dcgan"),
        ({"rounds": 9}, "epochs", "rounds of dcgan"),
        ({"recipe__optimizer": "rmsprop"}, "recipe", "recipe of dcgan"),
        ({"sources__critic/dcgan": "0" * 64}, "critic", "critic's code of dcgan"),
    ],
)
def test_every_condition_that_differs_is_named_with_the_word_that_allows_it(
    changes: dict[str, Any], key: str, match: str, finished: Run
) -> None:
    run = read_run(finished.folder)
    with pytest.raises(UserError, match=rf"not a fair comparison: the runs differ in {match}.*--varying {key}"):
        compare(run, changed(run, **changes))
    assert compare(run, changed(run, **changes), (key,)).differing


def test_other_code_of_ganzoo_is_no_fair_comparison(finished: Run) -> None:
    run = read_run(finished.folder)
    with pytest.raises(UserError, match=r"differ in code of ganzoo; .*--varying code"):
        compare(run, run._replace(core=frozenset({"0"})))


def test_a_key_that_nobody_can_vary_is_told_the_nearest(finished: Run) -> None:
    run = read_run(finished.folder)
    with pytest.raises(UserError, match="--varying epoch: no such thing; did you mean 'epochs'"):
        compare(run, run, ("epoch",))


def test_other_instruments_of_the_plan_are_named(finished: Run, tiny: Callable[..., Plan]) -> None:
    run = read_run(finished.folder)
    for changes, match in (
        ({"test_mre.restarts": 3}, r"test_mre.restarts \(2 and 3\)"),
        ({"measure": "accuracy"}, r"measure \(mre and accuracy\)"),
    ):
        with pytest.raises(UserError, match=f"not measured alike: {match}"):
            compare(run, run._replace(plan=tiny(**changes)))
    with pytest.raises(UserError, match=r"differ in validate_every \(1 and 2\); .*--varying selection"):
        compare(run, run._replace(plan=tiny(validate_every=2)))


def test_an_unfinished_run_is_compared_by_what_is_done_and_says_so(copy: Path, others: Run) -> None:
    directory = next((copy / "cells").glob("gls-gan-seed1-*"))
    (directory / "row.json").unlink()
    run = read_run(copy)
    assert (len(run.rows), run.unfinished) == (3, 1)
    found = compare(run, read_run(others.folder))
    assert {one.label: len(one.figures) for one in found.contenders} == {"dcgan": 2, "gls-gan": 1, "wgan": 2}
    assert any("1 of 4 cells are not finished" in note for note in found.caveats)


def test_a_run_without_a_finished_cell_is_refused(copy: Path, others: Run) -> None:
    for path in copy.glob("cells/*/row.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"has no finished cell yet \(4 planned\)"):
        compare(read_run(copy), read_run(others.folder))


@pytest.mark.parametrize("kind", ["absent", "empty folder", "a file", "newer", "damaged row", "damaged cell"])
def test_what_is_no_run_is_one_line(kind: str, copy: Path, tmp_path: Path) -> None:
    path, match = copy, ""
    if kind == "absent":
        path, match = tmp_path / "absent", "no run at .*absent"
    elif kind == "empty folder":
        path, match = tmp_path / "empty", "is not a run's folder: it has no plan.toml"
        path.mkdir()
    elif kind == "a file":
        path, match = tmp_path / "file", "is not a run"
        path.write_text("hello")
    elif kind == "newer":
        commit_sealed(copy / "run.json", {**read_sealed(copy / "run.json"), "format": 99})
        match = "was made by a newer ganzoo"
    elif kind == "damaged row":
        row = next(copy.glob("cells/*/row.json"))
        row.write_text(row.read_text().replace('"done"', '"Done"'))
        match = "was altered"
    else:
        next(copy.glob("cells/*/cell.json")).write_text('{"contender": {"label": 3}}')
        match = "describes no cell"
    with pytest.raises(UserError, match=match) as slip:
        read_run(path)
    assert "\n" not in str(slip.value)
    assert not list(copy.rglob("*.damaged"))  # reading changes nothing


def test_of_cells_of_two_versions_of_the_code_only_the_planned_one_counts(copy: Path) -> None:
    directory = next((copy / "cells").glob("dcgan-seed0-*"))
    stale = Path(shutil.copytree(directory, directory.with_name("dcgan-seed0-00000000")))
    cell = json.loads((stale / "cell.json").read_text())
    (stale / "cell.json").write_text(json.dumps({**cell, "core_sha256": "0" * 64}))
    with (copy / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"label": "dcgan", "seed": 0, "cell": "0" * 64}) + "\n")
    run = read_run(copy)
    assert len(run.rows) == 4
    assert len(run.core) == 1


# Merge


def test_a_merged_run_has_the_union_of_the_cells_verifies_and_reads_like_any_other(
    finished: Run, others: Run, third_seed: Run, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "merged"
    found = merge([finished.folder, others.folder, third_seed.folder], out)
    assert (found.cells, found.missing) == (7, 2)  # dcgan and wgan have no third seed
    checked = verify(out)
    assert checked.is_whole
    assert {one.verdict for one in checked.cells} == {"done"}
    run = read_run(out)
    assert [(row["label"], row["seed"]) for row in run.rows] == [
        ("dcgan", 0), ("dcgan", 1), ("gls-gan", 0), ("gls-gan", 1), ("gls-gan", 2), ("wgan", 0), ("wgan", 1),
    ]  # fmt: skip
    assert table_of(run)[0] == found.text == (out / "table.txt").read_text()
    assert run.baselines == finished.baselines()
    assert read_sealed(out / "run.json")["merged"][0] == {"run": "run", "cells": 4}
    assert read_sealed(out / "images.json") == read_sealed(finished.folder / "images.json")
    assert "2 of the merged plan are in none of the runs" in found.notes[0]
    assert sorted(path.name for path in tmp_path.joinpath("deep").iterdir()) == ["merged"]
    for row in (*finished.rows(), *others.rows()):
        assert row in run.rows


def test_a_merged_run_resumes_to_the_same_rows_as_one_run(
    finished: Run, third_seed: Run, tmp_path: Path, zoo: Zoo
) -> None:
    out = tmp_path / "merged"
    merge([finished.folder, third_seed.folder], out)
    run, events = Run(out, prepare(read_plan(out / "plan.toml"), zoo)), list[dict[str, Any]]()
    with run.held():
        rows = run.train(1, events.append)
    assert [(event["label"], event["seed"]) for event in events if event["event"] == "start"] == [("dcgan", 2)]
    assert {row["verdict"] for row in rows} == {"done"}
    assert verify(out).is_whole


def test_a_cell_that_two_runs_have_alike_is_taken_once(finished: Run, copy: Path, tmp_path: Path) -> None:
    assert merge([finished.folder, copy], tmp_path / "merged").cells == 4


def test_of_a_cell_the_run_that_has_finished_it_counts(finished: Run, copy: Path, tmp_path: Path) -> None:
    for name in ("row.json", "verdict.json"):
        next(copy.glob("cells/gls-gan-seed0-*")).joinpath(name).unlink()
    for order in ([copy, finished.folder], [finished.folder, copy]):
        out = tmp_path / f"merged{order.index(copy)}"
        merge(order, out)
        assert len(read_run(out).done) == 4


def rewritten(directory: Path, **changes: Any) -> None:
    """The row and the verdict of a cell, whole, but another result."""
    row = {**read_sealed(directory / "row.json"), **changes}
    commit_sealed(directory / "row.json", row)
    verdict = read_sealed(directory / "verdict.json")
    said = json.loads((directory / "row.json").read_text())["sha256"]
    commit_sealed(directory / "verdict.json", {**verdict, "files": {**verdict["files"], "row.json": said}})
    run = directory.parents[1]
    lines = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    lines = [row if line["cell"] == row["cell"] else line for line in lines]
    (run / "rows.jsonl").write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def test_two_results_of_one_cell_that_differ_are_a_conflict(finished: Run, copy: Path, tmp_path: Path) -> None:
    rewritten(next(copy.glob("cells/dcgan-seed0-*")), test_mre=0.125)
    with pytest.raises(UserError, match=r"conflict: dcgan seed 0 came out twice, and not alike \(test_mre \("):
        merge([finished.folder, copy], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_cells_of_another_machine_are_merged_only_where_that_is_allowed_and_the_table_says_so(
    others: Run, finished: Run, tmp_path: Path
) -> None:
    elsewhere = Path(shutil.copytree(others.folder, tmp_path / "elsewhere"))
    for directory in elsewhere.glob("cells/*"):
        row = read_sealed(directory / "row.json")
        rewritten(directory, fingerprint={**row["fingerprint"], "instruction set": "AVX9"})
    with pytest.raises(UserError, match="unfair: fingerprint of wgan and dcgan differ at seed 0"):
        merge([finished.folder, elsewhere], tmp_path / "merged")
    found = merge([finished.folder, elsewhere], tmp_path / "merged", allow_inexact=True)
    assert "made in 2 ways of rounding" in " ".join(found.text.split())
    assert found.summary["machines"] == 2


@pytest.mark.parametrize("kind", ["another plan", "in use", "damaged", "there already", "one run", "a share"])
def test_what_cannot_be_merged_is_one_line_and_nothing_is_written(
    kind: str, finished: Run, longer: Run, copy: Path, tmp_path: Path
) -> None:
    out, runs, match = tmp_path / "merged", [finished.folder, copy], ""
    if kind == "another plan":
        runs, match = [finished.folder, longer.folder], r"are runs of two plans: epochs \(2 and 3\)"
    elif kind == "damaged":
        pictures = next(copy.glob("cells/dcgan-seed1-*/pictures.npz"))
        pictures.write_bytes(pictures.read_bytes()[:-7])
        match = r"dcgan-seed1-\w+/pictures.npz is damaged"
    elif kind == "there already":
        out.mkdir()
        match = "is there already; take another --out"
    elif kind == "one run":
        runs, match = [copy], "merge takes two runs or more"
    elif kind == "a share":
        (tmp_path / "share.zip").write_bytes(b"PK\x03\x04")
        runs, match = [copy, tmp_path / "share.zip"], "is a share: .* compare it"
    with lock_file(copy / "run.lock") as lock:
        if kind == "in use":
            match = "is in use by another process"
            assert try_lock(lock, exclusive=True)
        with pytest.raises(UserError, match=match) as slip:
            merge(runs, out)
    assert "\n" not in str(slip.value)
    assert sorted(p.name for p in tmp_path.iterdir() if "merged" in p.name) == (
        ["merged"] if kind == "there already" else []
    )


def test_a_full_disk_leaves_nothing_half_merged(
    finished: Run, others: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganzoo.share.merge.shutil.copytree", full)
    with pytest.raises(UserError, match=r"the disk is full: .*merged needs"):
        merge([finished.folder, others.folder], tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
