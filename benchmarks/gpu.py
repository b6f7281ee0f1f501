"""The most valuable runs on a GPU in one command of at most nine minutes; the next one goes on where it stopped.

    python benchmarks/gpu.py --data FOLDER/cifar10.npz [--minutes 9] [--state STATE.tar]

First the tests that need a GPU, then `cifar10-paper.toml`. STATE.tar holds the run folder: read where it exists,
written before the command ends, so that a machine that keeps nothing can go on from it. Exit status 0: all done; 75:
come again.
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
RUN = Path("runs/cifar10-paper")
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
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the plan")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes - GRACE
    if not options.data.is_file():
        parser.error(f"no file at {options.data}")
    if options.state and options.state.is_file():
        with tarfile.open(options.state) as archive:
            archive.extractall(ROOT, filter="data")
    python = sys.executable
    if not (ROOT / RUN).exists():
        tested = run_until([python, "-m", "pytest", "-m", "gpu"], deadline)
        if tested not in (0, 5):  # 5: none collected
            print("the GPU's tests fail: no figures are made with it", file=sys.stderr)
            return tested or 1
    bench = [python, "-c", "from ganzoo.cli import main; main()", "bench", "benchmarks/cifar10-paper.toml"]
    changes = [f"data.path={os.path.relpath(options.data.resolve(), ROOT)}", "checkpoint_seconds=10", *options.set]
    done = run_until(
        [*bench, "--device", options.device, "--out", str(RUN), *(x for c in changes for x in ("--set", c))], deadline
    )
    if options.state:
        with tarfile.open(options.state, "w") as archive:
            archive.add(ROOT / RUN, RUN)
    return AGAIN if done is None else done


if __name__ == "__main__":
    sys.exit(main())
