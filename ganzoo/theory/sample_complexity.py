"""How many samples theorems 2 and 3 of Qi 2017 ask for, and how near so many samples bring one.

The paper gives the shape and leaves the constants C and C' open. With `constant` left at 1 a number of samples is in
units of C (C'), and only ratios mean anything: half of eps asks for a little more than 4 times the samples.
"""

import math
from collections.abc import Callable

from scipy.optimize import brentq

from ganzoo.errors import UserError


def critic_samples(
    *,
    epsilon: float,
    eta: float,
    margin_bound: float,
    lipschitz: float,
    parameter_lipschitz: float,
    parameters: int,
    constant: float = 1.0,
) -> float:
    """m = C B_Delta^2 (kappa + 1)^2 / eps^2 * (N log(kappa_L N / eps) + log(1 / eta))   (Qi 2017, theorem 2).

    With at least m pairs |S_m - S| <= eps has probability 1 - eta or more. Not rounded, in units of C where `constant`
    is 1; inf beyond the floats.

    epsilon: eps in (0, 1), in the unit of S, which is the margin's.
    eta: the probability of failure, in (0, 1).
    margin_bound: B_Delta > 0, the largest margin of two samples.
    lipschitz: kappa > 0, L's Lipschitz constant in x, in units of the margin a unit of distance in x.
    parameter_lipschitz: kappa_L > 0, L's Lipschitz constant in theta, in units of the margin a unit of theta.
    parameters: N >= 1, how many numbers theta has.
    constant: C > 0.

    N log(...) is the logarithm of how many balls cover the parameters; one ball is the least, so it is never below 0.
    Raises UserError for a value outside its domain.
    """
    _in_unit_interval(epsilon=epsilon, eta=eta)
    _positive(
        margin_bound=margin_bound, lipschitz=lipschitz, parameter_lipschitz=parameter_lipschitz, constant=constant
    )
    _count(parameters=parameters)
    scale = margin_bound * (lipschitz + 1)
    return _samples(epsilon, eta, scale, parameter_lipschitz, parameters, constant)


def generator_samples(
    *,
    epsilon: float,
    eta: float,
    noise_bound: float,
    lipschitz: float,
    noise_lipschitz: float,
    parameter_lipschitz: float,
    generator_parameter_lipschitz: float,
    parameters: int,
    constant: float = 1.0,
) -> float:
    """k = C' B_z^2 kappa^2 rho^2 / eps^2 * (M log(kappa_L rho_G M / eps) + log(1 / eta))   (Qi 2017, theorem 3).

    With at least k noise vectors |T_k - T| <= eps has probability 1 - eta or more. Not rounded, in units of C' where
    `constant` is 1; inf beyond the floats.

    epsilon: eps in (0, 1), in the unit of T, which is the critic's.
    eta: the probability of failure, in (0, 1).
    noise_bound: B_z > 0, the largest norm of a noise vector z.
    lipschitz: kappa > 0, L's Lipschitz constant in x, in units of L a unit of distance in x.
    noise_lipschitz: rho > 0, G's Lipschitz constant in z, in units of x a unit of z.
    parameter_lipschitz: kappa_L > 0, L's Lipschitz constant in theta, as the paper has it in this theorem too.
    generator_parameter_lipschitz: rho_G > 0, G's Lipschitz constant in phi, in units of x a unit of phi.
    parameters: M >= 1, how many numbers phi has.
    constant: C' > 0.

    As in `critic_samples` the logarithm is never below 0. Raises UserError for a value outside its domain.
    """
    _in_unit_interval(epsilon=epsilon, eta=eta)
    _positive(
        noise_bound=noise_bound,
        lipschitz=lipschitz,
        noise_lipschitz=noise_lipschitz,
        parameter_lipschitz=parameter_lipschitz,
        generator_parameter_lipschitz=generator_parameter_lipschitz,
        constant=constant,
    )
    _count(parameters=parameters)
    scale = noise_bound * lipschitz * noise_lipschitz
    return _samples(epsilon, eta, scale, parameter_lipschitz * generator_parameter_lipschitz, parameters, constant)


def critic_epsilon(
    samples: float,
    *,
    eta: float,
    margin_bound: float,
    lipschitz: float,
    parameter_lipschitz: float,
    parameters: int,
    constant: float = 1.0,
) -> float:
    """The eps in (0, 1) for which theorem 2 asks for just so many samples (in units of C where `constant` is 1).

    Raises UserError outside the domain of `critic_samples`, and where even eps = 1 asks for more samples.
    """
    return _epsilon(
        samples,
        lambda epsilon: critic_samples(
            epsilon=epsilon,
            eta=eta,
            margin_bound=margin_bound,
            lipschitz=lipschitz,
            parameter_lipschitz=parameter_lipschitz,
            parameters=parameters,
            constant=constant,
        ),
    )


def generator_epsilon(
    samples: float,
    *,
    eta: float,
    noise_bound: float,
    lipschitz: float,
    noise_lipschitz: float,
    parameter_lipschitz: float,
    generator_parameter_lipschitz: float,
    parameters: int,
    constant: float = 1.0,
) -> float:
    """The eps in (0, 1) for which theorem 3 asks for just so many samples (in units of C' where `constant` is 1).

    Raises UserError outside the domain of `generator_samples`, and where even eps = 1 asks for more samples.
    """
    return _epsilon(
        samples,
        lambda epsilon: generator_samples(
            epsilon=epsilon,
            eta=eta,
            noise_bound=noise_bound,
            lipschitz=lipschitz,
            noise_lipschitz=noise_lipschitz,
            parameter_lipschitz=parameter_lipschitz,
            generator_parameter_lipschitz=generator_parameter_lipschitz,
            parameters=parameters,
            constant=constant,
        ),
    )


LARGEST = 1 - 2**-53
"""The largest float below 1."""
LEAST = 1e-150
"""Its square is still a normal float."""


def _samples(
    epsilon: float, eta: float, scale: float, parameter_lipschitz: float, parameters: int, constant: float
) -> float:
    # Logarithms one by one, and a product for the square: neither leaves the floats with an exception.
    covering = parameters * max(0.0, math.log(parameter_lipschitz) + math.log(parameters) - math.log(epsilon))
    ratio = scale / epsilon
    return constant * ratio * ratio * (covering - math.log(eta))


def _epsilon(samples: float, needed: Callable[[float], float]) -> float:
    """The zero of needed(eps) - samples; needed falls strictly in eps."""
    _positive(samples=samples)
    least = needed(LARGEST)
    if samples < least:
        raise UserError(f"{samples:g} samples reach no eps below 1; that takes {least:g}")
    if samples > needed(LEAST):
        raise UserError(f"{samples:g} samples reach an eps below {LEAST:g}, nearer than floats tell")

    def excess(log_epsilon: float) -> float:
        return math.log(needed(math.exp(log_epsilon))) - math.log(samples)

    return math.exp(brentq(excess, math.log(LEAST), math.log(LARGEST), xtol=1e-14, rtol=1e-14))


def _in_unit_interval(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < 1:
            raise UserError(f"{name} is {value}, not between 0 and 1 (neither included)")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"{name} is {value}, not a positive number")


def _count(**values: int) -> None:
    for name, value in values.items():
        if not 1 <= value <= 10**18 or value != int(value):
            raise UserError(f"{name} is {value}, not a whole number from 1 to 10^18")
