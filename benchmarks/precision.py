"""What bf16 does to the result: the same comparison in fp32 and in bf16, paired by objective and seed.

    python benchmarks/precision.py --data FOLDER/cifar10.npz [--seeds 4] [--out runs/precision]

The plan is `cifar10-small.toml` with three objectives and four epochs; the folders `fp32` and `bf16` below --out are
ordinary runs, and the same command again resumes them.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ganzoo.statistics import interval_of_mean, sign_flip_p

PLAN = Path(__file__).parent / "cifar10-small.toml"
OBJECTIVES = ("ls-gan", "wgan-gp", "dcgan")
PRECISIONS = ("fp32", "bf16")


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Of each objective: its mean test MRE in either precision, the paired difference, the seconds of a training."""
    lines = [
        f"{'objective':<12} {'fp32':>7} {'bf16':>7}  bf16 - fp32, 95 % interval   p      control fp32, bf16  seeds"
    ]
    found = {name: {(row["label"], row["seed"]): row for row in rows} for name, rows in runs.items()}
    for label in dict.fromkeys(row["label"] for row in runs["fp32"]):
        pairs = [
            (row, found["bf16"][key])
            for key, row in found["fp32"].items()
            if key[0] == label and row["verdict"] == found["bf16"][key]["verdict"] == "done"
        ]
        if not pairs:
            lines.append(f"{label:<12} no seed finished in both")
            continue
        exact, coarse = ([pair[i]["test_mre"] for pair in pairs] for i in (0, 1))
        controls = [sum(pair[i]["control_mre"] for pair in pairs) / len(pairs) for i in (0, 1)]
        differences = [b - a for a, b in zip(exact, coarse, strict=True)]
        interval = interval_of_mean(differences)
        between = "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
        lines.append(
            f"{label:<12} {sum(exact) / len(exact):7.4f} {sum(coarse) / len(coarse):7.4f}"
            f"  {sum(differences) / len(differences):+.4f}  {between:<18}  {sign_flip_p(differences):.3f}"
            f"  {controls[0]:.4f}, {controls[1]:.4f}      {len(pairs)}"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cifar10.npz")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"no file at {options.data}")
    runs = {}
    for precision in PRECISIONS:
        settings = {"data.path": options.data, "precision": precision, "epochs": 4, "seeds": options.seeds}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        words += [word for objective in OBJECTIVES for word in ("-o", objective)]
        command = [sys.executable, "-c", "from ganzoo.cli import main; main()", "bench", os.path.relpath(PLAN), *words]
        status = subprocess.run([*command, "--out", str(options.out / precision)], check=False).returncode
        if status not in (0, 1):
            return status
        lines = (options.out / precision / "rows.jsonl").read_text().splitlines()
        runs[precision] = [json.loads(line) for line in lines]
    text = table(runs)
    (options.out / "table.txt").write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
