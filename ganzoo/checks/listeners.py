"""What a run relies on in a listener: that it takes whatever a run can make, and leaves everything else alone."""

import contextlib
import copy
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.errors import UserError
from ganzoo.listening import Listener

PLAN: dict[str, Any] = {"objectives": ["ls-gan"], "seeds": 2, "epochs": 2, "measure": "mre", "data": {"set": "digits"}}
CELL = {"label": "gls-gan:slope=-0.5,cost=elu", "seed": 0, "fold": None, "name": "gls-gan-seed0-0f1e2d3c", "epochs": 2}
FOLD = {**CELL, "seed": 1, "fold": 3, "name": "gls-gan-seed1-fold3-0a1b2c3d"}
FIRST = {
    "epoch": 0, "round": 0, "critic_loss": None, "generator_loss": None, "gradient_norm": None, "validation_mre": 0.8,
}  # fmt: skip
POINT = {**FIRST, "epoch": 2, "round": 8, "critic_loss": -1.5, "generator_loss": 0.5, "gradient_norm": 0.1}
DONE = {
    "label": CELL["label"], "seed": 0, "fold": None, "cell": "0" * 64, "verdict": "done", "curve": [FIRST, POINT],
    "test_mre": 0.7, "test_mre_any_label": None, "settled": True, "rounds": 8, "hashes": {"z": "1" * 64}, "notes": [],
    "metrics": {"classifier-fd": 3.5},
}  # fmt: skip
ACCURATE = {**FOLD, "cell": "2" * 64, "verdict": "done", "curve": [], "validation_accuracy": 0.5, "test_accuracy": None}
DIVERGED = {**DONE, "verdict": "diverged@3", "reason": "the critic loss is nan"}
FAILED = {key: DONE[key] for key in ("label", "seed", "fold", "cell")} | {
    "verdict": "failed:oom",
    "reason": "no \x1b[1m memory",
}
"""Rows as a run makes them: the last has neither a curve nor a figure."""


def pictures(channels: int, side: int) -> dict[str, Any]:
    """As `ganzoo.result` keeps them, of images of that size."""
    few = np.arange(8 * channels * side * side, dtype=np.uint64).reshape(8, channels, side, side).astype(np.uint8)
    return {
        "samples": np.concatenate([few] * 8), "across": np.array(8), "originals": few,
        "reconstructions": few[::-1].copy(), "errors": np.linspace(0, 1, 20, dtype=np.float32),
    }  # fmt: skip


class Heard:
    """A listener in a folder of its own, and what there is to see of it."""

    def __init__(self, subject: Subject, settings: Settings, folder: Path) -> None:
        self.folder, self.settings = folder, settings
        try:
            made = subject.entry.bind(**settings)(folder, copy.deepcopy(PLAN))
        except UserError as error:  # it says what it needs, in one line
            raise Skipped(str(error)) from None
        except Exception as error:  # noqa: BLE001  a stranger's code may raise anything
            said = f"making it raises {type(error).__name__}: {' '.join(str(error).split())}"
            raise Refuted(said, hyperparameters=settings) from None
        if not isinstance(made, Listener):
            raise Refuted(f"it returns {type(made).__name__}; a ganzoo.Listener is wanted", hyperparameters=settings)
        self.listener = made

    def call(self, what: str, *arguments: Any) -> None:
        try:
            getattr(self.listener, what)(*arguments)
        except BaseException as error:  # SystemExit, too, is a finding
            if isinstance(error, KeyboardInterrupt):
                raise
            said = f"{what} raises {type(error).__name__}: {' '.join(str(error).split())}"
            shown = (
                arguments[-1].get("verdict", arguments[-1].get("epoch", "")) if isinstance(arguments[-1], dict) else ""
            )
            raise Refuted(said, hyperparameters=self.settings, given=str(shown)) from None

    def everything(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What a run can make, in an order in which it can."""
        return [
            ("point", (CELL, FIRST)),
            ("point", (CELL, POINT)),
            ("row", (CELL, DONE)),
            ("pictures", (CELL, pictures(1, 8))),
            ("point", (FOLD, FIRST)),
            ("row", (FOLD, ACCURATE)),
            ("pictures", (FOLD, {"samples": pictures(3, 5)["samples"], "across": np.array(8)})),
            ("row", (CELL, DIVERGED)),
            ("row", (CELL, FAILED)),
            ("finished", ([DONE, ACCURATE, FAILED],)),
        ]

    def all(self) -> None:
        for what, arguments in self.everything():
            self.call(what, *copy.deepcopy(arguments))
        try:
            self.listener.close()
        except Exception as error:  # noqa: BLE001 (a plugin may raise anything)
            raise Refuted(f"close raises {type(error).__name__}: {error}", hyperparameters=self.settings) from None


def _returns(subject: Subject, settings: Settings) -> str | None:
    """A Listener, whose calls are functions."""
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder:
        made = Heard(subject, settings, Path(folder)).listener
        wrong = [name for name, value in made._asdict().items() if not callable(value)]
        made.close()
    if wrong:
        raise Refuted(f"its {', '.join(wrong)} cannot be called", hyperparameters=settings)
    return None


def _takes_everything(subject: Subject, settings: Settings) -> str | None:
    """Rows that are done, diverged and failed, points without losses, pictures of one channel and of three."""
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder, contextlib.redirect_stdout(io.StringIO()):
        Heard(subject, settings, Path(folder)).all()
    return None


def _again(subject: Subject, settings: Settings) -> str | None:
    """A second command, in the folder of the first: that is a resume."""
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder, contextlib.redirect_stdout(io.StringIO()):
        for _ in range(2):
            Heard(subject, settings, Path(folder)).all()
    return None


def _prints_nothing(subject: Subject, settings: Settings) -> str | None:
    """Standard output is the command's: what is printed there would be in the middle of somebody's JSON."""
    out = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder, contextlib.redirect_stdout(out):
        Heard(subject, settings, Path(folder)).all()
    if out.getvalue():
        raise Refuted(f"it prints {out.getvalue()[:80]!r} on standard output", hyperparameters=settings)
    return None


def _stays_at_home(subject: Subject, settings: Settings) -> str | None:
    """Files of its own lie in its own folder, whatever folder the command was started in."""
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as place, contextlib.redirect_stdout(io.StringIO()):
        own, here = Path(place) / "own", Path(place) / "here"
        own.mkdir()
        here.mkdir()
        before = os.getcwd()
        os.chdir(here)
        try:
            Heard(subject, settings, own).all()
            moved = Path.cwd() != here
        finally:
            os.chdir(before)
        found = sorted(path.name for path in here.iterdir())
    if found:
        raise Refuted(
            f"it writes {', '.join(found)[:80]} into the folder of whoever starts it", hyperparameters=settings
        )
    if moved:
        raise Refuted("it changes the command's working folder", hyperparameters=settings)
    return None


LISTENERS = (
    Check("listener-1", "listener", "returns a Listener of functions", True, _returns, drawn=False),
    Check(
        "listener-2",
        "listener",
        "takes every row, point and picture that a run can make",
        True,
        _takes_everything,
        drawn=False,
    ),
    Check(
        "listener-3", "listener", "takes them again in the same folder, as after a resume", True, _again, drawn=False
    ),
    Check("listener-4", "listener", "prints nothing on standard output", True, _prints_nothing, drawn=False),
    Check("listener-5", "listener", "writes in its own folder only", False, _stays_at_home, drawn=False),
)
