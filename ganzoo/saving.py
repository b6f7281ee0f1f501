"""When a training is saved: at each point of its curve and every so many seconds, as long as that costs little."""

import time
from collections.abc import Callable
from typing import Any

Keep = Callable[[dict[str, Any]], None]
"""Takes the whole state of a training and commits it."""

SHARE = 0.02
"""Of a training's time, what saving may take."""


class Saving:
    """Whether the next save is due, by this process's own clock, and what the saves have cost."""

    def __init__(self, keep: Keep | None, seconds: float, beside: int = 1) -> None:
        """`seconds`: how long a training may go on unsaved; 0: save whenever asked, whatever it costs. `beside`: how
        many trainings share the clock, each of which waits while another is saved."""
        self.keep, self.seconds, self.beside = keep, seconds, beside
        self.spent = 0.0
        """Seconds that saving has taken."""
        self._last, self._cost = time.monotonic(), 0.0

    def due(self, *, point: bool) -> bool:
        """`point`: a point of the curve was just made, a good moment."""
        if self.keep is None:
            return False
        since = time.monotonic() - self._last
        return self.seconds == 0 or ((point or since > self.seconds) and since * SHARE >= self._cost * self.beside)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save now."""
        if self.keep is None:
            return
        began = time.monotonic()
        self.keep(state())
        self._last = time.monotonic()
        self._cost = self._last - began
        self.spent += self._cost
