"""What a run came to, for people: tables and figures."""

from pathlib import Path
from typing import Any

from ganzoo.config import Plan
from ganzoo.report import accuracy, ranking


def reported(
    plan: Plan, rows: list[dict[str, Any]], baselines: dict[str, float], folder: Path
) -> tuple[str, dict[str, Any]]:
    """The table of the run in `folder` and its summary as JSON, by what the plan measures."""
    if plan.measure == "mre":
        by_error = ranking.rank(rows, baselines, folder / "cells")
        return ranking.table(by_error), by_error.as_json()
    by_accuracy = accuracy.rank(rows, baselines)
    return accuracy.table(by_accuracy), by_accuracy.as_json()
