"""The types of the game, with their shapes, units and signs.

One sign for every objective: the critic L is the paper's loss function, small on real images and large on
generated ones. WGAN's critic is f = -L, DCGAN's logit of "real" is -L.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Concatenate, Literal, NamedTuple, ParamSpec, Protocol

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ganzoo import slack as slacks

if TYPE_CHECKING:
    from abc import ABCMeta as ProtocolMeta
else:
    ProtocolMeta = type(Protocol)

P = ParamSpec("P")


class _CostType(ProtocolMeta):
    """What can be asked of `Cost` itself. In the protocol's own body a function would have to have it to be a cost."""

    def from_slack(self, slack: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
        """C(a) = a + h(max(-a, 0)), valid by construction: see `ganzoo.slack.from_slack`."""
        return slacks.from_slack(slack)


class Cost(Protocol, metaclass=_CostType):
    """C(a): elementwise, (N,) -> (N,); every function of that signature is one.

    `Cost.from_slack(h)` makes one of a slack h >= 0 with h(0) = 0, C(a) = a + h(max(-a, 0)), which cannot break (I) or
    (II)   (Qi 2017, sec. 6.2).
    """

    def __call__(self, a: Tensor, /) -> Tensor: ...


Margin = Callable[[Tensor, Tensor], Tensor]
"""Delta(x, G(z)): (N, C, H, W), (N, C, H, W) -> (N,), one value a pair, non-negative, zero for equal images."""

Critic = Callable[[Tensor], Tensor]
"""L(x): (N, C, H, W) -> (N,), small on real images."""

GameLoss = Callable[[Critic, Tensor, Tensor], Tensor]
"""(critic, real, fake) -> scalar; real and fake are (N, C, H, W) in [-1, 1] and pair up by index."""


class Need(StrEnum):
    """What an objective asks of the networks and the data; checked before a run starts."""

    LABELS = "labels"
    """The critic is L(x, y) = -log softmax(a(x))_y bound to the batch's labels, the generator is G(z, y)."""
    UNLABELED = "unlabelled images"
    """Besides labelled images as many unlabelled ones, for `unlabeled_loss`; L(x, y) then leaves room for "none of the
    classes" (Qi 2017, sec. 8.2)."""
    FEATURES = "features"
    """The critic's network offers `features(images) -> (N, d)`, its last hidden representation."""
    ALONE = "no generator"
    """The critic is trained alone, a baseline: the generator stays as it was, and `fake` and T mean nothing."""
    PER_SAMPLE = "per-sample critic"
    """L(x_i) depends on x_i alone: a critic without batch statistics."""
    NON_NEGATIVE = "non-negative critic"
    """L >= 0 (Qi 2017, sec. 3): the harness passes an unbounded critic through softplus."""


class Recipe(BaseModel):
    """How a game is optimised. The defaults are those of Qi 2017, sec. 9.2."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Of both players."""
    critic_rate: Annotated[float, Gt(0), Le(1e6)] = 1e-3
    """The critic's first learning rate."""
    generator_rate: Annotated[float, Gt(0), Le(1e6)] = 1e-3
    """The generator's."""
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Adam's first-moment decay; RMSprop does not use it."""
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Adam's second-moment decay; RMSprop's smoothing constant is 0.99."""
    critic_steps: Annotated[int, Ge(1)] = 1
    """Critic steps for each generator step."""
    decay: Annotated[float, Gt(0), Le(1)] = 0.8
    """Both rates are multiplied by this ..."""
    decay_epochs: Annotated[int, Ge(1)] = 25
    """... every so many epochs."""


def expected_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """T = E L(G(z)), a scalar   (Qi 2017, eq. 5). fake: (N, C, H, W); critic(fake): (N,); real is not looked at."""
    return critic(fake).mean()


def unconstrained(critic: nn.Module) -> None:
    """Leave the critic's weights as they are."""


class Objective(NamedTuple):
    """The game (S, T) as pure functions; a plugin fills in only what differs from the defaults."""

    critic_loss: GameLoss
    """S: what the critic's step minimises over theta, `fake` held fixed."""
    generator_loss: GameLoss = expected_loss
    """T: what the generator's step minimises over phi. It sees the real batch as well (relativistic games)."""
    unlabeled_loss: GameLoss | None = None
    """Added to S where the objective needs unlabelled images: the critic is min_l L(x, l), `real` are unlabelled images
    and `fake` generated ones of classes drawn evenly."""
    constrain: Callable[[nn.Module], None] = unconstrained
    """Called in place after each critic step (weight clipping)."""
    recipe: Recipe = Recipe()
    """The recipe native to this objective, used by plans with recipe = "native"."""
    needs: frozenset[Need] = frozenset()
    """What is checked before a run starts."""
