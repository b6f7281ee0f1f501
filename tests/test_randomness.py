"""Seeds derive from names, the same everywhere; a stream disturbs nobody and is disturbed by nobody."""

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from ganzoo.randomness import derive, seeded, stream

NAMES = ("digits", 3, "z", 17)


def test_a_seed_is_the_sha256_of_its_names_written_as_json() -> None:
    digest = hashlib.sha256(b'["digits", 3, "z", 17]').hexdigest()
    assert derive(*NAMES) == int(digest[:16], 16) // 2


def test_a_seed_is_the_same_in_every_process() -> None:
    code = f"from ganzoo.randomness import derive; print(derive(*{NAMES!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == derive(*NAMES)


def test_seeds_of_different_names_differ() -> None:
    names = [
        ("a",),
        ("a", 0),
        ("a", "0"),
        ("a0",),
        (0, "a"),
        ("a", ""),
        ("ä",),
        (),
        ("a", 1),
        ("a1",),
        ("a", 11),
        ("a1", 1),
    ]
    seeds = [derive(*n) for n in names] + [derive("step", i) for i in range(10_000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)


def test_seeds_are_spread_over_their_63_bits() -> None:
    bits = torch.tensor([[derive("step", i) >> b & 1 for b in range(63)] for i in range(2000)], dtype=torch.float64)
    assert (bits.mean(dim=0) - 0.5).abs().max() < 0.06


def test_a_stream_repeats_and_differs_from_its_neighbours() -> None:
    def draw(*names: str | int) -> list[float]:
        return torch.rand(4, generator=stream(*names)).tolist()

    assert draw(*NAMES) == draw(*NAMES)
    assert draw(*NAMES) != draw("digits", 3, "z", 18)


@pytest.mark.parametrize("draw", [lambda: torch.rand(3, generator=stream("x")), lambda: derive("x")])
def test_a_stream_leaves_torch_s_default_generator_alone(draw: Callable[[], object]) -> None:
    before = torch.random.get_rng_state()
    draw()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_within_seeded_torch_draws_what_the_names_say() -> None:
    with seeded(*NAMES):
        first = torch.rand(4)
    torch.rand(7)
    with seeded(*NAMES):
        again = torch.rand(4)
    with seeded("others"):
        other = torch.rand(4)
    assert torch.equal(first, again)
    assert torch.equal(first, torch.rand(4, generator=stream(*NAMES)))
    assert not torch.equal(first, other)


def test_after_seeded_torch_s_default_generator_is_as_before() -> None:
    before = torch.random.get_rng_state()
    with seeded("x"), seeded("y"):
        torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)


def fail_within(name: str) -> None:
    with seeded(name):
        torch.rand(5)
        raise ZeroDivisionError


def test_a_seeded_block_that_fails_restores_the_generator_and_passes_the_error_on() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        fail_within("x")
    assert torch.equal(torch.random.get_rng_state(), before)
