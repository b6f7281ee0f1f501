"""The most valuable runs on a GPU in one command of at most nine minutes; the next one goes on where it stopped.

    python benchmarks/gpu.py --data FOLDER/cifar10.npz [--minutes 9] [--state STATE.tar]

First the tests that need a GPU, then `exhaustive.py`, `gpu_reliability.py`, `figure9.py`, the speed of rounds and of
MRE, `cifar10-paper.toml`, table 2 and figure 9 at the paper's size. STATE.tar holds the run folders: read where it
exists, written before the command ends, so that a machine that keeps nothing can go on from it. Exit status 0: all
done; 75: come again; 1: a cell diverged.
"""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = Path("runs/gpu")
AGAIN = 75
GRACE = 20
"""Seconds kept for the last checkpoint and the archive."""


def run_until(command: list[str], deadline: float) -> int | None:
    """Its exit status; None if it was interrupted at the deadline (time.monotonic)."""
    print("+", " ".join(command), flush=True)
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=GRACE / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cifar10.npz")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--state", type=Path, help="archive of the run folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change cifar10-paper.toml")
    parser.add_argument("--size", default="paper", help="of the paper's items: paper, or small to try the script out")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes - GRACE
    if not options.data.is_file():
        parser.error(f"no file at {options.data}")
    if options.state and options.state.is_file():
        with tarfile.open(options.state) as archive:
            archive.extractall(ROOT, filter="data")
    python = sys.executable
    modules = [python, "-c", "from ganzoo.cli import main; main()"]
    if not (ROOT / RUNS).exists():
        tested = run_until([python, "-m", "pytest", "-m", "gpu"], deadline)
        if tested not in (0, 5):  # 5: none collected
            print("the GPU's tests fail: no figures are made with it", file=sys.stderr)
            return tested or 1
    worst: int | None = 0
    for name, arguments in commands(options).items():
        done = ROOT / RUNS / name / "done"
        if done.exists():
            continue
        where = ["--device", options.device, "--out", str(RUNS / name)]
        program = [python] if arguments[0].endswith(".py") else modules
        status = run_until([*program, *arguments, *where], deadline)
        if status in (None, AGAIN):
            worst = None
            break
        worst = status or worst
        if status == 0:
            done.touch()
    if options.state and (ROOT / RUNS).exists():
        with tarfile.open(options.state, "w") as archive:
            archive.add(ROOT / RUNS, RUNS)
    return AGAIN if worst is None else worst


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """Folder -> what is run into it, the most valuable first. Each resumes in its folder, and is quick once done."""
    data = os.path.relpath(options.data.resolve(), ROOT)
    changes = [f"data.path={data}", "checkpoint_seconds=10", *options.set]
    paper = ["--size", options.size, "--data", "cifar10", "--path", data]
    settings = [word for change in changes for word in ("--set", change)]
    minutes = ["--minutes", "100"]  # interrupted from here, and resumed by the next command
    quick = ["--quick"] if options.size == "small" else []
    return {
        "exhaustive": ["benchmarks/exhaustive.py", *(["--cost", "relu"] if quick else [])],
        "reliability": ["benchmarks/gpu_reliability.py", *quick],
        "figure9": ["benchmarks/figure9.py", "--data", data, "--size", options.size, *minutes, *settings[2:]],
        **{
            f"speed-{section}": ["benchmarks/speed.py", "--section", section, "--rivals", "none", *quick]
            for section in ("rounds", "mre")
        },
        "cifar10-paper": ["bench", "benchmarks/cifar10-paper.toml", *settings],
        "table-2": ["paper", "table-2", *paper],
        "figure-9": ["paper", "figure-9", *paper],
    }


if __name__ == "__main__":
    sys.exit(main())
