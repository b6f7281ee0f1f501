"""A critic network as an objective sees it: one loss an image, whatever the network's outputs and the labels are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ganzoo.arithmetic import Apply, as_written
from ganzoo.convolutions import Cheaper, Wanted
from ganzoo.game import Critic, GameLoss, Need, Objective
from ganzoo.randomness import random_state, seeded

Head = Callable[[Tensor, Tensor | None], Tensor]
"""(outputs, labels) -> (N,): what makes one loss an image of the network's outputs, (N,) or (N, classes)."""

Rows = Callable[..., Tensor]
"""(network, work, *parts) -> work(*parts): a row for each row of the parts, for work that does not call the network."""


def at_once(network: nn.Module, work: Callable[..., Tensor], *parts: Tensor | None) -> Tensor:
    """All rows in this process."""
    return work(*parts)


class Seen(NamedTuple):
    """Images whose outputs the harness has already made, in a pass that serves all who ask for them."""

    images: Tensor
    """(N, C, H, W): the very tensor that an objective asks for, not one like it."""
    outputs: Tensor
    """(N,) or (N, classes): the network's, with a graph."""
    point: Tensor | None = None
    """The leaf, equal to the images, at which the pass was made so that it can be differentiated in them."""
    wanted: Wanted | None = None
    """Of that pass."""


@dataclass(frozen=True)
class BoundCritic:
    """L(x), or L(x, y) under the labels of a batch: (N, C, H, W) -> (N,)."""

    network: nn.Module
    head: Head
    labels: Tensor | None = None
    """(B,) int64; real and generated images may come in one tensor, one after the other: they then repeat."""
    apply: Apply = as_written
    """How the network meets images."""
    seen: tuple[Seen, ...] = ()
    rows: Rows = at_once
    """How it meets them otherwise."""

    def __call__(self, x: Tensor) -> Tensor:
        known = self._seen(x)
        return self.head(self.apply(self.network, x) if known is None else known.outputs, self._labels_of(x))

    def gradient_in_x(self, x: Tensor) -> Tensor:
        """grad_x L(x_i) of each image, shaped like x: (N, C, H, W). Differentiable in theta.

        The network must be without batch statistics: it is the gradient of the batch's sum.
        """
        known = self._seen(x)
        if known is None or known.point is None or known.wanted is None:
            known = self.see(x)
        assert known.point is not None
        assert known.wanted is not None
        loss = self.head(known.outputs, self._labels_of(x)).sum()
        with torch.enable_grad(), known.wanted.only_in_images():
            return torch.autograd.grad(loss, known.point, create_graph=True)[0]

    def see(self, x: Tensor) -> Seen:
        """A pass that can be differentiated in the images and then, cheaply, again."""
        point = x.detach().requires_grad_()
        cheaper = Cheaper(point)
        with torch.enable_grad():
            return Seen(x, self.apply(self.network, point, cheaper), point, cheaper.wanted)

    def _seen(self, x: Tensor) -> Seen | None:
        return next((known for known in self.seen if known.images is x), None)

    def features(self, x: Tensor) -> Tensor:
        """The network's last hidden representation of each image, (N, d)."""
        features: Any = self.network.features
        return self.rows(self.network, features, x)

    def gradient_in_theta(self, x: Tensor) -> Tensor:
        """grad_theta L(x_i) of each image: (N, C, H, W) -> (N, number of parameters). Differentiable in theta.

        Takes N times the memory of the parameters. The network must be without batch statistics.
        """
        return self.rows(self.network, self._gradient_in_theta, x.detach(), self._labels_of(x))

    def _gradient_in_theta(self, x: Tensor, labels: Tensor | None) -> Tensor:
        weights: dict[str, Tensor] = dict(self.network.named_parameters())
        if not weights:
            return x.new_zeros(len(x), 0)

        def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor | None) -> Tensor:
            outputs = torch.func.functional_call(self.network, weights, (image[None],))
            return self.head(outputs, None if label is None else label[None])[0]

        per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None if labels is None else 0))
        with WeightNormTwiceDifferentiable():
            gradients = per_sample(weights, x, labels)
        return torch.cat([gradient.reshape(len(x), -1) for gradient in gradients.values()], dim=1)

    def _labels_of(self, x: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels.repeat(len(x) // len(self.labels))


class WeightNormTwiceDifferentiable(TorchFunctionMode):
    """torch's backward of g v / ||v|| is right, but its own derivative takes ||v|| for a constant (seen in 2.15)."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_weight_norm if function is torch._weight_norm else function)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ||v||, a norm for each index along `dim`; -1 is torch's word for one norm of the whole."""
    others = [axis for axis in range(v.dim()) if axis != dim]
    norm: Tensor = torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1)
    return v * (g / norm)


def plain(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """L(x) = the output itself."""
    return outputs


def non_negative(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """L(x) = log(1 + exp(output)) >= 0   (Qi 2017, sec. 3, wants L >= 0)."""
    return F.softplus(outputs)


def class_loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """L(x, y) = -log softmax(a(x))_y   (Qi 2017, sec. 8.1): (N, classes), (N,) -> (N,), at least 0.

    outputs: (N, classes), a(x). labels: (N,) int64 in [0, classes).
    """
    assert labels is not None
    return F.cross_entropy(outputs, labels, reduction="none")


def class_or_none_loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """L(x, y) = -log(exp a_y / (1 + sum_k exp a_k))   (Qi 2017, sec. 8.2): (N, classes), (N,) -> (N,), at least 0.

    1 / (1 + sum_k exp a_k) is the probability that x belongs to none of the classes.
    """
    assert labels is not None
    return class_loss(_with_none(outputs), labels)


def least_class_loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """L_ul(x) = min_l L(x, l), L with the probability of none   (Qi 2017, sec. 8.2): (N, classes) -> (N,)."""
    return torch.logsumexp(_with_none(outputs), dim=1) - outputs.amax(dim=1)


def _with_none(outputs: Tensor) -> Tensor:
    return torch.cat([outputs, outputs.new_zeros(len(outputs), 1)], dim=1)


def head_of(needs: frozenset[Need]) -> Head:
    """What makes L of the outputs, by what the objective needs."""
    if Need.LABELS in needs:
        return class_or_none_loss if Need.UNLABELED in needs else class_loss
    return non_negative if Need.NON_NEGATIVE in needs else plain


def predicted(network: nn.Module, images: Tensor) -> Tensor:
    """argmin_l L(x, l)   (Qi 2017, sec. 8.1): the class of each image, (N, C, H, W) -> (N,) int64.

    The same under both conditional losses: they fall as a_l rises. The network decides in the mode it is in.
    """
    outputs: Tensor = network(images)
    return outputs.argmax(dim=1)


def matching_features(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """||E f(x) - E f(G(z))||^2 / d, f(x) the critic's last hidden representation   (Salimans et al. 2016, sec. 3.1).

    The mean over the d features, where Salimans et al. take the sum: so its weight means the same at every width.
    critic: a `BoundCritic` whose network offers `features`. real, fake: (N, C, H, W) -> scalar, at least 0; no gradient
    reaches the critic through the real images.
    """
    assert isinstance(critic, BoundCritic)
    with torch.no_grad():
        wanted = critic.features(real).mean(dim=0)
    return (wanted - critic.features(fake).mean(dim=0)).square().mean()


def matched(game: Objective, weight: float) -> Objective:
    """The game with `weight * matching_features` added to its generator loss; untouched at weight 0 (weight >= 0).

    What comes back also needs `Need.FEATURES`.
    """
    if weight == 0:
        return game

    def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return game.generator_loss(critic, real, fake) + weight * matching_features(critic, real, fake)

    return game._replace(generator_loss=generator_loss, needs=game.needs | {Need.FEATURES})


class Asked(NamedTuple):
    """What a critic loss asks the critic for, so that the harness can make it ready in as few passes as there are."""

    both: bool = False
    """L of the real and of the generated images."""
    gradient: bool = False
    """grad_x L, at whatever images."""
    gradient_at_real: bool = False
    draws: bool = False
    """A random number, from torch's default generator."""
    unheard: str = ""
    """Why nobody can say."""
    gradient_at_fake: bool = False


class _Listener(BoundCritic):
    """A critic that answers with nothing in particular and keeps what it was asked for."""

    losses: list[Tensor]
    gradients: list[Tensor]
    outputs: int

    def __init__(self, outputs: int, head: Head, labels: Tensor | None) -> None:
        super().__init__(nn.Identity(), head, labels)
        # Frozen like every critic, which says what a critic is, not what it has heard.
        object.__setattr__(self, "losses", [])
        object.__setattr__(self, "gradients", [])
        object.__setattr__(self, "outputs", outputs)

    def __call__(self, x: Tensor) -> Tensor:
        self.losses.append(x)
        means = x.flatten(1).mean(dim=1)
        return self.head(means[:, None].expand(-1, self.outputs) if self.outputs > 1 else means, self._labels_of(x))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def gradient_in_x(self, x: Tensor) -> Tensor:
        self.gradients.append(x)
        return torch.ones_like(x)

    def gradient_in_theta(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def asked_of(
    loss: GameLoss, head: Head, image_shape: tuple[int, int, int], classes: int, device: torch.device | str = "cpu"
) -> Asked:
    """What the loss asks of its critic, by listening to it once on grey images; nothing where it cannot be heard."""
    real, fake = (torch.zeros(4, *image_shape, device=device) for _ in range(2))
    labels = torch.arange(4, device=device) % classes if classes else None
    listener = _Listener(classes or 1, head, labels)
    try:
        with seeded("listen to the loss"):
            before = random_state(real.device)
            loss(listener, real, fake)
            draws = not torch.equal(before, random_state(real.device))
    except Exception as error:  # noqa: BLE001 (a plugin that wants a real network is played as it is written)
        return Asked(gradient=True, draws=True, unheard=f"{type(error).__name__}: {' '.join(str(error).split())}")
    losses, gradients = listener.losses, listener.gradients
    return Asked(
        both=any(x is real for x in losses) and any(x is fake for x in losses),
        gradient=bool(gradients),
        gradient_at_real=any(x is real for x in gradients),
        draws=draws,
        gradient_at_fake=any(x is fake for x in gradients),
    )
