"""`lattice`."""

import itertools
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say, warn_of_broken, zoo_of
from ganzoo.cli.complete import complete_objective

if TYPE_CHECKING:
    from ganzoo.config import Contender
    from ganzoo.lattice import Answers, CostTable, Lattice

WIDEST = 110
"""Columns that the screen uses at most."""


@app.command("lattice")
def lattice_(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME:key=value]...",
            help="Compare these, pair by pair; one alone with every objective.",
            show_default=False,
            autocompletion=complete_objective,
        ),
    ] = None,
    objectives: Annotated[
        list[str] | None, typer.Option("--objectives", "-o", metavar="NAME", help="Of these only; may be repeated.")
    ] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Which objectives and costs coincide, bound one another or differ, found on random critics and batches."""
    import torch

    torch.set_num_threads(1)  # thousands of tiny losses: more threads only wait for one another
    zoo = zoo_of(plugin)
    width = max(20, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    if names:
        from ganzoo.config import Plan, contenders

        asked = [contender for name in names for contender in contenders(name, zoo, Plan())]
        if len(asked) == 1:
            others = [one for entry in zoo.entries("objective") for one in contenders(entry.name, zoo, Plan())]
            pairs = [(asked[0], other) for other in others if other.label != asked[0].label]
        else:
            pairs = list(itertools.combinations(asked, 2))
        found = list(_compared(pairs, zoo))
        if as_json:
            print_json(found)
        else:
            say("\n\n".join("\n".join(_pair(pair, width)) for pair in found))
        return
    from ganzoo.lattice import lattice

    warn_of_broken(zoo)
    whole = lattice(zoo, objectives or ())
    if as_json:
        print_json(_as_dict(whole))
        return
    say("\n".join(_listing(whole, width)))
    for left_out in whole.left_out:
        say(f"left out: {left_out}", file=sys.stderr)


# Pairs


def _compared(pairs: "Sequence[tuple[Contender, Contender]]", zoo: Any) -> Iterator[dict[str, Any]]:
    from ganzoo.lattice import answers, extras, played, relation, same_game

    known = {one.label: answers(one, zoo) for one in itertools.chain.from_iterable(pairs)}
    at_play = {label: played(one) for label, one in known.items()}
    for first, second in pairs:
        one, other = known[first.label], known[second.label]
        same = same_game(one, other, at_play[one.label], at_play[other.label])
        yield {
            **relation(one, other)._asdict(),
            "same_game": same is not None,
            "besides": [extras(one), extras(other)],
            "told": "" if same is None else same.text,
        }


def _pair(pair: dict[str, Any], width: int) -> Iterator[str]:
    one, other, games = pair["one"], pair["other"], pair["games"]
    yield from _filled(pair["told"] or f"{one} and {other}", width)
    where = "" if pair["where"] == "any L" else f" with {pair['where']}"
    if pair["critic"]:
        factor = "the other's" if pair["factor"] == 1 else f"{pair['factor']:.6g} times the other's"
        constant = {"none": "", "fixed": " plus a number", "of the batch": " plus a constant of the batch"}
        how = f"the same steps on the outputs in {pair['steps']} random games{where}; its loss is {factor}"
        how += constant[pair["constant"]]
    else:
        how = f"differs{where}: {pair['witness']}"
    rows = [("critic", how)]
    if pair["generator"]:
        factor = "" if pair["generator_factor"] == 1 else f", {pair['generator_factor']:.6g} times as large"
        rows.append(("generator", f"the same steps{factor}"))
    else:
        rows.append(("generator", "differs"))
    if pair["bound"] in (">=", "<="):
        least, most = pair["gap"]
        word = "least" if pair["bound"] == ">=" else "most"
        how = f"its loss is at {word} the other's in all {games} games{where}, by {least:.4g} to {most:.4g}"
        rows.append(("bound", how))
    rows.append(("besides", " | ".join(text or "nothing" for text in pair["besides"])))
    for name, text in rows:
        yield from _filled(f"{name:<10} {text}", width, "  ", " " * (13 if width >= 40 else 4))


# The listing


def _listing(found: "Lattice", width: int) -> Iterator[str]:
    from ganzoo.lattice import LEVELS, relation

    games = found.games
    yield from _filled(
        f"Games whose critics take the same steps on L(x) and L(G(z)), in {games} random games; each with what it has"
        " besides",
        width,
    )
    shared = [family for family in found.families if len(family) > 1]
    column = 4 + max((len(one.label) for family in shared for one in family), default=0)
    for family in shared:
        yield ""
        for one in family:
            told = relation(one, family[0])
            notes = [found.extras[one.label]]
            if told.factor != 1:
                notes.append(f"{told.factor:.6g} times the first")
            if told.constant == "of the batch":
                notes.append("plus a constant of the batch")
            if not told.generator:
                notes.append("the generator's step is another")
            yield from _row(one.label, "; ".join(filter(None, notes)), column, width)
    alone = [family[0] for family in found.families if len(family) == 1]
    if alone:
        yield ""
        yield "Like no other"
        yield ""
        for one in alone:
            yield from _row(one.label, found.extras[one.label], column, width)
    if found.bounds:
        yield ""
        yield from _filled(f"Bounds on S (no exception in up to {games + len(LEVELS) ** 2} games)", width)
        yield ""
        for bound in found.bounds:
            where = "" if bound.where == "any L" else f" where {bound.where}"
            yield from _filled(f"{bound.above} >= {bound.below}{where}", width, "  ", "    ")
    yield ""
    yield from _costs(found.costs, width)
    yield ""
    yield from _filled(
        "No difference found is no proof. r1 = E ||grad L(x)||^2 / 2, r2 the same at G(z); `ganzoo lattice A B` tells"
        " more of two.",
        width,
    )


def _costs(costs: "CostTable", width: int) -> Iterator[str]:
    yield from _filled(f"Costs, compared at {costs.points} a", width)
    yield ""
    for group in costs.same:
        if len(group) > 1:
            yield from _filled(" = ".join(group), width, "  ", "    ")
    for chain in _chains(costs.above):
        yield from _filled(" >= ".join(chain), width, "  ", "    ")
    for name, told in costs.breaks.items():
        yield from _filled(f"{name} {told}", width, "  ", "    ")


def _chains(above: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    """The pairs as few long chains."""
    left = list(above)
    while left:
        longest = max((_longest(one, left) for one, _ in left), key=len)
        yield longest
        used = set(itertools.pairwise(longest))
        left = [pair for pair in left if pair not in used]


def _longest(start: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    onward = [_longest(below, pairs) for above, below in pairs if above == start]
    return [start, *max(onward, key=len, default=[])]


def _row(label: str, note: str, column: int, width: int) -> Iterator[str]:
    """Label and note side by side where there is room, else one below the other."""
    if not note:
        yield f"  {label}"
    elif column + min(len(note), 24) <= width:
        yield from _filled(f"{label:<{column - 2}}{note}", width, "  ", " " * column)
    else:
        yield f"  {label}"
        yield from _filled(note, width, "    ", "    ")


def _filled(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _as_dict(found: "Lattice") -> dict[str, Any]:
    from ganzoo.lattice import relation

    def member(one: "Answers", first: "Answers") -> dict[str, Any]:
        told = relation(one, first)
        return {
            "label": one.label,
            "objective": one.objective,
            "besides": found.extras[one.label],
            "factor": told.factor,
            "constant": told.constant,
            "same_generator": told.generator,
        }

    return {
        "games": found.games,
        "families": [[member(one, family[0]) for one in family] for family in found.families],
        "bounds": [bound._asdict() for bound in found.bounds],
        "costs": found.costs._asdict(),
        "left_out": found.left_out,
    }
