"""How long rounds take, one way for every contender and in every environment."""

import time
from collections.abc import Callable

import torch

Play = Callable[[], object]
"""One round of the game: a critic step and a generator step."""


def seconds_of(play: Play, rounds: int, device: str) -> list[float]:
    """Seconds of each of the rounds; on a GPU one figure, the mean of them all.

    There the device works behind Python's back, and waiting for it after each round would be measured as well.
    """
    if torch.device(device).type != "cuda":
        return [_seconds(play) for _ in range(rounds)]
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        start.record()
        for _ in range(rounds):
            play()
        end.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1e3 / rounds]


def _seconds(play: Play) -> float:
    start = time.perf_counter()
    play()
    return time.perf_counter() - start


def usual_precision(device: str) -> str:
    """Where nothing is asked for, torch convolves float32 on a GPU since Ampere in tf32, else in fp32."""
    on = torch.device(device)
    if on.type == "cuda" and torch.cuda.get_device_capability(on) >= (8, 0):
        return "tf32" if torch.backends.cudnn.conv.fp32_precision == "tf32" else "fp32"  # type: ignore[attr-defined]
    return "fp32"
