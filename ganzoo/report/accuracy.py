"""The ranked table of a run that compares classification: accuracy by objective with its certainty."""

from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from ganzoo.errors import printable
from ganzoo.report.text import INEXACT, as_text, counted, inexact, machines, mixed, named, number, span
from ganzoo.statistics import FEW, Difference, Interval, differences_to, interval_of_mean, reach, smallest_p


class Standing(NamedTuple):
    """One contender over its seeds, each a labelled subset of its own. Accuracies in [0, 1]; higher is better."""

    label: str
    verdicts: tuple[str, ...]
    classifier: str | None
    accuracy: float | None
    """Mean over the finished seeds, those that finished all their folds: on the test images, or on the held-out folds
    of a cross-validation."""
    interval: Interval | None
    difference: Difference | None
    """To the reference; None for the reference itself."""
    inexact: int = 0
    """Finished cells that were resumed where numbers round differently."""


class Ranking(NamedTuple):
    standings: tuple[Standing, ...]
    """Best first; those without a finished seed last. Every planned contender is in it."""
    reference: str
    """The first contender of the plan: what the others are compared with, chosen before the run."""
    baselines: dict[str, float]
    seeds: int
    held_out: bool
    """Accuracies are on held-out folds of the labelled images, to choose by; the test images were not looked at."""
    labelled_images: int
    machines: int = 1
    """On so many that round differently the finished cells were made."""

    def as_json(self) -> dict[str, Any]:
        return {
            "standings": [
                {
                    **s._asdict(),
                    "verdicts": list(s.verdicts),
                    "interval": s.interval and list(s.interval),
                    "difference": s.difference
                    and {**s.difference._asdict(), "interval": s.difference.interval and list(s.difference.interval)},
                }
                for s in self.standings
            ],
            **{key: value for key, value in self._asdict().items() if key != "standings"},
            "smallest_p": smallest_p(self.seeds),
        }


def rank(rows: list[dict[str, Any]], baselines: dict[str, float]) -> Ranking:
    """Rows of one run -> who classifies best, and by how much better than the plan's first contender."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    finished = {label: [r for r in rows if r["label"] == label and r["verdict"] == "done"] for label in labels}
    held_out = any(row["fold"] is not None for row in rows)
    figure = "validation_accuracy" if held_out else "test_accuracy"
    by_seed: dict[str, dict[int, float]] = {}
    for label, seed in dict.fromkeys((row["label"], row["seed"]) for row in rows):
        folds = [row for row in rows if (row["label"], row["seed"]) == (label, seed)]
        # Every fold or none: a mean over the lucky ones would flatter who diverges.
        if all(row["verdict"] == "done" for row in folds):
            by_seed.setdefault(label, {})[seed] = float(np.mean([row[figure] for row in folds]))
    means = {label: float(np.mean(list(values.values()))) for label, values in by_seed.items()}
    reference = labels[0]
    others = {label: values for label, values in by_seed.items() if label != reference}
    differences = differences_to(by_seed[reference], others) if reference in by_seed else {}
    order = sorted(by_seed, key=lambda label: (-len(by_seed[label]), -means[label]))
    standings = [
        Standing(
            label=label,
            verdicts=tuple(row["verdict"] for row in rows if row["label"] == label),
            classifier=finished[label][0]["classifier"] if finished[label] else None,
            accuracy=means.get(label),
            interval=interval_of_mean(list(by_seed[label].values())) if label in by_seed else None,
            difference=differences.get(label),
            inexact=inexact(finished[label]),
        )
        for label in [*order, *(label for label in labels if label not in by_seed)]
    ]
    labelled = next((row["labelled_images"] for done in finished.values() for row in done), 0)
    return Ranking(
        tuple(standings), reference, baselines, len({r["seed"] for r in rows}), held_out, labelled, machines(rows)
    )


def table(ranking: Ranking) -> str:
    """The table as plain text, with its notes."""
    shown = Table(box=None, pad_edge=False, header_style="")
    shown.add_column("")
    shown.add_column("objective", overflow="fold")
    what = "held-out accuracy" if ranking.held_out else "test accuracy"
    for heading in (what, "95 % interval", "- reference", "95 % interval", "p"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("classifier")
    shown.add_column("seeds")
    for place, s in enumerate(ranking.standings, start=1):
        d = s.difference
        shown.add_row(
            str(place) if s.accuracy is not None else "-",
            Text(named(s.label)),
            number(s.accuracy),
            span(s.interval),
            number(d and d.mean, "+.4f"),
            span(d and d.interval, "+.4f"),
            "-" if d is None or d.pairs < 2 else f"{d.p_holm:.3f}",
            Text(printable(s.classifier or "-")),
            Text(counted(s.verdicts, s.inexact)),
        )
    for name, accuracy in sorted(ranking.baselines.items(), key=lambda item: -item[1]):
        shown.add_row("", Text(f"({name})"), f"{accuracy:.4f}", *[""] * 6)
    return as_text(shown, notes(ranking))


def notes(ranking: Ranking) -> list[str]:
    method = "Student's t" if ranking.seeds < FEW else "bootstrap"
    where = (
        "the held-out folds of the labelled images, to choose by: the test images were not looked at"
        if ranking.held_out
        else "the test images, after the last round: nothing was selected on them or on validation"
    )
    reference = f"Reference: {named(ranking.reference)}, the plan's first."
    certainty = f"One seed: neither intervals nor a test. {reference}"
    if ranking.seeds > 1:
        certainty = (
            f"Intervals: {method} over {ranking.seeds} seeds. {reference} p: exact sign-flip test of the paired seeds,"
            f" Holm-corrected; {reach(ranking.seeds, len(ranking.standings))}."
        )
    return [
        f"Accuracy: the share of right classes on {where}. {ranking.labelled_images} labelled images a training, where"
        " not all are labelled each seed's own.",
        certainty,
        *([mixed(ranking.machines)] if ranking.machines > 1 else []),
        *([INEXACT] if any(s.inexact for s in ranking.standings) else []),
    ]
