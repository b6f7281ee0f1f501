"""Folders of runs that nobody trained: every file that a page reads, with figures of one's choice."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.bench import FORMAT
from ganzoo.config import read_plan
from ganzoo.durable import commit, commit_sealed, sealed_line

BASELINES = {"nearest training image": 0.16, "pca-10": 0.2, "training mean": 0.4, "untrained generator": 0.7}


def made_row(label: str, seed: int, test_mre: float, **changes: Any) -> dict[str, Any]:
    """A finished cell's row, as `ganzoo bench` writes it."""
    curve = [
        {
            "epoch": epoch,
            "round": 28 * epoch,
            "critic_loss": None if epoch == 0 else 1 / (1 + epoch),
            "generator_loss": None if epoch == 0 else 0.5,
            "gradient_norm": None if epoch == 0 else 2.0,
            "validation_mre": test_mre + 0.5 * 0.6**epoch,
        }
        for epoch in range(0, 13, 2)
    ]
    return {
        "label": label,
        "seed": seed,
        "fold": None,
        "cell": f"{label}-{seed}",
        "verdict": "done",
        "objective": label.partition(":")[0],
        "hyperparameters": {},
        "cost": None,
        "cost_hyperparameters": {},
        "margin": "lp",
        "margin_hyperparameters": {"p": 1.0, "scale": 2.4576},
        "sources": {f"objective/{label}": "0" * 64},
        "hashes": {"test images": "1" * 64},
        "fingerprint": {"torch": "2.15.0", "device": "cpu"},
        "notes": [],
        "inexact": False,
        "curve": curve,
        "test_mre": test_mre,
        "test_mre_last": test_mre,
        "best_epoch": 12,
        "gap": 0.004,
        "control_mre": 0.0001,
        "test_mre_any_label": None,
        "test_mre_own_label": None,
        "label_images": None,
        "test_images": 120,
        "settled": True,
        "mre": "mre2-test",
        "validation_mre_protocol": "mre2-validation",
        "collapse": {"spread": 0.95, "coverage": 0.9, "least_spread": None},
        "lipschitz": {"gradient": 1.9, "secant": 0.7, "product": 25.0},
        "health": {
            "violation_rate": 0.75,
            "mean_margin": 1.2,
            "critic_gap": 0.6,
            "critic_gap_test": 0.5,
            "dead_outputs": 0.0,
            "generator_gradient": 1.1,
            "saturation": 0.05,
        },
        "provenance": {"command": "ganzoo bench", "attempt": 1},
        **changes,
    }


def planned(label: str, seed: int, **changes: Any) -> dict[str, Any]:
    """The row of a cell that has none yet."""
    return {**made_row(label, seed, 0.1), "verdict": "planned", "curve": [], **changes}


def made_pictures(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What a cell keeps of them: noise, which no format makes small."""
    draw = np.random.default_rng(seed)

    def images(n: int) -> np.ndarray:
        return draw.integers(0, 256, (n, *shape), dtype=np.uint8)

    return {
        "samples": images(64),
        "across": np.int64(8),
        "samples_nearest": images(8),
        "samples_nearest_errors": draw.random(8, dtype=np.float32),
        "originals": images(8),
        "nearest": images(8),
        "nearest_errors": draw.random(8, dtype=np.float32),
        "reconstructions": images(8),
        "errors": draw.random(120, dtype=np.float32),
        "errors_last": draw.random(120, dtype=np.float32),
        **changes,
    }


def made_run(
    folder: Path,
    rows: list[dict[str, Any]],
    pictures: dict[str, Any] | None = None,
    baselines: dict[str, float] | None = BASELINES,
    **plan: Any,
) -> Path:
    """The folder of a run of these rows: a cell for each, `planned` ones without a row. `pictures`: those of each
    finished cell."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    seeds = [row["seed"] for row in rows]
    chosen = {"objectives": labels, "seeds": max(seeds) - min(seeds) + 1, "first_seed": min(seeds), **plan}
    folder.mkdir(parents=True)
    commit(folder / "plan.toml", read_plan(None, **chosen).toml().encode())
    commit_sealed(
        folder / "run.json",
        {"format": FORMAT, "command": "ganzoo bench", "device": "a processor", "versions": {"torch": "2.15.0"}},
    )
    if baselines is not None:
        commit_sealed(folder / "baselines.json", baselines)
    for place, row in enumerate(rows):
        made_cell(folder / "cells" / f"cell-{place:03d}", row, pictures)
    return folder


def made_cell(directory: Path, row: dict[str, Any], pictures: dict[str, Any] | None = None) -> None:
    directory.mkdir(parents=True)
    named = ("label", "objective", "cost", "margin", "cost_hyperparameters", "margin_hyperparameters")
    contender = {key: row[key] for key in named}
    described = {"contender": contender, "seed": row["seed"], "fold": row["fold"]}
    commit(directory / "cell.json", json.dumps(described).encode())
    if row["verdict"] == "planned":
        if row["curve"]:
            commit(directory / "curve.jsonl", b"".join(map(sealed_line, row["curve"])))
        return
    commit_sealed(directory / "row.json", row)
    if pictures is not None and row["verdict"] == "done":
        np.savez(directory / "pictures.npz", **pictures)
