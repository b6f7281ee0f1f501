"""The items that compare trainings: their plans, what they read off the rows, and each of them made end to end."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import TINY
from matplotlib.figure import Figure

from ganzoo import bench, paper, train, worker
from ganzoo.config import Plan, contenders, read_plan
from ganzoo.data import ImageSet, Splits
from ganzoo.errors import UserError
from ganzoo.features import Networks
from ganzoo.paper import SIZES, Item, Options
from ganzoo.placing import WORKER, Engine
from ganzoo.statistics import smallest_p
from ganzoo.zoo import Zoo
from ganzoo_paper import (
    classification,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    table_2,
    table_3,
)
from ganzoo_paper.comparison import (
    Compared,
    data_of,
    difference,
    means,
    of_row,
    paired,
    size_of,
    table_of,
)

Rows = list[dict[str, Any]]
COMPARING = (
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    table_2,
    table_3,
)
"""The modules of the items that train what a plan says."""
RUNNERS = (figure_2, figure_3, figure_5, figure_7, figure_9, figure_10, classification)
"""Those that call `compared` themselves."""


def item_of(module: ModuleType) -> Item:
    item: Item = module.ITEM
    return item


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].replace("_", "-")


def row(label: str, seed: int = 0, fold: int | None = None, verdict: str = "done", **figures: Any) -> dict[str, Any]:
    """A row as a worker leaves it: one that failed has no figures, one that diverged has its curve."""
    cell = {
        "label": label,
        "seed": seed,
        "fold": fold,
        "cell": hashlib.sha256(repr((label, seed, fold)).encode()).hexdigest(),
    }
    return {**cell, "verdict": verdict, **({} if verdict.startswith("failed") else figures)}


def seeds_of(label: str, path: str, values: list[float | None]) -> Rows:
    """A row a seed; None failed. `collapse.coverage` is a figure in a table of the row."""
    outer, _, inner = path.partition(".")
    return [
        row(label, seed, verdict="failed: out of memory")
        if value is None
        else row(label, seed, **{outer: {inner: value} if inner else value})
        for seed, value in enumerate(values)
    ]


Answer = Callable[[str, dict[str, Any]], Rows]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, Rows]]:
    """answered(figure_4.figure_4, rows_of) -> the item's text and its rows.jsonl, where a comparison of a name and
    plan has the rows that `rows_of` says."""

    def text_of(run: Callable[[Options], str], rows_of: Answer, **options: Any) -> tuple[str, Rows]:
        def compared(options: Options, name: str, **changes: Any) -> Compared:
            return Compared(options.folder / name, rows_of(name, changes), f"the table of {name}")

        for module in RUNNERS:
            monkeypatch.setattr(module, "compared", compared)
        text = run(Options(tmp_path, **{"data": "digits", **options}))
        return text, [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    return text_of


# Plans


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", sorted({data for module in COMPARING for data in item_of(module).data}))
def test_every_data_set_has_a_plan_at_both_sizes(data: str, size: str) -> None:
    path = None if data == "digits" else "somewhere"
    options = Options(Path("x"), size, data, path)
    plan = read_plan(None, **data_of(options), **size_of(options))
    assert (plan.data.set, plan.data.path) == (data, path)
    epochs = {"small": 40 if data == "digits" else 4, "paper": 25 if data == "celeba" else 100}
    assert plan.epochs == epochs[size]
    if size == "paper" and data != "digits":
        papers = Plan()
        assert (papers.z_dim, papers.batch_size, papers.shared.critic_rate, papers.shared.decay) == (100, 64, 1e-3, 0.8)
        for key in ("shared", "generator", "critic", "z_dim", "batch_size", "test_mre", "validation_mre"):
            assert getattr(plan, key) == getattr(papers, key)


def test_digits_at_the_small_size_are_ganzoos_own_plan() -> None:
    options = Options(Path("x"), "small", "digits")
    assert read_plan(None, **data_of(options), **size_of(options)) == read_plan(None)


@pytest.mark.parametrize("data", ["mnist", "cifar10", "celeba", "folder"])
def test_a_path_of_npz_is_an_archive_cut_as_the_set_itself(data: str) -> None:
    plans = [
        read_plan(None, **data_of(Options(Path("x"), "paper", data, path))).data for path in ("folder", "images.npz")
    ]
    assert [plan.set for plan in plans] == [data, "npz"]
    assert plans[1].model_copy(update={"set": data, "path": "folder"}) == plans[0]


def test_sets_with_an_official_order_are_cut_by_counts_in_it_and_others_at_random() -> None:
    plans = {
        data: read_plan(None, **data_of(Options(Path("x"), "paper", data, "y"))).data
        for data in ("cifar10", "mnist", "celeba", "svhn", "folder")
    }
    assert plans["cifar10"].split == (30_000, 7_500, 7_500)
    assert plans["mnist"].split == (50_000, 10_000, 10_000)
    assert {data for data, plan in plans.items() if not plan.shuffle} == {"cifar10", "mnist"}
    for data in ("celeba", "svhn", "folder"):
        assert plans[data].split == (0.5, 0.25, 0.25)


def test_images_of_many_sizes_are_brought_to_one() -> None:
    edges = {
        (data, size): size_of(Options(Path("x"), size, data, "y")).get("data.size")
        for data in ("celeba", "folder", "cifar10")
        for size in SIZES
    }
    assert edges == {
        ("celeba", "small"): None,  # celeba comes at 64
        ("celeba", "paper"): 64,
        ("folder", "small"): 32,
        ("folder", "paper"): 64,
        ("cifar10", "small"): None,
        ("cifar10", "paper"): None,
    }


SHAPES = {"digits": (1, 8), "mnist": (1, 28), "cifar10": (3, 32), "svhn": (3, 32), "celeba": (3, 64), "folder": (3, 48)}


def fake_set(name: str, edge: int | None, count: int, seed: int) -> ImageSet:
    channels, own = SHAPES[name]
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, edge or own, edge or own), generator=draw, dtype=torch.uint8)
    if name == "celeba":
        return ImageSet(name, images, None, ())
    return ImageSet(name, images, torch.arange(count) % 10, tuple("0123456789"))


@pytest.fixture
def prepared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, zoo: Zoo) -> list[tuple[str, Plan]]:
    """Comparisons are prepared (on noise in the shape of the data set), and their rows made up; each one's name and
    plan. Networks, data and an objective are tried out together once for each."""
    met: list[tuple[str, Plan]] = []
    tried: set[tuple[str, str]] = set()
    try_out = bench.try_out

    def once(cell: Any, zoo: Zoo, data: Splits) -> None:
        contender = cell.contender
        downloads = contender.margin_hyperparameters.get("weights") == "download"
        key = (contender.objective, str(contender.margin))
        if key not in tried and not downloads:
            tried.add(key)
            try_out(cell, zoo, data)

    def read_data(plan: Any) -> Splits:
        training = 4_500 if request.node.callspec.params["name"].startswith("table") else 400  # 400 labels a class
        return Splits(*(fake_set(plan.set, plan.size, count, i) for i, count in enumerate((training, 200, 200))))

    def compared(options: Options, name: str, **changes: Any) -> Compared:
        plan = read_plan(None, **{**data_of(options), "device": options.device, **changes})
        found = bench.prepare(plan, zoo)
        met.append((name, plan))
        rows = []
        for i, cell in enumerate(found.cells):
            curve = [
                {"epoch": j, "round": 10 * j, "gradient_norm": 1.0 / j, "validation_mre": 1.0 / j} for j in (1, 2, 3)
            ]
            spread = {"spread": 0.5, "coverage": 0.25, "class_spread": 0.5, "least_spread": 0.25, "class_coverage": 0.5}
            figures = {
                "test_mre": 0.5 + i / 1000,
                "validation_mre": 0.5 + i / 1000,
                "collapse": spread,
                "curve": curve,
                "validation_accuracy": 0.5,
                "test_accuracy": None if cell.fold is not None else 0.5,
                "recipe": cell.recipe.model_dump(),
            }
            rows.append(row(cell.contender.label, cell.seed, cell.fold, **figures))
        return Compared(options.folder / name, rows, "the table")

    monkeypatch.setattr(bench, "try_out", once)
    monkeypatch.setattr(bench, "read_data", read_data)
    for module in RUNNERS:
        monkeypatch.setattr(module, "compared", compared)
    return met


EVERYWHERE = [
    (name_of(module), data, size)
    for module in COMPARING
    for data in item_of(module).data
    for size in SIZES
    if (name_of(module), data, size)
    not in {
        ("figure-2", "celeba", "small"),
        ("figure-9", "digits", "paper"),
        ("table-2", "digits", "paper"),
        ("table-3", "digits", "paper"),
    }
]


@pytest.mark.parametrize(("name", "data", "size"), EVERYWHERE)
def test_networks_data_and_objectives_of_an_item_go_together(
    name: str, data: str, size: str, prepared: list[tuple[str, Plan]], zoo: Zoo, tmp_path: Path
) -> None:
    path = None if data == "digits" else "somewhere"
    made = paper.make(name, paper.items(), size=size, data=data, path=path, device="cpu", out=tmp_path)
    assert {plan.data.set for _, plan in prepared} == {data}
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    cells = sum(
        len(contenders(text, zoo, plan)) * plan.seeds * (plan.labels.folds or 1)
        for _, plan in prepared
        for text in plan.objectives
    )
    assert len(rows) == cells
    assert "nan" not in made["text"]
    assert "not known" not in made["text"]


# What is read off rows


def test_a_figure_is_read_by_its_path_and_only_off_finished_rows() -> None:
    assert of_row(row("a", test_mre=0.5), "test_mre") == 0.5
    assert of_row(row("a", collapse={"spread": 0.25}), "collapse.spread") == 0.25
    assert of_row(row("a", collapse={"spread": None}), "collapse.spread") is None
    assert of_row(row("a", collapse=None), "collapse.spread") is None
    assert of_row(row("a"), "collapse.spread") is None
    assert of_row(row("a", verdict="diverged@41", collapse={"spread": 0.25}), "collapse.spread") is None
    assert of_row(row("a", verdict="failed: no memory"), "test_mre") is None
    assert of_row(row("a", verdict="planned"), "test_mre") is None


MIXED = [
    *seeds_of("good", "test_mre", [0.5, 0.25, 0.75]),
    *seeds_of("half", "test_mre", [None, 0.5, 1.0]),
    row("wild", 0, verdict="diverged@41", test_mre=0.0),
    *seeds_of("gone", "test_mre", [None, None]),
    *seeds_of("once", "test_mre", [0.25]),
]


def test_means_are_over_the_finished_seeds_and_leave_out_who_has_none() -> None:
    assert means(MIXED, "test_mre") == {"good": 0.5, "half": 0.75, "once": 0.25}
    assert means(MIXED, "collapse.spread") == {}
    assert means([], "test_mre") == {}


def test_a_table_has_a_line_a_contender_in_plan_order_with_its_mean_interval_and_verdicts() -> None:
    heading, *lines = table_of(MIXED, {"test_mre": "test MRE", "collapse.spread": "spread"}).splitlines()
    assert heading.split() == ["test", "MRE", "spread", "seeds"]
    assert [line.split()[0] for line in lines] == ["good", "half", "wild", "gone", "once"]
    # Student's t of 2 degrees of freedom at 97.5 %: 4.302653; the standard error of 0.5, 0.25, 0.75 is 0.25 / sqrt 3
    half = 4.302653 * 0.25 / math.sqrt(3)
    assert lines[0].split() == ["good", "0.5000", f"{0.5 - half:.3f}", f"{0.5 + half:.3f}", "-", "3", "done"]
    assert lines[1].split()[1] == "0.7500"
    assert lines[1].endswith("2 done, failed: out of memory")
    assert lines[2].split() == ["wild", "-", "-", "diverged@41"]
    assert lines[3].split()[:3] == ["gone", "-", "-"]
    assert lines[3].endswith("2 x failed: out of memory")
    assert lines[4].split() == ["once", "0.2500", "-", "1", "done"]
    assert len({line.index(" 3 done") for line in lines[:1]} | {heading.index(" seeds")}) == 1


def test_a_difference_is_paired_by_seed() -> None:
    rows = [
        *seeds_of("one", "test_mre", [0.5, 0.75, 1.0, None]),
        *[row("other", seed, test_mre=value) for seed, value in ((2, 0.5), (1, 0.5), (3, 9.0), (0, 0.5))],
    ]
    d = paired(rows, "test_mre", "one", "other")
    assert d is not None
    assert (d.mean, d.pairs) == (pytest.approx(0.25), 3)
    # the signs of 0, 0.25, 0.5 flipped: of 8 means 4 are as far from 0 as theirs
    assert d.p == pytest.approx(0.5)
    half = 4.302653 * 0.25 / math.sqrt(3)
    assert difference(rows, "test_mre", "one", "other") == (
        f"+0.2500 (95 % interval {0.25 - half:+.4f} to {0.25 + half:+.4f}, p = 0.500, 3 seeds)"
    )
    assert difference(rows, "test_mre", "other", "one").startswith("-0.2500 (95 % interval ")


def test_a_difference_of_one_seed_has_no_interval_and_one_of_none_is_not_known() -> None:
    assert difference(MIXED, "test_mre", "once", "good") == "-0.2500 (p = 1.000, 1 seed)"
    for one, other in (("gone", "good"), ("good", "gone"), ("half", "once"), ("never", "good"), ("good", "wild")):
        assert paired(MIXED, "test_mre", one, other) is None
        assert difference(MIXED, "test_mre", one, other) == "not known: no seed of both finished"


def test_the_pictures_are_those_of_the_cell_asked_for(tmp_path: Path) -> None:
    rows = [row("a", 0), row("a", 1), row("b", 0, fold=0), row("b", 0, fold=1)]
    for i, found in enumerate(rows):
        folder = tmp_path / "cells" / f"{found['label']}-seed{found['seed']}-{found['cell'][:8]}"
        folder.mkdir(parents=True)
        np.savez(folder / "pictures.npz", samples=np.array([i]))
    run = Compared(tmp_path, rows, "")
    assert [int(run.pictures("a")["samples"][0]), int(run.pictures("a", 1)["samples"][0])] == [0, 1]
    assert int(run.pictures("b")["samples"][0]) == 2


# Figures 2 to 8 and 10


def test_figure_2_compares_the_margins_and_names_the_feature_network(answered: Any) -> None:
    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        pixels, features = changes["objectives"]
        assert (name, pixels, changes["seeds"]) == ("margins", "ls-gan", 3)
        assert "perceptual" in features
        figures = {"test_mre": 0.5, "hashes": {"z": "1" * 64, "network trained-here": "ab" * 32}}
        return [
            *(row(pixels, seed, **{**figures, "hashes": {}}, collapse={"coverage": 0.5}) for seed in range(3)),
            *(row(features, seed, **figures, collapse={"coverage": 0.75}) for seed in range(3)),
            row(features, 3, verdict="failed: no memory"),
        ]

    text, rows = answered(figure_2.figure_2, rows_of)
    assert len(rows) == 7
    assert "feature network trained-here: sha256 abababababab..." in text
    assert text.count("sha256") == 1
    assert "coverage, ls-gan:margin=perceptual minus ls-gan: +0.2500 (" in text
    assert "test MRE, ls-gan:margin=perceptual minus ls-gan: +0.0000 (" in text


def test_figure_3_is_with_batchnorm_and_subtracts_dcgan_from_ls_gan(answered: Any) -> None:
    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        assert changes["generator.norm"] == "batch"
        assert changes["objectives"] == ["dcgan", "ls-gan"]
        return [
            row("dcgan", test_mre=0.25, collapse={"coverage": 0.25}),
            row("ls-gan", test_mre=0.5, collapse={"coverage": 1.0}),
        ]

    text, _ = answered(figure_3.figure_3, rows_of)
    assert "coverage, ls-gan minus dcgan: +0.7500 (p = 1.000, 1 seed)" in text
    assert "test MRE, ls-gan minus dcgan: +0.2500 (p = 1.000, 1 seed)" in text


@pytest.mark.parametrize(
    ("dcgan", "ls_gan", "said"),
    [
        (
            ([0.5, 0.75], [0.25, 0.0]),
            ([0.5], [0.25]),  # a half is not below a half
            [
                "dcgan collapses without BatchNorm: coverage 0.125 against 0.625 with it.",
                "ls-gan does not collapse without BatchNorm: coverage 0.250 against 0.500 with it.",
            ],
        ),
        (
            ([0.5], [0.0]),
            ([0.25], [0.75]),
            [
                "dcgan collapses without BatchNorm: coverage 0.000 against 0.500 with it.",
                "ls-gan does not collapse without BatchNorm: coverage 0.750 against 0.250 with it.",
            ],
        ),
        (
            ([0.5], [None]),
            ([0.0], [0.5]),
            [
                "dcgan: not known whether it collapses without BatchNorm; there are no two coverages to compare.",
                "ls-gan: not known whether it collapses without BatchNorm; it covers nothing with it either.",
            ],
        ),
    ],
)
def test_figure_4_says_who_collapses_without_batchnorm(dcgan: Any, ls_gan: Any, said: list[str], answered: Any) -> None:
    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        place = {"batch": 0, "none": 1}[changes["generator.norm"]]
        assert name == ("batchnorm", "no-norm")[place]
        path = "collapse.coverage"
        return [*seeds_of("dcgan", path, dcgan[place]), *seeds_of("ls-gan", path, ls_gan[place])]

    text, rows = answered(figure_4.figure_4, rows_of)
    assert [line for line in text.splitlines() if "without BatchNorm" in line] == said
    assert {found["generator_norm"] for found in rows} == {"batch", "none"}


def curve_row(label: str, steps: int, norms: list[float | None], **changes: Any) -> dict[str, Any]:
    points = [{"round": 10 * i, "epoch": i, "gradient_norm": norm} for i, norm in enumerate(norms, start=1)]
    return row(label, curve=points, recipe={"critic_steps": steps}, **changes)


def test_gradient_norms_stand_at_the_critics_steps() -> None:
    found = figure_5.norms(curve_row("a", 3, [None, 0.5, 0.25]))
    assert found == [(60, 0.5), (90, 0.25)]


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ([1.0, 2.0, 4.0], "does not vanish (last / median = 2.00)"),
        ([3.0, 2.0, 0.5, 0.19], "vanishes (last / median = 0.10)"),  # the upper median of four: 2
        ([3.0, 2.0, 0.5, 0.21], "does not vanish (last / median = 0.10)"),
        ([1.0, 1.0, 0.0], "vanishes (last / median = 0.00)"),
        ([1.0, 0.0, 0.0], "vanishes (last / median = 0.00)"),
    ],
)
def test_figure_5_says_whether_the_gradient_vanishes(norms: list[float | None], said: str, answered: Any) -> None:
    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        assert changes["validate_every"] == 1
        assert changes["objectives"] == [f"{o}:critic_steps={i}" for o in ("ls-gan", "dcgan") for i in (1, 3, 5)]
        return [
            curve_row("ls-gan:critic_steps=1", 1, [0.5, 0.5]),
            curve_row("ls-gan:critic_steps=3", 3, norms),
            curve_row("ls-gan:critic_steps=5", 5, [9.0], verdict="diverged@10"),
            curve_row("dcgan:critic_steps=1", 1, [None]),
        ]

    text, rows = answered(figure_5.figure_5, rows_of)
    assert f"ls-gan:critic_steps=3: the gradient {said}." in text
    assert "ls-gan:critic_steps=1: the gradient does not vanish (last / median = 1.00)." in text
    assert "critic_steps=5" not in text
    assert "dcgan" not in text
    last = norms[-1]
    assert last is not None
    factor = max(last, 0.5) / min(last, 0.5) if last else math.inf
    assert f"ls-gan: the last norms of the frequencies differ by a factor of {factor:.2f}." in text
    assert len(rows) == 4


def test_figure_5_draws_a_line_a_frequency_in_powers_of_ten(tmp_path: Path) -> None:
    figure = figure_5.drawn({"ls-gan:critic_steps=3": [(30, 100.0), (60, 0.0)], "dcgan:critic_steps=1": [(10, 0.1)]})
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["ls-gan", "dcgan"]
    assert "log10" in left.get_ylabel()
    lines = {line.get_label(): line.get_xydata().tolist() for line in left.get_lines()}
    assert lines["generator updated every 3"] == [[30.0, 2.0], [60.0, -30.0]]
    assert lines["generator updated every 1"] == []
    assert right.get_lines()[0].get_xydata().tolist() == [[10.0, -1.0]]


def test_figure_6_compares_the_coverage_with_that_of_every_step(answered: Any) -> None:
    covered: dict[str, float | None] = {"1": 0.5, "3": 0.25, "5": None}

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        labels = {text.rpartition("=")[2]: text for text in changes["objectives"]}
        assert set(labels.values()) == {f"ls-gan:critic_steps={i}" for i in (1, 3, 5)}
        return [found for i, label in labels.items() for found in seeds_of(label, "collapse.coverage", [covered[i]])]

    text, _ = answered(figure_6.figure_6, rows_of)
    assert "every 3: coverage 0.250, 0.50 of that with every step." in text
    assert "every 5:" not in text
    covered.update({"1": None, "5": 0.5})
    assert "of that with every step" not in answered(figure_6.figure_6, rows_of)[0]


def test_figure_7_is_the_one_balance_that_figure_8_halves(answered: Any) -> None:
    asked: dict[str, list[str]] = {}

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        asked[name] = changes["objectives"]
        return [row(label, collapse={"class_spread": 0.5}, test_mre=0.25) for label in changes["objectives"]]

    text, _ = answered(figure_7.figure_7, rows_of)
    assert "cls-gan:balance=10" in text
    answered(figure_8.figure_8, rows_of)
    assert asked["classes"] == ["cls-gan:balance=10"]
    balances = [float(label.rpartition("=")[2]) for label in asked["balances"]]
    assert balances[0] == 10
    assert [before / after for before, after in itertools.pairwise(balances)] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("spreads", "said"),
    [
        ([0.8, 0.6, 0.4, 0.2, 0.0], ["by -0.2000 (", "It falls at 4 of 4 halvings, from 0.800 to 0.000."]),
        ([0.5, 0.5, 0.75, 0.5, 0.6], ["by +0.0000 (", "It falls at 1 of 4 halvings, from 0.500 to 0.600."]),
        ([0.8, 0.6, None, 0.2, 0.1], ["by -0.2000 (", "It falls at 2 of 2 halvings, from 0.800 to 0.100."]),
        ([0.8, None, 0.6, None, 0.1], ["by not known: no seed", "Not known whether it falls: no two neighbouring"]),
        ([None] * 5, ["by not known: no seed of both finished.", "Not known whether it falls"]),
    ],
)
def test_figure_8_says_how_often_the_spread_falls(spreads: list[float | None], said: list[str], answered: Any) -> None:
    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        return [
            found
            for label, spread in zip(changes["objectives"], spreads, strict=True)
            for found in seeds_of(label, "collapse.class_spread", [spread])
        ]

    text, _ = answered(figure_8.figure_8, rows_of)
    for words in said:
        assert words in text


def test_figure_10_ranks_here_and_in_the_paper(answered: Any) -> None:
    errors: dict[str, float | None] = dict.fromkeys(figure_10.OBJECTIVES, None)

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        return [found for label in changes["objectives"] for found in seeds_of(label, "test_mre", [errors[label]])]

    errors.update({"dcgan": 0.1, "wgan": 0.3, "ls-gan": 0.2})
    text, _ = answered(figure_10.figure_10, rows_of)
    assert "Order here: dcgan < ls-gan < wgan." in text
    assert "Order in the paper: gls-gan:slope=0.01 < wgan < wgan-gp < ls-gan < dcgan." in text
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["dcgan", "0.1000", "0.1506"],
        ["ls-gan", "0.2000", "0.1166"],
        ["wgan", "0.3000", "0.1109"],
    ]
    errors.update(dict.fromkeys(errors, None))
    assert "Order here: not known, none finished." in answered(figure_10.figure_10, rows_of)[0]


# Figure 9

THE_ISSUES_SLOPES = {-1.0, 0.0, 0.01, 0.2, 0.5, 0.9, 1.0}


@pytest.mark.parametrize("objective", list(figure_9.SPACE))
def test_settings_are_distinct_the_defaults_first_and_the_same_each_time(objective: str, zoo: Zoo) -> None:
    rate = Plan().shared.critic_rate
    tried = figure_9.candidates(objective, 24, rate)
    grid = math.prod(len(values) for values in figure_9.SPACE[objective].values()) * len(figure_9.FACTORS) ** 2
    assert len(tried) == len(set(tried)) == min(24, grid)
    assert tried == figure_9.candidates(objective, 24, rate)
    assert tried[:6] == figure_9.candidates(objective, 6, rate)
    everything = figure_9.candidates(objective, 10_000, rate)
    assert len(everything) == len(set(everything)) == grid
    assert set(tried) <= set(everything)
    (default,) = contenders(objective, zoo, Plan())
    (first,) = contenders(tried[0], zoo, Plan())
    kept = {"hyperparameters", "cost", "cost_hyperparameters", "margin", "margin_hyperparameters"}
    assert first.model_dump(include=kept) == default.model_dump(include=kept)
    assert Plan().shared.model_copy(update=first.recipe_changes) == Plan().shared


@pytest.mark.parametrize("objective", list(figure_9.SPACE))
def test_a_setting_is_a_contender_of_that_label(objective: str, zoo: Zoo) -> None:
    for rate in (0.004, 0.002, 1e-3):
        for text in figure_9.candidates(objective, 24, rate):
            (contender,) = contenders(text, zoo, Plan())
            assert contender.label == text
            for key in ("critic_rate", "generator_rate"):
                assert contender.recipe_changes[key] / rate in (0.5, 1.0, 2.0)


def test_every_slope_of_the_issue_is_in_the_space_and_every_objective_of_the_paper() -> None:
    assert set(figure_9.SPACE["gls-gan"]["slope"]) == THE_ISSUES_SLOPES
    assert set(figure_9.SPACE) == set(figure_9.PAPER["cifar10"]) == {"ls-gan", "gls-gan", "wgan-gp", "wgan", "dcgan"}
    tried = figure_9.candidates("gls-gan", 10_000, 1.0)
    assert {float(text.split("slope=")[1].split(",")[0]) for text in tried} == THE_ISSUES_SLOPES


@pytest.mark.parametrize(
    ("data", "size"), [*((data, "small") for data in figure_9.SMALL), *((data, "paper") for data in figure_9.AT_PAPER)]
)
def test_every_objective_tries_as_many_settings_of_the_plans_own_rate(data: str, size: str, answered: Any) -> None:
    plans: dict[str, Plan] = {}

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        options = Options(Path("x"), size, data, None)
        plans[name] = read_plan(None, **{**data_of(options), **changes})
        return [
            row(label, test_mre=0.5, validation_mre=0.5, curve=[{"validation_mre": 0.5}])
            for label in changes["objectives"]
        ]

    answered(figure_9.figure_9, rows_of, data=data, size=size)
    search, final = plans["search"], plans["comparison"]
    budget = (figure_9.SMALL if size == "small" else figure_9.AT_PAPER)[data].settings
    tried = {o: [text for text in search.objectives if text.startswith(f"{o}:")] for o in figure_9.SPACE}
    assert {len(texts) for texts in tried.values()} == {budget}
    rates = f",critic_rate={search.shared.critic_rate:g},generator_rate={search.shared.generator_rate:g}"
    assert all(texts[0].endswith(rates) for texts in tried.values())
    # What was chosen with some seeds is judged with others, on the same data.
    assert not set(search.seed_range) & set(final.seed_range)
    assert (search.data, search.generator, search.critic) == (final.data, final.generator, final.critic)
    assert search.seeds == 1
    assert len(final.objectives) == 5


def test_the_setting_of_the_least_validation_mre_is_compared_whatever_its_test_mre(answered: Any) -> None:
    compared: list[str] = []

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        labels = changes["objectives"]
        if name == "comparison":
            compared.extend(labels)
            return [
                row(label, seed, test_mre=0.5 - 0.25 * label.startswith("wgan:"), curve=[{"validation_mre": 0.5}])
                for label in labels
                for seed in range(3)
            ]
        rows = []
        for objective in figure_9.SPACE:
            mine = [label for label in labels if label.startswith(f"{objective}:")]
            rows += [row(label, validation_mre=0.5, test_mre=0.1) for label in mine[:3]]
            rows += [row(mine[3], validation_mre=0.25, test_mre=0.9)]
            rows += [row(label, verdict="diverged@3", validation_mre=0.0) for label in mine[4:]]
            if objective == "ls-gan":
                rows[-1:] = [row(mine[-1], validation_mre=0.125, test_mre=0.9)]
        return [found for found in rows if not found["label"].startswith("wgan-gp")] + [
            row(label, verdict="failed: no") for label in labels if label.startswith("wgan-gp")
        ]

    text, rows = answered(figure_9.figure_9, rows_of)
    tried = {o: figure_9.candidates(o, 8, 0.004) for o in figure_9.SPACE}
    assert compared == [tried["ls-gan"][-1], tried["gls-gan"][3], tried["wgan"][3], tried["dcgan"][3]]
    assert "ls-gan 8 settings, gls-gan 8 settings, wgan-gp 8 settings" in text
    assert "No setting of wgan-gp finished." in text
    assert text.count("No setting of") == 1
    assert "the table of comparison" in text
    assert "wgan minus dcgan: -0.2500 (" in text
    assert "ls-gan minus dcgan: +0.0000 (" in text
    assert "wgan-gp minus" not in text
    assert len(rows) == 40 + 12


def test_of_equal_settings_the_first_is_taken_and_none_finished_is_an_error(tmp_path: Path) -> None:
    asked = {"a": ["a:1", "a:2"], "b": ["b:1"]}
    rows = [row("a:2", validation_mre=0.5), row("a:1", validation_mre=0.5), row("b:1", verdict="failed: no")]
    assert figure_9.best(Compared(tmp_path, rows, ""), asked) == {"a": "a:1"}
    with pytest.raises(UserError, match=r"no setting of any objective finished; see .*table\.txt"):
        figure_9.best(Compared(tmp_path, rows[2:], ""), asked)


def test_roughness_is_what_a_curve_rises_over_what_it_falls() -> None:
    def rows(*curves: list[float], verdict: str = "done") -> Rows:
        return [
            row("a", seed, verdict=verdict, curve=[{"validation_mre": value} for value in curve])
            for seed, curve in enumerate(curves)
        ]

    assert figure_9.roughness(rows([1.0, 0.75, 0.5]), "a") == 0
    assert figure_9.roughness(rows([1.0, 0.5, 0.75]), "a") == 0.5  # up 0.25, down from 1 to 0.5
    assert figure_9.roughness(rows([1.0, 0.5, 0.75, 0.5, 0.75]), "a") == 1
    assert figure_9.roughness(rows([1.0, 0.75, 0.5], [1.0, 0.5, 0.75]), "a") == 0.25
    assert figure_9.roughness(rows([0.5, 1.0]), "a") == math.inf
    other = [row("b", curve=[{"validation_mre": 1.0}, {"validation_mre": 2.0}])]
    assert figure_9.roughness([*rows([1.0, 0.5]), *other], "a") == 0
    assert figure_9.roughness([*rows([1.0, 0.5, 0.75]), *rows([1.0, 9.0], verdict="diverged@2")], "a") == 0.5


# Tables 2 and 3


def test_the_grids_are_the_papers() -> None:
    assert (set(classification.BALANCES), set(classification.WEIGHTS)) == ({0.5, 1, 2}, {0.25, 0.5, 1, 2})
    assert classification.FOLDS == 5
    assert (table_2.PAPER.per_class, table_2.PAPER.subsets) == (400, 10)


def test_the_labels_of_the_grids_are_contenders(zoo: Zoo) -> None:
    plan = read_plan(None, **{"measure": "accuracy", "labels.per_class": 1})
    for weight, balance in itertools.product(classification.WEIGHTS, classification.BALANCES):
        texts = (classification.cls_gan(balance, weight), classification.conditional_gan(weight))
        cls, conditional = (contenders(text, zoo, plan)[0] for text in texts)
        assert (cls.label, conditional.label) == texts
        assert (cls.objective, conditional.objective) == ("cls-gan", "conditional-gan")
        assert {key: cls.hyperparameters[key] for key in ("balance", "unlabeled_weight")} == {
            "balance": balance,
            "unlabeled_weight": weight,
        }
        assert conditional.hyperparameters["unlabeled_weight"] == weight
        assert cls.feature_matching == conditional.feature_matching == classification.MATCHING


def folds(label: str, accuracies: list[float | None]) -> Rows:
    return [
        row(label, fold=fold, verdict="failed: no")
        if value is None
        else row(label, fold=fold, validation_accuracy=value)
        for fold, value in enumerate(accuracies)
    ]


def test_the_best_setting_has_the_greatest_mean_over_all_its_folds_and_of_equals_is_the_first(tmp_path: Path) -> None:
    def best(labels: list[str], *rows: Rows) -> str:
        return classification.best(Compared(tmp_path, [found for part in rows for found in part], ""), labels)

    a, b, c = folds("a", [0.5, 0.75]), folds("b", [1.0, 0.5]), folds("c", [0.25, 1.0])
    lucky, other = folds("lucky", [1.0, None]), folds("other", [1.0, 1.0])
    assert best(["a", "b", "c"], a, b, c, other) == "b"
    assert best(["a", "c"], a, b, c) == "a"
    assert best(["c", "a"], a, b, c) == "c"
    assert best(["lucky", "a"], a, lucky) == "a"
    with pytest.raises(UserError, match=r"no setting of lucky finished its cross-validation; see .*table\.txt"):
        best(["lucky:weight=1", "lucky"], lucky)


CLAIMS = (
    ("the generator helps: CLS-GAN beats the supervised network alone", "supervised"),
    ("CLS-GAN beats the conditional GAN", "conditional"),
    ("CLS-GAN beats DCGAN's features with an L2-SVM", "dcgan"),
)


SURE = "95 % interval +0.2500 to +0.2500"


@pytest.mark.parametrize(
    ("above", "said"),
    [
        (
            [0.25] * 8,
            f"confirmed (+0.2500, {SURE}; sign-flip p = 0.0078, 0.0234 after Holm over the claims, 8 subsets).",
        ),
        ([-0.25] * 8, "contradicted (-0.2500, "),
        (
            [0.25] * 6,
            f"not decided (+0.2500, {SURE}; sign-flip p = 0.0312, 0.0938 after Holm over the claims, 6 subsets).",
        ),
        ([0.25, -0.5] * 4, "not decided (-0.1250, "),
        ([0.0] * 8, "not decided (+0.0000, "),
        (
            [0.25, None, 0.5],
            "not decided (+0.3750, 95 % interval -1.2133 to +1.9633; sign-flip p = 0.5000, 1.0000 after",
        ),
        ([0.25], "not decided (+0.2500; sign-flip p = 1.0000, 1.0000 after Holm over the claims, 1 subset)."),
        ([None] * 8, "not known, no subset of both finished."),
    ],
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_claim_is_confirmed_contradicted_or_not_decided(which: int, above: list[float | None], said: str) -> None:
    rivals = [label for _, label in CLAIMS]
    final = [found for label in rivals if label != rivals[which] for found in seeds_of(label, "test_accuracy", [0.5])]
    final += seeds_of(rivals[which], "test_accuracy", [None if d is None else 0.5 - d for d in above])
    final += seeds_of("cls", "test_accuracy", [0.5] * 8)
    found = classification.verdicts(Compared(Path("x"), final, ""), "cls", "conditional")
    assert len(found) == 3
    assert found[which].startswith(f"{CLAIMS[which][0]}: {said}")
    # and whoever failed is CLS-GAN itself
    swapped = [{**r, "label": {"cls": rivals[which], rivals[which]: "cls"}.get(r["label"], r["label"])} for r in final]
    back = classification.verdicts(Compared(Path("x"), swapped, ""), "cls", "conditional")[which]
    opposite = {"confirmed": "contradicted", "contradicted": "confirmed"}
    verdict = said.partition(" (")[0].partition(",")[0]
    assert back.startswith(f"{CLAIMS[which][0]}: {opposite.get(verdict, verdict)}")


def test_the_claims_are_tested_together() -> None:
    rows = seeds_of("cls", "test_accuracy", [0.5] * 8)
    for (_, rival), seeds in zip(CLAIMS, (8, 7, 1), strict=True):
        rows += seeds_of(rival, "test_accuracy", [0.25] * seeds)
    found = classification.verdicts(Compared(Path("x"), rows, ""), "cls", "conditional")
    # p of 2/256, 2/128 and 1; Holm multiplies them by 3, 2 and 1
    for line, words in zip(found, ("confirmed", "confirmed", "not decided"), strict=True):
        assert f": {words} (" in line
    for line, words in zip(found, ("0.0078, 0.0234", "0.0156, 0.0312", "1.0000, 1.0000"), strict=True):
        assert f"sign-flip p = {words} after Holm" in line


@pytest.mark.parametrize(("module", "data"), [(m, d) for m in (table_2, table_3) for d in item_of(m).data])
def test_a_table_chooses_by_folds_of_one_subset_then_compares_all_in_the_same_networks(
    module: ModuleType, data: str, answered: Any
) -> None:
    plans: dict[str, Plan] = {}
    cls, conditional = classification.cls_gan(2, 0.5), classification.conditional_gan(0.25)

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        plans[name] = read_plan(None, **{**data_of(Options(Path("x"), "small", data, None)), **changes})
        return [
            row(label, seed, fold, validation_accuracy=0.5 + 0.25 * (label in (cls, conditional)), test_accuracy=0.5)
            for label in changes["objectives"]
            for seed in range(plans[name].seeds)
            for fold in ([None] if plans[name].labels.folds is None else range(plans[name].labels.folds))
        ]

    text, rows = answered(item_of(module).run, rows_of, data=data)
    choosing, final = plans["cross-validation"], plans["comparison"]
    assert len(choosing.objectives) == len(set(choosing.objectives)) == 3 * 4 + 4
    assert (choosing.labels.folds, choosing.seeds, final.labels.folds) == (5, 1, None)
    matched = f"feature_matching={classification.MATCHING}"
    assert final.objectives == ("supervised", cls, f"cls-gan:balance=2,{matched}", conditional, "dcgan")
    assert 3 * smallest_p(final.seeds) < 0.05  # or none of the three claims could be decided
    for plan in (choosing, final):
        assert plan.measure == "accuracy"
        assert plan.recipe == "shared"
        assert plan.validate_every == plan.epochs
        assert (plan.generator.name, plan.critic.name) == ("table-1", "table-1")
        assert plan.critic.hyperparameters["weight_norm"] is True
        assert plan.critic.hyperparameters["norm"] == "none"
    same = ("generator", "critic", "shared", "batch_size", "z_dim", "data")
    assert all(getattr(choosing, key) == getattr(final, key) for key in same)
    assert choosing.labels.per_class == final.labels.per_class
    labelled = 10 * (final.labels.per_class or 0)
    assert f"on the {labelled} labelled images of one subset:\n  {cls}\n  {conditional}" in text
    assert "the table of comparison" in text
    assert len(rows) == 16 * 5 + 5 * final.seeds


def test_table_3_has_fewer_labels_than_table_2_and_the_papers_thousand() -> None:
    assert table_3.FEWER.per_class < table_2.SMALL["digits"].per_class
    assert table_3.FEWER._replace(per_class=0) == table_2.SMALL["digits"]._replace(per_class=0)
    assert 10 * table_3.SVHN.per_class == 1_000


def test_table_3_at_the_papers_size_has_a_thousand_labels(answered: Any) -> None:
    per_class: list[int] = []

    def rows_of(name: str, changes: dict[str, Any]) -> Rows:
        per_class.append(changes["labels.per_class"])
        return [row(label, validation_accuracy=0.5, test_accuracy=0.5) for label in changes["objectives"]]

    answered(table_3.table_3, rows_of, data="svhn", size="paper")
    answered(table_2.table_2, rows_of, data="cifar10", size="paper")
    assert per_class == [100, 100, 400, 400]


# End to end


class Done(NamedTuple):
    """A command that has ended."""

    status: int

    def poll(self) -> int:
        return self.status

    def kill(self) -> None: ...


def at_once(cores: int, gpus: float, slots: int | None = None) -> Engine:
    """An engine whose only worker is this process: starting another takes seconds."""
    return Engine(lambda command: Done(worker.main(command[len(WORKER) :])), 1)


FEW: dict[str, Any] = {key: value for key, value in TINY.items() if key != "seeds"} | {"data.split": [64, 16, 150]}
"""150 test images: enough of each class to tell of collapse within it."""


@pytest.fixture
def tiny_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The items, asking for a few digits, a few rounds and a narrow network."""
    for module in RUNNERS:
        if module is not classification:
            monkeypatch.setattr(module, "size_of", lambda options: FEW)
    monkeypatch.setattr(figure_9, "SMALL", {"digits": figure_9.Budget(2, {"epochs": 1}, {"seeds": 2})})
    monkeypatch.setattr(figure_9, "SPACE", {name: figure_9.SPACE[name] for name in ("gls-gan", "wgan", "dcgan")})
    changes = {
        **classification.networks(4, 4, 0.1),
        **classification.rates(0.003, 2),
        "z_dim": 3,
        "batch_size": 16,
        "data.split": [200, 16, 150],
    }
    protocol = classification.Protocol(per_class=5, subsets=1, epochs=1, choosing_epochs=1, changes=changes)
    monkeypatch.setattr(table_2, "SMALL", {"digits": protocol})
    monkeypatch.setattr(table_3, "FEWER", protocol._replace(per_class=4))
    for name, few in (("FOLDS", 2), ("BALANCES", (2.0,)), ("WEIGHTS", (0.25,))):
        monkeypatch.setattr(classification, name, few)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "local_engine", at_once)
    monkeypatch.setattr(train, "Networks", partial(Networks, steps=2))


CELLS = {
    "figure-2": {"margins": 2 * 3},
    "figure-3": {"batchnorm": 2},
    "figure-4": {"batchnorm": 2, "no-norm": 2},
    "figure-6": {"frequencies": 3},
    "figure-7": {"classes": 1},
    "figure-8": {"balances": 5},
    "figure-9": {"search": 3 * 2, "comparison": 3 * 2},
    "figure-10": {"reconstructions": 5},
    "table-2": {"cross-validation": (1 + 1) * 2, "comparison": 5},
    "table-3": {"cross-validation": (1 + 1) * 2, "comparison": 5},
}
"""Of each comparison of an item at its tiny size: contenders x seeds or folds."""
ONE_SEED = ("figure-3", "figure-4", "figure-7", "figure-8")
"""At size paper; three at size small."""


def png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 1_000


@pytest.mark.usefixtures("tiny_items", "in_this_process")
@pytest.mark.parametrize("name", CELLS)
def test_an_item_is_trained_measured_and_made_into_a_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "paper" if name in ONE_SEED else "small"
    made = paper.make(name, paper.items(), size=size, data="digits", device="cpu", out=tmp_path, jobs=1)
    rows = rows_in(tmp_path)
    assert {row["verdict"] for row in rows} == {"done"}
    assert len(rows) == sum(CELLS[name].values())
    for run, cells in CELLS[name].items():
        assert len(rows_in(tmp_path / run)) == cells
        assert png(tmp_path / run / "samples.png")
        assert (tmp_path / run / "summary.json").exists()
    text: str = made["text"]
    assert (tmp_path / "table.txt").read_text() == f"{text}\n"
    assert (tmp_path / "item.json").exists()
    for picture in {word.rstrip(".") for word in text.split() if ".png" in word}:
        assert png(tmp_path / picture)
    for row in rows:
        assert row["objective"] in text
    assert "nan" not in text
    assert "not known" not in text or name == "figure-4"  # so young a generator may cover nothing
    if name == "figure-9":
        what_was_best_on_validation_is_compared(tmp_path)
    if name == "table-2":
        all_start_from_the_same_critic_and_labels(tmp_path)
    err = capsys.readouterr().err
    for run, cells in CELLS[name].items():
        assert f"{run}: {cells} cells" in err


def rows_in(run: Path) -> Rows:
    return [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]


def what_was_best_on_validation_is_compared(folder: Path) -> None:
    searched, final = rows_in(folder / "search"), rows_in(folder / "comparison")
    best: dict[str, dict[str, Any]] = {}
    for found in searched:
        if found["validation_mre"] < best.get(found["objective"], {"validation_mre": math.inf})["validation_mre"]:
            best[found["objective"]] = found
    assert {found["label"] for found in final} == {found["label"] for found in best.values()}
    assert {found["seed"] for found in searched} == {figure_9.SEARCH_SEED}
    assert {found["seed"] for found in final} == {0, 1}


def all_start_from_the_same_critic_and_labels(folder: Path) -> None:
    final = {row["label"]: row for row in rows_in(folder / "comparison") if row["seed"] == 0}
    assert {"supervised", "dcgan"} < set(final)
    assert {row["labelled_images"] for row in final.values()} == {50}
    assert len({row["rounds"] for row in final.values()}) == 1
    assert final["dcgan"]["classifier"].startswith("L2-SVM")
    assert final["supervised"]["conditional"]
    for kind in (True, False):  # a conditional game has other inputs, so other networks
        starts = {row["hashes"]["initial critic"] for row in final.values() if row["conditional"] == kind}
        assert len(starts) == 1
    assert {row["test_accuracy"] for row in rows_in(folder / "cross-validation")} == {None}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_items")
def test_figure_5_in_processes_of_its_own_is_drawn_and_made_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = paper.make("figure-5", paper.items(), out=tmp_path, jobs=1)
    assert png(tmp_path / "gradient-norm.png")
    assert made["files"] == [str(tmp_path / "gradient-norm.png"), str(tmp_path / "rows.jsonl")]
    before = {name: (tmp_path / name).read_bytes() for name in ("gradient-norm.png", "rows.jsonl", "table.txt")}
    rounds = {row["label"]: row["rounds"] for row in rows_in(tmp_path)}
    # as many critic steps for all: 8 batches are 8 rounds of 1, 2 of 3 and 1 of 5
    for objective in ("ls-gan", "dcgan"):
        assert [rounds[f"{objective}:critic_steps={i}"] for i in (1, 3, 5)] == [8, 2, 1]

    def never(*_: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(bench, "see_through", never)
    assert paper.make("figure-5", paper.items(), out=tmp_path, jobs=1)["text"] == made["text"]
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
