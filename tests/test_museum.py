"""The bug museum: each exhibit is refused for its own bug, and its twin, a line away, is not."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import ganzoo
from ganzoo.checks import as_entry, run_checks
from ganzoo.classify import least_loss
from ganzoo.cli import app
from ganzoo.config import Cell
from ganzoo.data import ImageSet
from ganzoo.errors import UserError
from ganzoo.game import Critic, Need, Objective
from ganzoo.party import read_data
from ganzoo.penalty import perturbed_gradient
from ganzoo.train import Training
from ganzoo.zoo import Zoo
from museum_exhibits import Exhibit, corrected, entry_of, exhibits, harness_of, read, refused, report_of
from museum_laws import BATCH, CRITIC_STEPS, IMAGES, LAWS, Run, Weights, flat
from museum_table import PAGE, page

ALL = exhibits()
PLUGINS = [exhibit for exhibit in ALL if not exhibit.of_the_harness]
LOOPS = [exhibit for exhibit in ALL if exhibit.of_the_harness]
each_plugin = pytest.mark.parametrize("exhibit", PLUGINS, ids=lambda e: e.name)
each_loop = pytest.mark.parametrize("exhibit", LOOPS, ids=lambda e: e.name)


def beside(exhibit: Exhibit) -> list[str]:
    """The laws that can be asked of such a loop."""
    return [name for name in LAWS if (name == "harness-eval") == (exhibit.refused_by == "harness-eval")]


@each_plugin
def test_an_exhibit_is_refused_by_its_check_and_by_no_unrelated_one(exhibit: Exhibit) -> None:
    report = report_of(entry_of(exhibit))
    failed = {result.check_id for result in report.failures if result.required}
    assert exhibit.refused_by in failed, report.text()
    assert failed <= {exhibit.refused_by, *exhibit.also_by}, report.text()


@each_plugin
def test_its_corrected_twin_passes_every_required_check(exhibit: Exhibit) -> None:
    twin = corrected(exhibit.text)
    changed = [line for line in exhibit.text.splitlines() if line not in twin.splitlines()]
    assert len([line for line in changed if not line.strip().startswith("# ")]) <= 2  # a minimal change
    report = report_of(entry_of(exhibit, twin))
    assert report.passed, report.text()


@each_loop
def test_a_loop_breaks_its_law_and_no_unrelated_one(exhibit: Exhibit) -> None:
    broken = {name for name in beside(exhibit) if refused(LAWS[name], harness_of(exhibit))}
    assert exhibit.refused_by in broken
    assert broken <= {exhibit.refused_by, *exhibit.also_by}


@each_loop
def test_a_corrected_loop_keeps_every_law(exhibit: Exhibit) -> None:
    run = harness_of(exhibit, corrected(exhibit.text))
    assert {name: said for name in beside(exhibit) if (said := refused(LAWS[name], run))} == {}


# Our own harness under the same laws


@pytest.fixture
def ours(one_cell: Callable[..., Cell]) -> Run:
    """`Training`, playing the game that it is handed."""

    def play(game: Objective, seed: int, rounds: int) -> Weights:
        @ganzoo.objective
        def spy() -> Objective:
            return game

        plugin = ModuleType(__name__)
        vars(plugin)["spy"] = spy
        zoo = Zoo.installed()
        zoo.add(plugin)
        cell = one_cell("spy", seed=seed, zoo=zoo, recipe="native", batch_size=BATCH)
        training = Training(cell, zoo, read_data(cell.settings.data))
        assert len(training.data.train.images) == IMAGES
        assert cell.recipe.critic_steps == CRITIC_STEPS
        players = training.players
        before = flat(players.generator), flat(players.critic)
        for _ in range(rounds):
            training.play()
        return Weights((before[0], flat(players.generator)), (before[1], flat(players.critic)))

    def classify(critic: nn.Module, images: Tensor) -> Tensor:
        pixels = ((images + 1) * 127.5).round().to(torch.uint8)
        labelled = ImageSet("museum", pixels, None, ())
        return least_loss(critic, torch.device("cpu"))(labelled)

    return Run(play, classify)


@pytest.mark.parametrize("name", LAWS)
def test_our_own_harness_keeps_the_law(name: str, ours: Run) -> None:
    assert refused(LAWS[name], ours) == ""


# The museum


def test_there_are_many_of_every_kind_and_each_says_where_it_was_seen() -> None:
    assert len(ALL) >= 40
    assert {entry_of(exhibit).kind for exhibit in PLUGINS} == {"cost", "margin", "objective", "generator", "critic"}
    assert {exhibit.refused_by for exhibit in LOOPS} == set(LAWS)
    for exhibit in ALL:
        places = exhibit.reported + exhibit.seen
        assert re.search(r"\b[\w.-]+/[\w.-]+, (issue|pull request|[\w/-]+\.\w+)", places), exhibit.name
        assert exhibit.title.endswith(".")


def test_a_label_without_its_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unlabelled.py"
    path.write_text('"""A bug.\n\nWrong: it is.\nMeant: x.\n"""\n')
    with pytest.raises(UserError, match=r"exhibit unlabelled\.py: its docstring lacks Refused by"):
        read(path)


def test_the_cure_takes_the_place_of_the_line_below_it_and_a_missing_line_comes_in() -> None:
    text = "a\n    # cure: right\n    wrong\n  # cure: (nothing)\n  gone\n    # missing: here\nb\n"
    assert corrected(text) == "a\n    right\n    here\nb\n"


def test_the_command_refuses_an_exhibit_and_shows_its_counterexample() -> None:
    exhibit = next(exhibit for exhibit in PLUGINS if exhibit.name == "difference_of_means")
    result = CliRunner().invoke(app, ["check", str(exhibit.path)])
    assert result.exit_code == 1
    assert "margin-13" in result.output
    assert "the same pixels at other places" in result.output


def test_the_page_is_what_the_script_writes() -> None:
    def words(text: str) -> str:
        return re.sub(r"-?\d[\d.]*(e[+-]?\d+)?|\b(nan|inf)\b", "#", text)  # digits differ between machines

    assert words(PAGE.read_text(encoding="utf-8")) == words(page()), "run python benchmarks/museum_table.py"


# What the checks let through


def wasserstein(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return critic(real).mean() - critic(fake).mean()


def failures(function: Callable[..., Objective]) -> set[str]:
    return {result.check_id for result in run_checks(as_entry(function), examples=1).failures if result.required}


def with_penalty(penalty: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Objective]:
    """WGAN with a penalty of (N, d) gradients at real, at generated images and between them."""

    @ganzoo.objective
    def penalized() -> Objective:
        def gradient(critic: Critic, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].flatten(1)

        def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            middle = (real + fake) / 2
            at = (gradient(critic, x) for x in (real, fake, middle))
            return wasserstein(critic, real, fake) + penalty(*at)

        return Objective(critic_loss, needs=frozenset({Need.PER_SAMPLE}))

    return penalized


def test_sound_penalties_of_other_forms_pass() -> None:
    def both_sides(real: Tensor, fake: Tensor, middle: Tensor) -> Tensor:
        return (real.square().sum(dim=1) + fake.square().sum(dim=1)).mean()

    def one_sided_in_the_middle(real: Tensor, fake: Tensor, middle: Tensor) -> Tensor:
        return (torch.linalg.vector_norm(middle, dim=1) - 1).relu().square().mean()

    def largest_component(real: Tensor, fake: Tensor, middle: Tensor) -> Tensor:
        return (real.abs().amax(dim=1) - 1).square().mean()

    for penalty in (both_sides, one_sided_in_the_middle, largest_component):
        assert failures(with_penalty(penalty)) == set()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_penalty_about_real_or_about_generated_images_need_not_be_on_a_segment(swapped: bool) -> None:
    @ganzoo.objective
    def about() -> Objective:
        def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            return perturbed_gradient(critic, *((fake, real) if swapped else (real, fake)))

        return ganzoo.penalized(Objective(wasserstein), penalty, 10.0)

    assert failures(about) == set()


def test_a_penalty_with_the_wrong_sign_is_a_reward() -> None:
    assert failures(with_penalty(lambda real, fake, middle: -real.square().sum(dim=1).mean())) == {"objective-27"}


def test_a_penalty_squared_after_its_mean_is_refused() -> None:
    def after(real: Tensor, fake: Tensor, middle: Tensor) -> Tensor:
        return (torch.linalg.vector_norm(real, dim=1).mean() - 1).square()

    assert failures(with_penalty(after)) == {"objective-25"}


def test_pairs_shuffled_before_they_are_mixed_are_off_their_segments() -> None:
    @ganzoo.objective
    def shuffled() -> Objective:
        def penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            return ganzoo.unit_gradient(critic, real.roll(1, 0), fake)

        return ganzoo.penalized(Objective(wasserstein), penalty, 10.0)

    assert failures(shuffled) == {"objective-28"}


def test_minimax_may_say_that_its_generator_stands_still() -> None:
    def minimax() -> Objective:
        def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            return nn.functional.softplus(critic(real)).mean() + nn.functional.softplus(-critic(fake)).mean()

        return Objective(critic_loss, lambda critic, real, fake: -nn.functional.softplus(-critic(fake)).mean())

    assert failures(ganzoo.objective(minimax)) == {"objective-19"}


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.LayerNorm, lambda width: nn.GroupNorm(2, width)])
def test_wgan_clips_weights_and_no_scale_of_a_normalisation(make: Callable[[int], nn.Module]) -> None:
    norm = make(8)
    critic = nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 1))
    game = Zoo.installed().find("objective", "wgan").bind()(lambda a: a, lambda x, y: x)
    game.constrain(critic)
    assert all((p == 1).all() for name, p in norm.named_parameters() if name == "weight")
    assert all(p.abs().max() <= 0.01 for layer in (critic[0], critic[2]) for p in layer.parameters())
