"""The sweep over every float32: what it finds at one value, that cutting changes nothing, that it is taken up again.

No test here evaluates 2^32 values: stretches around planted ones tell the same. One, marked slow, takes 300 million.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Le
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ganzoo
from ganzoo.checks import Refuted, Subject, as_entry, exhaustive
from ganzoo.checks.counterexample import Told
from ganzoo.checks.every_float import EVERY_FLOAT
from ganzoo.checks.exhaustive import (
    EVERY,
    FALLS,
    FINITE,
    STEEP,
    Tally,
    Violations,
    examined,
    floats_of,
    halves_examined,
    pattern_of,
    pieces_of,
    swept,
    value_of,
)  # fmt: skip
from ganzoo.checks.kept import CODE, cache_folder
from ganzoo.checks.sweep import simplest_of, simplicity
from ganzoo.checks.sweeps import News, every_float
from ganzoo.errors import UserError
from ganzoo.lock import Busy
from ganzoo.zoo import Entry, Zoo

MINUS_ONE = pattern_of(-1.0)
ONE = pattern_of(1.0)
ZOO = Zoo.installed()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ganzoo" / "exhaustive"


def relu(a: Tensor) -> Tensor:
    return a.relu()


def planted(pattern: int, value: float) -> Callable[[Tensor], Tensor]:
    """relu, but for `value` at the one float32 of that pattern."""
    (at,) = floats_of(pattern, pattern + 1)

    def cost(a: Tensor) -> Tensor:
        return torch.where(a == at.to(a), value, a.relu())

    return cost


def around(pattern: int, reach: int = 3000) -> range:
    return range(pattern - reach, pattern + reach)


def tally_of(cost: Callable[[Tensor], Tensor], patterns: range, threads: int = 1) -> Tally:
    return sum((found for _, found in swept(cost, pieces_of(patterns), threads=threads)), Tally())


def laws_of(cost: Callable[[Tensor], Tensor], patterns: range) -> dict[str, Violations]:
    return tally_of(cost, patterns).violations


# The patterns


def test_the_patterns_are_those_of_numpy() -> None:
    for start in (0, 1, ONE, 0x7F7FFFFF, 0x80000000, MINUS_ONE, 0xFF7FFFF0):
        ours = floats_of(start, start + 3 if start < 0x7F7FFFFF or start >= 2**31 else start + 1)
        theirs = np.arange(start, start + len(ours), dtype=np.uint32).view(np.float32)
        assert ours.numpy().tobytes() == theirs.tobytes()


def test_a_stretch_of_both_signs_is_refused() -> None:
    with pytest.raises(ValueError, match="not of one sign"):
        floats_of(2**31 - 1, 2**31 + 1)


@pytest.mark.parametrize("patterns", [EVERY, range(5, 2**21 + 7), range(2**31 - 10, 2**31 + 10), around(0x7F800000)])
def test_pieces_cover_each_pattern_once_and_mix_neither_signs_nor_kinds(patterns: range) -> None:
    pieces = pieces_of(patterns)
    assert [p.start for p in pieces] == [patterns.start, *(p.stop for p in pieces[:-1])]
    assert pieces[-1].stop == patterns.stop
    for piece in pieces:
        first, last = value_of(piece.start), value_of(piece.stop - 1)
        assert np.isfinite(first) == np.isfinite(last)
        assert (piece.start < 2**31) == (piece.stop <= 2**31)


def test_so_many_patterns_are_finite() -> None:
    finite = sum(len(piece) for piece in pieces_of(EVERY) if np.isfinite(value_of(piece.start)))
    assert finite == FINITE == 4_278_190_080


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_pattern_and_its_value_are_one(value: float) -> None:
    assert np.float32(value_of(pattern_of(value))).tobytes() == np.float32(value).tobytes()


# What is found at one single value


@pytest.mark.parametrize(
    ("pattern", "value", "law"),
    [
        (pattern_of(-0.7), -0.9, "(I) wrong"),
        (pattern_of(-0.7), torch.nan, "(I) wrong"),
        (pattern_of(0.7), 0.8, "(II) wrong"),
        (pattern_of(0.7), 0.6, "(I) wrong"),
        (pattern_of(-1e-38), torch.nan, "not finite"),
        (pattern_of(3.0), torch.inf, "not finite"),
        (pattern_of(-2.0), 3.0, FALLS),
        (pattern_of(-2.0), 3.0, STEEP),
        (1, 1.0, "(II) wrong"),
        (0x7F7FFFFF, 1.0, "(I) wrong"),
        (0xFF7FFFFF, torch.nan, "(I) wrong"),
        (0x80000000, 1.0, "(II) wrong"),
    ],
)
def test_a_fault_at_one_bit_pattern_is_found(pattern: int, value: float, law: str) -> None:
    stretch = range(max(pattern - 3000, pattern & 2**31), pattern + 3000)
    found = laws_of(planted(pattern, value), stretch)
    # A fall is noted at the higher of two neighbours. Of a slope's two ends the other is out of reach here.
    assert found[law] == Violations(1, pattern - 1 if law == FALLS else pattern)
    assert not laws_of(relu, stretch)


def test_a_fault_of_one_ulp_that_float64_has_not_is_rounding() -> None:
    def rounds(a: Tensor) -> Tensor:
        return torch.where(a == value_of(MINUS_ONE - 5), torch.nextafter(a, a - 1), a)

    def in_float32_only(a: Tensor) -> Tensor:
        return rounds(a) if a.dtype == torch.float32 else a

    found = laws_of(in_float32_only, around(MINUS_ONE))
    assert found["(I) rounding"] == Violations(1, MINUS_ONE - 5)
    assert "(I) wrong" not in found
    assert "(I) wrong" in laws_of(lambda a: a - 1e-5 * (a == value_of(MINUS_ONE)), around(MINUS_ONE))


def test_overflow_on_the_way_is_neither_wrong_nor_rounding() -> None:
    largest = 0x7F7FFFFF
    found = laws_of(lambda a: (a + a.abs()) / 2, range(largest - 5000, largest + 1))
    assert found["(II) overflow"].count == 5001
    assert {"(II) wrong", "(II) rounding"}.isdisjoint(found)
    below = laws_of(lambda a: (a + a.abs()) / 2, around(pattern_of(1e38)))
    assert not below


def test_honest_overflow_below_zero_is_finite_enough() -> None:
    steep = laws_of(lambda a: torch.where(a >= 0, a, -1000 * a), range(0xFF7FFFFF - 5000, 0xFF800000))
    assert "not finite" not in steep
    at = MINUS_ONE
    early = laws_of(lambda a: torch.where(a >= 0, a, -1e38 * a if a.dtype == torch.float64 else -1e39 * a), around(at))
    assert early["not finite"].count == 6000


def test_a_gradient_that_is_nan_at_large_values_alone_is_found() -> None:
    def unclamped(a: Tensor) -> Tensor:
        return torch.where(a >= 0, a, a.expm1())

    start = pattern_of(88.0)
    patterns = range(start, pattern_of(89.0))
    found = laws_of(unclamped, patterns)["gradient"]
    overflowing = floats_of(patterns.start, patterns.stop)
    assert found.count == int(overflowing.expm1().isinf().sum()) > 0


@pytest.mark.parametrize(
    ("value", "slope", "count"), [(-2.0, torch.nan, 1), (-2.0, torch.inf, 1), (-2.0, 5.0, 0), (2.0, 0.5, 1)]
)
def test_a_gradient_that_is_wrong_at_one_value_is_found(value: float, slope: float, count: int) -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, a: Tensor) -> Tensor:
            context.save_for_backward(a)
            return a.relu()

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> Tensor:
            (a,) = context.saved_tensors
            return torch.where(a == value, slope, (a > 0).to(a.dtype)) * gradients[0]

    found = tally_of(lambda a: Wrong.apply(a), around(pattern_of(value)))
    assert found.of("gradient") == (Violations(1, pattern_of(value)) if count else Violations())


def test_nan_that_is_hidden_is_found_at_its_payload() -> None:
    payload = 0x7FC00123
    at = torch.tensor([payload], dtype=torch.int32)

    def hides_one(a: Tensor) -> Tensor:
        if a.dtype != torch.float32:
            return a.relu()
        return torch.where(a.view(torch.int32) == at, 0.0, a.relu())

    found = tally_of(hides_one, around(payload))
    assert found.violations["hides NaN"] == Violations(1, payload)
    assert found.nan == 6000
    assert found.finite == 0


def test_every_pair_of_neighbours_is_compared_across_tiles_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exhaustive.TILE, "cpu", 256)
    monkeypatch.setitem(exhaustive.PIECE, "cpu", 1024)
    patterns = around(MINUS_ONE)
    falling = tally_of(torch.abs, patterns)
    assert falling.pairs == len(patterns)
    assert falling.violations[FALLS].count == len(patterns)
    tail = range(0xFF7FFFFF - 999, 0xFF800000)
    assert tally_of(torch.abs, tail).pairs == 999  # the last has no finite neighbour


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.01, 1.0])
def test_a_line_of_slope_up_to_1_is_nowhere_steeper_and_a_steeper_one_everywhere(slope: float) -> None:
    def line(a: Tensor) -> Tensor:
        return torch.where(a >= 0, a, slope * a)

    assert STEEP not in laws_of(line, around(pattern_of(-3.3)))
    steep = 1.01 + abs(slope)
    assert laws_of(lambda a: torch.where(a >= 0, a, -steep * a), around(pattern_of(-3.3)))[STEEP].count == 6000


# That cutting changes nothing


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 11_999), max_size=4),
    kind=st.sampled_from(["rounding", "wrong", "falls"]),
    tile=st.sampled_from([64, 1000, 2**18]),
)
def test_a_tally_does_not_depend_on_how_the_patterns_are_cut(cuts: list[int], kind: str, tile: int) -> None:
    costs: dict[str, Callable[[Tensor], Tensor]] = {
        "rounding": lambda a: torch.where(a >= 0, a, a.clamp(max=0).exp() - 1),
        "wrong": lambda a: torch.where(a >= 0, a, 1.5 * a),
        "falls": torch.abs,
    }
    start = pattern_of(-1e-4)
    whole = tally_of(costs[kind], range(start, start + 12_000))
    assert whole.violations
    ends = sorted({start, start + 12_000, *(start + cut for cut in cuts)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exhaustive.TILE, "cpu", tile)
        parts = [examined(costs[kind], range(a, b)) for a, b in pairwise(ends)]
    assert sum(reversed(parts), Tally()) == sum(parts, Tally()) == whole


def test_threads_change_nothing_but_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exhaustive.PIECE, "cpu", 2**12)
    patterns = range(MINUS_ONE, MINUS_ONE + 2**16)
    before = torch.get_num_threads()
    assert tally_of(torch.abs, patterns, threads=3) == tally_of(torch.abs, patterns, threads=1)
    assert torch.get_num_threads() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_what_a_cpu_finds() -> None:
    fault = pattern_of(-2.0)
    for patterns in (around(fault), range(2**31, 2**31 + 2**21), range(2**20)):
        cost = planted(fault, -3.0)
        there = sum((found for _, found in swept(cost, pieces_of(patterns, "cuda"), "cuda")), Tally())
        assert there == tally_of(cost, patterns)


def test_the_workers_are_gone_when_the_sweep_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exhaustive.PIECE, "cpu", 2**12)
    before = threading.active_count()
    sweep = swept(relu, pieces_of(range(2**20)), threads=2)
    next(sweep)
    assert threading.active_count() > before
    sweep.close()
    assert threading.active_count() == before


def test_a_tally_survives_a_file() -> None:
    tally = tally_of(torch.abs, around(MINUS_ONE))
    assert Tally.read(json.loads(json.dumps(tally.as_dict()))) == tally
    with pytest.raises(ValueError, match="a law that is none"):
        Tally.read({**tally.as_dict(), "violations": {"mine": [1, 2]}})


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_the_simplest_of_values_is_the_least_by_their_order(values: list[float]) -> None:
    assert simplicity(simplest_of(torch.tensor(values))) == min(map(simplicity, values))


def test_simple_is_what_a_person_would_write() -> None:
    assert simplest_of(torch.tensor([-0.7342, -17.0, -3.25, -3.0])) == -3
    assert simplest_of(torch.tensor([0.1234567, 3.1])) == pytest.approx(3.1)


# Halves


def test_every_half_is_evaluated() -> None:
    found = halves_examined(relu)
    assert {name: tally.finite for name, tally in found.items()} == {"bfloat16": 65280, "float16": 63488}
    assert not any(tally.violations for tally in found.values())
    wrong = halves_examined(lambda a: a.relu() + (a == 2))
    assert wrong["float16"].violations == {"(II) wrong": Violations(1, pattern_of(2.0))}


# What the laws say


def subject_of(function: Callable[..., Tensor], patterns: range) -> Subject:
    entry = as_entry(function)
    return Subject(entry, sweep=lambda _: tally_of(entry.bind(), patterns))


def said(function: Callable[..., Tensor], patterns: range, check_id: str) -> str | Told | None:
    (check,) = (check for check in EVERY_FLOAT if check.id == check_id)
    return check.law(subject_of(function, patterns), {})


@ganzoo.cost
def wrong_at_one(a: Tensor) -> Tensor:
    return torch.where(a == -0.5, -0.75, a.relu())


@ganzoo.cost
def elu_by_exp(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, a.clamp(max=0).exp() - 1)


@ganzoo.cost
def above_at_two(a: Tensor) -> Tensor:
    return torch.where(a == 2, 2.5, a.relu())


@ganzoo.cost
def average(a: Tensor) -> Tensor:
    return (a + a.abs()) / 2


@ganzoo.cost
def sound(a: Tensor) -> Tensor:
    return a.relu()


@ganzoo.cost
def hides(a: Tensor) -> Tensor:
    return torch.where(a > 0, a, 0.0)


@ganzoo.cost
def absolute(a: Tensor) -> Tensor:
    return a.abs()


@ganzoo.cost
def unclamped(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, a.expm1())


@pytest.mark.parametrize(
    ("function", "at", "check_id", "words"),
    [
        (wrong_at_one, -0.5, "cost-18", "wrong formula: C(-0.5) = -0.75 in float32, but C(a) >= a (1 of 6,000"),
        (elu_by_exp, -0.0001, "cost-18", "rounding: C(-9.99999975e-05) = -0.0001000"),
        (above_at_two, 2.0, "cost-19", "wrong formula: C(2) = 2.5 in float32, but C(a) = a for a >= 0 (1 of 6,000"),
        (unclamped, 89.0, "cost-22", "is nan in float32, not 1, by (II)"),
    ],
)
def test_a_refutation_says_where_and_its_lines_fail(
    function: Callable[..., Tensor], at: float, check_id: str, words: str
) -> None:
    with pytest.raises(Refuted, match=re.escape(words)) as refuted:
        said(function, around(pattern_of(at)), check_id)
    assert refuted.value.show
    with pytest.raises((AssertionError, RuntimeError)):
        exec(refuted.value.show, {"cost": function, "torch": torch})


def test_nan_that_is_hidden_is_shown_by_its_line() -> None:
    with pytest.raises(Refuted, match=r"C\(NaN\) = 0 at 6,000 of 6,000 NaNs") as refuted:
        said(hides, around(0x7FC00123), "cost-23")
    with pytest.raises(AssertionError):
        exec(str(refuted.value.show), {"cost": hides, "torch": torch})
    told = str(said(absolute, around(0xFFC00123), "cost-23"))
    assert "6,000 of them" in told
    assert "C(inf) = inf, C(-inf) = inf" in told


def test_only_a_whole_sweep_says_proved() -> None:
    assert said(sound, around(ONE), "cost-18") == "holds for 6,000 float32 values"
    whole = Subject(as_entry(sound), sweep=lambda _: Tally(finite=FINITE))
    assert EVERY_FLOAT[0].law(whole, {}) == "proved for every finite float32 (4,278,190,080 values)"


def test_an_overflow_limits_what_is_said() -> None:
    text = str(said(average, range(0x7F7FFFFF - 2999, 0x7F800000), "cost-19"))
    assert "but for 3,000 from |a| = 3.4" in text
    assert "right in float64" in text


def test_whether_it_falls_or_is_steep_is_told() -> None:
    falls = said(absolute, around(MINUS_ONE), "cost-24")
    assert isinstance(falls, Told)
    assert falls.holds is False
    assert "C(-1.00000012) = 1.00000012 > C(-1) = 1, in float64 too" in falls.message
    steady = said(sound, around(MINUS_ONE), "cost-24")
    assert isinstance(steady, Told)
    assert steady.holds
    rounding = said(elu_by_exp, around(pattern_of(-0.001)), "cost-25")
    assert isinstance(rounding, Told)


def test_halves_are_proved_but_for_rounding() -> None:
    assert "proved for every finite float16 (63,488 values)" in str(said(sound, around(ONE), "cost-20"))
    assert "rounding apart at" in str(said(elu_by_exp, around(ONE), "cost-20"))
    with pytest.raises(
        Refuted, match=re.escape("wrong formula: C(2) = 2.5 in bfloat16, but C(a) = a for a >= 0 (1 of")
    ):
        said(above_at_two, around(ONE), "cost-20")


# A cost that fails, hangs, or looks at its batch


def test_a_cost_that_raises_is_refuted_with_the_stretch_where_it_did() -> None:
    def raises(a: Tensor) -> Tensor:
        if (a == 3).any():
            raise KeyError("three")
        return a.relu()

    with pytest.raises(Refuted, match=r"raised KeyError at float32 values from 2\.99\d+ to 3\.00\d+: 'three'"):
        tally_of(raises, around(pattern_of(3.0)))


def test_a_cost_that_depends_on_the_size_of_its_batch_is_refuted() -> None:
    with pytest.raises(Refuted, match=r"C depends on its batch: C\(1\) is 2 among 10,096 values and 1 among 7"):
        tally_of(lambda a: a.relu() + (len(a) > 1000) * (a >= 0), range(ONE, ONE + 6000))


def test_a_cost_that_hangs_is_refuted_when_patience_ends() -> None:
    ended = threading.Event()

    def hangs(a: Tensor) -> Tensor:
        ended.wait(30)
        return a

    sweep = swept(hangs, [range(10)], threads=1, patience=0.05)
    threading.Timer(3, ended.set).start()
    with pytest.raises(Refuted, match=r"no answer within 0\.05 s"):
        next(sweep)


# Taken up again


@ganzoo.cost
def leaky(a: Tensor, slope: Annotated[float, Le(1)] = 0.01) -> Tensor:
    return torch.where(a >= 0, a, slope * a)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> range:
    monkeypatch.setitem(exhaustive.PIECE, "cpu", 2**12)
    return range(MINUS_ONE, MINUS_ONE + 2**16)


class StoppedError(Exception):
    pass


def interrupting(after: int) -> Callable[[News], None]:
    calls = 0

    def tell(news: News) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt

    return tell


def told_of(entry: Entry, patterns: range, **options: object) -> tuple[Tally, list[News]]:
    news: list[News] = []
    found = every_float(entry, entry.validate(), news.append, patterns=patterns, threads=1, **options)  # type: ignore[arg-type]
    return found, news


def test_an_interrupted_sweep_goes_on_and_ends_as_if_nothing_had_been(small: range) -> None:
    entry = as_entry(absolute)
    with pytest.raises(KeyboardInterrupt):
        every_float(entry, {}, interrupting(5), patterns=small, threads=1)
    found, news = told_of(entry, small)
    assert news[0].before == 5 * 2**12
    assert news[-1].done == news[-1].total == len(small)
    assert found == tally_of(torch.abs, small)


def test_a_finished_sweep_is_read_and_a_fresh_one_evaluated(small: range) -> None:
    entry = as_entry(absolute)
    first, _ = told_of(entry, small)
    again, news = told_of(entry, small)
    assert again == first
    assert [one.done for one in news] == [len(small)]
    _, news = told_of(entry, small, fresh=True)
    assert news[0].done == 0
    assert len(news) == 1 + len(small) // 2**12


def test_other_hyperparameters_are_another_sweep(small: range) -> None:
    entry = as_entry(leaky)
    told_of(entry, small)
    news: list[News] = []
    found = every_float(entry, {"slope": 1.0}, news.append, patterns=small, threads=1)
    assert news[0].before == 0
    assert not found.violations
    assert len([*cache_folder().glob("leaky-*.json")]) == 2


def test_a_cost_that_changed_elsewhere_begins_anew(small: range) -> None:
    factor = 1.0

    @ganzoo.cost
    def changing(a: Tensor) -> Tensor:
        return torch.where(a >= 0, a, -factor * a)

    entry = as_entry(changing)
    told_of(entry, small)
    factor = 0.5
    found, news = told_of(entry, small)
    assert news[0].before == 0
    assert "gives other values than last time" in news[0].notes[0]
    assert found == tally_of(changing, small)


@pytest.mark.parametrize("harm", ["truncated", "altered", "empty", "another", "too many pieces", "a law that is none"])
def test_a_damaged_file_is_told_and_the_sweep_begins_anew(small: range, cache: Path, harm: str) -> None:
    from ganzoo.durable import commit_sealed, read_sealed

    entry = as_entry(absolute)
    first, _ = told_of(entry, small)
    (path,) = cache.glob("*.json")
    content = path.read_bytes()
    match harm:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "altered":
            path.write_bytes(content.replace(b'"pairs": 6', b'"pairs": 7'))
        case "empty":
            path.write_bytes(b"")
        case "another":
            commit_sealed(path, read_sealed(path) | {"key": {"cost": "other"}})
        case "too many pieces":
            commit_sealed(path, read_sealed(path) | {"done": "f" * 40})
        case _:
            kept = read_sealed(path)
            commit_sealed(path, kept | {"tally": kept["tally"] | {"violations": {"mine": [1, 1]}}})
    found, news = told_of(entry, small)
    assert "is damaged; the sweep begins anew" in news[0].notes[0]
    assert news[0].before == 0
    assert found == first


def test_a_folder_that_cannot_be_written_is_told_and_the_sweep_works(
    small: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file where the folder should be: nobody, root neither, can write into it.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found, news = told_of(as_entry(absolute), small)
    assert "progress is not kept" in news[0].notes[0]
    assert "an interrupted sweep begins anew" in news[0].notes[0]
    assert sum(len(one.notes) for one in news) == 1
    assert found == tally_of(torch.abs, small)


def test_a_disk_that_fills_is_told_once_and_the_sweep_goes_on(small: range, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr("ganzoo.checks.kept.commit_sealed", full)
    monkeypatch.setattr("ganzoo.checks.sweeps.SAVE_SECONDS", 0.0)
    found, news = told_of(as_entry(absolute), small)
    assert [note for one in news for note in one.notes if "the disk is full" in note] != []
    assert sum(len(one.notes) for one in news) == 1
    assert found == tally_of(torch.abs, small)


def test_two_sweeps_at_once_of_one_cost_are_one_too_many(small: range) -> None:
    entry = as_entry(absolute)
    other = as_entry(leaky)

    def second(news: News) -> None:
        every_float(other, {"slope": 0.5}, patterns=range(ONE, ONE + 100), threads=1)
        with pytest.raises(Busy, match=r"another process \(process \d+ on .*\) is at this sweep of 'absolute'; wait"):
            every_float(entry, {}, patterns=small, threads=1)
        raise StoppedError

    with pytest.raises(StoppedError):
        every_float(entry, {}, second, patterns=small, threads=1)
    every_float(entry, {}, patterns=small, threads=1)  # free again


def test_progress_is_saved_while_it_goes_on(small: range, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.checks.sweeps.SAVE_SECONDS", 0.0)
    kept = []

    def tell(news: News) -> None:
        kept.extend(json.loads(path.read_text())["tally"]["finite"] for path in cache.glob("*.json"))

    every_float(as_entry(absolute), {}, tell, patterns=small, threads=1)
    assert kept == sorted(kept)
    assert len(set(kept)) > 10


def test_the_key_holds_what_decides_and_the_files_it_hashes_are_there() -> None:
    assert all(path.exists() for path in CODE)
    assert {path.name for path in CODE} >= {"exhaustive.py", "conditions.py", "costs.py", "slack.py"}


# The million of every check agrees with the sweep


@pytest.mark.parametrize("name", ["abs", "elu", "identity", "leaky", "relu"])
def test_ours_hold_around_every_seam_of_the_floats(name: str) -> None:
    cost = ZOO.cost(name)
    seams = [0, 2**31, 0x00800000, 0x80800000, MINUS_ONE, ONE, pattern_of(-88.7), pattern_of(-17.3), 0xFF7FF000]
    for seam in seams:
        found = laws_of(lambda a: cost(a.clone()), range(max(seam - 2000, seam & 2**31), seam + 2000))
        assert {law for law in found if law not in (FALLS, STEEP)} == set()


@pytest.mark.slow
def test_elu_is_sound_at_three_hundred_million_values() -> None:
    elu = ZOO.cost("elu")
    start = pattern_of(-1e-4)
    began = time.monotonic()
    patterns = range(start, start + 300 * 2**20)
    found = tally_of(lambda a: elu(a.clone()), patterns, threads=2)
    assert found.finite == len(patterns)
    assert {law for law in found.violations if law != FALLS} == set()
    assert time.monotonic() > began
