"""Which games and costs coincide, bound one another or differ, found on random critics and batches in float64.

A game is looked at twice. *On the outputs*: L(x) and L(G(z)) are drawn numbers and L is flat in the images, where a
gradient penalty is a constant: what remains is the game between the two kinds of images. *As played*: a small smooth
network is the critic, with the head, the penalties and the constraint that the game brings.

Numbers refute and do not prove: two games that differ are shown where they do; of two that agree it is said in how many
random games they did.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ganzoo.config import Plan, contenders
from ganzoo.errors import UserError
from ganzoo.lattice.costs import CostTable, cost_table
from ganzoo.lattice.games import CLOSE, GAMES, LEVELS, Answers, answers, pays_for_flatness, played
from ganzoo.lattice.relations import Relation, Same, relation, same_game, same_games, step, told_penalty
from ganzoo.lattice.settings import asked_of
from ganzoo.zoo import Zoo

__all__ = [
    "LEVELS",
    "Answers",
    "Bound",
    "CostTable",
    "Lattice",
    "Relation",
    "Same",
    "answers",
    "asked_of",
    "cost_table",
    "extras",
    "lattice",
    "played",
    "relation",
    "same_game",
    "same_games",
]

TOUCHING = 3e-3
"""A bound is told whose least gap is so small beside its largest one: a bound that is never met says little."""


class Bound(NamedTuple):
    """S of the one is at least S of the other."""

    above: str
    below: str
    games: int
    where: str
    gap: tuple[float, float]


class Lattice(NamedTuple):
    """What was found among all that was looked at."""

    games: int
    families: list[list[Answers]]
    """Whose critics take the same steps on the outputs, the plainest first."""
    bounds: list[Bound]
    extras: dict[str, str]
    """Label -> what the game has besides: penalty, constraint, labels."""
    costs: CostTable
    left_out: list[str]


def lattice(zoo: Zoo, objectives: Sequence[str] = ()) -> Lattice:
    """The objectives (all) at their defaults and with one or two settings at which formulas meet, and all costs.

    A family is told if it holds an objective at its defaults, or two objectives with two settings between them. Raises
    UserError for a name that there is not.
    """
    entries = [zoo.find("objective", name) for name in objectives] or zoo.entries("objective")
    if not entries and not zoo.entries("cost"):
        raise UserError(f"neither an objective nor a cost is installed{zoo.limited}")
    left_out: list[str] = []
    known: list[Answers] = []
    for text in dict.fromkeys(text for entry in entries for text in asked_of(entry, zoo)):
        try:
            (one,) = contenders(text, zoo, Plan())
        except UserError:
            continue  # a value outside the domain
        try:
            known.append(answers(one, zoo))
        except UserError as error:
            left_out.append(str(error))
    families = [_plainest(family) for family in _families(known) if _is_telling(family)]
    shown = [member for family in families for member in family]
    return Lattice(
        games=GAMES,
        families=families,
        bounds=_bounds(known),
        extras={one.label: extras(one) for one in shown},
        costs=cost_table(zoo),
        left_out=left_out,
    )


def _families(known: Sequence[Answers]) -> list[list[Answers]]:
    """By the critic's steps on the outputs; the plainest first, in each family and among them."""
    families: list[list[Answers]] = []
    kinds: dict[bool, list[Answers]] = {False: [], True: []}
    for one in sorted(known, key=lambda one: one.settings):
        kinds[one.non_negative].append(one)
    for kind in kinds.values():
        directions = [torch.nn.functional.normalize(torch.cat(one.critic.gradients), dim=0) for one in kind]
        if not directions:
            continue
        like = torch.stack(directions) @ torch.stack(directions).T > 1 - 1e-9
        taken: set[int] = set()
        for i, one in enumerate(kind):
            if i in taken:
                continue
            alike = [j for j in range(i, len(kind)) if bool(like[i, j]) and j not in taken]
            family = [j for j in alike if j == i or step(one.critic, kind[j].critic).same]
            taken.update(family)
            families.append([kind[j] for j in family])
    return families


def _plainest(family: Sequence[Answers]) -> list[Answers]:
    """Of each objective those with the fewest settings."""
    least: dict[str, int] = {}
    for one in family:
        least[one.objective] = min(one.settings, least.get(one.objective, one.settings))
    return [one for one in family if one.settings == least[one.objective]]


def _is_telling(family: Sequence[Answers]) -> bool:
    """A family with an objective at its defaults, or of two with two settings between them that are not the same."""
    plainest = _plainest(family)
    least = sorted({one.objective: one.settings for one in plainest}.values())
    given = {one.label.partition(":")[2] for one in plainest}
    return least[0] == 0 or (len(least) > 1 and least[0] + least[1] <= 2 and len(given) > 1)


def extras(one: Answers) -> str:
    """What the game has beside its loss on the outputs: `0.1 r1, clips weights`."""
    try:
        game = played(one)
    except UserError as error:
        return f"cannot be played with a small network: {error}"
    return ", ".join(
        filter(
            None,
            (
                told_penalty(one, game),
                "" if game.constrained is None else "constrains the weights",
                "under labels" if one.conditional else "",
                "" if one.unlabeled is None else "a term of unlabelled images",
                "no generator" if one.generator is None else "",
            ),
        )
    )


def _bounds(known: Sequence[Answers]) -> list[Bound]:
    """Between two objectives, one of them at its defaults, with two settings between them at most, where the losses
    come close to one another; what follows from others is left out."""
    nodes: list[Answers] = []
    for one in sorted(known, key=lambda one: one.settings):
        if one.settings > 2 or one.generator is None or pays_for_flatness(one):
            continue
        if not any(torch.allclose(one.values, node.values, equal_nan=True) for node in nodes):
            nodes.append(one)
    if not nodes:
        return []
    values = torch.stack([one.values for one in nodes])  # (nodes, games)
    size = CLOSE * (1 + values.abs())
    above: dict[tuple[int, int], tuple[float, float]] = {}
    for i in range(len(nodes)):
        apart = values[i] - values  # (nodes, games)
        holds = (apart.isnan() | (apart >= -(size + size[i]))).all(dim=1)
        for j in (holds & (apart > size + size[i]).any(dim=1)).nonzero()[:, 0].tolist():
            gaps = apart[j][~apart[j].isnan()]
            above[i, j] = float(gaps.min()), float(gaps.max())
    telling = {
        (i, j): gap
        for (i, j), gap in above.items()
        if nodes[i].objective != nodes[j].objective
        and 0 in (nodes[i].settings, nodes[j].settings)
        and nodes[i].non_negative == nodes[j].non_negative
        and nodes[i].conditional == nodes[j].conditional
        and gap[0] <= TOUCHING * gap[1]
    }
    found = []
    for (i, j), gap in telling.items():
        between = range(len(nodes))
        if any(((i, k) in telling and (k, j) in above) or ((i, k) in above and (k, j) in telling) for k in between):
            continue
        games = int((~(values[i] + values[j]).isnan()).sum())
        where = "L >= 0" if nodes[i].non_negative else "any L"
        found.append(Bound(nodes[i].label, nodes[j].label, games, where, gap))
    return found
