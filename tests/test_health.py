"""Each figure of health against a computation of its own; to measure it changes nothing; alarms say what they saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import made_row
from torch import Tensor, nn
from torch.nn import functional as F

from ganzoo import health as measuring
from ganzoo import result
from ganzoo.config import Cell
from ganzoo.data import scaled
from ganzoo.errors import UserError
from ganzoo.game import Critic
from ganzoo.health import alarms, gradient_norm, health, nearest
from ganzoo.party import prepare, train_cell
from ganzoo.randomness import stream
from ganzoo.result import read_pictures
from ganzoo.train import Training
from ganzoo.zoo import Zoo

SHAPE = (2, 3, 4)


def images(n: int, name: str) -> Tensor:
    return torch.rand(n, *SHAPE, generator=stream("health", name), dtype=torch.float64) * 2 - 1


def measured(
    critic: Callable[[Tensor], Tensor], margin: Tensor | None, n: int = 50, **changes: Any
) -> measuring.Health:
    generator = nn.Linear(1, 1)
    given = {
        "on_test": critic(images(7, "test")),
        "margin": margin,
        "generator_loss": lambda: generator.weight.sum(),
        **changes,
    }
    return health(critic, generator, images(n, "real"), images(n, "fake"), **given)


def test_the_figures_of_a_linear_critic_are_those_of_its_formula() -> None:
    weight = torch.randn(SHAPE, generator=stream("weight"), dtype=torch.float64)
    margin = torch.rand(50, generator=stream("margin"), dtype=torch.float64)
    found = measured(lambda x: (x * weight).flatten(1).sum(dim=1) + 3, margin)
    w = weight.numpy().ravel()
    real, fake, test = (images(n, name).numpy().reshape(n, -1) for n, name in ((50, "real"), (50, "fake"), (7, "test")))
    violated = [d + w @ x - w @ g > 0 for x, g, d in zip(real, fake, margin.numpy(), strict=True)]
    assert 0 < sum(violated) < 50
    assert found.violation_rate == pytest.approx(sum(violated) / 50)
    assert found.mean_margin == pytest.approx(margin.numpy().mean())
    assert found.critic_gap == pytest.approx(w @ (fake.mean(0) - real.mean(0)))
    assert found.critic_gap_test == pytest.approx(w @ (fake.mean(0) - test.mean(0)))
    assert found.dead_outputs == 0
    assert found.generator_gradient == 1
    assert measured(lambda x: (x * weight).flatten(1).sum(dim=1), None).mean_margin is None


def test_without_a_margin_it_counts_the_pairs_that_are_ranked_wrongly() -> None:
    real, fake = images(50, "real"), images(50, "fake")
    found = measured(lambda x: x[:, 0, 0, 0], None)
    assert found.violation_rate == pytest.approx(float((real[:, 0, 0, 0] > fake[:, 0, 0, 0]).double().mean()))
    assert measured(lambda x: x[:, 0, 0, 0] * 0 + 1, None).violation_rate == 0  # a tie is not above 0


def test_a_relu_at_the_end_is_dead_where_its_output_is_0() -> None:
    def critic(x: Tensor) -> Tensor:
        return F.relu(x.flatten(1).sum(dim=1))

    dead = torch.cat([critic(images(50, name)) == 0 for name in ("real", "fake")])
    assert 0.2 < float(dead.double().mean()) < 0.8
    assert measured(critic, None).dead_outputs == pytest.approx(float(dead.double().mean()))
    flat = measured(lambda x: 1e-30 * x.flatten(1).sum(dim=1), None)
    assert flat.dead_outputs == 0  # flat is not dead


def test_saturation_counts_the_pixels_near_black_and_white() -> None:
    fake = torch.zeros(4, *SHAPE)
    fake[0] = 1.0
    fake[1, 0] = -1.0
    found = health(
        lambda x: x.flatten(1).sum(dim=1), nn.Linear(1, 1), torch.zeros(4, *SHAPE), fake,
        on_test=torch.zeros(1), margin=None, generator_loss=lambda: torch.zeros((), requires_grad=True),
    )  # fmt: skip
    assert found.saturation == pytest.approx((24 + 12) / 96)
    assert found.generator_gradient == 0


def test_the_generators_gradient_is_that_of_finite_differences() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    z = torch.rand(5, 3, generator=stream("z"), dtype=torch.float64)

    def loss() -> Tensor:
        made: Tensor = network(z)
        return made.square().mean()

    total = 0.0
    for parameter in network.parameters():
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            before = flat[i].item()
            flat[i] = before + 1e-6
            above = loss().item()
            flat[i] = before - 1e-6
            total += ((above - loss().item()) / 2e-6) ** 2
            flat[i] = before
    assert gradient_norm(network, loss) == pytest.approx(total**0.5, rel=1e-6)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_images_that_do_not_pair_up_are_refused() -> None:
    loss = {"on_test": torch.zeros(1), "margin": None, "generator_loss": lambda: torch.zeros(())}
    with pytest.raises(UserError, match="are no pairs"):
        health(lambda x: x, nn.Linear(1, 1), images(3, "a"), images(4, "b"), **loss)
    with pytest.raises(UserError, match=r"the margin has shape \(3, 1\), not \(3,\)"):
        health(lambda x: x, nn.Linear(1, 1), images(3, "a"), images(3, "b"), **{**loss, "margin": torch.zeros(3, 1)})


# The nearest training image


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_the_nearest_image_is_the_one_that_a_search_through_all_finds(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "NEAREST_AT_ONCE", at_once)
    draw = np.random.default_rng(0)
    known, asked = (draw.integers(0, 256, (n, 3, 5, 5), dtype=np.uint8) for n in (11, 4))
    known[7] = known[2]
    asked[0] = known[2]
    place, distance = nearest(torch.from_numpy(known), torch.from_numpy(asked))
    far = np.abs(asked[:, None] / 127.5 - known[None] / 127.5).mean(axis=(2, 3, 4))
    assert place.tolist() == far.argmin(axis=1).tolist()
    assert place[0] == 2
    assert distance.tolist() == pytest.approx(far.min(axis=1).tolist())
    assert distance[0] == 0
    with pytest.raises(UserError, match="cannot be compared"):
        nearest(torch.zeros(0, 3, 5, 5, dtype=torch.uint8), torch.from_numpy(asked))


# Of a real training


@pytest.fixture(scope="module")
def trained(
    one_cell: Callable[..., Cell], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """The folder and the row of an objective's cell."""
    known: dict[str, tuple[Path, dict[str, Any]]] = {}

    def made(objective: str) -> tuple[Path, dict[str, Any]]:
        if objective not in known:
            folder = tmp_path_factory.mktemp("health") / "cell"
            folder.mkdir()
            (folder / "cell.json").write_text(one_cell(objective).model_dump_json())
            known[objective] = folder, train_cell(folder)
        return known[objective]

    return made


OBJECTIVES = ["gls-gan:slope=0.1", "wgan-gp", "dcgan", "cls-gan"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_holds_what_its_checkpoint_shows(
    objective: str, trained: Callable[[str], tuple[Path, dict[str, Any]]]
) -> None:
    folder, row = trained(objective)
    training = prepare(folder)
    found, players = row["health"], training.players
    real = training.data.train.first(256)
    x, labels = scaled(real.images), real.labels if players.classes else None
    z = torch.rand(len(x), 3, generator=stream("z", "health", 0)) * 2 - 1
    players.generator.eval()
    players.critic.eval()
    with torch.no_grad():
        fake = players.generate(z, labels)
        loss = players.loss(labels)
        a = loss(x) - loss(fake)
        if row["margin"]:
            delta = 2.4576 * (x - fake).abs().flatten(1).mean(dim=1)  # the margin `lp` at its defaults
            assert found["mean_margin"] == pytest.approx(float(delta.mean()), rel=1e-5)
            a = a + delta
        else:
            assert found["mean_margin"] is None
    assert found["violation_rate"] == pytest.approx(float((a > 0).double().mean()), abs=1.5 / len(x))
    assert found["critic_gap"] == pytest.approx((loss(fake).mean() - loss(x).mean()).item(), rel=1e-4)
    game = training.game.generator_loss(loss, x, players.generate(z, labels))
    game.backward()
    squares = sum(float(p.grad.double().square().sum()) for p in players.generator.parameters() if p.grad is not None)
    assert found["generator_gradient"] == pytest.approx(squares**0.5, rel=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_to_measure_it_changes_no_other_figure(
    objective: str,
    trained: Callable[[str], tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, row = trained(objective)
    (tmp_path / "cell.json").write_bytes((folder / "cell.json").read_bytes())
    monkeypatch.setattr(result, "_health", lambda training: None)
    monkeypatch.setattr(result, "_nearest", lambda training, images, name: {})
    monkeypatch.setattr(result, "_cost_shape", lambda training: {})
    without = train_cell(tmp_path)
    assert without.pop("health") is None
    assert {key: value for key, value in row.items() if key not in ("health", "provenance")} == {
        key: value for key, value in without.items() if key != "provenance"
    }
    mine, its = (read_pictures(one) for one in (tmp_path, folder))
    assert all((its[name] == mine[name]).all() for name in mine)
    assert {"samples_nearest", "nearest"} <= set(its) - set(mine)


def test_to_measure_it_leaves_networks_modes_gradients_and_random_numbers_alone(
    one_cell: Callable[..., Cell], zoo: Zoo
) -> None:
    from ganzoo.party import read_data

    cell = one_cell("ragan")
    training = Training(cell, zoo, read_data(cell.settings.data))
    training.run()
    networks = (training.players.generator, training.players.critic)
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    modes = [module.training for network in networks for module in network.modules()]
    for network in networks:
        network.zero_grad(set_to_none=True)
    state = torch.get_rng_state()

    def drawing(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (critic(fake) * torch.rand(len(fake))).mean()

    training.game = training.game._replace(generator_loss=drawing)
    first, again = result._health(training), result._health(training)
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for network in networks for module in network.modules()]
    for network, known in zip(networks, before, strict=True):
        assert all(torch.equal(value, known[key]) for key, value in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())


def test_the_pictures_keep_the_nearest_training_images_and_the_shape_of_the_cost(
    trained: Callable[[str], tuple[Path, dict[str, Any]]],
) -> None:
    folder, _ = trained("gls-gan:slope=0.1")
    kept, training = read_pictures(folder), prepare(folder)
    known = training.data.train.images.numpy() / 127.5
    for name, of in (("nearest", kept["originals"]), ("samples_nearest", kept["samples"][:8])):
        far = np.abs(known[None] - of[:, None] / 127.5).mean(axis=(2, 3, 4))
        assert (kept[name] / 127.5 == known[far.argmin(axis=1)]).all()
        assert kept[f"{name}_errors"] == pytest.approx(far.min(axis=1), rel=1e-5)
    a = kept["cost_a"]
    assert (a[0], a[120], a[-1], len(a)) == (-3, 0, 3, 241)
    assert kept["cost"] == pytest.approx(np.where(a >= 0, a, 0.1 * a), abs=1e-6)
    assert "cost" not in read_pictures(trained("dcgan")[0])


# Alarms


def named(row: dict[str, Any], expected: float | None = 0.97) -> list[tuple[str, str]]:
    return [(alarm.name, alarm.level) for alarm in alarms(row, expected)]


def with_health(**changes: Any) -> dict[str, Any]:
    row = made_row("a", 0, 0.15)
    return {**row, "health": {**row["health"], **changes}}


def test_a_sound_training_raises_none() -> None:
    assert named(made_row("a", 0, 0.15)) == []
    assert named({**made_row("a", 0, 0.15), "verdict": "failed:oom"}) == []
    assert named({**made_row("a", 0, 0.15), "health": None, "collapse": None}) == []


@pytest.mark.parametrize(
    ("row", "name", "level", "saw"),
    [
        (made_row("a", 0, 0.1, verdict="diverged@7", reason="S is nan"), "diverged", "alarm", "diverged@7: S is nan"),
        (made_row("a", 0, 0.1, collapse={"spread": 0.31, "coverage": 0.0}), "collapse", "alarm", "0.31"),
        (made_row("a", 0, 0.1, collapse={"spread": 0.9, "least_spread": 0.2}), "collapse", "alarm", "poorest class"),
        (
            made_row("a", 0, 0.1, collapse={"spread": 0.9, "coverage": 0.2}),
            "coverage",
            "note",
            "20% of the test images",
        ),
        (with_health(violation_rate=0.995), "always violated", "note", "100% of pairs"),
        (with_health(violation_rate=0.0), "never violated", "note", "no pair"),
        (with_health(dead_outputs=0.25), "dead outputs", "alarm", "at 25% of the images"),
        (with_health(generator_gradient=1e-9), "vanished gradient", "alarm", "1.0e-09"),
        (with_health(saturation=0.95), "saturated", "note", "95%"),
        (with_health(critic_gap=1.0, critic_gap_test=0.4), "critic remembers", "note", "only 0.4"),
        (made_row("a", 0, 0.1, control_mre=0.06), "blunt instrument", "alarm", "60% of the test MRE"),
        (made_row("a", 0, 0.1, test_mre_last=0.12), "got worse", "note", "0.1200 at the end, 0.1000"),
        (made_row("a", 0, 0.1, gap=0.03), "remembers", "note", "30%"),
        (made_row("a", 0, 0.1, settled=False), "not settled", "note", "5 %"),
    ],
)
def test_an_alarm_says_what_it_saw_and_what_to_try(row: dict[str, Any], name: str, level: str, saw: str) -> None:
    assert named(row) == [(name, level)]
    (alarm,) = alarms(row, 0.97)
    assert saw in alarm.saw
    assert len(alarm.cure) > 10


@pytest.mark.parametrize(
    "row",
    [
        made_row("a", 0, 0.1, collapse={"spread": 0.5, "coverage": 0.25}),
        with_health(violation_rate=0.98),
        with_health(violation_rate=1.0, mean_margin=None),
        with_health(violation_rate=0.0, mean_margin=None),
        with_health(dead_outputs=0.09),
        with_health(generator_gradient=1e-5),
        with_health(critic_gap=-1.0, critic_gap_test=-2.0),
        made_row("a", 0, 0.1, control_mre=0.05),
        made_row("a", 0, 0.1, gap=-0.05),
    ],
)
def test_no_alarm_is_raised_on_the_sound_side_of_a_threshold(row: dict[str, Any]) -> None:
    assert named(row) == []
