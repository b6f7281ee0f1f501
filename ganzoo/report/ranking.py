"""The ranked table of a run: test MRE by objective with its certainty, beside what a generator has to beat."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from ganzoo.report.text import INEXACT, as_text, counted, few_images, inexact, machines, mixed, named, number, span
from ganzoo.result import read_pictures
from ganzoo.statistics import FEW, Difference, Interval, differences_to, interval_of_mean, reach, smallest_p


class Standing(NamedTuple):
    """One contender over its seeds. MRE: mean |x - G(z)|, pixels in [-1, 1]; lower is better."""

    label: str
    verdicts: tuple[str, ...]
    test_mre: float | None
    """Of the epoch that was best on validation; mean over the finished seeds. None where no seed finished."""
    interval: Interval | None
    test_mre_last: float | None
    gap: float | None
    """Test minus training MRE: above 0, the generator remembers its training images better than it generalises."""
    control: float | None
    """What the optimiser leaves of images that the generator made itself."""
    any_label: float | None
    """Of a conditional game, z and label both sought, on the first `label_images` test images ..."""
    own_label: float | None
    """... and on the same ones under their own labels."""
    label_images: int | None
    settled: int
    """Finished seeds whose validation curve has settled."""
    difference: Difference | None
    """To the leader; None for the leader itself."""
    inexact: int = 0
    """Finished seeds that were resumed where numbers round differently."""
    metrics: dict[str, float] = {}  # noqa: RUF012 (a default of a tuple's field, which nobody writes to)
    """The plan's other metrics, each the mean over the finished seeds."""

    @property
    def done(self) -> int:
        return sum(verdict == "done" for verdict in self.verdicts)


class Ranking(NamedTuple):
    standings: tuple[Standing, ...]
    """Best first; those without a finished seed last. Every planned contender is in it."""
    baselines: dict[str, float]
    protocol: str
    seeds: int
    test_images: int
    over_images: bool
    """With one seed the intervals are over test images: they say nothing about another training."""
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
            "baselines": self.baselines,
            "protocol": self.protocol,
            "seeds": self.seeds,
            "test_images": self.test_images,
            "intervals_over": "test images" if self.over_images else "seeds",
            "smallest_p": smallest_p(self.seeds),
            "machines": self.machines,
        }


def rank(
    rows: list[dict[str, Any]],
    baselines: dict[str, float],
    cells_folder: Path | None = None,
    errors: dict[str, dict[int, float]] | None = None,
) -> Ranking:
    """Rows of one run -> who leads. With one seed and the errors of each contender's test images at hand, given or in
    the cells' pictures, intervals are over test images."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    finished = {label: [r for r in rows if r["label"] == label and r["verdict"] == "done"] for label in labels}
    figures = {label: {r["seed"]: r["test_mre"] for r in done} for label, done in finished.items() if done}
    means = {label: float(np.mean(list(values.values()))) for label, values in figures.items()}
    seeds = len({row["seed"] for row in rows})
    # Whoever finished more seeds comes first: a mean over the lucky ones would flatter who diverges.
    order = sorted(figures, key=lambda label: (-len(figures[label]), means[label]))
    leader = order[0] if order else None
    over_images = seeds == 1 and (cells_folder is not None or errors is not None)
    samples = figures
    if over_images and errors is not None:
        samples = {label: errors[label] for label in figures}
    elif over_images and cells_folder is not None:
        samples = {label: _image_errors(cells_folder, finished[label][0]) for label in figures}
    others = {label: samples[label] for label in order[1:]}
    # Images are no replicates of a training: an interval over them may stand, a test would mislead.
    differences = differences_to(samples[leader], others, tested=not over_images) if leader else {}
    if over_images:
        differences = {label: d._replace(pairs=1) for label, d in differences.items()}
    standings = []
    for label in [*order, *(label for label in labels if label not in figures)]:
        done = finished[label]
        standings.append(
            Standing(
                label=label,
                verdicts=tuple(row["verdict"] for row in rows if row["label"] == label),
                test_mre=means.get(label),
                interval=interval_of_mean(list(samples[label].values())) if label in samples else None,
                test_mre_last=_mean(done, "test_mre_last"),
                gap=_mean(done, "gap"),
                control=_mean(done, "control_mre"),
                any_label=_mean(done, "test_mre_any_label"),
                own_label=_mean(done, "test_mre_own_label"),
                label_images=done[0]["label_images"] if done else None,
                settled=sum(row["settled"] for row in done),
                difference=differences.get(label),
                inexact=inexact(done),
                metrics=_metrics(done),
            )
        )
    first: dict[str, Any] = finished[leader][0] if leader else {"mre": "", "test_images": 0}
    return Ranking(tuple(standings), baselines, first["mre"], seeds, first["test_images"], over_images, machines(rows))


def _metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in rows[0].get("metrics", {}) if all(name in row["metrics"] for row in rows)] if rows else []
    return {name: float(np.mean([row["metrics"][name] for row in rows])) for name in names}


def _mean(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _image_errors(cells_folder: Path, row: dict[str, Any]) -> dict[int, float]:
    directory = next(cells_folder.glob(f"*-{row['cell'][:8]}"))
    return {i: float(error) for i, error in enumerate(read_pictures(directory)["errors"])}


def table(ranking: Ranking) -> str:
    """The table as plain text, with its notes."""
    more = sum(len(name) + 2 for name in _others(ranking))
    return as_text(_table(ranking), notes(ranking), 180 + more)


def _table(ranking: Ranking) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="")
    shown.add_column("")
    shown.add_column("objective", overflow="fold")
    headings = ("test MRE", "95 % interval", "last", "- leader", "95 % interval", "p", "gap", "control")
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    others = _others(ranking)
    for name in others:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("seeds")
    place = 0
    for s in ranking.standings:
        place += s.test_mre is not None
        d = s.difference
        shown.add_row(
            str(place) if s.test_mre is not None else "-",
            Text(named(s.label)),
            number(s.test_mre),
            span(s.interval),
            number(s.test_mre_last),
            number(d and d.mean, "+.4f"),
            span(d and d.interval, "+.4f"),
            "-" if d is None or d.pairs < 2 else f"{d.p_holm:.3f}",
            number(s.gap, "+.4f"),
            number(s.control),
            *(number(s.metrics.get(name), ".4g") for name in others),
            Text(_verdict(s)),
        )
    for name, error in sorted(ranking.baselines.items(), key=lambda item: item[1]):
        shown.add_row("", Text(f"({name})"), f"{error:.4f}", *[""] * (8 + len(others)))
    return shown


def _others(ranking: Ranking) -> list[str]:
    """The plan's other metrics."""
    return list(dict.fromkeys(name for s in ranking.standings for name in s.metrics))


def _verdict(standing: Standing) -> str:
    unsettled = standing.done - standing.settled
    return counted(standing.verdicts, standing.inexact) + (f", {unsettled} not settled" if unsettled else "")


def notes(ranking: Ranking) -> list[str]:
    said = [
        f"MRE: mean |x - G(z)| over {ranking.test_images} test images, pixels in [-1, 1], z sought by"
        f" {ranking.protocol}; lower is better.",
        "test MRE: at the epoch that is best on validation; last: at the last one. gap: test minus training MRE."
        " control: what the search leaves of the generator's own images.",
    ]
    if ranking.over_images:
        said.append(
            "One seed: the intervals are over test images and say nothing about another training; no test is made."
        )
    elif ranking.seeds == 1:
        said.append("One seed: neither intervals nor a test.")
    else:
        method = "Student's t" if ranking.seeds < FEW else "bootstrap"
        said.append(
            f"Intervals: {method} over {ranking.seeds} seeds. p: exact sign-flip test of the paired seeds,"
            f" Holm-corrected; {reach(ranking.seeds, len(ranking.standings))}. The leader is chosen by these same"
            " figures, so differences to it lean its way."
        )
    for s in ranking.standings:
        if s.any_label is not None:
            said.append(
                f"{named(s.label)} is trained on labels, its networks take the class, and each image is sought under"
                f" its own label. On the first {s.label_images} test images: own label {s.own_label:.4f}, best of all"
                f" labels {s.any_label:.4f}."
            )
    if few := few_images(ranking.test_images):
        said.append(few)
    mean = ranking.baselines.get("training mean")
    figures = [s.test_mre for s in ranking.standings if s.test_mre is not None]
    if mean is not None and figures and min(figures) >= mean:
        said.append(
            f"None reconstructs better than one image for all, the training mean ({mean:.4f}): none has learnt much"
            " yet, and their order says little. Train longer."
        )
    if any(s.done > s.settled for s in ranking.standings):
        said.append(
            "not settled: over the last 20 % of the epochs the validation MRE still varied by 5 % or more, or was"
            " measured fewer than 3 times."
        )
    if others := _others(ranking):
        said.append(
            f"{', '.join(others)}: of as many generated images as test images, {ranking.test_images}; on few images"
            " distances come out larger. Of the epoch that is best on validation."
        )
    if any(name.startswith("classifier-") for name in others):
        said.append(
            "classifier-...: of the features of a small classifier trained on this training split; no FID, and"
            " comparable within this split only."
        )
    said += [mixed(ranking.machines)] if ranking.machines > 1 else []
    return [*said, INEXACT] if any(s.inexact for s in ranking.standings) else said
