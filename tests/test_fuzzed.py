"""Strangers' bytes: what the fuzzer found in the readers, each as it was found, and its targets without the fuzzer."""

import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz
from ganzoo import bench, durable
from ganzoo.cell_folder import CellFolder, raise_fence, read_curve
from ganzoo.config import LARGEST_PLAN, Cell, Plan, cells, contenders, read_plan, value_of
from ganzoo.durable import Damaged, commit_sealed, load_checkpoint, read_json, read_sealed, save_checkpoint
from ganzoo.errors import UserError
from ganzoo.party import read_data
from ganzoo.result import concluded, read_cell, read_row, verdict_of
from ganzoo.train import Training
from ganzoo.verify import verify
from ganzoo.zoo import Zoo

MakeCell = Callable[..., Cell]


# Plans


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # Half a minute and 4 GB, then a RecursionError.
        (b"a." * 32_000 + b"a = 1", "has a key of more than 64 parts; a plan's have at most 2"),
        (b"[" + b"a." * 32_000 + b"a]", "has a key of more than 64 parts"),
        (b'\'a b\' . "=\\"" . ' * 3000 + b"a = 1", "has a key of more than 64 parts"),
        (b"x = {" + b"a." * 32_000 + b"a = 1}", "has a key of more than 64 parts"),
        # tomllib reads a hexadecimal number of any size, and nothing can write it.
        (b"seeds = 0x" + b"f" * 5000, "holds a number of over 4,300 digits"),
        (b"generator.width = 0x" + b"f" * 5000, "holds a number of over 4,300 digits"),
        (b"[" + b"a." * 60 + b"a]\n" + b"a." * 60 + b"a = " + b"{a = " * 60 + b"1" + b"}" * 60, "the plan|plan.toml"),
    ],
)
def test_a_plan_that_no_one_wrote_by_hand_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    assert len(content) <= LARGEST_PLAN + 1000
    (tmp_path / "plan.toml").write_bytes(content[:LARGEST_PLAN])
    with pytest.raises(UserError, match=words) as error:
        read_plan(tmp_path / "plan.toml")
    assert "\n" not in str(error.value)


def test_dots_that_are_no_key_are_no_deep_key(tmp_path: Path) -> None:
    lines = [
        "# " + "." * 200,
        "# " + "e.g. this, i.e. that, " * 40,
        "objectives = ['gls-gan:slope=" + "0.1," * 100 + "1']",
    ]
    lines.append('plugins = ["a.b.c.d.e.f.g.h.py", "../../../../../../a.py"]')
    (tmp_path / "plan.toml").write_text("\n".join(lines))
    assert len(read_plan(tmp_path / "plan.toml").objectives[0]) > 400


def test_tables_set_too_deep_are_one_line() -> None:
    with pytest.raises(UserError, match="the plan holds tables within tables within tables, too deep to be read"):
        read_plan(None, **{".".join(["a"] * 100_000): 1})


def test_a_value_that_could_not_be_told_is_text() -> None:
    for text in ("0x" + "f" * 5000, "[0x" + "f" * 5000 + "]", "{" + "a." * 64 + "a = 1}"):
        assert value_of(text) == text
    assert value_of("0xff") == 255
    assert value_of("{a.b = 1}") == {"a": {"b": 1}}


def test_a_hexadecimal_number_of_any_size_is_outside_the_domain(zoo: Zoo) -> None:
    with pytest.raises(UserError, match=r"cost 'leaky': slope = '0xfff.* is outside its domain"):
        contenders("gls-gan:slope=0x" + "f" * 5000, zoo, Plan())


def test_a_grid_without_end_is_refused_before_it_is_made(zoo: Zoo) -> None:
    axis = ",".join(map(str, range(1000)))
    with pytest.raises(UserError, match=r"'gls-gan:.*' is a grid of 1,000,000,000 contenders; at most 10,000 are made"):
        contenders(f"gls-gan:theta_penalty={axis},feature_matching={axis},critic_steps={axis}", zoo, Plan())


def test_a_plan_of_more_cells_than_anyone_trains_is_refused_before_they_are_made(zoo: Zoo) -> None:
    axis = ",".join(map(str, range(101)))
    with pytest.raises(UserError, match="the plan has 101,000 cells or more; at most 100,000 are played at a time"):
        cells(Plan(objectives=(f"dcgan:theta_penalty={axis}",), seeds=1000), zoo)


# Curves


WHOLE = durable.sealed_line({"round": 3, "critic_loss": 0.1})


@pytest.mark.parametrize(
    "line",
    [
        b"null\n", b"[]\n", b"3\n", b'"sha256"\n', b"{}\n", b'{"round": 3}\n', b'{"sha256": 3}\n', b"\xff\n", b"\n",
        b'{"round": NaN, "sha256": "x"}\n', b'{"round": 1e999, "sha256": "x"}\n', b'{"round": 1' + b"0" * 5000 + b"}\n",
        b"[" * 100_000 + b"\n", b'{"a": ' * 100_000 + b"\n",
        WHOLE[:-1], WHOLE[:-1] + b"\r\n", WHOLE.replace(b" ", b"  "), WHOLE.replace(b" 3", b" 3.0"), WHOLE[1:],
        WHOLE.replace(b'"round": 3', b'"round": 4'), WHOLE.replace(b'"round": 3', b'"round": 4, "round": 3'),
    ],
)  # fmt: skip
def test_a_curve_is_read_up_to_the_line_that_is_not_whole(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "curve.jsonl").write_bytes(WHOLE + line + WHOLE)
    assert read_curve(tmp_path) == [{"round": 3, "critic_loss": 0.1}]
    assert [end for end, _ in durable.sealed_lines(WHOLE + line + WHOLE)] == [len(WHOLE)]


@pytest.mark.parametrize("text", ["0x", "-0x", "info", "nano", "0x1p99999", "-", "0x1.8p3 ."])
def test_text_that_begins_as_a_number_stays_text(text: str) -> None:
    ((_, found),) = durable.sealed_lines(durable.sealed_line({"event": text, "loss": -0.0}))
    assert found["event"] == text
    assert str(found["loss"]) == "-0.0"


# Rows, verdicts, manifests


def test_a_number_that_no_float_holds_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_bytes(b'{"sha256": "x", "a": 1e999}')
    for reader in (read_json, read_sealed):
        with pytest.raises(UserError, match=r"row\.json cannot be read \(1e999 is not JSON\)"):
            reader(path)


def test_json_of_any_depth_is_a_slip(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    deep: Any = 1
    for depth in range(1, 1010):  # what can be read may be too deep to be written again
        deep = [deep]
        if depth in (300, 450, 480, *range(490, 510), 900, *range(940, 1010)):
            path.write_bytes(fuzz.written({"a": deep, "sha256": fuzz.checksum({"a": deep})}).encode())
            with pytest.raises(UserError, match=r"was altered|cannot be read"):
                read_sealed(path)


EMPTY = struct.pack("<Q", 2) + b"{}"
ROW = {"label": "dcgan", "seed": 0, "cell": "a", "verdict": "failed:error", "provenance": {"attempt": 1}}


def verdict_naming(name: str) -> bytes:
    return fuzz.sealed({"files": {"row.json": durable.seal(ROW), name: "0" * 64}})


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """The folder of a cell that is done, but for its files' content."""
    directory = tmp_path / "run" / "cells" / "a"
    directory.mkdir(parents=True)
    (tmp_path / "run" / "plan.toml").write_text("seeds = 1\n")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"format": bench.FORMAT}))
    commit_sealed(directory / "row.json", ROW)
    commit_sealed(directory / "verdict.json", {"files": {"row.json": durable.seal(ROW)}})
    return directory


def test_a_verdict_without_files_is_none(cell: Path) -> None:
    row = read_row(cell)
    assert row is not None
    assert concluded(cell, row)
    assert verdict_of(cell, 1) == "failed:error"
    for files in (["row.json"], 3, None, "row.json"):
        commit_sealed(cell / "verdict.json", {"files": files})
        assert not concluded(cell, row)
        assert verdict_of(cell, 1) is None


def test_a_row_that_does_not_say_which_attempt_made_it_is_of_none(cell: Path) -> None:
    row = read_row(cell)
    assert row is not None
    for provenance in ({}, {"attempt": "1"}):
        row["provenance"] = provenance
        commit_sealed(cell / "row.json", row)
        commit_sealed(cell / "verdict.json", {"files": {"row.json": durable.seal(row)}})
        assert verdict_of(cell, 1) is None
    commit_sealed(cell / "row.json", {**row, "provenance": [1]})
    with pytest.raises(UserError, match="is no row of a cell"):
        read_row(cell)


@pytest.mark.parametrize(
    "entries",
    [
        [{"file": "../../../thesis"}] * 3,
        [{"file": "."}, {"file": ".."}, {"file": "../b"}],
        [{"file": "\0"}, {"file": 3}, {}, None, "checkpoint-00000001"],
        {"file": "../../../thesis"},
        None,
        3,
    ],
)
def test_a_strangers_manifest_removes_nothing_and_stops_nothing(entries: Any, cell: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    commit_sealed(cell / "manifest.json", {"fence": 1, "checkpoints": entries})
    folder = CellFolder(cell, raise_fence(cell))
    for round in range(4):
        folder.keep({"round": round, "curve": []})
    assert (tmp_path / "thesis").read_text() == "years of work"
    kept = read_sealed(cell / "manifest.json")["checkpoints"]
    assert [entry["file"] for entry in kept] == ["checkpoint-00000003", "checkpoint-00000002"]
    assert all((cell / entry["file"]).exists() for entry in kept)


def test_a_folder_in_the_place_of_a_checkpoint_stops_nothing(cell: Path) -> None:
    (cell / "checkpoint-00000000").mkdir()
    folder = CellFolder(cell, raise_fence(cell))
    for round in range(1, 5):
        folder.keep({"round": round, "curve": []})
    assert load_checkpoint(cell / "checkpoint-00000004")["round"] == 4


def test_a_cell_of_no_plan_is_named_when_it_is_read(one_cell: MakeCell, tmp_path: Path) -> None:
    found = one_cell("dcgan").model_dump(mode="json")
    found["plan"] = {"seeds": "many"}
    (tmp_path / "cell.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"cell\.json describes no cell"):
        read_cell(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told_of"),
    [
        ("rows.jsonl", b"null\n", "rows.jsonl"),
        ("rows.jsonl", b"{}\n", "rows.jsonl"),
        ("rows.jsonl", b'{"cell": []}\n', "rows.jsonl"),
        ("rows.jsonl", b'{"cell": ' + b"[" * 50_000, "rows.jsonl"),
        ("cells/a/checkpoint-00000001", fuzz.with_checksum(b'{"pairs":[]}\n' + EMPTY), "checkpoint-00000001"),
        (
            "cells/a/checkpoint-00000001",
            fuzz.with_checksum(b'{"pairs":[["round","3"]]}\n' + EMPTY),
            "checkpoint-00000001",
        ),
        ("cells/a/row.json", fuzz.sealed({**ROW, "verdict": "done", "test_mre": 1}), "row.json"),
        ("cells/a/row.json", fuzz.sealed({**ROW, "curve": 3}), "curve.jsonl"),
        ("cells/a/row.json", fuzz.sealed({**ROW, "curve": [3]}), "curve.jsonl"),
        ("cells/a/row.json", fuzz.sealed({**ROW, "curve": [{"a": [1]}]}), "curve.jsonl"),
        # Whole by their checksums, and nothing that the others speak of.
        ("cells/a/verdict.json", fuzz.sealed({"files": [1]}), "pictures.npz"),
        ("cells/a/verdict.json", verdict_naming("x" * 5000), "x" * 5000),
        ("cells/a/verdict.json", verdict_naming("../a"), "../a"),
        ("cells/a/manifest.json", fuzz.sealed({"checkpoints": [{"file": "x" * 5000}]}), "x" * 5000),
        ("cells/a/manifest.json", fuzz.sealed({"checkpoints": [{"file": "a\0b"}]}), "a\0b"),
        ("cells/a/manifest.json", fuzz.sealed({"checkpoints": [1, {"file": []}]}), "cell.json"),
    ],
)
def test_verify_tells_of_a_file_that_holds_something_else(name: str, content: bytes, told_of: str, cell: Path) -> None:
    run = cell.parents[1]
    for empty in ("pictures.npz", "curve.jsonl"):
        (cell / empty).write_bytes(b"")
    (run / name).write_bytes(content)
    found = verify(run)
    assert told_of in {**found.damaged, **found.cells[0].damaged}
    assert f"BAD  {told_of}:" in found.text() or f"       {told_of}:" in found.text()
    assert "Traceback" not in found.text()


@pytest.mark.parametrize("format_", ["2", None, [], 2.5, True])
def test_a_format_that_is_no_number_is_no_run(format_: Any, cell: Path) -> None:
    (cell.parents[1] / "run.json").write_text(json.dumps({"format": format_}))
    with pytest.raises(UserError, match=r"is not a run's folder: run\.json has no format"):
        verify(cell.parents[1])


# Checkpoints


def checkpoint_of(skeleton: bytes, index: bytes = b"{}", data: bytes = b"") -> bytes:
    return fuzz.with_checksum(skeleton + b"\n" + struct.pack("<Q", len(index)) + index + data)


ONE_FLOAT = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    "content",
    [
        # As objects 26 times as large: 16 MB were over 400, twice that while they were copied.
        checkpoint_of(b'{"pairs":[["a",[' + b"[]," * (durable.LARGEST_HEAD // 3) + b"0]]]}"),
        checkpoint_of(b'{"pairs":[]}', b"{" + b" " * durable.LARGEST_INDEX + b"}"),
        checkpoint_of(b'{"pairs":[["a",1e999]]}'),
        checkpoint_of(b'{"pairs":[["a",NaN]]}'),
        checkpoint_of(b'{"pairs":[["a",{"tensor":"a"}],["b",{"tensor":"a"}]]}', ONE_FLOAT, bytes(4)),
        checkpoint_of(b'{"pairs":[]}', ONE_FLOAT, bytes(4)),
        checkpoint_of(b'{"pairs":[["a",' + b"[" * 2000 + b"]" * 2000 + b"]]}"),
        checkpoint_of(b'{"pairs":[["a",{"tensor":["a"]}]]}', ONE_FLOAT, bytes(4)),
        checkpoint_of(b'{"pairs":[[["a"],1]]}'),
        checkpoint_of(b'{"pairs":7}'),
        checkpoint_of(b'{"a":1}'),
        checkpoint_of(b"[]"),
        checkpoint_of(b'{"pairs":[["a",{"tensor":"a"}]]}', ONE_FLOAT.replace(b"[1]", b"[0,18446744073709551615]")),
        fuzz.with_checksum(b""),
        fuzz.with_checksum(b'{"pairs":[]}\n'),
        fuzz.with_checksum(b'{"pairs":[]}\n\2\0\0'),
    ],
)
def test_a_checkpoint_of_something_else_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(content)
    before = fuzz.peak_now()
    with pytest.raises(Damaged, match="its checksum is right, but its content is another thing"):
        load_checkpoint(tmp_path / "checkpoint")
    assert fuzz.peak() - before < 100 * 1024 * 1024


def test_a_tensor_is_the_only_thing_that_a_checkpoint_may_name_once(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(checkpoint_of(b'{"pairs":[["a",{"tensor":"a"}]]}', ONE_FLOAT, bytes(4)))
    assert torch.equal(load_checkpoint(tmp_path / "checkpoint")["a"], torch.zeros(1))


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"round": 1, "curve": [{"epoch": i, "round": i} for i in range(100)]}
    size = len(durable.checkpoint_bytes(state)[0].split(b"\n")[1]) + 1
    monkeypatch.setattr(durable, "LARGEST_HEAD", size)
    save_checkpoint(tmp_path / "checkpoint", state)
    assert load_checkpoint(tmp_path / "checkpoint") == state
    monkeypatch.setattr(durable, "LARGEST_HEAD", size - 1)
    with pytest.raises(UserError, match=r"take [0-9,]+ bytes; at most .* make fewer points: raise validate_every"):
        save_checkpoint(tmp_path / "other", state)
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def trained(one_cell: MakeCell, zoo: Zoo) -> tuple[Training, dict[str, Any]]:
    """A training after its first epoch, and its state."""
    made = one_cell("dcgan", epochs=2, checkpoint_seconds=0.0)
    training, states = Training(made, zoo, read_data(made.settings.data)), []
    training.run(lambda state: states.append(durable.checkpoint_bytes(state)[0]))
    return training, {"content": states[len(states) // 2]}


def moment(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["generator_optimizer"][0]
    return found


def exchanged(where: Callable[[dict[str, Any]], Any], key: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: where(state).__setitem__(key, value)


def whole(state: dict[str, Any]) -> dict[str, Any]:
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # The step goes through their memory as far as the parameter reaches: this one ended the process.
        (exchanged(moment, "exp_avg", torch.tensor(0.0)), r"exp_avg is torch.float32 of shape \(\); wanted"),
        (exchanged(moment, "exp_avg_sq", torch.tensor(0.0)), r"exp_avg_sq is torch.float32 of shape \(\); wanted"),
        (lambda state: moment(state).update(exp_avg=moment(state)["exp_avg"].double()), "exp_avg is torch.float64 of"),
        (lambda state: moment(state).update(exp_avg=moment(state)["exp_avg"] + 1j), "exp_avg is torch.complex64 of"),
        (exchanged(moment, "step", torch.zeros(3)), r"step is torch.float32 of shape \(3,\); wanted"),
        (exchanged(moment, "step", torch.tensor(3)), "step is torch.int64"),
        (exchanged(moment, "step", 3.0), "no table of tensors"),
        (lambda state: moment(state).pop("step"), "step does not fit"),
        (lambda state: moment(state).pop("exp_avg"), "exp_avg does not fit"),
        (exchanged(moment, "max_exp_avg_sq", torch.zeros(3)), "max_exp_avg_sq does not fit"),
        (lambda state: state["generator_optimizer"].update({-1: moment(state)}), "moments of parameter -1; there are"),
        (lambda state: state["generator_optimizer"].update({99: moment(state)}), "moments of parameter 99; there are"),
        (
            lambda state: state["generator_optimizer"].update({"0": state["generator_optimizer"].pop(0)}),
            "moments of parameter '0'; there are",
        ),
        (exchanged(lambda state: state["generator_optimizer"], 0, {}), "does not fit"),
        (exchanged(whole, "generator_optimizer", []), "lacks a part of the state"),
        (exchanged(whole, "generator_optimizer", torch.zeros(3)), "lacks a part of the state"),
        (exchanged(whole, "round", torch.tensor(4)), "its round is no int"),
        (exchanged(whole, "round", 4.0), "its round is no int"),
        (exchanged(whole, "round", 3.5), "its round is no int"),
        (exchanged(whole, "round", True), "its round is no int"),
        (exchanged(whole, "round", -1), "does not belong to round -1"),
        (exchanged(whole, "round", 10**30), "does not belong to round"),
        (exchanged(whole, "stacked", 0), "its stacked is no bool"),
        (exchanged(whole, "stacked", torch.tensor(0)), "its stacked is no bool"),
        (exchanged(whole, "inexact", []), "its inexact is no bool"),
        (exchanged(whole, "curve", torch.zeros(3)), "its curve is no list"),
        (lambda state: state.update(round=0, curve={}), "its curve is no list"),
        (lambda state: state.update(round=0, curve=[], best_generator=[]), "no table of tensors"),
        (exchanged(whole, "curve", []), "does not belong to round"),
        (
            exchanged(lambda state: state["curve"][0], "validation_mre", None),
            "a point of its curve is none of this plan",
        ),
        (
            exchanged(lambda state: state["curve"][0], "validation_mre", [1]),
            "a point of its curve is none of this plan",
        ),
        (exchanged(lambda state: state["curve"][0], "validation_mre", torch.ones(())), "a point of its curve"),
        (exchanged(lambda state: state["curve"][0], "round", False), "a point of its curve"),
        (exchanged(lambda state: state["curve"][0], "epoch", 7), "does not belong to round"),
        (exchanged(lambda state: state["curve"][0], 3, 7), "a point of its curve"),
        (exchanged(lambda state: state["curve"][0], "test_mre", 0.5), "a point of its curve"),
        (lambda state: state["curve"][0].pop("critic_loss"), "a point of its curve"),
        (exchanged(lambda state: state["curve"], 0, {}), "a point of its curve"),
        (exchanged(lambda state: state["curve"], 0, 3), "lacks a part of the state"),
        (exchanged(whole, "best_generator", {}), "does not fit"),
        (exchanged(whole, "sums", torch.zeros(3)), "sums is torch.float32"),
        (exchanged(whole, "sums", [0.0, 0.0, 0.0]), "no table of tensors"),
        (exchanged(whole, "generator", ["net.0.weight"]), "no table of tensors"),
        (exchanged(whole, "critic", 3), "no table of tensors"),
        (exchanged(whole, "fingerprint", 3), "lacks a part of the state"),
        (exchanged(whole, "cell", torch.zeros(3)), "lacks a part of the state"),
        (exchanged(whole, "data", None), "was trained on other images"),
        (exchanged(whole, "extra", 1), "extra does not fit"),
        (lambda state: state.pop("sums"), "sums does not fit"),
    ],
)
def test_a_state_of_another_shape_is_refused_and_changes_nothing(
    change: Callable[[dict[str, Any]], Any], words: str, trained: tuple[Training, dict[str, Any]], tmp_path: Path
) -> None:
    training, saved = trained
    path = tmp_path / "checkpoint"
    path.write_bytes(saved["content"])
    state = load_checkpoint(path)
    change(state)
    save_checkpoint(path, state)
    before = fuzz.bits(training.state_dict())
    with pytest.raises(UserError, match=words):
        training.resume(path)
    assert fuzz.bits(training.state_dict()) == before


def test_a_state_before_the_first_round_is_taken_up(
    trained: tuple[Training, dict[str, Any]], zoo: Zoo, tmp_path: Path
) -> None:
    training, _ = trained
    fresh = Training(training.cell, zoo, read_data(training.plan.data)).state_dict()
    assert fresh["round"] == 0
    assert fresh["curve"] == []
    save_checkpoint(tmp_path / "checkpoint", fresh)
    training.resume(tmp_path / "checkpoint")
    assert fuzz.bits(training.state_dict()) == fuzz.bits(fresh)


def test_the_state_as_it_was_saved_is_taken_up_bit_for_bit(
    trained: tuple[Training, dict[str, Any]], tmp_path: Path
) -> None:
    training, saved = trained
    (tmp_path / "checkpoint").write_bytes(saved["content"])
    training.resume(tmp_path / "checkpoint")
    assert durable.checkpoint_bytes(training.state_dict())[0] == saved["content"]
    training.run()
    assert training.round == training.rounds


# What the fuzzer found, as it was found


FOUND: dict[str, dict[str, bytes]] = {
    "checkpoint": {
        "KeyError in the next evaluation": b'\x03\x01!\x00\t""shap',
        "TypeError in the next evaluation": b"\x03\x00\x02\x01\x1e\x00__metata__",
        "TypeError in the next rounds": b"\x03\x00\x00\x00\xee^",
        "TypeError in the next line of the curve": b"\x03\x01\x01\x00\x18\x02",
        "IndexError in its curve": b'\x03\x01"\x01\x00\xa9J\xeb\xe3\xd0\x05|y>\t\x02\x8f',
        "KeyError in the next step": b"F32\x040\x9d\xb7",
        "a refused checkpoint changed the training": b"\x04F4\x00\x02\x01\x1e",
        "what was taken up is not what the file holds": b"\x03\x14\x01\x00\t",
    },
    "plan": {"RecursionError": b"\x04\x02a.\xb5\xb7threads\x04\x03a=1"},
    "row": {
        "TypeError in rows.jsonl": b"\x00\x0c>",
        "a name that is too long": b"smseedeedeeedp\xe9ctur&esnpz",
        "TypeError in the manifest": b"\x00H\x88\x05\x05\x00{[",
        "a state without a round": b"\x00\x07\x05\x00\x00\x00test",
        "a round that is a list": b"\x00\x07\x05\x00\x00\x00\\ud800",
    },
}
"""Target -> what came of it -> the input."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fuzz.Target]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in fuzz.TARGETS.items()}


torn_and_told = pytest.mark.filterwarnings("ignore:.*(was torn|set aside|took the one before):UserWarning")


@torn_and_told
@pytest.mark.parametrize(("name", "what"), [(name, what) for name, found in FOUND.items() for what in found])
def test_what_was_found_is_mended(name: str, what: str, targets: dict[str, fuzz.Target]) -> None:
    assert fuzz.examined(targets[name], FOUND[name][what]) is None


# The same targets without the fuzzer


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """The fuzzer's first inputs with pieces cut out and put in; and any bytes."""
    word = st.sampled_from([word.encode() for word in fuzz.words(name)])
    edit = st.tuples(st.integers(0, 1 << 16), st.integers(0, 12), st.one_of(st.binary(max_size=12), word))
    return st.one_of(
        st.binary(max_size=200),
        st.builds(spliced, st.sampled_from(list(fuzz.seeds(name))), st.lists(edit, min_size=1, max_size=8)),
    )


def spliced(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for where, cut, piece in edits:
        at = where % (len(content) + 1)
        content = content[:at] + piece + content[at + cut :]
    return content


@torn_and_told
@pytest.mark.parametrize(("name", "examples"), [("checkpoint", 150), ("curve", 200), ("plan", 300), ("row", 100)])
def test_nothing_but_a_slip_comes_of_any_bytes(name: str, examples: int, targets: dict[str, fuzz.Target]) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(inputs(name))
    def of(data: bytes) -> None:
        targets[name](data)

    of()


# The script


def test_an_exception_and_a_broken_law_are_found_and_a_slip_is_not() -> None:
    def raises(error: Exception | None) -> fuzz.Target:
        def target(data: bytes) -> None:
            if error is not None:
                raise error

        return target

    assert fuzz.examined(raises(None), b"") is None
    found = fuzz.examined(raises(KeyError("a")), b"")
    assert found is not None
    assert found[0].startswith("KeyError")
    found = fuzz.examined(raises(fuzz.Broken("two cells have one folder")), b"")
    assert found is not None
    assert found[0] == "Broken-two-cells-have-one-folder"


def test_an_input_that_takes_seconds_or_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SLOWEST", -1.0)
    assert fuzz.examined(lambda _: None, b"\3") == ("slow-3", "took 0.0 s")
    monkeypatch.setattr(fuzz, "SLOWEST", 1e9)
    monkeypatch.setattr(fuzz, "MOST_MEMORY", 50 * 1024 * 1024)
    assert fuzz.examined(lambda _: None, b"\3") is None
    found = fuzz.examined(lambda _: bytes(bytearray(100 * 1024 * 1024)) and None, b"\3")
    assert found is not None
    assert found[0] == "memory-3"


def test_numbers_drawn_are_those_of_the_bytes_and_zeros_once_they_are_used_up() -> None:
    drawn = fuzz.Drawn(b"\5\x01\2\0\0\0abc")
    assert (drawn.number(4), drawn.number(256), drawn.number(1 << 20)) == (1, 1, 2)
    assert (drawn.line(), drawn.left, drawn.number(7), drawn.rest()) == (b"abc", 0, 0, b"")


def test_json_is_written_as_deep_as_it_is_and_read_again_where_that_can_be() -> None:
    value = {"a": [1, None, "\udcff", {"b": []}], "c": 0.5}
    assert json.loads(fuzz.written(value)) == json.loads(fuzz._written_deep(value)) == value
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert fuzz.written(deep) == "[" * 5001 + "]" * 5001
    assert fuzz.written([float("inf")]) == "[1e999]"


@torn_and_told
def test_lines_that_no_input_runs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "none").write_bytes(b"\0")
    few = fuzz.reached("curve", inputs)
    for i, content in enumerate(fuzz.seeds("curve")):
        (inputs / str(i)).write_bytes(content)
    more = fuzz.reached("curve", inputs)
    assert 0 < few["reader_lines_reached"] < more["reader_lines_reached"] <= more["reader_lines"] == few["reader_lines"]
    assert len(few["reader_lines_not_reached"]) == few["reader_lines"] - few["reader_lines_reached"]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is installed")
def test_without_atheris_the_script_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["plan", "--corpus", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip()
    assert said == fuzz.ABSENT
    assert "pip install 'atheris>=3'" in said


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_with_atheris_the_script_prints_its_figures(tmp_path: Path) -> None:
    command = [sys.executable, fuzz.__file__, "plan", "--minutes", "0.2", "--corpus", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(done.stdout)
    assert figures["executions"] > 0
    assert figures["branches"] > 0
    assert figures == json.loads((tmp_path / "plan" / "figures.json").read_text())
