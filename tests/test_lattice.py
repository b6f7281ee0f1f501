"""The lattice finds what is proved on paper, refutes what is not so, and tells of two cells that are one game."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command

from ganzoo import UserError, Zoo
from ganzoo.config import Contender, Plan, contenders
from ganzoo.lattice import Lattice, Same, answers, asked_of, cost_table, extras, lattice, played, relation, same_games

ZOO = Zoo.installed()
LOG_2 = math.log(2)


def asked(*texts: str, zoo: Zoo = ZOO) -> list[Contender]:
    return [one for text in texts for one in contenders(text, zoo, Plan())]


def related(one: str, other: str, zoo: Zoo = ZOO) -> Any:
    return relation(*(answers(contender, zoo) for contender in asked(one, other, zoo=zoo)))


def same(one: str, other: str, zoo: Zoo = ZOO) -> Same | None:
    found = same_games(asked(one, other, zoo=zoo), zoo)
    return found[0] if found else None


@pytest.fixture(scope="module")
def whole() -> Lattice:
    return lattice(ZOO)


def family_of(label: str, found: Lattice) -> set[str]:
    return next({one.label for one in family} for family in found.families if label in {one.label for one in family})


# What is proved on paper


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ls-gan", "gls-gan:slope=0"),
        ("ls-gan", "gls-gan:cost=relu"),
        ("gls-gan:cost=abs", "gls-gan:slope=-1"),
        ("gls-gan:cost=elu,alpha=0", "ls-gan"),
        ("ls-gan:penalty_weight=1", "ls-gan:penalty_weight=0,r1=1"),
        ("wgan-gp:penalty_weight=0", "gls-gan:cost=identity,margin=zero,penalty_weight=0"),
        ("rpgan:r1=0", "rpgan:r1=0.0"),
        ("ls-gan:scale=0", "ls-gan:margin=zero"),
        ("dcgan:theta_penalty=0", "dcgan"),
    ],
)
def test_one_game_under_two_names_is_found(one: str, other: str) -> None:
    found = same(one, other)
    assert found is not None
    assert (found.factor, found.constant) == (1.0, False)
    assert found.text == f"{one} and {other} are the same game: no difference in {found.games} random games"
    assert found.games >= 12 + 4


def test_gls_gan_of_slope_1_has_the_gradient_of_wgan_up_to_the_margin_s_constant() -> None:
    found = related("gls-gan:slope=1", "wgan")
    assert (found.critic, found.factor, found.constant) == (True, 1.0, "of the batch")
    assert (found.generator, found.bound) == (True, ">=")
    assert found.gap[0] >= 0.1  # E Delta
    unclipped = same("gls-gan:slope=1,penalty_weight=0", "wgan-gp:penalty_weight=0")
    assert unclipped is not None
    assert unclipped.constant
    assert "up to a constant in the critic's loss, which moves no weight" in unclipped.text
    # The clipping is part of the game, however wide.
    assert same("gls-gan:slope=1,penalty_weight=0", "wgan") is None
    assert same("wgan-gp:penalty_weight=0", "wgan:clip=1000") is None


def test_the_paired_hinge_has_ls_gan_s_critic_and_another_generator() -> None:
    found = related("rpgan:f=hinge", "ls-gan:margin=constant")
    assert (found.critic, found.constant, found.bound) == (True, "none", "=")
    assert not found.generator
    assert same("rpgan:f=hinge,r1=0,r2=0", "ls-gan:margin=constant,penalty_weight=0") is None


def test_rpgan_is_the_cost_softplus_without_margin() -> None:
    found = related("rpgan", "gls-gan:cost=softplus,margin=zero")
    assert (found.critic, found.constant, found.bound) == (True, "none", "=")


def test_hinge_bounds_ls_gan_of_margin_2_from_above_and_not_of_margin_3() -> None:
    found = related("hinge", "ls-gan:margin=constant,scale=2")
    assert (found.critic, found.bound) == (False, ">=")
    assert found.gap[0] == 0  # not what rounding leaves of it: at least, by -2e-15, is no sentence
    assert (found.games, found.steps) == (105, 24)
    assert related("hinge", "ls-gan:margin=constant,scale=2.1").bound == ""
    assert related("ls-gan:margin=constant,scale=2", "hinge").bound == "<="


@pytest.mark.parametrize(
    ("one", "other"),
    [("hinge", "ls-gan"), ("least-squares:b=2", "ragan"), ("ls-gan", "rpgan:f=hinge"), ("ls-gan", "ls-gan:p=2")],
)
def test_what_is_no_bound_is_refuted(one: str, other: str) -> None:
    """hinge against a margin that reaches 4.9; least squares at their zero; a margin that vanishes."""
    assert related(one, other).bound in ("", "<=")


def test_a_difference_comes_with_a_game_that_shows_it() -> None:
    found = related("gls-gan:slope=0", "gls-gan:slope=1")
    assert not found.critic
    assert found.witness.startswith("game 13 of 1 pair: S = 0 and -")
    assert found.witness.endswith("dS/dL(x_1) = 0 and 1")


def test_a_factor_is_told() -> None:
    found = related("ls-gan:balance=2", "ls-gan:balance=2,r1=0")
    assert (found.critic, found.factor, found.where) == (True, 1.0, "L >= 0")


def test_half_a_loss_is_the_same_game_up_to_a_factor(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.objective
    def halved() -> ganzoo.Objective:
        return ganzoo.Objective(lambda critic, real, fake: (critic(real).mean() - critic(fake).mean()) / 2)


    @ganzoo.objective
    def shifted() -> ganzoo.Objective:
        return ganzoo.Objective(lambda critic, real, fake: critic(real).mean() - critic(fake).mean() + 3)


    @ganzoo.objective
    def turned() -> ganzoo.Objective:
        return ganzoo.Objective(lambda critic, real, fake: critic(fake).mean() - critic(real).mean())


    @ganzoo.objective
    def aimless() -> ganzoo.Objective:
        return ganzoo.Objective(
            lambda critic, real, fake: critic(real).mean() - critic(fake).mean(),
            lambda critic, real, fake: critic(fake).square().mean(),
        )
    """)
    )
    half = same("wgan-gp:penalty_weight=0", "halved", own)
    assert half is not None
    assert half.factor == pytest.approx(2)
    assert "up to a factor of 2 in the critic's loss" in half.text
    shift = related("shifted", "wgan", own)
    assert (shift.critic, shift.constant, shift.gap) == (True, "fixed", (pytest.approx(3), pytest.approx(3)))
    # The opposite game takes the opposite steps.
    assert not related("turned", "wgan", own).critic
    assert same("wgan-gp:penalty_weight=0", "aimless", own) is None
    assert related("aimless", "wgan", own).critic


# What a game has besides


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ls-gan", "0.1 r1"),
        ("ls-gan:balance=2", "0.1 r1"),
        ("rpgan", "0.05 r1 + 0.05 r2"),
        ("wgan-gp", "10 unit_gradient"),
        ("hinge:dragan=3", "3 dragan"),
        ("dcgan:theta_penalty=0.2", "0.2 theta_penalty"),
        ("wgan", "constrains the weights"),
        ("cls-gan", "under labels"),
        ("cls-gan:r2=2", "2 r2, under labels"),
        ("supervised", "under labels, no generator"),
        ("dcgan", ""),
    ],
)
def test_penalties_are_told_by_name_and_weight(text: str, wanted: str) -> None:
    (contender,) = asked(text)
    assert extras(answers(contender, ZOO)) == wanted


def test_a_penalty_that_nobody_knows_is_called_its_own(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.objective
    def strange() -> ganzoo.Objective:
        def cubed(critic, real, fake):
            return ganzoo.fake_gradient(critic, real, fake) ** 3

        game = ganzoo.Objective(lambda critic, real, fake: critic(real).mean() - critic(fake).mean())
        return ganzoo.penalized(game, cubed, 1.0)
    """)
    )
    (contender,) = asked("strange", zoo=own)
    assert extras(answers(contender, own)) == "a penalty of its own"


# The whole


def test_the_listing_has_the_families_of_the_paper(whole: Lattice) -> None:
    assert {"ls-gan", "gls-gan:slope=0", "gls-gan:cost=relu"} <= family_of("ls-gan", whole)
    assert {"wgan", "wgan-gp", "gls-gan:slope=1", "gls-gan:cost=identity"} == family_of("wgan", whole)
    assert {"rpgan", "gls-gan:cost=softplus,margin=zero"} == family_of("rpgan", whole)
    assert {"rpgan:f=hinge", "ls-gan:margin=constant"} <= family_of("rpgan:f=hinge", whole)
    assert {"cls-gan", "ls-gan:balance=10"} == family_of("cls-gan", whole)
    for lonely in ("dcgan", "hinge", "least-squares", "ragan", "ebgan"):
        assert family_of(lonely, whole) == {lonely}
    assert not whole.left_out
    # What follows from a relation that is told at another value of the same hyperparameter is not told again.
    assert not [one.label for family in whole.families for one in family if one.label.endswith(":balance=1")]


def test_every_installed_objective_is_in_the_listing(whole: Lattice) -> None:
    shown = {one.objective for family in whole.families for one in family}
    assert shown == set(ZOO.names("objective"))


def test_the_listing_has_the_bounds_that_hold(whole: Lattice) -> None:
    bounds = {(bound.above, bound.below) for bound in whole.bounds}
    assert ("hinge", "ls-gan:margin=constant,scale=2") in bounds
    # softplus(a) + softplus(b) >= softplus(a + b), and ((1 + a)^2 + (1 - b)^2) / 2 >= max(0, 1 + a - b).
    assert ("dcgan", "rpgan") in bounds
    assert ("least-squares", "ls-gan:margin=constant") in bounds or ("least-squares", "rpgan:f=hinge") in bounds
    assert ("rpgan", "ls-gan:scale=0") in bounds or ("rpgan", "ls-gan:margin=zero") in bounds
    for above, below in bounds:
        assert related(above, below).bound == ">=", (above, below)
        assert above.partition(":")[0] != below.partition(":")[0]


def test_a_critic_that_is_trained_alone_bounds_no_game(whole: Lattice) -> None:
    assert not [bound for bound in whole.bounds if "supervised" in (bound.above, bound.below)]


def test_a_bound_that_follows_from_others_is_left_out(whole: Lattice) -> None:
    bounds = {(bound.above, bound.below) for bound in whole.bounds}
    for above, middle in bounds:
        for also, below in bounds:
            assert middle != also or (above, below) not in bounds


def test_a_penalty_that_flat_critics_pay_bounds_nothing(whole: Lattice) -> None:
    """(||grad L|| - 1)^2 is 1 on them: that is no part of the game on the outputs."""
    assert not [bound for bound in whole.bounds if "wgan-gp" in bound.above + bound.below]


def test_costs_stand_in_their_order_and_softplus_breaks_ii_by_log_2() -> None:
    found = cost_table(ZOO)
    groups = {group for group in found.same if len(group) > 1}
    assert groups == {
        ("abs", "leaky:slope=-1"),
        ("relu", "elu:alpha=0", "leaky:slope=0"),
        ("identity", "leaky:slope=1"),
    }
    assert set(found.above) == {
        ("abs", "relu"), ("relu", "leaky"), ("leaky", "elu"), ("elu", "identity"), ("softplus", "relu"),
    }  # fmt: skip
    assert found.breaks == {"softplus": f"keeps (I) and breaks (II) by at most {LOG_2:.6g}, at a = 0"}


def test_a_cost_below_a_breaks_condition_i(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.cost
    def low(a: torch.Tensor) -> torch.Tensor:
        return torch.where(a >= 0, a, 2 * a)
    """)
    )
    assert cost_table(own).breaks["low"] == "breaks (I) by at most 100, at a = -100 and keeps (II)"
    assert ("identity", "low") in cost_table(own).above


def test_a_stranger_s_plugins_find_their_place(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.objective
    def mine(slack: float = 1.0) -> ganzoo.Objective:
        return ganzoo.Objective(lambda critic, real, fake: (slack + critic(real) - critic(fake)).relu().mean())


    @ganzoo.objective
    def broken() -> ganzoo.Objective:
        return ganzoo.Objective(lambda critic, real, fake: critic.nothing)
    """)
    )
    found = lattice(own, ["mine", "broken", "rpgan"])
    assert family_of("mine", found) == {"mine", "rpgan:f=hinge"}
    (left_out,) = found.left_out
    assert left_out.startswith("broken fails: AttributeError")
    assert {one.objective for family in found.families for one in family} == {"mine", "rpgan"}


def test_what_is_asked_lies_within_the_domains_or_is_passed_over() -> None:
    texts = list(asked_of(ZOO.find("objective", "gls-gan"), ZOO))
    assert {"gls-gan", "gls-gan:slope=0", "gls-gan:slope=1", "gls-gan:cost=softplus,margin=zero"} <= set(texts)
    assert "gls-gan:cost=elu,alpha=0" in texts
    assert "gls-gan:margin=constant,scale=2" in texts
    assert len(texts) < 80


# Two cells of one comparison


def test_of_the_paper_s_objectives_no_two_are_one_game() -> None:
    assert same_games(asked("ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"), ZOO) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hinge", "hinge:critic_steps=2"),
        ("ls-gan", "ls-gan:penalty_weight=0.2"),
        ("ls-gan", "ls-gan:theta_penalty=0.1"),
        ("dcgan", "dcgan:feature_matching=1"),
        ("cls-gan", "cls-gan:unlabeled_weight=1"),
        ("cls-gan:unlabeled_weight=1", "cls-gan:unlabeled_weight=2"),
        ("cls-gan", "ls-gan:balance=10,penalty_weight=0"),
        ("least-squares", "least-squares:c=2"),
        ("ls-gan", "ls-gan:balance=2"),
        ("wgan", "wgan:clip=0.02"),
    ],
)
def test_two_games_are_not_taken_for_one(one: str, other: str) -> None:
    assert same(one, other) is None


def test_of_several_that_are_one_each_is_told_with_the_first() -> None:
    found = same_games(asked("gls-gan:slope=0", "hinge", "ls-gan", "gls-gan:cost=relu"), ZOO)
    assert [(one.one, one.other) for one in found] == [
        ("gls-gan:slope=0", "ls-gan"),
        ("gls-gan:slope=0", "gls-gan:cost=relu"),
    ]


def test_with_native_recipes_the_recipe_is_part_of_the_game() -> None:
    pair = asked("wgan-gp:penalty_weight=0", "gls-gan:cost=identity,margin=zero,penalty_weight=0")
    assert len(same_games(pair, ZOO, "shared")) == 1
    assert same_games(pair, ZOO, "native") == []


def test_looking_disturbs_nobody_s_randomness_and_gives_the_same_answer_twice() -> None:
    before = torch.get_rng_state()
    (contender,) = asked("wgan-gp")
    one, other = answers(contender, ZOO), answers(contender, ZOO)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.values, other.values)
    assert torch.equal(played(one).penalty, played(other).penalty)


# The command


def test_the_command_tells_of_two(ganzoo: Command) -> None:
    status, out, err = ganzoo("lattice", "hinge", "ls-gan:margin=constant,scale=2")
    assert (status, err) == (0, "")
    assert out.startswith("hinge and ls-gan:margin=constant,scale=2\n")
    assert "its loss is at least the other's in all 105 games" in out
    status, out, _ = ganzoo("lattice", "ls-gan", "gls-gan:slope=0,1", "--json")
    found = json.loads(out)
    assert [(pair["one"], pair["other"], pair["same_game"]) for pair in found] == [
        ("ls-gan", "gls-gan:slope=0", True),
        ("ls-gan", "gls-gan:slope=1", False),
        ("gls-gan:slope=0", "gls-gan:slope=1", False),
    ]


def test_one_name_is_compared_with_every_objective(ganzoo: Command) -> None:
    _, out, _ = ganzoo("lattice", "gls-gan:slope=0", "--json")
    found = json.loads(out)
    assert {pair["other"] for pair in found} == set(ZOO.names("objective"))
    assert [pair["other"] for pair in found if pair["same_game"]] == ["ls-gan"]


def test_two_games_leave_half_of_a_narrow_terminal_to_the_words(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    _, out, _ = ganzoo("lattice", "wgan", "dcgan")
    assert all(len(line) - len(line.lstrip()) <= 10 for line in out.splitlines())
    assert max(map(len, out.splitlines())) <= 20


@pytest.mark.parametrize("columns", [20, 60, 200])
def test_the_listing_fits_the_terminal(columns: int, ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, err = ganzoo("lattice", "-o", "rpgan", "-o", "ls-gan")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    widest = max(len(word) for word in out.split())
    assert max(map(len, lines)) <= max(min(columns, 110), widest + 4)
    for word in ("rpgan:f=hinge", "ls-gan:margin=constant", "0.693147,", "proof."):
        assert word in out


def test_the_listing_as_json_says_what_was_found(ganzoo: Command) -> None:
    _, out, _ = ganzoo("lattice", "-o", "rpgan", "-o", "ls-gan", "--json")
    found = json.loads(out)
    assert set(found) == {"games", "families", "bounds", "costs", "left_out"}
    (family,) = (family for family in found["families"] if len(family) > 1)
    assert {member["label"]: member["same_generator"] for member in family} == {
        "rpgan:f=hinge": True,
        "ls-gan:margin=constant": False,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("leeky",), "no objective named 'leeky'"),
        (("gls-gan:slope=2", "ls-gan"), "slope = 2 is outside its domain"),
        (("-o", "hinges"), "did you mean 'hinge'"),
        (("lsgan", "hinge"), "ambiguous"),
    ],
)
def test_a_slip_is_one_line(arguments: tuple[str, ...], words: str, ganzoo: Command) -> None:
    status, out, err = ganzoo("lattice", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_of_nothing_there_is_no_lattice(ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    wanted = "neither an objective nor a cost is installed (GANZOO_PLUGINS lets in nothing that is installed)"
    assert ganzoo("lattice") == (2, "", f"ganzoo: {wanted}\n")


@pytest.mark.usefixtures("unmeasured")
def test_bench_says_that_two_cells_are_one_game(ganzoo: Command, tiny_arguments: list[str]) -> None:
    arguments = ("bench", "-o", "ls-gan", "-o", "gls-gan:slope=0,0.5", "--dry-run", *tiny_arguments)
    status, _, err = ganzoo(*arguments)
    assert status == 0
    assert "note: ls-gan and gls-gan:slope=0 are the same game: no difference in" in err
    assert "slope=0.5" not in err
    assert os.listdir() == []


def test_a_name_that_there_is_not_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match="no objective named 'hinges'; did you mean 'hinge'"):
        lattice(ZOO, ["hinges"])
