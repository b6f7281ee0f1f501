"""Shares of hostile content: each is refused with one line, and nothing is written anywhere."""

import hashlib
import io
import json
import os
import pickle
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from ganzoo.bench import Run
from ganzoo.errors import UserError
from ganzoo.share import opening
from ganzoo.share.opening import open_share, read_share
from ganzoo.share.packing import share
from ganzoo.share.reading import read_run

Entry = tuple[zipfile.ZipInfo | str, bytes]


@pytest.fixture(scope="module")
def good(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a share as they should be."""
    out = tmp_path_factory.mktemp("good") / "x.zip"
    share(finished.folder, out)
    with zipfile.ZipFile(out) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the present one; what is written outside it lies beside it."""
    here = tmp_path / "a" / "b" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def zipped(path: Path, entries: list[Entry], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def listed(files: dict[str, bytes], **about: Any) -> dict[str, bytes]:
    """The same files, with a share.json that tells of them as they are."""
    said = {**json.loads(files["share.json"]), **about}
    said["files"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "share.json"
    }
    return {**files, "share.json": json.dumps(said).encode()}


def refused(place: Path, share: Path, match: str) -> None:
    """By both doors, in one line, with nothing left behind."""
    root = place.parents[1]
    before = sorted(root.rglob("*"))
    for door in (read_share, read_run, lambda path: open_share(path, place / "opened")):
        with pytest.raises(UserError, match=match) as slip:
            door(share)
        assert "\n" not in str(slip.value)
        assert str(slip.value).isprintable()
    assert sorted(root.rglob("*")) == before


def test_the_share_itself_is_taken(good: dict[str, bytes], place: Path) -> None:
    path = zipped(place / "x.zip", list(listed(good).items()))
    assert len(read_run(path).rows) == 4
    open_share(path, place / "opened")
    assert (place / "opened" / "README.md").read_bytes() == good["README.md"]


NAMES = {
    "zip slip": "../../evil.txt",
    "slip within": "weights/../../../evil",
    "absolute": "/tmp/evil.txt",
    "a drive": "C:/evil.txt",
    "backslashes": "..\\..\\evil.txt",
    "another file": "evil.py",
    "hidden": ".bashrc",
    "a plugin": "plugins/evil.py",
    "weights elsewhere": "weights/x/evil.safetensors",
    "deep": "weights/a/b/generator.safetensors",
    "escapes": "\x1b[2Jrows.jsonl",
    "other case": "ROWS.JSONL",
    "a folder": "evil/",
    "half a name": "rows.jsonl\x00.txt",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile itself cuts a name off at a nought
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_leads_out_of_the_folder_or_is_unknown(name: str, good: dict[str, bytes], place: Path) -> None:
    entries: list[Entry] = [*listed(good).items(), (name, b"evil")]
    refused(place, zipped(place / "x.zip", entries), r"x.zip: '.*' (would be put|is nothing that|is in it twice)")


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("kind", "match"),
    [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is neither a file nor"), (stat.S_IFCHR, "is neither a file nor")],
)
def test_links_and_devices_are_refused(kind: int, match: str, good: dict[str, bytes], place: Path) -> None:
    files = listed(good)
    entries: list[Entry] = [(name, content) for name, content in files.items() if name != "table.txt"]
    refused(place, zipped(place / "x.zip", [*entries, (special("table.txt", kind), b"/etc/passwd")]), match)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(good: dict[str, bytes], place: Path) -> None:
    entries: list[Entry] = [*listed(good).items(), ("rows.jsonl", b"")]
    refused(place, zipped(place / "x.zip", entries), "'rows.jsonl' is in it twice")


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("evil",)


def pickles() -> dict[str, bytes]:
    of_torch = io.BytesIO()
    torch.save({"evil": Evil()}, of_torch)
    older = io.BytesIO()
    torch.save({"evil": Evil()}, older, _use_new_zipfile_serialization=False)
    return {
        "bare": pickle.dumps(Evil()),
        "torch": of_torch.getvalue(),
        "older": older.getvalue(),
        "0": pickle.dumps(Evil(), 0),
    }


@pytest.mark.parametrize("kind", ["bare", "torch", "older", "0", "short", "long head", "noise"])
def test_nothing_but_safetensors_stands_for_weights(kind: str, good: dict[str, bytes], place: Path) -> None:
    name = next(name for name in good if name.endswith("critic.safetensors"))
    bad = {
        **pickles(),
        "short": b"abc",
        "long head": (2**40).to_bytes(8, "little") + b"{}",
        "noise": (4).to_bytes(8, "little") + random.Random(0).randbytes(100),
    }[kind]
    path = zipped(place / "x.zip", list(listed({**good, name: bad}).items()))
    refused(place, path, "is a pickle, which can hold any code|is not in the safetensors format")
    assert not Path("evil").exists()


def test_weights_that_begin_like_a_pickle_by_the_length_of_their_index_are_weights() -> None:
    made = (save({"weight": torch.zeros(2)}, {"note": "x" * n}) for n in range(0, 512, 8))
    like_pickles = [content for content in made if content.startswith(b"\x80")]
    assert like_pickles
    for content in like_pickles:
        opening._require_weights(content, "critic.safetensors", Path("x.zip"))


@pytest.mark.parametrize("name", ["rows.jsonl", "table.txt", "share.json"])
def test_a_bomb_is_not_unpacked(
    name: str, good: dict[str, bytes], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_content", lambda *_: pytest.fail("it was unpacked"))
    path = zipped(place / "x.zip", list({**listed(good), name: bytes(100 * 1024**2)}.items()))
    refused(place, path, "a zip bomb; nothing was written")
    path = zipped(place / "x.zip", list({**listed(good), name: bytes(257 * 1024**2)}.items()))
    refused(place, path, r"at most 268,435,456 are read|a zip bomb")


def test_a_bomb_that_lies_about_its_size_is_not_unpacked_either(good: dict[str, bytes], place: Path) -> None:
    path = zipped(place / "x.zip", list({**listed(good), "table.txt": bytes(100 * 1024**2)}.items()))
    content = bytearray(path.read_bytes())
    for found in range(len(content)):  # in the directory at the end, and in the file's own head
        if content[found : found + 4] == struct.pack("<L", 100 * 1024**2):
            content[found : found + 4] = struct.pack("<L", 100)
    path.write_bytes(content)
    refused(place, path, "is not a whole zip|longer than it says|altered")


def test_too_many_files_are_refused(good: dict[str, bytes], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST_FILES", 10)
    refused(
        place, zipped(place / "x.zip", list(listed(good).items())), "has 21 files|has 22 files; a share has at most 10"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packers_are_refused(method: int, good: dict[str, bytes], place: Path) -> None:
    refused(place, zipped(place / "x.zip", list(listed(good).items()), method), "is packed by method")


def test_an_encrypted_share_is_refused(good: dict[str, bytes], place: Path) -> None:
    path = zipped(place / "x.zip", list(listed(good).items()))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)
    refused(place, path, "is encrypted")


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "a newer share": (lambda files: listed(files, share=2), "made by a newer ganzoo"),
    "a newer run": (lambda files: listed(files, format=99), "made by a newer ganzoo"),
    "no version": (lambda files: listed(files, share="1"), "does not say of which version"),
    "version 0": (lambda files: listed(files, share=0), "there never was"),
    "no rows": (lambda files: {k: v for k, v in listed(files).items() if k != "rows.jsonl"}, "has no rows.jsonl"),
    "no list": (lambda files: {**files, "share.json": b'{"share": 1, "format": 2}'}, "lacks a part"),
    "not listed": (lambda files: {**listed(files), "summary.json": b"{}"}, "'summary.json' was altered"),
    "listed, not there": (
        lambda files: {k: v for k, v in listed(files).items() if k != "table.txt"},
        "'table.txt' is listed in share.json, and is not there",
    ),
    "altered": (lambda files: {**listed(files), "rows.csv": b"x"}, "'rows.csv' was altered"),
    "rows that are no JSON": (
        lambda files: listed({**files, "rows.jsonl": b"{'a': 1}"}),
        "line 1 of rows.jsonl is not JSON",
    ),
    "NaN": (lambda files: listed({**files, "rows.jsonl": b'{"a": NaN}'}), "is not JSON"),
    "infinity": (lambda files: listed({**files, "rows.jsonl": b'{"a": 1e999}'}), "is not JSON"),
    "deep": (lambda files: listed({**files, "rows.jsonl": b"[" * 100_000}), "is not JSON"),
    "a list": (lambda files: listed({**files, "rows.jsonl": b"[1]"}), "is no row of a cell"),
    "no UTF-8": (lambda files: listed({**files, "rows.jsonl": b"\xff\xfe"}), "is not JSON"),
    "baselines": (lambda files: listed({**files, "baselines.json": b'{"a": "b"}'}), "holds other things than figures"),
    "a bad plan": (lambda files: listed({**files, "plan.toml": b"epochs = 0"}), "plan.toml: epochs = 0"),
    "no plan": (lambda files: listed({**files, "plan.toml": b"\xff"}), "plan.toml is not TOML"),
    "a large plan": (lambda files: listed({**files, "plan.toml": b"#" * 70_000}), "at most 65,536"),
    "a list for a head": (lambda files: {**files, "share.json": b"[]"}, "does not say of which version"),
}


@pytest.mark.parametrize(("change", "match"), CHANGES.values(), ids=CHANGES)
def test_texts_that_are_not_as_they_should_be_are_refused(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], match: str, good: dict[str, bytes], place: Path
) -> None:
    refused(place, zipped(place / "x.zip", list(change(good).items())), match)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("label", 3), ("label", None), ("seed", "0"), ("seed", True), ("verdict", ["done"]), ("test_mre", "0.1"),
        ("test_mre", 1), ("settled", "yes"), ("hashes", [1]), ("hashes", {"z": 3}), ("fingerprint", None),
        ("curve", [1]), ("curve", [{"epoch": "1"}]), ("recipe", 3), ("label_images", 0.5), ("mre", None),
        ("sources", {"a": {}}),
        ("test_images", 0.5), ("metrics", {"fid": "x"}), ("metrics", [1]),
    ],
)  # fmt: skip
def test_a_row_of_other_kinds_is_refused_before_anything_is_made_of_it(
    key: str, value: Any, good: dict[str, bytes], place: Path
) -> None:
    lines = [json.loads(line) for line in good["rows.jsonl"].decode().splitlines()]
    lines[2][key] = value
    rows = "".join(json.dumps(line) + "\n" for line in lines).encode()
    refused(
        place,
        zipped(place / "x.zip", list(listed({**good, "rows.jsonl": rows}).items())),
        "line 3 of rows.jsonl is no row",
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_share_with_damaged_bytes_is_refused_or_means_the_same(
    seed: int, good: dict[str, bytes], place: Path
) -> None:
    path = zipped(place / "x.zip", list(listed(good).items()))
    rows = read_run(path).rows
    draw, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    if seed % 4 == 0:
        content = content[: draw.randrange(len(content))]
    path.write_bytes(content)
    try:
        found = read_run(path).rows
    except UserError as error:
        said = str(error)
    else:
        said = ""
        assert found == rows  # a date, an attribute: nothing that is read
    assert "\n" not in said


def test_what_is_no_zip_at_all_is_one_line(place: Path) -> None:
    (place / "x.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    refused(place, place / "x.zip", "is not a whole zip")


def test_a_link_in_place_of_a_file_of_an_opened_share_is_refused(good: dict[str, bytes], place: Path) -> None:
    open_share(zipped(place / "x.zip", list(listed(good).items())), place / "opened")
    secret = place / "secret"
    secret.write_bytes((place / "opened" / "plan.toml").read_bytes())
    (place / "opened" / "plan.toml").unlink()
    (place / "opened" / "plan.toml").symlink_to(secret)
    with pytest.raises(UserError, match=r"plan\.toml is no file"):
        read_run(place / "opened")
