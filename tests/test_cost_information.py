"""What is told of a cost: its shape, against costs whose shape is known by a line of algebra."""

from collections.abc import Callable
from typing import Annotated

import pytest
import torch
from annotated_types import Le
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo.checks import Report, Result, Subject, as_entry
from ganzoo.checks.questions import QUESTIONS, pairs, values
from ganzoo.zoo import Zoo

ZOO = Zoo.installed()
CONVEX, MONOTONE, LIPSCHITZ, SLOPES = (check.id for check in QUESTIONS)


@ganzoo.cost
def leaky(a: Tensor, slope: Annotated[float, Le(1)] = 0.01) -> Tensor:
    return torch.where(a >= 0, a, slope * a)


@ganzoo.cost
def wavy(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, a + 1 - torch.cos(a))  # C' = 1 + sin(a): from 0 to 2


@ganzoo.cost
def root(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, a.abs().sqrt())


@ganzoo.cost
def jump(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, 1.0)


@ganzoo.cost
def square(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a, a + a * a)


@ganzoo.cost
def dented(a: Tensor) -> Tensor:
    return torch.where((a > -3) & (a < -2), 0.5 * (a + 3) * (a + 2), a.relu())


@ganzoo.cost
def soft(a: Tensor) -> Tensor:
    return softplus(a)


@ganzoo.cost
def raising(a: Tensor) -> Tensor:
    raise KeyError("mine")


def told(function: Callable[..., Tensor], check_id: str, given: list[dict[str, float]] | None = None) -> Result:
    entry = as_entry(function)
    (check,) = (check for check in QUESTIONS if check.id == check_id)
    return check.run(Subject(entry, given=tuple(entry.validate(**one) for one in given or ())))


@pytest.mark.parametrize(
    ("function", "convex", "monotone", "lipschitz"),
    [
        (leaky, True, True, True),
        (ganzoo.cost(name="a")(lambda a: a.abs()), True, False, True),
        (ganzoo.cost(name="b")(lambda a: a), True, True, True),
        (wavy, False, True, False),
        (root, False, False, False),
        (jump, False, False, False),
        (square, True, False, False),
        (soft, True, True, True),
    ],
    ids=["leaky", "abs", "identity", "wavy", "root", "jump", "square", "softplus"],
)
def test_the_answers_are_those_of_algebra(
    function: Callable[..., Tensor], convex: bool, monotone: bool, lipschitz: bool
) -> None:
    for check_id, holds in ((CONVEX, convex), (MONOTONE, monotone), (LIPSCHITZ, lipschitz)):
        result = told(function, check_id)
        assert result.verdict == "told"
        assert result.holds is holds, result
        if holds:
            assert "no counterexample in " in result.message
        else:
            assert "not: " in result.message
            assert result.counterexample


def test_a_counterexample_to_convexity_is_one_and_is_simple() -> None:
    found = told(root, CONVEX).counterexample or {}
    x, m, y = found["x"], found["m"], found["y"]
    assert x < m < y
    share = (m - x) / (y - x)
    cx, cm, cy = root(torch.tensor([x, m, y], dtype=torch.float64)).tolist()
    assert cm > (1 - share) * cx + share * cy
    assert abs(x) <= 10
    assert (2 * x).is_integer()


def test_a_counterexample_to_the_others_is_one() -> None:
    found = told(square, MONOTONE).counterexample or {}
    x, y = found["x"], found["y"]
    assert x < y
    assert x + x * x > (y if y >= 0 else y + y * y)
    found = told(square, LIPSCHITZ).counterexample or {}
    cx, cy = square(torch.tensor([found["x"], found["y"]], dtype=torch.float64)).tolist()
    assert abs(cy - cx) / (found["y"] - found["x"]) == pytest.approx(found["slope"])
    assert found["slope"] > 1


def test_a_dent_of_a_tenth_between_two_integers_is_seen() -> None:
    assert told(dented, CONVEX).holds is False
    assert told(dented, MONOTONE).holds is False


@pytest.mark.parametrize(
    ("function", "left", "right", "words"),
    [
        (leaky, 0.01, 1.0, "a kink"),
        (wavy, 1.0, 1.0, "no kink"),
        (square, 1.0, 1.0, "no kink"),
        (soft, 0.5, 0.5, "no kink"),
        (ganzoo.cost(name="d")(lambda a: 100 * a * a), 0.0, 0.0, "no kink"),
        (ganzoo.cost(name="e")(lambda a: a.relu() + 1e-10 * a), 1e-10, 1.0, "a kink"),
        (root, None, 1.0, "left without end, right 1: a kink"),
        (jump, None, 1.0, "left without end, right 1: a kink"),
    ],
)
def test_the_slopes_at_zero_are_the_derivatives(
    function: Callable[..., Tensor], left: float | None, right: float, words: str
) -> None:
    result = told(function, SLOPES)
    assert result.holds is None
    assert words in result.message
    assert f"left {'without end' if left is None else f'{left:g}'}," in result.message
    assert f"right {right:g}" in result.message


def test_the_steepest_slope_seen_is_told() -> None:
    steep = told(ganzoo.cost(name="c")(lambda a: torch.where(a >= 0, 0.25 * a, 0.5 * a)), LIPSCHITZ)
    assert "the steepest is 0.5" in steep.message


def test_every_setting_that_was_asked_for_is_named_with_its_answer() -> None:
    result = told(leaky, CONVEX, [{"slope": 0.5}, {"slope": -2.0}])
    assert [line.partition(":")[0] for line in result.message.splitlines()] == [
        "at slope = 0.01",
        "at slope = 0.5",
        "at slope = -2.0",
    ]
    assert result.holds is True
    result = told(leaky, MONOTONE, [{"slope": -2.0}])
    assert result.holds is False
    assert (result.counterexample or {})["hyperparameters"] == {"slope": -2.0}
    assert "at slope = 0.01: no counterexample" in result.message
    assert "at slope = -2.0: not: C(-1) = 2 > C(0) = 0" in result.message


def test_a_question_that_cannot_be_put_is_no_failure() -> None:
    result = told(raising, CONVEX)
    assert result.verdict == "skip"
    assert result.message == "could not be told: raised KeyError: 'mine'"


def test_no_answer_refuses_a_cost() -> None:
    results = [told(square, check.id) for check in QUESTIONS]
    assert Report("cost", "square", results).passed
    assert not Report("cost", "square", results).failures


def test_the_pairs_are_ordered_distinct_and_of_every_magnitude() -> None:
    x, y = pairs()
    assert (x < y).all()
    assert len(x) > 200_000
    magnitudes = values().abs()
    assert magnitudes.min() < 1e-11
    assert magnitudes.max() > 1e12
    assert ((x < 0) & (y > 0)).sum() > 10_000
    assert x[0].item() == round(x[0].item())


@pytest.mark.parametrize(
    ("name", "slopes"),
    [("leaky", (0.01, 1)), ("abs", (-1, 1)), ("elu", (1, 1)), ("identity", (1, 1)), ("relu", (0, 1))],
)
def test_ours_are_told_as_the_paper_has_them(name: str, slopes: tuple[float, float]) -> None:
    results = {check.id: check.run(Subject(ZOO.find("cost", name))) for check in QUESTIONS}
    assert results[CONVEX].holds
    assert results[LIPSCHITZ].holds
    assert results[MONOTONE].holds is (name != "abs")
    assert f"left {slopes[0]:g}, right {slopes[1]:g}" in results[SLOPES].message
