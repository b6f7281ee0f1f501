"""The zoo's doors, and each slip that a plugin's author or a user can make: one clear line, and all else works."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import pluggy
import pytest
import torch
from annotated_types import Gt, Le
from torch import Tensor

import ganzoo
from ganzoo import Objective, UserError, Zoo
from ganzoo.hooks import KINDS
from ganzoo.zoo import Entry, Origin, describe

HEAD = "from typing import Annotated\nfrom annotated_types import Ge, Le\nimport ganzoo\n"
COST = HEAD + "@ganzoo.cost\ndef {name}(a):\n    return a + {add}\n"
BUILT_IN = ["abs", "elu", "identity", "leaky", "relu"]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a plugin file, with the usual imports on top, into the folder `plugins`."""

    def write(name: str, text: str, head: str = HEAD) -> Path:
        path = tmp_path / "plugins" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + text, encoding="utf-8")
        return path

    return write


Announce = Callable[..., None]


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Announce]:
    """Installs a distribution that announces one module, or whatever else `entry_points` says."""
    imported = set(sys.modules)
    site_packages = tmp_path / "site"
    site_packages.mkdir()
    monkeypatch.syspath_prepend(site_packages)

    def announce(
        distribution: str,
        source: str,
        module: str | None = None,
        point: str = "acme",
        entry_points: str | None = None,
        metadata: str | None = None,
        site: Path = site_packages,
    ) -> None:
        module = module or distribution.replace("-", "_")
        site.mkdir(exist_ok=True)
        (site / f"{module}.py").write_text(source, encoding="utf-8")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        if entry_points is None:
            entry_points = f"[ganzoo]\n{point} = {module}\n"
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        importlib.invalidate_caches()

    yield announce
    for name in set(sys.modules) - imported:
        if str(site_packages.parent) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def zoo_of(*functions: Any) -> Zoo:
    """A zoo of one namespace that holds these functions."""
    zoo = Zoo()
    zoo.add(type("Plugin", (), {"__module__": __name__} | {f"f{i}": f for i, f in enumerate(functions)}))
    return zoo


def refusal(*functions: Any) -> str:
    """Why the zoo refuses this plugin; it has no entry then."""
    zoo = zoo_of(*functions)
    assert not list(zoo)
    (broken,) = zoo.broken
    return broken.reason


def refuses(function: Any, *parts: str) -> None:
    reason = refusal(function)
    for part in parts:
        assert part in reason
    assert "\n" not in reason


def built_ins_work(zoo: Zoo) -> None:
    assert set(BUILT_IN) <= set(zoo.names("cost"))
    assert zoo.cost("leaky", slope=0.5)(torch.tensor([-2.0, 2.0])).tolist() == [-1.0, 2.0]
    assert len(zoo.entries("objective")) >= 6


# Decorators


def test_a_decorated_function_stays_callable_bare() -> None:
    @ganzoo.cost
    def twice(a: Tensor, slope: float = 2.0) -> Tensor:
        return slope * a

    assert twice(3.0) == 6.0
    assert twice(3.0, slope=1.0) == 3.0
    assert twice.__name__ == "twice"


def test_the_name_is_the_function_s_with_hyphens() -> None:
    @ganzoo.cost
    def my_own_cost(a: Tensor) -> Tensor:
        return a

    assert zoo_of(my_own_cost).names("cost") == ["my-own-cost"]


def test_a_name_given_to_the_decorator_wins_over_the_function_s() -> None:
    @ganzoo.cost(name="other")
    def my_own_cost(a: Tensor) -> Tensor:
        return a

    assert zoo_of(my_own_cost).names("cost") == ["other"]
    assert my_own_cost(1.0) == 1.0


def test_one_module_implements_many_hooks_and_one_hook_many_times(write: Write) -> None:
    zoo = Zoo()
    zoo.add_file(
        write(
            "many.py",
            "@ganzoo.cost\ndef one(a): return a\n@ganzoo.cost\ndef two(a): return 2 * a\n"
            "@ganzoo.margin\ndef three(real, fake): return real\n@ganzoo.critic\ndef four(image_shape): return None\n",
        )
    )
    assert zoo.names("cost") == ["one", "two"]
    assert [e.name for e in zoo] == ["one", "two", "three", "four"]
    assert zoo.cost("two")(3.0) == 6.0
    assert zoo.cost("one")(3.0) == 3.0


def test_one_name_may_stand_for_a_thing_of_each_kind() -> None:
    zoo = Zoo.installed()
    assert [e.kind for e in zoo.named("dcgan")] == ["objective", "generator", "critic"]
    assert [e.kind for e in zoo.named("generator/dcgan")] == ["generator"]


def test_a_docstring_may_be_missing() -> None:
    @ganzoo.cost
    def silent(a: Tensor) -> Tensor:
        return a

    assert zoo_of(silent).find("cost", "silent").doc == ""


# What is refused at load, with the signature quoted


def test_a_parameter_that_the_harness_does_not_give_is_refused_with_the_signature() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, real: Tensor, slope: float = 1.0) -> Tensor:
        return a

    refuses(wrong, "cost 'wrong': wrong(a, real, slope=1.0): 'real' has no default", "a cost gets a")


def test_a_harness_parameter_with_a_default_is_refused_with_the_signature() -> None:
    @ganzoo.margin
    def wrong(real: Tensor, fake: Tensor = None) -> Tensor:
        return real

    refuses(wrong, "margin 'wrong': wrong(real, fake=None): 'fake' comes from the harness and takes no default")


def test_a_hyperparameter_without_annotation_is_refused_with_an_example() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, slope=0.5) -> Tensor:  # type: ignore[no-untyped-def]
        return a

    refuses(wrong, "wrong(a, slope=0.5)", "'slope' has no annotation", "slope: Annotated[float, Ge(0)] = 0.5")


def test_a_keyword_only_parameter_without_default_is_refused_as_pluggy_would_not() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, *, slope: float) -> Tensor:
        return a

    refuses(wrong, "wrong(a, *, slope)", "'slope' has no default")


def test_a_keyword_only_hyperparameter_is_welcome() -> None:
    @ganzoo.cost
    def right(a: Tensor, *, slope: float = 2.0) -> Tensor:
        return slope * a

    assert zoo_of(right).cost("right", slope=3.0)(1.0) == 3.0


def positional_only(a: Tensor, /) -> Tensor:
    return a


def any_positions(*a: Tensor) -> Tensor:
    return a[0]


def any_keywords(a: Tensor, **rest: float) -> Tensor:
    return a


@pytest.mark.parametrize(
    ("function", "quoted", "parameter"),
    [
        (positional_only, "positional_only(a, /)", "'a: torch.Tensor'"),
        (any_positions, "any_positions(*a)", "'*a: torch.Tensor'"),
        (any_keywords, "any_keywords(a, **rest)", "'**rest: float'"),
    ],
)
def test_a_parameter_that_cannot_be_filled_by_name_is_refused(function: Any, quoted: str, parameter: str) -> None:
    refuses(ganzoo.cost(function), f"{quoted}: {parameter} cannot be filled by name; name each parameter")


def test_a_forgotten_decorator_is_told_with_the_name_of_the_function(write: Write) -> None:
    path = write("forgot.py", "def my_cost(a):\n    return a\n")
    with pytest.raises(UserError, match=r"supplies nothing: .*@ganzoo\.cost.*forget a decorator on 'my_cost'\?"):
        Zoo().add_file(path)


def test_an_empty_file_supplies_nothing(write: Write) -> None:
    with pytest.raises(UserError, match=r"supplies nothing: no function in it is marked with .*@ganzoo\.engine"):
        Zoo().add_file(write("empty.py", "", head=""))


def test_a_misspelt_hook_is_refused_with_the_nearest() -> None:
    marker = pluggy.HookimplMarker("ganzoo")

    @marker(specname="costt")
    def my_cost(a: Tensor) -> Tensor:
        return a

    refuses(my_cost, "'my_cost' implements no hook named 'costt'; did you mean 'cost'? there are: cost, critic,")


def test_a_raw_marker_is_as_good_as_the_decorator() -> None:
    @pluggy.HookimplMarker("ganzoo")(specname="cost")
    def my_cost(a: Tensor) -> Tensor:
        return a

    assert zoo_of(my_cost).names("cost") == ["my-cost"]


def test_a_hook_wrapper_is_refused() -> None:
    @pluggy.HookimplMarker("ganzoo")(specname="cost", hookwrapper=True)
    def my_cost(a: Tensor) -> Tensor:
        return a

    refuses(my_cost, "hookwrapper")


@pytest.mark.parametrize("name", ["LeakyReLU", "-x", "a b", "ü", "a/b", "x" * 65, "a:b", "a,b", "a=b"])
def test_a_bad_name_is_refused_with_the_form_of_a_good_one(name: str) -> None:
    @ganzoo.cost(name=name)
    def wrong(a: Tensor) -> Tensor:
        return a

    refuses(wrong, f"'{name}' is no name; one matches [a-z0-9]")


def test_a_lambda_needs_a_name() -> None:
    refuses(ganzoo.cost(lambda a: a), "'<lambda>' is no name")
    assert zoo_of(ganzoo.cost(name="double")(lambda a: 2 * a)).cost("double")(2) == 4


def test_a_default_outside_its_own_domain_fails_at_load() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, slope: Annotated[float, Le(1)] = 2.0) -> Tensor:
        return a

    refuses(wrong, "slope = 2.0 is outside its domain (float, <= 1): input should be less than or equal to 1")


def test_a_default_of_another_type_fails_at_load() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, slope: float = True) -> Tensor:
        return a

    refuses(wrong, "slope = True is outside its domain (float)")


def test_an_annotation_that_cannot_be_resolved_is_told(write: Write) -> None:
    path = write("p.py", "@ganzoo.cost\ndef c(a, k: 'Nowhere' = 1):\n    return a\n")
    with pytest.raises(UserError, match=r"c\(a, k=1\): its annotations cannot be read: NameError: .*'Nowhere'"):
        Zoo().add_file(path)


def test_an_annotation_without_sense_is_told() -> None:
    @ganzoo.cost
    def wrong(a: Tensor, word: Annotated[str, Le(1)] = "x") -> Tensor:
        return a

    refuses(wrong, "wrong(a, word='x'): its annotations give no domain", "TypeError")


def test_a_class_is_refused_as_no_function() -> None:
    class Generator(torch.nn.Module):
        def __init__(self, z_dim: int, image_shape: tuple[int, int, int], width: int = 3) -> None:
            super().__init__()

    refuses(ganzoo.generator(Generator), "generator 'Generator' is not a function")


def test_hyperparameters_may_have_the_names_that_pydantic_keeps_for_itself() -> None:
    @ganzoo.cost
    def c(a: Tensor, _k: float = 1.0, copy: int = 2, schema: float = 3.0, model_config: int = 4) -> Tensor:
        return a * _k * copy * schema * model_config

    zoo = zoo_of(c)
    assert zoo.broken == ()
    assert zoo.cost("c", _k=5.0)(1) == 5 * 2 * 3 * 4
    assert zoo.cost("c", copy=7)(1) == 7 * 3 * 4
    with pytest.raises(UserError, match=r"_k = 'x' is outside its domain \(float\)"):
        zoo.cost("c", _k="x")


def test_a_hyperparameter_may_be_called_name() -> None:
    @ganzoo.cost
    def c(a: Tensor, name: str = "x") -> Any:
        return name

    assert zoo_of(c).cost("c", name="y")(1) == "y"


# Two things of one name


@pytest.mark.parametrize("order", list(permutations([0, 1])))
def test_of_two_files_with_one_name_neither_gets_it_in_either_order(write: Write, order: tuple[int, ...]) -> None:
    paths = [write("a.py", COST.format(name="twin", add=1)), write("b.py", COST.format(name="twin", add=2))]
    zoo = Zoo()
    zoo.add_file(paths[order[0]])
    with pytest.raises(UserError, match=r"two things of one name: cost 'twin' comes from .*a\.py and from .*b\.py"):
        zoo.add_file(paths[order[1]])
    assert zoo.names("cost") == []
    assert {b.origin.plugin for b in zoo.broken} == {str(path) for path in paths}


@pytest.mark.parametrize("order", list(permutations([0, 1, 2])))
def test_a_third_claimant_does_not_get_the_name_either(write: Write, order: tuple[int, ...], tmp_path: Path) -> None:
    paths = [write(f"{n}.py", COST.format(name="twin", add=n)) for n in range(3)]
    zoo = Zoo.installed()
    for i in order:
        folder = tmp_path / f"of {i}"
        folder.mkdir()
        paths[i].rename(folder / paths[i].name)
        zoo.add_folder(folder)
    with pytest.raises(UserError) as raised:
        zoo.find("cost", "twin")
    assert [f"{n}.py" in str(raised.value) for n in range(3)] == [True] * 3
    places = [str(raised.value).index(f"{n}.py") for n in range(3)]
    assert places == sorted(places)  # the message does not depend on the order either
    assert len(zoo.broken) == 3
    with pytest.raises(UserError, match="two things of one name"):
        zoo.named("twin")
    built_ins_work(zoo)


def test_two_functions_of_one_file_cannot_share_a_name(write: Write) -> None:
    path = write("p.py", "@ganzoo.cost\ndef c(a): return a\n@ganzoo.cost(name='c')\ndef d(a): return -a\n")
    with pytest.raises(UserError, match="two things of one name: cost 'c'"):
        Zoo().add_file(path)


def test_a_stranger_cannot_take_the_name_of_a_built_in(write: Write) -> None:
    path = write("mine.py", COST.format(name="leaky", add=100))
    zoo = Zoo.installed()
    with pytest.raises(
        UserError, match=r"cost 'leaky' comes from ganzoo .*ganzoo_plugins\.leaky\) and from .*mine\.py"
    ):
        zoo.add_file(path)
    built_ins_work(zoo)
    assert [b.origin.plugin for b in zoo.broken] == [str(path)]


def test_a_stranger_who_came_first_cannot_keep_the_name_of_a_built_in(write: Write) -> None:
    zoo = Zoo()
    zoo.add_file(write("mine.py", COST.format(name="leaky", add=100)))
    zoo.add_installed()
    built_ins_work(zoo)
    assert len(zoo.broken) == 1


def test_after_two_strangers_lost_a_built_in_s_name_the_built_in_has_it(write: Write) -> None:
    write("a.py", COST.format(name="leaky", add=1))
    zoo = Zoo()
    zoo.add_folder(write("b.py", COST.format(name="leaky", add=2)).parent)
    assert zoo.names("cost") == []
    zoo.add_installed()
    built_ins_work(zoo)
    assert len(zoo.broken) == 2


def test_one_file_through_two_doors_is_one_plugin(write: Write) -> None:
    path = write("once.py", COST.format(name="once", add=1))
    zoo = Zoo.installed(path.parent, path, path.parent / ".." / path.parent.name / path.name)
    assert zoo.broken == ()
    assert zoo.cost("once")(1) == 2


def test_one_function_under_two_names_of_python_is_one_thing() -> None:
    @ganzoo.cost
    def c(a: Tensor) -> Tensor:
        return a

    zoo = zoo_of(c, c)
    assert zoo.broken == ()
    assert zoo.names("cost") == ["c"]


@pytest.mark.parametrize("importer", ["aaa", "zzz"])  # loaded before the plugin that it imports from, and after
def test_a_function_imported_from_another_plugin_is_not_claimed_twice(announce: Announce, importer: str) -> None:
    announce("mmm", COST.format(name="mmm_cost", add=1), point="m")
    announce(importer, "from mmm import mmm_cost\n" + COST.format(name="b", add=2), point="i")
    zoo = Zoo.installed()
    assert zoo.broken == ()
    assert str(zoo.find("cost", "mmm-cost").origin) == "mmm 1.0 (mmm)"
    assert str(zoo.find("cost", "b").origin) == f"{importer} 1.0 ({importer})"


# Installed distributions


def test_a_stranger_s_distribution_comes_through_the_same_door(announce: Announce) -> None:
    announce("Acme.Costs", COST.format(name="acme_cost", add=1), module="acme_costs")
    zoo = Zoo.installed()
    assert zoo.cost("acme-cost")(1) == 2
    assert zoo.broken == ()
    built_ins_work(zoo)


@pytest.mark.parametrize("order", list(permutations([0, 1])))
def test_two_distributions_with_one_entry_point_name_are_both_refused_in_either_order(
    announce: Announce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    for i in order:
        site = tmp_path / f"site{i}"
        site.mkdir()
        monkeypatch.syspath_prepend(site)
        announce(f"acme-{'ab'[i]}", COST.format(name=f"cost{i}", add=i), site=site)
    zoo = Zoo.installed()
    assert [(str(b.origin), b.reason) for b in zoo.broken] == [
        ("acme-a 1.0 (acme_a)", "entry point 'acme' is also announced by acme-b 1.0 (acme_b)"),
        ("acme-b 1.0 (acme_b)", "entry point 'acme' is also announced by acme-a 1.0 (acme_a)"),
    ]
    assert {"cost0", "cost1"}.isdisjoint(zoo.names("cost"))
    built_ins_work(zoo)


def test_a_distribution_that_takes_a_built_in_s_entry_point_is_refused(announce: Announce) -> None:
    announce("aaa", COST.format(name="other", add=1), point="leaky")
    zoo = Zoo.installed()
    (broken,) = zoo.broken
    assert str(broken.origin) == "aaa 1.0 (aaa)"
    assert "'leaky' is also announced by ganzoo" in broken.reason
    built_ins_work(zoo)


def test_a_distribution_seen_twice_on_the_path_is_one(
    announce: Announce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce("acme", COST.format(name="acme_cost", add=1))
    announce("acme", COST.format(name="acme_cost", add=1), site=tmp_path / "again")
    monkeypatch.syspath_prepend(tmp_path / "again")
    zoo = Zoo.installed()
    assert zoo.broken == ()
    assert zoo.cost("acme-cost")(1) == 2


BROKEN = {
    "import error": ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "syntax error": ("def c(a:\n    return a\n", "SyntaxError in line 1"),
    "null byte": ("x = 1\0\n", "null bytes"),
    "exit at import": ("raise SystemExit(3)\n", "SystemExit: 3 (line 1 of"),
    "bare exit": ("raise SystemExit\n", "SystemExit (line 1 of"),
    "own BaseException": ("class Odd(BaseException): pass\nraise Odd('so')\n", "Odd: so (line 2 of"),
    "generator exit": ("raise GeneratorExit('g')\n", "GeneratorExit: g"),
    "two lines": ("raise ValueError('one\\n  two')\n", "ValueError: one two (line 1 of"),
    "endless": ("def f(): f()\nf()\n", "RecursionError"),
    "unprintable": ("class E(Exception):\n  def __str__(self): raise OSError\nraise E\n", "E: (it has no message)"),
    "self-deleting": ("import sys\ndel sys.modules[__name__]\nraise ImportError('gone')\n", "ImportError: gone"),
    "wrong parameter": (HEAD + "@ganzoo.cost\ndef c(b): return b\n", "cost 'c': c(b): 'b' has no default"),
    "supplies nothing": ("def c(a): return a\n", "did you forget a decorator on 'c'?"),
}


@pytest.mark.parametrize("slip", BROKEN)
def test_a_broken_distribution_is_listed_with_its_reason_and_all_else_works(announce: Announce, slip: str) -> None:
    source, said = BROKEN[slip]
    announce("broken-one", source, point="broken")
    announce("fine-one", COST.format(name="fine", add=1), point="fine")
    zoo = Zoo.installed()
    (broken,) = zoo.broken
    assert str(broken.origin) == "broken-one 1.0 (broken_one)"
    assert said in broken.reason
    assert "\n" not in broken.reason
    if slip not in ("wrong parameter", "supplies nothing"):
        assert broken.traceback.startswith("Traceback")
    assert zoo.cost("fine")(1) == 2
    built_ins_work(zoo)


@pytest.mark.parametrize("slip", BROKEN)
def test_a_broken_file_given_by_name_raises_and_in_a_folder_is_listed(write: Write, slip: str) -> None:
    source, said = BROKEN[slip]
    path = write("broken.py", source, head="")
    write("fine.py", COST.format(name="fine", add=1))
    zoo = Zoo.installed(path.parent)
    (broken,) = zoo.broken
    assert broken.origin == Origin(str(path))
    assert said in broken.reason
    assert zoo.cost("fine")(1) == 2
    built_ins_work(zoo)
    with pytest.raises(UserError) as raised:
        Zoo.installed(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    with pytest.raises(UserError, match=r"broken\.py"):
        zoo.add_file(path)  # known from the folder to be broken, now asked for by name


def test_ctrl_c_during_an_import_is_not_swallowed(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        Zoo().add_file(write("slow.py", "raise KeyboardInterrupt\n", head=""))


def test_a_distribution_without_metadata_takes_nothing_down(announce: Announce) -> None:
    announce("acme", COST.format(name="acme_cost", add=1), metadata="")
    announce("beta", COST.format(name="beta_cost", add=1), point="beta")
    zoo = Zoo.installed()
    assert zoo.broken == ()
    assert str(zoo.find("cost", "acme-cost").origin) == "a distribution without a name (no version) (acme)"
    assert zoo.cost("acme-cost")(1) == 2
    built_ins_work(zoo)


def test_a_corrupt_entry_points_file_takes_nothing_down(announce: Announce) -> None:
    announce("acme", "", entry_points="[ganzoo]\nnothing to see\n")
    announce("beta", "", entry_points="[others]\nnothing to see\n")
    zoo = Zoo.installed()
    (broken,) = zoo.broken  # beta is none of our business
    assert broken.origin.distribution == "acme"
    built_ins_work(zoo)


@pytest.mark.parametrize("value", ["acme:acme_cost", "acme:NUMBER", "acme:nowhere"])
def test_an_entry_point_that_names_no_module_is_listed(announce: Announce, value: str) -> None:
    announce("acme", COST.format(name="acme_cost", add=1) + "NUMBER = 3\n", entry_points=f"[ganzoo]\na = {value}\n")
    zoo = Zoo.installed()
    (broken,) = zoo.broken
    assert "nowhere" in broken.reason or "is not a module but of type" in broken.reason
    built_ins_work(zoo)


def test_an_entry_point_may_name_a_class_that_holds_the_functions(announce: Announce) -> None:
    source = HEAD + "class Costs:\n    @ganzoo.cost\n    def held(a):\n        return a\n"
    announce("acme", source, entry_points="[ganzoo]\na = acme:Costs\n")
    zoo = Zoo.installed()
    assert zoo.broken == ()
    assert zoo.cost("held")(1) == 1


def test_objects_that_answer_to_every_name_are_no_plugins(write: Write) -> None:
    body = (
        "from unittest.mock import MagicMock, call\nmock = MagicMock()\n"
        "class Rude:\n    def __call__(self): pass\n    def __getattr__(self, name): raise RuntimeError\n"
        "rude = Rude()\n@ganzoo.cost\ndef c(a): return a\n"
    )
    zoo = Zoo()
    zoo.add_file(write("mocks.py", body))
    assert [e.name for e in zoo] == ["c"]


# Files and folders


def test_a_file_name_with_spaces_dots_and_letters_of_any_language_loads(write: Write) -> None:
    paths = [
        write(name, COST.format(name=f"c{i}", add=1)) for i, name in enumerate(["mein schönes plugin.py", "a.b.py"])
    ]
    zoo = Zoo.installed(*paths)
    assert zoo.cost("c0")(1) == zoo.cost("c1")(1) == 2
    assert zoo.find("cost", "c0").origin == Origin(str(paths[0]))


def test_an_absent_file_or_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no plugin file at .*absent\.py$"):
        Zoo.installed(tmp_path / "absent.py")
    with pytest.raises(UserError, match=r"^no plugin folder at .*absent$"):
        Zoo().add_folder(tmp_path / "absent")


def test_a_file_that_is_not_python_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"plan\.toml: is not a Python file"):
        Zoo().add_file(write("plan.toml", "x = 1"))


def test_a_folder_skips_private_files_and_tests(write: Write) -> None:
    for name in ("_shared.py", "test_it.py", "__init__.py"):
        write(name, "raise RuntimeError\n")
    folder = write("good.py", COST.format(name="good", add=1)).parent
    (folder / "folder.py").mkdir()
    zoo = Zoo()
    zoo.add_folder(folder)
    assert [e.name for e in zoo] == ["good"]
    (broken,) = zoo.broken
    assert broken.origin.plugin.endswith("folder.py")


def test_a_file_with_a_good_and_a_wrong_function_gives_the_good_one(write: Write) -> None:
    path = write("half.py", "@ganzoo.cost\ndef bad(b): return b\n@ganzoo.cost\ndef good(a): return a\n")
    zoo = Zoo.installed(path.parent)
    assert zoo.cost("good")(1) == 1
    assert [b.reason[:10] for b in zoo.broken] == ["cost 'bad'"]


def test_two_zoos_share_no_state(write: Write) -> None:
    path = write("p.py", "calls = []\n" + "@ganzoo.cost\ndef c(a):\n    calls.append(a)\n    return len(calls)\n")
    one, two, empty = Zoo(), Zoo(), Zoo()
    one.add_file(path)
    two.add_file(path)
    assert [one.cost("c")(0), one.cost("c")(0), two.cost("c")(0)] == [1, 2, 1]
    assert one.find("cost", "c").function is not two.find("cost", "c").function
    assert list(empty) == []
    Zoo().add_folder(write("wrong.py", "1/0\n").parent)
    assert one.broken == two.broken == ()


# Names


def test_an_unknown_name_is_told_the_nearest_and_all_there_are() -> None:
    zoo = Zoo.installed()
    listed = "abs, elu, identity, leaky, relu, softplus"
    with pytest.raises(UserError, match=f"^no cost named 'leeky'; did you mean 'leaky'\\? there are: {listed}$"):
        zoo.find("cost", "leeky")
    with pytest.raises(UserError, match=f"^no cost named 'qqq'; there are: {listed}$"):
        zoo.find("cost", "qqq")
    with pytest.raises(UserError, match=r"^nothing is named 'wgann'; did you mean 'wgan'\?"):
        zoo.named("wgann")
    with pytest.raises(UserError, match="there are none"):
        Zoo().find("cost", "leaky")


def test_an_unknown_kind_is_told_the_nearest() -> None:
    zoo = Zoo.installed()
    for ask in (lambda: zoo.named("costs/leaky"), lambda: zoo.entries("costs"), lambda: zoo.find("costs", "leaky")):
        with pytest.raises(UserError, match=r"no kind 'costs'; did you mean 'cost'\?"):
            ask()


@pytest.mark.parametrize("name", ["GLS_GAN", "gls-gan", "Gls-Gan"])
def test_case_and_underscores_do_not_matter_in_a_name(name: str) -> None:
    assert Zoo.installed().find("objective", name).name == "gls-gan"


@pytest.mark.parametrize("name", ["lsgan", "LSGAN"])
def test_lsgan_is_refused_as_ambiguous(name: str) -> None:
    said = rf"'{name}' is ambiguous: ls-gan \(loss-sensitive, Qi 2017\) or least-squares \(Mao 2017\)\?"
    zoo = Zoo.installed()
    for ask in (zoo.named, lambda n: zoo.find("objective", n), lambda n: zoo.named(f"objective/{n}")):
        with pytest.raises(UserError, match=said):
            ask(name)


def test_a_plugin_cannot_be_called_lsgan() -> None:
    @ganzoo.objective
    def lsgan() -> Objective:
        raise AssertionError

    refuses(lsgan, "the name 'lsgan' is ambiguous", "Mao 2017")


# Hyperparameters


@pytest.fixture(scope="module")
def installed() -> Zoo:
    return Zoo.installed()


@pytest.mark.parametrize("value", [True, "0.1", None, [0.1], float("nan"), float("inf"), float("-inf"), 1.0000001, 2])
def test_a_value_outside_the_domain_is_refused_with_the_domain(installed: Zoo, value: Any) -> None:
    with pytest.raises(UserError, match=r"^cost 'leaky': slope = .* is outside its domain \(float, <= 1\): input"):
        installed.cost("leaky", slope=value)


def test_a_huge_value_is_shortened_in_the_error(installed: Zoo) -> None:
    with pytest.raises(UserError, match="outside its domain") as raised:
        installed.cost("leaky", slope=10**400)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("value", [True, 1.0, 0, -3, "4"])
def test_an_integer_hyperparameter_takes_integers_of_its_domain_only(installed: Zoo, value: Any) -> None:
    with pytest.raises(UserError, match=r"critic 'dcgan': width = .* is outside its domain \(int, >= 1\)"):
        installed.critic("dcgan", width=value)


def test_an_integer_may_stand_for_a_float(installed: Zoo) -> None:
    assert installed.find("cost", "leaky").validate(slope=-3) == {"slope": -3.0}


def test_a_union_of_domains_is_read_and_told(installed: Zoo) -> None:
    entry = installed.find("objective", "ls-gan")
    assert entry.validate(balance=None)["balance"] is None
    assert entry.validate(balance=2.0)["balance"] == 2.0
    with pytest.raises(UserError, match=r"balance = 0.0 is outside its domain \(float, > 0, or None\)"):
        entry.validate(balance=0.0)


def test_an_unknown_hyperparameter_is_told_the_nearest(installed: Zoo) -> None:
    with pytest.raises(
        UserError, match=r"^cost 'leaky' has no hyperparameter 'slop'; did you mean 'slope'\? there are"
    ):
        installed.cost("leaky", slop=0.1)
    with pytest.raises(UserError, match=r"^cost 'relu' has no hyperparameter 'slope'; there are none$"):
        installed.cost("relu", slope=0.1)
    with pytest.raises(UserError, match="has no hyperparameter 'a'"):
        installed.cost("leaky", a=1)


@pytest.mark.parametrize(
    ("annotation", "domain"),
    [
        (float, "float"),
        (Annotated[float, Gt(0), Le(1)], "float, > 0, <= 1"),
        (Annotated[int, Gt(0)] | None, "int, > 0, or None"),
    ],
)
def test_a_domain_reads_as_people_write_it(annotation: Any, domain: str) -> None:
    def c(a: Tensor, k: Any = 1) -> Tensor:
        return a

    c.__annotations__["k"] = annotation
    assert zoo_of(ganzoo.cost(c)).find("cost", "c").hyperparameters["k"].domain == domain


# Binding


def test_bind_passes_only_what_the_function_declares() -> None:
    @ganzoo.margin
    def only_real(real: Tensor, scale: float = 2.0) -> Any:
        return scale * real

    margin = zoo_of(only_real).margin("only-real", scale=3.0)
    assert margin(1.0, 5.0) == margin(real=1.0, fake=5.0) == margin(1.0, fake=5.0) == 3.0


def test_a_bound_function_refuses_what_the_hook_does_not_offer(installed: Zoo) -> None:
    leaky, lp = installed.cost("leaky"), installed.margin("lp")
    a = torch.ones(2)
    with pytest.raises(TypeError, match="cost 'leaky' takes a, not 2 arguments"):
        leaky(a, 0.5)  # would otherwise drop the slope in silence
    with pytest.raises(TypeError, match="not 'slope'; hyperparameters are fixed by bind"):
        leaky(a, slope=0.5)
    with pytest.raises(TypeError, match="margin 'lp' was not given 'fake'"):
        lp(a)
    with pytest.raises(TypeError, match="was given 'a' twice"):
        leaky(a, a=a)


def test_an_objective_that_returns_something_else_is_refused() -> None:
    @ganzoo.objective
    def wrong() -> Any:
        return lambda critic, real, fake: 0

    zoo = zoo_of(wrong)
    with pytest.raises(UserError, match=r"objective 'wrong' returned function; it should return a ganzoo\.Objective"):
        zoo.objective("wrong", None, None)


# What is told of the entries


def test_what_list_prints_is_json(installed: Zoo) -> None:
    read = json.loads(json.dumps(describe(installed), allow_nan=False))
    assert [(e["kind"], e["name"]) for e in read] == [(e.kind, e.name) for e in installed]
    by_name = {e["kind"] + "/" + e["name"]: e for e in read}
    leaky = by_name["cost/leaky"]
    assert leaky["hyperparameters"] == {"slope": {"domain": "float, <= 1", "default": 0.01}}
    assert leaky["inputs"] == ["a"]
    assert leaky["doc"].startswith("C(a) = max(a, slope * a)")
    assert leaky["source"].partition("leaky.py:")[2].isdigit()
    assert all(e["doc"] for e in read)


def test_defaults_that_json_does_not_know_are_told_all_the_same(write: Write) -> None:
    zoo = Zoo()
    zoo.add_file(
        write(
            "p.py",
            "import pathlib\n@ganzoo.cost\ndef c(a, p: pathlib.Path = pathlib.Path('x'), k: type = int): return a\n",
        )
    )
    json.dumps(describe(zoo))


def test_a_function_in_other_decorators_is_told_by_its_own_source(write: Write) -> None:
    zoo = Zoo()
    zoo.add_file(write("p.py", "import functools\n@ganzoo.cost\n@functools.cache\ndef c(a):\n    return a\n"))
    (entry,) = zoo
    assert describe(zoo)[0]["source"].endswith(f"p.py:{len(HEAD.splitlines()) + 2}")
    assert len(entry.source_sha256) == 64
    assert zoo.cost("c")(2) == 2


def test_the_hash_of_the_source_changes_with_the_file(write: Write) -> None:
    def digest(text: str) -> str:
        zoo = Zoo()
        zoo.add_file(write("p.py", text))
        entry: Entry = next(iter(zoo))
        return entry.source_sha256

    first = digest("@ganzoo.cost\ndef c(a): return a\n")
    assert digest("@ganzoo.cost\ndef c(a): return a  # more\n") != first
    assert digest("@ganzoo.cost\ndef c(a): return a\n") == first


def test_the_zoo_has_what_the_paper_compares() -> None:
    zoo = Zoo.installed()
    assert zoo.broken == ()
    names = {kind: [e.name for e in zoo.entries(kind) if e.origin.ours] for kind in KINDS}
    assert set(names["objective"]) >= {"cls-gan", "dcgan", "gls-gan", "ls-gan", "wgan", "wgan-gp"}
    assert set(names["cost"]) >= {"abs", "elu", "identity", "leaky", "relu"}
    assert set(names["margin"]) >= {"lp", "zero"}
    assert "dcgan" in names["generator"]
    assert "dcgan" in names["critic"]
