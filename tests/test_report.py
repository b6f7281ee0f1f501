"""The table holds every contender, names are inert, figures are the same bytes each time."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganzoo.bench import Run, require_fair
from ganzoo.errors import UserError
from ganzoo.report import reported
from ganzoo.report.figures import draw
from ganzoo.report.ranking import rank, table
from ganzoo.statistics import interval_of_mean, smallest_p

HOSTILE = ["<script>alert(1)</script>", "[/b][red]x", r"$\frac{1$", "esc\x1b[2Jape", "line\nbreak", "_hidden", "雪"]
BASELINES = {"training mean": 0.4, "pca-3": 0.2, "untrained generator": 0.9}


def row(label: str, seed: int, test_mre: float, **changes: Any) -> dict[str, Any]:
    return {
        "label": label,
        "seed": seed,
        "cell": f"{abs(hash((label, seed))):016x}",
        "verdict": "done",
        "test_mre": test_mre,
        "test_mre_last": test_mre + 0.01,
        "gap": 0.002,
        "control_mre": 0.001,
        "test_mre_any_label": None,
        "test_mre_own_label": None,
        "label_images": None,
        "settled": True,
        "mre": "mre1-test",
        "test_images": 8,
        "curve": [{"epoch": epoch, "validation_mre": 1 / (epoch + 1)} for epoch in range(3)],
        **changes,
    }


def bad(label: str, seed: int, verdict: str) -> dict[str, Any]:
    return {"label": label, "seed": seed, "cell": "0" * 16, "verdict": verdict}


def line_of(text: str, label: str) -> str:
    (found,) = [line for line in text.splitlines() if line.split()[1:2] == [label]]
    return found


def test_the_lowest_error_leads_and_every_contender_is_there() -> None:
    rows = [
        *(bad("fails", seed, "failed: no reason") for seed in range(3)),
        *(row("good", seed, 0.1 + 0.01 * seed) for seed in range(3)),
        *(row("best", seed, 0.05 + 0.01 * seed) for seed in range(3)),
        *(row("half", seed, 0.2 + 0.01 * seed) for seed in range(2)),
        bad("half", 2, "diverged@17"),
    ]
    ranking = rank(rows, BASELINES)
    assert [s.label for s in ranking.standings] == ["best", "good", "half", "fails"]
    best, good, half, fails = ranking.standings
    assert best.test_mre == pytest.approx(0.06)
    assert best.interval == pytest.approx(interval_of_mean([0.05, 0.06, 0.07]))
    assert best.difference is None
    assert good.difference is not None
    assert good.difference.mean == pytest.approx(0.05)
    assert good.difference.p == smallest_p(3)
    assert half.difference is not None
    assert half.difference.pairs == 2
    assert fails.test_mre is None
    text = table(ranking)
    assert line_of(text, "best").startswith("1 ")
    assert line_of(text, "fails").startswith("- ")
    assert "3 x failed: no reason" in line_of(text, "fails")
    assert "2 done, diverged@17" in line_of(text, "half")
    assert "3 paired seeds, 3 differences: no Holm-corrected p below 0.75" in " ".join(text.split())
    for name, error in BASELINES.items():
        assert f"({name})" in text
        assert f"{error:.4f}" in text


def test_a_run_in_which_nothing_finished_still_has_a_table(tmp_path: Path) -> None:
    rows = [bad("a", 0, "diverged@0"), bad("b", 0, "failed: why"), bad("c", 0, "planned")]
    ranking = rank(rows, BASELINES, tmp_path)
    text = table(ranking)
    for label in "abc":
        assert line_of(text, label).startswith("-")
    assert draw(rows, BASELINES, tmp_path) == []
    json.dumps(ranking.as_json(), allow_nan=False)


def test_one_seed_is_ranked_over_images_and_says_so(finished: Run) -> None:
    rows = [row for row in finished.rows() if row["seed"] == 0]
    ranking = rank(rows, finished.baselines(), finished.folder / "cells")
    assert ranking.over_images
    for standing in ranking.standings:
        assert standing.interval is not None
        assert standing.interval.low <= standing.test_mre <= standing.interval.high
    second = ranking.standings[1].difference
    assert second is not None
    assert (second.p, second.p_holm) == (1.0, 1.0)
    assert second.interval is not None
    text = " ".join(table(ranking).split())
    assert "One seed: the intervals are over test images and say nothing about another training" in text
    assert "sign-flip" not in text


def test_more_seeds_are_ranked_over_seeds(finished: Run) -> None:
    ranking = rank(finished.rows(), finished.baselines(), finished.folder / "cells")
    assert not ranking.over_images
    text = " ".join(table(ranking).split())
    assert "2 paired seeds, 1 difference: no Holm-corrected p below 0.5" in text
    assert ranking.standings[0].test_mre == min(
        np.mean([r["test_mre"] for r in finished.rows() if r["label"] == label]) for label in ("dcgan", "gls-gan")
    )


def test_an_unsettled_or_conditional_contender_is_marked() -> None:
    labels = {"test_mre_any_label": 0.123, "test_mre_own_label": 0.131, "label_images": 5}
    rows = [row("free", 0, 0.1, settled=False), row("classes", 0, 0.2, **labels)]
    text = " ".join(table(rank(rows, {})).split())
    assert "1 done, 1 not settled" in text
    assert "still varied by 5 % or more" in text
    assert "classes is trained on labels" in text
    assert "On the first 5 test images: own label 0.1310, best of all labels 0.1230" in text


def test_who_diverges_at_two_seeds_does_not_lead_by_its_lucky_one() -> None:
    steady = [row("steady", seed, error) for seed, error in enumerate((0.2, 0.1, 0.2))]
    lucky = [bad("lucky", 0, "diverged@3"), row("lucky", 1, 0.12), bad("lucky", 2, "diverged@5")]
    assert [s.label for s in rank([*lucky, *steady], {}).standings] == ["steady", "lucky"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_holds_anything_is_inert_in_the_table(name: str) -> None:
    rows = [row(name, 0, 0.1), row("plain", 0, 0.2), bad("other", 0, f"failed: {name}")]
    text = table(rank(rows, {}))
    assert "\x1b" not in text
    shown = "".join(c if c.isprintable() else "?" for c in name)
    assert shown in text
    assert f"failed: {shown}" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_holds_anything_is_inert_in_figures(name: str, finished: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    rows = [{**row, "label": name} if row["label"] == "dcgan" else row for row in finished.rows()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # 雪 in the font of the figures: a box
        assert len(draw(rows, finished.baselines(), folder)) == 3


def test_figures_are_png_and_the_same_bytes_each_time(finished: Run, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = Path(shutil.copytree(finished.folder, tmp_path / name))
        paths = draw(finished.rows(), finished.baselines(), folder)
        assert [path.name for path in paths] == ["curves.png", "samples.png", "reconstructions.png"]
        found.append([path.read_bytes() for path in paths])
    assert found[0] == found[1]
    for content in found[0]:
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.endswith(b"IEND\xaeB`\x82")


def test_a_curve_shows_seeds_that_diverged_as_far_as_they_came(finished: Run, tmp_path: Path) -> None:
    rows = json.loads(json.dumps(finished.rows()))
    rows[1] = {**rows[1], "verdict": "diverged@5", "curve": rows[1]["curve"][:2]}
    rows[3] = {**rows[3], "verdict": "diverged@0", "curve": []}
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    assert len(draw(rows, finished.baselines(), folder)) == 3


def test_colour_pictures_of_an_uneven_number_are_drawn(finished: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    for path in (folder / "cells").glob("*/pictures.npz"):
        with np.load(path) as found:
            arrays = dict(found)
        for name in ("samples", "originals", "reconstructions"):
            arrays[name] = np.repeat(arrays[name], 3, axis=1)[:7]
        np.savez(path, **arrays)
    assert len(draw(finished.rows(), {}, folder)) == 3


def test_what_was_resumed_inexactly_is_told_in_the_table_and_left_out_of_the_fairness_of_machines(
    finished: Run,
) -> None:
    rows = [{**row, "inexact": False} for row in finished.rows()]
    changed = next(row for row in rows if row["label"] == "dcgan" and row["seed"] == 1)
    changed["inexact"] = True
    changed["fingerprint"] = {**changed["fingerprint"], "threads": "7"}
    require_fair(rows)
    text, summary = reported(finished.plan, rows, finished.baselines(), finished.folder)
    line = next(line for line in text.splitlines() if " dcgan " in line)
    assert "2 done, 1 inexact" in line
    assert "inexact: resumed where numbers round differently" in text
    assert {s["label"]: s["inexact"] for s in summary["standings"]} == {"dcgan": 1, "gls-gan": 0}
    changed["inexact"] = False
    with pytest.raises(UserError, match="unfair: fingerprint"):
        require_fair(rows)


@pytest.mark.parametrize(
    ("figure", "images", "mean_said", "few_said"),
    [(0.39, 30, False, False), (0.4, 29, True, True), (0.5, 1, True, True)],
)
def test_a_table_says_where_nothing_is_learnt_and_where_images_are_few(
    figure: float, images: int, mean_said: bool, few_said: bool
) -> None:
    rows = [row(label, seed, figure + at, test_images=images) for seed in range(2) for at, label in enumerate("ab")]
    said = " ".join(table(rank(rows, BASELINES)).split())
    told = "None reconstructs better than one image for all, the training mean (0.4000): none has learnt much yet"
    assert (told in said) is mean_said
    assert ("no number of seeds makes up for them" in said) is few_said
    assert ("1 test image is few" in said) is (images == 1)
    assert "None reconstructs" not in table(rank(rows, {}))
