"""The command: what it prints, how it ends, and one line on standard error for each slip."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from commands import Command, Said
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganzoo.bench import Run
from ganzoo.cell_folder import checkpoints
from ganzoo.cli import complete
from ganzoo.durable import commit_sealed, load_checkpoint, read_sealed, save_checkpoint, seal
from ganzoo.hooks import KINDS
from ganzoo.penalty import PENALTIES


def is_a_slip(said: Said, *words: str) -> None:
    assert said.status == 2
    assert said.out == ""
    assert said.err.startswith("ganzoo: ")
    assert said.err.count("\n") == 1, said.err
    for word in words:
        assert word in said.err
    assert os.listdir() == []


# What it says


def test_without_arguments_it_says_what_there_is_and_what_to_type_next(ganzoo: Command) -> None:
    said = ganzoo()
    assert said.status == 0
    for word in ("gls-gan", "leaky", "dcgan", "ganzoo bench", "ganzoo check leaky"):
        assert word in said.out


def test_version_and_help(ganzoo: Command) -> None:
    assert ganzoo("--version").out == f"ganzoo {version('ganzoo')}\n"
    said = ganzoo("--help")
    assert said.status == 0
    for command in ("list", "show", "check", "bench", "mre"):
        assert command in said.out
    for command in ("list", "show", "check", "bench", "mre"):
        said = ganzoo(command, "--help")
        assert said.status == 0
        assert "--json" in said.out


def test_list_names_all_or_one_kind(ganzoo: Command) -> None:
    everything = json.loads(ganzoo("list", "--json").out)
    assert everything["broken"] == []
    kinds = {plugin["kind"] for plugin in everything["plugins"]}
    assert kinds == set(KINDS)
    costs = json.loads(ganzoo("list", "costs", "--json").out)["plugins"]
    assert {cost["name"] for cost in costs} == {"leaky", "identity", "relu", "abs", "elu", "softplus"}
    lines = ganzoo("list", "cost").out.splitlines()
    assert len(lines) == len(costs)
    assert any("C(a) = max(a, slope * a)" in line for line in lines)


def test_show_has_the_formula_the_domain_and_the_source(ganzoo: Command) -> None:
    text = ganzoo("show", "leaky").out
    for word in ("C(a) = max(a, slope * a)", "slope", "<= 1", "0.01", "leaky.py"):
        assert word in text
    (found,) = json.loads(ganzoo("show", "leaky", "--json").out)
    assert found["hyperparameters"]["slope"]["default"] == 0.01
    assert {entry["kind"] for entry in json.loads(ganzoo("show", "dcgan", "--json").out)} == {
        "objective",
        "generator",
        "critic",
    }
    assert len(json.loads(ganzoo("show", "objective/dcgan", "--json").out)) == 1


def test_show_has_the_formula_and_the_source_of_each_penalty_too(ganzoo: Command) -> None:
    assert set(complete.PENALTIES) == set(PENALTIES)
    for name in PENALTIES:
        text = ganzoo("show", name).out
        source = "(Qi 2017" if name == "theta_penalty" else "et al. 201"
        for word in (f"penalty {name}\n", "E", "||grad", source, f"-o OBJECTIVE:{name}=WEIGHT", "penalty.py:"):
            assert word in text
        (found,) = json.loads(ganzoo("show", name, "--json").out)
        assert found["kind"] == "penalty"
        assert found["doc"].splitlines()[0] in text


def test_show_fits_a_narrow_terminal(ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.cli.look.width", lambda: 20)
    for name in ("rpgan", "critic/table-1", "r1"):
        text = ganzoo("show", name).out
        longest = max(len(word) for word in text.split())
        assert max(map(len, text.splitlines())) <= max(20, longest + 4)
        assert max(len(line) for line in text.splitlines() if "/" not in line) <= 24


def test_a_broken_plugin_is_one_line_whatever_its_name_holds(ganzoo: Command) -> None:
    Path("folder").mkdir()
    Path("folder", "forged.py").write_text(
        "import ganzoo\n@ganzoo.cost(name='a\\nok    all is well' + 'x' * 5000)\ndef f(a):\n    return a\n"
    )
    (line,) = ganzoo("list", "costs", "-p", "folder").err.splitlines()
    assert line.startswith("broken: folder/forged.py: cost 'a?ok    all is well")
    assert line.endswith("   (ganzoo why folder/forged.py)")
    assert len(line) < 600


def test_with_nothing_let_in_the_list_and_the_comparison_say_so(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_PLUGINS", "leaky")
    said = ganzoo("list", "objectives")
    assert (said.status, said.out) == (0, "")
    assert said.err == "no objective is installed: GANZOO_PLUGINS lets in leaky\n"
    said = ganzoo("bench", "--dry-run")
    assert said.status == 2
    assert said.err == "ganzoo: no objective is installed (GANZOO_PLUGINS lets in leaky)\n"


@pytest.mark.usefixtures("unmeasured")
def test_show_plan_is_a_plan(ganzoo: Command) -> None:
    Path("plan.toml").write_text(ganzoo("show", "plan").out)
    assert ganzoo("bench", "plan.toml", "--dry-run").status == 0
    schema = json.loads(ganzoo("show", "plan", "--json").out)
    assert "seeds" in schema["properties"]


def test_check_passes_what_is_right_and_refuses_what_is_wrong(ganzoo: Command, plugin: Callable[..., Path]) -> None:
    said = ganzoo("check", "identity", "--json")
    assert said.status == 0
    assert isinstance(json.loads(said.out), list)
    wrong = plugin("""
    @ganzoo.cost
    def half(a):
        return a / 2
    """)
    assert ganzoo("check", str(wrong)).status == 1


def test_dry_run_says_what_it_would_do_and_writes_nothing(ganzoo: Command, tiny_arguments: list[str]) -> None:
    said = ganzoo("bench", "--dry-run", "-o", "gls-gan:slope=0,0.5", "-o", "dcgan", *tiny_arguments, "--seeds", "5")
    assert said.status == 0
    assert "gls-gan:slope=0.5  x 5 seeds" in said.out
    assert "15 cells of 2 epochs on digits (64 / 16 / 16 images" in said.out
    assert "p: 5 paired seeds can reach 0.062, Holm needs 0.025 for the first of 2: too few, 7 seeds" in said.out
    assert re.search(
        r"^about .*training .*, validation .*, test .*, baselines .*, start .*\nmemory .*disk", said.out, re.M
    )
    found = json.loads(ganzoo("bench", "--dry-run", "-o", "dcgan", *tiny_arguments, "--json").out)
    assert [cell["contender"]["label"] for cell in found["cells"]] == ["dcgan"]
    assert found["images"] == {"train": 64, "validation": 16, "test": 16}
    assert found["prediction"]["wall"] > found["prediction"]["rates"]["dcgan"]["round"] > 0
    assert os.listdir() == []


def test_what_a_fast_path_could_not_do_is_one_line_on_standard_error(
    ganzoo: Command, tiny_arguments: list[str]
) -> None:
    arguments = ["bench", "-o", "dcgan", *tiny_arguments, "--seeds=2", "--out", "run"]
    assert ganzoo(*arguments).status == 0
    for path in Path("run/cells").glob("*/row.json"):
        row = read_sealed(path)
        assert row["notes"] == []
        row["notes"] = ["rounds are not captured: no room"]
        commit_sealed(path, row)
        verdict = read_sealed(path.parent / "verdict.json")
        verdict["files"]["row.json"] = seal(row)
        commit_sealed(path.parent / "verdict.json", verdict)
    assert ganzoo(*arguments).err.count("dcgan: rounds are not captured: no room\n") == 1


@pytest.mark.parametrize("leave", ["raise SystemExit(0)", "exit()", 'raise RuntimeError("no")'])
def test_a_plugin_that_leaves_is_neither_a_pass_nor_a_success(
    leave: str, ganzoo: Command, plugin: Callable[..., Path], tiny_arguments: list[str]
) -> None:
    mine = plugin(f"""
    @ganzoo.cost
    def leaves(a):
        {leave}
    """)
    assert ganzoo("check", str(mine)).status == 1
    said = ganzoo("bench", "-o", "gls-gan:cost=leaves", "-p", str(mine), *tiny_arguments, "--out", "run")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("ganzoo: gls-gan:cost=leaves fails: ")
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["row.json", "pictures.npz", "../../baselines.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"verdict": "done"}', bytes(range(256))])
def test_a_damaged_file_of_a_run_is_named_and_made_again(
    name: str, content: bytes, ganzoo: Command, tiny_arguments: list[str]
) -> None:
    arguments = ["bench", "-o", "dcgan", *tiny_arguments, "--out", "run"]
    assert ganzoo(*arguments).status == 0
    (cell,) = Path("run/cells").iterdir()
    (cell / name).write_bytes(content)
    before = Path("run/table.txt").read_bytes()
    with pytest.warns(UserWarning, match=rf"{Path(name).name} .* made again"):
        assert ganzoo(*arguments).status == 0
    assert Path("run/table.txt").read_bytes() == before
    assert ganzoo("verify", "run").status == 0


@pytest.mark.parametrize("device", ["meta", "mps", "xpu", "cuda:99", "cpu:x"])
def test_a_device_that_ganzoo_cannot_use_is_refused(device: str, ganzoo: Command, tiny_arguments: list[str]) -> None:
    said = ganzoo("bench", "-o", "dcgan", *tiny_arguments, "--device", device, "--dry-run")
    assert (said.status, said.err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("unmeasured")
def test_a_strangers_cost_appears_in_the_default_comparison(ganzoo: Command, plugin: Callable[..., Path]) -> None:
    mine = plugin("""
    @ganzoo.cost
    def mine(a):
        return a.relu()
    """)
    assert "gls-gan:cost=mine" in ganzoo("bench", "--dry-run", "-p", str(mine)).out


def test_bench_runs_ranks_draws_and_resumes(
    ganzoo: Command, tiny_arguments: list[str], plugin: Callable[..., Path]
) -> None:
    mine = plugin("""
    @ganzoo.cost
    def mine(a):
        if len(a) > 4:  # not when it is tried out
            raise RuntimeError("a slip")
        return a
    """)
    arguments = ["bench", "-o", "wgan", "-o", "gls-gan:cost=mine", "-p", str(mine), *tiny_arguments, "--jobs", "2"]
    said = ganzoo(*arguments, "--out", "run", "--json")
    assert said.status == 1  # a cell failed
    assert "gls-gan:cost=mine seed 0: failed:error: RuntimeError: a slip" in said.err
    found = json.loads(said.out)
    assert [standing["label"] for standing in found["standings"]] == ["wgan", "gls-gan:cost=mine"]
    assert found["folder"] == "run"
    assert {path.name for path in Path("run").iterdir()} >= {
        "plan.toml",
        "run.json",
        "images.json",
        "rows.jsonl",
        "baselines.json",
        "table.txt",
        "summary.json",
        "curves.png",
        "samples.png",
        "reconstructions.png",
    }
    del arguments[3:5]
    again = ganzoo(*arguments, "--out", "run")
    assert again.status == 0
    assert again.out.splitlines()[1].split()[:2] == ["1", "wgan"]
    assert "Traceback" not in again.err
    said = ganzoo("bench", "-o", "wgan", *tiny_arguments, "--set", "z_dim=5", "--out", "run")
    assert said.status == 2
    assert "holds a run of another plan (" in said.err
    assert "z_dim" in said.err


# mre


@pytest.fixture
def cell(finished: Run) -> Path:
    return finished.directory(finished.cells[0])


def test_mre_of_a_cell_is_that_of_its_row(ganzoo: Command, cell: Path) -> None:
    row = json.loads((cell / "row.json").read_text())
    best = json.loads(ganzoo("mre", str(cell), "--json").out)
    assert best["mre"] == row["test_mre"]
    assert best["control_mre"] == row["control_mre"]
    assert best["protocol"] == row["mre"]
    last = json.loads(ganzoo("mre", str(checkpoints(cell)[0]), "--last", "--json").out)
    assert last["mre"] == row["test_mre_last"]
    other = json.loads(ganzoo("mre", str(cell), "--set", "steps=2", "--images", "3", "--json").out)
    assert other["images"] == 3
    assert other["protocol"] != row["mre"]
    validation = json.loads(ganzoo("mre", str(cell), "--split", "validation", "--json").out)
    assert validation["mre"] != row["test_mre"]
    assert "best on validation" in ganzoo("mre", str(cell)).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "tset"], ["no split 'tset'; did you mean 'test'?"]),
        (["--set", "step=3"], ["the protocol has no 'step'; did you mean 'steps'?"]),
        (["--set", "steps=0"], ["steps = 0: "]),
        (["--set", "steps=many"], ["steps = 'many': "]),
        (["--set", "steps"], ["--set steps: expected KEY=VALUE"]),
        (["--images", "0"], ["--images"]),
        (["--images", "x"], ["--images"]),
    ],
)
def test_each_slip_with_mre_is_one_line(ganzoo: Command, cell: Path, arguments: list[str], words: list[str]) -> None:
    is_a_slip(ganzoo("mre", str(cell), *arguments), *words)


def test_mre_names_a_file_that_is_no_whole_checkpoint(ganzoo: Command, cell: Path, tmp_path: Path) -> None:
    is_a_slip(ganzoo("mre", str(tmp_path / "absent")), "no checkpoint at ", "absent")
    is_a_slip(ganzoo("mre", str(tmp_path)), "no checkpoint at ")
    path, whole = tmp_path / "checkpoint", checkpoints(cell)[0].read_bytes()
    path.write_bytes(whole[:-10])
    is_a_slip(ganzoo("mre", str(path)), "is truncated or altered")
    path.write_bytes(b"something else")
    is_a_slip(ganzoo("mre", str(path)), "is not a ganzoo checkpoint")
    save_checkpoint(path, {"another": "state"})
    is_a_slip(ganzoo("mre", str(path)), "is not the checkpoint of a cell")
    state = load_checkpoint(checkpoints(cell)[0])
    for content in ("{}", "", state["cell"].replace('"epochs"', '"epoch"')):  # say, by another version
        save_checkpoint(path, {**state, "cell": content})
        is_a_slip(ganzoo("mre", str(path)), "is not the checkpoint of a cell")


# Slips


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bnch"], ["bnch", "bench"]),
        (["list", "costz"], ["no kind 'costz'; did you mean 'cost'?"]),
        (["list", "costs", "more"], ["more"]),
        (["show", "leeky"], ["nothing is named 'leeky'; did you mean 'leaky'?"]),
        (["show", "cost/leeky"], ["no cost named 'leeky'; did you mean 'leaky'?"]),
        (["show", "lsgan"], ["'lsgan' is ambiguous: ls-gan (loss-sensitive, Qi 2017) or least-squares (Mao 2017)?"]),
        (["show"], ["name"]),
        (["list", "penalties"], ["no kind 'penalties'"]),
        (["check", "leeky"], ["did you mean 'leaky'?"]),
        (["check", "absent.py"], ["no plugin file at absent.py"]),
        (["list", "-p", "absent.py"], ["no plugin file at absent.py"]),
        (["--nonsense"], ["--nonsense"]),
        (["bench", "--sedes", "3"], ["--sedes", "--seeds"]),
        (["bench", "--seeds", "many"], ["--seeds"]),
        (["bench", "--seeds", "0"], ["seeds = 0"]),
        (["bench", "--jobs", "0"], ["--jobs"]),
        (["bench", "absent.toml"], ["no plan at absent.toml"]),
        (["bench", "-o", "gls-gann"], ["no objective named 'gls-gann'; did you mean 'gls-gan'?"]),
        (["bench", "-o", "gls-gan:slop=1"], ["no hyperparameter 'slop'; did you mean 'slope'?"]),
        (["bench", "-o", "gls-gan:slope=2"], ["slope = 2", "<= 1"]),
        (["bench", "-o", "wgan:cost=leaky"], ["objective 'wgan' takes no cost"]),
        (["bench", "-d", "minst"], ["no image set named 'minst'; did you mean 'mnist'?"]),
        (["bench", "-d", "folder"], ["folder needs a path"]),
        (["bench", "-d", "folder", "--set", "data.path=absent"], ["absent"]),
        (["bench", "--device", "gpu"], ["no device named 'gpu'"]),
        (["bench", "--set", "sedes=3"], ["unknown key 'sedes'; did you mean 'seeds'?"]),
        (["bench", "--set", "data.sett=x"], ["unknown key 'sett' in [data]; did you mean 'set'?"]),
        (["bench", "--set", "path=x"], ["unknown key 'path'"]),
        (["bench", "--set", "generator.self=1"], ["has no hyperparameter 'self'"]),
        (["bench", "--set", "epochs"], ["--set epochs: expected KEY=VALUE"]),
        (["bench", "--set", "=3"], ["--set =3: expected KEY=VALUE"]),
        (["bench", "--set", "epochs=nan"], ["epochs = nan"]),
        (["bench", "--set", "epochs=\udcff"], ["surrogate"]),
        (["bench", "-o", "wgan", "--set", "critic.norm=batch", "-o", "wgan-gp"], ["per sample", "norm-free"]),
    ],
)
def test_each_slip_is_one_line_that_names_it_and_nothing_is_written(
    ganzoo: Command, arguments: list[str], words: list[str]
) -> None:
    is_a_slip(ganzoo(*arguments), *words)


def test_a_broken_plugin_asked_for_is_named_with_its_reason(ganzoo: Command, plugin: Callable[..., Path]) -> None:
    broken = plugin("    import nothing_of_this_name\n")
    for command in (["check", str(broken)], ["list", "-p", str(broken)], ["bench", "-p", str(broken)]):
        is_a_slip(ganzoo(*command), "mine.py", "nothing_of_this_name")


def test_a_broken_plugin_in_a_folder_leaves_the_rest_at_work(ganzoo: Command, plugin: Callable[..., Path]) -> None:
    folder = plugin("    import nothing_of_this_name\n").parent
    said = ganzoo("list", "-p", str(folder))
    assert said.status == 0
    assert "leaky" in said.out
    assert "mine.py" in said.err
    assert "nothing_of_this_name" in said.err


def test_the_installed_command_ends_the_same_way(tmp_path: Path) -> None:
    for arguments, status in ((["--version"], 0), (["bench", "--set", "sedes=3"], 2), (["show", "leeky"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", "from ganzoo.cli import main; main()", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert done.stderr.count("\n") == (status == 2)
        assert done.stderr.startswith("ganzoo: " if status else "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_early_gets_no_traceback(unbuffered: str, tmp_path: Path) -> None:
    program = f"{sys.executable} -c 'from ganzoo.cli import main; main()' show plan --json | true"
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(program, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""


word = st.one_of(
    st.sampled_from(
        ["list", "show", "check", "bench", "mre", "--json", "-o", "-d", "--set", "--seeds", "--split", "-p", "--out"]
    ),
    st.sampled_from(
        ["leaky", "gls-gan:slope=", "plan", "cost", "seeds=1e9", "data.set=digits", "--", "-", ".", "/", ""]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(word, max_size=5))
def test_whatever_is_typed_there_is_no_traceback(ganzoo: Command, words: list[Any]) -> None:
    # What a check or a comparison finds is tested elsewhere, and takes long.
    words = [
        typed for word in words for typed in {"bench": ["bench", "--dry-run"], "check": ["show"]}.get(word, [word])
    ]
    said = ganzoo(*words)
    assert said.status in (0, 2)
    assert (said.status == 2) == said.err.startswith("ganzoo: ")
    assert os.listdir() == []
