"""How fast everything is, side by side in one run: medians, spread, ratios, shares of the machine's peak.

    python benchmarks/speed.py [--section rounds,mre,cells,scale] [--device cuda] [--quick] [--out runs/speed]

rounds: one critic step + one generator step of the 32x32 DCGAN at batch 64, by ganzoo in each precision, written
plainly in PyTorch, and by other libraries, each in an environment of its own that this command makes (a library that
does not install or run is skipped, with the reason); mre, cells, scale: what `mre_speed.py`, `small_cells.py` and
`scale.py` beside this file measure. The run folder gets `rows.jsonl` and `table.txt`.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.bench import processor_name, provenance
from ganzoo.durable import commit
from ganzoo.engines import usable_cores
from ganzoo_speed import rounds
from ganzoo_speed.plain import OBJECTIVES
from ganzoo_speed.rivals import ENVIRONMENTS, NOT_ON_THE_INDEX, RIVALS
from ganzoo_speed.table import table

ELSEWHERE = {"mre": "mre_speed", "cells": "small_cells", "scale": "scale"}
"""Section -> module with `measure(quick, device) -> rows` (either may be missing) and `table(rows) -> str`."""
SECTIONS = ("rounds", *ELSEWHERE)
CPU_THREADS = (1, 2)

Row = dict[str, Any]
Section = tuple[list[Row], str]
"""Its rows, and what is printed of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    where = described(options)
    rows: list[Row] = []
    texts: list[str] = []
    failed = False
    options.out.mkdir(parents=True, exist_ok=True)
    for section in options.section:
        try:
            here = section == "rounds"
            made, text = of_rounds(options) if here else of_module(section, options)
        except Exception as error:  # noqa: BLE001 (what comes after it is still to be measured)
            traceback.print_exc()
            failed, made, text = True, [], f"failed: {type(error).__name__}: {error}"
        rows += [{**where, **row} for row in made]
        texts.append(f"== {section} ==\n\n{text}")
        # After each section: an interrupted run keeps what it has.
        commit(options.out / "rows.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
        commit(options.out / "table.txt", ("\n\n".join([heading(where), *texts]) + "\n").encode())
    print((options.out / "table.txt").read_text(), end="")
    return 1 if failed else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; whatever is misspelt ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", type=_some_of(SECTIONS), default=SECTIONS, help=",".join(SECTIONS))
    parser.add_argument("--objectives", type=_some_of(OBJECTIVES), default=OBJECTIVES, help=",".join(OBJECTIVES))
    names = tuple(rival.name for rival in RIVALS)
    parser.add_argument("--rivals", type=_some_of((*names, "none")), default=names, help=f"{','.join(names)}, or none")
    parser.add_argument("--threads", type=_counts, help="numbers of threads to measure with, 1,2; on a GPU 1")
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--compiled", action="store_true", help="our rounds under torch.compile as well (minutes)")
    parser.add_argument("--quick", action="store_true", help="few repetitions, to try it out")
    parser.add_argument("--cifar10", type=_file, help="cifar10.npz, for mre on its images as well")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where the other libraries live")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    options = parser.parse_args(arguments)
    if options.threads is None:
        options.threads = CPU_THREADS if options.device == "cpu" else (1,)
    return options


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"no file at {text}")
    return Path(text)


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        asked = tuple(dict.fromkeys(text.split(",")))
        for name in asked:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no '{name}'; there are: {', '.join(known)}")
        return asked

    return read


def _counts(text: str) -> tuple[int, ...]:
    counts = text.split(",")
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise argparse.ArgumentTypeError(f"'{text}': expected numbers of threads, 1,2")
    return tuple(dict.fromkeys(int(count) for count in counts))


def _device(text: str) -> str:
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise argparse.ArgumentTypeError(f"no device '{text}'; there are: cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"'{text}': torch sees {torch.cuda.device_count()} CUDA devices here")
    return text


def described(options: argparse.Namespace) -> Row:
    """What every row says of where it comes from."""
    return {
        **provenance(options.device),
        "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]),
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} cores",
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "quick": options.quick,
    }


def heading(where: Row) -> str:
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("python", "torch", "ganzoo"))
    load = "" if where["load"] is None else f"; load at the start {where['load']:.1f}"
    device = "" if where["device"] == where["processor"] else f"{where['device']}; "
    return (
        f"{where['command']}\n{device}{where['processor']} ({where['capability']}), {where['machine']}{load}\n"
        f"{versions}; commit {where['commit'] or 'unknown'}; {where['started']}"
    )


def of_rounds(options: argparse.Namespace) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        rows = rounds.measure(
            effort=rounds.effort(quick=options.quick, device=options.device),
            device=options.device,
            objectives=options.objectives,
            threads=options.threads,
            rivals=[rival for rival in RIVALS if rival.name in options.rivals],
            environments=options.environments,
            folder=Path(folder),
            compiled=options.compiled,
        )
    left_out = [f"left out: {name}: {why}" for name, why in NOT_ON_THE_INDEX.items()]
    return rows, "\n".join([table(rows), *left_out])


def of_module(section: str, options: argparse.Namespace) -> Section:
    """What another file beside this one measures, or one line where there is no such file."""
    name = ELSEWHERE[section]
    if importlib.util.find_spec(name) is None:
        return [], f"not measured: there is no {name}.py beside speed.py"
    module = importlib.import_module(name)
    known = {
        "quick": options.quick,
        "device": options.device,
        "cifar10": options.cifar10,
        "threads": max(options.threads),
    }
    wanted = inspect.signature(module.measure).parameters
    rows: list[Row] = module.measure(**{key: value for key, value in known.items() if key in wanted})
    return [{"section": section, **row} for row in rows], str(module.table(rows))


if __name__ == "__main__":
    sys.exit(main())
