"""How seconds, memory and disk grow: images, resolution, width, cells, restarts; and the start of a comparison.

    python benchmarks/scale.py [--quick] [--device cpu] [--out FILE.json]

Each point is measured in a process of its own, so that its peak of resident memory is its own. `docs/scale.md` has the
formulas and the last table.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 1
REPEATS = 5
LEAST_FREE = 4e9
"""Bytes of disk that are left free."""
FIRST = '''
import os, time
import ganzoo


@ganzoo.objective
def first_round() -> ganzoo.Objective:
    """S = E L(x) - E L(G(z)); the first batch leaves the time at which it was played."""

    def critic_loss(critic, real, fake):
        if len(real) == 32 and not os.path.exists(os.environ["GANZOO_FIRST"]):
            with open(os.environ["GANZOO_FIRST"], "w") as file:
                file.write(repr(time.time()))
        return critic(real).mean() - critic(fake).mean()

    return ganzoo.Objective(critic_loss)
'''

Row = dict[str, Any]


# What is measured, each in a process of its own: size, device, folder -> what it found


def images(count: int, device: str, folder: str) -> Row:
    """A mapped set of 3x32x32: opened, split, hashed, and 200 shuffled batches of 64 drawn from it.

    The file is sparse: its pages are zeros that no disk is asked for. The first 1e5 images are written, so a set up to
    that size is real.
    """
    from ganzoo.data import Batches, load_images, split
    from ganzoo.data.mapped import file_sha256

    file = Path(folder) / "images.npy"
    array = np.lib.format.open_memmap(file, "w+", np.uint8, (count, 3, 32, 32))
    written = min(count, 100_000)
    noise = np.random.default_rng(0).integers(0, 256, (1000, 3, 32, 32), dtype=np.uint8)
    for first in range(0, written, len(noise)):  # in parts, which add nothing to the peak of memory
        array[first : first + len(noise)] = noise[: written - first]
    array.flush()
    del array
    os.environ["GANZOO_DATA"] = folder
    before = _peak_mb()
    opening = _seconds(lambda: split(load_images("npy", path=file), (0.5, 0.25, 0.25)), 1)
    parts = split(load_images("npy", path=file), (0.5, 0.25, 0.25))
    batches = Batches(parts.train, min(64, len(parts.train.images)), seed=0, device=device)
    start = time.perf_counter()
    for k in range(200):
        batches[k]
    batch = (time.perf_counter() - start) / 200
    hashing: float = 0.0
    if file.stat().st_size < 4e9:
        hashing = _seconds(lambda: file_sha256(file), 1)
    return {
        "seconds": opening,
        "peak_mb": _peak_mb() - before,
        "disk_mb": file.stat().st_size / 1e6,
        "batch_ms": 1000 * batch,
        "hash_s": hashing,
        "note": "sparse" if count > written else "",
    }


def resolution(side: int, device: str, folder: str) -> Row:
    """A round of GLS-GAN, dcgan of width 16, batch 64."""
    return _round(side, 16, device)


def width(channels: int, device: str, folder: str) -> Row:
    """A round of GLS-GAN at 32x32, batch 64."""
    return _round(32, channels, device)


def restarts(count: int, device: str, folder: str) -> Row:
    """10 steps of MRE for 64 images at 32x32, generator of width 16."""
    import torch

    from ganzoo.mre import Protocol, minimum_reconstruction_error
    from ganzoo.zoo import Zoo

    generator = Zoo.installed().generator("dcgan", width=16)(100, (3, 32, 32)).to(device)
    given = torch.zeros(64, 3, 32, 32)
    protocol = Protocol(steps=10, restarts=count)
    minimum_reconstruction_error(generator, given[:1], z_dim=100, protocol=Protocol(steps=1, restarts=1))  # imports
    before = _peak_mb()
    seconds = _seconds(lambda: minimum_reconstruction_error(generator, given, z_dim=100, protocol=protocol), 1)
    return {"seconds": seconds, "peak_mb": _peak_mb() - before}


def planning(count: int, device: str, folder: str) -> Row:
    """`cells` of a plan: every cell with its hashes and its folder's name."""
    from ganzoo.config import cells, read_plan
    from ganzoo.zoo import Zoo

    zoo, plan = Zoo.installed(), read_plan(None, **_many(count))
    before = _peak_mb()
    seconds = _seconds(lambda: [cell.directory for cell in cells(plan, zoo)], 1)
    return {"seconds": seconds, "peak_mb": _peak_mb() - before}


def claiming(count: int, device: str, folder: str) -> Row:
    """`Run` takes a new folder: a cell.json for each cell, synced to the disk."""
    run = _run(count, folder)
    start = time.perf_counter()
    with run.held():
        pass
    return {"seconds": time.perf_counter() - start, "peak_mb": _peak_mb(), "disk_mb": _disk_mb(Path(folder))}


def row_writing(count: int, device: str, folder: str) -> Row:
    """`write_rows` once, with a row of usual size in every cell: the driver does this after each cell."""
    run = _run(count, folder)
    with run.held():
        row = {"curve": [{"epoch": i, "round": i, "critic_loss": 0.1, "validation_mre": 0.2} for i in range(21)]}
        for cell in run.cells:
            name = {"label": cell.contender.label, "seed": cell.seed, "fold": None, "verdict": "diverged@1"}
            (run.directory(cell) / "row.json").write_text(json.dumps({**row, **name}))
        start = time.perf_counter()
        run.write_rows()
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_mb": _peak_mb(),
        "disk_mb": _disk_mb(Path(folder)),
    }


def settling(count: int, device: str, folder: str) -> Row:
    """What a resumed run looks at before its first cell: every cell's row, here none."""
    run = _run(count, folder)
    with run.held():
        seconds = _seconds(run.rows, 1)
    return {"seconds": seconds, "peak_mb": _peak_mb()}


def start_up(jobs: int, device: str, folder: str) -> Row:
    """From the start of `ganzoo bench` on the digits to the first round of a game in a worker."""
    plugin, left = Path(folder) / "first.py", Path(folder) / "first"
    plugin.write_text(FIRST)
    command = "from ganzoo.cli import main; main()"
    arguments = ["bench", "-p", str(plugin), "-o", "first-round", "--jobs", str(jobs), "--out", f"{folder}/run"]
    start = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--device", device],
        env={**os.environ, "GANZOO_FIRST": str(left)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not (left.exists() and left.read_text()):
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(process.stderr.read().decode())
            time.sleep(0.01)
        return {"seconds": float(left.read_text()) - start}
    finally:
        process.terminate()
        process.communicate()


MEASURED: dict[str, tuple[Callable[[int, str, str], Row], str, list[int], list[int]]] = {
    "images": (images, "N", [1_000, 100_000], [1_000, 10_000, 100_000, 1_000_000, 10_000_000]),
    "resolution": (resolution, "side", [8, 32], [8, 16, 32, 64, 128]),
    "width": (width, "width", [16, 64], [16, 32, 64, 128]),
    "restarts": (restarts, "restarts", [1, 16], [1, 4, 16, 64, 256]),
    "planning": (planning, "cells", [10, 1_000], [1, 10, 100, 1_000, 10_000]),
    "claiming": (claiming, "cells", [10, 100], [10, 100, 1_000, 10_000]),
    "row writing": (row_writing, "cells", [10, 100], [10, 100, 1_000, 10_000]),
    "settling": (settling, "cells", [10, 100], [10, 100, 1_000, 10_000]),
    "start-up": (start_up, "jobs", [2], [1, 2, 4]),
}
"""What -> how, of which size, the sizes of a quick look and all of them."""


def measure(quick: bool, device: str, only: str | None = None) -> list[Row]:
    """A row for each point: {"section": "scale", "what", "size", "value", "seconds", "peak_mb", "disk_mb", ...}.

    `seconds` is None where a point could not be measured, and `note` says why. `exponent`, on the last row of each
    `what`, is that of its growth in seconds between the two largest sizes.
    """
    found = []
    for what, (how, size, few, all_of_them) in MEASURED.items():
        if only not in (None, what):
            continue
        rows = []
        for value in few if quick else all_of_them:
            row = {"section": "scale", "what": what, "size": size, "value": value, "device": device}
            rows.append({**row, **_alone(how, value, device)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)  # so that what is cut short is not lost
        found += [*rows[:-1], {**rows[-1], "exponent": exponent(rows)}]
    return found


def exponent(rows: list[Row]) -> float | None:
    """k in seconds ~ value^k, from the two largest sizes that were measured; None where there are no two."""
    points = [(row["value"], row["seconds"]) for row in rows if row["seconds"]]
    if len(points) < 2:
        return None
    (x1, y1), (x2, y2) = points[-2:]
    return math.log(y2 / y1) / math.log(x2 / x1)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | size | seconds | peak MB | disk MB | besides |", "|---|---|---|---|---|---|"]
    for row in rows:
        known = [f"{key} {row[key]:.3g}" for key in ("batch_ms", "hash_s") if row.get(key)]
        known += [f"grows as {row['size']}^{row['exponent']:.2f}"] if row.get("exponent") is not None else []
        known += [row["note"]] if row.get("note") else []
        cells = [_number(row.get(key)) for key in ("seconds", "peak_mb", "disk_mb")]
        lines.append(f"| {row['what']} | {row['value']:,} {row['size']} | {' | '.join(cells)} | {'; '.join(known)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


# How


def _alone(how: Callable[[int, str, str], Row], value: int, device: str) -> Row:
    """In a process and a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ganzoo-scale-")
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(how, value, device, folder, sending))
    try:
        if shutil.disk_usage(folder).free < LEAST_FREE:
            return {"seconds": None, "note": "the disk has too little room"}
        process.start()
        sending.close()
        try:
            row: Row = receiving.recv()
        except EOFError:
            row = {"seconds": None, "note": "its process died"}
        process.join()
        return row
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _child(how: Callable[[int, str, str], Row], value: int, device: str, folder: str, sending: Any) -> None:
    import torch

    from ganzoo.errors import UserError

    torch.set_num_threads(THREADS)
    try:
        sending.send(how(value, device, folder))
    except (UserError, RuntimeError) as error:
        sending.send({"seconds": None, "note": " ".join(str(error).split())[:200]})


def _round(side: int, channels: int, device: str) -> Row:
    import torch

    from ganzoo.bench import Prepared  # noqa: F401 (imported before the memory is looked at)
    from ganzoo.config import cells, read_plan
    from ganzoo.data import ImageSet, split
    from ganzoo.randomness import undisturbed
    from ganzoo.train import Training
    from ganzoo.zoo import Zoo

    changes = {"objectives": ["gls-gan"], "seeds": 1, "batch_size": 64, "z_dim": 100, "device": device}
    changes["precision"] = "fp32"  # at every size, or the exponent would be one of precisions
    networks = {"generator.width": channels, "critic.width": channels}
    zoo = Zoo.installed()
    (cell,) = cells(read_plan(None, **changes, **networks), zoo)
    pixels = torch.randint(0, 256, (512, 3, side, side), dtype=torch.uint8)
    data = split(ImageSet("noise", pixels, None, ()), (256, 128, 128))
    before = _peak_mb()
    training = Training(cell, zoo, data)

    def play() -> None:
        training.advance(1)
        if device != "cpu":
            torch.cuda.synchronize()

    with undisturbed():
        play()
        seconds = _seconds(play, REPEATS)
    parameters = sum(p.numel() for n in (training.players.generator, training.players.critic) for p in n.parameters())
    return {"seconds": seconds, "peak_mb": _peak_mb() - before, "disk_mb": 14 * parameters / 1e6}


def _many(count: int) -> dict[str, Any]:
    """Changes that make a plan of so many cells: 1,000 seeds at most of each contender."""
    seeds = min(count, 1000)
    slopes = ",".join(f"{i / 1000}" for i in range(count // seeds))
    return {"objectives": [f"gls-gan:slope={slopes}"], "seeds": seeds}


def _run(count: int, folder: str) -> Any:
    from ganzoo.bench import Prepared, Run
    from ganzoo.config import cells, read_plan
    from ganzoo.party import read_data
    from ganzoo.zoo import Zoo

    plan = read_plan(None, **_many(count))
    return Run(Path(folder) / "run", Prepared(plan, cells(plan, Zoo.installed()), read_data(plan.data)))


def _seconds(work: Callable[[], Any], repeats: int) -> float:
    """The median."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _disk_mb(folder: Path) -> float:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under two minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=MEASURED, help="one of the tables")
    parser.add_argument("--out", type=Path, help="where to write the rows, as JSON lines")
    options = parser.parse_args()
    rows = measure(options.quick, options.device, options.only)
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
