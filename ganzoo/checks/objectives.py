"""The laws of a game (S, T), played with the plain partners of `stand_ins`, in float64 unless it says otherwise."""

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ganzoo.checks import stand_ins
from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.game import Cost, Critic, Margin, Need, Objective, Recipe
from ganzoo.randomness import seeded, stream

PAIRS = 6
DRAWS = 3
"""Games in which a gradient may first show: a hinge can be at rest in one of them."""
HIGH, LOW = 1.0, -1.0


def game_of(
    subject: Subject, settings: Settings, cost: Cost = stand_ins.cost, margin: Margin = stand_ins.margin
) -> Objective:
    game = subject.entry.bind(**settings)(cost, margin)
    if not isinstance(game, Objective):
        raise Refuted(f"returned {type(game).__name__}, not a ganzoo.Objective", found=type(game).__name__)
    return game


class Table:
    """A game set up: networks of draw `draw`, pairs of images, and the two losses under one torch seed."""

    def __init__(
        self, subject: Subject, game: Objective, draw: int = 0, pairs: int = PAIRS, dtype: torch.dtype = torch.float64
    ) -> None:
        names = (subject.seed, draw)
        self.game, self.names = game, names
        self.generator = stand_ins.generator(*names, "G").to(subject.device, dtype)
        self.network = stand_ins.critic(*names, "L", outputs=stand_ins.outputs(game)).to(subject.device, dtype)
        self.critic = stand_ins.played(self.network, game)

        def uniform(name: str, *size: int) -> Tensor:
            x = 2 * torch.rand(*size, generator=stream(*names, name), dtype=torch.float64) - 1
            return x.to(subject.device, dtype)

        self.real = uniform("x", pairs, *stand_ins.IMAGE)
        self.fake: Tensor = self.generator(uniform("z", pairs, stand_ins.Z_DIM))

    def critic_loss(self) -> Tensor:
        return evaluated(self.game.critic_loss, self.critic, self.real, self.fake.detach(), self.names)

    def generator_loss(self) -> Tensor:
        return evaluated(self.game.generator_loss, self.critic, self.real, self.fake, self.names)

    def unlabeled_loss(self) -> Tensor:
        assert self.game.unlabeled_loss is not None
        return evaluated(self.game.unlabeled_loss, self.critic, self.real, self.fake.detach(), self.names)

    @property
    def losses(self) -> list[Callable[[], Tensor]]:
        """Those that the game has."""
        return [getattr(self, name) for name in names_of_losses(self.game)]


def names_of_losses(game: Objective) -> list[str]:
    generator = [] if Need.ALONE in game.needs else ["generator_loss"]
    unlabeled = [] if game.unlabeled_loss is None else ["unlabeled_loss"]
    return ["critic_loss", *generator, *unlabeled]


def losses_of_the_critic(game: Objective) -> list[str]:
    return [name for name in names_of_losses(game) if name != "generator_loss"]


def evaluated(
    loss: Callable[..., Any], critic: Critic, real: Tensor, fake: Tensor, names: tuple[int, ...] = (0,)
) -> Tensor:
    """The loss under a torch seed, known to be a scalar."""
    with seeded(*names, "round"):
        value = loss(critic, real, fake)
    if not isinstance(value, Tensor) or value.shape != ():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Refuted(
            f"{_name(loss)} of {len(real)} pairs should be a scalar, is {shape}", pairs=len(real), shape=shape
        )
    return value


def _name(loss: Callable[..., Any]) -> str:
    return getattr(loss, "__name__", "the loss")


def tables(subject: Subject, settings: Settings) -> Iterator[Table]:
    game = game_of(subject, settings)
    return (Table(subject, game, draw) for draw in range(DRAWS))


def scalar_and_finite(subject: Subject, settings: Settings) -> None:
    partners: list[tuple[str, Cost, Margin]] = [("plain", stand_ins.cost, stand_ins.margin)]
    if subject.zoo is not None:
        partners += [(f"cost '{e.name}'", e.bind(), stand_ins.margin) for e in subject.zoo.entries("cost")]
        partners += [
            (f"margin '{e.name}'", stand_ins.cost, stand_ins.partner(e)) for e in subject.zoo.entries("margin")
        ]
    for partner, cost, margin in partners:
        game = game_of(subject, settings, cost, margin)
        dtypes = (torch.float32, torch.float64) if partner == "plain" else (torch.float32,)
        for dtype, pairs in product(dtypes, (PAIRS, 1)):
            table = Table(subject, game, pairs=pairs, dtype=dtype)
            for name, value in ((loss.__name__, loss()) for loss in table.losses):
                if not value.isfinite() or value.dtype != dtype:
                    raise Refuted(
                        f"{name} of {pairs} pairs of {dtype} is {value.item()} in {value.dtype}; partners: {partner}",
                        loss=name, value=value.item(), pairs=pairs, dtype=dtype, partners=partner,
                    )  # fmt: skip


def _reaches_all(networks: list[tuple[nn.Module, Tensor]], loss: str) -> None:
    """Each parameter gets a finite gradient in every draw, and in one of them not zero."""
    reached: dict[str, bool] = {}
    for network, value in networks:
        if not value.requires_grad:
            raise Refuted(f"{loss} has no gradient: it is detached", loss=loss, requires_grad=False)
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(value, parameters, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None and not gradient.isfinite().all():
                raise Refuted(f"the gradient of {loss} that reaches {name} is not finite", loss=loss, parameter=name)
            reached[name] = reached.get(name, False) or (gradient is not None and bool(gradient.any()))
    for name, reaches in reached.items():
        if not reaches:
            raise Refuted(f"no gradient of {loss} reaches {name}", loss=loss, parameter=name)


def critic_loss_trains_the_critic(subject: Subject, settings: Settings) -> None:
    for name in ("critic_loss", "unlabeled_loss"):
        if name in names_of_losses(game_of(subject, settings)):
            _reaches_all([(table.network, getattr(table, name)()) for table in tables(subject, settings)], name)


def generator_loss_trains_the_generator(subject: Subject, settings: Settings) -> None:
    if Need.ALONE in game_of(subject, settings).needs:
        raise Skipped("no generator plays")
    _reaches_all([(table.generator, table.generator_loss()) for table in tables(subject, settings)], "generator_loss")
    counted = torch.zeros(PAIRS, dtype=torch.bool)
    for table in tables(subject, settings):
        (gradient,) = torch.autograd.grad(table.generator_loss(), table.fake)
        counted |= gradient.flatten(1).any(dim=1).cpu()
    if not counted.all():
        i = int((~counted).nonzero()[0])
        raise Refuted(f"no gradient of generator_loss reaches generated image {i} of {PAIRS}", image=i)


def slopes(loss: Callable[..., Any], on_real: Tensor, on_fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, dloss/dL(x) and dloss/dL(G(z)) at these values of L: (N,), (N,) -> scalar, (N,), (N,)."""
    leaves = [values.detach().clone().requires_grad_() for values in (on_real, on_fake)]
    real, fake = (x.to(on_real) for x in stand_ins.marked(len(on_real)))
    value = evaluated(loss, stand_ins.table_critic(*leaves), real, fake)
    found: tuple[Tensor | None, ...] = (
        torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else (None, None)
    )
    of_real, of_fake = (torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True))
    return value.detach(), of_real, of_fake


def each_image_not_their_mean(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    spread = torch.randn(2, PAIRS, generator=stream(subject.seed, "spread"), dtype=torch.float64)
    for name in losses_of_the_critic(game):
        found: dict[str, list[Tensor]] = {"real": [], "generated": []}
        for level in (-3.0, -1.0, 0.0, 1.0, 3.0):
            on_real, on_fake = spread[0] + level, spread[1] - level
            if _shift(game):
                on_real, on_fake = on_real.abs() + 0.1, on_fake.abs() + 0.1
            _, of_real, of_fake = slopes(getattr(game, name), on_real, on_fake)
            found["real"].append(of_real)
            found["generated"].append(of_fake)
        for side, gradients in found.items():
            table = torch.stack(gradients)  # (levels, PAIRS)
            within = (table.amax(dim=1) - table.amin(dim=1)).max()
            if within <= 1e-9 * table.abs().max() < 1e-6 * (table.amax() - table.amin()):
                raise Refuted(
                    f"{name} moves all {side} images alike, the right ones and the wrong ones: it sees the mean of L"
                    " over the batch, not each L",
                    loss=name, images=side,
                )  # fmt: skip


FAR = 50.0
"""A value of L that no critic should reach, and some do."""
SATURATED = 1e-3
"""A rate so many times lower than that of a critic hardly wrong is none."""


def wrong_critics_are_corrected(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    level = 0.5 if _shift(game) else 0.0
    wrong = {"real": (1.0, FAR), "generated": (2e-5, 1e-3) if _shift(game) else (-1.0, -FAR)}
    for name, (side, places) in product(losses_of_the_critic(game), wrong.items()):
        if side == "generated" and Need.ALONE in game.needs:
            continue
        rates = []
        for place in places:
            at = (place, level) if side == "real" else (level, place)
            _, *found = slopes(getattr(game, name), *(torch.tensor([x], dtype=torch.float64) for x in at))
            rates.append(found[0].item() if side == "real" else -found[1].item())
        (near, far), (rate_near, rate) = places, rates
        if rate <= SATURATED * abs(rate_near):
            raise Refuted(
                f"a critic as wrong as L = {far:g} on a {side} image is corrected at a rate of {rate:.3g}, at L ="
                f" {near:g} of {rate_near:.3g}: {name} is flat where it is needed most (a sigmoid under a square, an"
                " epsilon under a log)",
                loss=name, L=far, rate=rate, rate_near=rate_near,
            )  # fmt: skip


def found_out_generators_learn(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    if Need.ALONE in game.needs:
        raise Skipped("no generator plays")
    rates = []
    for level in (1.0, FAR):
        at = torch.zeros(1, dtype=torch.float64), torch.tensor([level], dtype=torch.float64)
        rates.append(slopes(game.generator_loss, *at)[2].item())
    if rates[1] <= SATURATED * abs(rates[0]):
        raise Refuted(
            f"an image that is found out for certain, L(G(z)) = {FAR:g}, moves the generator at a rate of"
            f" {rates[1]:.3g}; at L = 1 it is {rates[0]:.3g}: generator_loss is flat where all learning starts",
            L=FAR, rate=rates[1], rate_near=rates[0],
        )  # fmt: skip


def finite_far_out(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    lowest = 1e-3 if _shift(game) else -FAR
    for name in names_of_losses(game):
        for levels in product((FAR, lowest), repeat=2):
            at = (torch.tensor([x], dtype=torch.float32) for x in levels)
            value, *gradients = slopes(getattr(game, name), *at)
            if not value.isfinite() or not all(g.isfinite().all() for g in gradients):
                raise Refuted(
                    f"{name} is {value.item():.6g}, its gradient in L {[g.item() for g in gradients]}, at L(x) ="
                    f" {levels[0]:g} and L(G(z)) = {levels[1]:g} in float32: take logsigmoid or softplus of L, not the"
                    " log of a sigmoid",
                    loss=name, on_real=levels[0], on_fake=levels[1], value=value.item(),
                )  # fmt: skip


def leaves_no_trace(subject: Subject, settings: Settings) -> None:
    table = Table(subject, game_of(subject, settings))
    holders = {"the critic": [*table.network.parameters()], "the generator": [*table.generator.parameters()]}
    images = {"the real images": table.real, "the generated images": table.fake}
    before = {name: [p.detach().clone() for p in held] for name, held in holders.items()}
    pixels = {name: x.detach().clone() for name, x in images.items()}
    for loss in table.losses:
        loss()
        for name, held in holders.items():
            if any(p.grad is not None for p in held):
                raise Refuted(f"{loss.__name__} leaves .grad on {name}: no .backward() in a plugin", of=name)
            if not all(p.equal(q) for p, q in zip(held, before[name], strict=True)):
                raise Refuted(f"{loss.__name__} changes the weights of {name}", of=name)
        for name, x in images.items():
            if not x.equal(pixels[name]) or (x.is_leaf and (x.requires_grad or x.grad is not None)):
                raise Refuted(f"{loss.__name__} changes {name}", of=name)


def _shift(game: Objective) -> float:
    """L is kept non-negative where the game asks for it."""
    return 2.0 if game.needs & {Need.NON_NEGATIVE, Need.LABELS} else 0.0


def real_low_and_fake_high(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    real, fake = stand_ins.marked(PAIRS)

    def value(loss: Callable[..., Any], on_real: float, on_fake: float) -> float:
        tables = (torch.full((PAIRS,), level + _shift(game), dtype=torch.float64) for level in (on_real, on_fake))
        return evaluated(loss, stand_ins.table_critic(*tables), real, fake).item()

    alone = Need.ALONE in game.needs
    for what, low, high, better in (
        ("critic_loss", (LOW, 0.0), (HIGH, 0.0), "small on real images"),
        ("critic_loss", (0.0, HIGH), (0.0, LOW), "large on generated images"),
        ("unlabeled_loss", (LOW, 0.0), (HIGH, 0.0), "small on real images"),
        ("unlabeled_loss", (0.0, HIGH), (0.0, LOW), "large on generated images"),
        ("generator_loss", (0.0, LOW), (0.0, HIGH), "small on generated images"),
    ):
        if what not in names_of_losses(game) or (alone and "generated" in better):
            continue
        loss = getattr(game, what)
        good, bad = value(loss, *low), value(loss, *high)
        if not good < bad:
            raise Refuted(
                f"{what} should be lower where L is {better}: it is {good:.6g} there and {bad:.6g} where it is not",
                loss=what, right=good, wrong=bad,
            )  # fmt: skip


def every_image_counts(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    real, fake = stand_ins.marked(PAIRS)
    sides = ("real",) if Need.ALONE in game.needs else ("real", "fake")
    for side, i in ((side, i) for side in sides for i in range(PAIRS)):
        values = []
        for level in (LOW, HIGH):
            tables = {name: torch.full((PAIRS,), _shift(game), dtype=torch.float64) for name in ("real", "fake")}
            tables[side][i] += level
            values.append(evaluated(game.critic_loss, stand_ins.table_critic(*tables.values()), real, fake).item())
        if not (values[0] < values[1] if side == "real" else values[0] > values[1]):
            raise Refuted(
                f"L({side} image {i}) from {LOW} to {HIGH} takes critic_loss from {values[0]:.6g} to {values[1]:.6g}",
                image=f"{side} {i}", before=values[0], after=values[1],
            )  # fmt: skip


def _linear(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, real, fake for the linear critic; small enough for L = <w, x> + 5 to stay positive."""
    w, real, fake = (
        2 * torch.rand(*size, generator=stream(subject.seed, name), dtype=torch.float64) - 1
        for name, size in (
            ("w", stand_ins.IMAGE), ("x", (PAIRS, *stand_ins.IMAGE)), ("y", (PAIRS, *stand_ins.IMAGE)),
        )
    )  # fmt: skip
    # The violations of the hinge are spread about 0, so that the mean of it is not the hinge of the mean.
    return w * 0.3, real, fake


def _agree(ours: dict[str, Tensor], theirs: dict[str, Tensor], message: str) -> None:
    for name in ours:
        if not torch.isclose(ours[name], theirs[name], rtol=1e-9, atol=1e-10):
            raise Refuted(
                f"{name} is {ours[name].item():.9g}, and {theirs[name].item():.9g} {message}",
                loss=name, value=ours[name].item(), other=theirs[name].item(),
            )  # fmt: skip


def _both(game: Objective, critic: Critic, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    return {name: evaluated(getattr(game, name), critic, real, fake) for name in names_of_losses(game)}


def mean_over_the_batch(subject: Subject, settings: Settings) -> None:
    game, (w, real, fake) = game_of(subject, settings), _linear(subject)
    critic = stand_ins.linear_critic(w)
    once = _both(game, critic, real, fake)
    _agree(once, _both(game, critic, real.repeat(2, 1, 1, 1), fake.repeat(2, 1, 1, 1)), "with every pair twice")
    _agree(once, _both(game, critic, real.flip(0), fake.flip(0)), "with the pairs in another order")


def mean_over_pairs(subject: Subject, settings: Settings) -> None:
    game, (w, real, fake) = game_of(subject, settings), _linear(subject)
    critic = stand_ins.linear_critic(w)
    one_by_one = [_both(game, critic, real[i : i + 1], fake[i : i + 1]) for i in range(PAIRS)]
    mean = {name: torch.stack([values[name] for values in one_by_one]).mean() for name in one_by_one[0]}
    _agree(_both(game, critic, real, fake), mean, "as the mean over single pairs")


def coordinates_are_equal(subject: Subject, settings: Settings) -> None:
    game, (w, real, fake) = game_of(subject, settings), _linear(subject)
    order = torch.randperm(w.numel(), generator=stream(subject.seed, "order"))

    def permuted(x: Tensor) -> Tensor:
        return x.flatten(-3)[..., order].view(x.shape)

    _agree(
        _both(game, stand_ins.linear_critic(w), real, fake),
        _both(game, stand_ins.linear_critic(permuted(w)), permuted(real), permuted(fake)),
        "with pixels and channels permuted in the images and in the critic: a norm over part of the axes?",
    )


class _Broadcasts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every N x N tensor that is made of (N,) and (N, 1)."""

    def __init__(self, pairs: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pairs, self.seen = pairs, ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.shape[:2] == (self.pairs, self.pairs):
                self.seen = self.seen or str(function)
        return result


def pairs_stay_pairs(subject: Subject, settings: Settings) -> None:
    pairs = 11  # no other size in the game
    if not {"cost", "margin"} & set(subject.entry.inputs):
        raise Skipped("takes neither cost nor margin: it may compare every real image with every generated one")
    table = Table(subject, game_of(subject, settings), pairs=pairs)
    for loss in table.losses:
        with _Broadcasts(pairs) as watched:
            loss()
        if watched.seen:
            raise Refuted(
                f"{loss.__name__} makes a {pairs} x {pairs} matrix of {pairs} pairs (in {watched.seen}):"
                f" ({pairs}, 1) against ({pairs},)?",
                pairs=pairs, operation=watched.seen,
            )  # fmt: skip


def constrains_the_critic_only(subject: Subject, settings: Settings) -> None:
    table = Table(subject, game_of(subject, settings))
    others = [p.detach().clone() for p in table.generator.parameters()]
    before = {name: (p, p.shape, p.dtype, p.requires_grad) for name, p in table.network.named_parameters()}
    table.game.constrain(table.network)
    after = dict(table.network.named_parameters())
    for name, (p, *kept) in before.items():
        if after.get(name) is not p or [p.shape, p.dtype, p.requires_grad] != kept or not p.isfinite().all():
            raise Refuted(
                f"constrain does not keep {name} as a parameter of its shape, dtype and finite", parameter=name
            )
    if not all(p.equal(q) for p, q in zip(table.generator.parameters(), others, strict=True)):
        raise Refuted("constrain changes the generator", of="generator")
    with torch.no_grad():
        broken = next(table.network.parameters())
        broken.flatten()[0] = torch.nan
    table.game.constrain(table.network)
    if not broken.isnan().any():
        raise Refuted("constrain makes NaN a number: a diverged run must show", weight="nan")


def constrain_spares_scales(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    with seeded(subject.seed, "normalised"):
        network = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.Linear(8, 1)
        ).to(subject.device)
    scales = {name: p for name, p in network.named_parameters() if name in ("1.weight", "3.weight", "4.weight")}
    game.constrain(network)
    for name, scale in scales.items():
        if (scale != 1).any():
            kind = type(network[int(name[0])]).__name__
            raise Refuted(
                f"constrain turns the scale of a {kind} from 1 into {scale.flatten()[0].item():.6g}: it normalises to 1"
                " and is no weight of the map; leave the scales of normalisations out",
                module=kind, scale=scale.flatten()[0].item(),
            )  # fmt: skip


def declares_its_needs(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    needs: object = game.needs
    if not isinstance(needs, frozenset) or not all(isinstance(need, Need) for need in needs):
        raise Refuted(f"needs should be a frozenset of Need, is {needs!r}", needs=str(needs))
    if (Need.UNLABELED in game.needs) != (game.unlabeled_loss is not None):
        has = "no unlabeled_loss" if game.unlabeled_loss is None else "an unlabeled_loss, which nobody will play,"
        raise Refuted(f"there is {has} where needs is {sorted(game.needs)}", needs=sorted(game.needs))
    if Need.UNLABELED in game.needs and Need.LABELS not in game.needs:
        raise Refuted("unlabeled_loss is of min_l L(x, l): Need.LABELS goes with it", needs=sorted(game.needs))
    if not isinstance(game.recipe, Recipe):
        raise Refuted(f"recipe should be a Recipe, is {type(game.recipe).__name__}", recipe=str(game.recipe))
    table = Table(subject, game)
    differentiated = False

    def watch(network: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal differentiated
        differentiated |= given[0].requires_grad

    fake = table.fake.detach()
    with table.network.register_forward_pre_hook(watch):
        for loss in filter(None, (game.critic_loss, game.unlabeled_loss)):
            evaluated(loss, table.critic, table.real, fake)
    if differentiated and Need.PER_SAMPLE not in game.needs:
        raise Refuted(
            "critic_loss takes the gradient of L in x and does not declare Need.PER_SAMPLE", needs=sorted(game.needs)
        )
    if Need.ALONE in game.needs:
        one, other = (evaluated(game.critic_loss, table.critic, table.real, x).item() for x in (fake, fake.flip(0) / 2))
        if one != other:
            raise Refuted(
                f"critic_loss is {one:.6g} or {other:.6g} by the generated images, and Need.ALONE says there are none",
                needs=sorted(game.needs),
            )


def bounded_below(subject: Subject, settings: Settings) -> None:
    game = game_of(subject, settings)
    if game.needs & {Need.NON_NEGATIVE, Need.LABELS}:
        raise Skipped("its critic is non-negative")
    real, fake = stand_ins.marked(PAIRS)

    def value(level: float) -> float:
        level_of_all = torch.full((PAIRS,), level, dtype=torch.float64)
        return evaluated(game.critic_loss, stand_ins.table_critic(level_of_all, level_of_all), real, fake).item()

    here, low = value(0.0), value(-1e6)
    if low < here - 1:
        raise Refuted(
            f"critic_loss falls without end as L does everywhere ({here:.6g} at L = 0, {low:.6g} at L = -1e6):"
            " declare Need.NON_NEGATIVE",
            at_0=here, at_minus_1e6=low,
        )  # fmt: skip


def deterministic(subject: Subject, settings: Settings) -> None:
    table = Table(subject, game_of(subject, settings))
    for loss in table.losses:
        first, second = loss().item(), loss().item()
        if first != second:
            raise Refuted(
                f"{loss.__name__} is {first:.9g} and then {second:.9g} under one torch seed", first=first, second=second
            )


def capturable(subject: Subject, settings: Settings) -> None:
    table = Table(subject, game_of(subject, settings))
    table.network.to("meta")
    table.real, table.fake = table.real.to("meta"), table.fake.detach().to("meta")
    for loss in table.losses:
        try:
            value = loss()
            table.game.constrain(table.network)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise Refuted(
                f"{loss.__name__} needs values of tensors, or a device of its own: {str(error).splitlines()[0]}",
                device="meta",
            ) from error
        if value.device.type != "meta":
            raise Refuted(f"{loss.__name__} leaves its inputs' device: {value.device}", device=str(value.device))


def silent(subject: Subject, settings: Settings) -> None:
    table, printed = Table(subject, game_of(subject, settings)), io.StringIO()
    with redirect_stdout(printed):
        for loss in table.losses:
            loss()
        table.game.constrain(table.network)
    if printed.getvalue():
        raise Refuted(f"prints {printed.getvalue()[:60]!r}", printed=printed.getvalue()[:60])


_LAWS = (
    ("both losses scalar and finite, for one pair too", True, scalar_and_finite),
    ("critic_loss trains every parameter of the critic", True, critic_loss_trains_the_critic),
    ("generator_loss trains all of the generator, through every image", True, generator_loss_trains_the_generator),
    ("losses leave weights, images and .grad as they were", True, leaves_no_trace),
    ("one sign: L small on real images, large on generated ones", True, real_low_and_fake_high),
    ("every real and generated image counts in critic_loss", True, every_image_counts),
    ("a mean over the batch: pairs twice or in another order change nothing", True, mean_over_the_batch),
    ("pairs stay pairs: no N x N by broadcasting", True, pairs_stay_pairs),
    ("constrain keeps the critic's parameters and hides no NaN", True, constrains_the_critic_only),
    ("needs and recipe declared: per-sample where grad_x L enters", True, declares_its_needs),
    ("critic_loss does not run off as L falls everywhere", True, bounded_below),
    ("deterministic given the torch seed", True, deterministic),
    ("capturable and device kept", True, capturable),
    ("prints nothing", True, silent),
    ("the mean over single pairs (a relativistic average game is not)", False, mean_over_pairs),
    ("pixels and channels are equal (a game of image structure says otherwise)", False, coordinates_are_equal),
    ("critic_loss looks at each image, not at their mean", True, each_image_not_their_mean),
    ("a critic that is far wrong is still corrected", True, wrong_critics_are_corrected),
    ("a generator that is found out still learns (in log(1 - D) it does not)", True, found_out_generators_learn),
    ("finite in float32 where L is +-50, the gradients too", True, finite_far_out),
    ("constrain spares the scales of normalisations", True, constrain_spares_scales),
)  # fmt: skip

OBJECTIVES = tuple(
    Check(f"objective-{i}", "objective", title, required, law) for i, (title, required, law) in enumerate(_LAWS, 1)
)
