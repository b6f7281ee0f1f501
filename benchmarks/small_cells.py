"""Many small cells: milliseconds a step and trial, one after another, in processes, and stacked.

    python benchmarks/small_cells.py [--out FILE]

The plan is that of digits (8x8 images, batches of 32), the networks 8 and 16 wide, 18 trials: six objectives, three
seeds. Every way plays a few rounds in turn, again and again; the median counts.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ganzoo.config import cells, read_plan
from ganzoo.party import read_data
from ganzoo.randomness import undisturbed
from ganzoo.stacked import Stack
from ganzoo.train import Training
from ganzoo.zoo import Zoo

OBJECTIVES = ("ls-gan", "gls-gan", "gls-gan:slope=0.5", "wgan", "wgan-gp", "dcgan")
SEEDS = 3
WIDTHS = (8, 16)

Play = Callable[[int], tuple[float, float]]
"""So many rounds of all trials -> seconds by the clock, and of processor time, which a busy machine distorts less."""


def trainings(width: int) -> list[Training]:
    """The 18 trials, seeds innermost."""
    changes: dict[str, Any] = {"generator.width": width, "critic.width": width}
    plan = read_plan(None, **{"objectives": list(OBJECTIVES), "seeds": SEEDS, **changes})
    zoo, data = Zoo.installed(), read_data(plan.data)
    return [Training(cell, zoo, data) for cell in cells(plan, zoo)]


def one_by_one(mine: Sequence[Training], threads: int) -> Play:
    def played(rounds: int) -> tuple[float, float]:
        return _timed(lambda: [one.play() for one in mine], rounds, threads)

    return played


def stacked(mine: Sequence[Training], threads: int, **options: Any) -> Play:
    stack = Stack(mine, **options)
    return lambda rounds: _timed(stack.play, rounds, threads)


def _timed(play: Callable[[], Any], rounds: int, threads: int) -> tuple[float, float]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with undisturbed():
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            play()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    torch.set_num_threads(before)
    return seconds, busy


def _serve(pipe: Connection, width: int, part: int, as_stack: bool) -> None:
    """A process that plays every second trial, whenever it is told to."""
    mine = trainings(width)[part::2]
    play = stacked(mine, 1) if as_stack else one_by_one(mine, 1)
    pipe.send("ready")
    while (rounds := pipe.recv()) is not None:
        pipe.send(play(rounds))


@contextmanager
def in_two_processes(width: int, as_stack: bool) -> Iterator[Play]:
    """Two processes of one thread; the slower one's seconds count."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for part in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, width, part, as_stack), daemon=True)
        process.start()
        theirs.close()  # so that a process that dies is noticed
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()

    def played(rounds: int) -> tuple[float, float]:
        for pipe in pipes:
            pipe.send(rounds)
        seconds, busy = zip(*(pipe.recv() for pipe in pipes), strict=True)
        return max(seconds), sum(busy)

    try:
        yield played
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            process.join()


def measure(
    widths: Sequence[int] = WIDTHS, repeats: int = 7, rounds: int = 3, quick: bool = False
) -> list[dict[str, Any]]:
    """A row for each width and way: `ms` a step and trial (median), its quartiles, `cpu_ms` of processor time,
    `times_as_fast` as the first way.

    A step is a round of one critic step and one generator step. Uses two cores at most; about a minute.
    """
    rows = []
    repeats, rounds = (2, 1) if quick else (repeats, rounds)
    trials = len(OBJECTIVES) * SEEDS
    for width in widths:
        with in_two_processes(width, False) as alone, in_two_processes(width, True) as together:
            ways: dict[str, tuple[Play, int, int]] = {
                "one after another": (one_by_one(trainings(width), 2), 1, 2),
                "one after another, one thread": (one_by_one(trainings(width), 1), 1, 1),
                "one after another, a process a core": (alone, 2, 1),
                "stacked: vmap of torch's convolutions": (stacked(trainings(width), 1, entries=0), 1, 1),
                "stacked: dense matrices": (stacked(trainings(width), 1), 1, 1),
                "stacked: dense matrices, a process a core": (together, 2, 1),
            }
            seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for turn in range(repeats + 1):
                for way, (play, _, _) in ways.items():
                    took, busy = play(rounds)
                    if turn:  # in the first, memory and kernels are found
                        seconds[way].append((took / rounds / trials * 1e3, busy / rounds / trials * 1e3))
        first = statistics.median(took for took, _ in next(iter(seconds.values())))
        for way, (_, processes, threads) in ways.items():
            low, middle, high = statistics.quantiles([took for took, _ in seconds[way]], n=4)
            rows.append(
                {
                    "measured": "small cells",
                    "width": width,
                    "way": way,
                    "trials": trials,
                    "processes": processes,
                    "threads": threads,
                    "ms": middle,
                    "quartiles": [low, high],
                    "cpu_ms": statistics.median(busy for _, busy in seconds[way]),
                    "times_as_fast": first / middle,
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{'milliseconds a step and trial':44} {'width':>5} {'cores':>5} {'ms':>7} {'quartiles':>13} {'times':>6}"
        f" {'cpu ms':>7}"
    ]
    for row in rows:
        low, high = row["quartiles"]
        lines.append(
            f"{row['way']:44} {row['width']:5} {row['processes'] * row['threads']:5} {row['ms']:7.2f}"
            f" {low:6.2f}-{high:<6.2f} {row['times_as_fast']:6.1f} {row['cpu_ms']:7.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the rows to this file")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = measure(repeats=arguments.repeats, rounds=arguments.rounds)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    sys.stdout.write(lines)
    print(table(rows))
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    if arguments.out is not None:
        arguments.out.write_text(lines)


if __name__ == "__main__":
    main()
