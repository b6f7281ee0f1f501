"""Files are whole or not there; a checkpoint that is not whole is refused before anything of it is used."""

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ganzoo import durable
from ganzoo.durable import MAGIC, commit, commit_json, load_checkpoint, save_checkpoint
from ganzoo.errors import UserError


def state() -> dict[str, Any]:
    return {
        "round": 7,
        "curve": [{"epoch": 1, "validation_mre": 0.1}],
        "generator": {"weight": torch.arange(12.0).view(3, 4), "tracked": torch.tensor(3)},
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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "file"
    commit(path, b"old")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(UserError, match=r"the disk is full: .*file needs 1,234 bytes; what stood there is kept"):
        commit(path, b"x" * 1234)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_the_system_cuts_short_keeps_the_old_file(tmp_path: Path) -> None:
    # A real short write: the system refuses the bytes beyond the limit, as a disk does that fills up half-way.
    path = tmp_path / "file"
    commit(path, b"old")
    program = f"""
import resource, signal, sys
from pathlib import Path
from ganzoo.durable import commit
from ganzoo.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    commit(Path({str(path)!r}), b"x" * 100_000)
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {path}: ")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_rename_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    commit(path, b"old")

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(UserError, match=r"cannot write .*file: Permission denied"):
        commit(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot write .*file: Permission denied"):
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


# Checkpoints


def test_a_checkpoint_comes_back_bit_for_bit(saved: Path) -> None:
    found, wanted = load_checkpoint(saved), state()
    assert found["round"] == 7
    assert found["curve"] == wanted["curve"]
    assert torch.equal(found["generator"]["weight"], wanted["generator"]["weight"])
    assert found["sums"].dtype == torch.float64
    assert torch.equal(found["sums"], wanted["sums"])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused_at_every_length(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"truncated or altered|is not a ganzoo checkpoint"):
        load_checkpoint(saved)


def test_each_flipped_byte_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    # Every byte of the head, and every 37th of the content.
    for place in [*range(len(MAGIC) + 65), *range(len(MAGIC) + 65, len(whole), 37), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        saved.write_bytes(damaged)
        with pytest.raises(UserError, match=r"truncated or altered|is not a ganzoo checkpoint"):
            load_checkpoint(saved)
    saved.write_bytes(whole)
    load_checkpoint(saved)


def test_a_byte_too_many_is_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(UserError, match="truncated or altered"):
        load_checkpoint(saved)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other"
    torch.save(state(), path)
    with pytest.raises(UserError, match="other is not a ganzoo checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="other is not a ganzoo checkpoint"):
        load_checkpoint(path)
    with pytest.raises(UserError, match=r"no checkpoint at .*absent: no such file"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no checkpoint at .*: is a directory"):
        load_checkpoint(tmp_path)


def under_a_right_checksum(path: Path, content: bytes) -> None:
    path.write_bytes(MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_cannot_run_code_even_under_a_right_checksum(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "code-ran", tmp_path / "checkpoint"
    buffer = io.BytesIO()
    if form == "torch":
        torch.save({"round": Evil(mark)}, buffer)
    else:
        pickle.dump({"round": Evil(mark)}, buffer, protocol=2)  # torch's own
    under_a_right_checksum(path, buffer.getvalue())
    with pytest.raises(UserError, match="is not a ganzoo checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 nearly"])
def test_a_right_checksum_over_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    under_a_right_checksum(tmp_path / "checkpoint", content)
    with pytest.raises(UserError, match="is not a ganzoo checkpoint"):
        load_checkpoint(tmp_path / "checkpoint")


def test_a_state_that_is_no_table_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    under_a_right_checksum(tmp_path / "checkpoint", buffer.getvalue())
    with pytest.raises(UserError, match="is not a ganzoo checkpoint"):
        load_checkpoint(tmp_path / "checkpoint")
