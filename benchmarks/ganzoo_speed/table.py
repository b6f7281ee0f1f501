"""Rows -> who is how much faster than whom, how near the machine's peak, and which goals are met."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]

OURS = "ganzoo"
UNCAPTURED = "ganzoo, not captured"
COMPILED = "ganzoo, compiled"
PLAIN = "plain"
NOT_LIBRARIES = (OURS, UNCAPTURED, COMPILED, PLAIN)
"""Every other contender counts as a library, PyTorch's example included."""

FASTEST_TIMES = {"dcgan": 3.0, "wgan": 3.0, "wgan-gp": 4.0, "ls-gan": 4.0}
"""Goal: so many times the fastest library of the objective, in our fastest precision."""
FP32_TIMES = 1.1
"""Goal: the same in fp32."""
BF16_SHARE = 0.35
"""Goal: this share of the peak measured in bf16."""


class Judged(NamedTuple):
    """A row that was timed, and what the others make of it."""

    row: Row
    of_library: float | None
    """Times as fast as the fastest library of the objective; None where there is none."""
    of_plain: float | None
    """Times as fast as the plain round."""
    share: float | None
    """Model FLOPs a second as a share of the best that was measured in this precision; None without a measurement."""
    goals: tuple[tuple[str, bool | None], ...]
    """(goal, met or not; None where there is nothing to judge it by)."""


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value that value. ValueError for none."""
    if not values:
        raise ValueError("no value has no quartiles")
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def peaks(rows: Iterable[Row]) -> dict[tuple[int, str], Row]:
    """(threads, precision) -> the row of the roofline with the most GFLOP/s."""
    found: dict[tuple[int, str], Row] = {}
    for row in rows:
        if row["section"] != "roofline":
            continue
        key = (row["threads"], row["precision"])
        if key not in found or row["best_gflops_per_second"] > found[key]["best_gflops_per_second"]:
            found[key] = row
    return found


def fastest_library(rows: Iterable[Row], objective: str, threads: int) -> Row | None:
    """The row of the library with the smallest median for this objective; None where no library was timed."""
    timed = [row for row in _timed(rows, objective, threads) if row["contender"] not in NOT_LIBRARIES]
    return min(timed, key=_seconds, default=None)


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Every timed round with its ratios, its share of the peak and, where it is ours, its goals."""
    best, made = peaks(rows), []
    for row in rows:
        if row["section"] != "rounds" or "skipped" in row:
            continue
        objective, threads = row["what"], row["threads"]
        library = fastest_library(rows, objective, threads)
        plain = next((r for r in _timed(rows, objective, threads) if r["contender"] == PLAIN), None)
        peak = best.get((threads, row["precision"]))
        of_library = None if library is None else library["seconds"] / row["seconds"]
        of_plain = None if plain is None else plain["seconds"] / row["seconds"]
        share = None if peak is None else row["gflops"] / row["seconds"] / peak["best_gflops_per_second"]
        ours = [r for r in _timed(rows, objective, threads) if r["contender"] == OURS]
        is_fastest = bool(ours) and row is min(ours, key=_seconds)
        goals = _goals(row, of_library, share, is_fastest) if row["contender"] == OURS else ()
        made.append(Judged(row, of_library, of_plain, share, goals))
    return made


def _goals(
    row: Row, of_library: float | None, share: float | None, is_fastest: bool
) -> tuple[tuple[str, bool | None], ...]:
    objective = row["what"]
    if objective not in FASTEST_TIMES:
        return ()
    goals: list[tuple[str, bool | None]] = []
    if row["precision"] == "fp32":
        goals.append((f">= {FP32_TIMES:g}x", _at_least(of_library, FP32_TIMES)))
    if is_fastest:
        goals.append((f">= {FASTEST_TIMES[objective]:g}x", _at_least(of_library, FASTEST_TIMES[objective])))
    if row["precision"] == "bf16":
        goals.append((f">= {BF16_SHARE:.0%} of peak", _at_least(share, BF16_SHARE)))
    return tuple(goals)


def _at_least(value: float | None, wanted: float) -> bool | None:
    return None if value is None else value >= wanted


def _timed(rows: Iterable[Row], objective: str, threads: int) -> list[Row]:
    return [
        row
        for row in rows
        if (row["section"], row.get("what"), row.get("threads")) == ("rounds", objective, threads)
        and "skipped" not in row
    ]


def _seconds(row: Row) -> float:
    return float(row["seconds"])


def table(rows: Sequence[Row]) -> str:
    """The rounds and the roofline as text: a block for each number of threads, then notes and who was left out."""
    blocks = []
    for threads in dict.fromkeys(row["threads"] for row in rows if row["section"] == "rounds"):
        mine = [row for row in rows if row["section"] in ("rounds", "roofline") and row["threads"] == threads]
        blocks.append(f"threads: {threads}\n" + aligned([HEAD, *_lines(judged(mine))]))
        blocks.append(
            "peak: "
            + "; ".join(
                f"{precision} {row['best_gflops_per_second']:,.0f} GFLOP/s ({row['what']})"
                for (_, precision), row in sorted(peaks(mine).items())
            )
        )
    return "\n\n".join([*blocks, EXPLAINED, "\n".join(_remarks(rows))]).rstrip()


HEAD = ("objective", "who", "precision", "ms", "quartiles", "x library", "x plain", "GFLOP", "of peak", "goal", "met")
EXPLAINED = """\
ms: median of one critic step + one generator step, with its quartiles. x library, x plain: times as fast as the fastest
library that has the objective, and as the plain round. GFLOP: what the plain round needs, without the gradient of the
critic's weights in the generator's step; of peak: those a second as a share of the best product or convolution that was
measured in this precision. Whoever does with less arithmetic than the plain round thus counts as fast."""
LEFT = ("objective", "who", "precision", "goal", "met")
"""Columns of words."""


def _lines(found: Iterable[Judged]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for one in found:
        row = one.row
        lower, upper = row["quartiles"]
        goals = one.goals or (("", None),)
        lines.append(
            (
                row["what"],
                row["contender"],
                row["precision"],
                f"{row['seconds'] * 1e3:.1f}",
                f"{lower * 1e3:.1f}-{upper * 1e3:.1f}",
                _number(one.of_library, ".2f"),
                _number(one.of_plain, ".2f"),
                f"{row['gflops']:.1f}",
                _number(one.share, ".0%"),
                ", ".join(goal for goal, _ in goals),
                ", ".join(_verdict(goal, met) for goal, met in goals),
            )
        )
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _verdict(goal: str, met: bool | None) -> str:
    if not goal:
        return ""
    return "no library has it" if met is None else ("met" if met else "not met")


def _remarks(rows: Iterable[Row]) -> list[str]:
    """Each reason and each note once."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row["section"] != "rounds":
            continue
        who = f"{row['contender']} {row['version']}"
        if "skipped" in row:
            name = f"skipped: {who} {row['precision']}: {row['skipped']}"
            said.setdefault(name, []).append(row["what"])
        for note in row.get("notes", ()):
            said.setdefault(f"note: {who}: {note}", []).append(row["what"])
    return [f"{text} ({', '.join(dict.fromkeys(what))})" if what else text for text, what in said.items()]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of one width, those of `LEFT` to the left, the others to the right; a rule under the first line."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(len(line) for line in text), *text[1:]])
