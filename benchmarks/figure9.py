"""Qi 2017, figure 9(a): five objectives on CIFAR-10, validation and test MRE after every epoch.

    python benchmarks/figure9.py --data FOLDER/cifar10.npz --device cuda [--minutes 9]
    python benchmarks/figure9.py --data FOLDER/cifar10.npz --size small

The plan is `figure9.toml`: 100 epochs of 30,000 images at 32x32, batch 64, networks of width 64. `--size small` is for
two CPU cores: width 16, 2 epochs, 100 images a point. The same command again resumes. Exit status 0: done; 75: the
minutes are over, come again.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ganzoo.report.figures import save

PLAN = Path(__file__).parent / "figure9.toml"
AGAIN = 75
SMALL = {
    "epochs": 2,
    "generator.width": 16,
    "critic.width": 16,
    "validation_images": 100,
    "curve_test_images": 100,
    "test_images": 100,
    "control_images": 50,
    "shared.critic_rate": 0.002,
    "shared.generator_rate": 0.002,
    "shared.decay_epochs": 1,
}
"""What two cores do in a few minutes; the rates are those of `cifar10-small.toml`."""


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """Keys of the plan that the command line changes."""
    given = {"data.path": options.data, **(SMALL if options.size == "small" else {})}
    return {**given, **dict(setting.split("=", 1) for setting in options.set)}


def run(command: list[str], deadline: float) -> int:
    """Its exit status; AGAIN if it was interrupted, at the deadline (time.monotonic) at the latest.

    What was trained since the last checkpoints is then trained again.
    """
    process = subprocess.Popen(command)
    try:
        return process.wait(timeout=max(1.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return AGAIN


def figure(rows: list[dict[str, Any]], epochs: int) -> Figure:
    """Test and validation MRE over epochs, side by side."""
    drawn = Figure(figsize=(11, 4.5), layout="constrained")
    panels = drawn.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("test_mre", "validation_mre"), strict=True):
        for row in rows:
            points = [point for point in row.get("curve", []) if name in point]
            axes.plot([p["epoch"] for p in points], [p[name] for p in points], label=row["label"])
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_mre", " images"))
        axes.grid(alpha=0.3)
        axes.set_xlim(0, epochs)
    panels[0].set_ylabel("MRE, mean |x - G(z)|")
    for text in panels[0].legend().get_texts():
        text.set_parse_math(False)
    return drawn


def told(rows: list[dict[str, Any]], seconds: float) -> str:
    """What came out, beside the paper's order, from the rows."""
    done = [row for row in rows if row["verdict"] == "done"]
    ranked = sorted(done, key=lambda row: float(row["curve"][-1]["test_mre"]))
    lines = [f"{'objective':<22} test MRE  after the first epoch  largest rise between two epochs"]
    for row in ranked:
        errors = [point["test_mre"] for point in row["curve"]]
        rise = max((after - before for before, after in itertools.pairwise(errors)), default=0.0)
        lines.append(f"{row['label']:<22} {errors[-1]:.4f}    {errors[1]:.4f}                 {max(rise, 0.0):.4f}")
    lines += [f"{row['label']:<22} {row['verdict']}" for row in rows if row["verdict"] != "done"]
    order = " < ".join(row["label"] for row in ranked)
    lines.append(f"\nHere: {order}. The paper: gls-gan < wgan < wgan-gp < ls-gan < dcgan (0.1089 to 0.1506).")
    lines.append(f"All of it in {seconds:.0f} s, over all commands, data load and report included.")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="cifar10.npz")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("paper", "small"), default="paper")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("runs/figure9"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the plan further")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        parser.error(f"no file at {options.data}")
    if unequal := [setting for setting in options.set if "=" not in setting]:
        parser.error(f"--set {unequal[0]}: expected KEY=VALUE")
    started, clock = time.monotonic(), options.out / "seconds.json"
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    settings = [word for key, value in changes(options).items() for word in ("--set", f"{key}={value}")]
    bench = [sys.executable, "-c", "from ganzoo.cli import main; main()", "bench", os.path.relpath(PLAN), *settings]
    status = run([*bench, "--device", options.device, "--out", str(options.out)], started + 60 * options.minutes)
    if options.out.is_dir():
        clock.write_text(json.dumps(before + time.monotonic() - started))
    if status not in (0, 1) or not (options.out / "rows.jsonl").exists():  # 1: a cell diverged or failed: told below
        return status
    rows = [json.loads(line) for line in (options.out / "rows.jsonl").read_text().splitlines()]
    save(
        figure(rows, max(p["epoch"] for row in rows for p in row.get("curve", [{"epoch": 1}]))),
        options.out / "figure9.png",
    )
    text = told(rows, before + time.monotonic() - started)
    (options.out / "figure9.txt").write_text(text)
    print(text, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
