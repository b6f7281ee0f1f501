"""The figures, tables and theorems of Qi 2017 (arXiv 1701.06264), each made anew by `ganzoo paper NAME`.

One module an item, named after it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganzoo.paper import Item  # with torch, which whoever asks for the names alone need not wait for

NAMES = (
    *(f"figure-{i}" for i in range(1, 11)),
    *(f"table-{i}" for i in (1, 2, 3)),
    "consistency",
    "generalization",
)


def items() -> "dict[str, Item]":
    """Name -> item, in the paper's order."""
    return {name: import_module(f"ganzoo_paper.{name.replace('-', '_')}").ITEM for name in NAMES}
