"""What a listener is: who hears what a run makes. `ganzoo.delivery` calls it."""

from collections.abc import Callable
from typing import Any, NamedTuple


def nothing(*_: Any) -> None:
    """What a listener does about what it does not care for."""


class Listener(NamedTuple):
    """What a plugin marked `@ganzoo.listener` returns: what to call. Each call has a copy of its own of what it gets.

    `cell` names a training: `label`, `seed`, `fold` (or None), `name` (its folder's, unique in the run), `epochs`.
    """

    row: Callable[[dict[str, Any], dict[str, Any]], None] = nothing
    """(cell, row): a training has a verdict, `row["verdict"]`: done, diverged@ROUND, failed:..., invalid, lost."""
    point: Callable[[dict[str, Any], dict[str, Any]], None] = nothing
    """(cell, point): a point of its curve: `epoch`, `round`, `validation_mre`, losses (None at epoch 0)."""
    pictures: Callable[[dict[str, Any], dict[str, Any]], None] = nothing
    """(cell, pictures): after the row of one that is done: `samples` (N, C, H, W) uint8 and, where images were
    reconstructed, `originals`, `reconstructions`, `errors` (M,)."""
    finished: Callable[[list[dict[str, Any]]], None] = nothing
    """(rows): every planned cell has a verdict; once for each set of rows."""
    close: Callable[[], None] = nothing
    """The command ends: flush what is kept. Called once, after all the others."""
