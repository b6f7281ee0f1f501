import json
import math
import types
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
import wrong_plugins
from annotated_types import Ge, Gt, Le
from hypothesis import find
from wrong_plugins import WRONG

import ganzoo
from ganzoo.checks import CHECKS, TABLE, Refuted, Report, as_entry, replay, run_checks
from ganzoo.checks.search import domain
from ganzoo.checks.sweep import float32_values, half_values, simplest
from ganzoo.errors import UserError
from ganzoo.testing import checks_of, parametrize_with_checks
from ganzoo.zoo import Zoo

ZOO = Zoo.installed()
OURS = [entry for entry in ZOO if entry.origin.ours]


def result_of(function, check_id):
    entry = as_entry(function)
    (check,) = (check for check in CHECKS if check.id == check_id and check.kind == entry.kind)
    return Report(entry.kind, entry.name, [check.run(ganzoo.checks.Subject(entry))]).results[0]


@pytest.mark.parametrize("entry", OURS, ids=lambda e: f"{e.kind}-{e.name}")
def test_every_plugin_of_ours_passes_every_check(entry):
    report = run_checks(entry, ZOO)
    assert report.passed
    assert not report.failures, report.text()


@pytest.mark.parametrize("function", WRONG, ids=lambda f: f.__name__)
def test_a_wrong_plugin_is_refused_by_the_check_that_should_refuse_it(function):
    result = result_of(function, WRONG[function])
    assert result.verdict == "fail"
    assert result.message
    assert result.counterexample
    assert not result.message.startswith("raised"), result.message
    # The three lines show it.
    assert result.reproduce.count("\n") == 2
    torch.manual_seed(0)  # a random plugin may agree with itself by chance
    with pytest.raises((AssertionError, RuntimeError)):
        exec(result.reproduce, {})


def test_there_are_wrong_plugins_for_every_kind():
    assert len(WRONG) >= 25
    assert {as_entry(f).kind for f in WRONG} == {"cost", "margin", "objective", "generator", "critic"}


def test_ids_are_unique_and_name_their_kind():
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(check.id.rpartition("-")[0] == check.kind for check in CHECKS)
    assert len({check.title for check in CHECKS if check.kind == "cost"}) == 13


# The sweep


def test_the_sweep_has_a_million_floats_of_every_exponent_and_both_signs():
    values = float32_values()
    assert 9e5 < len(values) < 1.1e6
    assert values.isfinite().all()
    bits = values.view(torch.int32)
    assert len(((bits >> 23) & 255).unique()) == 255
    assert (bits < 0).sum() > 4e5
    assert (values.abs() == torch.finfo(torch.float32).max).sum() == 2
    assert ((values > 3) & (values < 3.3)).sum() > 500


@pytest.mark.parametrize(("dtype", "count"), [(torch.bfloat16, 65280), (torch.float16, 63488)])
def test_the_sweep_has_every_finite_half(dtype, count):
    values = half_values(dtype)
    assert len(values) == count == len(values.view(torch.int16).unique())


def test_the_simplest_failing_number_has_the_fewest_decimals():
    def fails(a):
        return (a > 3) & (a < 3.3)

    assert simplest(torch.tensor([3.2998, 3.1001]), fails) == pytest.approx(3.1)
    assert simplest(torch.tensor([-17.23, -4.001]), lambda a: a < 0) == -4


# What the message says


def test_rounding_is_told_from_a_wrong_formula():
    rounded = result_of(wrong_plugins.elu_by_exp, "cost-1")
    assert rounded.message.startswith("rounding: ")
    assert "expm1" in rounded.message
    wrong = result_of(wrong_plugins.leaky_of_slope_2, "cost-1")
    assert wrong.message.startswith("wrong formula: C(-1) = -2")


def test_a_narrow_fault_is_found_at_a_simple_number():
    result = result_of(wrong_plugins.wrong_from_3_to_3_3, "cost-2")
    assert result.counterexample["a"] == pytest.approx(3.1)
    assert result.message.startswith("wrong formula: C(3.0999999) = 3.1099999 in float32")


def test_rounding_in_half_precision_is_a_note_and_no_failure():
    result = result_of(wrong_plugins.elu_by_exp, "cost-4")
    assert result.verdict == "pass"
    assert "rounding in bfloat16" in result.message


def test_hyperparameters_shrink_to_simple_ones():
    result = result_of(wrong_plugins.leaky_of_too_wide_a_domain, "cost-1")
    assert result.counterexample["hyperparameters"]["slope"] in (2.0, 3.0)
    assert result.counterexample["a"] == -1.0


def test_the_same_plugin_gets_the_same_report():
    entry = as_entry(wrong_plugins.leaky_of_too_wide_a_domain)
    assert run_checks(entry) == run_checks(entry)


def test_numbers_are_drawn_from_their_domain():
    assert find(domain(Annotated[float, Gt(0.25), Le(1)]), lambda x: True) == 1.0
    assert find(domain(Annotated[int, Ge(3)]), lambda x: True) == 3
    assert find(domain(Annotated[float, Ge(0)] | None), lambda x: x is not None) == 0.0
    assert find(domain(Literal["batch", "none"]), lambda x: x == "none") == "none"
    assert math.isfinite(find(domain(float), lambda x: x > 900))


def test_a_hyperparameter_that_cannot_be_drawn_stays_at_its_default():
    @ganzoo.cost
    def far(a: torch.Tensor, far: Annotated[float, Ge(5000)] = 6000.0) -> torch.Tensor:
        return a.relu()

    report = run_checks(as_entry(far), examples=2)
    assert report.passed
    assert "judged at the defaults only" in report.text()


# The report


def test_json_is_strict_and_says_what_the_report_says():
    report = run_checks(as_entry(wrong_plugins.nan_far_below), examples=2)
    read = json.loads(report.as_json(), parse_constant=pytest.fail)
    assert read == json.loads(json.dumps(report.as_dict()))
    assert read["passed"] is report.passed is False
    assert [r["check_id"] for r in read["results"]] == [c.id for c in TABLE if c.kind == "cost"]
    assert next(r for r in read["results"] if r["check_id"] == "cost-5")["counterexample"]["C"] == "nan"


def test_the_text_names_each_check_and_shows_the_counterexample():
    report = run_checks(as_entry(wrong_plugins.leaky_of_slope_2), examples=2)
    text = report.text()
    assert all(check.id in text for check in CHECKS if check.kind == "cost")
    assert "FAIL   cost-1" in text
    assert "counterexample: a = -1.0, C = -2.0, dtype = float32" in text
    assert text.endswith("recommendations not met")


def test_a_recommendation_does_not_refuse():
    report = run_checks(as_entry(wrong_plugins.one_sided))
    assert report.passed
    assert {result.check_id for result in report.failures} == {"margin-11", "margin-12"}
    assert "advice margin-11" in report.text()


def test_overflow_of_a_steep_slope_is_honest():
    report = run_checks(ZOO.find("cost", "leaky"))
    assert report.passed
    replay("cost-5", ZOO.find("cost", "leaky"), slope=-1000.0)


def test_a_game_that_uses_what_ganzoo_offers_passes_every_required_check():
    @ganzoo.objective
    def all_of_it(
        margin: ganzoo.Margin, theta_penalty: Annotated[float, Ge(0)] = 0.1, matching: Annotated[float, Ge(0)] = 1.0
    ) -> ganzoo.Objective:
        def hinge(critic, real, fake):
            return (margin(real, fake) + critic(real) - critic(fake)).relu().mean()

        needs = frozenset({ganzoo.Need.LABELS, ganzoo.Need.UNLABELED})
        game = ganzoo.Objective(hinge, unlabeled_loss=hinge, needs=needs)
        game = ganzoo.penalized(game, ganzoo.small_theta_gradient, theta_penalty)
        return ganzoo.matched(game, matching)

    report = run_checks(as_entry(all_of_it), examples=3)
    assert report.passed, report.text()
    # Feature matching is of the batch's means, which this recommendation is about.
    assert {result.check_id for result in report.failures} <= {"objective-15"}


def test_a_critic_alone_is_asked_nothing_about_its_generator():
    results = {r.check_id: r for r in run_checks(ZOO.find("objective", "supervised"), ZOO).results}
    assert results["objective-3"].verdict == "skip"
    assert results["objective-3"].message == "no generator plays"
    assert all(r.verdict in ("pass", "skip") for r in results.values())


def test_an_error_in_the_plugin_is_a_failure_and_no_traceback():
    @ganzoo.cost
    def crashing(a: torch.Tensor) -> torch.Tensor:
        raise KeyError("weights")

    report = run_checks(as_entry(crashing))
    assert not report.passed
    assert report.failures[0].message == "raised KeyError: 'weights'"
    assert report.failures[0].reproduce is None  # defined in a function: nothing can import it


def test_an_unknown_check_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"no check 'cost-99' of a cost.*there are: cost-1"):
        replay("cost-99", ZOO.find("cost", "leaky"))


# Pytest


@parametrize_with_checks([ZOO.find("cost", "relu"), ZOO.find("margin", "zero")])
def test_plugins_of_ours_in_a_strangers_pytest(check):
    check()


PLUGIN = """
import ganzoo
from torch import Tensor

@ganzoo.cost
def steep(a: Tensor) -> Tensor:
    return (a >= 0) * a + (a < 0) * 2 * a
"""


def test_a_file_is_checked_and_its_three_lines_run(tmp_path):
    path = tmp_path / "steep.py"
    path.write_text(PLUGIN)
    first = next(checks_of([path]))
    assert first.id == "cost-steep-cost-1"
    with pytest.raises(Refuted, match=r"wrong formula: C\(-1\) = -2"):
        first()
    (line,) = {r.reproduce for r in run_checks(first.subject.entry).results if r.check_id == "cost-1"}
    with pytest.raises(AssertionError, match="-2"):
        exec(line, {})


def test_functions_modules_paths_and_entries_are_all_taken(tmp_path):
    path = tmp_path / "steep.py"
    path.write_text(PLUGIN)
    module = types.ModuleType("steep_module")
    exec(PLUGIN, vars(module))
    ids = [[check.id for check in checks_of([thing])] for thing in (path, str(path), module, module.steep)]
    assert ids[0] == ids[1] == ids[2] == ids[3]
    assert ids[0] == [f"cost-steep-{check.id}" for check in CHECKS if check.kind == "cost"]


def test_what_the_zoo_refuses_is_refused_at_collection(tmp_path):
    with pytest.raises(UserError, match="supplies nothing"):
        parametrize_with_checks([lambda a: a])
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="supplies nothing"):
        parametrize_with_checks([Path(tmp_path / "empty.py")])
