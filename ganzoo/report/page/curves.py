"""The curves of a run: means over seeds with their range."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ganzoo.report.page import drawing
from ganzoo.report.page.contenders import ContenderShown
from ganzoo.report.page.run_folder import RunFolder, figure_of
from ganzoo.report.text import number


class ChartShown(NamedTuple):
    name: str
    title: str
    description: str
    wide: drawing.Chart
    narrow: drawing.Chart


def series_of(contenders: list[ContenderShown], key: str) -> list[drawing.Series]:
    """A contender's mean over its seeds with their range, over the epochs that all of them reached: of its finished
    seeds where it has any, else of those under way."""
    found = []
    for contender in contenders:
        curves = [points_of(row, key) for row in contender.done or contender.rows]
        curves = [curve for curve in curves if curve]
        if not curves:
            continue
        epochs = [epoch for epoch in curves[0] if all(epoch in curve for curve in curves)]
        values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
        if epochs:
            mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
            found.append(drawing.Series(contender.name, contender.style, epochs, mean, low, high))
    return found


def points_of(row: dict[str, Any], key: str) -> dict[int, float]:
    return {point["epoch"]: point[key] for point in row["curve"] if point.get(key) is not None}


CURVES = {
    "validation_mre": ("Validation MRE over the epochs", "mean |x \N{MINUS SIGN} G(z)|", True),
    "validation_accuracy": ("Validation accuracy over the epochs", "share of right classes", False),
    "critic_loss": ("Critic loss S", "S", False),
    "generator_loss": ("Generator loss T", "T", False),
    "gradient_norm": ("Gradient that reaches the generator", "||\N{NABLA} T||", True),
}


def _chart(run: RunFolder, contenders: list[ContenderShown], key: str, levels: dict[str, float]) -> ChartShown | None:
    series = series_of(contenders, key)
    if not series:
        return None
    title, y_name, log = CURVES[key]
    make = partial(drawing.curves, series, x_name="epoch", y_name=y_name, log=log, levels=levels, until=run.plan.epochs)
    last = ", ".join(f"{one.name} {one.y[-1]:.4g}" for one in series)
    description = (
        f"{title}, the mean over seeds and their range as a band, from epoch {series[0].x[0]} on. At the end: {last}."
    )
    return ChartShown(
        key, title, description,
        make(width=1000.0, height=440.0, labelled=True), make(width=350.0, height=320.0),
    )  # fmt: skip


def chart_of(run: RunFolder, contenders: list[ContenderShown]) -> ChartShown | None:
    levels = {name: value for name, value in run.baselines.items() if run.plan.measure == "mre"}
    return _chart(run, contenders, figure_of(run.plan), levels)


def dynamics_of(run: RunFolder, contenders: list[ContenderShown]) -> list[ChartShown]:
    made = (_chart(run, contenders, key, {}) for key in ("gradient_norm", "critic_loss", "generator_loss"))
    return [chart for chart in made if chart is not None]


def table_of(run: RunFolder, contenders: list[ContenderShown]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The curves in numbers: names, then for at most 21 epochs a figure each."""
    series = series_of(contenders, figure_of(run.plan))
    known = [dict(zip(one.x, one.y, strict=True)) for one in series]
    epochs = sorted({int(x) for one in series for x in one.x})
    every = max(1, math.ceil(len(epochs) / 20))
    kept = sorted({*epochs[::every], *epochs[-1:]})
    rows = [(epoch, [number(of.get(epoch)) for of in known]) for epoch in kept]
    return [one.name for one in series], rows
