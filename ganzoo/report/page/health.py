"""The health of a run's trainings: figures with their meaning, and the alarms."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ganzoo.collapse import expected_coverage
from ganzoo.errors import printable
from ganzoo.health import Alarm, alarms
from ganzoo.report.page.contenders import ContenderShown
from ganzoo.report.page.curves import points_of
from ganzoo.report.page.run_folder import RunFolder


class FigureShown(NamedTuple):
    """One figure of one contender: the mean over its seeds, their range."""

    value: float | None
    text: str
    range: str


class HealthShown(NamedTuple):
    headings: list[tuple[str, str]]
    rows: list[tuple[ContenderShown, list[FigureShown]]]
    seeds: list[tuple[ContenderShown, int, list[FigureShown]]]
    alarms: list[tuple[Alarm, list[str]]]
    """Each with who shows it: the alarms first."""
    measured: bool
    """Whether the run kept what the figures need."""


Pick = Callable[[dict[str, Any]], float | None]


def _in(table: str, key: str) -> Pick:
    return lambda row: (row.get(table) or {}).get(key)


def _last(key: str) -> Pick:
    def pick(row: dict[str, Any]) -> float | None:
        values = list(points_of(row, key).values())
        return values[-1] if values else None

    return pick


FIGURES: dict[str, tuple[str, Pick, str]] = {
    "violation rate": (
        "share of pairs with margin + L(x) \N{MINUS SIGN} L(G(z)) > 0; without a margin: pairs ranked wrongly",
        _in("health", "violation_rate"), ".0%",
    ),
    "mean margin": (
        "mean of \N{GREEK CAPITAL LETTER DELTA}(x, G(z)), in units of the critic", _in("health", "mean_margin"), ".2g"
    ),
    "critic gap": ("E L(G(z)) \N{MINUS SIGN} E L(x) on training images", _in("health", "critic_gap"), ".2g"),
    "on test": ("the same on test images: smaller where the critic remembers", _in("health", "critic_gap_test"), ".2g"),
    "dead outputs": ("share of images where the critic's gradient is exactly 0", _in("health", "dead_outputs"), ".0%"),
    "||\N{NABLA}T||": (
        "norm of the generator's gradient, mean over the rounds since the last but one point of the curve",
        _last("gradient_norm"), ".2g",
    ),
    "Lipschitz \N{GREATER-THAN OR EQUAL TO}": (
        "largest ||grad L(x)|| found: the critic's Lipschitz constant is at least this",
        _in("lipschitz", "gradient"), ".2g",
    ),
    "\N{LESS-THAN OR EQUAL TO}": (
        "product of the layers' norms: it is at most this", _in("lipschitz", "product"), ".2g"
    ),
    "spread": (
        "mean distance between samples / between real images: 1 as diverse as the data, 0 a single image",
        _in("collapse", "spread"), ".2f",
    ),
    "coverage": (
        "share of test images near which a sample lies; a perfect generator has 0.97",
        _in("collapse", "coverage"), ".2f",
    ),
    "saturation": ("share of generated pixels that are black or white", _in("health", "saturation"), ".0%"),
}  # fmt: skip
"""Column -> (what it means, where a row has it, how it is written)."""


def health_of(run: RunFolder, contenders: list[ContenderShown]) -> HealthShown:
    kept = {
        name: given
        for name, given in FIGURES.items()
        if any(given[1](row) is not None for row in run.rows if row["verdict"] == "done")
    }
    rows, seeds = [], []
    said: dict[tuple[str, str], tuple[Alarm, list[str]]] = {}
    for contender in contenders:
        if contender.done:
            rows.append((contender, [_over_seeds(contender.done, *given[1:]) for given in kept.values()]))
        for row in contender.rows:
            if row["verdict"] == "done":
                own = [_over_seeds([row], *given[1:]) for given in kept.values()]
                seeds.append((contender, row["seed"], own))
            images = min(500, int(row.get("test_images") or 500))
            for alarm in alarms(row, expected_coverage(max(images, 6), max(images, 6))):
                whose = f"{contender.name} seed {row['seed']}"
                same = said.setdefault((alarm.name, alarm.level), (alarm, []))
                same[1].append(f"{whose}: {printable(alarm.saw, 300)}")
    ordered = sorted(said.values(), key=lambda one: (one[0].level != "alarm", one[0].name))
    measured = any(row.get("health") for row in run.rows)
    return HealthShown([(name, given[0]) for name, given in kept.items()], rows, seeds, ordered, measured)


def _over_seeds(rows: list[dict[str, Any]], pick: Pick, form: str) -> FigureShown:
    values = [value for row in rows if (value := pick(row)) is not None]
    if not values:
        return FigureShown(None, "\N{EN DASH}", "")
    mean = sum(values) / len(values)
    least, most = f"{min(values):{form}}", f"{max(values):{form}}"
    return FigureShown(mean, f"{mean:{form}}", "" if least == most else f"{least} to {most}")
