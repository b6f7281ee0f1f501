"""Randomness is a function of (seed, stream, step): no state to save, nothing for a plugin to disturb.

`hash()` differs between processes, so seeds derive from names by sha256. A plugin that draws from torch's
default generator is covered as well: the round runs inside `seeded`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*names: str | int) -> int:
    """The 63-bit seed that belongs to these names, the same on every machine and in every process."""
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(*names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for these names, e.g. `stream(seed, "z", step)`."""
    return torch.Generator(device).manual_seed(derive(*names))


def random_state(device: torch.device) -> torch.Tensor:
    """Of torch's default generator there."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def undisturbed() -> Iterator[None]:
    """After the block torch's default generators, on every device, are as they were before it."""
    # Named one by one: with several GPUs torch warns when it has to guess.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


@contextmanager
def seeded(*names: str | int) -> Iterator[None]:
    """Within the block torch's default generators start at `derive(*names)`; after it they are as before."""
    with undisturbed():
        torch.manual_seed(derive(*names))
        yield
