"""Processes that can be killed, starved and lied to in earnest, many a second: forked from one that has imported all.

`Forks` starts that one; each child stops itself before it begins, so that `strace` can take hold of it first.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE_CALLS = "openat,read,write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,close,ftruncate,lseek"


class Forked:
    """A child that waits, stopped, until `go`."""

    def __init__(self, forks: "Forks", pid: int) -> None:
        self._forks, self.pid = forks, pid
        wait_until(lambda: _state(pid) in "TtZ")

    def go(self) -> "Forked":
        os.kill(self.pid, signal.SIGCONT)
        return self

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def ended(self) -> bool:
        return _state(self.pid) in "Z"

    def wait(self) -> int:
        """Its exit status, negative for the signal that ended it."""
        return int(self._forks.ask(wait=self.pid))


class Forks:
    """A process that has imported ganzoo, and forks children that run one of `TASKS` each."""

    def __enter__(self) -> "Forks":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, **wish: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def warm(self, directory: Path) -> None:
        """Let the children have the zoo and the data of that cell from the beginning."""
        self.ask(warm=str(directory))

    def start(self, task: str, *arguments: object, said: Path | None = None) -> Forked:
        """A stopped child that will do that; what it prints goes to the file `said`."""
        wish = {"task": task, "arguments": list(map(str, arguments)), "said": str(said or os.devnull)}
        return Forked(self, self.ask(**wish))


def _state(pid: int) -> str:
    """`T`: stopped; `t`: stopped by a tracer; `Z`: ended, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def wait_until(found: Callable[[], Any], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@contextmanager
def traced(child: Forked, *options: str, into: Path) -> Iterator[None]:
    """In the block `strace` holds the child, which is let go once it is held; the trace is at `into` after it."""
    command = ["strace", "-f", "-qq", "-o", str(into), *options, "-p", str(child.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: tracer.poll() is not None or _tracer_of(child.pid) == tracer.pid)
        assert tracer.poll() is None, tracer.communicate()[1]
        child.go()
        yield
        tracer.wait(60)
    finally:
        tracer.kill()
        tracer.communicate()


def _tracer_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^TracerPid:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


@lru_cache(maxsize=1)
def why_no_strace() -> str:
    """Why no process can be traced here; empty where one can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        tracer = subprocess.Popen(["strace", "-qq", "-p", str(sleeper.pid)], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 10
        while tracer.poll() is None and _tracer_of(sleeper.pid) != tracer.pid and time.monotonic() < deadline:
            time.sleep(0.005)
        held = tracer.poll() is None
        tracer.kill()
        said = tracer.communicate()[1]
    finally:
        sleeper.kill()
        sleeper.wait()
    return "" if held else f"a process may not be traced here: {' '.join(said.split())}"


def calls_of(trace: Path) -> list[str]:
    """The name of each system call, in order."""
    found = (re.match(r"\d+ +(?:\[pid +\d+\] )?([a-z_0-9]+)\(", line) for line in trace.read_text().splitlines())
    return [match[1] for match in found if match]


def each_once(names: Sequence[str]) -> list[tuple[str, int]]:
    """(name, how often it came up to then) of each call, in order."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append((name, seen[name]))
    return found


# In the process that forks


def _worker(arguments: list[str]) -> int:
    from ganzoo import worker

    return worker.main(arguments)


def _keep(arguments: list[str]) -> int:
    """DIR FENCE ROUND: keep the state of that round."""
    from ganzoo.cell_folder import CellFolder
    from ganzoo.errors import UserError

    directory, fence, round = arguments
    try:
        CellFolder(Path(directory), int(fence)).keep(state_of(int(round)))
    except UserError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 3
    return 0


def _commit(arguments: list[str]) -> int:
    """FILE: commit something there."""
    from ganzoo.durable import commit

    commit(Path(arguments[0]), b"content")
    return 0


def _load(arguments: list[str]) -> int:
    """CHECKPOINT: what is wrong with it, and how many bytes more than before it took to find out."""
    from ganzoo.durable import Damaged, load_checkpoint

    Path("/proc/self/clear_refs").write_text("5")  # the most memory that it has had: from here on
    before = _most_memory()
    try:
        load_checkpoint(Path(arguments[0]))
    except Damaged as error:
        print(error)
    print(_most_memory() - before, flush=True)
    return 0


def _most_memory() -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def state_of(round: int, numbers: int = 100) -> dict[str, Any]:
    """A state that is large enough to be torn, another one each round."""
    import torch

    return {
        "round": round,
        "curve": [{"epoch": at, "round": at, "validation_mre": 0.1 * at} for at in range(round + 1)],
        "generator": {"weight": torch.arange(float(numbers)) + round, "tracked": torch.tensor(round)},
    }


TASKS: dict[str, Callable[[list[str]], int]] = {"worker": _worker, "keep": _keep, "load": _load, "commit": _commit}


def _serve() -> None:
    import torch
    import torch._dynamo

    from ganzoo.durable import checkpoint_bytes
    from ganzoo.party import data_of, zoo_of
    from ganzoo.result import read_cell

    torch.set_num_threads(1)
    checkpoint_bytes(state_of(1))  # safetensors imports the rest of itself now
    for line in sys.stdin:
        wish = json.loads(line)
        answer = None
        if "wait" in wish:
            answer = os.waitstatus_to_exitcode(os.waitpid(wish["wait"], 0)[1])
        elif "warm" in wish:
            settings = read_cell(Path(wish["warm"])).settings
            zoo_of(settings.plugins)
            data_of(settings.data.model_dump_json())
        else:
            answer = os.fork()
            if answer == 0:
                _become(wish)
        print(json.dumps(answer), flush=True)


def _become(wish: dict[str, Any]) -> None:
    """The child: never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        said = os.open(wish["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.kill(os.getpid(), signal.SIGSTOP)
        status = TASKS[wish["task"]](wish["arguments"])
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 (it must not go on as a second parent)
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve()
