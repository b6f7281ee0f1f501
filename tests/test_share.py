"""A share: everything that others need, nothing of this machine, the same bytes each time, readable without ganzoo."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from ganzoo import Zoo
from ganzoo.bench import Run, prepare
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan, read_plan
from ganzoo.durable import load_checkpoint
from ganzoo.errors import UserError
from ganzoo.players import players
from ganzoo.result import read_cell
from ganzoo.share.clean import cleaned, paths_in
from ganzoo.share.compare import compare
from ganzoo.share.export import columns, csv_bytes, export, flat, parquet_bytes
from ganzoo.share.opening import open_share, read_share
from ganzoo.share.packing import share
from ganzoo.share.reading import read_run, table_of


@pytest.fixture(scope="module")
def shared(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "x.zip"
    share(finished.folder, out)
    return out


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# What is in it


def test_a_share_holds_rows_plan_page_environment_and_weights(shared: Path, finished: Run) -> None:
    files = content(shared)
    assert {"README.md", "share.json", "plan.toml", "rows.jsonl", "rows.csv", "environment.json", "page.html"} <= set(
        files
    )
    rows = [json.loads(line) for line in files["rows.jsonl"].decode().splitlines()]
    assert len(rows) == 4
    for row, ours in zip(rows, finished.rows(), strict=True):
        assert {**row, "provenance": None} == {**ours, "provenance": None}
    assert sum(name.endswith("generator.safetensors") for name in files) == 4
    environment = json.loads(files["environment.json"])
    assert environment["versions"]["torch"]
    assert environment["arithmetic"] == [rows[0]["fingerprint"]]
    assert b"<html" in files["page.html"]


def test_the_same_run_gives_the_same_bytes(shared: Path, finished: Run, tmp_path: Path) -> None:
    share(finished.folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == shared.read_bytes()
    elsewhere = shutil.copytree(finished.folder, tmp_path / "deep" / "run")
    share(elsewhere, tmp_path / "copy.zip")
    assert content(tmp_path / "copy.zip")["rows.jsonl"] == content(shared)["rows.jsonl"]


def test_the_weights_are_those_of_the_checkpoint_and_fit_the_networks(shared: Path, finished: Run, zoo: Zoo) -> None:
    files = content(shared)
    directory = next((finished.folder / "cells").glob("gls-gan-seed1-*"))
    state = load_checkpoint(checkpoints(directory)[0])
    for name, part in (("generator", "best_generator"), ("generator-last", "generator"), ("critic", "critic")):
        found = load(files[f"weights/{directory.name}/{name}.safetensors"])
        assert found.keys() == state[part].keys()
        assert all(torch.equal(found[key], value) for key, value in state[part].items())
    made = players(read_cell(directory), zoo, finished.data)
    made.critic.load_state_dict(load(files[f"weights/{directory.name}/critic.safetensors"]))


def test_without_weights_it_has_none(finished: Run, tmp_path: Path) -> None:
    found = share(finished.folder, tmp_path / "x.zip", weights=False)
    assert found.weights == 0
    assert not any(name.startswith("weights") for name in content(tmp_path / "x.zip"))
    assert "load_file" not in content(tmp_path / "x.zip")["README.md"].decode()


def test_it_opens_without_ganzoo_as_its_readme_says(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared) as archive:
        archive.extractall(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    alone = "import sys\nsys.modules['ganzoo'] = None\n" + "\n".join(blocks)
    ran = subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "gls-gan 1 done 0." in ran.stdout
    assert "torch.float32" in ran.stdout
    table = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [float(line["test_mre"]) for line in table] == [row["test_mre"] for row in rows]
    assert read_plan(tmp_path / "plan.toml").seeds == 2


# What is not in it


def test_no_path_and_no_user_of_the_machine_is_in_a_share(
    tiny: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "dagobert"
    work = home / "my secret work"
    work.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    plugin = work / "mine.py"
    plugin.write_text(
        "import ganzoo\n\n\n@ganzoo.cost\ndef mine(a, name: str = '/home/dagobert/x'):\n"
        "    '''max(a, 0)'''\n    return a.clamp(min=0)\n"
    )
    zoo = Zoo.installed(plugin)
    plan = tiny(objectives=["gls-gan:cost=mine"], plugins=[str(plugin)])
    monkeypatch.setattr(
        sys,
        "argv",
        ["ganzoo", "bench", "-p", str(plugin), f"--out={work / 'run'}", f"--set=data.path={home}/pictures/x"],
    )
    run = Run(work / "run", prepare(plan, zoo))
    with run.held():
        rows = run.train(1, lambda event: None)
    assert [row["verdict"] for row in rows] == ["done"]
    assert "dagobert" in json.dumps(rows)
    share(work / "run", tmp_path / "x.zip")
    for name, found in content(tmp_path / "x.zip").items():
        for secret in (b"dagobert", b"my secret work", str(tmp_path).encode(), str(Path.cwd()).encode()):
            assert secret not in found, name
            assert secret not in name.encode()
    assert b"dagobert" not in (tmp_path / "x.zip").read_bytes()
    found = read_run(tmp_path / "x.zip")
    assert found.plan.plugins == ("mine.py",)
    assert found.rows[0]["hyperparameters"] == rows[0]["hyperparameters"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cannot read /home/ada/data/x.npz: gone", "cannot read x.npz: gone"),
        ("ganzoo bench --out=/srv/a/run -p ~/b/c.py", "ganzoo bench --out=run -p c.py"),
        ("vgg16,weights=/mnt/ada/vgg.pth", "vgg16,weights=vgg.pth"),
        (r"C:\Users\ada\x.png and D:/data/y.png", "x.png and y.png"),
        ("file:///home/ada/x", "x"),
        ("/home/ada", "~"),
        ("~ada/notes/x", "x"),
        ("https://example.org/a/b stays", "https://example.org/a/b stays"),
        ("cost/leaky and mean |x - G(z)| / 2 stay", "cost/leaky and mean |x - G(z)| / 2 stay"),
        ("mre2-l1-near-adam0.2", "mre2-l1-near-adam0.2"),
    ],
)
def test_of_a_path_its_last_part_stays_and_of_all_else_all(text: str, said: str) -> None:
    assert cleaned(text, paths_in([text])) == said


def test_what_stands_where_a_path_belongs_is_one_whatever_it_holds() -> None:
    document = {"data": {"path": "../ada/my pictures"}, "plugins": ["plug ins/one.py"], "label": "a/b"}
    assert paths_in(document) == {"../ada/my pictures", "plug ins/one.py"}


# What it refuses


def test_a_file_that_is_there_is_written_over_only_by_force(shared: Path, finished: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.zip"
    out.write_text("precious")
    with pytest.raises(UserError, match=r"x.zip is there already; take another -o, or --force"):
        share(finished.folder, out)
    assert out.read_text() == "precious"
    share(finished.folder, out, force=True)
    assert out.read_bytes() == shared.read_bytes()


def test_a_share_is_called_a_zip(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.tar: a share is a zip; take -o .*x\.zip$"):
        share(finished.folder, tmp_path / "x.tar", force=True)
    assert not (tmp_path / "x.tar").exists()


def test_an_unfinished_run_is_shared_with_a_note_and_an_empty_one_is_not(finished: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / "copy"))
    next(copy.glob("cells/dcgan-seed0-*")).joinpath("row.json").unlink()
    found = share(copy, tmp_path / "x.zip")
    assert (found.rows, found.weights) == (3, 3)
    assert "1 of 4 cells are not finished" in found.notes[0]
    assert read_run(tmp_path / "x.zip").unfinished == 1
    for path in copy.glob("cells/*/row.json"):
        path.unlink()
    with pytest.raises(UserError, match="has no finished cell yet"):
        share(copy, tmp_path / "y.zip")
    assert not (tmp_path / "y.zip").exists()


def test_a_run_without_its_checkpoints_says_how_to_share_the_rows(finished: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / "copy"))
    for path in copy.glob("cells/dcgan-seed0-*/checkpoint-*"):
        path.unlink()
    with pytest.raises(UserError, match=r"dcgan seed 0 has no whole checkpoint; .* --without-weights"):
        share(copy, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_full_disk_leaves_no_half_of_a_share(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganzoo.durable.os.fsync", full)
    monkeypatch.setattr("ganzoo.share.packing._Packed.page", lambda packed: [])
    with pytest.raises(UserError, match=r"the disk is full: .*x\.zip needs"):
        share(finished.folder, tmp_path / "x.zip", weights=False)
    assert list(tmp_path.iterdir()) == []


# Opened


def test_a_share_that_is_opened_has_the_same_files_and_the_same_table(
    shared: Path, finished: Run, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "opened"
    open_share(shared, out)
    there = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert there == content(shared)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["opened"]
    for path in (shared, out):
        assert table_of(read_run(path))[0] == table_of(read_run(finished.folder))[0]
        assert compare(read_run(path), read_run(finished.folder)).same == 4
    with pytest.raises(UserError, match="opened is there already"):
        open_share(shared, out)


def test_an_opened_share_whose_rows_were_altered_is_refused(shared: Path, tmp_path: Path) -> None:
    open_share(shared, tmp_path / "opened")
    rows = tmp_path / "opened" / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"seed": 1', '"seed": 3'))
    with pytest.raises(UserError, match=r"rows\.jsonl was altered"):
        read_run(tmp_path / "opened")


def test_a_share_is_judged_whole_and_lists_its_weights(shared: Path) -> None:
    assert len(read_share(shared).weights) == 12


# Exported


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.json"])
@pytest.mark.parametrize("curves", [False, True])
def test_exported_figures_come_back_exactly(name: str, curves: bool, finished: Run, tmp_path: Path) -> None:
    out, run = tmp_path / name, read_run(finished.folder)
    count = export(run, out, curves=curves)
    found: list[dict[str, Any]]
    if name.endswith("csv"):
        found = list(csv.DictReader(io.StringIO(out.read_text())))
    elif name.endswith("json"):
        found = json.loads(out.read_text())
    else:
        from pyarrow import parquet

        found = parquet.read_table(out).to_pylist()
    assert len(found) == count == (12 if curves else 4)
    key = "validation_mre" if curves else "test_mre"
    wanted = [point[key] for row in run.rows for point in row["curve"]] if curves else [row[key] for row in run.rows]
    assert [float(one[key]) for one in found] == wanted
    assert [one["label"] for one in found] == [row["label"] for row in run.rows for _ in range(3 if curves else 1)]


def test_a_column_of_several_kinds_is_text_and_a_missing_value_is_none() -> None:
    from pyarrow import parquet

    rows: list[Any] = [{"a": 1, "b": 0.5}, {"a": "x", "b": 2}, {"b": None, "c": True}]
    found = parquet.read_table(io.BytesIO(parquet_bytes(rows))).to_pylist()
    assert found == [
        {"a": "1", "b": 0.5, "c": None},
        {"a": "x", "b": 2.0, "c": None},
        {"a": None, "b": None, "c": True},
    ]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), number=st.floats(allow_nan=False))
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str, number: float) -> None:
    written = csv_bytes([{"label": text, "value": number}]).decode()
    (found,) = csv.DictReader(io.StringIO(written, newline=""))
    assert not found["label"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert found["label"] in (text, f"'{text}")
    assert float(found["value"]) == number


def test_columns_have_one_level_and_the_figures_first(finished: Run) -> None:
    rows = [flat(row) for row in finished.rows()]
    assert columns(rows)[:5] == ["label", "seed", "fold", "verdict", "test_mre"]
    assert rows[0]["hashes.z"] == finished.rows()[0]["hashes"]["z"]
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_exports_that_cannot_be_are_one_line(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(finished.folder)
    with pytest.raises(UserError, match=r"no format '.cvs'; did you mean '.csv'\? there are: .csv, .json, .parquet"):
        export(run, tmp_path / "x.cvs")
    (tmp_path / "x.csv").write_text("precious")
    with pytest.raises(UserError, match="is there already; take another name, or --force"):
        export(run, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "precious"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'ganzoo\[parquet\]'"):
        export(run, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="has no row yet"):
        export(run._replace(rows=[], unfinished=4), tmp_path / "y.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]


def test_a_file_to_export_to_is_said_either_way_and_once(finished: Run, ganzoo: Command, tmp_path: Path) -> None:
    run = str(finished.folder)
    first, second = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    assert ganzoo("export", run, first).status == 0
    assert ganzoo("export", run, "-o", second).status == 0
    assert Path(first).read_bytes() == Path(second).read_bytes()
    for arguments in ((), (first, "-o", second)):
        said = ganzoo("export", run, *arguments)
        assert (said.status, said.out) == (2, "")
        assert said.err == "ganzoo: give one file: ganzoo export RUN rows.csv, or .json, or .parquet\n"
