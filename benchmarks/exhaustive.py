"""Each of ganzoo's own costs at all 2^32 float32 values, with what that took: one command, one file.

    taskset -c 2,3 python benchmarks/exhaustive.py [--cost leaky --cost leaky:slope=0.2] [--device cpu] [--out FILE]

What `ganzoo check COST --exhaustive --fresh` evaluates, at the defaults or at what the name says. The file is written
after each cost; one that is in it already, for the same key, is not evaluated again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from ganzoo.bench import provenance
from ganzoo.checks import Check, Refuted, Subject
from ganzoo.checks.counterexample import Told
from ganzoo.checks.every_float import EVERY_FLOAT
from ganzoo.checks.exhaustive import cores
from ganzoo.checks.kept import key_of
from ganzoo.checks.sweeps import every_float
from ganzoo.config import grid_of
from ganzoo.durable import commit_json
from ganzoo.zoo import Entry, Zoo

COMMAND = {"cpu": "taskset -c 2,3 python benchmarks/exhaustive.py"}
RESULTS = Path(__file__).parent / "results" / "exhaustive" / "costs.json"


def command_on(device: str) -> str:
    return COMMAND.get(device, f"python benchmarks/exhaustive.py --device {device}")


def swept(entry: Entry, settings: dict[str, Any], device: str) -> dict[str, Any]:
    """One cost at one setting: its key, the wall and processor seconds, what was found, what the checks say of it."""
    wall, processor = time.monotonic(), time.process_time()
    tally = every_float(entry, settings, device=device, fresh=True)
    seconds, processor_seconds = time.monotonic() - wall, time.process_time() - processor
    subject = Subject(entry, device=device, sweep=lambda _: tally)
    return {
        "key": key_of(entry, settings, device),
        "threads": cores() if device == "cpu" else 1,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds, 1),
        "tally": tally.as_dict(),
        "results": {check.id: _said(check, subject, settings) for check in EVERY_FLOAT},
        "provenance": provenance(device) | {"command": command_on(device)},
    }


def _said(check: Check, subject: Subject, settings: dict[str, Any]) -> str:
    try:
        told = check.law(subject, settings)
    except Refuted as refuted:
        return f"refuted: {refuted.message}"
    return told.message if isinstance(told, Told) else str(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="append", help="NAME or NAME:key=v; default: each of ganzoo's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a file, or a folder for costs.json")
    asked = parser.parse_args()
    if asked.out.suffix != ".json":
        asked.out.mkdir(parents=True, exist_ok=True)
        asked.out /= "costs.json"
    zoo = Zoo.installed()
    names = asked.cost or [entry.name for entry in zoo.entries("cost") if entry.origin.ours]
    rows = json.loads(asked.out.read_text())["sweeps"] if asked.out.exists() else []
    for name in names:
        entry = zoo.find("cost", name.partition(":")[0])
        for given in grid_of(name):
            settings = entry.validate(**given)
            key = key_of(entry, settings, asked.device)
            if any(row["key"] == key for row in rows):
                continue
            rows = [row for row in rows if (row["key"]["cost"], row["key"]["hyperparameters"]) != (name, settings)]
            rows.append(swept(entry, settings, asked.device))
            commit_json(asked.out, {"command": command_on(asked.device), "sweeps": rows})
            print(f"{name}: {rows[-1]['seconds']} s, {rows[-1]['processor_seconds']} s of processors", flush=True)


if __name__ == "__main__":
    main()
