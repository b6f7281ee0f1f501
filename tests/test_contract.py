"""A run refuses a plugin that breaks its hook's contract: before the first round, with plugin, got and wanted."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import wrong_plugins
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from wrong_plugins import WRONG

import ganzoo
from ganzoo import Zoo
from ganzoo.bench import prepare
from ganzoo.checks import as_entry
from ganzoo.config import Plan, contenders, read_plan
from ganzoo.contract import require_contract, require_loss
from ganzoo.errors import UserError
from ganzoo.features import Networks

REFUSED = {
    "leaky_of_slope_2": ("C(-1000) = -2000", "at least -1000 is wanted"),
    "softplus_cost": ("C(0) = 0.693147", "0 is wanted, as of every a >= 0"),
    "one_at_zero": ("C(0) = 1", "0 is wanted"),
    "nan_far_below": ("C(a) is [nan, ", "finite values are wanted"),
    "minus_the_mean": ("C(-1) is 0.75 among other values and 0.5 without them", "elementwise is wanted"),
    "scaled_by_the_batch": ("C(-1) is 0.001", "elementwise is wanted"),
    "averaged": ("C(a) has shape ()", "(4,) is wanted"),
    "upcast": ("is torch.float64", "torch.float32 is wanted"),
    "in_place": ("writes into a", "a tensor of its own is wanted"),
    "noisy": ("among other values", "elementwise is wanted"),
    "detached": ("C(a) has no gradient", "something in it detaches"),
    "nan_gradient": ("its gradient at a = 1000 is not finite", "the branch not taken overflows?"),
    "whole_numbers": ("C(a) has no gradient", "something in it detaches"),
    "a_column": ("has shape (4, 1)", "(4,) is wanted"),
    "one_for_the_batch": ("has shape ()", "(4,) is wanted"),
    "signed": ("Delta = -", "at least 0 is wanted"),
    "smoothed": ("Delta = 0.001 for an image and itself", "0 is wanted"),
    "in_double": ("is torch.float64", "torch.float32 is wanted"),
    "random_crop": ("changes with the other pairs, or from call to call", "its own is wanted"),
    "subtracting_in_place": ("writes into its images", "tensors of its own are wanted"),
    "not_reduced": ("critic_loss is (4,)", "a scalar tensor is wanted"),
    "sample_variance": ("critic_loss of 1 pairs", "nan"),
    "without_graph": ("critic_loss has no gradient",),
    "generator_detached": ("no gradient of generator_loss reaches",),
    "generator_of_real_images": ("no gradient of generator_loss reaches",),
    "stepping_itself": ("no .backward() in a plugin",),
    "column_against_row": ("makes a 11 x 11 matrix of 11 pairs",),
    "penalty_undeclared": ("does not declare Need.PER_SAMPLE",),
    "unlabeled_in_place": ("unlabeled_loss changes the real images",),
    "unlabeled_column_against_row": ("unlabeled_loss makes a 11 x 11 matrix",),
    "unlabeled_undeclared": ("Need.UNLABELED and an unlabeled_loss go together",),
    "judging_in_a_column": ("returns (4, 1) for 4 images", "(4,) is wanted"),
    "images_and_codes": ("the generator made tuple of z", "images (N, C, H, W) are wanted"),
    "losses_and_images": ("returns tuple", "(4,) is wanted"),
    "flat_images": ("the generator made (4, 64)", "(N, C, H, W) is wanted"),
}


def zoo_with(function: Any) -> Zoo:
    module = ModuleType(function.__module__)
    vars(module)["plugin"] = function
    zoo = Zoo.installed()
    zoo.add(module)
    return zoo


def plan_with(function: Any, tiny: Callable[..., Any], tmp_path: Path) -> Any:
    entry = as_entry(function)
    settings = tiny().model_dump(mode="json")
    flat = {key: value for key, value in settings.items() if value is not None and not isinstance(value, dict)}
    flat |= {"data.split": [64, 16, 16], "generator.width": 4, "critic.width": 4}
    if entry.kind in ("cost", "margin"):
        flat["objectives"] = [f"gls-gan:{entry.kind}={entry.name}"]
    elif entry.kind == "objective":
        flat["objectives"] = [entry.name]
        if entry.name.startswith("unlabeled"):
            flat |= {"labels.per_class": 2, "measure": "accuracy"}
    else:
        del flat[f"{entry.kind}.width"]
        flat |= {"objectives": ["gls-gan"], f"{entry.kind}.name": entry.name}
    (tmp_path / "plan.toml").write_text("")
    return read_plan(tmp_path / "plan.toml", **flat)


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_refuses_a_wrong_plugin_with_what_it_got_and_what_is_wanted(
    name: str, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    function = getattr(wrong_plugins, name)
    with pytest.raises(UserError) as raised:
        prepare(plan_with(function, tiny, tmp_path), zoo_with(function))
    said = str(raised.value)
    assert "\n" not in said
    for part in REFUSED[name]:
        assert part in said
    assert name.replace("_", "-") in said or "the generator made" in said


def test_most_of_the_wrong_plugins_are_refused_by_a_run_and_the_rest_by_a_check() -> None:
    assert {function.__name__ for function in WRONG} >= set(REFUSED)
    assert len(REFUSED) >= 30


@pytest.mark.parametrize("asked", ["gls-gan", "ls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"])
def test_every_game_of_ours_keeps_the_contract(asked: str, tiny: Callable[..., Any], zoo: Zoo) -> None:
    prepare(tiny(objectives=[asked], **{"critic.norm": "none"}), zoo)


@pytest.mark.parametrize("cost", ["abs", "elu", "identity", "leaky", "relu"])
@pytest.mark.parametrize("margin", ["lp", "zero"])
def test_every_cost_and_margin_of_ours_keeps_the_contract(
    cost: str, margin: str, tiny: Callable[..., Any], zoo: Zoo
) -> None:
    prepare(tiny(objectives=[f"gls-gan:cost={cost},margin={margin}"], **{"critic.norm": "none"}), zoo)


def zoo_of_cost(function: Callable[[Tensor], Tensor]) -> Zoo:
    @ganzoo.cost
    def mine(a: Tensor) -> Tensor:
        return function(a)

    return zoo_with(mine)


@ganzoo.cost
def two_lines(a: Tensor, slope: float = 0.5, kink: float = 1.0) -> Tensor:
    return torch.where(a >= 0, kink * a, slope * a)


@pytest.fixture(scope="module")
def two_lines_zoo() -> Zoo:
    return zoo_with(two_lines)


@settings(max_examples=60, deadline=None)
@given(slope=st.floats(-3, 3), kink=st.floats(0.5, 2))
@example(slope=1.0, kink=1.0)
@example(slope=1.01, kink=1.0)
@example(slope=-3.0, kink=1.0)
@example(slope=0.0, kink=1.01)
@example(slope=0.0, kink=0.99)
def test_a_cost_of_two_lines_is_refused_exactly_where_it_breaks_a_law(
    slope: float, kink: float, two_lines_zoo: Zoo
) -> None:
    """C(a) = slope a below 0, kink a above: (I) asks for slope <= 1 and kink >= 1, (II) for kink = 1."""
    chosen = contenders(f"gls-gan:cost=two-lines,slope={slope!r},kink={kink!r},margin=zero", two_lines_zoo, Plan())
    refused = False
    try:
        require_contract(chosen[0], two_lines_zoo, torch.rand(4, 1, 8, 8), Networks(None, steps=1))
    except UserError:
        refused = True
    if slope > 1.001 or abs(kink - 1) > 1e-3:
        assert refused
    elif slope <= 1 and kink == 1:
        assert not refused


def raises(a: Tensor) -> Tensor:
    raise ValueError("a slip")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda a: None, r"C\(a\) is NoneType; a tensor of shape \(4,\) is wanted"),
        (lambda a: a.relu().tolist(), r"C\(a\) is list; a tensor of shape \(4,\) is wanted"),
        (lambda a: a.relu()[:-1], r"C\(a\) has shape \(3,\); \(4,\) is wanted"),
        (lambda a: a.half().relu(), r"C\(a\) is torch.float16; torch.float32 is wanted"),
        (lambda a: a.relu() / 0, r"finite values are wanted"),
        (raises, "cost 'mine' fails: ValueError: a slip"),
    ],
)
def test_whatever_a_cost_returns_it_is_said_in_one_line(function: Callable[[Tensor], Any], said: str) -> None:
    zoo = zoo_of_cost(function)
    (contender,) = contenders("gls-gan:cost=mine", zoo, Plan())
    with pytest.raises(UserError, match=f"gls-gan:cost=mine: cost 'mine'.*{said}|{said}"):
        require_contract(contender, zoo, torch.rand(4, 1, 8, 8), Networks(None, steps=1))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (torch.ones(3), r"x is \(3,\); a scalar tensor is wanted"),
        (1.0, "x is float; a scalar tensor is wanted"),
        (torch.tensor(1.0, dtype=torch.float64), "x: it is torch.float64; torch.float32 is wanted"),
        (torch.tensor(math.nan), "x: it is .nan.; finite values are wanted"),
    ],
)
def test_a_loss_is_a_finite_scalar_in_float32(found: Any, said: str) -> None:
    require_loss("x", torch.tensor(1.0))
    with pytest.raises(UserError, match=said):
        require_loss("x", found)
