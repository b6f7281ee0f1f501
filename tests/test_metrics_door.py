"""Other figures through the door of MRE: each against an independent computation, in the row, in the table, refused in
one line where it cannot be had."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from ganzoo import Zoo, distances
from ganzoo.bench import Run, prepare
from ganzoo.config import Plan, read_plan
from ganzoo.data import Splits
from ganzoo.distances import (
    NAMES,
    frechet,
    kernel,
    metric_of,
    metrics_of,
    precision_and_recall,
    require_metrics,
    weights_of,
)
from ganzoo.errors import UserError
from ganzoo.report import ranking, reported
from ganzoo.share.compare import compare
from ganzoo.share.reading import read_run


def normal(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw, dtype=torch.float64) * scale + shift


# Distances


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), d=st.integers(2, 6), shift=st.floats(-3, 3), scale=st.floats(0.1, 3))
def test_the_frechet_distance_is_that_of_two_gaussians_in_closed_form(
    seed: int, d: int, shift: float, scale: float
) -> None:
    real, fake = normal(50, d, seed), normal(60, d, seed + 1, shift, scale)
    one, two = (np.cov(features.numpy(), rowvar=False) for features in (real, fake))
    root = linalg.sqrtm(linalg.sqrtm(one) @ two @ linalg.sqrtm(one)).real
    apart = ((real.mean(0) - fake.mean(0)) ** 2).sum().item()
    assert frechet(real, fake) == pytest.approx(apart + np.trace(one + two - 2 * root), rel=1e-6, abs=1e-9)
    assert frechet(real, fake) == pytest.approx(frechet(fake, real), rel=1e-6, abs=1e-9)
    assert frechet(real, real) == pytest.approx(0, abs=1e-9)


def test_a_shift_adds_its_square_and_a_scale_the_square_of_the_difference_of_deviations() -> None:
    x = normal(400, 5, 0)
    assert frechet(x, x + 2) == pytest.approx(5 * 4)
    variances = x.var(0, unbiased=True)
    assert frechet(x, (x - x.mean(0)) * 3 + x.mean(0)) == pytest.approx(float(4 * variances.sum()))


def test_the_frechet_distance_stands_with_fewer_images_than_features() -> None:
    few = frechet(normal(8, 40, 0), normal(8, 40, 1))
    assert 0 < few < 1000


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), n=st.integers(5, 30), d=st.integers(1, 8))
def test_the_kernel_distance_is_the_unbiased_mmd_summed_by_hand(seed: int, n: int, d: int) -> None:
    real, fake = normal(n, d, seed), normal(n, d, seed + 1, 0.5)

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / d + 1) ** 3)

    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    within = sum(k(real[i], real[j]) + k(fake[i], fake[j]) for i, j in pairs) / (n * (n - 1))
    across = sum(k(x, y) for x in real for y in fake) / n**2
    assert kernel(real, fake) == pytest.approx(within - 2 * across, rel=1e-6, abs=1e-9)


def test_of_many_images_the_kernel_distance_draws_the_same_subsets_each_time() -> None:
    real, fake = normal(1500, 3, 0), normal(1400, 3, 1, 1.0)
    state = np.random.get_state()[1].tolist()
    assert kernel(real, fake) == kernel(real, fake) > 0
    assert np.random.get_state()[1].tolist() == state  # nobody's numbers are drawn from


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), shift=st.floats(-2, 2))
def test_precision_and_recall_are_the_shares_within_the_balls_counted_one_by_one(seed: int, shift: float) -> None:
    real, fake = normal(20, 2, seed), normal(25, 2, seed + 1, shift)

    def covered(points: torch.Tensor, known: torch.Tensor) -> float:
        found = 0
        for point in points:
            for centre in known:
                radius = sorted(float((centre - other).norm()) for other in known)[3]  # the 0th is itself
                if float((point - centre).norm()) <= radius + 1e-12:
                    found += 1
                    break
        return found / len(points)

    precision, recall = precision_and_recall(real, fake)
    assert precision == pytest.approx(covered(fake, real), abs=1e-6)
    assert recall == pytest.approx(covered(real, fake), abs=1e-6)


def test_one_image_again_and_again_is_precise_and_recalls_nothing() -> None:
    real = normal(50, 2, 0)
    assert precision_and_recall(real, real[:1].repeat(50, 1)) == (1.0, pytest.approx(1 / 50))
    assert precision_and_recall(real, real + 100) == (0.0, 0.0)


# In a run

METRICS = ["classifier-fd", "classifier-kd", "classifier-precision", "classifier-recall"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Plan], zoo: Zoo) -> Run:
    plan = tiny(objectives=["dcgan", "cls-gan"], metrics=METRICS, test_images=16)
    run = Run(tmp_path_factory.mktemp("measured") / "run", prepare(plan, zoo))
    with run.held():
        run.train(2, lambda event: None)
    return run


def test_the_row_holds_the_metrics_and_what_they_were_seen_with(measured: Run, finished: Run) -> None:
    rows = measured.rows()
    for row in rows:
        assert row["verdict"] == "done", row.get("reason")
        assert list(row["metrics"]) == METRICS
        assert len(row["hashes"]["metric classifier"]) == 64
    assert len({row["hashes"]["metric classifier"] for row in rows}) == 1  # one ruler for all
    assert rows[0]["metrics"] != rows[1]["metrics"]
    for row in finished.rows():  # off by default
        assert "metrics" not in row
        assert "metric classifier" not in row["hashes"]


def test_the_figure_is_that_of_the_best_generators_images_against_the_test_images(measured: Run, zoo: Zoo) -> None:
    """Computed again, here, from the checkpoint alone."""
    from ganzoo.cell_folder import checkpoints
    from ganzoo.classify import evaluating
    from ganzoo.durable import load_checkpoint
    from ganzoo.features import Networks
    from ganzoo.randomness import stream
    from ganzoo.train import Training

    cell = measured.cells[0]
    state = load_checkpoint(checkpoints(measured.directory(cell))[0])
    training = Training(cell, zoo, measured.data)
    generator = training.players.generator
    generator.load_state_dict(state["best_generator"])
    z = torch.rand(16, 3, generator=stream("z", "metrics", 0)) * 2 - 1
    with evaluating(generator):
        made = ((generator(z) + 1) * 127.5).round().clamp(0, 255)
    network = Networks(measured.data.train)("trained-here", layer="flat")
    real = measured.data.test.images[:16]
    with torch.no_grad():
        one, two = (network(images.float() / 127.5 - 1).flatten(1).double() for images in (real, made))
    found = measured.rows()[0]["metrics"]
    assert found["classifier-fd"] == pytest.approx(frechet(one, two), rel=1e-5)
    assert found["classifier-kd"] == pytest.approx(kernel(one, two), rel=1e-5)


def test_the_same_run_again_has_the_same_metrics(measured: Run, tmp_path: Path, zoo: Zoo) -> None:
    plan = measured.plan.model_copy(update={"objectives": ("dcgan",)})
    run = Run(tmp_path / "run", prepare(plan, zoo))
    with run.held():
        (row,) = run.train(1, lambda event: None)
    assert row["metrics"] == measured.rows()[0]["metrics"]
    assert row["cell"] == measured.rows()[0]["cell"]


def test_the_table_has_a_column_for_each_and_says_that_it_is_no_fid(measured: Run) -> None:
    rows = measured.rows()
    text, summary = reported(measured.plan, rows, measured.baselines(), measured.folder)
    head = text.splitlines()[0]
    assert all(name in head for name in METRICS)
    line = next(line for line in text.splitlines() if " dcgan " in line)
    assert f"{rows[0]['metrics']['classifier-fd']:.4g}" in line.split()
    assert "no FID" in " ".join(text.split())
    standing = next(s for s in summary["standings"] if s["label"] == "dcgan")
    assert standing["metrics"] == rows[0]["metrics"]
    several = [{**rows[0], "seed": seed, "metrics": {"classifier-fd": value}} for seed, value in ((0, 1.0), (1, 3.0))]
    assert ranking.rank(several, {}).standings[0].metrics == {"classifier-fd": 2.0}


def test_without_metrics_the_table_is_as_it_was(finished: Run) -> None:
    text, _ = reported(finished.plan, finished.rows(), finished.baselines(), finished.folder)
    assert "classifier" not in text


def test_a_run_with_other_metrics_is_another_plan(measured: Run, tiny: Callable[..., Plan], tmp_path: Path) -> None:
    plain = tiny(objectives=["dcgan", "cls-gan"], test_images=16)
    assert plain.sha256 != measured.plan.sha256
    run = read_run(measured.folder)
    with pytest.raises(UserError, match="differ in metrics"):
        compare(run, run._replace(plan=plain))


# Slips


@pytest.fixture
def digits(measured: Run) -> Splits:
    return measured.data


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ("fad", "no metric named 'fad'; did you mean 'fid'"),
        ("classifier-fid", "is it classifier-fd"),
        ("fid:path=x", "metric 'fid:path=x': it takes weights=FILE"),
        ("fid:weights=", "it takes weights=FILE"),
        ("classifier-fd:weights=x", "it is trained here and takes none"),
    ],
)
def test_a_misspelt_metric_is_one_line(asked: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        metric_of(asked)


def test_a_command_line_names_several_with_commas() -> None:
    asked = ["fid:weights=here.pth", "classifier-fd"]
    assert read_plan(None, metrics=",".join(asked)) == read_plan(None, metrics=asked)
    assert read_plan(None, metrics=",".join(asked)).metrics == tuple(asked)
    with pytest.raises(UserError, match="metrics = 3: "):
        read_plan(None, metrics=3)


def test_what_could_not_be_had_at_the_end_is_refused_before_the_run(
    digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Plan], zoo: Zoo
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    bare = digits._replace(train=digits.train._replace(labels=None))
    one = digits._replace(train=digits.train._replace(labels=torch.zeros_like(digits.train.labels)))  # type: ignore[arg-type]
    for asked, measure, data, images, match in (
        (
            ["fid"],
            "mre",
            digits,
            16,
            r"fid needs Inception's weights .*get https://.* fid:weights=FILE; nothing is downloaded",
        ),
        ([f"kid:weights={tmp_path / 'no'}"], "mre", digits, 16, "there is no file .*no: get"),
        (["classifier-fd"], "accuracy", digits, 16, "are of generated images; take them with measure = mre"),
        (["classifier-fd"], "mre", digits, 4, "classifier-fd needs 5 test images or more; there are 4"),
        (["classifier-fd"], "mre", bare, 16, "trains a classifier on the training images' labels, and .* has none"),
        (["classifier-fd"], "mre", one, 16, "has one class"),
        (["fid", "fid:weights=x"], "mre", digits, 16, "fid is asked for twice"),
    ):
        with pytest.raises(UserError, match=match):
            require_metrics(tuple(asked), measure, data, images)
    with pytest.raises(UserError, match="nothing is downloaded"):
        prepare(tiny(objectives=["dcgan"], metrics=["fid"]), zoo)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install 'ganzoo\[metrics\]'"):
        require_metrics(("classifier-fd",), "mre", digits, 16)
    require_metrics((), "accuracy", digits, 1)  # none asked for, none needed


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (Path("evil"),)


def test_weights_that_are_a_pickle_of_code_are_refused_unopened(
    digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"evil": Evil()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        require_metrics((f"fid:weights={tmp_path / 'w.pth'}",), "mre", digits, 16)
    assert not Path("evil").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no weights of Inception"):
        distances.extractor(metric_of(f"fid:weights={tmp_path / 'w.pth'}"), None, torch.device("cpu"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the right shapes: what they see means nothing, but the way is the real one."""
    from io import BytesIO
    from unittest import mock

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "w.pth"
    with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"), mock.patch("torch.load"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=BytesIO())
    torch.save(network.state_dict(), path)
    return path


def test_with_a_file_of_weights_fid_and_kid_are_those_of_inceptions_features(inception: Path, digits: Splits) -> None:
    texts = (f"fid:weights={inception}", f"kid:weights={inception}")
    assert weights_of(metric_of(texts[0])) == inception
    require_metrics(texts, "mre", digits, 16)
    real = digits.test.images[:6]
    fake = 255 - real
    values, hashes = distances.measured(texts, digits.train, real, fake, torch.device("cpu"))
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(inception)).eval()
    one, two = (network(images.repeat(1, 3, 1, 1))[0].double() for images in (real, fake))
    assert values["fid"] == pytest.approx(frechet(one, two), rel=1e-6)
    assert values["kid"] == pytest.approx(kernel(one, two), rel=1e-6)
    assert len(hashes["metric inception"]) == 64


def test_metrics_of_a_plan_are_read_in_their_order() -> None:
    found = metrics_of(("recall", "classifier-kd"))
    assert [(one.name, one.network, one.higher_is_better) for one in found] == [
        ("recall", "inception", True),
        ("classifier-kd", "classifier", False),
    ]


def test_the_page_of_metrics_names_each_of_them_and_no_other() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert re.findall(r"`([^`]+)`", " ".join(rows)) == [*NAMES]
