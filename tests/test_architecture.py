"""The house's rules: who imports whom, what is documented, what is announced, what stays light."""

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ganzoo
from ganzoo import Zoo
from ganzoo.hooks import KINDS, PROJECT, Hooks
from ganzoo.zoo import SPECIFICATION

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "ganzoo").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins" / "ganzoo_plugins").glob("*.py"))


def imports(path: Path) -> list[tuple[str, str | None]]:
    """(module, name or None) of each import statement, relative ones included as they are written."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


def test_there_are_files_to_look_at() -> None:
    assert {"entry.py", "hooks.py", "game.py", "penalty.py"} <= {p.name for p in CORE}
    assert {"leaky.py", "ls_gan.py", "dcgan_networks.py"} <= {p.name for p in PLUGINS}


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_in_the_core_imports_a_plugin(path: Path) -> None:
    assert [module for module, _ in imports(path) if top(module) == "ganzoo_plugins"] == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: p.name)
def test_a_plugin_imports_only_public_names_of_ganzoo(path: Path) -> None:
    for module, name in imports(path):
        assert not module.startswith(".")
        if top(module) == "ganzoo":
            assert module == "ganzoo", f"{path.name} reaches into {module}"
            assert name is None or name in ganzoo.__all__, f"{path.name} imports the private {name}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: p.name)
def test_a_plugin_uses_only_public_names_of_ganzoo(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ganzoo":
            assert node.attr in ganzoo.__all__


@pytest.mark.parametrize("path", [p for p in PLUGINS if not p.stem.endswith("_engine")], ids=lambda p: p.name)
def test_a_plugin_of_a_game_leaves_steps_devices_and_printing_to_the_harness(path: Path) -> None:
    forbidden = {"backward", "cuda", "item", "cpu", "numpy", "tolist", "manual_seed"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in forbidden
        if isinstance(node, ast.Name):
            assert node.id != "print"


@pytest.mark.parametrize("name", ganzoo.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(ganzoo, name) is not None
    assert name in dir(ganzoo)


def test_a_public_name_that_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"ganzoo has no name 'Objectiv'; did you mean 'Objective'\?"):
        ganzoo.Objectiv  # noqa: B018 (looking is the test)


def test_the_hooks_are_the_kinds() -> None:
    hooks = {name for name, f in vars(Hooks).items() if hasattr(f, f"{PROJECT}_spec")}
    assert hooks == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_is_documented_has_an_implementation_and_a_decorator(kind: str) -> None:
    contract = inspect.getdoc(getattr(Hooks, kind))
    assert contract
    assert len(contract) > 40
    assert Zoo.installed().entries(kind)
    decorator = getattr(ganzoo, kind)
    assert kind in ganzoo.__all__
    assert contract.partition("\n")[0] in inspect.getdoc(decorator)
    assert decorator(lambda: None).ganzoo_impl["specname"] == kind


def test_the_harness_gives_what_the_design_says() -> None:
    assert SPECIFICATION == {
        "objective": ("cost", "margin"),
        "cost": ("a",),
        "margin": ("real", "fake", "networks"),
        "generator": ("z_dim", "image_shape"),
        "critic": ("image_shape", "outputs"),
        "engine": ("cores", "gpus"),
        "listener": ("folder", "plan"),
    }


def test_every_entry_is_documented() -> None:
    for entry in Zoo.installed():
        if entry.origin.ours:
            assert len(entry.doc) > 10, entry.name


def test_every_plugin_file_is_announced_and_every_announced_one_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    announced = sorted(project["entry-points"][PROJECT].values())
    assert announced == [f"ganzoo_plugins.{p.stem}" for p in PLUGINS if p.stem != "__init__"]
    assert len(set(announced)) == len(announced)


def imported_by(code: str) -> set[str]:
    """The modules that a fresh process has after running this."""
    told = "import sys\n" + code + "\nprint('\\n'.join(['', *sys.modules]))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", told], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines())


HELP = """
from ganzoo.cli import main
sys.argv = ["ganzoo", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    ["import ganzoo", "import ganzoo; dir(ganzoo); ganzoo.cost", *(HELP.format(arguments=a) for a in (["--help"],))],
    ids=["import", "dir", "help"],
)
def test_what_should_start_at_once_does_not_import_torch(code: str) -> None:
    modules = imported_by(code)
    assert "ganzoo" in modules
    assert {"torch", "scipy", "matplotlib", "sklearn", "torchvision"}.isdisjoint(modules)


def test_the_look_for_torch_would_see_it() -> None:
    assert "torch" in imported_by("import ganzoo; ganzoo.Objective")
