"""Figures of a run as PNG: validation curves, samples, reconstructions."""

import io
import warnings
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ganzoo.durable import commit
from ganzoo.errors import printable
from ganzoo.result import read_pictures


def draw(rows: list[dict[str, Any]], baselines: dict[str, float], folder: Path) -> list[Path]:
    """curves.png, samples.png and reconstructions.png in `folder`; the paths of those for which there was anything."""
    drawn = []
    figure = next((name for name in FIGURES if any(name in p for r in rows for p in r.get("curve", []))), None)
    with_curve = [row for row in rows if figure is not None and all(figure in p for p in row.get("curve") or [{}])]
    if with_curve:
        assert figure is not None
        drawn.append(save(curves(with_curve, baselines, figure), folder / "curves.png"))
    pictures = {}
    for row in rows:
        if row["verdict"] == "done" and row["label"] not in pictures:
            directory = next((folder / "cells").glob(f"*-{row['cell'][:8]}"))
            pictures[row["label"]] = read_pictures(directory)
    if pictures:
        drawn.append(save(samples(pictures), folder / "samples.png"))
        if all("reconstructions" in found for found in pictures.values()):
            drawn.append(save(reconstructions(pictures), folder / "reconstructions.png"))
    return drawn


FIGURES = {"validation_mre": "validation MRE, mean |x - G(z)|", "validation_accuracy": "validation accuracy"}
"""What a curve may be of, and how its axis is labelled."""


def curves(rows: list[dict[str, Any]], baselines: dict[str, float], name: str = "validation_mre") -> Figure:
    """Validation MRE (or accuracy) over epochs, the mean over seeds and their range, as in Qi 2017, figure 9."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for label in dict.fromkeys(row["label"] for row in rows):
        # A diverged seed ends early: the band covers the epochs that all seeds reached.
        found = [row["curve"] for row in rows if row["label"] == label]
        length = min(len(curve) for curve in found)
        epochs = [point["epoch"] for point in found[0][:length]]
        values = np.array([[point[name] for point in curve[:length]] for curve in found])
        (line,) = axes.plot(epochs, values.mean(axis=0), label=shown(label))
        axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), alpha=0.2, color=line.get_color())
    for baseline, error in baselines.items():
        if baseline.startswith("pca"):
            axes.axhline(error, color="black", linestyle=":", linewidth=1, label=f"{baseline} (test)")
    axes.set_xlabel("epoch")
    axes.set_ylabel(FIGURES[name])
    if name == "validation_mre":
        axes.set_yscale("log")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks(StrMethodFormatter("{x:.2g}"))
    legend = axes.legend()
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold anything
    axes.grid(alpha=0.3, which="both")
    return figure


TITLE = 44
"""Characters that fit above a grid of samples."""


def shown(label: str, width: int = TITLE) -> str:
    """A contender's name as a figure can carry it, two lines at most: it may hold anything, and `_` would hide it."""
    name = printable(label, 2 * width)
    return fill(f" {name}" if name.startswith("_") else name, width)


def samples(pictures: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Samples of each objective's first seed, all from the same z; a conditional one shows a class a column."""
    columns = min(3, len(pictures))
    lines = -(-len(pictures) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.4 * lines), layout="constrained")
    for place, (label, found) in enumerate(pictures.items(), start=1):
        title = shown(label)
        _show(figure.add_subplot(lines, columns, place), _grid(found["samples"], int(found["across"])), title)
    return figure


def reconstructions(pictures: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Test images and each objective's reconstructions with their mean error, as in Qi 2017, figure 10."""
    figure = Figure(figsize=(8, 1.3 * (len(pictures) + 1)), layout="constrained")
    first = next(iter(pictures.values()))
    count = len(first["originals"])
    _show(figure.add_subplot(len(pictures) + 1, 1, 1), _grid(first["originals"], count), "test images")
    for place, (label, found) in enumerate(pictures.items(), start=2):
        title = f"{shown(label, 2 * TITLE)} ({found['errors'].mean():.4f})"
        _show(figure.add_subplot(len(pictures) + 1, 1, place), _grid(found["reconstructions"], count), title)
    return figure


def _grid(images: np.ndarray, across: int) -> np.ndarray:
    """(N, C, H, W) uint8 -> one (rows * (H + 1), across * (W + 1), C) picture with white lines between."""
    n, channels, height, width = images.shape
    down = -(-n // across)
    canvas = np.full((down * (height + 1), across * (width + 1), channels), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // across) * (height + 1), (i % across) * (width + 1)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def _show(axes: Any, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture.squeeze(), cmap="gray" if picture.shape[-1] == 1 else None, interpolation="nearest")
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_axis_off()


def save(figure: Figure, path: Path, dpi: int = 120) -> Path:
    buffer = io.BytesIO()
    # No date and no version in the file: the same rows give the same bytes.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in any script: a box stands for it
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    commit(path, buffer.getvalue())
    return path
