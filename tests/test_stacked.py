"""Cells that play as a stack: each as alone, in the same bits whatever the company, each with its own end."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganzoo.config import Cell
from ganzoo.data import Batches
from ganzoo.data.batches import Batch
from ganzoo.durable import load_checkpoint, save_checkpoint
from ganzoo.game import unconstrained
from ganzoo.party import read_data
from ganzoo.saving import Keep
from ganzoo.stacked import Stack, kind, run, stackable
from ganzoo.train import Diverged, Draws, Played, Training
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
Make = Callable[..., list[Training]]

GAMES = (
    "ls-gan", "ls-gan:balance=2.0", "gls-gan:cost=elu,penalty_weight=1.0", "gls-gan:penalty_weight=0", "wgan",
    "wgan-gp", "dcgan", "dcgan:feature_matching=1.0", "wgan:theta_penalty=0.1", "ls-gan:balance=1.5,theta_penalty=0.2",
    "wgan-gp:optimizer=rmsprop,generator_rate=0.01", "rpgan", "ragan", "hinge:r1=1,r2=0.5,dragan=2", "least-squares",
    "ebgan", "ls-gan:margin=constant",
)  # fmt: skip


@pytest.fixture
def make(one_cell: MakeCell, zoo: Zoo) -> Make:
    """make("wgan", "dcgan", seeds=2, epochs=3) -> their trainings, seeds innermost."""

    def made(*objectives: str, seeds: int = 1, **changes: Any) -> list[Training]:
        cells = [one_cell(objective, seed, **changes) for objective in objectives for seed in range(seeds)]
        return [Training(cell, zoo, read_data(cell.settings.data)) for cell in cells]

    return made


class DoubledBatches:
    """Batches in float64."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.index = batches, batches.index

    def at(self, index: Tensor) -> Batch:
        real, labels = self.batches.at(index)
        return Batch(real.double(), labels)


def doubled(trainings: list[Training]) -> list[Training]:
    """The same in float64, where another order of sums does not hide an error."""
    for one in trainings:
        one.players.generator.double()
        one.players.critic.double()
        draws: Any = one.draws

        def drawn(round: int, draws: Any = draws) -> Draws:
            found: Draws = draws(round)
            double = {key: value.double() for key, value in found._asdict().items() if value.is_floating_point()}
            return found._replace(**double)

        one.draws = drawn  # type: ignore[method-assign]
        for name in ("batches", "unlabelled"):
            if getattr(one, name) is not None:
                setattr(one, name, DoubledBatches(getattr(one, name)))
    return trainings


def numbers(one: Training) -> dict[str, Tensor]:
    """Everything a round changes."""
    state = one.state_dict()
    found = {f"{name} {key}": value for name in ("generator", "critic") for key, value in state[name].items()}
    for name in ("generator_optimizer", "critic_optimizer"):
        for index, of_one in state[name].items():
            found |= {f"{name} {index} {key}": value for key, value in of_one.items()}
    return {**found, "sums": state["sums"], "round": torch.tensor(state["round"])}


def bits(one: Training) -> dict[str, bytes]:
    return {key: value.detach().contiguous().numpy().tobytes() for key, value in numbers(one).items()}


def play(trainings: Sequence[Training], rounds: int) -> list[list[Played | BaseException]]:
    stack = Stack(trainings)
    played = [stack.play() for _ in range(rounds)]
    stack.release()
    return played


def assert_close(one: Training, other: Training, tolerance: float) -> None:
    found, wanted = numbers(one), numbers(other)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(
            found[key],
            value,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda said, key=key: f"{one.cell.contender.label} {key}: {said}",
        )


# As alone


@pytest.mark.parametrize(
    ("objectives", "changes"),
    [
        (GAMES, {}),
        (("wgan", "gls-gan:penalty_weight=0", "dcgan:feature_matching=0.5"), {"critic.norm": "batch"}),
        (
            ("wgan", "wgan-gp", "ls-gan:critic_steps=5,decay_epochs=1"),
            {"recipe": "native", "epochs": 8, "generator.norm": "none"},
        ),
        (("cls-gan", "cls-gan:balance=2.0,theta_penalty=0.1", "cls-gan:feature_matching=1.0"), {}),
        (("cls-gan", "cls-gan:margin=zero"), {"critic.norm": "batch"}),
        (
            ("cls-gan:unlabeled_weight=1.0", "conditional-gan", "cls-gan:unlabeled_weight=0.5,feature_matching=1.0"),
            {"labels.per_class": 3, "measure": "accuracy"},
        ),
        (("supervised",), {"measure": "accuracy"}),
    ],
)  # fmt: skip
def test_in_float64_a_stack_plays_as_each_cell_alone(
    objectives: tuple[str, ...], changes: dict[str, Any], make: Make
) -> None:
    alone, together = (doubled(make(*objectives, seeds=2, **changes)) for _ in range(2))
    stack = Stack(together)
    for _ in range(3):
        for row, played in enumerate(stack.play()):
            assert isinstance(played, Played)
            for mine, its in zip(played, alone[row].play(), strict=True):
                torch.testing.assert_close(mine, its, rtol=1e-8, atol=1e-10, check_dtype=False)
    stack.release()
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other, 1e-6)  # a first step of Adam divides rounding by itself where a gradient is near 0


def test_in_float32_a_whole_short_training_stays_within_the_stated_tolerance(make: Make) -> None:
    alone, together = (make("ls-gan", "wgan", "wgan-gp", "dcgan") for _ in range(2))
    assert run(together) == [None] * 4
    for one, other in zip(together, alone, strict=True):
        other.run()
        assert_close(one, other, 1e-3)
        assert [point["round"] for point in one.curve] == [point["round"] for point in other.curve]
        for mine, its in zip(one.curve, other.curve, strict=True):
            assert mine["validation_mre"] == pytest.approx(its["validation_mre"], rel=1e-3)


# The same bits


@pytest.mark.parametrize("changes", [{}, {"recipe": "native", "epochs": 8}, {"critic.norm": "batch"}])
def test_a_cells_bits_do_not_depend_on_its_company(changes: dict[str, Any], make: Make) -> None:
    games = ("wgan", "wgan-gp", "wgan:clip=0.05", "wgan-gp:penalty_weight=1.0")
    if not changes:
        games = (*games, "ls-gan", "dcgan:feature_matching=1.0", "wgan:theta_penalty=0.1")
    if "critic.norm" in changes:
        games = ("wgan", "dcgan", "wgan:clip=0.05")
    crowd = make(*games, seeds=2, **changes)
    play(crowd, 3)
    wanted = {(one.cell.contender.label, one.cell.seed): bits(one) for one in crowd}
    for one in make(*games, **changes):  # each by itself
        play([one], 3)
        assert bits(one) == wanted[one.cell.contender.label, 0], one.cell.contender.label
    few = make(*games[-2:], seeds=2, **changes)[::-1]  # in another place, among others
    play(few, 3)
    for one in few:
        assert bits(one) == wanted[one.cell.contender.label, one.cell.seed], one.cell.contender.label


def test_a_stack_that_is_taken_apart_and_made_again_goes_on_in_the_same_bits(make: Make) -> None:
    games = ("ls-gan", "wgan-gp", "dcgan")
    whole, parts = make(*games), make(*games)
    play(whole, 4)
    for rounds in (1, 2, 1):
        play(parts, rounds)
    assert [bits(one) for one in parts] == [bits(one) for one in whole]


def keeps(paths: list[Path]) -> list[Keep]:
    return [partial(save_checkpoint, path) for path in paths]


def test_cells_killed_at_different_rounds_resume_to_the_same_bits(make: Make, tmp_path: Path) -> None:
    games = ("gls-gan", "wgan-gp", "dcgan")
    whole = make(*games)
    assert run(whole) == [None] * 3
    halves, paths = make(*games), [tmp_path / game for game in games]
    for one in halves:
        one._evaluate(0)
    play(halves[:1], 1)
    play(halves[1:], 3)
    for one, path in zip(halves, paths, strict=True):
        save_checkpoint(path, one.state_dict())
    lives = make(*games)
    for one, path in zip(lives, paths, strict=True):
        one.resume(path)
    assert [one.round for one in lives] == [1, 3, 3]
    assert run(lives, keeps(paths)) == [None] * 3
    for one, other, path in zip(lives, whole, paths, strict=True):
        assert bits(one) == bits(other)
        assert one.curve == other.curve
        fresh = load_checkpoint(path)
        assert fresh["round"] == other.rounds
        assert all(
            torch.equal(fresh["generator"][key], value) for key, value in other.state_dict()["generator"].items()
        )


def test_a_checkpoint_holds_the_cells_own_weights_and_not_the_whole_stack(make: Make, tmp_path: Path) -> None:
    crowd, (single,) = make("wgan", seeds=6), make("wgan")
    paths = [tmp_path / str(seed) for seed in range(6)]
    run(crowd, keeps(paths))
    run([single], keeps([tmp_path / "single"]))
    assert paths[0].stat().st_size == (tmp_path / "single").stat().st_size


def test_a_run_tells_every_point_and_leaves_its_callers_random_state_alone(make: Make) -> None:
    trainings = make("wgan-gp", "dcgan")
    told: list[list[int]] = [[], []]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(trainings, tells=[lambda point, mine=mine: mine.append(point["epoch"]) for mine in told])
    assert told == [[0, 1, 2]] * 2
    assert torch.equal(torch.get_rng_state(), before)


def test_a_released_training_shares_nothing_and_can_go_on_alone(make: Make) -> None:
    first, second = make("wgan", "dcgan")
    play([first, second], 1)
    with torch.no_grad():
        for parameter in (*first.players.critic.parameters(), *first.players.generator.parameters()):
            parameter.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in second.players.critic.parameters() if parameter.dim() > 1)
    for network in (second.players.generator, second.players.critic):
        for tensor in network.state_dict().values():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
    alone = doubled(make("dcgan"))[0]
    back = doubled(make("dcgan"))[0]
    play([back], 2)
    for _ in range(4):
        alone.play()
    back.play()
    back.play()
    assert_close(back, alone, 1e-6)


# Each its own end


def test_a_diverged_cell_leaves_at_the_round_it_does_alone_and_touches_nobody(make: Make) -> None:
    def runaway(critic: Any, real: Tensor, fake: Tensor) -> Tensor:
        return -(30 * critic(real).mean()).exp()

    games = ("wgan:critic_rate=0.05", "gls-gan", "dcgan")
    sick, *well = make(*games)
    sick.game = sick.game._replace(critic_loss=runaway, constrain=unconstrained)
    with pytest.raises(Diverged) as alone:
        sick.run()
    assert alone.value.round > 0
    crowd = make(*games)
    crowd[0].game = sick.game
    ends = run(crowd)
    assert str(ends[0]) == str(alone.value)
    assert isinstance(ends[0], Diverged)
    assert crowd[0].round == sick.round
    assert all(value.isfinite().all() for value in crowd[0].players.critic.state_dict().values())
    assert ends[1:] == [None, None]
    assert run(well) == [None, None]
    assert [bits(one) for one in crowd[1:]] == [bits(one) for one in well]


def test_a_cell_whose_weights_are_nan_touches_nobody(make: Make) -> None:
    crowd, well = make("wgan", "gls-gan", "dcgan"), make("gls-gan", "dcgan")
    with torch.no_grad():
        next(crowd[0].players.critic.parameters()).fill_(float("nan"))
    (played,) = play(crowd, 1)
    assert isinstance(played[0], Diverged)
    assert (crowd[0].round, crowd[1].round) == (0, 1)
    play(well, 1)
    assert [bits(one) for one in crowd[1:]] == [bits(one) for one in well]


@pytest.mark.parametrize("what", ["critic_loss", "generator_loss"])
def test_a_loss_that_raises_or_is_no_scalar_ends_its_own_cell_alone(what: str, make: Make) -> None:
    def broken(critic: Any, real: Tensor, fake: Tensor) -> Tensor:
        raise SystemExit("mine")

    crowd, well = make("wgan", "dcgan", "gls-gan"), make("gls-gan")
    crowd[0].game = crowd[0].game._replace(**{what: broken})
    crowd[1].game = crowd[1].game._replace(**{what: lambda critic, real, fake: critic(fake)})
    ends = run(crowd)
    assert isinstance(ends[0], SystemExit)
    assert "a scalar is wanted" in str(ends[1])
    assert ends[2] is None
    run(well)
    assert bits(crowd[2]) == bits(well[0])


def test_an_objective_may_ask_its_critic_anything_and_draw_what_it_likes(make: Make) -> None:
    def curious(critic: Any, real: Tensor, fake: Tensor) -> Tensor:
        noisy = real + 0.1 * torch.randn_like(real)
        both = critic(torch.cat([real, fake]))
        steep = critic.gradient_in_x(noisy).square().sum()
        return critic(noisy).mean() - both[len(real) :].mean() + critic(real).mean() * torch.rand(()) + 0.1 * steep

    def relativistic(critic: Any, real: Tensor, fake: Tensor) -> Tensor:
        return (critic(fake) - critic(real)).mean() + critic(fake + 0.1 * torch.randn_like(fake)).mean()

    alone, together = (
        doubled(make("wgan", "dcgan", "ls-gan", recipe="shared", **{"shared.critic_steps": 2})) for _ in range(2)
    )
    for trainings in (alone, together):
        trainings[1].game = trainings[1].game._replace(critic_loss=curious, generator_loss=relativistic)
    play(together, 2)
    for one, other in zip(together, alone, strict=True):
        other.play()
        other.play()
        assert_close(one, other, 1e-6)


def test_a_network_that_fails_at_an_evaluation_ends_its_own_cell_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(epoch: int) -> None:
        raise KeyError(epoch)

    crowd, well = make("wgan", "dcgan"), make("dcgan")
    monkeypatch.setattr(crowd[0], "_evaluate", failing)
    ends = run(crowd)
    assert isinstance(ends[0], KeyError)
    assert (crowd[0].round, ends[1]) == (0, None)
    run(well)
    assert bits(crowd[1]) == bits(well[0])


# What can be a stack


def test_cells_that_differ_in_objective_and_seed_are_stackable(make: Make) -> None:
    trainings = make(*GAMES, seeds=2)
    before = [bits(one) for one in trainings[:2]]
    state = torch.get_rng_state()
    assert stackable(trainings) is None
    assert len({kind(one.cell) for one in trainings}) == 1
    assert [bits(one) for one in trainings[:2]] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_cells_of_another_plan_rhythm_or_game_are_not_stackable(make: Make) -> None:
    first = make("wgan")
    for others in (make("wgan", **{"critic.width": 8}), make("wgan:critic_steps=2"), make("cls-gan")):
        assert "differ in more than" in str(stackable([*first, *others]))
    assert stackable([]) == "there are no cells"
    first[0].precision = "bf16"
    assert "in fp32, not in bf16" in str(stackable(first))
    first[0].plan = first[0].plan.model_copy(update={"compile": True})
    first[0].precision = "fp32"
    assert stackable(first) == "stacks are not compiled"


def test_a_network_that_draws_looks_at_values_or_is_large_is_not_stackable(make: Make) -> None:
    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    for layer, why in ((nn.Dropout(), "vmap"), (Looking(), "vmap")):
        (one,) = make("wgan")
        one.players.critic.append(layer)  # type: ignore[operator]
        assert f"critic 'dcgan' does not run under torch.func.{why}" in str(stackable([one]))
    (large,) = make("wgan", **{"critic.width": 64})
    assert "convolutions that are too large" in str(stackable([large]))


def test_a_weight_that_nobody_uses_keeps_its_value_and_gets_no_state(make: Make) -> None:
    alone, stacked = make("wgan"), make("wgan")
    for one in (*alone, *stacked):
        one.players.critic.register_parameter("idle", nn.Parameter(torch.ones(3)))
        one.critic_optimizer.add_param_group({"params": [one.players.critic.idle]})
    assert stackable(stacked) is None
    before = stacked[0].players.critic.state_dict()["0.weight"].clone()
    stack = Stack(stacked)
    (played,) = stack.play()
    stack.release()
    assert isinstance(played, Played)
    alone[0].play()
    idle = stacked[0].players.critic.idle
    assert idle.tolist() == alone[0].players.critic.idle.tolist()  # clipped by neither more nor less than alone
    assert not stacked[0].critic_optimizer.state[idle]
    assert not torch.equal(stacked[0].players.critic.state_dict()["0.weight"], before)


def test_cells_of_large_images_are_not_stackable(make: Make) -> None:
    (one,) = make("wgan", **{"data.size": 28, "precision": "fp32"})
    assert stackable([one]) == "their images are large, 28x28"


def test_weight_normalised_critics_are_stacked_and_train_as_alone(make: Make) -> None:
    network = {"name": "table-1", "width": 4, "norm": "none", "weight_norm": True}
    changes = {"critic": network, "generator": network}
    alone, stacked = make("wgan", seeds=2, **changes), make("wgan", seeds=2, **changes)
    assert any("original0" in name for name, _ in stacked[0].players.critic.named_parameters())
    assert stackable(stacked) is None
    play(stacked, 2)
    for one, other in zip(alone, stacked, strict=True):
        one.play()
        one.play()
        found = other.players.critic.state_dict()
        for name, value in one.players.critic.state_dict().items():
            if "bias" not in name:  # of gradient 0 in this game, whose rounding Adam makes a whole step of
                torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
