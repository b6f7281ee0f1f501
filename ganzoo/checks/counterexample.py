"""What a law says: refuted by this counterexample, silent about this thing, or, of information, this."""

import math
from dataclasses import dataclass
from typing import Any


class Refuted(AssertionError):  # noqa: N818 (what a law is)
    """The counterexample to a law.

    `show` is a statement that fails on it. It may name `entry`, its bound form under the name of its kind (`cost`,
    `margin`), and `torch`. `cure` is what usually helps, where the counterexample tells more than the law alone.
    """

    def __init__(self, message: str, show: str | None = None, cure: str | None = None, **counterexample: Any) -> None:
        super().__init__(message)
        self.message, self.show, self.cure = message, show, cure
        self.counterexample: dict[str, Any] = plain(counterexample)


class Skipped(Exception):  # noqa: N818 (not an error)
    """The law says nothing about this thing; the text says why."""


@dataclass(frozen=True)
class Told:
    """The answer to a question that is neither good nor bad."""

    message: str
    holds: bool | None
    """True: no counterexample was found. None: no matter of yes and no."""
    counterexample: dict[str, Any] | None = None


def plain(value: Any) -> Any:
    """The value as JSON holds it: NaN, the infinities and whatever is no number stand as text."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return str(value)
