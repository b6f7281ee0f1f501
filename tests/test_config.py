"""A plan says what it says: grids, labels and hashes; each slip of a hand is one line that names it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ganzoo.config import Cell, Contender, Plan, cells, contenders, default_objectives, read_plan, value_of
from ganzoo.errors import UserError
from ganzoo.game import Need
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]
MakePlan = Callable[..., Plan]


def asked(text: str, zoo: Zoo, **changes: Any) -> list[Contender]:
    return contenders(text, zoo, read_plan(None, **changes))


def slip(text: str, zoo: Zoo, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        asked(text, zoo)
    assert "\n" not in str(caught.value)


# Objectives and their grids


def test_a_grid_is_every_combination_in_the_order_typed(zoo: Zoo) -> None:
    found = asked("gls-gan:slope=0,0.5,penalty_weight=1,2", zoo)
    assert [(c.cost_hyperparameters["slope"], c.hyperparameters["penalty_weight"]) for c in found] == [
        (0, 1),
        (0, 2),
        (0.5, 1),
        (0.5, 2),
    ]
    assert [c.label for c in found][1] == "gls-gan:slope=0,penalty_weight=2"


def test_a_label_holds_what_was_asked_and_no_default(zoo: Zoo) -> None:
    (plain,) = asked("gls-gan", zoo)
    assert plain.label == "gls-gan"
    assert plain.cost == "leaky"
    assert plain.cost_hyperparameters == {"slope": 0.01}
    assert plain.margin == "lp"
    (other,) = asked("gls-gan:cost=elu", zoo)
    assert other.label == "gls-gan:cost=elu"
    assert other.cost == "elu"
    assert other.cost_hyperparameters == {"alpha": 1.0}


def test_costs_and_margins_of_the_plan_are_taken_where_none_is_named(zoo: Zoo) -> None:
    (one,) = asked("gls-gan", zoo, cost="elu", margin="zero")
    assert (one.cost, one.margin) == ("elu", "zero")
    (two,) = asked("gls-gan:cost=abs", zoo, cost="elu")
    assert two.cost == "abs"


def test_a_dotted_key_says_whose_hyperparameter_is_meant(zoo: Zoo) -> None:
    (found,) = asked("gls-gan:margin.scale=2.0,cost.slope=-1", zoo)
    assert found.margin_hyperparameters["scale"] == 2.0
    assert found.cost_hyperparameters["slope"] == -1


def test_an_ambiguous_key_asks_for_the_dotted_one(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.cost
    def scaled(a, scale: float = 1.0):
        return a * scale
    """)
    )
    slip("gls-gan:cost=scaled,scale=2.0", own, r"'gls-gan': several have a scale; say cost\.scale or margin\.scale")
    (found,) = asked("gls-gan:cost=scaled,cost.scale=2.0", own)
    assert found.cost_hyperparameters == {"scale": 2.0}


def test_duplicates_collapse(zoo: Zoo) -> None:
    assert len(asked("gls-gan:slope=0.5,0.5,0.1", zoo)) == 2
    plan = read_plan(None, objectives=["dcgan", "dcgan", "gls-gan:slope=0.5", "gls-gan:slope=0.5"], seeds=2)
    assert len(cells(plan, zoo)) == 4


def test_none_is_a_value(zoo: Zoo) -> None:
    none, some = asked("ls-gan:balance=none,2.0", zoo)
    assert none.hyperparameters["balance"] is None
    assert none.label == "ls-gan:balance=none"
    assert some.hyperparameters["balance"] == 2.0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gls-gann", "no objective named 'gls-gann'; did you mean 'gls-gan'"),
        ("lsgan", r"'lsgan' is ambiguous: ls-gan \(loss-sensitive, Qi 2017\) or least-squares \(Mao 2017\)"),
        ("", "no objective named ''"),
        ("gls-gan:slop=1", "objective 'gls-gan' has no hyperparameter 'slop'; did you mean 'slope'"),
        ("gls-gan:cost=leeky", "no cost named 'leeky'; did you mean 'leaky'"),
        ("gls-gan:margin=zeros", "no margin named 'zeros'; did you mean 'zero'"),
        ("wgan:cost=leaky", "objective 'wgan' takes no cost; gls-gan does"),
        ("dcgan:margin=lp", "objective 'dcgan' takes no margin; .*gls-gan"),
        ("gls-gan:slope=1.5", r"cost 'leaky': slope = 1.5 is outside its domain \(float, <= 1\)"),
        ("gls-gan:slope=nan", "slope = nan is outside its domain"),
        ("gls-gan:slope=inf", "slope = inf is outside its domain"),
        ("gls-gan:slope=high", "slope = 'high' is outside its domain"),
        ("gls-gan:slope=true", "slope = True is outside its domain"),
        ("wgan:clip=0", "clip = 0 is outside its domain"),
        ("gls-gan:0.5", "expected KEY=VALUE after the colon, not '0.5'"),
        ("gls-gan:slope=", "slope has no value"),
        ("gls-gan:slope=1,", "slope has no value"),
        ("gls-gan:critic.width=3", "objective 'gls-gan' has no hyperparameter 'critic.width'"),
        ("gls-gan:objective.self=3", "has no hyperparameter 'self'"),
        (
            "dcgan:theta_penalti=1",
            "objective 'dcgan' has no hyperparameter 'theta_penalti'; did you mean 'theta_penalty'",
        ),
        ("dcgan:theta_penalty=-0.1", r"'dcgan': theta_penalty = -0.1 is outside its domain \(float, >= 0, <= 1e6\)"),
        ("dcgan:theta_penalty=nan", "theta_penalty = nan is outside its domain"),
        ("dcgan:theta_penalty=inf", "theta_penalty = inf is outside its domain"),
        ("dcgan:theta_penalty=true", "theta_penalty = True is outside its domain"),
        ("dcgan:theta_penalty=none", "theta_penalty = None is outside its domain"),
        ("gls-gan:feature_matching=much", "feature_matching = 'much' is outside its domain"),
        ("gls-gan:feature_matching=2000000", "feature_matching = 2000000 is outside its domain"),
        ("gls-gan:cost.theta_penalty=1", "cost 'leaky' has no hyperparameter 'theta_penalty'; there are: slope"),
        ("dcgan:critic_steps=0", "'dcgan': critic_steps = 0: input should be greater than or equal to 1"),
        ("dcgan:critic_steps=2.5", "'dcgan': critic_steps = 2.5: input should be a valid integer"),
        ("dcgan:critic_step=2", "has no hyperparameter 'critic_step'; did you mean 'critic_steps'"),
        ("cls-gan:unlabeled_weight=0", "unlabeled_weight = 0 is outside its domain"),
    ],
)
def test_each_slip_in_an_objective_is_one_line_that_names_it(text: str, match: str, zoo: Zoo) -> None:
    slip(text, zoo, match)


def test_strangers_costs_are_played_by_every_objective_that_takes_one(zoo: Zoo, plugin: Callable[..., Path]) -> None:
    ours = default_objectives(zoo, Plan())
    own = Zoo.installed(
        plugin("""
    @ganzoo.cost
    def mine(a):
        return a
    """)
    )
    assert set(default_objectives(own, Plan())) - set(ours) == {"gls-gan:cost=mine"}
    assert {cell.contender.label for cell in cells(read_plan(None), own)} == {*ours, "gls-gan:cost=mine"}


# What any objective can be given, and what a plan's measure and labels make sense for


def test_every_objective_takes_penalty_ii_and_feature_matching(zoo: Zoo) -> None:
    for name in zoo.names("objective"):
        off, on = asked(f"{name}:theta_penalty=0,0.1,feature_matching=2", zoo)
        assert (off.theta_penalty, on.theta_penalty) == (0.0, 0.1)
        assert off.feature_matching == on.feature_matching == 2.0
        assert on.label == f"{name}:theta_penalty=0.1,feature_matching=2"
        own = asked(name, zoo)[0].game(zoo).needs
        assert off.game(zoo).needs == own | {Need.FEATURES}
        assert on.game(zoo).needs == own | {Need.FEATURES, Need.PER_SAMPLE}


def test_a_contender_may_have_a_recipe_of_its_own_in_part(zoo: Zoo, tiny: MakePlan) -> None:
    made = cells(tiny(objectives=["dcgan:critic_steps=1,3", "wgan"]), zoo)
    assert [(c.contender.label, c.recipe.critic_steps) for c in made] == [
        ("dcgan:critic_steps=1", 1),
        ("dcgan:critic_steps=3", 3),
        ("wgan", 1),
    ]
    assert made[1].recipe.critic_rate == made[2].recipe.critic_rate == tiny().shared.critic_rate


def test_an_objective_s_own_hyperparameter_comes_before_what_any_can_be_given(plugin: Callable[..., Path]) -> None:
    own = Zoo.installed(
        plugin("""
    @ganzoo.objective
    def mine(theta_penalty: float = 1.0):
        return ganzoo.Objective(lambda critic, real, fake: critic(real).mean() * theta_penalty)
    """)
    )
    (found,) = asked("mine:theta_penalty=-3.0", own)
    assert found.hyperparameters == {"theta_penalty": -3.0}
    assert found.theta_penalty == 0.0


ALL = {"ls-gan", "gls-gan", "wgan", "wgan-gp", "dcgan", "cls-gan"}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ALL),
        ({"labels.per_class": 5}, ALL | {"conditional-gan"}),
        ({"measure": "accuracy"}, ALL | {"supervised"}),
        ({"measure": "accuracy", "labels.per_class": 5}, ALL | {"supervised", "conditional-gan"}),
    ],
)
def test_the_default_objectives_are_those_that_the_plan_makes_sense_for(
    changes: dict[str, Any], wanted: set[str], zoo: Zoo, tiny: MakePlan
) -> None:
    plan = tiny(**changes)
    assert set(default_objectives(zoo, plan)) == wanted
    assert {cell.contender.label for cell in cells(plan, zoo)} == wanted


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"objectives": ["supervised"]},
            "supervised trains no generator, so it reconstructs nothing; .*measure=accuracy",
        ),
        ({"objectives": ["conditional-gan"]}, "conditional-gan needs unlabelled images, and all are labelled;"),
        ({"objectives": ["dcgan"], "labels.folds": 3}, "labels.folds = 3 holds out labelled images to classify;"),
        (
            {"objectives": ["supervised:feature_matching=1"], "measure": "accuracy"},
            "supervised:feature_matching=1 trains no generator, whose features could be matched",
        ),
    ],
)
def test_what_leaves_an_objective_nothing_to_play_with_is_refused(
    changes: dict[str, Any], match: str, zoo: Zoo, tiny: MakePlan
) -> None:
    with pytest.raises(UserError, match=match) as caught:
        cells(tiny(**changes), zoo)
    assert "\n" not in str(caught.value)


def test_folds_are_cells_of_their_own_within_a_seed(zoo: Zoo, tiny: MakePlan) -> None:
    plan = tiny(objectives=["supervised", "dcgan"], seeds=2, measure="accuracy", **{"labels.folds": 3})
    made = cells(plan, zoo)
    assert [(c.contender.label, c.seed, c.fold) for c in made] == [
        (o, s, f) for o in ("supervised", "dcgan") for s in (0, 1) for f in range(3)
    ]
    assert len({c.sha256 for c in made}) == 12
    assert all(f"-seed{c.seed}-fold{c.fold}-" in c.directory for c in made)
    without = cells(tiny(objectives=["supervised"], measure="accuracy"), zoo)
    assert [c.fold for c in without] == [None]
    assert "fold" not in without[0].directory
    again = Cell.model_validate_json(made[4].model_dump_json())
    assert again == made[4]
    assert again.sha256 == made[4].sha256


# TOML


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    return tmp_path / "plan.toml"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sedes = 3", "unknown key 'sedes'; did you mean 'seeds'"),
        ("[data]\nsizes = 3", r"unknown key 'sizes' in \[data\]; did you mean 'size'"),
        ("[shared]\noptimiser = 'adam'", r"unknown key 'optimiser' in \[shared\]; did you mean 'optimizer'"),
        ("[test_mre]\nstep = 3", r"unknown key 'step' in \[test_mre\]; did you mean 'steps'"),
        ("[labels]\nper_clas = 3", r"unknown key 'per_clas' in \[labels\]; did you mean 'per_class'"),
        ("[labels]\nper_class = 0", "labels.per_class = 0: input should be greater than or equal to 1"),
        ("[labels]\nfolds = 1", "labels.folds = 1: input should be greater than or equal to 2"),
        ("measure = 'fid'", "measure = 'fid': input should be 'mre' or 'accuracy'"),
        ("first_seed = -1", "first_seed = -1: input should be greater than or equal to 0"),
        ("seeds = true", "seeds = True: input should be a valid integer"),
        ("seeds = '3'", "seeds = '3': input should be a valid integer"),
        ("seeds = 3.0", "seeds = 3.0"),
        ("seeds = 0", "seeds = 0: input should be greater than or equal to 1"),
        ("seeds = [1, 2]", "seeds = "),
        ("objectives = 'dcgan'", "objectives = 'dcgan'"),
        ("recipe = 'natural'", "recipe = 'natural': input should be 'shared' or 'native'"),
        ("checkpoint_seconds = nan", "checkpoint_seconds = nan"),
        ("checkpoint_seconds = -inf", "checkpoint_seconds = -inf"),
        ("[shared]\ndecay = nan", "shared.decay = nan"),
        ("[generator]\nname = 3", "generator.name = 3"),
        ("data = 3", "data = 3"),
        ("[data]\nsplit = [0.5, 0.5]", "data.split"),
        ("seeds = 2020-01-01", "seeds = '2020-01-01'"),
        ("seeds =", "is not TOML"),
        ("seeds = 1\nseeds = 2", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("seeds = " + "9" * 5000, "is not TOML"),
    ],
)
def test_each_slip_in_a_plan_is_one_line_that_names_file_and_key(text: str, match: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=match) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))


def test_a_plan_that_is_not_there_not_text_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no plan at .*absent.toml: no such file"):
        read_plan(tmp_path / "absent.toml")
    with pytest.raises(UserError, match=r"is not a file; a plan is a TOML file"):
        read_plan(tmp_path)
    path = tmp_path / "plan.toml"
    path.write_bytes(b"cost = '\xff\xfe'")
    with pytest.raises(UserError, match=r"plan.toml is not TOML"):
        read_plan(path)
    path.write_text("# " + "x" * 70_000)
    with pytest.raises(UserError, match="has 70,002 bytes; a plan has at most 65,536"):
        read_plan(path)


def test_a_plan_comes_back_from_its_own_toml(tiny: MakePlan, tmp_path: Path) -> None:
    plans = [
        Plan(),
        tiny(objectives=["gls-gan:slope=0,0.5", "ls-gan:balance=none"], plugins=["a.py"], cost="elu"),
        tiny(**{"data.set": "npz", "data.path": "x y.npz", "data.size": 16, "generator.norm": "none"}),
        tiny(measure="accuracy", first_seed=7, **{"labels.per_class": 4, "labels.folds": 2}),
    ]
    for plan in plans:
        path = written(tmp_path, plan.toml())
        assert read_plan(path) == plan
        assert read_plan(path).sha256 == plan.sha256


def test_counts_of_images_stay_counts_and_fractions_fractions() -> None:
    assert read_plan(None, **{"data.split": [64, 16, 16]}).data.split == (64, 16, 16)
    assert all(type(size) is int for size in read_plan(None, **{"data.split": [64, 16, 16]}).data.split)
    assert all(type(size) is float for size in read_plan(None, **{"data.split": [0.5, 0.25, 0.25]}).data.split)


def test_changes_lie_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "seeds = 2\nepochs = 7\n[data]\nset = 'mnist'\nsize = 16\n")
    plan = read_plan(path, **{"data.set": "npz", "seeds": 5, "test_mre.steps": 9})
    assert (plan.seeds, plan.epochs, plan.data.set, plan.data.size, plan.test_mre.steps) == (5, 7, "npz", 16, 9)
    with pytest.raises(UserError, match=r"'seeds' is a value, not a table: 'seeds.many' cannot be set in it"):
        read_plan(path, **{"seeds.many": 3})


def test_a_value_is_toml_where_it_is_toml() -> None:
    assert value_of("3") == 3
    assert type(value_of("3.0")) is float
    assert value_of("true") is True
    assert value_of("[1, 2]") == [1, 2]
    assert value_of("None") is None
    assert value_of("elu") == "elu"
    assert value_of("'3'") == "3"


# Hashes


def test_a_cell_comes_back_from_its_json(one_cell: MakeCell) -> None:
    for name in ("gls-gan:slope=0.5", "ls-gan:balance=2.0", "cls-gan", "wgan"):
        cell = one_cell(name, recipe="native")
        again = Cell.model_validate_json(cell.model_dump_json())
        assert again == cell
        assert again.sha256 == cell.sha256
        assert again.settings.sha256 == cell.settings.sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"epochs": 9},
        {"z_dim": 9},
        {"batch_size": 8},
        {"shared": {"critic_rate": 0.5}},
        {"recipe": "native"},
        {"generator.width": 5},
        {"critic.norm": "batch"},
        {"data.set": "mnist"},
        {"data.split": [32, 16, 16]},
        {"test_mre": {"steps": 9}},
        {"validate_every": 2},
        {"threads": 2},
        {"device": "cuda"},
        {"measure": "accuracy"},
        {"labels.per_class": 3},
        {"objective": "dcgan:x"},
    ],
)
def test_the_hash_of_a_cell_changes_with_each_thing_that_matters(changes: dict[str, Any], one_cell: MakeCell) -> None:
    here = one_cell("gls-gan")
    if "objective" in changes:
        others = [
            one_cell(name) for name in ("gls-gan:slope=0.5", "gls-gan:cost=elu", "ls-gan", "gls-gan:theta_penalty=0.1")
        ]
    else:
        others = [one_cell("gls-gan", **changes)]
    for other in others:
        assert other.sha256 != here.sha256
        assert other.directory != here.directory


def test_the_hash_of_a_cell_does_not_change_with_what_changes_no_bit(one_cell: MakeCell, tmp_path: Path) -> None:
    here = one_cell("gls-gan")
    assert one_cell("gls-gan", checkpoint_seconds=1.0).sha256 == here.sha256
    assert one_cell("gls-gan", plugins=[str(tmp_path)]).sha256 == here.sha256
    assert one_cell("gls-gan", seeds=3).sha256 == here.sha256


def test_the_hash_of_a_cell_changes_with_the_code_of_its_plugin(
    one_cell: MakeCell, plugin: Callable[..., Path]
) -> None:
    text = """
    @ganzoo.cost
    def mine(a):
        return a
    """
    hashes = set()
    for i in range(2):
        own = Zoo.installed(plugin(text + f"\n# {i}\n"))
        hashes.add(one_cell("gls-gan:cost=mine", zoo=own).sha256)
    assert len(hashes) == 2


def test_a_directory_has_a_safe_name_that_tells_what_it_holds(one_cell: MakeCell) -> None:
    cell = one_cell("gls-gan:slope=0.5,cost.slope=0.5")
    assert cell.directory.startswith("gls-gan_slope_0.5")
    odd = cell.contender.model_copy(update={"label": "../a/b:" + "x\0" * 100})
    assert re.fullmatch(r"[a-z0-9._-]{1,80}", cell.model_copy(update={"contender": odd}).directory)
    assert not cell.model_copy(update={"contender": odd}).directory.startswith("../")


def test_settings_leave_out_what_merely_adds_cells(tiny: MakePlan) -> None:
    assert tiny(objectives=["dcgan"]).sha256 == tiny(objectives=["wgan"], seeds=3).sha256
    assert tiny().sha256 != tiny(epochs=9).sha256


def test_one_recipe_for_all_or_each_its_own(tiny: MakePlan, zoo: Zoo) -> None:
    shared = {c.contender.label: c.recipe for c in cells(tiny(), zoo)}
    assert set(map(str, shared.values())) == {str(tiny().shared)}
    native = {c.contender.label: c.recipe for c in cells(tiny(recipe="native"), zoo)}
    assert native["wgan"].critic_steps == 5
    assert native["wgan"].optimizer == "rmsprop"
    assert native["wgan-gp"].beta1 == 0.0
    assert native["dcgan"].critic_rate == 2e-4


def test_seeds_are_innermost(tiny: MakePlan, zoo: Zoo) -> None:
    made = cells(tiny(objectives=["wgan", "dcgan"], seeds=2), zoo)
    assert [(c.contender.label, c.seed) for c in made] == [("wgan", 0), ("wgan", 1), ("dcgan", 0), ("dcgan", 1)]


# Whatever is typed

specs = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"(ls-gan|gls-gan|wgan|dcgan)(:[a-z._]{0,12}=[-+0-9a-z.,=\[\]\"']{0,12}){0,2}", fullmatch=True),
    st.builds(
        "gls-gan:{}={}".format,
        st.sampled_from(
            ["slope", "cost", "margin", "cost.slope", "penalty_weight", "objective.self", "cost.", ".", ""]
        ),
        st.text(max_size=12),
    ),
)


@settings(max_examples=150, deadline=None)
@given(specs)
@example("gls-gan:slope=" + "9" * 5000)
@example("gls-gan:slope=" + "[" * 3000)
@example("gls-gan:slope=\udcff")
@example("gls-gan:penalty_weight=1e999")
@example("gls-gan:slope=2020-01-01")
def test_an_objective_of_any_text_is_played_or_refused_by_a_user_error(text: str) -> None:
    found: list[Contender] = []
    said = ""
    try:
        found = contenders(text, ZOO, Plan())
    except UserError as error:
        said = str(error)
    assert found or said
    for contender in found:
        Contender.model_validate_json(contender.model_dump_json())


ZOO = Zoo.installed()
KEYS = [
    "seeds",
    "data.split",
    "data.path",
    "objectives",
    "generator.self",
    "generator.width",
    "test_mre.rate",
    "device",
]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.sampled_from([*KEYS, *Plan.model_fields]), st.text(max_size=12)), st.text(max_size=20))
@example("seeds", "nan")
@example("checkpoint_seconds", "nan")
@example("checkpoint_seconds", "inf")
@example("data.path", "\udcff")
@example("seeds", "9" * 5000)
@example("data.split", "[" * 3000)
@example("generator.self", "1")
@example("generator.width", "[1, {a = 2}]")
@example("", "1")
@example(".", "1")
@example("data.", "1")
@example("path", "1")
def test_a_setting_of_any_text_is_taken_or_refused_by_a_user_error(key: str, value: str) -> None:
    try:
        plan = read_plan(None, **{"objectives": ["dcgan"], key: value_of(value)})
        for cell in cells(plan, ZOO)[:2]:
            assert cell.settings.settings == plan.settings
    except UserError:
        return
