"""A comparison on two machines, one of which is cut off in the middle: are its rows those of one machine?

    sudo .venv/bin/python benchmarks/two_nodes.py [--lost-seconds 10] [--epochs 120] [--out FOLDER]

The machines are network namespaces of this one, joined by a bridge, with a Ray node in each and the run's folder on the
disk that they share. Partition: the cable of one is pulled, its processes live on and still see the disk. Power: the
cable is pulled and its processes are killed. Stranger: a third machine without the token tries to use the cluster and
to join it. Prints a JSON document of what was measured; exit status 1 where a promise was not kept, 2 where it cannot
run. Needs root, for the namespaces, and `ip` (iproute2).
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from ganzoo.cell_folder import fences, read_beat

ROOT = Path(__file__).resolve().parent.parent
PLAN = [
    "--objective=dcgan", "--objective=wgan", "--seeds=2", "--set=validate_every=2",
    "--set=data.split=[1200,200,200]", "--set=generator.width=16", "--set=critic.width=16", "--set=test_images=64",
    "--set=validation_images=32", "--set=control_images=32",
]  # fmt: skip
"""Four cells, two for each machine; `--epochs` is to make them last longer than Ray takes to notice a cut, 30 s."""
CLI = [sys.executable, "-c", "from ganzoo.cli import main; main()"]
RAY = [sys.executable, "-P", "-m", "ray.scripts.scripts"]
PORT = 6379
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    # Three checks of 3 seconds with one between them, and the head knows that a machine is gone.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
ALLOWANCE = 5.0
"""Seconds beyond `--lost-seconds` in which a lost cell is placed again."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--lost-seconds", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=120, help="of every cell; 30 s of training or more")
    parser.add_argument("--out", type=Path, help="a folder for the runs, which stays; default: one that does not")
    options = parser.parse_args()
    if (why := cannot_run()) is not None:
        print(f"two_nodes.py cannot run here: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    folder = options.out or Path(tempfile.mkdtemp(prefix="two-nodes-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = {
            case: CASES[case](folder.resolve(), [*PLAN, f"--set=epochs={options.epochs}"], options.lost_seconds)
            for case in options.cases
        }
    finally:
        if options.out is None:
            shutil.rmtree(folder, ignore_errors=True)
    kept = all(case["kept"] for case in found.values())
    report = {
        "command": ["benchmarks/two_nodes.py", *sys.argv[1:]],
        "ray": metadata.version("ray"),
        "torch": metadata.version("torch"),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "lost_seconds": options.lost_seconds,
        **found,
        "kept": kept,
    }
    print(json.dumps(report, indent=1))
    return 0 if kept else 1


def cannot_run() -> str | None:
    """Why not, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip`: install iproute2"
    try:
        metadata.version("ray")
    except metadata.PackageNotFoundError:
        return "Ray is not installed: pip install 'ganzoo[ray]'"
    probe = f"gzprobe{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no network namespace can be made: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


def interrupted(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


# The machines


class Machine:
    """A network namespace with an address and a cable to the bridge."""

    def __init__(self, network: str, name: str, number: int) -> None:
        self.space, self.cable = f"{network}-{name}", f"{network}{name[0]}"
        self.address = f"10.77.{os.getpid() % 250}.{number}"

    def plug_in(self, bridge: str) -> None:
        ip("netns", "add", self.space)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", self.cable, "master", bridge, "up")
        ip("-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.space, "link", "set", device, "up")

    def pull_cable(self) -> None:
        ip("link", "set", self.cable, "down")

    def processes(self, having: str = "") -> list[int]:
        """The processes on it with `having` in their command line."""
        said = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=False).stdout
        return [number for number in map(int, said.split()) if having in command_line(number)]

    def power_off(self) -> None:
        for number in self.processes():
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def run(self, command: Sequence[str], **variables: str) -> "subprocess.Popen[str]":
        """A command on it, with only these of Ray's environment variables."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.space, *command],
            env={**kept, **SETTINGS, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """Machines on one bridge; whatever happens, nothing of them is left."""
    network = f"gz{os.getpid() % 100_000}"
    found = [Machine(network, name, number) for number, name in enumerate(names, 1)]
    try:
        ip("link", "add", network, "type", "bridge")
        ip("link", "set", network, "up")
        for machine in found:
            machine.plug_in(network)
        yield found
    finally:
        for machine in found:
            machine.power_off()
            subprocess.run(["ip", "netns", "del", machine.space], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", machine.cable], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", network], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def cluster(head: Machine, *others: Machine) -> Iterator[dict[str, str]]:
    """A Ray node of four CPUs on each, of which Ray fills half before it takes the other; yields the environment
    variables with which one may use it."""
    folder = Path(tempfile.mkdtemp(prefix="gz", dir="/tmp"))  # the path of a socket is short
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    guarded = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    try:
        for machine in (head, *others):
            where = [f"--address={head.address}:{PORT}"]
            if machine is head:
                where = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
            numbers = ["--num-cpus=4", "--num-gpus=0", f"--node-ip-address={machine.address}"]
            finish(machine.run([*RAY, "start", *where, *numbers], **guarded))
        yield guarded
    finally:
        for machine in (head, *others):
            machine.power_off()
        shutil.rmtree(folder, ignore_errors=True)


def finish(process: "subprocess.Popen[str]", seconds: float = 120.0) -> str:
    """What it printed. Raises RuntimeError where it failed."""
    said, _ = process.communicate(timeout=seconds)
    if process.returncode != 0:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{said}")
    return said


# The cases


def one_machine(folder: Path, plan: list[str]) -> Path:
    """The run's folder of the same plan on this machine, without Ray."""
    run = folder / "calm"
    if not (run / "summary.json").exists():
        tell("the same comparison on one machine ...")
        command = [*CLI, "bench", *plan, "--slots=2", f"--out={run}"]
        done = subprocess.run(command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
    return run


def partition(folder: Path, plan: list[str], lost_seconds: float) -> dict[str, Any]:
    return cut_off(folder, plan, "partition", lost_seconds, with_power=False)


def power(folder: Path, plan: list[str], lost_seconds: float) -> dict[str, Any]:
    return cut_off(folder, plan, "power", lost_seconds, with_power=True)


def cut_off(folder: Path, plan: list[str], name: str, lost_seconds: float, *, with_power: bool) -> dict[str, Any]:
    """Run the plan on two machines, cut one off while it trains, compare."""
    calm, run = one_machine(folder, plan), folder / name
    shutil.rmtree(run, ignore_errors=True)
    tell(f"{name}: two machines, one of them to be cut off ...")
    with machines("head", "node") as (head, node), cluster(head, node) as token:
        address = f"--address={head.address}:{PORT}"
        command = [*CLI, "bench", *plan, "--engine=ray", address, f"--lost-seconds={lost_seconds}", f"--out={run}"]
        driver = head.run(command, **token)
        there = wait_for_training(node, run, driver)
        node.pull_cable()
        if with_power:
            node.power_off()
        cut = time.time()
        tell(f"{name}: cut off with {', '.join(sorted(there))} at work there")
        beats, zombies_end = watch(node, run, there, driver, cut)
        said, _ = driver.communicate(timeout=900)
        if driver.returncode != 0:
            tell(said)
        left = [command_line(number) for number in node.processes("ganzoo.worker")]
    replaced = seconds_to_replace(run, there, cut)
    lines = Counter(
        (path.parent.name, json.loads(line)["round"])
        for path in run.glob("cells/*/curve.jsonl")
        for line in path.read_text().splitlines()
    )
    found: dict[str, Any] = {
        "exit_status": driver.returncode,
        "cells": len(rows(run)),
        "rows_equal": rows(run) == rows(calm),
        "curve_lines_twice": sum(count - 1 for count in lines.values()),
        "cells_cut_off": sorted(there),
        "seconds_until_placed_again": replaced,
        "seconds_until_its_next_beat": beats,
        "left_at_the_end": left,
    }
    if with_power:
        found["promised_seconds"] = lost_seconds + ALLOWANCE
        in_time = all(seconds <= lost_seconds + ALLOWANCE for seconds in replaced.values())
    else:  # the workers beat on, so that it is Ray that has to notice
        found["seconds_until_the_zombies_ended"] = zombies_end
        in_time = zombies_end is not None
    found["kept"] = (
        driver.returncode == 0
        and found["rows_equal"]
        and not found["curve_lines_twice"]
        and not left
        and replaced.keys() == there
        and in_time
    )
    return found


def stranger(folder: Path, plan: list[str], lost_seconds: float) -> dict[str, Any]:
    """A third machine without the token: it can neither use the cluster nor join it."""
    tell("stranger: a third machine without the token ...")
    with machines("head", "other") as (head, other), cluster(head):
        address = f"{head.address}:{PORT}"
        empty = {"HOME": tempfile.mkdtemp(prefix="no-token-")}
        told = f"--out={folder / 'stranger'}"
        attempts = {
            "use": [*CLI, "bench", *plan, "--engine=ray", f"--address={address}", told],
            "use, insecure": [*CLI, "bench", *plan, "--engine=ray:insecure=true", f"--address={address}", told],
            "join": [*RAY, "start", f"--address={address}", f"--node-ip-address={other.address}", "--num-cpus=2"],
        }
        found: dict[str, Any] = {}
        for name, command in attempts.items():
            mode = {} if name == "use" else {"RAY_AUTH_MODE": "disabled"}
            process = other.run(command, **empty, **mode)
            said, _ = process.communicate(timeout=300)
            last = [line for line in said.splitlines() if line.strip()][-1:]
            found[name] = {"exit_status": process.returncode, "said": last}
        shutil.rmtree(empty["HOME"], ignore_errors=True)
    found["kept"] = all(attempt["exit_status"] != 0 for attempt in found.values())
    return found


CASES = {"partition": partition, "power": power, "stranger": stranger}


def wait_for_training(node: Machine, run: Path, driver: "subprocess.Popen[str]") -> set[str]:
    """The names of the cells that are trained on the machine, once each has committed a checkpoint and gone on."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and driver.poll() is None:
        commands = [command_line(number) for number in node.processes("-m ganzoo.worker")]
        there = {word.rpartition("/")[2] for line in commands for word in line.split() if "/cells/" in word}
        if there and all(points(run / "cells" / cell) >= 3 for cell in there):
            return there
        time.sleep(0.2)
    driver.kill()
    raise RuntimeError(f"no cell was trained on the second machine:\n{driver.communicate()[0]}")


def points(cell: Path) -> int:
    """Lines of its curve."""
    path = cell / "curve.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def watch(
    node: Machine, run: Path, cells: set[str], driver: "subprocess.Popen[str]", cut: float
) -> tuple[dict[str, float], float | None]:
    """Seconds after which another attempt at each cell has beaten, and after which the last worker behind the cut has
    ended, None where one outlives the run."""
    before = {cell: max(fences(run / "cells" / cell)) for cell in cells}
    beats: dict[str, float] = {}
    zombies_end: float | None = None
    while driver.poll() is None:
        now = round(time.time() - cut, 1)
        for cell in cells - beats.keys():
            beat = read_beat(run / "cells" / cell)
            if beat is not None and beat.fence > before[cell]:
                beats[cell] = now
        if zombies_end is None and not node.processes("-m ganzoo.worker"):
            zombies_end = now
        time.sleep(0.1)
    return beats, zombies_end


def seconds_to_replace(run: Path, cells: set[str], cut: float) -> dict[str, float]:
    """From the cut to the next attempt at each cell, by the run's log."""
    found: dict[str, float] = {}
    for line in (run / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        since = datetime.fromisoformat(event["time"]).timestamp() - cut
        if event["event"] == "placed" and event["cell"] in cells and since > 0:
            found.setdefault(event["cell"], round(since, 1))
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    """Without their provenance: who made them, where, in which attempt."""
    found = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in found:
        del row["provenance"]
    return sorted(found, key=lambda row: (row["label"], row["seed"]))


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
