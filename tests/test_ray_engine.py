"""Ray places commands, says how they ended, ends them whole; refuses a cluster that is open to all; leaves nothing."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ganzoo import Engine, UserError
from ganzoo.zoo import Zoo
from ganzoo_plugins import ray_engine as engine_module
from ganzoo_plugins.ray_engine import environment, leashed, ray_engine, room

try:
    metadata.version("ray")
except metadata.PackageNotFoundError:
    pytest.skip("Ray is not installed: pip install 'ganzoo[ray]'", allow_module_level=True)

PYTHON = sys.executable
TOKEN = "a token that nobody guesses"
FAMILY = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".new", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(600)
"""
"""A process that has a child, tells both ids in a file, and hears nothing any more."""


def python(code: str, *arguments: object) -> list[str]:
    return [PYTHON, "-c", code, *map(str, arguments)]


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until it is so, else fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def status(placed: Any) -> int:
    until(lambda: placed.poll() is not None)
    found: int = placed.poll()
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def family(path: Path) -> list[int]:
    """The processes of FAMILY, once they are there and stopped."""
    until(path.exists)
    found = [int(word) for word in path.read_text().split()]
    until(lambda: Path(f"/proc/{found[0]}/stat").read_text().rpartition(") ")[2][0] == "T")
    return found


def marked(mark: str) -> list[int]:
    """The living processes that have `mark` in their environment, for they descend from one that was given it, and
    their children: some of Ray's write over their environment."""
    parents: dict[int, int] = {}
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(number)
    found |= {number for number, parent in parents.items() if parent in found}
    return [number for number in found if is_alive(number)]


def ended(mark: str, seconds: float = 60.0) -> None:
    """Wait until none of them lives, else fail."""
    deadline = time.monotonic() + seconds
    while left := marked(mark):
        assert time.monotonic() < deadline, f"still there: {[command_line(process) for process in left]}"
        time.sleep(0.02)


def end(mark: str) -> None:
    for process in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def mark() -> Iterator[str]:
    """For the environment of what a test starts; whatever it leaves is ended."""
    found = f"GANZOO_TEST_{secrets.token_hex(8)}"
    yield found
    end(found)


HERE = f"GANZOO_TEST_{secrets.token_hex(8)}"
"""The mark of what the fixture `engine` starts: others may run the same tests at the same time."""


def signal_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


@pytest.fixture(scope="module")
def handlers() -> dict[int, Any]:
    """Before Ray is started: other files of this process may have left theirs."""
    return signal_handlers()


@pytest.fixture(scope="module")
def engine(handlers: dict[int, Any]) -> Iterator[Engine]:
    """Two slots of one core, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HERE, "1")
        found = ray_engine(1, 0.0, slots=2)
    yield found
    found.close()


def folder_of_ray(mark: str) -> Path:
    """Where the Ray that was started under the mark has its files."""
    (raylet,) = [line for line in map(command_line, marked(mark)) if "/raylet/raylet " in line]
    return Path(re.findall(r"/tmp/ganzoo-ray-\w+", raylet)[0])


class Cluster:
    """Nodes that `ray start` starts on this machine."""

    def __init__(self, **variables: str) -> None:
        self.mark = f"GANZOO_TEST_{secrets.token_hex(8)}"
        self.folder = tempfile.mkdtemp(prefix="gz", dir="/tmp")  # the path of a socket is short
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.variables = {**kept, **variables, self.mark: "1", "RAY_USAGE_STATS_ENABLED": "0"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.start("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}")

    def start(self, *options: str) -> list[int]:
        """A node of one CPU. Returns its processes."""
        before = set(marked(self.mark))
        command = [PYTHON, "-P", "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0", *options]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return [process for process in marked(self.mark) if process not in before]

    def close(self) -> None:
        end(self.mark)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    cluster = Cluster(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    yield cluster
    cluster.close()


@pytest.fixture
def without_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's environment has no token, and his home neither."""
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# Placing


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("print('x' * 1_000_000)", 0),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 11)", -11),
    ],
)
def test_the_status_is_that_of_the_command_and_negative_for_a_signal(engine: Engine, code: str, wanted: int) -> None:
    assert status(engine.place(python(code))) == wanted


def test_a_command_that_is_not_there_is_as_good_as_killed(engine: Engine) -> None:
    assert status(engine.place(["/nonexistent"])) == -9


def test_what_is_killed_ends_with_all_that_it_started_even_where_it_is_stopped(engine: Engine, tmp_path: Path) -> None:
    placed = engine.place(python(FAMILY, tmp_path / "family"))
    processes = family(tmp_path / "family")
    assert placed.poll() is None
    placed.kill()
    assert status(placed) < 0
    until(lambda: not any(map(is_alive, processes)))
    placed.kill()  # has ended: left alone


def test_what_a_command_leaves_behind_ends_with_it(engine: Engine, tmp_path: Path) -> None:
    leave = FAMILY.replace("os.kill(os.getpid(), signal.SIGSTOP)", "raise SystemExit(5)")
    assert status(engine.place(python(leave, tmp_path / "family"))) == 5
    _, child = map(int, (tmp_path / "family").read_text().split())
    until(lambda: not is_alive(child))


def test_the_death_of_rays_process_ends_the_command_too(engine: Engine, tmp_path: Path) -> None:
    placed = engine.place(python(FAMILY, tmp_path / "family"))
    processes = family(tmp_path / "family")
    # One that ran an earlier command may still be called so.
    until(lambda: len(runners()) == 1)
    (ray,) = runners()
    os.killpg(ray, signal.SIGKILL)  # as Ray does it
    assert status(placed) == -9
    until(lambda: not any(map(is_alive, processes)))


def runners() -> list[int]:
    """Ray's processes that run a command."""
    return [process for process in marked(HERE) if command_line(process).startswith("ray::run")]


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def test_no_more_run_at_a_time_than_there_are_slots_and_what_waits_can_be_killed(
    engine: Engine, tmp_path: Path
) -> None:
    count = """
import os, sys, time
mine = f"{sys.argv[1]}/{sys.argv[2]}"
open(mine + ".running", "w").close()
running = sum(name.endswith(".running") for name in os.listdir(sys.argv[1]))
while not os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.02)
os.rename(mine + ".running", mine + ".done")
raise SystemExit(running)
"""
    assert engine.slots == 2
    placed = [engine.place(python(count, tmp_path, number)) for number in range(5)]
    until(lambda: len(list(tmp_path.glob("*.running"))) == 2)
    time.sleep(1.5)  # in which a third would come
    placed[4].kill()
    (tmp_path / "go").touch()
    assert max(status(one) for one in placed[:4]) == 2
    assert status(placed[4]) == -9
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["0.done", "1.done", "2.done", "3.done"]


def test_a_worker_of_ganzoo_is_on_a_leash_and_runs_with_the_python_that_is_there() -> None:
    asked = [PYTHON, "-m", "ganzoo.worker", "--fence", "3", "/run/cells/x"]
    assert leashed(asked, "/other/python") == [
        "/other/python", "-m", "ganzoo.worker", "--leash", "--fence", "3", "/run/cells/x",
    ]  # fmt: skip
    assert leashed(["/bin/sh", "-c", "true"], "/other/python") == ["/bin/sh", "-c", "true"]


def test_a_worker_of_ganzoo_starts_and_refuses_what_is_no_cell(engine: Engine, tmp_path: Path) -> None:
    assert status(engine.place([PYTHON, "-m", "ganzoo.worker", "--fence", "1", str(tmp_path)])) == 2


def test_commands_start_where_the_driver_is_with_ctrl_c_let_through(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tell = """
import os, signal, sys
with open(sys.argv[1], "w") as file:
    print(os.getcwd(), os.getsid(0) == os.getpid(), signal.SIGINT in signal.pthread_sigmask(0, []), file=file)
"""
    assert status(engine.place(python(tell, tmp_path / "said"))) == 0
    assert (tmp_path / "said").read_text().split() == [os.getcwd(), "True", "False"]


@pytest.mark.parametrize(
    ("machine", "cores", "gpus", "wanted"),
    [
        ({"CPU": 8.0}, 1, 0.0, 8),
        ({"CPU": 8.0}, 3, 0.0, 2),
        ({"CPU": 2.0}, 3, 0.0, 0),
        ({"memory": 1e9}, 1, 0.0, 0),
        ({"CPU": 8.0}, 1, 1.0, 0),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 1.0, 2),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.4, 4),
        ({"CPU": 64.0, "GPU": 1.0}, 1, 0.1, 10),
        ({"CPU": 64.0, "GPU": 3.0}, 1, 1 / 3, 9),
        ({"CPU": 3.0, "GPU": 3.0}, 1, 0.5, 3),
    ],
)
def test_a_share_is_of_one_gpu_and_room_is_what_runs_out_first(
    machine: dict[str, float], cores: int, gpus: float, wanted: int
) -> None:
    assert room(machine, cores, gpus) == wanted


# What is left


DRIVER = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a shell's background
from ganzoo_plugins.ray_engine import ray_engine
engine = ray_engine(1, 0.0, slots=1)
placed = engine.place([sys.executable, "-c", {FAMILY!r}, sys.argv[1]])
try:
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(1)
    print("still at work" if placed.poll() is None else "ended")
    raise
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_hears_signals_as_ever_and_when_it_ends_nothing_is_left(
    how: signal.Signals, tmp_path: Path, mark: str
) -> None:
    with subprocess.Popen(
        python(DRIVER, tmp_path / "family"),
        env={**os.environ, mark: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        family(tmp_path / "family")
        files = folder_of_ray(mark)
        assert files.is_dir()
        os.killpg(driver.pid, how)  # as the terminal does
        out, said = driver.communicate(timeout=60)
    assert driver.returncode == -how
    assert out == ("still at work\n" if how == signal.SIGINT else "")
    assert ("KeyboardInterrupt" in said) if how == signal.SIGINT else (said == "")
    ended(mark)
    until(lambda: not files.exists())


@pytest.mark.slow
def test_where_the_process_that_speaks_with_ray_falls_silent_or_dies_all_is_lost_and_the_next_is_refused(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mark, "1")
    engine = ray_engine(1, 0.0, slots=1)
    try:
        placed, waits = (engine.place(python(FAMILY, tmp_path / "family")) for _ in range(2))
        processes = family(tmp_path / "family")
        (speaker,) = [process for process in marked(mark) if "import serve" in command_line(process)]
        files = folder_of_ray(mark)
        rays = marked(mark)
        os.kill(speaker, signal.SIGSTOP)
        placed.kill()
        assert placed.poll() is None
        assert status(placed) == -9, "nobody answers: it is given up"
        assert waits.poll() is None
        os.kill(speaker, signal.SIGKILL)
        assert status(waits) == -9
        waits.kill()
        with pytest.raises(UserError, match=r"Ray is gone .*; the same command goes on where this one ended"):
            engine.place(python("pass"))
        until(lambda: not any(map(is_alive, processes)))
    finally:
        engine.close()
    engine.close()
    until(lambda: not any(map(is_alive, rays)), 15)  # by themselves Ray's agents would take a minute
    ended(mark)
    shutil.rmtree(files)


def test_this_process_keeps_its_environment_its_signal_handlers_and_its_modules(
    handlers: dict[int, Any], engine: Engine
) -> None:
    assert status(engine.place(python("pass"))) == 0
    assert not [name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT"]
    assert signal_handlers() == handlers
    assert not [name for name in sys.modules if name.partition(".")[0] == "ray"]


def test_whoever_takes_no_ray_loads_no_ray(tiny_arguments: list[str], tmp_path: Path) -> None:
    program = """
import sys
from ganzoo.cli import app
app(["list"], standalone_mode=False)
app(["bench", "--objective=dcgan", "--lay-out", *sys.argv[1:]], standalone_mode=False)
print([name for name in sys.modules if name.partition(".")[0] == "ray"], file=sys.stderr)
"""
    done = subprocess.run(
        python(program, *tiny_arguments, f"--out={tmp_path / 'run'}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


# Who is refused


@pytest.mark.usefixtures("without_token")
def test_a_cluster_that_demands_no_token_is_refused_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(RAY_AUTH_MODE="disabled")
    try:
        with pytest.raises(UserError, match=r"demands no token: whoever reaches it runs code there"):
            ray_engine(1, 0.0, address=cluster.address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # that we have one makes the cluster no safer
        with pytest.raises(UserError, match="demands no token"):
            ray_engine(1, 0.0, address=cluster.address)
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        engine = ray_engine(1, 0.0, address=cluster.address, insecure=True)
        assert status(engine.place(python("raise SystemExit(4)"))) == 4
        engine.close()
    finally:
        cluster.close()


@pytest.mark.usefixtures("without_token")
def test_a_stranger_is_refused_by_a_cluster_that_demands_a_token(
    guarded: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"refuses us: Token authentication is enabled but no .*RAY_AUTH_TOKEN_PATH"):
        ray_engine(1, 0.0, address=guarded.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"refuses us: RAY_AUTH_TOKEN_PATH is set but file cannot be opened"):
        ray_engine(1, 0.0, address=guarded.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another token")
    for insecure in (False, True):
        with pytest.raises(UserError, match=r"refuses us: RPC error: InvalidAuthToken"):
            ray_engine(1, 0.0, address=guarded.address, insecure=insecure)


@pytest.mark.usefixtures("engine", "without_token")
def test_what_ray_starts_here_demands_a_token_that_nobody_else_has() -> None:
    (ours,) = [line for line in map(command_line, marked(HERE)) if "/raylet/raylet " in line]
    address = ours.partition("--gcs-address=")[2].split()[0]
    with pytest.raises(UserError, match=f"the Ray cluster at {address} refuses us"):
        ray_engine(1, 0.0, address=address)


@pytest.mark.slow
@pytest.mark.usefixtures("without_token")
def test_slots_follow_the_machines_of_the_cluster_and_what_ran_on_a_lost_one_is_told(
    guarded: Cluster, tmp_path: Path
) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)  # found there without a word in the environment
    engine = ray_engine(1, 0.0, address=guarded.address)
    try:
        assert engine.slots == 1
        second = guarded.start(f"--address={guarded.address}")
        until(lambda: engine.slots == 2)
        placed = [engine.place(python(FAMILY, tmp_path / name)) for name in "ab"]
        families = [family(tmp_path / name) for name in "ab"]
        for process in second:
            os.kill(process, signal.SIGKILL)
        until(lambda: any(one.poll() is not None for one in placed))
        (lost,) = [number for number, one in enumerate(placed) if one.poll() is not None]
        assert placed[lost].poll() == -9
        until(lambda: not any(map(is_alive, families[lost])))
        assert all(map(is_alive, families[1 - lost]))
        until(lambda: engine.slots == 1)
    finally:
        engine.close()
    until(lambda: not any(map(is_alive, families[1 - lost])))
    assert marked(guarded.mark), "a cluster that we did not start goes on"


@pytest.mark.slow
def test_a_machine_without_ganzoo_ends_the_run_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ganzoo_plugins").mkdir()
    (tmp_path / "ganzoo_plugins" / "__init__.py").write_text("raise ModuleNotFoundError('there is none')")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    cluster = Cluster(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, PYTHONPATH=str(tmp_path))
    try:
        engine = ray_engine(1, 0.0, address=cluster.address)
        placed = engine.place(python("pass"))
        with pytest.raises(UserError, match=r"cannot start workers: ModuleNotFoundError: there is none"):
            status(placed)
        engine.close()
    finally:
        cluster.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "ray://127.0.0.1:6379", "127.0.0.1:0", "127.0.0.1:99999", ":6379", ""]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"'.*' is no address of a Ray cluster; it looks like"):
        ray_engine(1, 0.0, address=address)


def test_an_address_where_nobody_or_somebody_else_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError, match=r"no Ray cluster answers at .*: connection refused"):
            ray_engine(1, 0.0, address=address)
        other.listen()
        monkeypatch.setattr(engine_module, "PROBE_SECONDS", 2.0)
        with pytest.raises(UserError, match=r"what answers at .* is no Ray cluster: no answer in 2 seconds"):
            ray_engine(1, 0.0, address=address)


def test_machines_too_small_are_refused(guarded: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with pytest.raises(UserError, match=f"the Ray cluster at {guarded.address} has no machine of 2 CPUs and 0 GPUs"):
        ray_engine(2, 0.0, address=guarded.address)


@pytest.mark.parametrize(
    ("option", "said"),
    [({"slots": 0}, "slots"), ({"token": "x"}, "token"), ({"share": 1.5}, "share"), ({"insecure": 7}, "insecure")],
)
def test_the_zoo_refuses_other_options(option: dict[str, Any], said: str) -> None:
    zoo = Zoo()
    zoo.add(engine_module)
    assert not zoo.broken
    with pytest.raises(UserError, match=said):
        zoo.find("engine", "ray").bind(**option)


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has all our packages but Ray."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in Path(str(metadata.distribution("ray").locate_file(""))).iterdir():
        if not path.name.lower().startswith(("ray", "__pycache__")):
            (folder / path.name).symlink_to(path)
    sources = [str(Path(module.__file__ or "").parent.parent) for module in (engine_module, sys.modules["ganzoo"])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*sources, str(folder)])}


ASK = "from ganzoo_plugins.ray_engine import ray_engine\ntry: ray_engine(1, 0.0)\nexcept ValueError as e: print(e)"


def test_without_ray_and_with_an_old_one_the_engine_says_what_to_install(packages: dict[str, str]) -> None:
    def said() -> str:
        # -S: the packages of this Python are not looked at.
        command = [PYTHON, "-S", "-c", ASK]
        return subprocess.run(command, env=packages, capture_output=True, text=True, check=True, timeout=60).stdout

    assert said() == "the engine 'ray' needs Ray: pip install 'ganzoo[ray]'\n"
    old = Path(packages["PYTHONPATH"].rpartition(os.pathsep)[2]) / "ray-2.51.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.51.1\n")
    assert "needs Ray 2.52, the first that knows tokens, and finds 2.51.1: pip install 'ganzoo[ray]'" in said()


def test_the_settings_are_ours_but_the_users_come_first_save_for_the_token() -> None:
    local = environment({"RAY_ADDRESS": "1.2.3.4:5", "RAY_AUTH_TOKEN": "x", "A": "b"}, None, insecure=False)
    assert local["RAY_AUTH_MODE"] == "token"
    assert len(local["RAY_AUTH_TOKEN"]) == 64
    assert local["A"] == "b"
    assert "RAY_ADDRESS" not in local
    assert local["RAY_AUTH_TOKEN"] != environment({}, None, insecure=True)["RAY_AUTH_TOKEN"]
    keepalive = "RAY_grpc_client_keepalive_time_ms"
    assert environment({}, "h:1", insecure=False)[keepalive] == "10000"
    assert environment({keepalive: "7"}, "h:1", insecure=False)[keepalive] == "7"
    assert environment({"RAY_AUTH_TOKEN": "x"}, "h:1", insecure=False)["RAY_AUTH_TOKEN"] == "x"
    assert "RAY_AUTH_MODE" not in environment({}, "h:1", insecure=True)


# The same rows


@pytest.mark.slow
def test_a_comparison_on_ray_with_a_worker_killed_has_the_rows_of_one_on_this_machine(
    tmp_path: Path, tiny_arguments: list[str], mark: str
) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()]
        for row in found:
            row.pop("provenance")
        return found

    def started(name: str, *options: str) -> subprocess.Popen[str]:
        program = "from ganzoo.cli import main; main()"
        what = ["bench", "--objective=dcgan", "--objective=wgan", "--seeds=1", *tiny_arguments, "--slots=2"]
        command = python(program, *what, f"--out={tmp_path / name}", *options)
        kept = {**os.environ, mark: "1"}
        return subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with started("calm") as calm:
        assert calm.wait(300) == 0
    with started("ray", "--engine=ray") as stormy:
        until(lambda: list((tmp_path / "ray" / "cells").glob("wgan*/beat")), 240)  # all of it has to start
        (worker,) = [one for one in marked(mark) if command_line(one).startswith(f"{PYTHON} -m ganzoo.worker")][:1]
        os.kill(worker, signal.SIGKILL)
        _, said = stormy.communicate(timeout=300)
        assert stormy.returncode == 0, said
    assert rows("ray") == rows("calm")
    events = [json.loads(line)["event"] for line in (tmp_path / "ray" / "log.jsonl").read_text().splitlines()]
    assert "ended" in events, "the worker that was killed had an end"
    ended(mark)
