"""The table of a comparison of classifiers, by hand; and a run that measures accuracy, from its plan to its page."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ganzoo import bench, cli
from ganzoo.baselines import classifying_baselines
from ganzoo.bench import Run, prepare, require_fair
from ganzoo.config import Plan
from ganzoo.errors import UserError
from ganzoo.progress import following
from ganzoo.report import reported
from ganzoo.report.accuracy import Ranking, notes, rank, table
from ganzoo.report.figures import draw, samples
from ganzoo.result import read_pictures
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]
BASELINES = {"largest class": 0.1, "nearest labelled image": 0.62}


def row(label: str, seed: int, accuracy: float | None, fold: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "label": label,
        "seed": seed,
        "fold": fold,
        "cell": "0" * 16,
        "verdict": "done",
        "classifier": "argmin L(x, y)",
        "test_accuracy": None if fold is not None else accuracy,
        "validation_accuracy": accuracy if fold is not None else 0.99,
        "labelled_images": 40,
        "test_images": 100,
        **changes,
    }


def bad(label: str, seed: int, verdict: str, fold: int | None = None) -> dict[str, Any]:
    return {"label": label, "seed": seed, "fold": fold, "cell": "0" * 16, "verdict": verdict}


def line_of(text: str, label: str) -> str:
    (found,) = [line for line in text.splitlines() if line.split()[1:2] == [label]]
    return found


def words(text: str) -> str:
    return " ".join(text.split())


THREE = [
    *(row("alone", seed, accuracy) for seed, accuracy in enumerate((0.50, 0.60, 0.55, 0.45))),
    *(row("better", seed, accuracy) for seed, accuracy in enumerate((0.60, 0.66, 0.63, 0.55))),
    *(row("worse", seed, accuracy) for seed, accuracy in enumerate((0.40, 0.61, 0.50, 0.40))),
]


def by_label(ranking: Ranking) -> dict[str, Any]:
    return {standing.label: standing for standing in ranking.standings}


def test_means_intervals_and_differences_are_those_of_the_figures() -> None:
    ranking = rank(THREE, BASELINES)
    assert [s.label for s in ranking.standings] == ["better", "alone", "worse"]
    assert (ranking.reference, ranking.seeds, ranking.labelled_images) == ("alone", 4, 40)
    assert not ranking.held_out
    found = by_label(ranking)
    assert found["better"].accuracy == pytest.approx((0.60 + 0.66 + 0.63 + 0.55) / 4)
    values = [0.60, 0.66, 0.63, 0.55]
    half = stats.t.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    assert found["better"].interval == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    assert found["alone"].difference is None
    difference = found["better"].difference
    assert difference.mean == pytest.approx((0.10 + 0.06 + 0.08 + 0.10) / 4)
    assert difference.pairs == 4
    # All of one sign: 2 of the 16 sign flips are as far out. Two comparisons: the smaller p is doubled.
    assert difference.p == pytest.approx(2 / 16)
    assert difference.p_holm == pytest.approx(2 * 2 / 16)
    other = found["worse"].difference
    assert other.mean == pytest.approx((-0.10 + 0.01 - 0.05 - 0.05) / 4)
    # |sum| >= 0.19 of (+-0.10, +-0.01, +-0.05, +-0.05): all but 0.01 of one sign, 0.01 of either.
    assert other.p == pytest.approx(4 / 16)
    assert other.p_holm == pytest.approx(0.25)


def test_the_reference_is_the_plan_s_first_wherever_it_comes_out() -> None:
    ranking = rank([*THREE[8:], *THREE[:8]], BASELINES)
    assert ranking.reference == "worse"
    assert by_label(ranking)["worse"].difference is None
    assert by_label(ranking)["better"].difference.mean > 0
    assert ranking.standings[-1].label == "worse"
    assert "Reference: worse, the plan's first" in words(table(ranking))


def test_who_diverges_or_fails_stays_in_the_table() -> None:
    rows = [
        *THREE[:4],
        *(bad("fails", seed, "failed: no reason") for seed in range(4)),
        row("lucky", 0, 0.9),
        *(bad("lucky", seed, "diverged@41") for seed in range(1, 4)),
    ]
    ranking = rank(rows, BASELINES)
    # The one good seed of who diverges does not lead.
    assert [s.label for s in ranking.standings] == ["alone", "lucky", "fails"]
    found = by_label(ranking)
    assert found["lucky"].accuracy == 0.9
    assert found["lucky"].interval is None
    assert (found["lucky"].difference.pairs, found["lucky"].difference.p) == (1, 1.0)
    assert found["fails"].accuracy is found["fails"].difference is found["fails"].classifier is None
    text = table(ranking)
    assert line_of(text, "alone").startswith("1 ")
    assert line_of(text, "fails").startswith("-")
    assert "4 x failed: no reason" in line_of(text, "fails")
    assert "1 done, 3 x diverged@41" in line_of(text, "lucky")
    json.dumps(ranking.as_json(), allow_nan=False)


def test_a_reference_that_never_finished_leaves_the_others_without_a_difference() -> None:
    rows = [bad("first", 0, "diverged@0"), bad("first", 1, "planned"), row("second", 0, 0.5), row("second", 1, 0.6)]
    ranking = rank(rows, {})
    assert ranking.reference == "first"
    assert by_label(ranking)["second"].difference is None
    assert by_label(ranking)["second"].accuracy == pytest.approx(0.55)
    assert line_of(table(ranking), "first").startswith("-")
    nothing = rank([bad("only", 0, "failed: why")], {})
    assert line_of(table(nothing), "only").startswith("-")
    assert nothing.labelled_images == 0


def test_folds_are_averaged_within_their_seed_before_seeds_are_compared() -> None:
    rows = [
        *(
            row("a", seed, accuracy, fold)
            for seed, fold, accuracy in ((0, 0, 0.2), (0, 1, 0.4), (1, 0, 0.5), (1, 1, 0.7))
        ),
        *(
            row("b", seed, accuracy, fold)
            for seed, fold, accuracy in ((0, 0, 0.5), (0, 1, 0.5), (1, 0, 0.9), (1, 1, 0.5))
        ),
    ]
    ranking = rank(rows, BASELINES)
    assert ranking.held_out
    assert ranking.seeds == 2
    a, b = by_label(ranking)["a"], by_label(ranking)["b"]
    assert a.accuracy == pytest.approx((0.3 + 0.6) / 2)
    assert b.difference.pairs == 2
    assert b.difference.mean == pytest.approx(((0.5 - 0.3) + (0.7 - 0.6)) / 2)
    text = words(table(ranking))
    assert "held-out accuracy" in text
    assert "test accuracy" not in text
    assert "on the held-out folds of the labelled images, to choose by: the test images were not looked at" in text
    assert "4 done" in text


def test_a_seed_counts_where_all_its_folds_are_done() -> None:
    rows = [
        *(row("steady", 0, 0.5, fold) for fold in range(3)),
        row("lucky", 0, 0.9, 0),
        *(bad("lucky", 0, "diverged@7", fold) for fold in (1, 2)),
    ]
    ranking = rank(rows, {})
    assert [s.label for s in ranking.standings] == ["steady", "lucky"]
    assert by_label(ranking)["lucky"].accuracy is None
    assert "1 done, 2 x diverged@7" in line_of(table(ranking), "lucky")


def test_the_table_says_what_was_measured_and_what_it_can_show() -> None:
    text = words(table(rank(THREE, BASELINES)))
    assert "test accuracy" in text
    assert "held-out" not in text
    assert "on the test images, after the last round: nothing was selected on them or on validation" in text
    assert "40 labelled images a training" in text
    assert "Intervals: Student's t over 4 seeds" in text
    assert "4 paired seeds, 2 differences: no Holm-corrected p below 0.25 can be reached" in text
    assert text.index("(nearest labelled image) 0.6200") < text.index("(largest class) 0.1000")
    line = line_of(table(rank(THREE, BASELINES)), "better").split()
    assert line[:3] == ["1", "better", "0.6100"]
    assert "+0.0850" in line
    assert "0.250" in line


def test_one_seed_has_neither_intervals_nor_a_test() -> None:
    ranking = rank([row("a", 0, 0.5), row("b", 0, 0.6)], {})
    assert by_label(ranking)["b"].interval is None
    assert by_label(ranking)["b"].difference.p == 1.0
    said = " ".join(notes(ranking))
    assert "One seed: neither intervals nor a test. Reference: a, the plan's first." in said
    assert "sign-flip" not in said
    assert "Student" not in said
    assert line_of(table(ranking), "b").split()[3:7] == ["-", "+0.1000", "-", "-"]


@pytest.mark.parametrize("name", ["[/b][red]x", "esc\x1b[2Jape", "line\nbreak", "雪"])
def test_a_name_that_holds_anything_is_inert(name: str) -> None:
    text = table(rank([row(name, 0, 0.5), row("b", 0, 0.6), bad("c", 0, f"failed: {name}")], {}))
    assert "\x1b" not in text
    assert "".join(c if c.isprintable() else "?" for c in name) in text


# A run


FEW: dict[str, Any] = {"labels.per_class": 3, "measure": "accuracy"}
ASKED = ["supervised", "cls-gan:unlabeled_weight=1.0", "dcgan"]


def work(folder: Path, plan: Plan, zoo: Zoo) -> tuple[Run, list[dict[str, Any]], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    run = Run(folder, prepare(plan, zoo))
    with run.held():
        return run, run.train(2, events.append), events


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory, tiny: MakePlan, zoo: Zoo) -> tuple[Run, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("classified") / "run"
    run, rows, _ = work(folder, tiny(objectives=ASKED, seeds=2, **FEW), zoo)
    return run, rows


def test_a_run_of_classifiers_is_reported(classified: tuple[Run, list[dict[str, Any]]], tmp_path: Path) -> None:
    run, rows = classified
    assert [(r["label"], r["seed"], r["verdict"]) for r in rows] == [(o, s, "done") for o in ASKED for s in (0, 1)]
    text, summary = reported(run.plan, rows, run.baselines(), run.folder)
    assert summary["reference"] == "supervised"
    for label in ASKED:
        assert label in text
        mean = np.mean([r["test_accuracy"] for r in rows if r["label"] == label])
        assert f"{mean:.4f}" in text
    json.dumps(summary, allow_nan=False)
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    figures = draw(rows, run.baselines(), folder)
    assert [figure.name for figure in figures] == ["curves.png", "samples.png"]
    first = [figure.read_bytes() for figure in figures]
    assert [figure.read_bytes() for figure in draw(rows, run.baselines(), folder)] == first


def test_a_long_name_stays_above_its_own_samples(classified: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = classified
    found = read_pictures(run.directory(run.cells[0]))
    label = "cls-gan:balance=0.5,unlabeled_weight=0.25,feature_matching=100"
    (axes, _) = samples({label: found, "supervised": found}).axes
    lines = axes.get_title().splitlines()
    assert "".join(lines) == label
    assert len(lines) == 2
    assert all(len(line) <= 44 for line in lines)


def test_the_baselines_of_a_run_are_of_its_own_subsets(classified: tuple[Run, list[dict[str, Any]]]) -> None:
    run, _ = classified
    expected = classifying_baselines(run.data.train, run.data.test.first(8), 3, [0, 1])
    assert run.baselines() == expected


def test_cells_of_one_seed_share_the_labelled_images_and_seeds_do_not(
    classified: tuple[Run, list[dict[str, Any]]],
) -> None:
    _, rows = classified
    require_fair(rows)
    for name in ("labelled images", "unlabelled images"):
        assert len({r["hashes"][name] for r in rows if r["seed"] == 0}) == 1
        assert len({r["hashes"][name] for r in rows}) == 2
    other = json.loads(json.dumps(rows))
    other[2]["hashes"]["labelled images"] = "0" * 64
    with pytest.raises(
        UserError, match=r"unfair: labelled images of cls-gan:unlabeled_weight=1.0 and supervised differ"
    ):
        require_fair(other)
    # Another fold is another training set.
    other[2]["fold"] = 1
    require_fair(other)


def test_the_same_command_again_trains_nothing(
    classified: tuple[Run, list[dict[str, Any]]], zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rows = classified
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    monkeypatch.setattr(bench, "see_through", lambda *_: pytest.fail("a process was started"))
    _, again, events = work(folder, run.plan, zoo)
    assert events == []
    assert again == rows


def test_more_seeds_make_the_baselines_anew(
    classified: tuple[Run, list[dict[str, Any]]], tiny: MakePlan, zoo: Zoo, tmp_path: Path
) -> None:
    run, rows = classified
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    wider, more, events = work(folder, tiny(objectives=ASKED[:1], seeds=3, **FEW), zoo)
    assert [event["seed"] for event in events if event["event"] == "start"] == [2]
    assert more[:2] == rows[:2]
    expected = classifying_baselines(run.data.train, run.data.test.first(8), 3, range(3))
    assert wider.baselines() == expected != run.baselines()


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, tiny: MakePlan, zoo: Zoo) -> Any:
    plan = tiny(objectives=ASKED[:2], first_seed=1, **FEW, **{"labels.folds": 3, "batch_size": 8, "epochs": 1})
    return work(tmp_path_factory.mktemp("validated") / "run", plan, zoo)


def test_a_cross_validation_has_a_cell_for_each_seed_and_fold_and_no_test_accuracy(validated: Any) -> None:
    run, rows, _ = validated
    assert [(r["label"], r["seed"], r["fold"]) for r in rows] == [(o, 1, f) for o in ASKED[:2] for f in range(3)]
    assert {r["verdict"] for r in rows} == {"done"}
    assert {r["test_accuracy"] for r in rows} == {None}
    assert all(math.isfinite(r["validation_accuracy"]) for r in rows)
    assert {r["labelled_images"] for r in rows} == {20}
    # The unlabelled images are those of every fold, the labelled ones its own.
    assert len({r["hashes"]["unlabelled images"] for r in rows}) == 1
    assert len({r["hashes"]["labelled images"] for r in rows}) == 3
    require_fair(rows)
    assert len((run.folder / "rows.jsonl").read_text().splitlines()) == 6
    text, summary = reported(run.plan, rows, run.baselines(), run.folder)
    assert summary["held_out"] is True
    assert "the test images were not looked at" in words(text)
    assert run.baselines() == classifying_baselines(run.data.train, run.data.validation, 3, [1], folds=3)
    assert [path.name for path in draw(rows, run.baselines(), run.folder)] == ["curves.png", "samples.png"]


def test_progress_tells_the_folds_apart(validated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run, rows, events = validated
    finished = {(e["label"], e["seed"], e["fold"]) for e in events if e["event"] == "row"}
    assert finished == {(r["label"], r["seed"], r["fold"]) for r in rows}
    prepared = bench.Prepared(run.plan, run.cells, run.data)
    with following(prepared, run.folder, 1) as tell:
        for event in events:
            tell(event)
    said = capsys.readouterr().err
    for r in rows:
        assert f"{r['label']} seed 1 fold {r['fold']}: validation accuracy {r['validation_accuracy']:.4f}" in said
    assert "[6/6]" in said


# The command


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["ganzoo", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_command_reports_a_finished_run_of_classifiers(
    classified: tuple[Run, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = classified
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    monkeypatch.setattr(bench, "see_through", lambda *_: pytest.fail("a process was started"))
    status, out, err = command(monkeypatch, capsys, "bench", str(folder / "plan.toml"), "--out", str(folder))
    assert status == 0, err
    assert out.startswith((folder / "table.txt").read_text())
    assert json.loads((folder / "summary.json").read_text())["reference"] == "supervised"
    for name in ("curves.png", "samples.png"):
        assert f"figure    {folder / name}" in out
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    status, out, err = command(monkeypatch, capsys, "bench", str(folder / "plan.toml"), "--out", str(folder), "--json")
    assert json.loads(out)["standings"][0]["accuracy"] > 0


@pytest.mark.usefixtures("unmeasured")
def test_a_dry_run_counts_the_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_arguments: list[str]
) -> None:
    asked = ["--set=measure=accuracy", "--set=labels.per_class=3", "--set=labels.folds=3", "--set=batch_size=8"]
    monkeypatch.chdir(tmp_path)
    status, out, _ = command(
        monkeypatch, capsys, "bench", "-o", "supervised", "--dry-run", *tiny_arguments, *asked, "--seeds=2"
    )
    assert status == 0
    assert "supervised  x 2 seeds x 3 folds" in out
    assert "6 cells of 2 epochs" in out
    assert not list(tmp_path.iterdir())


def test_mre_of_a_baseline_without_generator_is_one_line(
    classified: tuple[Run, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = classified
    (alone, semi, _) = [run.directory(cell) for cell in run.cells if cell.seed == 0]
    status, out, err = command(monkeypatch, capsys, "mre", str(alone))
    assert (status, out) == (2, "")
    assert err == "ganzoo: supervised trains no generator: there is nothing that could reconstruct an image\n"
    status, out, err = command(monkeypatch, capsys, "mre", str(semi))
    assert status == 0, err
    assert "generator        last epoch" in out
