"""The ranking as the page shows it: a table with bars, what it comes to in sentences, the same in LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

from ganzoo.errors import printable
from ganzoo.report import accuracy, ranking
from ganzoo.report.page import drawing, latex
from ganzoo.report.page.contenders import ContenderShown, contenders_of
from ganzoo.report.page.run_folder import RunFolder, pictures_of
from ganzoo.report.text import counted, named, number
from ganzoo.statistics import Difference, Interval


class StandingShown(NamedTuple):
    """A row of the ranked table."""

    place: int | None
    contender: ContenderShown
    mean: float | None
    interval: Interval | None
    difference: Difference | None
    more: list[tuple[float | None, str]]
    """The further figures: what to sort by, what to show."""
    seeds: str
    bar: drawing.Bar | None


Line = tuple[str, float | None, Interval | None, Difference | None, list[tuple[float | None, str]], str]
"""(label, mean, interval, difference, further figures, seeds)."""


class Standings(NamedTuple):
    figure: str
    """What is ranked: `test MRE`."""
    to: str
    """What the others are compared with: `the leader`."""
    headings: list[tuple[str, str]]
    """Of the further figures: what they are called, and what that means."""
    rows: list[StandingShown]
    baselines: list[tuple[str, float]]
    marks: dict[str, float]
    """Where baselines lie on the bars' axis."""
    ticks: tuple[drawing.Tick, ...]
    notes: list[str]
    latex: str
    higher: bool
    """Whether higher is better."""


def standings_of(run: RunFolder) -> Standings:
    if all(row["verdict"] == "planned" for row in run.rows):
        return Standings("", "", [], [], sorted(run.baselines.items()), {}, (), [], "", False)
    return _by_error(run) if run.plan.measure == "mre" else _by_accuracy(run)


def _by_error(run: RunFolder) -> Standings:
    ranked = ranking.rank(run.rows, run.baselines, errors=_image_errors(run))
    others = list(dict.fromkeys(name for s in ranked.standings for name in s.metrics))
    headings = [
        ("last", "test MRE of the last epoch; the ranking takes the epoch that is best on validation"),
        ("gap", "test minus training MRE: above 0 the generator remembers its training images"),
        ("control", "what the search for z leaves of images that the generator made itself: the instrument's floor"),
        *((named(name), "another metric that the plan asks for") for name in others),
    ]
    rows = [
        (s.label, s.test_mre, s.interval, s.difference, [
            (s.test_mre_last, number(s.test_mre_last)), (s.gap, number(s.gap, "+.4f")), (s.control, number(s.control)),
            *((s.metrics.get(name), number(s.metrics.get(name), ".4g")) for name in others),
        ], counted(s.verdicts, s.inexact) + (f", {s.done - s.settled} not settled" if s.done > s.settled else ""))
        for s in ranked.standings
    ]  # fmt: skip
    figures = {
        s.label: [row["test_mre"] for row in run.rows if row["label"] == s.label and row["verdict"] == "done"]
        for s in ranked.standings
    }
    return _shown(run, "test MRE", "leader", headings, rows, figures, ranking.notes(ranked), higher=False)


def _image_errors(run: RunFolder) -> dict[str, dict[int, float]] | None:
    """Of one seed the intervals are over test images: the errors of each contender's; None where any has kept none."""
    if run.plan.seeds > 1:
        return None
    found = {}
    for row in run.rows:
        if row["verdict"] == "done":
            errors = pictures_of(run, row)[0].get("errors")
            if errors is None:
                return None
            found[row["label"]] = dict(enumerate(errors.tolist()))
    return found


def _by_accuracy(run: RunFolder) -> Standings:
    ranked = accuracy.rank(run.rows, run.baselines)
    rows: list[Line] = [
        (s.label, s.accuracy, s.interval, s.difference, [(None, named(s.classifier or "-"))],
         counted(s.verdicts, s.inexact))
        for s in ranked.standings
    ]  # fmt: skip
    what = "validation_accuracy" if ranked.held_out else "test_accuracy"
    figures = {
        s.label: [
            row[what]
            for row in run.rows
            if row["label"] == s.label and row["verdict"] == "done" and row.get(what) is not None
        ]
        for s in ranked.standings
    }
    name = "held-out accuracy" if ranked.held_out else "test accuracy"
    headings = [("classifier", "what tells the class")]
    return _shown(run, name, "reference", headings, rows, figures, accuracy.notes(ranked), higher=True)


def _shown(
    run: RunFolder,
    figure: str,
    to: str,
    headings: list[tuple[str, str]],
    rows: list[Line],
    figures: dict[str, list[float]],
    notes: list[str],
    *,
    higher: bool,
) -> Standings:
    contenders = {contender.label: contender for contender in contenders_of(run)}
    spans = {label: (figures[label], mean, interval) for label, mean, interval, *_ in rows if mean is not None}
    made, marks, ticks = drawing.bars(spans, run.baselines)
    shown = []
    place = 0
    for label, mean, interval, difference, more, seeds in rows:
        place += mean is not None
        shown.append(
            StandingShown(
                place if mean is not None else None, contenders[label], mean, interval, difference, more, seeds,
                made.get(label),
            )
        )  # fmt: skip
    ordered = sorted(run.baselines.items(), key=lambda item: item[1], reverse=higher)
    return Standings(
        figure, to, headings, shown, ordered, marks, ticks, [printable(note) for note in notes],
        _latex(run, figure, to, shown, ordered), higher,
    )  # fmt: skip


def p_of(difference: Difference | None) -> str:
    """Holm's p as the table has it."""
    return "-" if difference is None or difference.pairs < 2 else f"{difference.p_holm:.3f}"


def _latex(run: RunFolder, figure: str, to: str, rows: list[StandingShown], baselines: list[tuple[str, float]]) -> str:
    def math_of(text: str) -> str:
        return "--" if text == "-" else f"${text}$"

    def interval_of(found: Interval | None, form: str = ".4f") -> str:
        return "--" if found is None else f"$[{found.low:{form}}, {found.high:{form}}]$"

    lines = [
        [
            latex.escaped(row.contender.label), math_of(number(row.mean)), interval_of(row.interval),
            math_of(number(row.difference and row.difference.mean, "+.4f")),
            interval_of(row.difference and row.difference.interval, "+.4f"), math_of(p_of(row.difference)),
        ]
        for row in rows
    ]  # fmt: skip
    headings = ["objective", figure, r"95\,\% interval", f"$-$ {to}", r"95\,\% interval", "$p$"]
    caption = (
        f"{figure[0].upper()}{figure[1:]} on {latex.escaped(run.plan.data.set)}, {run.plan.seeds} seed"
        f"{'s' * (run.plan.seeds > 1)}; $p$: exact sign-flip test of the paired seeds, Holm-corrected."
    )
    rest = [[f"({latex.escaped(name)})", f"${value:.4f}$"] for name, value in baselines]
    return latex.latex_table(headings, lines, rest, caption)


class Verdict(NamedTuple):
    """The ranking in sentences; a name and what is said of it."""

    leader: str
    text: str
    rest: list[str]


def verdict_of(run: RunFolder, standings: Standings) -> Verdict | None:
    finished = [row for row in standings.rows if row.mean is not None]
    if not finished:
        return None
    first = finished[0]
    assert first.mean is not None
    seeds = len(first.contender.done)
    least = "highest" if standings.higher else "lowest"
    within = f" (95 % interval {first.interval.low:.4f} to {first.interval.high:.4f})" if first.interval else ""
    text = f"has the {least} {standings.figure}: {first.mean:.4f}{within}, over {seeds} seed{'s' * (seeds != 1)}."
    rest = []
    compared = [row for row in finished if row.difference is not None and row.difference.pairs > 1]
    apart = [row.contender.name for row in compared if row.difference and row.difference.p_holm < 0.05]
    level = [row.contender.name for row in compared if row.difference and row.difference.p_holm >= 0.05]
    other = "the leader" if standings.to == "leader" else f"the reference, {named(standings_reference(run))},"
    if apart:
        rest.append(f"Apart from {other} at p < 0.05 after Holm's correction: {_listed(apart)}.")
    if level:
        rest.append(f"Not told from {other} by these seeds: {_listed(level)}.")
    if not compared and len(finished) > 1:
        rest.append("With one seed no difference can be tested.")
    better = [
        f"{named(name)} ({value:.4f})"
        for name, value in standings.baselines
        if (value > first.mean if standings.higher else value < first.mean)
    ]
    if better:
        rest.append(f"Better without any training: {_listed(better)}.")
    return Verdict(first.contender.name, text, rest)


def standings_reference(run: RunFolder) -> str:
    label: str = run.rows[0]["label"]
    return label


def _listed(names: Sequence[str], most: int = 8) -> str:
    names = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
