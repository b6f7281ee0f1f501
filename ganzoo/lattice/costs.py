"""Costs as functions: which are the same, which lie above which, which break a condition."""

import itertools
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.config import value_of
from ganzoo.errors import UserError, blamed
from ganzoo.lattice.games import CLOSE
from ganzoo.lattice.settings import settings_of
from ganzoo.zoo import Zoo


class CostTable(NamedTuple):
    """Costs as functions."""

    points: int
    """At so many a they were compared."""
    same: list[tuple[str, ...]]
    above: list[tuple[str, str]]
    """(C, C'): C(a) >= C'(a) at all of them; what follows from others is left out."""
    breaks: dict[str, str]
    """Of each cost that breaks (I) or (II): by how much and where."""


def cost_table(zoo: Zoo) -> CostTable:
    """All costs, at their defaults and where formulas meet, as functions on a fixed set of a, in float64."""
    ladder = torch.logspace(-6, 2, 161, dtype=torch.float64)
    a = torch.cat([-ladder, torch.arange(-2000, 2001, dtype=torch.float64) / 100, ladder]).sort().values
    values: dict[str, Tensor] = {}
    for entry in zoo.entries("cost"):
        for setting in ("", *settings_of(entry, zoo)):
            name, _, value = setting.partition("=")
            with suppress(UserError), blamed(f"cost '{entry.name}'"):
                found = entry.bind(**({name: value_of(value)} if setting else {}))(a.clone())
                if isinstance(found, Tensor) and found.shape == a.shape and not found.isnan().any():
                    values[f"{entry.name}:{setting}" if setting else entry.name] = found.detach().double()
    same: list[list[str]] = []
    for label, found in values.items():
        home = next((group for group in same if torch.allclose(values[group[0]], found, rtol=CLOSE, atol=CLOSE)), None)
        if home is None:
            same.append([label])
        else:
            home.append(label)
    same = [sorted(group, key=lambda label: (":" in label, label)) for group in same]
    heads = [group[0] for group in same]
    size = CLOSE * (1 + a.abs())
    over = {
        (one, other)
        for one, other in itertools.permutations(heads, 2)
        if bool((values[one] >= values[other] - size).all())
    }
    above = [
        (one, other) for one, other in sorted(over) if not any((one, c) in over and (c, other) in over for c in heads)
    ]
    breaks = {head: told for head in heads if (told := _broken(a, values[head]))}
    return CostTable(len(a), [tuple(group) for group in same], above, breaks)


def _broken(a: Tensor, c: Tensor) -> str:
    """Which condition C breaks, by how much at most among these a, and where   (Qi 2017, sec. 6.2)."""
    told = []
    size = CLOSE * (1 + a.abs())
    for name, short in (("(I)", a - c), ("(II)", torch.where(a >= 0, (c - a).abs(), 0.0))):
        if bool((short > size).any()):
            worst = int(short.argmax())
            told.append(f"breaks {name} by at most {float(short[worst]):.6g}, at a = {float(a[worst]):.6g}")
        else:
            told.append(f"keeps {name}")
    return " and ".join(told) if any(part.startswith("breaks") for part in told) else ""
