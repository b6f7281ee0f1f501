"""ganzoo: a plugin-based zoo of GAN objectives, compared fairly on held-out images.

A plugin needs nothing but the names below: the seven decorators, the types of the game, the penalties.
Names load on first use, so that `ganzoo --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import cost, critic, engine, generator, listener, margin, objective

if TYPE_CHECKING:
    from ganzoo.engines import local_engine, started
    from ganzoo.features import Networks
    from ganzoo.game import Cost, Critic, GameLoss, Margin, Need, Objective, Recipe, expected_loss
    from ganzoo.heads import BoundCritic, class_loss, matched, matching_features
    from ganzoo.listening import Listener
    from ganzoo.mre import minimum_reconstruction_error
    from ganzoo.penalty import (
        Penalty,
        fake_gradient,
        penalized,
        perturbed_gradient,
        small_gradient,
        small_theta_gradient,
        unit_gradient,
    )
    from ganzoo.placing import Engine, Placed
    from ganzoo.zoo import Zoo

__version__ = "0.1.0"

_HOMES = {
    "ganzoo.heads": ("BoundCritic", "class_loss", "matched", "matching_features"),
    "ganzoo.engines": ("local_engine", "started"),
    "ganzoo.placing": ("Engine", "Placed"),
    "ganzoo.features": ("Networks",),
    "ganzoo.game": ("Cost", "Critic", "GameLoss", "Margin", "Need", "Objective", "Recipe", "expected_loss"),
    "ganzoo.listening": ("Listener",),
    "ganzoo.mre": ("minimum_reconstruction_error",),
    "ganzoo.penalty": (
        "Penalty", "fake_gradient", "penalized", "perturbed_gradient", "small_gradient", "small_theta_gradient",
        "unit_gradient",
    ),
    "ganzoo.zoo": ("Zoo",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BoundCritic", "Cost", "Critic", "Engine", "GameLoss", "Listener", "Margin", "Need", "Networks", "Objective",
    "Penalty", "Placed", "Recipe", "UserError", "Zoo", "class_loss", "cost", "critic", "engine", "expected_loss",
    "fake_gradient", "generator", "listener", "local_engine", "margin", "matched", "matching_features",
    "minimum_reconstruction_error", "objective", "penalized", "perturbed_gradient", "small_gradient",
    "small_theta_gradient", "started", "unit_gradient",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"ganzoo has no name '{name}'{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
