"""Games of labelled and unlabelled images, and a critic alone: the round recomputed, who sees which images, resume."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo import party, result
from ganzoo.bench import prepare
from ganzoo.classify import Classifier
from ganzoo.config import Cell, Plan, default_objectives
from ganzoo.durable import commit_sealed
from ganzoo.errors import UserError
from ganzoo.measure import measure_checkpoint
from ganzoo.party import read_data
from ganzoo.randomness import stream
from ganzoo.train import Diverged, Training
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
MakePlan = Callable[..., Plan]
FEW: dict[str, Any] = {"labels.per_class": 3, "measure": "accuracy"}
"""30 labelled images and 34 unlabelled ones, in batches of 16."""


def training(cell: Cell, zoo: Zoo) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


class Steps:
    """The losses and gradients of a training's steps, as they are taken."""

    def __init__(self, one: Training, monkeypatch: pytest.MonkeyPatch) -> None:
        self.critic: list[tuple[float, Tensor]] = []
        self.generator: list[float] = []
        self.critics: list[dict[str, Tensor]] = []
        """Its weights when the generator's step comes."""
        step = one._step

        def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
            if optimizer is one.critic_optimizer:
                gradient = flat_gradient(loss, one.players.critic)
                reached = torch.autograd.grad(
                    loss, list(one.players.generator.parameters()), allow_unused=True, retain_graph=True
                )
                assert all(g is None for g in reached)  # the images and the margin are constants here
                self.critic.append((float(loss.detach()), gradient))
            else:
                self.generator.append(float(loss.detach()))
                self.critics.append({k: v.clone() for k, v in one.players.critic.state_dict().items()})
            return step(optimizer, loss)

        monkeypatch.setattr(one, "_step", watched)


def flat_gradient(loss: Tensor, network: nn.Module) -> Tensor:
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None])


def draws(name: str, seed: int, step: int) -> Tensor:
    z = torch.rand(16, 3, generator=stream("z", name, seed, step))
    return (z * 2 - 1).double()


def in_doubles(one: Training) -> Training:
    one.players.generator.double()
    one.players.critic.double()
    return one


def made_of(z: Tensor, classes: Tensor, generator: nn.Module) -> Tensor:
    one_hot = torch.zeros(len(z), 10, dtype=z.dtype)
    one_hot[torch.arange(len(z)), classes] = 1
    return generator(torch.cat([z, one_hot], dim=1)).detach()


def minus_log(a: Tensor, classes: Tensor, with_none: bool) -> Tensor:
    total = a.exp().sum(dim=1) + (1 if with_none else 0)
    return -(a[torch.arange(len(a)), classes].exp() / total).log()


def least(a: Tensor) -> Tensor:
    return torch.stack([minus_log(a, torch.full((len(a),), y), True) for y in range(10)]).amin(dim=0)


# The round


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("critic_steps", [1, 2])
def test_the_semi_supervised_critic_loss_is_its_three_terms(
    seed: int, critic_steps: int, one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, from the batches, the noise and the classes of the step, with every loss in exponentials."""
    cell = one_cell(
        "cls-gan:balance=2.0,unlabeled_weight=0.7", seed, shared={"critic_steps": critic_steps}, epochs=4, **FEW
    )
    one, hand = training(cell, zoo), in_doubles(training(cell, zoo))
    for _ in range(3):
        one.play()
    hand.players.critic.load_state_dict(one.players.critic.state_dict())
    hand.players.generator.load_state_dict(one.players.generator.state_dict())
    critic, generator, k = hand.players.critic, hand.players.generator, 3 * critic_steps
    steps = Steps(one, monkeypatch)
    one.play()

    real, labels = hand.batches[k]
    assert hand.unlabelled is not None
    free, no_labels = hand.unlabelled[k]
    assert no_labels is None
    assert len(free) == len(real) == 16
    real, free = real.double(), free.double()
    fake = made_of(draws("critic", seed, k), labels, generator)
    classes = torch.randint(10, (16,), generator=stream("classes", "unlabelled", seed, k))
    free_fake = made_of(draws("unlabelled", seed, k), classes, generator)

    of_real, of_fake = (minus_log(critic(x), labels, True) for x in (real, fake))
    violation = 2.4576 * (real - fake).abs().mean(dim=(1, 2, 3)) + of_real - of_fake
    free_violation = (
        2.4576 * (free - free_fake).abs().mean(dim=(1, 2, 3)) + least(critic(free)) - least(critic(free_fake))
    )
    terms = [of_real.mean(), 2.0 * violation.clamp(min=0).mean(), 0.7 * free_violation.clamp(min=0).mean()]
    assert all(term > 0.05 for term in terms)
    loss, gradient = steps.critic[0]
    assert loss == pytest.approx(float(sum(terms).detach()), rel=1e-5)
    torch.testing.assert_close(gradient.double(), flat_gradient(sum(terms), critic), rtol=1e-3, atol=1e-6)


def test_the_generator_step_sees_the_labelled_term_alone(
    one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for weight in (0.5, 50.0):
        cell = one_cell(f"cls-gan:unlabeled_weight={weight}", **FEW)
        one, hand = training(cell, zoo), in_doubles(training(cell, zoo))
        steps = Steps(one, monkeypatch)
        one.play()
        hand.players.critic.load_state_dict(steps.critics[0])
        _, labels = hand.batches[0]
        fake = made_of(draws("generator", 0, 0), labels, hand.players.generator)
        expected = minus_log(hand.players.critic(fake), labels, True).mean()
        assert steps.generator == [pytest.approx(expected.item(), rel=1e-5)]
        losses.append(steps.critic[0][0])
    assert losses[1] > losses[0] + 1


@pytest.mark.parametrize(("objective", "with_none"), [("cls-gan", False), ("cls-gan:unlabeled_weight=1.0", True)])
def test_the_labelled_loss_leaves_room_for_none_where_unlabelled_images_play(
    objective: str, with_none: bool, one_cell: MakeCell, zoo: Zoo
) -> None:
    one = training(one_cell(objective, **FEW), zoo)
    real, labels = one.batches[0]
    found = one.players.loss(labels)(real)
    torch.testing.assert_close(found, minus_log(one.players.critic(real), labels, with_none))
    assert (one.unlabelled is not None) == with_none


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_conditional_gan_s_critic_step_is_logistic_in_d(
    weight: float, one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = one_cell(f"conditional-gan:unlabeled_weight={weight}", **FEW)
    one, hand = training(cell, zoo), in_doubles(training(cell, zoo))
    steps = Steps(one, monkeypatch)
    one.play()
    critic, generator = hand.players.critic, hand.players.generator
    real, labels = hand.batches[0]
    fake = made_of(draws("critic", 0, 0), labels, generator)
    free, _ = hand.unlabelled[0]
    classes = torch.randint(10, (16,), generator=stream("classes", "unlabelled", 0, 0))
    free_fake = made_of(draws("unlabelled", 0, 0), classes, generator)

    def d(x: Tensor, classes: Tensor | None) -> Tensor:
        a = critic(x.double())
        each = a.exp() / (1 + a.exp().sum(dim=1, keepdim=True))
        return each.amax(dim=1) if classes is None else each[torch.arange(16), classes]

    expected = F.binary_cross_entropy(d(real, labels), torch.ones(16).double())
    expected = expected + F.binary_cross_entropy(d(fake, labels), torch.zeros(16).double())
    free_part = F.binary_cross_entropy(d(free, None), torch.ones(16).double())
    free_part = free_part + F.binary_cross_entropy(d(free_fake, None), torch.zeros(16).double())
    loss, gradient = steps.critic[0]
    assert loss == pytest.approx(float((expected + weight * free_part).detach()), rel=1e-5)
    torch.testing.assert_close(
        gradient.double(), flat_gradient(expected + weight * free_part, critic), rtol=1e-3, atol=1e-6
    )


# Who sees which images


def coded(path: Path, count: int = 96) -> dict[str, Any]:
    """Images that tell their number by their first pixel, of three classes in turn."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    images[:, 0, 0] = np.arange(count)
    np.savez(path, images=images, labels=np.arange(count) % 3)
    return {"data.set": "npz", "data.path": str(path), "data.split": [60, 18, 18]}


def seen(batches: Any, count: int = 40) -> dict[int, set[int | None]]:
    """Number of the image -> the labels it came with, over many batches."""
    found: dict[int, set[int | None]] = {}
    for k in range(count):
        real, labels = batches[k]
        numbers = ((real[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()
        for number, label in zip(numbers, [None] * len(numbers) if labels is None else labels.tolist(), strict=True):
            found.setdefault(number, set()).add(label)
    return found


@pytest.mark.parametrize("fold", [None, 0, 2])
def test_labelled_unlabelled_and_held_out_images_are_disjoint_in_a_training(
    fold: int | None, one_cell: MakeCell, zoo: Zoo, tmp_path: Path
) -> None:
    asked = {"labels.per_class": 6, "measure": "accuracy", "batch_size": 5, "validation_images": 99}
    asked |= coded(tmp_path / "x.npz")
    if fold is not None:
        asked |= {"labels.folds": 3}
    cells = [one_cell(o, **asked) for o in ("cls-gan:unlabeled_weight=1.0", "cls-gan", "dcgan")]
    semi, labelled_only, unconditional = (
        training(cell if fold is None else cell.model_copy(update={"fold": fold}), zoo) for cell in cells
    )
    labelled, free, all_seen = seen(semi.batches), seen(semi.unlabelled), seen(unconditional.batches)
    assert all(labels == {number % 3} for number, labels in labelled.items())
    assert all(labels == {None} for labels in free.values())
    train = set(seen_in(semi.data.train.images))
    held_out = set() if fold is None else set(seen_in(semi.validation.images))
    assert len(train) == 60
    assert len(labelled) == (18 if fold is None else 12)
    assert len(free) == 42
    assert len(held_out) == (0 if fold is None else 6)
    assert not labelled.keys() & free.keys()
    assert not held_out & (labelled.keys() | free.keys())
    assert labelled.keys() | free.keys() | held_out == train
    assert seen(labelled_only.batches).keys() == labelled.keys()
    assert all_seen.keys() == train - held_out
    assert labelled_only.unlabelled is unconditional.unlabelled is None


def seen_in(images: Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_contenders_of_one_seed_share_the_labelled_subset_and_seeds_draw_their_own(
    one_cell: MakeCell, zoo: Zoo
) -> None:
    objectives = ("cls-gan:unlabeled_weight=1.0", "conditional-gan", "supervised", "dcgan")
    made = {(o, seed): training(one_cell(o, seed, **FEW), zoo) for o in objectives for seed in (0, 1)}
    for seed in (0, 1):
        assert len({made[o, seed].labelling.labelled.sha256 for o in objectives}) == 1
        assert len({made[o, seed].batches.order_sha256 for o in objectives[:3]}) == 1
    first, second = (made["supervised", seed].labelling.labelled.sha256 for seed in (0, 1))
    assert first != second


def test_as_many_labelled_as_unlabelled_images_come_in_orders_of_their_own(
    one_cell: MakeCell, zoo: Zoo, tmp_path: Path
) -> None:
    asked = {"labels.per_class": 10, "measure": "accuracy", **coded(tmp_path / "x.npz")}
    one = training(one_cell("cls-gan:unlabeled_weight=1.0", **asked), zoo)
    assert len(one.labelling.labelled.images) == len(one.labelling.unlabelled.images) == 30
    assert one.batches.order_sha256 != one.unlabelled.order_sha256


def test_an_epoch_is_as_many_batches_whoever_plays(one_cell: MakeCell, zoo: Zoo) -> None:
    for objective in ("supervised", "cls-gan:unlabeled_weight=1.0", "dcgan"):
        assert training(one_cell(objective, **FEW), zoo).evaluations == [(0, 0), (1, 4), (2, 8)]


def test_classes_of_the_unlabelled_part_are_drawn_evenly(one_cell: MakeCell, zoo: Zoo, monkeypatch: Any) -> None:
    one = training(one_cell("cls-gan:unlabeled_weight=1.0", **FEW), zoo)
    asked: list[Tensor] = []
    generate = type(one.players).generate

    def listening(players: Any, z: Tensor, labels: Tensor) -> Tensor:
        asked.append(labels)
        return generate(players, z, labels)

    monkeypatch.setattr(type(one.players), "generate", listening)
    with torch.no_grad():
        for round in range(100):
            one._unlabeled_loss(one.draws(round), 0)
    shares = torch.cat(asked).bincount(minlength=10) / 1600
    assert (shares - 0.1).abs().max() < 0.035  # a standard deviation is 0.0075


# A critic alone


def test_supervised_trains_the_critic_by_cross_entropy_and_leaves_the_generator(
    one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = one_cell("supervised", **FEW)
    one, hand = training(cell, zoo), training(cell, zoo)
    steps = Steps(one, monkeypatch)
    one.run()
    before, after = hand.players.generator.state_dict(), one.players.generator.state_dict()
    assert any("running" in key for key in before)
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert steps.generator == []
    adam = torch.optim.Adam(hand.players.critic.parameters(), cell.recipe.critic_rate, betas=(0.5, 0.999))
    for step in range(8):
        real, labels = hand.batches[step]
        loss = F.cross_entropy(hand.players.critic(real), labels)
        assert steps.critic[step][0] == pytest.approx(loss.item(), rel=1e-4)
        adam.zero_grad()
        loss.backward()
        adam.step()
    for mine, theirs in zip(one.players.critic.parameters(), hand.players.critic.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
    for point in one.curve[1:]:
        assert (point["generator_loss"], point["gradient_norm"]) == (0.0, 0.0)
        assert point["critic_loss"] > 0


# The curve


@pytest.mark.parametrize("objective", ["dcgan", "cls-gan:unlabeled_weight=1.0"])
def test_the_curve_holds_the_norm_of_the_generator_s_gradient(objective: str, one_cell: MakeCell, zoo: Zoo) -> None:
    cell = one_cell(objective, **FEW)
    one, again = training(cell, zoo), training(cell, zoo)
    one.run()
    norms: list[float] = []
    step = again._step

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        if optimizer is again.generator_optimizer:
            gradient = flat_gradient(loss, again.players.generator)
            norms.append(math.sqrt(sum(g * g for g in gradient.tolist())))
        return step(optimizer, loss)

    again._step = watched  # type: ignore[method-assign]
    for _ in range(8):
        again.play()
    assert one.curve[0]["gradient_norm"] is None
    assert one.curve[1]["gradient_norm"] == pytest.approx(np.mean(norms[:4]), rel=1e-5)
    assert one.curve[2]["gradient_norm"] == pytest.approx(np.mean(norms[4:]), rel=1e-5)


def test_an_accuracy_curve_is_of_the_validation_images(one_cell: MakeCell, zoo: Zoo) -> None:
    one = training(one_cell("supervised", **{**FEW, "validation_images": 6}), zoo)
    told: list[float] = []

    def by_hand(point: dict[str, Any]) -> None:
        images = one.data.validation.images[:6] / 127.5 - 1
        right = one.players.critic.eval()(images).argmax(dim=1) == one.data.validation.labels[:6]
        one.players.critic.train()
        told.append(float(right.double().mean()))

    one.run(tell=by_hand)
    assert [point["validation_accuracy"] for point in one.curve] == told
    assert all("validation_mre" not in point for point in one.curve)


def test_a_critic_of_weights_that_are_no_numbers_has_diverged_and_no_accuracy(one_cell: MakeCell, zoo: Zoo) -> None:
    for objective in ("supervised", "dcgan"):
        one = training(one_cell(objective, **FEW), zoo)
        with torch.no_grad():
            next(one.players.critic.parameters()).view(-1)[0] = float("nan")
        with pytest.raises(Diverged, match="diverged@0"):
            one.accuracy(one.validation)


# A cell's directory


def directory_of(cell: Cell, tmp_path: Path) -> Path:
    path = tmp_path / cell.directory
    path.mkdir(parents=True)
    (path / "cell.json").write_text(cell.model_dump_json())
    return path


def apart_from_provenance(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(json.dumps(row)).items() if key != "provenance"}


@pytest.mark.parametrize("objective", ["cls-gan:unlabeled_weight=1.0", "supervised", "dcgan", "cls-gan"])
def test_an_accuracy_cell_made_twice_has_the_same_row_and_pictures(
    objective: str, one_cell: MakeCell, zoo: Zoo, tmp_path: Path
) -> None:
    cell = one_cell(objective, **FEW)
    rows, pictures = [], []
    for name in ("one", "two"):
        path = directory_of(cell, tmp_path / name)
        rows.append(apart_from_provenance(party.train_cell(path)))
        pictures.append((path / "pictures.npz").read_bytes())
        again = party.train_cell(path, lambda point: pytest.fail("trained again"))
        assert apart_from_provenance(again) == rows[-1]
    assert rows[0] == rows[1]
    assert pictures[0] == pictures[1]
    (row, _) = rows
    assert row["verdict"] == "done"
    assert (row["labelled_images"], row["test_images"]) == (30, 8)
    assert row["classifier"] == ("L2-SVM on the critic's layers" if objective == "dcgan" else "argmin L(x, y)")
    assert 0 <= row["test_accuracy"] <= 1
    one = training(cell, zoo)
    one.run()
    images = (one.data.test.images[:8] / 127.5) - 1
    if objective != "dcgan":
        right = one.players.critic.eval()(images).argmax(dim=1) == one.data.test.labels[:8]
        assert row["test_accuracy"] == float(right.double().mean())
        assert row["validation_accuracy"] == row["curve"][-1]["validation_accuracy"]
    assert "test_mre" not in row


def test_a_cell_of_a_fold_never_looks_at_the_test_images(
    one_cell: MakeCell, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = one_cell("cls-gan:unlabeled_weight=1.0", **FEW, **{"labels.folds": 3, "batch_size": 8})
    assert cell.fold == 0
    asked: list[Tensor] = []
    classifier = Training.classifier

    def listening(one: Training) -> Classifier:
        return lambda images: (asked.append(images.images), classifier(one)(images))[1]

    monkeypatch.setattr(Training, "classifier", listening)
    row = party.train_cell(directory_of(cell, tmp_path))
    held_out = training(cell, zoo).labelling.held_out.images
    assert row["test_accuracy"] is None
    assert row["fold"] == 0
    assert row["labelled_images"] == 20
    assert len(held_out) == 10
    assert asked
    assert all(torch.equal(images, held_out[:4]) for images in asked)  # validation_images is 4
    # A fold's row is read again as finished; one without its figure is damaged.
    path = tmp_path / cell.directory
    assert result.read_row(path) is not None
    for change in ({"validation_accuracy": None}, {"test_accuracy": "high"}):
        commit_sealed(path / "row.json", {**row, **change})
        with pytest.raises(UserError, match=r"row.json is no row of a cell; delete it"):
            result.read_row(path)


def test_mre_of_a_classifying_cell_is_that_of_its_last_generator(one_cell: MakeCell, tmp_path: Path) -> None:
    path = directory_of(one_cell("cls-gan:unlabeled_weight=1.0", **FEW), tmp_path)
    party.train_cell(path)
    found = measure_checkpoint(path)
    last = measure_checkpoint(path, last=True)
    assert found["generator"] == "last epoch"
    assert found == last
    assert 0 < found["control_mre"] < found["mre"] < 2


def test_mre_of_a_cell_without_generator_is_refused(one_cell: MakeCell, tmp_path: Path) -> None:
    path = directory_of(one_cell("supervised", **FEW), tmp_path)
    party.train_cell(path)
    with pytest.raises(UserError, match="supervised trains no generator: there is nothing that could reconstruct"):
        measure_checkpoint(path)


# Every objective


@pytest.fixture(scope="module")
def every(zoo: Zoo, tiny: MakePlan) -> tuple[str, ...]:
    found = tuple(zoo.names("objective"))
    assert set(default_objectives(zoo, tiny(**FEW))) < set(found)
    return found


def test_every_objective_plays_with_penalty_ii_and_with_few_labels(
    every: tuple[str, ...], one_cell: MakeCell, zoo: Zoo
) -> None:
    for name in every:
        plain, heavy = (training(one_cell(f"{name}{asked}", **FEW), zoo) for asked in ("", ":theta_penalty=0.1"))
        losses = [one.play() for one in (plain, heavy)]
        assert losses[1].critic_loss > losses[0].critic_loss, name
        assert heavy.play().critic_loss.isfinite(), name
        moved = [parameter.clone() for parameter in heavy.players.critic.parameters()]
        assert not all(torch.equal(p, q) for p, q in zip(moved, plain.players.critic.parameters(), strict=True)), name


def test_penalty_ii_refuses_a_critic_with_batch_statistics(every: tuple[str, ...], tiny: MakePlan, zoo: Zoo) -> None:
    for name in (*every, "dcgan"):
        plan = tiny(objectives=[f"{name}:theta_penalty=0.1"], **FEW, **{"critic.norm": "batch"})
        with pytest.raises(
            UserError,
            match=rf"{name}:theta_penalty=0.1 penalises .* per sample.*\(critic.norm = \"none\"\).*theta_penalty=0",
        ):
            prepare(plan, zoo)


def test_learning_from_few_labels_beats_guessing(one_cell: MakeCell, zoo: Zoo) -> None:
    """The whole of it, once: 30 labelled digits, three classifiers."""
    rates = {"critic_rate": 5e-3, "generator_rate": 5e-3}
    changes = {**FEW, "data.split": [1000, 16, 400], "epochs": 2, "shared": rates, "critic.init_std": 0.1}
    found = {}
    for objective in ("supervised", "cls-gan:balance=0.5,unlabeled_weight=0.5", "dcgan"):
        one = training(one_cell(objective, **changes), zoo)
        for _ in range(one.rounds):
            one.play()
        found[objective] = one.accuracy(one.data.test)
    assert all(share > 0.4 for share in found.values()), found  # guessing finds 1 in 10


# Wrong plugins, before a run


WRONG = """
    from ganzoo import Need, Objective

    def loss(critic, real, fake):
        return (critic(real) - critic(fake)).mean()

    @ganzoo.objective
    def forgotten_need():
        return Objective(loss, unlabeled_loss=loss, needs=frozenset({Need.LABELS}))

    @ganzoo.objective
    def forgotten_loss():
        return Objective(loss, needs=frozenset({Need.LABELS, Need.UNLABELED}))

    @ganzoo.objective
    def forgotten_labels():
        return Objective(loss, unlabeled_loss=loss, needs=frozenset({Need.UNLABELED}))

    @ganzoo.objective
    def vector():
        return Objective(loss, unlabeled_loss=lambda critic, real, fake: critic(real),
                         needs=frozenset({Need.LABELS, Need.UNLABELED}))

    @ganzoo.objective
    def detached():
        return Objective(loss, unlabeled_loss=lambda critic, real, fake: loss(critic, real, fake).detach(),
                         needs=frozenset({Need.LABELS, Need.UNLABELED}))

    @ganzoo.objective
    def failing():
        return Objective(loss, unlabeled_loss=lambda critic, real, fake: critic.nothing,
                         needs=frozenset({Need.LABELS, Need.UNLABELED}))
"""


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("forgotten-need", r"Need.UNLABELED and an unlabeled_loss go together; it has one of them"),
        ("forgotten-loss", r"Need.UNLABELED and an unlabeled_loss go together; it has one of them"),
        ("forgotten-labels", r"unlabeled_loss is of min_l L\(x, l\), so Need.LABELS goes with it"),
        ("vector", r"unlabeled_loss is \(4,\); a scalar tensor is wanted"),
        ("detached", r"unlabeled_loss has no gradient; something in it detaches"),
        ("failing", r"failing fails: AttributeError"),
    ],
)
def test_an_unlabeled_loss_that_cannot_be_played_is_refused(
    name: str, match: str, tiny: MakePlan, plugin: Callable[..., Path]
) -> None:
    own = Zoo.installed(plugin(WRONG))
    with pytest.raises(UserError, match=match) as caught:
        prepare(tiny(objectives=[name], **FEW), own)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_the_order_of_seeds_and_folds_is_seeds_then_folds(tiny: MakePlan, zoo: Zoo) -> None:
    plan = tiny(objectives=["supervised"], seeds=2, first_seed=3, **FEW, **{"labels.folds": 3, "batch_size": 8})
    made = prepare(plan, zoo).cells
    assert [(cell.seed, cell.fold) for cell in made] == [(s, f) for s in (3, 4) for f in range(3)]
    assert len({cell.sha256 for cell in made}) == len({cell.directory for cell in made}) == 6
    assert all(one.contender == other.contender for one, other in pairwise(made))
