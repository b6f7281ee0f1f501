"""Theorems 2 and 3 of Qi 2017 as numbers: by hand, their laws, their inverses, their domains."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo.errors import UserError
from ganzoo.theory.sample_complexity import critic_epsilon, critic_samples, generator_epsilon, generator_samples

CRITIC: dict[str, Any] = {
    "epsilon": 0.1,
    "eta": 0.05,
    "margin_bound": 2.0,
    "lipschitz": 3.0,
    "parameter_lipschitz": 5.0,
    "parameters": 1000,
}
GENERATOR: dict[str, Any] = {
    "epsilon": 0.1,
    "eta": 0.05,
    "noise_bound": 2.0,
    "lipschitz": 3.0,
    "noise_lipschitz": 1.5,
    "parameter_lipschitz": 5.0,
    "generator_parameter_lipschitz": 0.7,
    "parameters": 1000,
}
BOTH = [(critic_samples, CRITIC), (generator_samples, GENERATOR)]
INVERSES = [(critic_samples, critic_epsilon, CRITIC), (generator_samples, generator_epsilon, GENERATOR)]
sizes = st.floats(0.01, 100)


def without_epsilon(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "epsilon"}


def test_theorem_2_by_hand() -> None:
    # 2^2 * (3 + 1)^2 / 0.1^2 * (1000 log(5 * 1000 / 0.1) + log 20)
    by_hand = 6400 * (1000 * math.log(50_000) + math.log(20))
    assert critic_samples(**CRITIC) == pytest.approx(by_hand, rel=1e-12)


def test_theorem_3_by_hand() -> None:
    # 2^2 * 3^2 * 1.5^2 / 0.1^2 * (1000 log(5 * 0.7 * 1000 / 0.1) + log 20)
    by_hand = 8100 * (1000 * math.log(35_000) + math.log(20))
    assert generator_samples(**GENERATOR) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("samples", "values"), BOTH)
def test_the_constant_is_the_unit(samples: Any, values: dict[str, Any]) -> None:
    assert samples(**values, constant=7.0) == pytest.approx(7 * samples(**values), rel=1e-12)


def test_fewer_than_one_ball_cannot_cover_the_parameters() -> None:
    tiny = CRITIC | {"parameter_lipschitz": 1e-6, "parameters": 1}
    assert critic_samples(**tiny) == pytest.approx(6400 * math.log(20), rel=1e-12)


@pytest.mark.parametrize(("samples", "values"), BOTH)
@pytest.mark.parametrize("factor", [1.01, 3.0])
def test_samples_rise_with_every_constant_and_fall_with_epsilon_and_eta(
    samples: Any, values: dict[str, Any], factor: float
) -> None:
    for name, value in values.items():
        more = value + 7 if name == "parameters" else value * factor
        changed, before = samples(**(values | {name: more})), samples(**values)
        assert changed < before if name in ("epsilon", "eta") else changed > before, name


@settings(deadline=None)
@given(epsilon=st.floats(1e-6, 0.49), lipschitz=sizes, bound=sizes, parameters=st.integers(1, 10**9))
def test_half_of_epsilon_asks_for_at_least_4_times_the_samples(
    epsilon: float, lipschitz: float, bound: float, parameters: int
) -> None:
    values = CRITIC | {"lipschitz": lipschitz, "margin_bound": bound, "parameters": parameters}
    whole, half = (critic_samples(**(values | {"epsilon": e})) for e in (epsilon, epsilon / 2))
    assert half >= 4 * whole * (1 - 1e-12)


@settings(deadline=None)
@given(kappa=sizes, more=st.floats(1, 10))
def test_theorem_2_goes_with_kappa_plus_1_squared_and_theorem_3_with_kappa_squared(kappa: float, more: float) -> None:
    two = [critic_samples(**(CRITIC | {"lipschitz": k})) for k in (kappa, kappa * more)]
    three = [generator_samples(**(GENERATOR | {"lipschitz": k})) for k in (kappa, kappa * more)]
    assert two[1] / two[0] == pytest.approx(((kappa * more + 1) / (kappa + 1)) ** 2)
    assert three[1] / three[0] == pytest.approx(more**2)


@pytest.mark.parametrize(("samples", "inverse", "values"), INVERSES)
@settings(deadline=None)
@given(epsilon=st.floats(1e-9, 0.999), kappa=sizes, kappa_l=st.floats(1e-6, 1e6), parameters=st.integers(1, 10**12))
def test_the_inverse_gives_epsilon_back(
    samples: Any, inverse: Any, values: dict[str, Any], epsilon: float, kappa: float, kappa_l: float, parameters: int
) -> None:
    here = values | {"lipschitz": kappa, "parameter_lipschitz": kappa_l, "parameters": parameters}
    needed = samples(**(here | {"epsilon": epsilon}))
    assert inverse(needed, **without_epsilon(here)) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize(("samples", "inverse", "values"), INVERSES)
def test_more_samples_come_nearer(samples: Any, inverse: Any, values: dict[str, Any]) -> None:
    few, many = (inverse(m, **without_epsilon(values), constant=1e-9) for m in (1e4, 1e6))
    assert many < few
    assert few / many == pytest.approx(10, rel=0.35)  # m^-1/2 but for the logarithm


@pytest.mark.parametrize(("samples", "inverse", "values"), INVERSES)
def test_too_few_samples_are_told_how_many_it_takes(samples: Any, inverse: Any, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="1 samples reach no eps below 1; that takes"):
        inverse(1, **without_epsilon(values))


@pytest.mark.parametrize(("samples", "inverse", "values"), INVERSES)
def test_more_samples_than_floats_can_tell_are_refused(samples: Any, inverse: Any, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="nearer than floats tell"):
        inverse(1e308, **without_epsilon(values), constant=1e-300)


@pytest.mark.parametrize(("samples", "inverse", "values"), INVERSES)
@pytest.mark.parametrize("slip", [0, -5, math.inf, math.nan])
def test_a_number_of_samples_that_is_none_is_refused(
    samples: Any, inverse: Any, values: dict[str, Any], slip: float
) -> None:
    with pytest.raises(UserError, match=f"samples is {slip}, not a positive number"):
        inverse(slip, **without_epsilon(values))


@pytest.mark.parametrize(("samples", "values"), BOTH)
def test_a_value_outside_its_domain_is_refused_by_name(samples: Any, values: dict[str, Any]) -> None:
    for name in (*values, "constant"):
        if name in ("epsilon", "eta"):
            slips, said = (0, 1, -0.1, 1.5, math.nan), "not between 0 and 1"
        elif name == "parameters":
            slips, said = (0, -3, 1.5, 10**400), "not a whole number from 1 to"
        else:
            slips, said = (0, -1.0, math.inf, math.nan), "not a positive number"
        for slip in slips:
            with pytest.raises(UserError, match=f"^{name} is {slip}, {said}"):
                samples(**(values | {name: slip}))


@pytest.mark.parametrize(("samples", "values"), BOTH)
def test_beyond_the_floats_is_infinity(samples: Any, values: dict[str, Any]) -> None:
    assert samples(**(values | {"epsilon": 1e-300})) == math.inf
