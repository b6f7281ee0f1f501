"""Strangers' bytes for the readers of checkpoints, curves, plans and rows: nothing but a UserError may come of them.

    python benchmarks/fuzz.py checkpoint|curve|plan|row [--minutes 60] [--seed 1] [--corpus runs/fuzz]

Fuzzes with atheris (libFuzzer, guided by which branches of ganzoo an input reaches), in a process of its own that is
started again where an input ends it. What breaks a law goes to CORPUS/TARGET/found, the input and what came of it, and
the fuzzing goes on; the figures are printed at the end, or where it is interrupted, and stand in CORPUS/TARGET.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

GUIDED = __name__ == "__main__" and "--child" in sys.argv
if GUIDED:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

# Only what is imported in this block tells the fuzzer which of its branches were taken.
with atheris.instrument_imports(include=["ganzoo", "tomllib", "json"]) if GUIDED else nullcontext():
    import torch
    from torch import Tensor

    from ganzoo import bench, cell_folder, config, durable, result, train, verify
    from ganzoo.cell_folder import CellFolder, raise_fence
    from ganzoo.config import Plan, cells, contenders, read_plan, value_of
    from ganzoo.durable import (
        MAGIC,
        checkpoint_bytes,
        commit_json,
        json_bytes,
        load_checkpoint,
        sealed_line,
        sealed_lines,
    )
    from ganzoo.errors import UserError, printable
    from ganzoo.party import read_data
    from ganzoo.train import Diverged, Training
    from ganzoo.zoo import Zoo

ABSENT = "atheris is not installed; it is no part of ganzoo: pip install 'atheris>=3' into an environment that has both"
SLOWEST = 2.0
"""Seconds of the processor's time that an input may take."""
MOST_MEMORY = 500 * 1024 * 1024
"""Bytes that an input may take at its peak, beyond what the process has."""

Target = Callable[[bytes], None]
"""Takes any bytes; raises what no reader may raise, or Broken."""


class Broken(AssertionError):  # noqa: N818 (what became of a law)
    """A law that an input breaks."""


def require(law: bool, said: str) -> None:
    if not law:
        raise Broken(said)


# What bytes mean: small choices, so that a changed byte changes one thing


class Drawn:
    """Choices out of bytes; zeros once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def take(self, n: int) -> bytes:
        piece = self._data[self._at : self._at + n]
        self._at += n
        return piece

    def rest(self) -> bytes:
        return self.take(self.left)

    def number(self, below: int) -> int:
        """In [0, below)."""
        piece = self.take(1 if below <= 256 else 4)
        return int.from_bytes(piece, "little") % below

    def one_of(self, options: Sequence[Any]) -> Any:
        return options[self.number(len(options))]

    def text(self) -> str:
        return self.take(self.number(24)).decode("utf-8", "surrogateescape")

    def repeated(self, most: int) -> bytes:
        """Pieces, each up to 10,000 times: what is quadratic in its size shows."""
        made = b""
        while self.left and len(made) < most:
            made += self.take(self.number(16)) * self.one_of((1, 1, 1, 2, 70, 1000, 10_000))
        return made[:most]

    def line(self) -> bytes:
        """Up to the next line break, which is left out."""
        piece, _, _ = self._data[self._at :].partition(b"\n")
        self._at += len(piece) + 1
        return piece


NUMBERS = (
    0, 1, -1, 2, 7, 8, 9, 255, 2**31, 2**53 + 1, -(2**63), 2**64, 10**30, 10**4299,
    0.0, -0.0, 0.5, 1.0, 8.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), True, False,
)  # fmt: skip
DEPTHS = (1, 2, 3, 10, 300, 480, 900, 980, 1100)
TEXTS = ("", "0x1p-1", "nan", "inf", "-0x1.8p3", "0x", "done", "diverged@3", "../..", "\x1b[31m", "\udcff", "\u2028")


def drawn_json(drawn: Drawn, keys: Sequence[str] = (), depth: int = 0) -> Any:
    """A JSON value, infinite and NaN numbers included; objects have some of these keys."""
    kind = drawn.number(8 if depth < 6 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return drawn.one_of(NUMBERS)
    if kind == 2:
        return drawn.number(2**32) - 2**16
    if kind == 3:
        return drawn.one_of(TEXTS)
    if kind == 4:
        return drawn.text()
    if kind == 5:
        return [drawn_json(drawn, keys, depth + 1) for _ in range(drawn.number(5))]
    if kind == 6:
        inner: Any = drawn_json(drawn, keys, depth + 1)
        for _ in range(drawn.one_of(DEPTHS) if depth < 2 else 1):
            inner = [inner] if depth % 2 else {"a": inner}
        return inner
    return {
        (drawn.one_of(keys) if keys and drawn.number(4) else drawn.text()): drawn_json(drawn, keys, depth + 1)
        for _ in range(drawn.number(6))
    }


def written(value: Any) -> str:
    """As JSON, each infinite number as one that JSON allows and no float can hold; nesting of any depth."""
    try:
        return json.dumps(value).replace("Infinity", "1e999")
    except RecursionError:
        return _written_deep(value)


def _written_deep(value: Any) -> str:
    pieces: list[str] = []
    todo: list[Any] = [(value,)]  # a tuple is yet to be written, a str is as it stands
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            pieces.append(part)
            continue
        (inner,) = part
        if isinstance(inner, dict):
            todo.append("}")
            for i, (key, one) in reversed(list(enumerate(inner.items()))):
                todo += [(one,), f"{', ' if i else ''}{json.dumps(str(key))}: "]
            todo.append("{")
        elif isinstance(inner, list):
            todo.append("]")
            for i, one in reversed(list(enumerate(inner))):
                todo += [(one,), ", " if i else ""]
            todo.append("[")
        else:
            pieces.append(json.dumps(inner).replace("Infinity", "1e999"))
    return "".join(pieces)


def checksum(content: Any) -> str:
    """Of a JSON object without its `sha256`, found independently of the readers; of one too deep, that of nothing."""
    bare = {key: value for key, value in content.items() if key != "sha256"} if isinstance(content, dict) else content
    try:
        return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    except RecursionError:
        return hashlib.sha256(b"").hexdigest()


def sealed(content: Any, digits: int = 64) -> bytes:
    """An object with the right checksum, as the readers want it."""
    if not isinstance(content, dict):
        return written(content).encode()
    with suppress(RecursionError):
        content = json.loads(written(content))  # 1e999 is read as infinite, and keys are text
    whole = {**content, "sha256": checksum(content)[:digits]}
    if digits == 64:
        with suppress(RecursionError, ValueError):
            return json_bytes(whole)
    return written(whole).encode()


def edited(tree: Any, drawn: Drawn, value: Callable[[], Any]) -> Any:
    """A copy of nested dicts and lists, with up to 4 parts replaced, left out, doubled, renamed or exchanged."""
    root = [deepcopy(tree)]
    for _ in range(1 + drawn.number(4)):
        places = list(_places(root))
        inside, key = places[drawn.number(max(257, len(places))) % len(places)]
        kind = drawn.number(6) if inside is not root else 0
        if kind <= 1:
            inside[key] = value()
        elif kind == 2:
            del inside[key]
        elif kind == 3 and isinstance(inside, list):
            inside.insert(key, inside[key])
        elif kind == 4 and isinstance(inside, dict):
            inside[drawn.one_of([*inside, drawn.text(), -1, 99, True])] = inside.pop(key)
        else:
            other, its = places[drawn.number(max(257, len(places))) % len(places)]
            with suppress(KeyError, IndexError, RecursionError):
                if other is not root:
                    inside[key] = deepcopy(other[its])
    return root[0]


def _places(part: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """(what holds it, its key or index) of every part that is not too deep in it."""
    for key, inner in list(part.items() if isinstance(part, dict) else enumerate(part)):
        yield part, key
        if isinstance(inner, dict | list) and depth < 20:
            yield from _places(inner, depth + 1)


# The targets


class Checkpoints:
    """`load_checkpoint` of a raw file, of one with the right checksum, of one that is safetensors in its bones; and
    `Training.resume` of the checkpoints of small trainings with parts of them changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoint-00000003"
        self.zoo = Zoo.installed()
        self.trainings = [self._training(which) for which in range(2)]
        self.saved = [self._saved(training) for training in self.trainings]

    def _training(self, which: int) -> Training:
        """Of either optimizer."""
        changes = {"objectives": ["dcgan"]} if which == 0 else {"objectives": ["wgan"], "recipe": "native", "epochs": 5}
        plan = read_plan(None, **{**deepcopy(SMALL), **changes})
        (cell,) = cells(plan, self.zoo)
        return Training(cell, self.zoo, read_data(plan.data))

    @staticmethod
    def _saved(training: Training) -> list[bytes]:
        """Its checkpoints before the first round, after it, after some, at the end."""
        made = [checkpoint_bytes(training.state_dict())[0]]
        training.run(lambda state: made.append(checkpoint_bytes(state)[0]))
        return [made[0], made[1], made[len(made) // 2], made[-1]]

    def __call__(self, data: bytes) -> None:
        drawn = Drawn(data)
        kind = drawn.number(6)
        if kind == 0:
            self.path.write_bytes(drawn.rest())
        elif kind in (1, 5):
            self.path.write_bytes(with_checksum(drawn.rest() if kind == 1 else drawn.repeated(2**20)))
        elif kind == 2:
            skeleton, header, tail = drawn.line(), drawn.line(), drawn.rest()
            self.path.write_bytes(with_checksum(skeleton + b"\n" + struct.pack("<Q", len(header)) + header + tail))
        else:
            self._resume(drawn, in_words=kind == 3)
            return
        try:
            state = load_checkpoint(self.path)
        except UserError:
            return
        require(isinstance(state, dict), f"a state is a {type(state).__name__}")
        held = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(state))
        require(held <= self.path.stat().st_size, f"a file of {self.path.stat().st_size} bytes made tensors of {held}")

    def _resume(self, drawn: Drawn, *, in_words: bool) -> None:
        which = drawn.number(len(self.trainings))
        training, content = self.trainings[which], drawn.one_of(self.saved[which])
        self.path.write_bytes(content)
        if in_words:
            state = edited(load_checkpoint(self.path), drawn, lambda: drawn_part(drawn))
            try:
                content = checkpoint_bytes(state)[0]
            except (ValueError, TypeError, RecursionError, RuntimeError, KeyError, AttributeError):
                return  # none that could be saved
        else:
            skeleton, _, tensors = content.partition(b"\n")[2].partition(b"\n")
            names = ("tensor", "pairs", "/sums", "round")
            changed = edited(json.loads(skeleton), drawn, lambda: drawn_json(drawn, names))
            content = with_checksum(written(changed).encode() + b"\n" + tensors)
        self.path.write_bytes(content)
        before = bits(training.state_dict())
        refused = True
        try:
            training.resume(self.path, allow_inexact=bool(drawn.number(2)))
            refused = False
        except UserError:
            return
        finally:
            if refused and bits(training.state_dict()) != before:
                self._put_back(which)
                require(False, "a refused checkpoint changed the training")
        try:
            self._taken_up(training, drawn)
        except (Diverged, UserError):
            self.trainings[which] = self._training(which)  # it ended within a round
        except Exception:
            self.trainings[which] = self._training(which)
            raise
        finally:
            self._put_back(which)

    def _taken_up(self, training: Training, drawn: Drawn) -> None:
        saved, now = load_checkpoint(self.path), training.state_dict()
        # The same cell may be written otherwise; what is inexact stays so.
        for part in ("cell", "fingerprint", "inexact"):
            saved[part] = now[part]
        require(bits(saved) == bits(now), "what was taken up is not what the file holds")
        for point in training.curve:
            sealed_line(point)
        if drawn.number(8) == 0:
            training.run()
            checkpoint_bytes(training.state_dict())

    def _put_back(self, which: int) -> None:
        self.path.write_bytes(self.saved[which][1])
        self.trainings[which].resume(self.path)


SMALL: dict[str, Any] = {
    "seeds": 1,
    "epochs": 2,
    "validate_every": 1,
    "batch_size": 16,
    "z_dim": 2,
    "data.split": [64, 16, 16],
    "generator.width": 1,
    "critic.width": 1,
    "validation_images": 2,
    "test_images": 2,
    "control_images": 2,
    "checkpoint_seconds": 0.0,
    "validation_mre": {"steps": 1, "restarts": 1},
    "test_mre": {"steps": 1, "restarts": 1},
}
"""Trains in a fraction of a second, and its checkpoints are small."""

TYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool,
    torch.complex64,
)  # fmt: skip
SHAPES = ((), (1,), (0,), (3,), (1, 1), (2, 3), (1, 1, 1, 1), (4, 0, 2))


def drawn_part(drawn: Drawn) -> Any:
    """A tensor or a JSON value."""
    if drawn.number(2):
        return drawn_json(drawn)
    fill = drawn.one_of((0, 1, -1, float("nan"), float("inf"), 1e30))
    type_ = drawn.one_of(TYPES)
    whole = not type_.is_floating_point and not type_.is_complex
    if not abs(fill) <= 1 and (whole or type_ == torch.float16):
        fill = 1
    return torch.full(drawn.one_of(SHAPES), abs(fill) if type_ == torch.uint8 else fill, dtype=type_)


def with_checksum(content: bytes) -> bytes:
    """A checkpoint of that content, whatever it is."""
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _tensors(inner)


def bits(part: Any) -> Any:
    """Nested state with every tensor as its bytes and every number with its type: equal only if bit for bit equal."""
    if isinstance(part, Tensor):
        raw = part.detach().contiguous().view(-1).view(torch.uint8)
        return str(part.dtype), tuple(part.shape), raw.numpy().tobytes()
    if isinstance(part, dict):
        return {key: bits(inner) for key, inner in part.items()}
    if isinstance(part, list | tuple):
        return [bits(inner) for inner in part]
    return type(part).__name__, repr(part)


class Curves:
    """`sealed_lines`, `read_curve` and `CellFolder.begin_curve`, of any bytes and of lines with right checksums."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "curve.jsonl"
        self.cell = CellFolder(folder, raise_fence(folder))

    def __call__(self, data: bytes) -> None:
        drawn = Drawn(data)
        kind = drawn.number(3)
        if kind == 0:
            self._read(drawn.rest())
            return
        lines: list[bytes] = []
        while drawn.left and len(lines) < 20:
            value = drawn_json(drawn, ("epoch", "round", "validation_mre", "sha256"))
            if kind == 1:
                lines.append(sealed(value, 16) + b"\n")
            elif isinstance(value, dict):
                with suppress(ValueError, RecursionError):  # what sealed_line refuses
                    line = sealed_line(value)
                    (found,) = sealed_lines(line)
                    require(found[0] == len(line), "a line is read in part")
                    lines.append(line)
            if drawn.number(4) == 0:
                break
        whole = list(sealed_lines(b"".join(lines)))
        if kind == 2:
            require(len(whole) == len(lines), "a line that was sealed is not read")
        torn = bytearray(b"".join(lines))
        while drawn.left and torn:
            torn[drawn.number(len(torn) + 256) % len(torn)] = drawn.number(256)
        known = [repr(content) for _, content in whole]
        for _, content in sealed_lines(bytes(torn)):
            require(repr(content) in known, "an altered line is read")
        self._read(bytes(torn))

    def _read(self, content: bytes) -> None:
        if content.count(b"[") + content.count(b"{") > 300:  # how deep one can read depends on who calls
            list(sealed_lines(content))
            return
        ends = [0]
        for end, found in sealed_lines(content):
            line = content[ends[-1] : end]
            require(line.endswith(b"\n"), "a line without its end is read")
            raw = json.loads(line)
            require(raw["sha256"] == checksum(raw)[:16], "a line with a wrong checksum is read")
            require(set(found) == set(raw) - {"sha256"}, "a line has other keys than are read")
            ends.append(end)
        self.path.write_bytes(content)
        read = cell_folder.read_curve(self.folder)
        require(len(read) == len(ends) - 1, "read_curve and sealed_lines differ")
        self.cell.recovered.clear()
        points = [point for point in read if isinstance(point.get("round"), int)]
        try:
            wanted = b"".join(map(sealed_line, points))
        except (ValueError, RecursionError):
            points, wanted = [], b""
        self.cell.begin_curve(points)
        require(bool(self.cell.recovered) == (ends[-1] < len(content)), "a torn curve is told, a whole one is not")
        require(self.path.read_bytes() == wanted, "the curve file is not that of the state")


class Plans:
    """`read_plan` of a file and of changes, and the cells of the plan; objectives as they are typed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plan.toml"
        self.zoo = Zoo.installed()
        self.plan = Plan()

    def __call__(self, data: bytes) -> None:
        drawn = Drawn(data)
        kind = drawn.number(6)
        try:
            if kind in (0, 4):
                self.path.write_bytes(drawn.rest() if kind == 0 else drawn.repeated(config.LARGEST_PLAN))
                self._cells(read_plan(self.path))
            elif kind in (1, 5):
                typed = drawn.rest() if kind == 1 else drawn.repeated(config.LARGEST_PLAN)
                found = contenders(typed.decode("utf-8", "surrogateescape"), self.zoo, self.plan)
                require(bool(found), "an objective makes no contender")
            elif kind == 2:
                changes: dict[str, Any] = {}
                while drawn.left and len(changes) < 8:
                    key, _, value = drawn.line().decode("utf-8", "surrogateescape").partition("=")
                    changes[key] = value_of(value)
                self._cells(read_plan(None, **changes))
            else:
                value_of(drawn.rest().decode("utf-8", "surrogateescape"))
        except UserError as error:
            require(len(printable(error)) <= 2000, "an error's line is too long")

    def _cells(self, plan: Plan) -> None:
        self.path.write_text(plan.toml(), encoding="utf-8")
        require(read_plan(self.path) == plan, "a plan written and read again is another")
        made = cells(plan.model_copy(update={"seeds": min(plan.seeds, 2)}), self.zoo)  # each takes its time
        names = {cell.directory for cell in made[:20]}
        require(all("/" not in name and name not in ("", ".", "..") for name in names), "a cell's folder has no name")
        require(len(names) == len(made[:20]), "two cells have one folder")


class Rows:
    """`read_row`, `concluded`, `read_beat`, the manifest, `ganzoo verify`: of any bytes, and of right checksums."""

    FILES = (
        "cells/a/row.json", "cells/a/verdict.json", "cells/a/manifest.json", "cells/a/fingerprint.json",
        "cells/a/curve.jsonl", "cells/a/beat", "cells/a/timing.json", "cells/a/checkpoint-00000003",
        "cells/a/cell.json", "cells/a/fence-7", "baselines.json", "log.jsonl", "rows.jsonl", "run.json",
    )  # fmt: skip
    KEYS = (
        "label", "seed", "verdict", "cell", "test_mre", "test_mre_last", "gap", "control_mre", "validation_accuracy",
        "test_accuracy", "provenance", "attempt", "files", "row.json", "pictures.npz", "checkpoints", "file", "round",
        "format", "fence", "sha256",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.folder, self.cell = folder / "run", folder / "run/cells/a"
        self.cell.mkdir(parents=True)
        (self.folder / "plan.toml").write_text("seeds = 1\n")
        self.outside = folder / "outside"
        self.row = {
            "label": "dcgan", "seed": 0, "verdict": "done", "cell": "a", "provenance": {"attempt": 1},
            "test_mre": 0.5, "test_mre_last": 0.5, "gap": 0.0, "control_mre": 0.1,
        }  # fmt: skip
        self.state = checkpoint_bytes({"round": 3, "curve": [], "w": torch.arange(3.0)})[0]

    def __call__(self, data: bytes) -> None:
        drawn = Drawn(data)
        for name in self.FILES:
            (self.folder / name).unlink(missing_ok=True)
        self.outside.write_text("not ours")
        commit_json(self.folder / "run.json", {"format": bench.FORMAT})
        for _ in range(1 + drawn.number(3)):
            (self.folder / drawn.one_of(self.FILES)).write_bytes(self._content(drawn))
        row = None
        with suppress(UserError):
            row = result.read_row(self.cell)
        if row is not None:
            result.concluded(self.cell, row)
            result.is_final(row)
        result.verdict_of(self.cell, 1)
        cell_folder.read_beat(self.cell)
        cell_folder.read_curve(self.cell)
        with suppress(UserError):
            result.read_cell(self.cell)
        with suppress(UserError):
            found = verify.verify(self.folder)
            found.text()
            found.as_dict()
        there = cell_folder.fences(self.cell)
        writer = CellFolder(self.cell, there[-1] if there else raise_fence(self.cell, 1))
        writer.keep({"round": 4, "curve": []})
        writer.keep({"round": 5, "curve": []})
        require(self.outside.exists(), "a manifest lets a file outside of the cell's folder be removed")
        for path in (*cell_folder.checkpoints(self.cell), *self.cell.glob("fence-*")):
            path.unlink()

    def _content(self, drawn: Drawn) -> bytes:
        kind = drawn.number(6)
        if kind == 0:
            return drawn.take(drawn.number(2**16))
        if kind == 1:
            return sealed(drawn_json(drawn, self.KEYS))
        if kind == 2:
            return sealed(edited(self.row, drawn, lambda: drawn_json(drawn, self.KEYS)))
        if kind == 3:
            verdict = {"verdict": "done", "files": {"row.json": checksum(self.row), "pictures.npz": "0"}}
            return sealed(edited(verdict, drawn, lambda: drawn_json(drawn, self.KEYS)))
        if kind == 4:
            entry = {"file": drawn.one_of(("checkpoint-00000001", "../../../outside", "../a", "", "\0", 3, None))}
            manifest = {"fence": 1, "checkpoints": [entry, entry, {"file": "../../../outside"}]}
            if drawn.number(2):
                manifest = edited(manifest, drawn, lambda: drawn_json(drawn, self.KEYS))
            return sealed(manifest)
        skeleton, _, tensors = self.state.partition(b"\n")[2].partition(b"\n")
        changed = edited(json.loads(skeleton), drawn, lambda: drawn_json(drawn, ("tensor", "pairs", "round")))
        return with_checksum(written(changed).encode() + b"\n" + tensors)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "checkpoint": Checkpoints,
    "curve": Curves,
    "plan": Plans,
    "row": Rows,
}
"""Name -> of an empty folder, the target."""

READERS: dict[str, tuple[Any, ...]] = {
    "checkpoint": (
        durable.load_checkpoint, durable._with_tensors, Training.resume, Training._take_up, train.require_like,
        train.moments, train.unlike,
    ),
    "curve": (
        durable.sealed_lines, durable.sealed_line, durable._exact, CellFolder.begin_curve, cell_folder.read_curve,
    ),
    "plan": (
        read_plan, config._read_toml, config._lay_over, config._one_line, value_of, contenders, config._contender,
        cells, config._senseless,
    ),
    "row": (
        durable.read_json, durable.read_sealed, result.read_row, result.whole_row, result.concluded, result.verdict_of,
        cell_folder.read_beat, CellFolder._manifest, verify.verify, verify._cell, verify._missing, verify._rows,
        verify._description, verify._pictures, verify._lines, verify._resume,
    ),
}  # fmt: skip
"""Target -> the functions of which the figures say how many lines were reached."""


def seeds(name: str) -> Iterator[bytes]:
    """Inputs to begin with: whole files, and a few that say what a change is."""
    if name == "checkpoint":
        state = {"round": 3, "curve": [{"round": 0}], "w": torch.arange(3.0), "s": torch.tensor(1)}
        content = checkpoint_bytes(state)[0]
        skeleton, _, rest = content.partition(b"\n")[2].partition(b"\n")
        size = struct.unpack("<Q", rest[:8])[0]
        yield b"\0" + content
        yield b"\1" + skeleton + b"\n" + rest
        yield b"\2" + skeleton + b"\n" + rest[8 : 8 + size] + b"\n" + rest[8 + size :]
        yield from (bytes([kind, *one]) for kind in (3, 4) for one in ((0, 0, 0, 0), (1, 1, 0, 9, 2), (0, 2, 1, 30, 0)))
    elif name == "curve":
        points = [{"epoch": i, "round": i * 4, "critic_loss": None if i == 0 else -0.1 * i} for i in range(3)]
        yield b"\0" + b"".join(map(sealed_line, points))
        yield from (bytes([kind, 7, 3, 1, 0, 1, 16, 1, 1, 1, 9, 1]) for kind in (1, 2))
    elif name == "plan":
        yield b"\0" + Plan().toml().encode()
        yield from (b"\0" + path.read_bytes() for path in sorted(config.PLANS.glob("*.toml")))
        for asked in ("gls-gan:slope=0,0.5,cost=elu", "wgan-gp:penalty_weight=1,critic_steps=5", "ls-gan:margin=lp"):
            yield b"\1" + asked.encode()
        yield b"\2data.set=digits\nseeds=2\ngenerator.width=4\nobjectives=['dcgan:theta_penalty=0.1']"
        yield b"\3[1, {a = 2}]"
        yield b"\4\2a.\4\3a=1\0\5[[1]\n\3"
        yield b"\5\10gls-gan:\0\6slope=\0\0021,\5\0011\0"
    else:
        yield from (bytes([0, place, kind, 0, 0, 0]) for place in range(len(Rows.FILES)) for kind in range(1, 6))
        yield bytes([0, 5, 0, 7, 0, 0, 0]) + b"1 2 3 4"


def words(name: str) -> list[str]:
    """What the fuzzer may put in: keys, names and marks of the format."""
    common = ["1e999", "NaN", "null", "true", "0x", '"', "{", "[", "\\u0000", "\\ud800"]
    if name == "checkpoint":
        types = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64")
        return [*common, *types, '"tensor"', '"pairs"', '"dtype"', '"shape"', '"data_offsets"', "__metadata__", "round"]
    if name == "plan":
        zoo = Zoo.installed()
        inner = ("shared", "data", "labels", "validation_mre")
        models: list[Any] = [Plan, *(type(getattr(Plan(), key)) for key in inner)]
        keys = {key for model in models for key in model.model_fields}
        kinds = ("objective", "cost", "margin", "generator", "critic")
        entries = [entry for kind in kinds for entry in zoo.entries(kind)]
        names = {entry.name for entry in entries} | {key for entry in entries for key in entry.hyperparameters}
        marks = [" = ", "[[", "]]", "'''", "1979-05-27T07:32:00Z", "inf", "none", "mnist", "accuracy", "cost.", "a."]
        return [*common, *sorted(keys), *sorted(names), *marks]
    return [*common, '"sha256"', *Rows.KEYS, "checkpoint-", "diverged@", "../"]


# One process that fuzzes


def child(name: str, folder: Path, seconds: int, seed: int) -> None:
    """Fuzz for so long; never returns."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # the files are synced each time: no disk for that
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        target = TARGETS[name](Path(scratch))
        told: set[str] = set()

        def one_input(data: bytes) -> None:
            found = examined(target, data)
            if found is not None and found[0] not in told:
                told.add(found[0])
                kept(folder / "found", data, *found)

        (folder / "words.txt").write_text("".join(f'"{_escaped(word)}"\n' for word in words(name)))
        options = {
            "max_total_time": seconds, "seed": seed, "max_len": 65537, "timeout": 120, "rss_limit_mb": 8192,
            "dict": folder / "words.txt", "artifact_prefix": f"{folder}/found/", "print_final_stats": 1,
            "report_slow_units": 10_000, "len_control": 20, "use_value_profile": 1,
        }  # fmt: skip
        arguments = [f"-{key}={value}" for key, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, str(folder / "inputs")], one_input)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(chr(c) if 32 <= c < 127 and chr(c) not in '\\"' else f"\\x{c:02x}" for c in word.encode())


def examined(target: Target, data: bytes) -> tuple[str, str] | None:
    """(a name, what happened) if these bytes break a law; else None."""
    before, began = peak_now(), time.process_time()  # of its own: the machine may have other work
    try:
        target(data)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is found)
        return named(error), traceback.format_exc()
    seconds, grown = time.process_time() - began, peak() - before
    if seconds > SLOWEST:
        return f"slow-{data[0] % 6 if data else 0}", f"took {seconds:.1f} s"
    if grown > MOST_MEMORY:
        return f"memory-{data[0] % 6 if data else 0}", f"took {grown:,} bytes"
    return None


def named(error: BaseException) -> str:
    """By its type and the last line of ganzoo's own, or of the law that it breaks."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{Path(train.__file__).parent}/" in frame.filename] or list(frames)
    said = f"-{error}" if isinstance(error, Broken) else f"-{Path(ours[-1].filename).stem}-{ours[-1].name}"
    return re.sub(r"[^A-Za-z0-9_]+", "-", f"{type(error).__name__}{said}")[:100]


def peak_now() -> int:
    """The peak of this process's memory in bytes, begun anew where the system lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def kept(folder: Path, data: bytes, name: str, said: str) -> None:
    """The smallest input of each kind."""
    path = folder / f"{name}.bin"
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        (folder / f"{name}.txt").write_text(f"{data[:2000]!r}\n{said}\n")
        print(f"found {name}", file=sys.stderr)


# The command

PULSE = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+.*?exec/s: (\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parsed(arguments)
    folder = options.corpus / options.target
    if options.child:
        child(options.target, folder, round(options.minutes * 60), options.seed)
    if importlib.util.find_spec("atheris") is None:
        print(ABSENT, file=sys.stderr)
        return 2
    for part in ("inputs", "found"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(seeds(options.target)):
        (folder / "inputs" / f"seed-{i:02}").write_bytes(content)
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends it early, and the figures are told
        signal.signal(number, signal.default_int_handler)
    figures = fuzzed(options.target, folder, options.minutes, options.seed)
    figures |= reached(options.target, folder / "inputs")
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return 1 if figures["found"] else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer, which draws by it")
    parser.add_argument("--corpus", type=Path, default=Path("runs/fuzz"), help="where inputs and findings are kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def fuzzed(name: str, folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Fuzz for so long, in as many processes as it takes, one after the other; Ctrl-C ends it earlier."""
    began, executions, ended = time.monotonic(), 0, 0
    last = dict.fromkeys(("branches", "features", "inputs"), 0)
    log = (folder / "log.txt").open("w", buffering=1)
    running: subprocess.Popen[str] | None = None
    try:
        while (left := minutes * 60 - (time.monotonic() - began)) > 1:
            command = [sys.executable, __file__, name, "--child", f"--minutes={left / 60}", f"--seed={seed + ended}"]
            running = subprocess.Popen(
                [*command, f"--corpus={folder.parent}"], stderr=subprocess.PIPE, text=True, errors="replace"
            )
            assert running.stderr is not None
            here = 0
            for line in running.stderr:
                log.write(line)
                if found := PULSE.search(line):
                    here = int(found[1])
                    last = dict(zip(last, map(int, found.groups()[1:4]), strict=True))
            executions, ran, here = executions + here, here, 0
            if running.wait() != 0:
                if not ran:
                    raise SystemExit(f"the fuzzer does not start: see {folder}/log.txt")
                ended += 1
                print(f"an input ended a process (status {running.returncode}): {folder}/log.txt", file=sys.stderr)
    except KeyboardInterrupt:
        executions += here
    finally:
        if running is not None and running.poll() is None:
            running.kill()
            running.wait()
        log.close()
    seconds = time.monotonic() - began
    return {
        "target": name,
        "minutes": round(seconds / 60, 1),
        "seed": seed,
        "executions": executions,
        "executions_per_second": round(executions / max(seconds, 1)),
        "processes_ended_by_an_input": ended,
        **last,
        "found": sorted(path.stem for path in (folder / "found").iterdir() if path.suffix != ".txt"),
    }


def reached(name: str, inputs: Path) -> dict[str, Any]:
    """Of the readers' lines, those that the kept inputs run: how many, and which are not."""
    lines: dict[CodeType, set[int]] = {}
    for reader in READERS[name]:
        for code in _codes(reader.__code__):
            lines[code] = {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
    seen: dict[CodeType, set[int]] = {code: set() for code in lines}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code not in seen:
            return None
        seen[frame.f_code].add(frame.f_lineno)
        return trace

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = TARGETS[name](Path(scratch))
        for path in sorted(inputs.iterdir()):
            sys.settrace(trace)
            try:
                examined(target, path.read_bytes())
            finally:
                sys.settrace(None)
    all_lines = {(code.co_filename, line) for code, there in lines.items() for line in there}
    run = {(code.co_filename, line) for code, there in seen.items() for line in there} & all_lines
    missed = sorted(f"{Path(file).stem}:{line}" for file, line in all_lines - run)
    return {"reader_lines": len(all_lines), "reader_lines_reached": len(run), "reader_lines_not_reached": missed}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


if __name__ == "__main__":
    sys.exit(main())
