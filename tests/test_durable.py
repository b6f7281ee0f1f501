"""Files are whole or not there; a checkpoint that is not whole is refused before anything of it is used."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from ganzoo.durable import (
    MAGIC,
    Damaged,
    commit,
    commit_json,
    commit_sealed,
    load_checkpoint,
    read_sealed,
    save_checkpoint,
    seal,
    sealed_line,
    sealed_lines,
)
from ganzoo.errors import UserError


def state() -> dict[str, Any]:
    return {
        "round": 7,
        "curve": [{"epoch": 1, "validation_mre": 0.1, "critic_loss": None}],
        "generator": {"weight": torch.arange(12.0).view(3, 4), "tracked": torch.tensor(3)},
        "optimizer": {0: {"step": torch.tensor(7.0)}, 1: {}},
        "sums": torch.tensor([0.1, 1e-300], dtype=torch.float64),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", state())
    return tmp_path / "checkpoint"


# commit


def test_commit_replaces_the_whole_file_and_makes_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    commit(path, b"a long first content")
    commit(path, b"short")
    assert path.read_bytes() == b"short"
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_the_system_cuts_short_keeps_the_old_file(tmp_path: Path) -> None:
    # A real short write: the system refuses the bytes beyond the limit, as a disk does that fills up half-way.
    path = tmp_path / "file"
    commit(path, b"old")
    program = f"""
import resource, signal
from pathlib import Path
from ganzoo.durable import DiskError, commit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    commit(Path({str(path)!r}), b"x" * 100_000)
except DiskError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {path} (100,000 bytes): File too large; what stood there is kept\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_the_file_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "file" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot write .*file \(3 bytes\): Is a directory"):
        commit(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert os.listdir(tmp_path / "file") == ["mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot write .*file .*: Permission denied"):
            commit(tmp_path / "file", b"new")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_is_a_slip(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*taken"):
        commit(tmp_path / "taken" / "file", b"new")


def test_json_is_json_and_nan_is_not(tmp_path: Path) -> None:
    commit_json(tmp_path / "row.json", {"a": [1, None, "x"]})
    assert json.loads((tmp_path / "row.json").read_text()) == {"a": [1, None, "x"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        commit_json(tmp_path / "row.json", {"a": float("nan")})
    assert json.loads((tmp_path / "row.json").read_text()) == {"a": [1, None, "x"]}


# What carries its own checksum


def test_a_sealed_object_comes_back_and_an_altered_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    content = {"label": "größe", "small": 1e-05, "none": None, "deep": {"a": [1, 2.5]}}
    commit_sealed(path, content)
    assert read_sealed(path) == content
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):  # 1e-05 and 1E-05 are a bit apart, and one number
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(UserError, match=r"was altered|cannot be read|has no checksum"):
                read_sealed(path)


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "", "{", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', "\xff"])
def test_what_is_no_sealed_object_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"row.json (holds no object|cannot be read|has no checksum)"):
        read_sealed(path)


def test_a_file_without_a_checksum_is_another_programs(tmp_path: Path) -> None:
    commit_json(tmp_path / "row.json", {"label": "dcgan"})
    with pytest.raises(UserError, match=r"row.json has no checksum: another program or an older ganzoo made it"):
        read_sealed(tmp_path / "row.json")
    with pytest.raises(UserError, match=r"absent.json cannot be read"):
        read_sealed(tmp_path / "absent.json")


def test_a_checksum_over_an_infinite_number_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text('{"a": 1e999, "sha256": "0"}')
    with pytest.raises(UserError, match=r"row.json "):
        read_sealed(path)


def test_lines_come_back_to_the_last_bit_of_their_floats() -> None:
    points = [{"epoch": 1, "loss": 0.1, "label": "dcgan"}, {"epoch": 2, "loss": -1e-300}, {"loss": None, "zero": -0.0}]
    written = b"".join(map(sealed_line, points))
    found = [point for _, point in sealed_lines(written)]
    assert found == points
    assert math.copysign(1, found[2]["zero"]) == -1
    ends = [end for end, _ in sealed_lines(written)]
    assert [written[:end].count(b"\n") for end in ends] == [1, 2, 3]
    assert ends[-1] == len(written)


def test_lines_end_before_the_first_that_is_not_whole() -> None:
    first, second, third = (sealed_line({"round": at, "name": "é", "loss": 0.5}) for at in range(3))
    damaged = [second[:cut] for cut in range(len(second))] + [b"\n", b"[]\n", b'"x"\n', b"[" * 100_000 + b"\n"]
    damaged += [second[:at] + bytes([second[at] ^ 1 << bit]) + second[at + 1 :] for at in range(80) for bit in range(8)]
    for line in damaged:
        assert [point["round"] for _, point in sealed_lines(first + line + third)] == ([0] if line else [0, 2])


def test_a_checksum_does_not_depend_on_the_order_of_keys() -> None:
    assert seal({"a": 1, "b": 2, "sha256": "x"}) == seal({"b": 2, "a": 1})
    assert seal({"a": 1}) != seal({"a": 2})


# Checkpoints


def test_a_checkpoint_comes_back_bit_for_bit(saved: Path) -> None:
    found, wanted = load_checkpoint(saved), state()
    assert found["round"] == 7
    assert found["curve"] == wanted["curve"]
    assert torch.equal(found["generator"]["weight"], wanted["generator"]["weight"])
    assert found["generator"]["tracked"].dtype == torch.int64
    assert list(found["optimizer"]) == [0, 1]
    assert found["sums"].dtype == torch.float64
    assert torch.equal(found["sums"], wanted["sums"])


def test_the_same_state_makes_the_same_bytes_whatever_its_memory_looks_like(saved: Path, tmp_path: Path) -> None:
    one = state()
    one["generator"]["weight"] = torch.arange(12.0).view(3, 4).t().contiguous().t().requires_grad_()
    save_checkpoint(tmp_path / "again", one)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_checkpoint_is_a_checksum_a_line_of_json_and_safetensors(saved: Path) -> None:
    head, skeleton, tensors = saved.read_bytes().split(b"\n", 2)
    assert head.startswith(MAGIC)
    assert json.loads(skeleton)["pairs"][0] == ["round", 7]
    assert torch.equal(load(tensors)["/generator/weight"], state()["generator"]["weight"])


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    weight = torch.arange(4.0)
    save_checkpoint(tmp_path / "checkpoint", {"one": weight, "other": weight, "part": weight[1:3]})
    found = load_checkpoint(tmp_path / "checkpoint")
    found["one"][1] = 9
    assert found["other"].tolist() == [0, 1, 2, 3]
    assert found["part"].tolist() == [1, 2]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused_at_every_length(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(Damaged, match=r"truncated or altered|is not a ganzoo checkpoint"):
        load_checkpoint(saved)


def test_each_flipped_byte_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        saved.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"truncated or altered|is not a ganzoo checkpoint"):
            load_checkpoint(saved)
    saved.write_bytes(whole)
    load_checkpoint(saved)


def test_a_byte_too_many_is_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(Damaged, match="truncated or altered"):
        load_checkpoint(saved)


def test_a_checkpoint_larger_than_its_cell_can_make_is_not_even_read(saved: Path) -> None:
    size = saved.stat().st_size
    load_checkpoint(saved, largest=size)
    with pytest.raises(Damaged, match=rf"has {size:,} bytes; a checkpoint of this cell has at most {size - 1:,}"):
        load_checkpoint(saved, largest=size - 1)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other"
    torch.save(state(), path)
    with pytest.raises(Damaged, match="other is not a ganzoo checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(Damaged, match="other is not a ganzoo checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"ganzoo checkpoint 1 sha256 " + b"0" * 64 + b"\n")
    with pytest.raises(Damaged, match="other is not a ganzoo checkpoint of this version: an older ganzoo made it"):
        load_checkpoint(path)
    with pytest.raises(UserError, match=r"no checkpoint at .*absent: no such file"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no checkpoint at .*: is a directory"):
        load_checkpoint(tmp_path)


def test_loading_takes_no_more_than_twice_the_files_memory(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"weight": torch.zeros(50_000_000, dtype=torch.uint8)})
    program = f"""
import resource
from pathlib import Path
from ganzoo.durable import load_checkpoint, save_checkpoint
import torch
small = Path({str(tmp_path / "small")!r})
save_checkpoint(small, {{"weight": torch.zeros(5)}})
load_checkpoint(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_checkpoint(Path({str(path)!r}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2.1 * path.stat().st_size
