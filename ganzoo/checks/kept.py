"""What a sweep has done so far, kept in the user's cache folder: a sweep that was interrupted goes on.

One small file a sweep, named after all that its outcome depends on: the cost's source, its hyperparameters, the version
of torch, the device and its kernels, and the code of the sweep. What the cost imports from elsewhere is not in its
source; so the file also holds what C made of a million values, and where that is no longer so, all begins anew.
"""

import hashlib
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

import ganzoo
from ganzoo.checks.counterexample import plain
from ganzoo.checks.exhaustive import Tally
from ganzoo.checks.sweep import float32_values
from ganzoo.durable import commit_sealed, read_sealed
from ganzoo.errors import UserError
from ganzoo.game import Cost
from ganzoo.lock import Busy, holder, try_lock
from ganzoo.zoo import Entry, source_sha256

CODE = tuple(
    Path(ganzoo.__file__).parent / name
    for name in ("checks/exhaustive.py", "checks/conditions.py", "checks/costs.py", "checks/sweep.py", "slack.py")
)
"""What decides what a sweep finds, beside the cost."""


def cache_folder() -> Path:
    """XDG_CACHE_HOME/ganzoo/exhaustive, by default in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "ganzoo" / "exhaustive"


def key_of(entry: Entry, settings: dict[str, Any], device: str) -> dict[str, Any]:
    """All that the outcome of a sweep depends on, as far as it has a name."""
    kernels = torch.backends.cpu.get_cpu_capability() if torch.device(device).type == "cpu" else ""
    where = platform.machine() if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "cost": entry.name,
        "source_sha256": entry.source_sha256,
        "hyperparameters": plain(settings),
        "torch": torch.__version__,
        "device": f"{torch.device(device).type}, {where}, {kernels}",
        "sweep_sha256": source_sha256(CODE),
    }


def fingerprint(cost: Cost, device: str) -> str:
    """sha256 of what C makes of a million float32 values, bit for bit."""
    with torch.no_grad():
        c = cost(float32_values().to(device))
    return hashlib.sha256(c.float().cpu().contiguous().numpy().tobytes()).hexdigest()


class Kept:
    """The progress of one sweep. `done` are the numbers of its pieces that are in `tally`."""

    def __init__(self, key: dict[str, Any], fingerprint: str, pieces: int, *, fresh: bool = False) -> None:
        """Takes up what is there, unless `fresh`. Raises Busy where another process is at this very sweep."""
        self.key, self.fingerprint, self.pieces = key, fingerprint, pieces
        self.done: set[int] = set()
        self.tally = Tally()
        self.seconds = 0.0
        """That the pieces done have taken."""
        self.notes: list[str] = []
        """What became of the file, where that is not as it should be."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.path = cache_folder() / f"{key['cost']}-{digest[:16]}.json"
        self._keeps = True
        self._lock = self._locked()
        if not fresh:
            self._read()

    def _locked(self) -> IO[str] | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.with_suffix(".lock").open("a+")
        except OSError as error:
            self._unkept((error.strerror or str(error)).lower())
            return None
        if not try_lock(file, exclusive=True):
            with file:
                raise Busy(f"another process ({holder(file)}) is at this sweep of '{self.key['cost']}'; wait for it")
        return file

    def _unkept(self, why: str) -> None:
        self._keeps = False
        self.notes.append(f"progress is not kept, {self.path.parent}: {why}; an interrupted sweep begins anew")

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            found = read_sealed(self.path)
            if found["key"] != self.key or found["pieces"] != self.pieces:
                raise ValueError("of another sweep")
            tally, seconds = Tally.read(found["tally"]), float(found["seconds"])
            done = {i for i, bit in enumerate(reversed(f"{int(found['done'], 16):b}")) if bit == "1"}
            if max(done, default=0) >= self.pieces:
                raise ValueError("more pieces than there are")
        except (UserError, ValueError, KeyError, TypeError, AttributeError):
            self.notes.append(f"{self.path} is damaged; the sweep begins anew")
            return
        if found["fingerprint"] != self.fingerprint:
            self.notes.append(f"cost '{self.key['cost']}' gives other values than last time; the sweep begins anew")
            return
        self.tally, self.done, self.seconds = tally, done, seconds

    def save(self) -> None:
        """Commit what is done. Where that fails it is noted once, and nothing is kept from then on."""
        if not self._keeps:
            return
        content = {
            "key": self.key,
            "fingerprint": self.fingerprint,
            "pieces": self.pieces,
            "done": f"{sum(1 << i for i in self.done):x}",
            "tally": self.tally.as_dict(),
            "seconds": round(self.seconds, 3),
        }
        try:
            commit_sealed(self.path, content)
        except UserError as error:
            self._unkept(str(error))

    def close(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.close()
