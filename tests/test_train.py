"""Laws of the round and the loop: exact resume, one randomness for all objectives, divergence, what is refused."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo import party, result, train
from ganzoo.bench import prepare
from ganzoo.config import Cell, Plan
from ganzoo.durable import load_checkpoint, save_checkpoint
from ganzoo.errors import UserError
from ganzoo.party import read_data
from ganzoo.train import Diverged, Training, weights_sha256
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
TABLE_1 = {"name": "table-1", "width": 2, "norm": "none", "spectral": True}
SIX = ("ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan")

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def training(cell: Cell, zoo: Zoo) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


def bits(value: Any) -> Any:
    """Nested state with every tensor as its bytes: equal only if bit for bit equal."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().cpu().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bits(inner) for inner in value]
    return value


def parameters(network: nn.Module) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in network.parameters()]


class Killed(Exception):  # noqa: N818 (nobody's error)
    pass


def kill_after(one: Training, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training die at the start of the round after so many more."""
    last, play = one.round + rounds, one.play

    def mortal() -> tuple[Tensor, Tensor]:
        if one.round == last:
            raise Killed
        return play()

    monkeypatch.setattr(one, "play", mortal)


# Exactness


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("dcgan", {}),
        ("gls-gan", {"generator.norm": "none"}),
        ("ls-gan:balance=2.0", {}),
        ("wgan", {"recipe": "native", "epochs": 5}),
        ("wgan-gp", {}),
        ("wgan-gp", {"recipe": "native", "epochs": 5}),
        ("cls-gan", {"critic.norm": "batch"}),
        ("cls-gan:unlabeled_weight=1.0,feature_matching=1.0", {"labels.per_class": 3, "measure": "accuracy"}),
        ("conditional-gan:theta_penalty=0.1", {"labels.per_class": 3}),
        ("supervised", {"measure": "accuracy"}),
        ("rpgan", {}),
        ("ragan", {"critic.norm": "batch"}),
        ("hinge:r2=0.5,dragan=2", {"critic.spectral": True}),
        ("least-squares", {"recipe": "native"}),
        ("ebgan", {}),
        ("ls-gan:margin=constant,theta_penalty=0.1", {"critic": TABLE_1}),
    ],
)
def test_a_training_killed_after_every_round_ends_in_the_same_bits(
    objective: str,
    changes: dict[str, Any],
    one_cell: MakeCell,
    zoo: Zoo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = one_cell(objective, checkpoint_seconds=0.0, **changes)
    whole = training(cell, zoo)
    whole.run()
    assert whole.rounds >= 4
    path = tmp_path / "checkpoint"
    for _ in range(whole.rounds):
        torch.manual_seed(torch.seed())  # each life begins with other default generators
        one = training(cell, zoo)
        if path.exists():
            one.resume(path)
        kill_after(one, 1, monkeypatch)
        if one.round < whole.rounds - 1:
            with pytest.raises(Killed):
                one.run(partial(save_checkpoint, path))
    last = training(cell, zoo)
    last.resume(path)
    assert last.round == whole.rounds - 1
    last.run(partial(save_checkpoint, path))
    assert bits(last.state_dict()) == bits(whole.state_dict())
    assert bits(load_checkpoint(path)) == bits(whole.state_dict())


def test_the_same_cell_twice_gives_the_same_bits_and_another_seed_others(one_cell: MakeCell, zoo: Zoo) -> None:
    first, again, other = (training(one_cell("wgan-gp", seed), zoo) for seed in (0, 0, 1))
    for one in (first, again, other):
        one.run()
    assert bits(first.state_dict()) == bits(again.state_dict())
    assert first.initial["generator"] != other.initial["generator"]
    assert first.batches.order_sha256 != other.batches.order_sha256
    assert not torch.equal(first.noise("critic", 0), other.noise("critic", 0))
    assert weights_sha256(first.players.critic) != weights_sha256(other.players.critic)


def test_a_training_leaves_its_callers_random_state_alone(one_cell: MakeCell, zoo: Zoo) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    training(one_cell("wgan-gp"), zoo).run()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_caller_drew_does_not_reach_the_training(one_cell: MakeCell, zoo: Zoo) -> None:
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        one = training(one_cell("wgan-gp"), zoo)
        one.run()
        ends.append(bits(one.state_dict()))
    assert ends[0] == ends[1]


def test_all_objectives_start_alike_and_see_the_same_images_and_z(one_cell: MakeCell, zoo: Zoo) -> None:
    made = {name: training(one_cell(name), zoo) for name in SIX}
    one = made["dcgan"]
    for name, other in made.items():
        assert other.batches.order_sha256 == one.batches.order_sha256
        for step in (0, 1, 7):
            assert torch.equal(other.batches[step].real, one.batches[step].real)
            assert torch.equal(other.noise("critic", step), one.noise("critic", step))
            assert torch.equal(other.noise("generator", step), one.noise("generator", step))
        if name != "cls-gan":  # its networks take the labels as well
            assert other.initial == one.initial
    assert made["cls-gan"].initial != one.initial


def test_z_is_fresh_for_each_step_and_player_and_uniform_in_the_box(one_cell: MakeCell, zoo: Zoo) -> None:
    one = training(one_cell("dcgan", batch_size=64), zoo)
    drawn = [one.noise(player, step) for player in ("critic", "generator") for step in range(40)]
    assert len({z.numpy().tobytes() for z in drawn}) == len(drawn)
    z = torch.cat(drawn)
    assert z.abs().max() <= 1
    assert abs(float(z.mean())) < 0.02
    assert float(z.var()) == pytest.approx(1 / 3, rel=0.03)


# The round


@pytest.mark.parametrize(("objective", "recipe"), [("dcgan", "shared"), ("gls-gan", "shared"), ("wgan", "native")])
def test_each_step_moves_its_own_network_and_no_other(
    objective: str, recipe: str, one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell(objective, recipe=recipe), zoo)
    step, moved = one._step, []

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        before = parameters(one.players.generator), parameters(one.players.critic)
        norm = step(optimizer, loss)
        after = parameters(one.players.generator), parameters(one.players.critic)
        moved.append((optimizer is one.critic_optimizer, before[0] != after[0], before[1] != after[1]))
        return norm

    monkeypatch.setattr(one, "_step", watched)
    one.play()
    critic_steps = one.cell.recipe.critic_steps
    assert moved == [(True, False, True)] * critic_steps + [(False, True, False)]
    assert all(parameter.requires_grad for parameter in one.players.critic.parameters())


def test_one_round_of_wgan_is_arjovskys_algorithm(one_cell: MakeCell, zoo: Zoo) -> None:
    """Written out by hand: 5 RMSprop steps of the critic, each clipped, then one of the generator."""
    cell = one_cell("wgan", recipe="native")
    one, hand = training(cell, zoo), training(cell, zoo)
    one.play()
    generator, critic = hand.players.generator, hand.players.critic
    for_critic = torch.optim.RMSprop(critic.parameters(), 5e-5)
    for step in range(5):
        real = hand.batches[step].real
        fake = generator(hand.noise("critic", step)).detach()
        for_critic.zero_grad()
        (critic(real).mean() - critic(fake).mean()).backward()
        for_critic.step()
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-0.01, 0.01)
    for_generator = torch.optim.RMSprop(generator.parameters(), 5e-5)
    critic(generator(hand.noise("generator", 0))).mean().backward()
    for_generator.step()
    for mine, theirs in zip(one.players.generator.parameters(), generator.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(one.players.critic.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().max() <= 0.01


def test_both_rates_fall_by_the_epoch(one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"decay": 0.5, "decay_epochs": 2, "critic_rate": 0.01, "generator_rate": 0.004}
    one = training(one_cell("dcgan", epochs=5, shared=rule), zoo)
    step, rates = one._step, {True: [], False: []}

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        rates[optimizer is one.critic_optimizer].append(optimizer.param_groups[0]["lr"])
        return step(optimizer, loss)

    monkeypatch.setattr(one, "_step", watched)
    one.run()
    factors = [1.0] * 8 + [0.5] * 8 + [0.25] * 4  # 4 batches an epoch
    assert rates[True] == pytest.approx([0.01 * factor for factor in factors])
    assert rates[False] == pytest.approx([0.004 * factor for factor in factors])


def test_the_critics_budget_is_the_epochs_whatever_the_step_ratio(one_cell: MakeCell, zoo: Zoo) -> None:
    for steps, rounds in ((1, 20), (2, 10), (5, 4)):
        one = training(one_cell("dcgan", epochs=5, shared={"critic_steps": steps}), zoo)
        assert one.rounds == rounds


def test_a_point_of_the_curve_holds_the_mean_losses_since_the_last(one_cell: MakeCell, zoo: Zoo) -> None:
    cell = one_cell("dcgan")
    one, told = training(cell, zoo), []
    one.run(tell=told.append)
    assert told == one.curve
    assert [(point["epoch"], point["round"]) for point in told] == [(0, 0), (1, 4), (2, 8)]
    again, losses = training(cell, zoo), []
    for _ in range(8):
        losses.append([float(loss) for loss in again.play()])
    for point, four in ((told[1], losses[:4]), (told[2], losses[4:])):
        assert point["critic_loss"] == pytest.approx(np.mean([pair[0] for pair in four]))
        assert point["generator_loss"] == pytest.approx(np.mean([pair[1] for pair in four]))


def test_test_images_in_the_curve_change_nothing_else(one_cell: MakeCell, zoo: Zoo) -> None:
    plain, more = training(one_cell("dcgan"), zoo), training(one_cell("dcgan", curve_test_images=5), zoo)
    plain.run()
    more.run()
    assert parameters(more.players.generator) == parameters(plain.players.generator)
    for one, other in zip(plain.curve, more.curve, strict=True):
        assert "test_mre" not in one
        assert one["validation_mre"] == pytest.approx(other["validation_mre"], rel=0.02)
        assert 0 < other["test_mre"] < 2
    unlike = more.error(more.data.test, 5, more.plan.validation_mre).mean
    assert more.curve[-1]["test_mre"] == pytest.approx(unlike, rel=0.1)


def test_a_critic_that_begins_with_zeros_hides_no_batch_statistics(
    one_cell: MakeCell, plugin: Callable[..., Path]
) -> None:
    text = """
    import torch
    from torch import nn

    @ganzoo.critic
    def zeros(image_shape, outputs):
        last = nn.Linear(image_shape[1] ** 2, 1)
        nn.init.zeros_(last.weight)
        return nn.Sequential(nn.BatchNorm2d(image_shape[0]), nn.Flatten(), last, nn.Flatten(0))
    """
    own = Zoo.installed(plugin(text))
    one = training(one_cell("dcgan", zoo=own, critic={"name": "zeros"}), own)
    assert not one.players.per_sample


def test_the_best_generator_is_that_of_the_lowest_validation_error(one_cell: MakeCell, zoo: Zoo) -> None:
    one = training(one_cell("dcgan", epochs=3, shared={"generator_rate": 0.5}), zoo)  # so rash that it soon worsens
    states = []
    one.run(tell=lambda point: states.append(bits(one.players.generator.state_dict())))
    errors = [point["validation_mre"] for point in one.curve]
    assert errors.index(min(errors)) != len(errors) - 1
    assert bits(one.best_generator) == states[errors.index(min(errors))]


def test_a_critic_that_must_be_non_negative_passes_through_softplus(one_cell: MakeCell, zoo: Zoo) -> None:
    plain, kept = (training(one_cell(name), zoo).players for name in ("ls-gan", "ls-gan:balance=1.0"))
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(plain.loss(None)(x), plain.critic(x))
    torch.testing.assert_close(kept.loss(None)(x), F.softplus(kept.critic(x)))
    assert (kept.loss(None)(x) > 0).all()


def test_labels_repeat_for_real_and_fake_in_one_tensor(one_cell: MakeCell, zoo: Zoo) -> None:
    players = training(one_cell("cls-gan"), zoo).players
    real, fake = torch.rand(5, 1, 8, 8), torch.rand(5, 1, 8, 8)
    labels = torch.tensor([3, 1, 4, 1, 9])
    loss = players.loss(labels)
    apart = torch.cat([loss(real), loss(fake)])
    torch.testing.assert_close(loss(torch.cat([real, fake])), apart)
    by_hand = -players.critic(real).log_softmax(dim=1)[torch.arange(5), labels]
    torch.testing.assert_close(loss(real), by_hand)
    assert not torch.allclose(players.loss(labels.flip(0))(real), by_hand)


def test_a_conditional_generator_hears_the_label(one_cell: MakeCell, zoo: Zoo) -> None:
    players = training(one_cell("cls-gan"), zoo).players
    z = torch.rand(4, 3)
    one, two = (players.generate(z, torch.full((4,), label)) for label in (1, 2))
    assert not torch.allclose(one, two)


# Divergence

SOON_NAN = """
    calls = 0

    @ganzoo.cost
    def soon_nan(a):  # the harness listens to the loss once before it plays
        global calls
        calls += 1
        return a * (float("nan") if calls > 6 else 1.0)
"""


def test_a_loss_that_is_not_a_number_ends_the_training_before_its_step(
    one_cell: MakeCell, plugin: Callable[..., Path], zoo: Zoo, tmp_path: Path
) -> None:
    own = Zoo.installed(plugin(SOON_NAN))
    one = training(one_cell("gls-gan:cost=soon-nan", zoo=own, checkpoint_seconds=0.0), own)
    healthy = training(one_cell("gls-gan:cost=identity"), zoo)
    with pytest.raises(Diverged, match="diverged@5") as caught:
        one.run(partial(save_checkpoint, tmp_path / "checkpoint"))
    assert caught.value.round == 5
    for _ in range(5):
        healthy.play()
    assert parameters(one.players.critic) == parameters(healthy.players.critic)
    assert parameters(one.players.generator) == parameters(healthy.players.generator)
    assert load_checkpoint(tmp_path / "checkpoint")["round"] == 5  # the last good state


def test_infinity_diverges_too_and_so_does_the_generators_loss(one_cell: MakeCell, plugin: Callable[..., Path]) -> None:
    text = """
    @ganzoo.objective
    def runs_off():
        return ganzoo.Objective(lambda critic, real, fake: critic(real).mean(),
                                lambda critic, real, fake: critic(fake).mean() + float("inf"))
    """
    own = Zoo.installed(plugin(text))
    one = training(one_cell("runs-off", zoo=own), own)
    before = parameters(one.players.generator)
    with pytest.raises(Diverged, match="diverged@0"):
        one.run()
    assert parameters(one.players.generator) == before


def test_a_generator_that_makes_nan_diverges_at_the_evaluation(
    one_cell: MakeCell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell("dcgan"), zoo)
    with torch.no_grad():
        next(one.players.generator.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="diverged@0"):
        one.run()


# Refusals


def refused(cell: Cell, zoo: Zoo, match: str) -> None:
    with pytest.raises(UserError, match=match):
        training(cell, zoo)


@pytest.mark.parametrize("objective", ["gls-gan", "ls-gan", "wgan-gp"])
def test_a_penalty_per_sample_refuses_a_critic_with_batch_statistics(
    objective: str, one_cell: MakeCell, zoo: Zoo
) -> None:
    asked = {"critic.norm": "batch"}
    refused(one_cell(objective, **asked), zoo, rf"{objective} penalises a gradient per sample.*critic.norm = \"none\"")
    training(one_cell(f"{objective}:penalty_weight=0.0", **asked), zoo)


def npz(path: Path, labels: np.ndarray | None) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, **({} if labels is None else {"labels": labels}))
    return {"data.set": "npz", "data.path": str(path)}


def test_a_conditional_game_refuses_one_class_and_no_labels(one_cell: MakeCell, zoo: Zoo, tmp_path: Path) -> None:
    one_class = npz(tmp_path / "one.npz", np.zeros(96, dtype=int))
    refused(one_cell("cls-gan", **one_class), zoo, "cls-gan needs images of at least 2 classes; npz has 1")
    unlabelled = npz(tmp_path / "none.npz", None)
    refused(one_cell("cls-gan", **unlabelled), zoo, "cls-gan needs images of at least 2 classes; npz has no labels")
    training(one_cell("dcgan", **unlabelled), zoo).run()


NETWORKS = """
    @ganzoo.critic
    def column(image_shape, outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    @ganzoo.generator
    def loud(z_dim, image_shape):
        return nn.Sequential(nn.Linear(z_dim, 64), nn.Tanh(), Scaled(1.5), nn.Unflatten(1, (1, 8, 8)))

    @ganzoo.generator
    def flat(z_dim, image_shape):
        return nn.Sequential(nn.Linear(z_dim, 64), nn.Tanh())

    @ganzoo.generator
    def large(z_dim, image_shape):
        return nn.Sequential(nn.Linear(z_dim, 256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16)))

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return torch.where(x > 0, 1, -1) * self.factor
"""


@pytest.mark.parametrize(
    ("kind", "name", "match"),
    [
        ("critic", "column", r"critic 'column' returns \(4, 1\) for 4 images; \(4,\) is wanted"),
        ("generator", "loud", r"generator 'loud' leaves \[-1, 1\]"),
        ("generator", "flat", r"the generator made \(4, 64\) of z \(4, 3\)"),
        ("generator", "large", r"makes images \(1, 16, 16\), the data are \(1, 8, 8\)"),
    ],
)
def test_networks_of_a_wrong_shape_or_range_are_refused_before_the_first_step(
    kind: str, name: str, match: str, one_cell: MakeCell, plugin: Callable[..., Path]
) -> None:
    own = Zoo.installed(plugin(NETWORKS))
    refused(one_cell("dcgan", zoo=own, **{kind: {"name": name}}), own, match)


def test_a_loss_that_is_no_scalar_is_refused(one_cell: MakeCell, plugin: Callable[..., Path]) -> None:
    text = """
    @ganzoo.objective
    def a_vector():
        return ganzoo.Objective(lambda critic, real, fake: critic(real))
    """
    own = Zoo.installed(plugin(text))
    one = training(one_cell("a-vector", zoo=own), own)
    with pytest.raises(TypeError, match=r"a loss has shape \(16,\); a scalar is wanted"):
        one.play()


def test_looking_at_the_networks_leaves_their_statistics_alone(one_cell: MakeCell, zoo: Zoo) -> None:
    one = training(one_cell("dcgan", **{"critic.norm": "batch"}), zoo)
    for network in (one.players.generator, one.players.critic):
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        for norm in norms:
            assert norm.num_batches_tracked == 0
            assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))


@pytest.mark.parametrize(
    "changes", [{"epochs": 3}, {"z_dim": 4}, {"shared": {"critic_rate": 2e-3}}, {"validation_images": 5}]
)
def test_a_checkpoint_of_another_plan_is_refused(
    changes: dict[str, Any], one_cell: MakeCell, zoo: Zoo, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "checkpoint", training(one_cell("dcgan"), zoo).state_dict())
    other = training(one_cell("dcgan", **changes), zoo)
    with pytest.raises(UserError, match="is a checkpoint of another plan"):
        other.resume(tmp_path / "checkpoint")
    training(one_cell("dcgan", checkpoint_seconds=5.0), zoo).resume(tmp_path / "checkpoint")


def test_a_checkpoint_made_where_floats_round_differently_is_refused(
    one_cell: MakeCell, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell("dcgan"), zoo)
    save_checkpoint(tmp_path / "checkpoint", one.state_dict())
    here = train.fingerprint(torch.device("cpu"), "fp32")
    monkeypatch.setattr(train, "fingerprint", lambda device, precision: {**here, "threads": "7"})
    with pytest.raises(UserError, match="was made with threads 1, here 7: it cannot be continued exactly"):
        one.resume(tmp_path / "checkpoint")


# A cell's directory


def directory_of(cell: Cell, tmp_path: Path) -> Path:
    path = tmp_path / cell.directory
    path.mkdir()
    (path / "cell.json").write_text(cell.model_dump_json())
    return path


def test_a_cell_trains_from_its_directory_alone_and_is_done_once(one_cell: MakeCell, tmp_path: Path) -> None:
    path = directory_of(one_cell("dcgan"), tmp_path)
    row = party.train_cell(path)
    assert row["verdict"] == "done"
    assert row["test_images"] == 8
    assert row["rounds"] == 8
    for left in path.glob("checkpoint-*"):
        left.unlink()
    again = party.train_cell(path, lambda point: pytest.fail("trained again"))
    assert again == json.loads(json.dumps(row))


def test_a_conditional_cell_of_very_few_test_images_is_done(one_cell: MakeCell, tmp_path: Path) -> None:
    path = directory_of(one_cell("cls-gan", test_images=3), tmp_path)
    row = party.train_cell(path)
    assert row["verdict"] == "done"
    assert row["conditional"] is True
    assert row["test_mre_any_label"] is not None
    with np.load(path / "pictures.npz") as pictures:
        assert len(pictures["errors"]) == len(pictures["reconstructions"]) == len(pictures["originals"]) == 3


def test_the_plugins_code_must_be_the_planned_one(
    one_cell: MakeCell, plugin: Callable[..., Path], tmp_path: Path
) -> None:
    path = plugin("""
    @ganzoo.cost
    def mine(a):
        return a
    """)
    cell = one_cell("gls-gan:cost=mine", zoo=Zoo.installed(path), plugins=[str(path)])
    path.write_text(path.read_text() + "\n# another text\n")
    with pytest.raises(UserError, match="cost 'mine' has changed since this run was planned"):
        party.train_cell(directory_of(cell, tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"verdict": 1}'])
def test_a_damaged_cell_or_row_is_named(content: str, one_cell: MakeCell, tmp_path: Path) -> None:
    path = directory_of(one_cell("dcgan"), tmp_path)
    (path / "row.json").write_text(content)
    with pytest.raises(UserError, match=r"row.json .*; delete it"):
        result.read_row(path)
    with pytest.warns(UserWarning, match=r"row.json .*: set aside, it is made again"):
        row = party.train_cell(path)
    assert row["verdict"] == "done"
    assert (path / "row.json.damaged").read_text() == content
    (path / "row.json").unlink()
    (path / "cell.json").write_text(content)
    with pytest.raises(UserError, match=r"cell.json describes no cell"):
        party.train_cell(path)


def test_a_sparse_curve_begins_its_last_fifth_before_the_last_20_percent() -> None:
    curve = [(0, 9.0), (7, 0.4), (9, 0.1), (10, 0.2)]
    found = result.last_fifth([{"epoch": epoch, "validation_mre": error} for epoch, error in curve])
    assert found == pytest.approx((0.4 - 0.1) / 0.2)


def test_two_points_say_nothing_of_settling() -> None:
    assert result.last_fifth([{"epoch": epoch, "validation_mre": 0.2} for epoch in (0, 5, 10)]) is None
    assert result.last_fifth([{"epoch": epoch, "validation_mre": 0.2} for epoch in (0, 1)]) is None


def test_a_checkpoint_of_other_images_is_refused(one_cell: MakeCell, zoo: Zoo, tmp_path: Path) -> None:
    cell = one_cell("dcgan")
    before = training(cell, zoo)
    save_checkpoint(tmp_path / "checkpoint", before.state_dict())
    swapped = before.data._replace(train=before.data.train._replace(images=before.data.train.images.flip(0)))
    with pytest.raises(UserError, match="was trained on other images"):
        Training(cell, zoo, swapped).resume(tmp_path / "checkpoint")


def test_the_last_fifth_says_whether_a_curve_has_settled() -> None:
    curve = [{"epoch": epoch, "validation_mre": 10.0 / (epoch + 1)} for epoch in range(11)]
    assert result.last_fifth(curve) == pytest.approx((10 / 9 - 10 / 11) / (10 / 11))
    flat = [{"epoch": epoch, "validation_mre": 0.2 if epoch >= 8 else 5.0} for epoch in range(11)]
    assert result.last_fifth(flat) == 0.0


# On a GPU


@pytest.mark.parametrize("objective", [pytest.param(name, marks=gpu) for name in SIX])
def test_an_objective_trains_and_resumes_on_cuda(objective: str, one_cell: MakeCell, zoo: Zoo, tmp_path: Path) -> None:
    cell = one_cell(objective, device="cuda")
    one = training(cell, zoo)
    one.run(partial(save_checkpoint, tmp_path / "checkpoint"))
    again = training(cell, zoo)
    again.resume(tmp_path / "checkpoint")
    assert bits(again.state_dict()) == bits(one.state_dict())
    on_cpu = training(one_cell(objective), zoo)
    on_cpu.run()
    assert one.initial == on_cpu.initial
    first, second = (which.curve[0]["validation_mre"] for which in (one, on_cpu))
    assert first == pytest.approx(second, rel=0.05)


@pytest.mark.parametrize("path", [pytest.param("checkpoint", marks=gpu)])
def test_cuda_names_the_round_of_the_first_bad_loss(
    path: str, one_cell: MakeCell, plugin: Callable[..., Path], tmp_path: Path
) -> None:
    own = Zoo.installed(plugin(SOON_NAN))
    with pytest.raises(Diverged, match="diverged@5"):
        training(one_cell("gls-gan:cost=soon-nan", zoo=own, device="cuda", capture=False), own).run(
            partial(save_checkpoint, tmp_path / path)
        )


@pytest.mark.parametrize("labels", [None, np.zeros(96, dtype=int)])
def test_of_images_without_classes_the_default_leaves_out_what_needs_them(
    labels: np.ndarray | None, tiny: Callable[..., Plan], zoo: Zoo, tmp_path: Path
) -> None:
    plan = tiny(**npz(tmp_path / "images.npz", labels))
    prepared = prepare(plan, zoo)
    assert prepared.left_out == ("cls-gan",)
    assert prepared.plan.objectives == ("dcgan", "gls-gan", "ls-gan", "wgan", "wgan-gp")
    assert prepared.plan.settings == plan.settings
    assert tuple(cell.contender.label for cell in prepared.cells) == prepared.plan.objectives
    with pytest.raises(UserError, match="cls-gan needs images of at least 2 classes"):
        prepare(plan.model_copy(update={"objectives": ("cls-gan",)}), zoo)
    digits = prepare(tiny(), zoo)
    assert (digits.left_out, digits.plan.objectives) == ((), ())


def test_a_cost_of_ones_own_is_left_out_of_a_game_that_needs_labels(
    tiny: Callable[..., Plan], plugin: Callable[..., Path], tmp_path: Path
) -> None:
    path = plugin("""
    @ganzoo.cost
    def mine(a: torch.Tensor) -> torch.Tensor:
        return torch.relu(a)

    @ganzoo.objective
    def by_class(cost: ganzoo.Cost, margin: ganzoo.Margin) -> ganzoo.Objective:
        def critic_loss(critic, real, fake):
            return cost(margin(real, fake) + critic(real) - critic(fake)).mean()

        return ganzoo.Objective(critic_loss, needs=frozenset({ganzoo.Need.LABELS}))
    """)
    prepared = prepare(tiny(**npz(tmp_path / "images.npz", None)), Zoo.installed(path))
    assert {*prepared.left_out} == {"by-class", "by-class:cost=mine", "cls-gan"}
    assert "gls-gan:cost=mine" in prepared.plan.objectives
