"""`ganzoo doctor`: who is broken, by name and version, with the cure; all the rest works. And two of one name."""

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_data import mnist

import ganzoo.doctor
from ganzoo import UserError, Zoo
from ganzoo.doctor import Finding, examine, healthy, text

COST = "import ganzoo\n@ganzoo.cost\ndef {name}(a):\n    return a + {add}\n"
IN_A_HOOK = "import ganzoo\n@ganzoo.{kind}\ndef c_thing({inputs}):\n    print('seen')\n    {does}\n"

PATH = tuple(sys.path)
"""Before a test adds to it."""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install("a", source) -> the folder on sys.path that holds that distribution, version 1.2.3, and its module."""
    imported = set(sys.modules)

    def installed(name: str, source: str, version: str = "1.2.3") -> Path:
        site = tmp_path / f"site-{name}"
        information = site / f"{name}-{version}.dist-info"
        information.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (information / "entry_points.txt").write_text(f"[ganzoo]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        return site

    yield installed
    for name in set(sys.modules) - imported:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "FAIL"]


def command(*sites: Path, arguments: tuple[str, ...] = ("doctor",)) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, with these folders first on its path."""
    return subprocess.run(
        [sys.executable, "-c", "from ganzoo.cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, sites), *PATH])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_this_installation_is_healthy_and_every_part_of_it_is_told_of(tmp_path: Path) -> None:
    findings = examine(folder=tmp_path)
    assert failures(findings) == []
    assert healthy(findings)
    said = text(findings)
    for word in ("Python 3.", "torch ", "torchvision ", "CPU cores", "bf16", "gls-gan", "digits", "GB free", "ray"):
        assert word in said
    assert said.endswith(f" warn, {sum(f.level == 'ok' for f in findings)} ok")
    assert os.listdir(tmp_path) == []


# Row 19: one raises at its import, one in a hook, all others load


def test_of_three_distributions_the_broken_ones_are_named_and_the_others_load(install: Install) -> None:
    sites = [
        install("a", COST.format(name="a_cost", add=1)),
        install("b", "import nowhere_at_all\n"),
        install("c", IN_A_HOOK.format(kind="cost", inputs="a", does="raise KeyError('in the hook')")),
    ]
    zoo = Zoo.installed()
    assert zoo.cost("a-cost")(1) == 2
    assert len(zoo.entries("objective")) >= 6
    at_import, in_hook = failures(examine())
    assert at_import.what == "b 1.2.3 (b): ModuleNotFoundError: No module named 'nowhere_at_all' (line 1 of b.py)"
    assert at_import.details[-2].strip() == "import nowhere_at_all"
    assert at_import.details[-1] == "ModuleNotFoundError: No module named 'nowhere_at_all'"
    assert "pip uninstall b" in at_import.cure
    assert in_hook.what == "c 1.2.3 (c): cost 'c-thing' raises KeyError: 'in the hook'"
    assert in_hook.details[-1] == "KeyError: 'in the hook'"
    assert "pip uninstall c" in in_hook.cure
    ended = command(*sites)
    assert ended.returncode == 1
    assert "ok    1 plugins of a 1.2.3: a-cost" in ended.stdout
    assert ended.stdout.count("\nFAIL ") == 2
    assert "      |     import nowhere_at_all\n" in ended.stdout
    assert "seen" not in ended.stdout  # what a plugin prints goes to standard error


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("cost", "a"),
        ("margin", "real, fake"),
        ("generator", "z_dim, image_shape"),
        ("critic", "image_shape, outputs"),
        ("objective", "cost, margin"),
    ],
)
@pytest.mark.parametrize(
    "does", ["raise SystemExit(0)", "exit()", "raise OSError('no\\n\\x1b[2Jgood')", "return 1 / 0"]
)
def test_whatever_a_plugin_raises_when_called_it_is_named(kind: str, inputs: str, does: str, install: Install) -> None:
    install("c", IN_A_HOOK.format(kind=kind, inputs=inputs, does=does))
    (found,) = failures(examine())
    assert found.what.startswith(f"c 1.2.3 (c): {kind} 'c-thing' raises ")
    said = text([found])
    assert all(line.isprintable() for line in said.split("\n"))


def test_an_objective_that_raises_in_its_loss_is_named(install: Install) -> None:
    source = (
        "import ganzoo\n@ganzoo.objective\ndef c():\n    return ganzoo.Objective(lambda critic, real, fake: 1 / 0)\n"
    )
    install("c", source)
    (found,) = failures(examine())
    assert "objective 'c' raises ZeroDivisionError" in found.what


def test_a_plugin_that_refuses_in_words_is_not_broken(install: Install) -> None:
    install("c", IN_A_HOOK.format(kind="cost", inputs="a", does="raise ganzoo.UserError('not these')"))
    assert failures(examine()) == []


def test_ctrl_c_in_a_plugin_stops_the_doctor(install: Install) -> None:
    install("c", IN_A_HOOK.format(kind="cost", inputs="a", does="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        examine()


def test_a_file_or_folder_given_by_path_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "mine.py").write_text(COST.format(name="mine", add=1))
    for path in (tmp_path, tmp_path / "broken.py"):
        (found,) = failures(examine([path]))
        assert found.what.startswith(f"{tmp_path / 'broken.py'}: ZeroDivisionError")
        assert found.cure == f"mend that file, or remove it; `ganzoo why {tmp_path / 'broken.py'}` says more"
    assert failures(examine([tmp_path / "mine.py"])) == []
    (found,) = failures(examine([tmp_path / "absent.py"]))
    assert found.what == f"no plugin file at {tmp_path / 'absent.py'}"


# Row 20: two distributions register one name


@pytest.mark.parametrize("order", list(itertools.permutations("abc")), ids="".join)
def test_two_distributions_of_one_name_are_both_named_whatever_the_order(
    order: tuple[str, ...], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("a", "1.0"), ("b", "2.0"), ("c", "3.0")):
        install(name, COST.format(name="twin" if name != "c" else "other", add=1), version)
    sites = [next(site for site in sys.path if site.endswith(f"site-{name}")) for name in order]
    monkeypatch.setattr(sys, "path", [*sites, *(path for path in sys.path if path not in sites)])
    zoo = Zoo.installed()
    said = "two things of one name: cost 'twin' comes from a 1.0 (a) and from b 2.0 (b)"
    for ask in (lambda: zoo.find("cost", "twin"), lambda: zoo.named("twin"), lambda: zoo.named("cost/twin")):
        with pytest.raises(UserError) as raised:
            ask()
        assert str(raised.value) == said
    assert zoo.cost("other")(1) == 2
    assert [finding.what for finding in failures(examine())] == [f"a 1.0 (a): {said}", f"b 2.0 (b): {said}"]


# The rest of the installation


def package(folder: Path, name: str, source: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(source)
    return folder


def test_a_torchvision_of_another_torch_is_told_with_the_cure(tmp_path: Path) -> None:
    raising = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    ended = command(package(tmp_path, "torchvision", raising))
    assert ended.returncode == 1
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("FAIL")]
    assert "torchvision was not built for this torch (RuntimeError: operator torchvision::nms does not exist)" in line
    assert "cure: install both from one place: pip install torchvision --index-url https://download" in ended.stdout
    assert "plugins of ganzoo" in ended.stdout  # and the examination goes on


@pytest.mark.parametrize("name", ["torchvision", "torch"])
def test_a_package_that_cannot_be_imported_is_told_without_a_traceback(name: str, tmp_path: Path) -> None:
    package(tmp_path, name, "raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    code = "from ganzoo.doctor import examine, healthy, text; f = examine(); print(text(f)); exit(not healthy(f))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert f"FAIL  {name} cannot be imported: ImportError: libcudart.so.13" in ended.stdout
    assert "cure: " in ended.stdout
    assert "GB free" in ended.stdout
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("torch_is", "torchvision_is", "told"),
    [
        ("2.15.0+cpu", "0.30.0+cu130", True),
        ("2.15.0+cpu", "0.30.0+rocm7", True),
        ("2.15.0+cpu", "0.30.0", True),
        ("2.15.0+cpu", "0.30.0+cpu", False),
        ("2.15.0+cu130", "0.30.0+cu130", False),
    ],
)
def test_a_torch_for_cpus_beside_a_torchvision_for_gpus_is_told_as_such(
    torch_is: str, torchvision_is: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    monkeypatch.syspath_prepend(package(tmp_path, "torchvision", raising))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("torch.__version__", torch_is)
    monkeypatch.setattr(ganzoo.doctor, "_version", lambda name: torchvision_is if name == "torchvision" else None)
    found = ganzoo.doctor._torchvision()
    assert found.level == "FAIL"
    assert ("a torch for CPUs alone beside a torchvision for GPUs" in found.what) == told
    assert f"torch is {torch_is}, torchvision {torchvision_is}" in found.what
    assert found.cure.endswith(f"https://download.pytorch.org/whl/{torch_is.partition('+')[2]}")


@pytest.mark.parametrize(
    ("version", "level"),
    [("2.9.1", "FAIL"), ("2.10.2+cpu", "FAIL"), ("1.13", "FAIL"), ("2.11.0", "ok"), ("3.0.0a0+git12", "ok")],
)
def test_a_torch_older_than_the_oldest_that_works_fails(
    version: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.__version__", version)
    found = next(iter(ganzoo.doctor._torch()))
    assert found.level == level
    assert (found.cure == "pip install -U 'torch>=2.11' torchvision") == (level == "FAIL")


@pytest.mark.parametrize(
    ("version", "level"), [((3, 11, 3), "warn"), ((3, 11, 4), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "warn")]
)
def test_a_python_that_ganzoo_is_not_tested_on_is_a_warning(
    version: tuple[int, int, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.version_info", version)
    found = ganzoo.doctor._python()
    assert found.level == level
    assert bool(found.cure) == (level == "warn")


def test_a_gpu_that_is_seen_and_does_not_compute_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class About:
        name, total_memory = "Some GPU", 80 * 2**30

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: About)
    torch = importlib.import_module("torch")
    ones = torch.ones
    monkeypatch.setattr("torch.ones", lambda *sizes, **keys: refused() if "device" in keys else ones(*sizes))
    first, second = ganzoo.doctor._torch()
    assert first.level == "ok"
    assert second.level == "FAIL"
    assert "cuda:0 does not compute: RuntimeError: no kernel image" in second.what
    monkeypatch.setattr("torch.ones", lambda *sizes, **_: ones(*sizes))
    assert [finding.what for finding in ganzoo.doctor._torch()][1] == "cuda:0 is Some GPU, 80 GiB"


def test_plugins_that_are_limited_are_told_of_and_a_wrong_limit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_PLUGINS", "leaky")
    findings = examine()
    assert failures(findings) == []
    (warned,) = [finding for finding in findings if "GANZOO_PLUGINS" in finding.what]
    assert (warned.level, warned.what) == ("warn", "GANZOO_PLUGINS is set: it lets in leaky")
    assert any("1 plugins of ganzoo" in finding.what for finding in findings)
    monkeypatch.setenv("GANZOO_PLUGINS", "leeky")
    (found,) = failures(examine())
    assert found.what.startswith("GANZOO_PLUGINS names 'leeky', which is not installed; did you mean 'leaky'?")
    assert found.cure == "unset GANZOO_PLUGINS, or name what is installed"
    assert any("plugins of ganzoo" in finding.what and "gls-gan" in finding.what for finding in examine())


def test_a_data_folder_that_cannot_be_written_to_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "not" / "yet"))
    asked = []
    monkeypatch.setattr("os.access", lambda path, mode: asked.append(path) or False)
    findings = list(ganzoo.doctor._data())
    assert asked == [tmp_path]  # the nearest that is there
    assert (findings[-1].level, "cannot be written to" in findings[-1].what) == ("warn", True)
    monkeypatch.setattr("os.access", lambda path, mode: True)
    assert all(finding.level == "ok" for finding in ganzoo.doctor._data())


@pytest.mark.parametrize("folder", ["/proc", "/nowhere/at/all"])
def test_a_folder_that_cannot_be_written_to_fails(folder: str) -> None:
    (found,) = failures(examine(folder=Path(folder)))
    assert found.what.startswith(f"nothing can be written in {folder}: ")
    assert found.cure


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ganzoo.doctor, "ENOUGH_DISK", 10**18)
    findings = examine(folder=tmp_path)
    assert [f.what for f in findings if f.level == "warn"] == [f.what for f in findings if "GB free" in f.what]
    assert healthy(findings)


def test_the_data_sets_that_are_there_are_told_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    mnist(tmp_path)
    said = text(examine())
    assert f"data sets in {tmp_path}: digits (with scikit-learn), mnist\n" in said
    assert "not there: fashion-mnist, cifar10, svhn, celeba; `--set data.download=true`" in said


def test_the_command_prints_json_too() -> None:
    ended = command(arguments=("doctor", "--json"))
    assert ended.returncode == 0, ended.stdout
    found = json.loads(ended.stdout)
    assert {"level", "what", "cure", "details"} == set(found[0])


def test_a_doctor_that_finds_nothing_wrong_and_one_that_does_differ_in_health_alone() -> None:
    assert healthy([Finding("ok", "a"), Finding("warn", "b", "c")])
    assert not healthy([Finding("ok", "a"), Finding("FAIL", "b", "c")])
    assert text([Finding("FAIL", "b", "c", ("d",))]) == "FAIL  b\n      | d\n      cure: c\n1 FAIL, 0 warn, 0 ok"


@pytest.mark.parametrize("columns", [1, 20, 80])
def test_what_is_found_fits_the_terminal_and_a_cure_can_be_copied(columns: int) -> None:
    what = "30 plugins of ganzoo 0.1.0: abs, elu, semi-automatic, /a/very/long/path/that/no/terminal/of/20/columns/has"
    cure = "pip install torchvision --index-url https://download.pytorch.org/whl/cpu"
    lines = text([Finding("FAIL", what, cure)], columns).splitlines()
    assert f"      cure: {cure}" in lines
    *found, count = [line for line in lines if "cure: " not in line]
    assert all(len(line) <= max(columns, 20) for line in found)
    assert "".join("".join(found).removeprefix("FAIL").split()) == what.replace(" ", "")
    assert count == "1 FAIL, 0 warn, 0 ok"
