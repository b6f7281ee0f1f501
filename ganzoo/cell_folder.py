"""The folder of a cell: who may write to it, and what is in it that survives a kill.

cell.json           what to train
fence-N             attempt N; only the highest may write, and a lower one stops at its next commit
lock                held by the process at work, on this machine
beat                alive as long as its numbers change
stop                the attempt that is asked to save and end
fingerprint.json    where its numbers were made
checkpoint-ROUND    two of them; each carries its checksum
manifest.json       which they are, written after them
curve.jsonl         a line a point, with a checksum each
attempt-N.log       what the attempt printed
row.json            the result
verdict.json        how it ended, and the checksums of the results, written last
"""

import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ganzoo.durable import (
    Damaged,
    checkpoint_bytes,
    commit,
    commit_all,
    read_sealed,
    refused,
    sealed_bytes,
    sealed_line,
    sealed_lines,
)
from ganzoo.errors import UserError

KEPT = 2
"""Checkpoints: where one cannot be read the one before it is."""
LOGS_KEPT = 20
EVERY = 0.5
"""Seconds between two beats, at each of which a wish to stop is seen."""


class LostFence(Exception):  # noqa: N818 (not a mistake: another attempt has taken over)
    """Another attempt at this cell has a higher number: this one may write nothing more."""


class Beat(NamedTuple):
    """What a worker says of itself, twice a second."""

    fence: int
    alive: int
    """Counts as long as the process runs."""
    work: int
    """Counts pieces of work: rounds, steps of a search."""
    peak_bytes: int
    """Most memory that it has had."""

    @property
    def left(self) -> bool:
        """It has stopped, saved, and another may go on."""
        return self.alive < 0


def fences(directory: Path) -> list[int]:
    """The attempts at a cell, in ascending order."""
    names = (name.removeprefix("fence-") for name in os.listdir(directory) if name.startswith("fence-"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def raise_fence(directory: Path, number: int | None = None) -> int:
    """Begin attempt `number`, by default the next. Raises LostFence where somebody has that number or a higher one."""
    there = fences(directory)
    number = number or (there[-1] + 1 if there else 1)
    if there and there[-1] >= number:
        raise LostFence(f"{directory} is at attempt {there[-1]}")
    path = directory / f"fence-{number}"
    said = {"host": platform.node(), "process": os.getpid(), "began": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        # A full disk that takes the name does: that alone counts.
        with path.open("xb", buffering=0) as file, suppress(OSError):
            file.write(json.dumps(said).encode())
    except FileExistsError:
        raise LostFence(f"{directory} is at attempt {number} of another") from None
    except OSError as error:
        raise refused(path, 100, error) from None
    for older in there[:-1]:  # one lower than the highest is kept to look at
        with suppress(OSError):
            (directory / f"fence-{older}").unlink()
    return number


class CellFolder:
    """A cell's folder, written to by attempt `fence`."""

    def __init__(self, directory: Path, fence: int) -> None:
        self.directory, self.fence = directory, fence
        self.recovered: list[str] = []
        """What was damaged, and what was done about it."""
        self._curve = 0
        """The round of the curve file's last point."""
        self._damaged: list[Path] = []
        """Checkpoints that were passed over."""

    def require_fence(self) -> None:
        """Raises LostFence once another attempt has a higher number."""
        there = fences(self.directory)
        if not there or there[-1] != self.fence:
            raise LostFence(f"{self.directory}: attempt {self.fence} was replaced")

    # Checkpoints

    def keep(self, state: dict[str, Any]) -> None:
        """Commit a checkpoint, then the manifest; then all but the one before it go. Raises UserError, LostFence."""
        self.require_fence()
        content, digest = checkpoint_bytes(state)
        path = self.directory / f"checkpoint-{state['round']:08d}"
        entry = {"file": path.name, "bytes": len(content), "content_sha256": digest, "round": state["round"]}
        # By what is there, not by the manifest, which may be damaged itself.
        there = checkpoints(self.directory)
        older = [left for left in there if left.name < path.name and left not in self._damaged]
        known = {known["file"]: known for known in self._manifest()}
        before = [known[kept.name] for kept in older[: KEPT - 1] if kept.name in known]
        manifest = {"fence": self.fence, "recovered": self.recovered, "checkpoints": [entry, *before]}
        self.require_fence()  # to put it together may have taken its time
        commit_all({path: content, self.directory / "manifest.json": sealed_bytes(manifest)})
        for left in there:  # as it was under our fence: what whoever has taken over makes is not among them
            if left not in (path, *older[: KEPT - 1]):
                with suppress(OSError):  # one that stays is let go the next time
                    left.unlink()

    def _manifest(self) -> list[dict[str, Any]]:
        try:
            found = read_sealed(self.directory / "manifest.json")["checkpoints"]
        except (UserError, KeyError):
            return []  # the checkpoints carry their own checksums
        entries = found if isinstance(found, list) else []
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("file"), str)]

    def resume(self, take_up: Callable[[Path], None]) -> Path | None:
        """Let `take_up` have the newest checkpoint that is whole; None where there is none. What was passed over is
        told in `recovered`, beside what earlier attempts had passed over.

        A kill between the checkpoint and the manifest leaves a checkpoint that the manifest does not name: it is
        whole by its own checksum, and as good. Raises what `take_up` raises of a whole checkpoint (another plan, say);
        Damaged where there are checkpoints and none is whole.
        """
        for left in self.directory.glob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)
        self._remember()
        if not (candidates := checkpoints(self.directory)):
            return None
        for path in candidates:
            try:
                take_up(path)
            except Damaged as error:
                self._damaged.append(path)
                self.recover(f"{error}; took the one before it")
            else:
                return path
        raise Damaged(
            f"{self.directory}: none of {', '.join(path.name for path in candidates)} is whole; delete them to train"
            " the cell anew"
        )

    def _remember(self) -> None:
        path = self.directory / "manifest.json"
        try:
            self.recovered = list(read_sealed(path)["recovered"]) if path.exists() else []
        except (UserError, KeyError, TypeError):
            self.recover(f"{path} was altered; it is made again")

    def recover(self, said: str) -> None:
        """Note what was damaged, and what is done about it."""
        self.recovered.append(said)
        warnings.warn(said, stacklevel=3)

    # The curve

    def begin_curve(self, points: list[dict[str, Any]]) -> None:
        """Let the curve file be that of the state that is taken up. A line that is torn or altered ends it there, with
        one warning.

        After an earlier attempt it is another file, even of the same bytes: whoever has the old one open writes there.
        """
        path = self.directory / "curve.jsonl"
        there = path.read_bytes() if path.exists() else b""
        self._curve = points[-1]["round"] if points else -1
        end = max((end for end, _ in sealed_lines(there)), default=0)
        if end < len(there):
            lines = there[:end].count(b"\n")
            self.recover(f"{path} was torn or altered after {lines} lines; what was lost is made again")
        wanted = b"".join(map(sealed_line, points))
        if wanted != there or self.fence > 1:
            self.require_fence()
            commit(path, wanted)

    def tell(self, point: dict[str, Any]) -> None:
        """Append a point of the curve. Raises UserError, LostFence."""
        if point["round"] <= self._curve:
            return
        line, path = sealed_line(point), self.directory / "curve.jsonl"
        try:
            with path.open("ab") as file:
                self.require_fence()  # once the file is open: the next attempt makes another
                file.write(line)
        except OSError as error:
            raise refused(path, len(line), error) from None
        self._curve = point["round"]

    # The end

    def conclude(self, verdict: dict[str, Any], checksums: dict[str, str], files: dict[str, bytes]) -> None:
        """Commit these files, then the verdict; `checksums` of all results by name. Raises UserError, LostFence."""
        said = {**verdict, "fence": self.fence, "recovered": self.recovered, "files": checksums}
        contents = {self.directory / name: content for name, content in files.items()}
        self.require_fence()
        commit_all({**contents, self.directory / "verdict.json": sealed_bytes(said)})


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a cell, the newest first."""
    return sorted(directory.glob("checkpoint-[0-9]*"), reverse=True)


def read_curve(directory: Path) -> list[dict[str, Any]]:
    """The points of a cell's curve file, up to the first line that is not whole; none where there is no file."""
    path = directory / "curve.jsonl"
    return [point for _, point in sealed_lines(path.read_bytes())] if path.exists() else []


# Who is at work


def read_beat(directory: Path) -> Beat | None:
    """The last beat; None where there is none, or it is being written."""
    try:
        return Beat(*map(int, (directory / "beat").read_text().split()))
    except (OSError, ValueError, TypeError):
        return None


def ask_to_stop(directory: Path, fence: int) -> None:
    """Whoever is at work there under that number saves and ends."""
    with suppress(OSError):
        (directory / "stop").write_text(str(fence))


def _asked_to_stop(directory: Path, fence: int) -> bool:
    try:
        return (directory / "stop").read_text() == str(fence)
    except OSError:
        return False


class Beating:
    """Says twice a second, in each folder, that this process is alive and how far its work is; hears who asks it to
    stop. A thread of its own: it goes on while the work hangs, and the work's count then tells."""

    def __init__(self, folders: list[CellFolder], peak_bytes: Callable[[], int], stop: Callable[[], None]) -> None:
        self.folders, self.peak_bytes, self.stop = folders, peak_bytes, stop
        self.work = 0
        self._alive = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)

    def __enter__(self) -> "Beating":
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._alive = -2
        self._beat()

    def _go(self) -> None:
        while not self._over.wait(EVERY):
            self._beat()
            if any(_asked_to_stop(folder.directory, folder.fence) for folder in self.folders):
                self.stop()

    def _beat(self) -> None:
        self._alive += 1
        for folder in self.folders:
            said = Beat(folder.fence, self._alive, self.work, self.peak_bytes())
            with suppress(OSError):  # a full disk must not end a worker that needs none now
                if _is_ours(folder):
                    (folder.directory / "beat").write_text(" ".join(map(str, said)))


def _is_ours(folder: CellFolder) -> bool:
    there = fences(folder.directory)
    return bool(there) and there[-1] == folder.fence


class Watch:
    """What the beats of an attempt say, by the clock of whoever watches: theirs may be wrong."""

    def __init__(
        self,
        directories: list[Path],
        fence: int,
        lost_seconds: float,
        hang_seconds: float,
        coming_seconds: float | None = None,
    ) -> None:
        """`coming_seconds`: how long the first beat may take, by default as long as work may hang: a process imports,
        or waits for its place."""
        self.directories, self.fence = directories, fence
        self.lost_seconds, self.hang_seconds = lost_seconds, hang_seconds
        self.coming_seconds = hang_seconds if coming_seconds is None else coming_seconds
        self.peak_bytes = 0
        self._alive = self._work = -1  # nothing heard yet
        self._alive_at = self._work_at = time.monotonic()

    def look(self) -> str | None:
        """`lost`: nobody has beaten for too long. `hang`: somebody beats, but no work goes on. None: all is well."""
        now = time.monotonic()
        beats = [found for one in self.directories if (found := read_beat(one)) and found.fence == self.fence]
        alive, work = max((b.alive for b in beats), default=-1), max((b.work for b in beats), default=-1)
        self.peak_bytes = max([self.peak_bytes, *(b.peak_bytes for b in beats)])
        if beats and alive != self._alive:  # a file that is being written is no news
            self._alive, self._alive_at = alive, now
        if beats and work != self._work:
            self._work, self._work_at = work, now
        if now - self._alive_at > (self.coming_seconds if self._alive < 0 else self.lost_seconds):
            return "lost"
        return "hang" if now - self._work_at > self.hang_seconds else None
