"""Other libraries from the package index, each in an environment and a process of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ganzoo_speed.drivers.answer import Setting

ENVIRONMENTS = Path("~/.cache/ganzoo-speed")
BENCHMARKS = Path(__file__).resolve().parents[1]
QUIET = {"TENSORBOARD_LOGGING": "0", "VISDOM_LOGGING": "0", "CONSOLE_LOGGING": "0", "MPLBACKEND": "Agg"}
"""No library draws or reports while it is timed."""


class Unusable(Exception):  # noqa: N818 (a result, not an error)
    """A library does not install, import or run here; its text is the reason, one line."""


class Rival(NamedTuple):
    """A library and how it comes to play."""

    name: str
    version: str
    needs: tuple[str, ...]
    """What it imports besides what this interpreter has; its own pins, which forbid today's torch, are left out."""
    driver: str
    """A module of `ganzoo_speed.drivers`."""
    distribution: str = ""
    """On the package index, where it is not `name`."""

    @property
    def requirement(self) -> str:
        return f"{self.distribution or self.name}=={self.version}"


RIVALS = (
    Rival("torchgan", "0.1.0", (), "torchgan_driver"),
    Rival("vegans", "0.4.0", ("tensorboard", "wget", "pandas"), "vegans_driver"),
    Rival("mimicry", "0.1.16", ("tensorboard",), "mimicry_driver", "torch-mimicry"),
)

NOT_ON_THE_INDEX = {
    "StudioGAN": "not on the package index",
    "the LS-GAN authors' script": "not on the package index",
}
"""Libraries that are known and left out, and why."""


def environment(rival: Rival, folder: Path) -> Path:
    """The Python of the library's own environment, made in `folder` where it is not there yet. Raises Unusable.

    It sees this interpreter's packages, so every contender runs on the same torch and nothing large is downloaded.
    """
    shared = sysconfig.get_path("purelib")
    recipe = json.dumps([rival.requirement, rival.needs, shared, sys.version])
    home = folder.expanduser() / f"{rival.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    python, stamp = home / "bin" / "python", home / "installed"
    if stamp.exists():
        return python
    print(f"making {home} for {rival.requirement} ...", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(home)])
    packages = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    (Path(packages) / "shared.pth").write_text(f"{shared}\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if rival.needs:
        _run([*install, *rival.needs])
    _run([*install, "--no-deps", rival.requirement])
    stamp.write_text(recipe)
    return python


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable(f"does not install: {last_line(done.stdout + done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    """The line that says what went wrong: the last one that is not empty, at most 200 characters of it."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return ([*lines, *errors][-1] if lines else "it says nothing")[:200]


class Process:
    """A library at play in its own process: it waits, using no processor, until it is asked for rounds."""

    objectives: tuple[str, ...]
    note: str
    """What was done to make it run; empty where nothing was."""
    precision: str
    """Of its networks: torch's usual one, no library asks for another."""

    def __init__(self, python: Path, module: str, setting: Setting, folder: Path) -> None:
        """`module` answers (see `drivers.answer`); `folder`, where it is looked for first, takes what the library
        writes and its standard error. Raises Unusable where it does not start."""
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / "stderr.txt"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [str(python), "-m", module, json.dumps(setting._asdict())],
                cwd=folder,
                env={**os.environ, **QUIET, "PYTHONPATH": str(BENCHMARKS)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        try:
            first = self._hear()
        except Unusable:
            self.close()
            raise
        self.objectives, self.note, self.precision = tuple(first["objectives"]), first["note"], first["precision"]

    def seconds(self, objective: str, threads: int, rounds: int) -> list[float]:
        """Of each of the rounds (`timing.seconds_of`). Raises Unusable where a round fails."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"objective": objective, "threads": threads, "rounds": rounds}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Unusable(f"died: {last_line(self._said.read_text())}") from None
        answer = self._hear()
        if "error" in answer:
            raise Unusable(f"does not run: {answer['error'][:200]}")
        return [float(value) for value in answer["seconds"]]

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Unusable(f"does not run: {last_line(self._said.read_text())}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def close(self) -> None:
        """End the process; it may be called twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
