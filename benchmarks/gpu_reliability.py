"""What of the reliability contract only a GPU can tell.

    python benchmarks/gpu_reliability.py [--device cuda] [--out FOLDER] [--quick]

1. Are two trainings of one cell the same bits, with deterministic algorithms and without, and what do they cost?
2. Two cells on one GPU, each a process of its own: the bits of each alone? How long, against one after the other?
3. A worker killed in the middle and resumed: the bits of one that was not?

Writes reliability.json: figures, and versions, device and command. On a CPU it runs too, to try it out.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ganzoo.bench import Run, prepare, provenance
from ganzoo.cell_folder import checkpoints, read_curve
from ganzoo.config import read_plan
from ganzoo.durable import commit_json
from ganzoo.engines import local_engine, started
from ganzoo.placing import WORKER, Placed
from ganzoo.zoo import Zoo

OBJECTIVES = ("gls-gan", "wgan-gp")


def plan_of(options: argparse.Namespace, **changes: Any) -> Any:
    """Two objectives on synthetic 32x32 colour images, the networks of the paper's size, or small ones."""
    width = 8 if options.quick else 64
    return read_plan(
        None,
        **{
            "objectives": list(OBJECTIVES),
            "seeds": 1,
            "data.set": "npz",
            "data.path": str(images(options.out, 600 if options.quick else 8000)),
            "device": options.device,
            "epochs": 2 if options.quick else 10,
            "validate_every": 1,
            "batch_size": 64,
            "generator.width": width,
            "critic.width": width,
            "z_dim": 16,
            "validation_images": 16,
            "test_images": 32,
            "control_images": 8,
            "validation_mre": {"steps": 20, "restarts": 1},
            "test_mre": {"steps": 20, "restarts": 2},
            "checkpoint_seconds": 0.5,
            **changes,
        },
    )


def images(folder: Path, count: int) -> Path:
    """Random blots: (count, 32, 32, 3) uint8."""
    import numpy as np

    path = folder / f"blots-{count}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rough = np.random.default_rng(0).random((count, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2)
        np.savez(path, images=(255 * rough).astype(np.uint8))
    return path


def laid_out(options: argparse.Namespace, name: str, **changes: Any) -> list[Path]:
    """The cells' folders of a run of that name."""
    run = Run(options.out / f"{name}-{time.time_ns()}", prepare(plan_of(options, **changes), Zoo.installed()))
    with run.held():
        return [run.directory(cell) for cell in run.cells]


def bits(directory: Path) -> str:
    """Of the curve and of the last checkpoint's tensors and numbers."""
    content = checkpoints(directory)[0].read_bytes() + json.dumps(read_curve(directory)).encode()
    return hashlib.sha256(content).hexdigest()


def ended(placed: Placed) -> int:
    while (status := placed.poll()) is None:
        time.sleep(0.05)
    return status


def trained(directory: Path) -> dict[str, float]:
    """Seconds of a cell trained by a process of its own."""
    if status := ended(started([*WORKER, "--log", str(directory)])):
        raise SystemExit(f"{directory} ended with status {status}; see its log")
    found: dict[str, float] = json.loads((directory / "timing.json").read_text())
    return found


def repeated(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, objective in enumerate(OBJECTIVES):
        seconds: dict[bool, float] = {}
        for deterministic in (False, True):
            both = [laid_out(options, "repeated", deterministic=deterministic)[number] for _ in range(2)]
            times = [trained(directory)["training_s"] for directory in both]
            seconds[deterministic] = min(times)
            same = bits(both[0]) == bits(both[1])
            found.append({"objective": objective, "deterministic": deterministic, "same_bits": same, "seconds": times})
        found[-1]["times_as_long"] = seconds[True] / seconds[False]
    return found


def side_by_side(options: argparse.Namespace) -> dict[str, Any]:
    alone = laid_out(options, "alone", deterministic=True)
    began = time.monotonic()
    for directory in alone:
        trained(directory)
    one_by_one = time.monotonic() - began
    together = laid_out(options, "together", deterministic=True)
    # Two shares of a GPU; on a CPU two places.
    engine = local_engine(
        1, 0.5 if torch.device(options.device).type == "cuda" else 0.0, None if torch.cuda.is_available() else 2
    )
    began = time.monotonic()
    try:
        placed = [engine.place([*WORKER, "--log", str(directory)]) for directory in together]
        statuses = [ended(one) for one in placed]
    finally:
        engine.close()
    at_once = time.monotonic() - began
    same = [bits(one) == bits(other) for one, other in zip(alone, together, strict=True)]
    return {"statuses": statuses, "same_bits": same, "one_by_one_s": one_by_one, "at_once_s": at_once}


def killed(options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for number, objective in enumerate(OBJECTIVES):
        calm = laid_out(options, "calm", deterministic=True)[number]
        seconds = trained(calm)["training_s"]
        stormy = laid_out(options, "killed", deterministic=True)[number]
        kills = 0
        for share in (0.25, 0.5, 0.75):
            worker = started([*WORKER, "--log", str(stormy)])
            while worker.poll() is None and not checkpoints(stormy):
                time.sleep(0.05)
            time.sleep(share * seconds)
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                kills += 1
            worker.wait()
        trained(stormy)
        found.append({"objective": objective, "kills": kills, "same_bits": bits(calm) == bits(stormy)})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-reliability"))
    parser.add_argument("--quick", action="store_true", help="small networks, few images: to try it out")
    options = parser.parse_args()
    found: dict[str, Any] = {"provenance": provenance(options.device)}
    for name, measure in (("repeated", repeated), ("side_by_side", side_by_side), ("killed", killed)):
        found[name] = measure(options)
        print(name, json.dumps(found[name]), flush=True)
        commit_json(options.out / "reliability.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
