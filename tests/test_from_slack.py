"""`Cost.from_slack`: whoever writes h cannot break (I) or (II), in floats no more than in reals."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from annotated_types import Ge, Le
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import ganzoo
from ganzoo import Cost
from ganzoo.checks import Refuted, as_entry, replay, run_checks
from ganzoo.checks.sweep import float32_values, half_values
from ganzoo.errors import UserError
from ganzoo.testing import checks_of, entries_of
from ganzoo.zoo import Zoo
from ganzoo.zoo.listing import listing

Slack = Callable[[Tensor], Tensor]

TERMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linear": lambda t, p: t * p,
    "power": lambda t, p: t.pow(p),
    "root": lambda t, p: t.sqrt() * p,
    "logarithm": lambda t, p: (t * p).log1p(),
    "exponential": lambda t, p: (t * p).expm1(),
    "capped": lambda t, p: t.clamp(max=p),
    "late": lambda t, p: (t - p).relu(),
    "wave": lambda t, p: p * (t * p).sin().square(),  # not monotone
    "rounding": lambda t, p: (t * p).exp() - 1 - t * p,  # below zero in float64, where t is small
}
"""h(t; p) >= 0 with h(0) = 0 for p > 0; sums and multiples of them are slacks as well."""

slacks = st.lists(
    st.tuples(st.sampled_from(sorted(TERMS)), st.floats(0.01, 3), st.floats(0, 3)), min_size=1, max_size=3
)


def slack_of(terms: list[tuple[str, float, float]]) -> Slack:
    def h(t: Tensor) -> Tensor:
        return torch.stack([weight * TERMS[name](t, p) for name, p, weight in terms if weight] or [0 * t]).sum(dim=0)

    return h


# The law


@settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.nested_given]
)  # the checks draw too
@given(slacks)
def test_a_random_slack_gives_a_cost_that_passes_every_check(terms: list[tuple[str, float, float]]) -> None:
    report = run_checks(as_entry(ganzoo.cost(name="drawn")(Cost.from_slack(slack_of(terms)))), examples=1)
    assert report.passed, report.text()
    assert sum(result.verdict == "pass" for result in report.results) >= 12


@settings(max_examples=60, deadline=None, derandomize=True)
@given(slacks)
def test_i_and_ii_hold_exactly_in_every_dtype(terms: list[tuple[str, float, float]]) -> None:
    cost = Cost.from_slack(slack_of(terms))
    some = float32_values()[::101]
    for a in (some, some.double(), half_values(torch.bfloat16), half_values(torch.float16), torch.tensor([0.0, -0.0])):
        c = cost(a)
        assert c.dtype == a.dtype
        assert bool((c >= a).all())  # and no NaN
        assert c[a >= 0].equal(a[a >= 0])


@pytest.mark.parametrize("terms", [[(name, 0.7, 1.0)] for name in TERMS], ids=list(TERMS))
def test_below_zero_it_is_a_plus_the_slack(terms: list[tuple[str, float, float]]) -> None:
    h = slack_of(terms)
    t = torch.linspace(0.1, 9, 90, dtype=torch.float64)
    assert torch.allclose(Cost.from_slack(h)(-t), h(t) - t, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "given", "h"),
    [
        ("leaky", {"slope": 0.3}, lambda t: (1 - 0.3) * t),
        ("leaky", {"slope": -2.0}, lambda t: (1 + 2.0) * t),
        ("abs", {}, lambda t: 2 * t),
        ("elu", {"alpha": 0.8}, lambda t: t + 0.8 * (-t).expm1()),
        ("identity", {}, lambda t: 0 * t),
        ("relu", {}, lambda t: t),
    ],
    ids=["leaky", "steep", "abs", "elu", "identity", "relu"],
)
def test_our_costs_come_back_from_their_slacks(name: str, given: dict[str, float], h: Slack) -> None:
    made, ours = Cost.from_slack(h), Zoo.installed().cost(name, **given)
    values = float32_values()[::37]
    a = values[values != 0].requires_grad_(True)  # at 0 a kink has any slope between those beside it
    # a + h(-a) rounds where a is: at a = -1e17 the difference of two such numbers is 16 or nothing.
    assert bool(
        ((made(a) - ours(a)).abs() <= 1e-6 * ours(a).abs() + 4e-16 * a.abs()).logical_or(made(a) == ours(a)).all()
    )
    gradients = [torch.autograd.grad(cost(a).nan_to_num(posinf=0).sum(), a)[0] for cost in (made, ours)]
    assert torch.allclose(*gradients, rtol=1e-6, atol=1e-6)


def test_a_slack_beyond_the_floats_does_not_take_the_cost_with_it() -> None:
    """2 t overflows in float32 where |a| does not."""
    a = torch.tensor([-3e38])
    assert Cost.from_slack(lambda t: 2 * t)(a).equal(a.abs())


def test_what_rounding_leaves_below_zero_is_zero_and_a_wrong_formula_stays_wrong() -> None:
    def nearly(t: Tensor) -> Tensor:
        return t.exp() - 1 - t

    t = torch.logspace(-15, -6, 2000, dtype=torch.float64)
    assert (nearly(t) < 0).any()  # else the test tests nothing
    assert (Cost.from_slack(nearly)(-t) >= -t).all()

    @Cost.from_slack
    def steep(t: Tensor, weight: float = 1.0) -> Tensor:
        return weight * t

    a = torch.tensor([-1.0])
    assert steep(a, weight=-1.0).item() == -2.0  # not repaired in silence: the check finds it
    with pytest.raises(Refuted, match=r"C\(-1\) = -2"):
        replay("cost-1", as_entry(ganzoo.cost(steep)), weight=-1.0)


def test_the_gradient_above_zero_is_one_whatever_the_slope_of_the_slack_at_zero() -> None:
    a = torch.tensor([3.0, 0.0, 1e-30, -4.0], requires_grad=True)
    Cost.from_slack(lambda t: t.sqrt())(a).sum().backward()
    assert a.grad is not None
    assert a.grad.tolist() == [1.0, 1.0, 1.0, 1 - 0.25]


def test_nan_stays_nan_and_shapes_stay() -> None:
    cost = Cost.from_slack(lambda t: t)
    assert cost(torch.tensor([torch.nan])).isnan().all()
    assert cost(torch.zeros(2, 3, 4)).shape == (2, 3, 4)
    assert cost(torch.zeros(0)).shape == (0,)
    assert cost(torch.tensor(-2.0)).shape == ()


def test_it_can_be_compiled_into_one_graph_and_mapped() -> None:
    cost = Cost.from_slack(lambda t: t * t)
    a = torch.randn(6, dtype=torch.float64)
    explained = torch._dynamo.explain(cost)(a)
    assert explained.graph_break_count == 0
    assert torch.func.vmap(cost)(a.view(2, 3)).equal(cost(a).view(2, 3))


# As a plugin

PLUGIN = '''import ganzoo, torch, typing, annotated_types
@ganzoo.cost
@ganzoo.Cost.from_slack
def squared(t: torch.Tensor, weight: typing.Annotated[float, annotated_types.Ge(0)] = 0.1) -> torch.Tensor:
    """C(a) = a + weight * max(-a, 0)^2."""
    return weight * t * t
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "squared.py"
    path.write_text(PLUGIN)
    return path


def test_a_plugin_of_it_has_five_lines_a_domain_its_own_source_and_passes_its_checks(plugin: Path) -> None:
    assert len(PLUGIN.splitlines()[1:]) == 5
    (entry,) = entries_of(plugin)
    assert (entry.name, entry.inputs, entry.doc) == ("squared", ("a",), "C(a) = a + weight * max(-a, 0)^2.")
    assert entry.hyperparameters["weight"].domain == "float, >= 0"
    assert entry.code.co_filename == str(plugin)
    assert entry.bind(weight=2.0)(torch.tensor([-3.0, 3.0])).tolist() == [15.0, 3.0]
    with pytest.raises(UserError, match=r"weight = -1.0 is outside its domain \(float, >= 0\)"):
        entry.bind(weight=-1.0)
    report = run_checks(entry, examples=3)
    assert report.passed, report.text()


def test_the_code_that_made_a_row_is_the_plugins(plugin: Path) -> None:
    before = entries_of(plugin)[0].source_sha256
    other = plugin.with_name("other.py")
    other.write_text(PLUGIN.replace("0.1", "0.2"))
    assert entries_of(other)[0].source_sha256 != before


def test_a_listing_shows_it_as_the_zoo_does(plugin: Path) -> None:
    (listed,) = [one for one in listing([plugin]).of("cost") if one.name == "squared"]
    assert listed.formula == "C(a) = a + weight * max(-a, 0)^2."
    assert listed.about["hyperparameters"] == {"weight": {"domain": "float, >= 0", "default": 0.1}}
    assert listed.about["inputs"] == ["a"]


def test_annotations_as_text_are_read_in_the_plugin(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text("from __future__ import annotations\n" + PLUGIN)
    assert entries_of(path)[0].hyperparameters["weight"].domain == "float, >= 0"


def test_the_three_lines_that_reproduce_a_failure_find_it(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(PLUGIN.replace("annotated_types.Ge(0)", "annotated_types.Ge(-5)"))
    check = next(check for check in checks_of([path]) if check.check.id == "cost-1")
    result = check.check.run(check.subject)
    assert result.verdict == "fail"
    assert result.reproduce is not None
    with pytest.raises(AssertionError):
        exec(result.reproduce, {})


def test_a_plain_function_is_a_cost_as_before() -> None:
    def plain(a: Tensor) -> Tensor:
        return a.relu()

    def played(cost: Cost) -> Tensor:
        return cost(torch.tensor([-1.0]))

    assert played(plain).item() == 0
    assert played(lambda a: a).item() == -1
    assert played(Cost.from_slack(lambda t: t)).item() == 0


def test_its_signature_is_that_of_the_slack_with_a_for_t() -> None:
    def h(t: Tensor, weight: Annotated[float, Ge(0), Le(1)] = 0.5) -> Tensor:
        return weight * t

    signature = inspect.signature(Cost.from_slack(h))
    assert [*signature.parameters] == ["a", "weight"]
    assert signature.parameters["weight"].annotation == Annotated[float, Ge(0), Le(1)]
    assert signature.return_annotation is Tensor


# What is refused


def h_named(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = "mine"
    return function


@pytest.mark.parametrize(
    ("h", "why"),
    [
        (lambda t: t + 1, r"slack 'mine': h\(0\) = 1, where \(II\) asks for 0"),
        (lambda t: torch.nn.functional.softplus(t), r"h\(0\) = 0.693147, where \(II\)"),
        (lambda t: t / t, r"h\(0\) = nan, where \(II\)"),
        (lambda t: -t, r"h\(1\) = -1, where \(I\) asks for h >= 0"),
        (lambda t: t.sin(), r"h\(3.15\) = -0.00840725, where \(I\)"),
        (lambda t: torch.where(t > 1e30, -t, t), r"h\(1.\d+e\+30\) = -1.\d+e\+30, where \(I\)"),
        (lambda t: torch.where((t > 0) & (t < 1e-3), -1e-3, t), r"h\(0.0009\d+\) = -0.001, where \(I\)"),
        (lambda t: t.exp() / (1 + t.exp()) - 0.5, r"h\(\d+\) = nan, where \(I\)"),
        (lambda t: t - t.mean(), r"h\(0\) = "),
        (lambda t: t / t.max(), r"is not elementwise: h\(t\) changes with the other values beside t"),
        (lambda t: t * torch.arange(1, 1 + len(t)), r"is not elementwise"),
        (lambda t: t[:, None], r"h of \(4217,\) gives shape \(4217, 1\); it should be elementwise"),
        (lambda t: t.sum(), r"gives shape \(\); it should be elementwise"),
        (lambda t: 0.0, r"gives float; it should be elementwise"),
        (lambda t: t.missing(), r"slack 'mine' fails: AttributeError: "),
        (lambda: 0, r"slack 'mine' should take t first: h\(t\)"),
        (lambda *, t: t, r"slack 'mine' should take t first"),
        (lambda t, weight: t, r"'weight' has no default, so nothing gives it; write weight: Annotated\["),
        (lambda t, a=1.0: t, r"'a' is the name of the cost's input"),
    ],
)
def test_what_is_no_slack_is_refused_with_the_condition_that_it_breaks(h: Callable[..., Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        Cost.from_slack(h_named(h))


def test_what_is_not_written_in_python_is_refused_with_the_cure() -> None:
    with pytest.raises(UserError, match=r"from_slack takes a function h\(t\) written in Python, not .*expm1.*lambda t"):
        Cost.from_slack(torch.expm1)


def test_a_wrong_slack_in_a_file_is_told_by_the_zoo_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(PLUGIN.replace("weight * t * t", "weight * (t - 1)"))
    with pytest.raises(
        UserError, match=r"wrong.py: UserError: slack 'squared': h\(0\) = -0.1, where \(II\) asks for 0"
    ):
        entries_of(path)


def test_it_is_judged_on_the_cpu_whatever_device_is_the_default() -> None:
    with torch.device("meta"):
        cost = Cost.from_slack(lambda t: t)
    assert cost(torch.tensor([-1.0])).item() == 0
