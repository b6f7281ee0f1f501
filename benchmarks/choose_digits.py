"""How the default plan for digits was chosen: on the validation images alone, one seed that the plan does not use.

    python benchmarks/choose_digits.py [--jobs N] [GROUP ...]

Each group varies one thing around the defaults and prints the validation MRE after the last epoch, the variation over
the last 20 % of the epochs, and milliseconds a round. The test images are never looked at.
"""

import argparse
import itertools
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from ganzoo.config import cells, read_plan
from ganzoo.party import read_data
from ganzoo.result import last_fifth
from ganzoo.train import Diverged, Training
from ganzoo.zoo import Zoo

SEED = 1000
ALL = ["ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"]

GROUPS: dict[str, dict[str, list[Any]]] = {
    "rate": {"shared.critic_rate = shared.generator_rate": [2e-3, 4e-3, 8e-3, 16e-3]},
    "decay": {"shared.decay_epochs": [1, 2, 4]},
    "width": {"generator.width = critic.width": [8, 16, 32]},
    "batch": {"batch_size": [16, 32, 64]},
    "init": {"generator.init_std = critic.init_std": [0.05, 0.2, 0.4]},
    "ls-penalty": {"objectives": [[f"ls-gan:penalty_weight={w}"] for w in (0, 0.01, 0.1, 1, 10)]},
    "gls-penalty": {"objectives": [[f"gls-gan:penalty_weight={w}"] for w in (0, 0.01, 0.1, 1, 10)]},
    "gls-slope": {"objectives": [[f"gls-gan:slope={s}"] for s in (-1, 0, 0.01, 0.2, 0.5, 0.9, 1)]},
    "ls-scale": {"objectives": [[f"ls-gan:scale={s}"] for s in (0.1, 0.5, 2.4576, 10)]},
    "wgan-clip": {"objectives": [[f"wgan:clip={c}"] for c in (0.003, 0.01, 0.03, 0.1, 0.3)]},
    "gp-weight": {"objectives": [[f"wgan-gp:penalty_weight={w}"] for w in (0.1, 1, 10, 100)]},
    "cls-balance": {"objectives": [[f"cls-gan:balance={b}"] for b in (0.5, 1, 2, 10, 100)]},
    "cls-scale": {"objectives": [[f"cls-gan:balance=2,scale={s}"] for s in (0.5, 2.4576, 10, 50)]},
}


def variations(group: dict[str, list[Any]], base: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for values in itertools.product(*group.values()):
        changes = dict(base)
        for keys, value in zip(group, values, strict=True):
            changes |= {key.strip(): value for key in keys.split("=")}
        made.append(changes)
    return made


def measure(changes: dict[str, Any]) -> tuple[str, str]:
    """One training on the validation images -> (objective, figures)."""
    torch.set_num_threads(1)
    zoo = Zoo.installed()
    (cell,) = cells(read_plan(None, **{**changes, "seeds": 1}), zoo)
    cell = cell.model_copy(update={"seed": SEED})
    training = Training(cell, zoo, read_data(cell.settings.data))
    started = time.monotonic()
    try:
        training.run()
    except Diverged as diverged:
        return cell.contender.label, str(diverged)
    seconds = time.monotonic() - started
    last, varied = training.curve[-1]["validation_mre"], last_fifth(training.curve)
    settling = "-" if varied is None else f"{varied:.3f}"
    return cell.contender.label, f"{last:.4f} (last fifth {settling}; {seconds:.0f} s, {training.round} rounds)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="change the base")
    parser.add_argument("--objectives", default=",".join(ALL))
    options = parser.parse_args()
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no group '{unknown[0]}'; there are: {', '.join(GROUPS)}")
    base = {key: json.loads(value) for key, _, value in (text.partition("=") for text in options.set)}
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for name in options.groups or GROUPS:
            group = GROUPS[name]
            tried = []
            for changes in variations(group, base):
                alone = "objectives" in changes
                tried += [changes] if alone else [{**changes, "objectives": [o]} for o in options.objectives.split(",")]
            for changes, (label, said) in zip(tried, pool.map(measure, tried), strict=True):
                what = {k: v for k, v in changes.items() if k != "objectives" and k not in base}
                print(f"{name:<12} {label:<28} {what or ''} {said}", flush=True)


if __name__ == "__main__":
    main()
