"""Two runs beside each other: the same instrument, the same conditions, paired by seed; or a line that says why not."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from ganzoo.errors import UserError, did_you_mean
from ganzoo.report.text import as_text, named, number, span
from ganzoo.share.reading import ReadRun
from ganzoo.statistics import FEW, Difference, differences_to, interval_of_mean, smallest_p

INSTRUMENT = ("measure", "test_mre", "test_images", "labels")
"""Keys of a plan that say how the figure is measured: with another one it is another figure."""
QUIET = (
    "checkpoint_seconds", "plugins", "curve_test_images", "control_images", "cost", "margin", "compile", "capture",
    "deterministic", "threads", "processes", "device", "precision", "shared",
)  # fmt: skip
"""Keys of a plan that the rows themselves tell more of: which game, recipe and arithmetic it came to."""
IMPLIED = {
    "epochs": ("rounds",),
    "z_dim": ("z", "initial generator"),
    "batch_size": ("rounds", "data order", "labelled order", "z"),
    "recipe": ("recipe", "rounds"),
    "generator": ("initial generator", "generator's code"),
    "critic": ("initial critic", "critic's code"),
    "data": ("training images", "validation images", "unlabelled images", "labelled images", "data order",
             "labelled order", "rounds"),
    "machine": ("fingerprint",),
    "code": ("code of ganzoo", "generator's code", "critic's code"),
    "selection": (),
    "initial": ("initial generator", "initial critic"),
}  # fmt: skip
"""What may differ on purpose, and what then differs with it."""
SELECTION = ("validate_every", "validation_images", "validation_mre")
"""Keys of a plan by which the epoch is chosen whose test error is told."""

GAME = (
    "objective", "hyperparameters", "cost", "cost_hyperparameters", "margin", "margin_hyperparameters", "sources",
    "recipe", "rounds", "theta_penalty", "r1", "r2", "dragan", "feature_matching", "fingerprint",
)  # fmt: skip
"""Of a row, what makes two cells of one label one game at two seeds."""


class Contender(NamedTuple):
    """One objective of one run, or of both where its cells are the same."""

    label: str
    runs: tuple[int, ...]
    """(1,), (2,) or (1, 2)."""
    figures: dict[int, float]
    """Seed -> figure."""
    difference: Difference | None
    """To the best one."""

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.figures.values())))


class Pair(NamedTuple):
    """One objective that both runs have, and its cells are not the same."""

    label: str
    first: float
    second: float
    difference: Difference
    """Second minus first, over the seeds that both have."""


class Comparison(NamedTuple):
    names: tuple[str, str]
    figure: str
    """`test_mre`, `test_accuracy` or `validation_accuracy`."""
    contenders: tuple[Contender, ...]
    """Best first."""
    pairs: tuple[Pair, ...]
    same: int
    """Cells that both runs have, result for result."""
    differing: tuple[str, ...]
    """What differs on purpose: `epochs (20 and 40)`."""
    caveats: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runs": list(self.names),
            "figure": self.figure,
            "contenders": [
                {
                    "label": one.label,
                    "runs": list(one.runs),
                    "mean": one.mean,
                    "figures": {str(seed): value for seed, value in one.figures.items()},
                    "difference": _difference(one.difference),
                }
                for one in self.contenders
            ],
            "pairs": [{**pair._asdict(), "difference": _difference(pair.difference)} for pair in self.pairs],
            "same_cells": self.same,
            "differing": list(self.differing),
            "notes": list(self.caveats),
        }

    def text(self) -> str:
        """The tables with their notes."""
        parts = [as_text(self._ranking(), [])]
        if self.pairs:
            parts.append(as_text(self._pairs(), []))
        return (
            "\n".join([part.rstrip("\n") + "\n" for part in parts])
            + "\n"
            + as_text(Table.grid(), self._notes()).lstrip("\n")
        )

    def _ranking(self) -> Table:
        shown = _table(
            "", "objective", figure=(*_headings(self.figure), "95 % interval", "- best", "95 % interval", "p")
        )
        shown.add_column("run")
        shown.add_column("seeds")
        for place, one in enumerate(self.contenders, start=1):
            d = one.difference
            shown.add_row(
                str(place),
                Text(named(one.label)),
                number(one.mean),
                span(interval_of_mean(list(one.figures.values()))),
                number(d and d.mean, "+.4f"),
                span(d and d.interval, "+.4f"),
                _p(d),
                ", ".join(map(str, one.runs)),
                str(len(one.figures)),
            )
        return shown

    def _pairs(self) -> Table:
        shown = _table("both have", figure=("run 1", "run 2", "2 - 1", "95 % interval", "p"))
        shown.add_column("pairs")
        for pair in self.pairs:
            d = pair.difference
            shown.add_row(
                Text(named(pair.label)),
                number(pair.first),
                number(pair.second),
                number(d.mean, "+.4f"),
                span(d.interval, "+.4f"),
                _p(d),
                str(d.pairs),
            )
        return shown

    def _notes(self) -> list[str]:
        better = "lower" if self.figure == "test_mre" else "higher"
        seeds = max(len(one.figures) for one in self.contenders)
        method = "Student's t" if seeds < FEW else "bootstrap"
        said = [f"Run 1: {named(self.names[0])}. Run 2: {named(self.names[1])}."]
        said.append(
            f"{_headings(self.figure)[0]}: {better} is better. Intervals: {method} over seeds. p:"
            " exact sign-flip test of the seeds that both have, Holm-corrected in each table; no p of"
            f" {seeds} seeds is below {smallest_p(seeds):.4g}. The best is chosen by these same figures, so differences"
            " to it lean its way."
        )
        if self.same:
            said.append(
                f"{self.same} cell{'s are' if self.same > 1 else ' is'} the same in both runs, figure for figure."
            )
        if self.differing:
            said.append(f"The runs differ, on purpose, in {'; '.join(self.differing)}.")
        return [*said, *self.caveats]


def _headings(figure: str) -> tuple[str]:
    return (figure.replace("_", " ").replace("mre", "MRE"),)


def _table(*left: str, figure: Iterable[str]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="")
    for name in left:
        shown.add_column(name, overflow="fold")
    for heading in figure:
        shown.add_column(heading, justify="right", no_wrap=True)
    return shown


def _p(difference: Difference | None) -> str:
    return "-" if difference is None or difference.pairs < 2 else f"{difference.p_holm:.3f}"


def _difference(found: Difference | None) -> dict[str, Any] | None:
    return found and {**found._asdict(), "interval": found.interval and list(found.interval)}


# What can be compared


def compare(first: ReadRun, second: ReadRun, varying: tuple[str, ...] = ()) -> Comparison:
    """Second beside first. `varying`: keys of IMPLIED that differ on purpose.

    Raises UserError, saying what differs, where the figures were not measured alike, or the trainings differ in more
    than their objectives and what is named.
    """
    for key in varying:
        if key not in IMPLIED:
            raise UserError(f"--varying {key}: no such thing{did_you_mean(key, IMPLIED)}")
    for run in (first, second):
        run.require_some()
    _require_instrument(first, second)
    differing = _require_conditions(first, second, set(varying))
    figure = _figure(first)
    ones, twos = _by_label(first, figure), _by_label(second, figure)
    if not any(ones.values()) or not any(twos.values()):
        empty = first if not any(ones.values()) else second
        raise UserError(f"{empty.name} has no seed of which all cells are done")
    pairs, same, merged = _pairs(first, second, ones, twos)
    sign = 1 if figure == "test_mre" else -1
    order = sorted(merged, key=lambda one: (-len(one.figures), sign * one.mean, one.label, one.runs))
    best, *others = order
    found = differences_to(best.figures, {_key(one): one.figures for one in others})
    caveats = [run.caveat for run in (first, second) if run.caveat]
    if any(not set(one.figures) & set(best.figures) for one in others):
        caveats.append("Where no difference stands, there is no seed that the best one has, too.")
    return Comparison(
        (first.name, second.name),
        figure,
        (best, *(one._replace(difference=found.get(_key(one))) for one in others)),
        tuple(pairs),
        same,
        tuple(differing),
        tuple(caveats),
    )


def _key(one: Contender) -> str:
    return f"{one.runs} {one.label}"


def _require_instrument(first: ReadRun, second: ReadRun) -> None:
    one, two = first.plan.model_dump(mode="json"), second.plan.model_dump(mode="json")
    for key in INSTRUMENT:
        if one[key] != two[key]:
            raise UserError(
                f"not measured alike: {told(key, one[key], two[key])}; figures of different kinds are not compared"
            )
    for key, what in (("test images", "the test images"), ("mre", "the search for z"), ("test_images", "their number")):
        for run in (first, second):
            values = {json.dumps(_of(row, key)) for row in (*first.done, *run.done)}
            if len(values) > 1:
                raise UserError(f"not measured alike: {what} differ between {first.name} and {second.name}")


def _of(row: dict[str, Any], key: str) -> Any:
    return row["hashes"].get(key) if key == "test images" else row.get(key)


def _require_conditions(first: ReadRun, second: ReadRun, varying: set[str]) -> list[str]:
    """What differs, as it is told. Raises UserError for what is not among `varying`."""
    found: dict[str, str] = {}
    one, two = first.plan.settings, second.plan.settings
    for key in one:
        if key not in (*INSTRUMENT, *QUIET) and one[key] != two[key]:
            found.setdefault("selection" if key in SELECTION else key, told(key, one[key], two[key]))
    implied = {name for key in (*varying, *found) for name in IMPLIED.get(key, ())}
    for name, label, seed in _unlike(first, second):
        if name in implied:
            continue
        key = next((key for key, names in IMPLIED.items() if name in names), name)
        where = "" if seed is None else f" of {label} at seed {seed}"
        found.setdefault(key, f"{name}{where}")
    for key, said in found.items():
        if key not in varying:
            hint = f"; if that is what you compare, say --varying {key}" if key in IMPLIED else ""
            raise UserError(f"not a fair comparison: the runs differ in {said}{hint}")
    for key in sorted(varying - set(found)):
        found[key] = f"nothing of {key}"
    return list(found.values())


def told(key: str, one: Any, two: Any) -> str:
    if isinstance(one, dict) and isinstance(two, dict):
        inner = next(name for name in (*one, *two) if one.get(name) != two.get(name))
        return told(f"{key}.{inner}", one.get(inner), two.get(inner))
    return f"{key} ({_short(one)} and {_short(two)})"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unlike(first: ReadRun, second: ReadRun) -> list[tuple[str, str, int | None]]:
    """(what, label, seed) of what should be one in both runs and is not: of each kind the first."""
    found: dict[str, tuple[str, str, int | None]] = {}
    if first.core != second.core or len(first.core) > 1:
        found["code of ganzoo"] = ("code of ganzoo", "", None)
    known: dict[tuple[Any, ...], Any] = {}
    for run in (first, second):
        for row in run.done:
            for name, value in _shared(row, one_recipe=run.plan.recipe == "shared").items():
                kind = row["conditional"] if name.startswith("initial") else False
                seed = None if name in ("fingerprint", "generator's code", "critic's code") else row["seed"]
                if known.setdefault((name, kind, seed, row["fold"]), value) != value:
                    found.setdefault(name, (name, row["label"], row["seed"]))
    order = ("code of ganzoo", "generator's code", "critic's code", "fingerprint")
    return sorted(found.values(), key=lambda one: order.index(one[0]) if one[0] in order else len(order))


def _shared(row: dict[str, Any], *, one_recipe: bool) -> dict[str, Any]:
    """What two cells of one seed have in common if only their objectives differ."""
    hashes = {name: value for name, value in row["hashes"].items() if not name.startswith("network ")}
    codes = {
        f"{key.partition('/')[0]}'s code": value
        for key, value in row["sources"].items()
        if key.startswith(("generator/", "critic/"))
    }
    found = {**hashes, **codes, "fingerprint": row["fingerprint"]}
    if one_recipe and not row["recipe_changes"]:
        found |= {"recipe": row["recipe"], "rounds": row["rounds"]}
    return found


def _figure(run: ReadRun) -> str:
    if run.plan.measure == "mre":
        return "test_mre"
    return "test_accuracy" if run.plan.labels.folds is None else "validation_accuracy"


def _by_label(run: ReadRun, figure: str) -> dict[str, dict[int, float]]:
    """Label -> seed -> figure, of the seeds of which every fold is done: of the lucky ones alone it would flatter."""
    found: dict[str, dict[int, float]] = {}
    for label, seed in dict.fromkeys((row["label"], row["seed"]) for row in run.rows):
        rows = [row for row in run.rows if (row["label"], row["seed"]) == (label, seed)]
        if all(row["verdict"] == "done" for row in rows) and len(rows) == (run.plan.labels.folds or 1):
            found.setdefault(label, {})[seed] = float(np.mean([row[figure] for row in rows]))
    return found


def _pairs(
    first: ReadRun, second: ReadRun, ones: dict[str, dict[int, float]], twos: dict[str, dict[int, float]]
) -> tuple[list[Pair], int, list[Contender]]:
    """What both have and is not the same; how many cells are the same; all contenders of both."""
    cells = {row["cell"]: row for row in first.done}
    same = [row for row in second.done if row["cell"] in cells and _result(row) == _result(cells[row["cell"]])]
    contenders: list[Contender] = []
    differing: dict[str, dict[int, float]] = {}
    for label in dict.fromkeys((*ones, *twos)):
        one, two = ones.get(label, {}), twos.get(label, {})
        common = [seed for seed in one if seed in two]
        # One game at other seeds, or the same cells again: not two contenders.
        if one and two and all(one[seed] == two[seed] for seed in common) and _same_game(first, second, label):
            contenders.append(Contender(label, (1, 2), {**one, **two}, None))
            continue
        contenders += [Contender(label, (place,), of, None) for place, of in ((1, one), (2, two)) if of]
        if common:
            differing[label] = {seed: two[seed] - one[seed] for seed in common}
    zeros = {label: dict.fromkeys(values, 0.0) for label, values in differing.items()}
    everywhere = {seed: 0.0 for values in zeros.values() for seed in values}
    tested = differences_to(everywhere, differing) if differing else {}
    pairs = [
        Pair(
            label,
            float(np.mean([ones[label][seed] for seed in values])),
            float(np.mean([twos[label][seed] for seed in values])),
            tested[label],
        )
        for label, values in differing.items()
    ]
    return pairs, len(same), contenders


def _same_game(first: ReadRun, second: ReadRun, label: str) -> bool:
    """Whether its cells differ in nothing but the seed."""
    rows = [row for run in (first, second) for row in run.done if row["label"] == label]
    plans = [{**run.plan.identity, "precision": None} for run in (first, second)]
    return (
        plans[0] == plans[1] and len({json.dumps([row.get(key) for key in GAME], sort_keys=True) for row in rows}) == 1
    )


def _result(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "provenance"}
