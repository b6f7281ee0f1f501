"""The conversation with a driver: a JSON line in, a JSON line out.

It starts with `{"precision", "objectives", "note"}`; `{"objective", "threads", "rounds"}` is answered with
`{"seconds": [...]}` (`timing.seconds_of`) or `{"error": one line}`; the end of the input ends it.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ganzoo_speed import networks
from ganzoo_speed.timing import Play, seconds_of, usual_precision


class Setting(NamedTuple):
    """What every contender of a measurement shares."""

    batch: int
    width: int
    device: str
    rate: float
    betas: tuple[float, ...]

    def real(self) -> torch.Tensor:
        """A batch of images in [-1, 1], on the device: (N, 3, 32, 32)."""
        shape = (self.batch, networks.CHANNELS, networks.SIDE, networks.SIDE)
        return (2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1).to(self.device)

    @property
    def adam(self) -> dict[str, Any]:
        """Adam's arguments; what else of it there is stays at torch's default."""
        return {"lr": self.rate, "betas": self.betas}


Make = Callable[[Setting], Play]
"""Makes the library's own round for one objective."""


def answer(makers: Mapping[str, Make], *, note: str = "") -> None:
    """Plays what is asked for, objective by objective as it is asked, until the input ends."""
    # The conversation keeps the real standard output; whatever the library prints goes to standard error.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(words: Mapping[str, Any]) -> None:
        out.write(json.dumps(words) + "\n")
        out.flush()

    setting = Setting(**json.loads(sys.argv[1]))
    setting = setting._replace(betas=tuple(setting.betas))
    playing: dict[str, Play] = {}
    say({"precision": usual_precision(setting.device), "objectives": list(makers), "note": note})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            torch.set_num_threads(asked["threads"])
            name = asked["objective"]
            if name not in playing:
                playing[name] = makers[name](setting)
            say({"seconds": seconds_of(playing[name], asked["rounds"], setting.device)})
        except Exception as error:  # noqa: BLE001 (a library may raise anything; the reason goes into the table)
            say({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
