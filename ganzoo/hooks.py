"""The seven hooks. Each spec's docstring is the contract; a decorator marks a plain function as its implementation.

A parameter without a default comes from the harness and must be one of the spec's. A parameter with a default
is a hyperparameter, and its annotation is its domain: `Annotated[float, Le(1)]`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from ganzoo.features import Networks
    from ganzoo.game import Cost, Margin, Objective
    from ganzoo.listening import Listener
    from ganzoo.placing import Engine

PROJECT = "ganzoo"
"""The pluggy project, and the entry-point group in which packages announce their plugins."""

KINDS = ("objective", "cost", "margin", "generator", "critic", "engine", "listener")

_spec = pluggy.HookspecMarker(PROJECT)
_implementation = pluggy.HookimplMarker(PROJECT)


class Hooks:
    @_spec
    def objective(self, cost: "Cost", margin: "Margin") -> "Objective":
        """The game (S, T). `cost` and `margin` are bound by the harness; declare the ones that you use."""
        raise AssertionError("a specification is not called")

    @_spec
    def cost(self, a: "Tensor") -> "Tensor":
        """C(a), elementwise, (N,) -> (N,): (I) C(a) >= a for all a, (II) C(a) = a for a >= 0   (Qi 2017, sec. 6.2)."""
        raise AssertionError("a specification is not called")

    @_spec
    def margin(self, real: "Tensor", fake: "Tensor", networks: "Networks") -> "Tensor":
        """Delta(x, G(z)), (N, C, H, W), (N, C, H, W) -> (N,): non-negative, zero on equal pairs, one value a pair.
        Declare `networks` for feature maps: `networks("vgg16")(images)` are those of a frozen network."""
        raise AssertionError("a specification is not called")

    @_spec
    def generator(self, z_dim: int, image_shape: tuple[int, int, int]) -> "nn.Module":
        """G: (N, z_dim) -> (N, *image_shape) in [-1, 1]; image_shape is (C, H, W). A class, where there is one, is
        part of the input: z_dim then counts the one-hot vector."""
        raise AssertionError("a specification is not called")

    @_spec
    def critic(self, image_shape: tuple[int, int, int], outputs: int) -> "nn.Module":
        """L: (N, *image_shape) -> (N,) where outputs is 1, else (N, outputs). Unbounded, small on real images."""
        raise AssertionError("a specification is not called")

    @_spec
    def engine(self, cores: int, gpus: float) -> "Engine":
        """Who starts workers, and where: `place` runs a command on a machine that sees the run's folder. `cores`: CPU
        threads of one worker; `gpus`: the GPUs that it needs, 0.0 on CPUs; of a single one an engine may give a share.
        Hyperparameters named `slots` and `address` are the command's --slots and --address."""
        raise AssertionError("a specification is not called")

    @_spec
    def listener(self, folder: "Path", plan: dict[str, Any]) -> "Listener":
        """Who hears rows, points, pictures and the end of a run: `ganzoo bench --listener NAME`. `folder`: its own
        within the run's, which is there; `plan`: every key of the plan. It is called in the command's process,
        beside the training, which it can neither slow down nor end: what it raises is told once, at the end. It hears
        each thing once, also after a resume; a kill just after a call may repeat that one."""
        raise AssertionError("a specification is not called")


F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """Marks a function, bare or with options; what it gives back is the function itself, still callable.

    `name`: under which it is found, where the function's own (`_` becomes `-`) will not do. `expected_failures`: id of
    a check -> why a sound plugin fails it. `by_default=False`: a comparison that names no objectives leaves it out.
    """

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        expected_failures: Mapping[str, str] | None = None,
        by_default: bool = True,
    ) -> Callable[[F], F]: ...


def _decorator(kind: str) -> Decorator:
    def decorate(
        function: Any = None,
        *,
        name: str | None = None,
        expected_failures: Mapping[str, str] | None = None,
        by_default: bool = True,
    ) -> Any:
        def mark(function: Any) -> Any:
            function.ganzoo_name = (name or function.__name__).replace("_", "-")
            function.ganzoo_expected_failures = {} if expected_failures is None else expected_failures
            function.ganzoo_by_default = by_default
            return _implementation(specname=kind)(function)

        return mark if function is None else mark(function)

    decorate.__name__ = kind
    decorate.__doc__ = (
        f"Mark a function as a {kind}, named after the function (`_` becomes `-`) or by `name=`.\n\n"
        f"`expected_failures`: id of a check -> why a sound {kind} fails it; a check that then passes is a failure.\n\n"
        "`by_default=False`: a comparison that names no objectives leaves it out.\n\n"
        f"{getattr(Hooks, kind).__doc__}"
    )
    return decorate


objective = _decorator("objective")
"""Marks a function (cost, margin, hyperparameters) -> Objective as an objective; its contract is `Hooks.objective`."""
cost = _decorator("cost")
"""Marks a function (a, hyperparameters) -> Tensor as a cost; its contract is `Hooks.cost`."""
margin = _decorator("margin")
"""Marks a function (real, fake, hyperparameters) -> Tensor as a margin; its contract is `Hooks.margin`."""
generator = _decorator("generator")
"""Marks a function (z_dim, image_shape, hyperparameters) -> nn.Module as a generator; see `Hooks.generator`."""
critic = _decorator("critic")
"""Marks a function (image_shape, outputs, hyperparameters) -> nn.Module as a critic; see `Hooks.critic`."""
engine = _decorator("engine")
"""Marks a function (cores, gpus, hyperparameters) -> Engine as an engine; its contract is `Hooks.engine`."""
listener = _decorator("listener")
"""Marks a function that returns a Listener; its contract is `Hooks.listener`."""
