"""How the answers of two games compare, which penalty a game has, and whether two are one game."""

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from ganzoo.config import Contender
from ganzoo.errors import UserError
from ganzoo.game import Need, Objective
from ganzoo.lattice.games import CLOSE, PLAYED, Answers, Heard, Played, answers, played
from ganzoo.penalty import PENALTIES, Penalty, unit_gradient
from ganzoo.zoo import Zoo

MOST_COMPARED = 100
"""Contenders of a comparison that `same_games` looks at."""
BASIS: dict[str, Penalty] = {**PENALTIES, "unit_gradient": unit_gradient}
"""Penalties that are told by name."""


class Step(NamedTuple):
    """How the steps of two losses compare."""

    same: bool
    """One's gradient is `factor` times the other's, in all games in which both can play."""
    factor: float
    """> 0 where they are the same."""
    games: int
    worst: int
    """The game in which they differ most."""


def step(one: Heard, other: Heard) -> Step:
    """Whether one loss's gradient is a positive multiple of the other's, always the same one."""
    both = [i for i, pair in enumerate(zip(one.gradients, other.gradients, strict=True)) if all(map(len, pair))]
    pairs = [(one.gradients[i], other.gradients[i]) for i in both]
    if not pairs or any(len(a) != len(b) for a, b in pairs):
        return Step(False, 1.0, 0, -1)
    squares = sum(float(b @ b) for _, b in pairs)
    own = sum(float(a @ a) for a, _ in pairs)
    factor = sum(float(a @ b) for a, b in pairs) / squares if squares else 1.0
    apart = [float((a - factor * b).norm()) for a, b in pairs]
    worst = max(range(len(pairs)), key=lambda i: apart[i] / max(float(pairs[i][0].norm()), 1e-300))
    if not (own or squares):
        return Step(True, 1.0, len(pairs), both[worst])
    same = factor > 0 and all(
        gap <= CLOSE * max(float(a.norm()), factor * float(b.norm()), 1e-6)
        for gap, (a, b) in zip(apart, pairs, strict=True)
    )
    rounded = 1.0 if abs(factor - 1) < CLOSE else factor
    return Step(same, rounded, len(pairs), both[worst])


class Relation(NamedTuple):
    """What is known of two games."""

    one: str
    other: str
    games: int
    """In which both could play, drawn and at levels: those of the bound."""
    steps: int
    """Of the drawn ones, in which the steps were compared."""
    where: str
    """`any L`, `L >= 0`."""
    critic: bool
    """The critic's steps on the outputs are the same up to the factor."""
    factor: float
    """S of the one is `factor` times S of the other, plus `constant`."""
    constant: Literal["none", "fixed", "of the batch", ""]
    """How the losses then differ beyond the factor: not at all, by a number, by one that changes with the images."""
    generator: bool
    generator_factor: float
    bound: Literal[">=", "<=", "=", ""]
    """S of the one against S of the other on the outputs, in every game; `` where neither."""
    gap: tuple[float, float]
    """The least and the largest S - S."""
    witness: str
    """A game in which they differ; empty where none was found."""


def relation(one: Answers, other: Answers) -> Relation:
    """How two games compare on the outputs."""
    found = step(one.critic, other.critic)
    both = ~(one.values.isnan() | other.values.isnan())
    own, others = one.values[both], other.values[both]
    size = CLOSE * (1 + own.abs() + others.abs())
    apart = own - others
    apart = apart.where(apart.abs() > size, torch.zeros_like(apart))  # what rounding leaves is nothing
    bound: Literal[">=", "<=", "=", ""] = ""
    if bool((apart == 0).all()):
        bound = "="
    elif bool((apart >= 0).all()):
        bound = ">="
    elif bool((apart <= 0).all()):
        bound = "<="
    constant: Literal["none", "fixed", "of the batch", ""] = ""
    if found.same:
        left = own - found.factor * others
        if bool((left.abs() <= size).all()):
            constant = "none"
        else:
            constant = "fixed" if bool(((left - left[0]).abs() <= size + size[0]).all()) else "of the batch"
    generator, generator_factor = one.generator is other.generator, 1.0
    if one.generator is not None and other.generator is not None:
        of_generator = step(one.generator, other.generator)
        generator, generator_factor = of_generator.same, of_generator.factor
    return Relation(
        one=one.label,
        other=other.label,
        games=int(both.sum()),
        steps=found.games,
        where="L >= 0" if one.non_negative or other.non_negative else "any L",
        critic=found.same,
        factor=found.factor,
        constant=constant,
        generator=generator,
        generator_factor=generator_factor,
        bound=bound,
        gap=(float(apart.min()), float(apart.max())),
        witness="" if found.same else _witness(one, other, found),
    )


def _witness(one: Answers, other: Answers, found: Step) -> str:
    """The game in which the gradients differ most, in numbers."""
    i = found.worst
    own, others = one.critic.gradients[i], other.critic.gradients[i]
    j = int((own - found.factor * others).abs().argmax())
    count = len(own) // 2
    image = f"L(x_{j + 1})" if j < count else f"L(G(z_{j - count + 1}))"
    values = f"{float(one.critic.values[i]):.6g} and {float(other.critic.values[i]):.6g}"
    slopes = f"{float(own[j]):.6g} and {float(others[j]):.6g}"
    pairs = "1 pair" if count == 1 else f"{count} pairs"
    return f"game {i + 1} of {pairs}: S = {values}, dS/d{image} = {slopes}"


def told_penalty(one: Answers, game: Played) -> str:
    """The penalty by name, `0.1 r1`; `` where there is none, `a penalty of its own` where it is no sum of the known."""
    if float(game.penalty.abs().max()) <= 1e-7 * (1 + float(game.critic.values.abs().max())):
        return ""
    names = list(BASIS)
    heads = one.game.needs & {Need.NON_NEGATIVE, Need.LABELS, Need.UNLABELED}
    basis = _basis(heads)
    table = torch.stack([basis[name] for name in names], dim=1)  # (networks, penalties)
    # The sparsest that fits: one, then two of them.
    for count in (1, 2):
        for chosen in itertools.combinations(range(len(names)), count):
            part = table[:, list(chosen)]
            weights = torch.linalg.lstsq(part, game.penalty[:, None]).solution[:, 0]
            left = (part @ weights - game.penalty).norm()
            if bool((weights > 0).all()) and float(left) <= 1e-7 * float(game.penalty.norm()):
                return " + ".join(f"{float(w):.6g} {names[i]}" for w, i in zip(weights, chosen, strict=True))
    return "a penalty of its own"


@lru_cache(maxsize=8)
def _basis(heads: frozenset[Need]) -> dict[str, Tensor]:
    """(networks,) of each penalty by itself, under the heads that these needs ask for."""

    def alone(penalty: Penalty) -> Tensor:
        game = Objective(lambda critic, real, fake: 0 * critic(real).sum() + penalty(critic, real, fake), needs=heads)
        nothing = Heard(torch.zeros(0), ())
        made = Answers("", "", 0, False, Need.LABELS in heads, nothing, nothing.values, None, None, game, {})
        return played(made).penalty

    return {name: alone(penalty) for name, penalty in BASIS.items()}


class Same(NamedTuple):
    """Two contenders of which no difference was found."""

    one: str
    other: str
    games: int
    factor: float
    """S of the one is so many times S of the other, up to a constant."""
    constant: bool
    """The losses differ by a constant, which moves no weight."""

    @property
    def text(self) -> str:
        how = ""
        if self.factor != 1:
            how = f" up to a factor of {self.factor:.6g} in the critic's loss"
        elif self.constant:
            how = " up to a constant in the critic's loss, which moves no weight"
        return f"{self.one} and {self.other} are the same game{how}: no difference in {self.games} random games"


def same_games(contenders: Iterable[Contender], zoo: Zoo, recipe: Literal["shared", "native"] = "shared") -> list[Same]:
    """The pairs among them that are one game under two names; of more than two the first with each of the others.

    `recipe`: with their native ones two games are the same if these are, too. Some 20 ms a contender; of many only the
    first `MOST_COMPARED` are looked at, and one that cannot be played on made-up images is passed over.
    """
    found: list[Same] = []
    known: list[tuple[Answers, Played]] = []
    for contender in itertools.islice(contenders, MOST_COMPARED):
        try:
            one = answers(contender, zoo)
            mine = played(one)
        except UserError:
            continue
        for other, theirs in known:
            if recipe == "native" and one.game.recipe != other.game.recipe:
                continue
            if (same := same_game(other, one, theirs, mine)) is not None:
                found.append(same)
                break
        else:
            known.append((one, mine))
    return found


def same_game(one: Answers, other: Answers, mine: Played, theirs: Played) -> Same | None:
    """The two as one game: both players' steps on the outputs and as played, the constraint, the recipe's changes."""
    if one.conditional != other.conditional or one.non_negative != other.non_negative:
        return None
    if one.recipe_changes != other.recipe_changes or one.game.needs != other.game.needs:
        return None
    if (mine.constrained is None) != (theirs.constrained is None):
        return None
    if mine.constrained is not None and not torch.equal(mine.constrained, cast(Tensor, theirs.constrained)):
        return None
    known = relation(one, other)
    steps = [step(mine.critic, theirs.critic)]
    if one.unlabeled is not None and other.unlabeled is not None:
        steps.append(step(one.unlabeled, other.unlabeled))
    as_played = all(found.same and math.isclose(found.factor, known.factor, rel_tol=1e-6) for found in steps)
    if not (known.critic and known.generator and as_played):
        return None
    if mine.generator is not None and theirs.generator is not None and not step(mine.generator, theirs.generator).same:
        return None
    return Same(one.label, other.label, known.steps + PLAYED, known.factor, known.constant != "none")
