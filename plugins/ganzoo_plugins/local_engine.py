"""This machine."""

from typing import Annotated

from annotated_types import Ge, Gt, Le

import ganzoo


@ganzoo.engine(name="local")
def local_engine(
    cores: int,
    gpus: float,
    slots: Annotated[int, Ge(1)] | None = None,
    share: Annotated[float, Gt(0), Le(1)] = 1.0,
) -> ganzoo.Engine:
    """Worker processes on this machine: one for every `cores` CPU cores, or one for each GPU; with share = 0.5 two for
    each, and so on. `slots` sets another number."""
    return ganzoo.local_engine(cores, gpus * share, slots)
