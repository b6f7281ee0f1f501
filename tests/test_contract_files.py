"""The contract's rows 2 to 6, 22 and 27: what befalls files. The disk fails in earnest; files are cut and bent."""

import io
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import power_cut
import pytest
import torch
from injected import Forks, calls_of, each_once, state_of, traced, why_no_strace

from ganzoo.bench import Log, Run, prepare
from ganzoo.cell_folder import CellFolder, checkpoints, raise_fence, read_curve
from ganzoo.config import Plan
from ganzoo.durable import MAGIC, load_checkpoint, read_sealed, save_checkpoint, sealed_lines
from ganzoo.errors import UserError
from ganzoo.lock import lock_file, try_lock
from ganzoo.party import prepare as prepare_cell
from ganzoo.party import train_cell
from ganzoo.result import concluded, read_cell, read_row, require_pictures
from ganzoo.verify import verify
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]

needs_strace = pytest.mark.skipif(bool(why_no_strace()), reason=why_no_strace())


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as made:
        yield made


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory, tiny: MakePlan, zoo: Zoo) -> Path:
    """A run of one cell that nobody has begun; it is saved after each of its 8 rounds."""
    run = Run(
        tmp_path_factory.mktemp("laid out") / "run", prepare(tiny(objectives=["gls-gan"], checkpoint_seconds=0), zoo)
    )
    with run.held():
        pass
    return run.folder


def cell_of(run: Path) -> Path:
    (directory,) = (run / "cells").iterdir()
    return directory


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, laid_out: Path) -> Path:
    """The same run's cell, undisturbed."""
    run = shutil.copytree(laid_out, tmp_path_factory.mktemp("calm") / "run")
    train_cell(cell_of(run))
    return cell_of(run)


@pytest.fixture
def begun(tmp_path: Path, laid_out: Path) -> Path:
    """A cell to train."""
    return cell_of(shutil.copytree(laid_out, tmp_path / "run"))


@pytest.fixture
def trained(tmp_path: Path, calm: Path) -> Path:
    """A trained cell to damage."""
    return cell_of(shutil.copytree(calm.parents[1], tmp_path / "run"))


def end_of(directory: Path) -> dict[str, Any]:
    """What must be the same, however the cell came there."""
    row = read_row(directory)
    assert row is not None
    del row["provenance"]
    names = [checkpoints(directory)[0].name, "curve.jsonl", "pictures.npz"]
    return {"row": row, **{name: (directory / name).read_bytes() for name in names}}


# Rows 2 and 3: a folder with the states of rounds 1 and 2, to which that of round 3 is added


@pytest.fixture
def two_kept(tmp_path: Path) -> Path:
    directory = tmp_path / "cell"
    directory.mkdir()
    raise_fence(directory)
    folder = CellFolder(directory, 1)
    for round in (1, 2):
        folder.keep(state_of(round))
    return directory


def bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    return {key: bits(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def resumed_round(directory: Path) -> int:
    """The round that a resume finds whole, at once; then the cell goes on, and nothing is left lying about."""
    folder = CellFolder(directory, 1)
    states: list[dict[str, Any]] = []
    folder.resume(lambda path: states.append(load_checkpoint(path)))
    assert folder.recovered == []
    (state,) = states
    assert bits(state) == bits(state_of(state["round"]))
    for round in range(state["round"] + 1, 5):
        folder.keep(state_of(round))
    assert sorted(os.listdir(directory)) == ["checkpoint-00000003", "checkpoint-00000004", "fence-1", "manifest.json"]
    for kept in read_sealed(directory / "manifest.json")["checkpoints"]:
        content = (directory / kept["file"]).read_bytes()
        assert (kept["bytes"], kept["content_sha256"]) == (len(content), sha256(content.split(b"\n", 1)[1]).hexdigest())
    return int(state["round"])


@needs_strace
def test_killed_at_each_system_call_of_a_commit_the_folder_holds_the_old_state_or_the_new(
    forks: Forks, two_kept: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with traced(forks.start("keep", shutil.copytree(two_kept, tmp_path / "calm"), 1, 3), into=trace):
        pass
    points = each_once(calls_of(trace))
    assert {"openat", "write", "fsync", "close", "rename", "unlink"} <= {name for name, _ in points}
    assert len(points) >= 40
    found = []
    for at, (name, k) in enumerate(points):
        directory = shutil.copytree(two_kept, tmp_path / str(at))
        child = forks.start("keep", directory, 1, 3)
        with traced(child, "-e", f"inject={name}:signal=KILL:when={k}", into=trace):
            status = child.wait()
        assert status == -9, (name, k)
        found.append(resumed_round(directory))
    # Old states first, new ones after; both happen.
    assert found == sorted(found)
    assert set(found) == {2, 3}


ERRORS = {"ENOSPC": "the disk is full: ", "EDQUOT": "the disk is full: ", "EIO": "cannot write "}


@needs_strace
@pytest.mark.parametrize("error", ERRORS)
def test_a_disk_that_fails_in_any_call_of_a_commit_keeps_the_old_state(
    error: str, forks: Forks, two_kept: Path, tmp_path: Path
) -> None:
    parts = ["checkpoint-00000003", "manifest.json", ""]  # the last to be synced is the folder
    for name, k in [(name, k) for name in ("write", "fsync", "rename") for k in (1, 2)] + [("fsync", 3)]:
        directory, said = shutil.copytree(two_kept, tmp_path / f"{name}{k}"), tmp_path / "said"
        child = forks.start("keep", directory, 1, 3, said=said)
        with traced(child, "-e", f"inject={name}:error={error}:when={k}", into=tmp_path / "trace"):
            assert child.wait() == 3, (name, k)
        line = said.read_text()
        assert line.startswith(f"DiskError: {ERRORS[error]}{directory / parts[k - 1]} "), (name, k)
        assert re.search(r"\b\d[\d,]* bytes\b.*; what stood there is kept", line), (name, k)
        assert not list(directory.glob(".*"))
        assert resumed_round(directory) == (2 if k == 1 else 3), (name, k)


@needs_strace
def test_what_was_left_aside_because_the_disk_refused_even_to_remove_it_goes_at_the_next_start(
    forks: Forks, two_kept: Path, tmp_path: Path
) -> None:
    child = forks.start("keep", two_kept, 1, 3)
    with traced(
        child, "-e", "inject=fsync:error=EIO:when=1", "-e", "inject=unlink:error=EIO:when=1", into=tmp_path / "trace"
    ):
        assert child.wait() == 3
    assert len(list(two_kept.glob(".*.tmp"))) == 1
    assert resumed_round(two_kept) == 2  # and it left nothing lying about


@needs_strace
@pytest.mark.parametrize(("call", "when", "error"), [("fsync", 10, "ENOSPC"), ("rename", 6, "EIO")])
def test_a_cell_whose_disk_fails_once_says_so_and_ends_in_the_same_bits_when_started_again(
    call: str, when: int, error: str, forks: Forks, begun: Path, calm: Path, tmp_path: Path
) -> None:
    child = forks.start("worker", begun)
    with traced(child, "-e", f"inject={call}:error={error}:when={when}", into=tmp_path / "trace"):
        assert child.wait() == 1
    row = read_row(begun)
    assert row is not None
    assert row["verdict"] == "failed:disk"
    assert re.search(rf"{re.escape(str(begun))}\S* .*\b\d[\d,]* bytes\b.*; what stood there is kept", row["reason"])
    assert read_sealed(begun / "verdict.json")["verdict"] == "failed:disk"
    assert not list(begun.glob(".*"))
    assert forks.start("worker", begun).go().wait() == 0
    assert end_of(begun) == end_of(calm)


@needs_strace
def test_a_cell_whose_disk_stays_full_has_no_verdict_and_a_status_that_says_so(
    forks: Forks, begun: Path, calm: Path, tmp_path: Path
) -> None:
    child = forks.start("worker", "--log", begun)
    with traced(child, "-e", "inject=write:error=ENOSPC:when=20+", into=tmp_path / "trace"):
        assert child.wait() == 74
    assert read_row(begun) is None
    assert checkpoints(begun)
    assert forks.start("worker", begun).go().wait() == 0
    assert end_of(begun) == end_of(calm)


@contextmanager
def small_disk(where: Path, size: str) -> Iterator[Path]:
    """A file system of that size. Skips where none can be mounted."""
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "ganzoo", where], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all but so many bytes of the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(disk)
        file.write(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))
    return ballast


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "provenance"} for row in rows]


def test_a_run_on_a_full_disk_gives_every_cell_a_verdict_and_completes_when_there_is_room(
    finished: Run, zoo: Zoo, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        for leave in (0, 150_000, 40_000):
            run = Run(disk / "run", prepare(finished.plan, zoo))
            (disk / "ballast").unlink(missing_ok=True)
            with run.held():
                shutil.copy(finished.folder / "baselines.json", disk / "run")
                fill(disk, leave)
                with lock_file(disk / f"lock {leave}") as file:  # its name may be there when nothing can be said in it
                    assert try_lock(file, exclusive=True)
                rows = run.train(2, lambda event: None)
            for row in rows:
                assert row["verdict"] == "failed:disk", (leave, row["verdict"], row.get("reason"))
                assert re.search(rf"{re.escape(str(disk))}/\S+.* [\d,]+ bytes", row["reason"])
        (disk / "ballast").unlink()
        run = Run(disk / "run", prepare(finished.plan, zoo))
        with run.held():
            run.train(2, lambda event: None)
        assert not list((disk / "run").rglob("*.tmp"))
        assert rows_of(disk / "run") == rows_of(finished.folder)


# Row 6


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing waits for a disk, where there is one: thousands of states are looked at."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as made:
        yield Path(made)


@needs_strace
def test_whatever_a_power_cut_leaves_of_unsynced_writes_the_cell_resumes_from_a_whole_state(
    forks: Forks, begun: Path, calm: Path, tmp_path: Path, in_memory: Path
) -> None:
    disk = power_cut.Disk({path.name: path.read_bytes() for path in begun.iterdir()})
    child = forks.start("worker", begun)
    with traced(child, *power_cut.OPTIONS, into=tmp_path / "trace"):
        assert child.wait() == 0
    crashed = in_memory / begun.name
    crashed.mkdir()
    rounds: set[int] = set()
    states, sample = set[frozenset[tuple[str, bytes]]](), []
    made = [
        call.path for call in power_cut.calls(tmp_path / "trace", begun) if call.path.endswith(".tmp") and call.flags
    ]
    assert len(set(made)) == len(made) > 20  # nobody else can have a file of that name open
    for call in power_cut.calls(tmp_path / "trace", begun):
        if Path(call.path).name in ("beat", "lock"):  # nobody reads them after a start
            continue
        disk.do(call)
        committed = newest(disk.lasting)
        for files in disk.after_a_power_cut():
            state = frozenset(files.items())
            if state in states:
                continue
            states.add(state)
            replace_by(crashed, files)
            rounds.add(whole_after_a_power_cut(crashed, committed))
            if len(states) % 500 == 0:
                sample.append(files)
    there = {path.name: path.read_bytes() for path in begun.iterdir() if path.name not in ("beat", "lock")}
    assert {name: inode.now for name, inode in disk.now.items()} == there
    assert rounds == {-1, *range(9)}
    assert len(states) > 1000
    for files in sample:
        replace_by(crashed, files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train_cell(crashed)
        assert end_of(crashed) == end_of(calm)


def newest(names: Iterable[str]) -> int:
    """The round of the newest checkpoint; -1 where there is none."""
    return max((int(name.removeprefix("checkpoint-")) for name in names if name.startswith("checkpoint-")), default=-1)


def replace_by(directory: Path, files: dict[str, bytes]) -> None:
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)


def whole_after_a_power_cut(directory: Path, committed: int) -> int:
    """Everything that was committed is there, nothing else is half there. Returns the round that a resume finds."""
    names = os.listdir(directory)
    states: list[dict[str, Any]] = []
    for name in ("manifest.json", "fingerprint.json", "verdict.json"):
        if name in names:
            read_sealed(directory / name)
    row = read_row(directory)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if row is not None and concluded(directory, row):
            require_pictures(directory)
        # Their names may come in any order: without the pictures the row is made again.
        assert bool(said) == (row is not None and "verdict.json" in names and "pictures.npz" not in names)
        folder = CellFolder(directory, raise_fence(directory))
        folder.resume(lambda path: states.append(load_checkpoint(path)))
        assert not folder.recovered
        before = len(said)
        folder.begin_curve(states[0]["curve"] if states else [])
    assert len(said) - before == len(folder.recovered) <= 1  # it is not synced, for its points are in the checkpoint
    found = states[0]["round"] if states else -1
    assert committed <= found == newest(names)
    assert not list(directory.glob(".*.tmp"))
    assert read_curve(directory) == (states[0]["curve"] if states else [])
    return found


@pytest.mark.parametrize("gone", [["verdict.json", "pictures.npz"], ["pictures.npz"], ["verdict.json"], ["row.json"]])
def test_results_that_came_apart_are_made_again(gone: list[str], trained: Path, calm: Path) -> None:
    for name in gone:
        (trained / name).unlink()
    with warned():
        train_cell(trained)
    assert end_of(trained) == end_of(calm)
    assert verify(trained.parents[1]).is_whole


@needs_strace
def test_folders_that_a_commit_makes_survive_a_power_cut_too(forks: Forks, tmp_path: Path) -> None:
    child = forks.start("commit", tmp_path / "one" / "two" / "file")
    with traced(child, *power_cut.OPTIONS, into=tmp_path / "trace"):
        assert child.wait() == 0
    done = [(call.name, Path(call.path).name) for call in power_cut.calls(tmp_path / "trace", tmp_path)]
    named = done.index(("rename", next(name for call, name in done if call == "rename")))
    for folder, made in ((tmp_path.name, "one"), ("one", "two")):
        assert ("fsync", folder) in done[done.index(("mkdir", made)) : named]


# Row 4


@contextmanager
def warned() -> Iterator[list[str]]:
    """What is warned of in the block."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    found += [str(warning.message) for warning in caught]


def test_a_checkpoint_cut_anywhere_gives_way_to_the_one_before_it(calm: Path, in_memory: Path) -> None:
    directory = shutil.copytree(calm, in_memory / calm.name)
    newest, before = checkpoints(directory)
    whole = newest.read_bytes()
    cuts = [0, *random.Random(4).sample(range(len(whole)), 200)]
    for cut in cuts:
        newest.write_bytes(whole[:cut])
        folder, taken = CellFolder(directory, 1), []
        with warned() as said:
            assert folder.resume(lambda path, taken=taken: taken.append(load_checkpoint(path))) == before, cut
        assert [state["round"] for state in taken] == [7]
        assert said == folder.recovered
        assert len(said) == 1
        assert said[0].startswith(f"{newest} is ")
        assert said[0].endswith("; took the one before it")


@pytest.mark.parametrize("cut", [0, 60, 20_000])
def test_a_cell_that_went_back_to_the_checkpoint_before_says_so_and_ends_in_the_same_bits(
    cut: int, trained: Path, calm: Path
) -> None:
    newest = checkpoints(trained)[0]
    newest.write_bytes(newest.read_bytes()[:cut])
    (trained / "row.json").unlink()
    with warned() as said:
        train_cell(trained)
    assert len(said) == 1
    assert newest.name in said[0]
    assert end_of(trained) == end_of(calm)
    row = read_row(trained)
    assert row is not None
    assert row["provenance"]["recovered"] == said
    assert read_sealed(trained / "verdict.json")["recovered"] == said
    assert [path.name for path in checkpoints(trained)] == ["checkpoint-00000008", "checkpoint-00000007"]


def test_what_was_recovered_once_is_told_even_by_an_attempt_that_comes_later(two_kept: Path) -> None:
    (two_kept / "checkpoint-00000002").write_bytes(b"")
    first = CellFolder(two_kept, 1)
    with pytest.warns(UserWarning, match="checkpoint-00000002 is not a ganzoo checkpoint; took the one before it"):
        first.resume(lambda path: None if "1" in path.name else load_checkpoint(path))
    first.keep(state_of(2))
    first.keep(state_of(3))
    # It was killed here; nothing is damaged any more.
    later = CellFolder(two_kept, raise_fence(two_kept))
    later.resume(load_checkpoint)
    assert later.recovered == first.recovered != []


def test_where_no_checkpoint_is_whole_the_cell_is_not_begun_anew_unasked(trained: Path) -> None:
    for path in checkpoints(trained):
        path.write_bytes(path.read_bytes()[:-1])
    (trained / "row.json").unlink()
    with warned(), pytest.raises(UserError, match=r"none of checkpoint-00000008, checkpoint-00000007 is whole; delete"):
        train_cell(trained)


# Row 5

SEALED = ("row.json", "verdict.json", "manifest.json", "fingerprint.json", "curve.jsonl", "pictures.npz", "cell.json")


def test_a_thousand_flipped_bits_are_noticed_wherever_they_are(calm: Path, finished: Run, in_memory: Path) -> None:
    run = shutil.copytree(calm.parents[1], in_memory / "run")
    shutil.copy(finished.folder / "baselines.json", run)
    directory = cell_of(run)
    paths = [directory / name for name in SEALED] + checkpoints(directory)
    paths += [run / "baselines.json", run / "run.json", directory / "timing.json"]
    assert verify(run).is_whole
    draw = random.Random(5)
    for at in range(1000):
        path = paths[at % len(paths)]
        whole = path.read_bytes()
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        found = verify(run)
        named = {**found.damaged, **found.cells[0].damaged}
        assert path.name in named, (path.name, place, bit, whole[place : place + 1])
        path.write_bytes(whole)
    assert verify(run).is_whole


def test_what_of_a_cell_no_checksum_covers_changes_nothing_and_is_written_again(calm: Path, tmp_path: Path) -> None:
    path, whole = calm / "cell.json", (calm / "cell.json").read_bytes()
    known = read_cell(calm)
    altered = tmp_path / calm.name
    altered.mkdir()
    begin = whole.index(b'"checkpoint_seconds"')
    unnoticed = set()
    for place in range(begin, begin + 40):
        for bit in range(8):
            content = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
            (altered / "cell.json").write_bytes(content)
            try:
                found = read_cell(altered)
            except UserError:
                continue
            if found.directory == altered.name:
                unnoticed |= {key for key, value in found.plan.items() if known.plan[key] != value}
    assert unnoticed == {"checkpoint_seconds"}
    assert path.read_bytes() == whole


def flip(path: Path, place: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_same_command_makes_good_what_a_flipped_bit_has_spoilt(finished: Run, zoo: Zoo, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished.folder, tmp_path / "run"), prepare(finished.plan, zoo))
    cells = [run.directory(cell) for cell in run.cells]
    flip(cells[0] / "row.json")
    flip(cells[0] / "manifest.json")
    flip(checkpoints(cells[0])[0])
    flip(cells[1] / "verdict.json")
    flip(cells[2] / "pictures.npz", 100)
    flip(cells[2] / "curve.jsonl")
    flip(cells[3] / "cell.json")
    flip(cells[3] / "fingerprint.json")
    (cells[3] / "row.json").unlink()
    flip(run.folder / "run.json")
    flip(run.folder / "baselines.json")
    with run.held():
        rows = run.train(2, lambda event: None)
    assert [row["verdict"] for row in rows] == ["done"] * 4
    assert rows_of(run.folder) == rows_of(finished.folder)
    assert run.baselines() == finished.baselines()
    assert verify(run.folder).is_whole


# Row 22


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def sealed_up(content: bytes) -> bytes:
    """With the checksum that belongs to it."""
    return MAGIC + sha256(content).hexdigest().encode() + b"\n" + content


def skeleton(text: str, tensors: bytes = b"") -> bytes:
    return sealed_up(text.encode() + b"\n" + (tensors or index("{}")))


def index(text: str, data: bytes = b"") -> bytes:
    """A safetensors file of that header."""
    return len(text).to_bytes(8, "little") + text.encode() + data


def torch_file(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"round": Evil(mark)}, buffer)
    return buffer.getvalue()


def bomb(megabytes: int) -> bytes:
    """A file of torch's whose one member is deflated: 1 kB for each megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint/data.pkl", pickle.dumps({"round": 1}, protocol=2))
        archive.writestr("checkpoint/data/0", bytes(megabytes * 2**20))
    return buffer.getvalue()


MEGABYTE = 2**20
OTHER = "a state of something else"
ENORMOUS = 10**12


def hostile(mark: Path) -> dict[str, bytes]:
    """Checkpoints of at most a megabyte or so, each under a right checksum."""

    def tensor(name: str, shape: list[int], begin: int, end: int) -> str:
        return json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}})[1:-1]

    named = '{"pairs":[["weight",{"tensor":"a"}]]}'
    few = bytes(64)
    many = ",".join(tensor(f"{i:x}", [0], 0, 0) for i in range(MEGABYTE // 60))
    return {
        "pickle": sealed_up(pickle.dumps({"round": Evil(mark)}, protocol=2)),
        "pickle as the state": skeleton(pickle.dumps(Evil(mark), protocol=0).decode("latin-1")),
        "a file of torch's": sealed_up(torch_file(mark)),
        "a deflated bomb": sealed_up(bomb(1000)),
        "a deflated bomb as the tensors": skeleton(named, bomb(1000)),
        "10^12 elements": skeleton(named, index("{" + tensor("a", [ENORMOUS], 0, 4 * ENORMOUS) + "}", few)),
        "10^12 elements in few bytes": skeleton(named, index("{" + tensor("a", [ENORMOUS], 0, 64) + "}", few)),
        "a shape that overflows": skeleton(named, index("{" + tensor("a", [2**32, 2**32], 0, 64) + "}", few)),
        "offsets that overlap": skeleton(
            named, index("{" + tensor("a", [16], 0, 64) + "," + tensor("b", [16], 0, 64) + "}", few)
        ),
        "offsets beyond the end": skeleton(named, index("{" + tensor("a", [16], 64, 128) + "}", few)),
        "offsets that leave a gap": skeleton(named, index("{" + tensor("a", [8], 32, 64) + "}", few)),
        "a header longer than the file": skeleton(named, (2**62).to_bytes(8, "little") + b"{}"),
        "a header of a megabyte of spaces": skeleton(named, index("{" + " " * MEGABYTE + "}")),
        "many empty tensors": skeleton(named, index("{" + many + "}")),
        "a tensor asked for again and again": skeleton(
            '{"pairs":[' + ",".join(['["w",{"tensor":"a"}]'] * (MEGABYTE // 21)) + "]}",
            index("{" + tensor("a", [16], 0, 64) + "}", few),
        ),
        "depth 100,000": skeleton("[" * 100_000 + "]" * 100_000),
        "depth 100,000 of tables": skeleton('{"a":' * 100_000 + "1" + "}" * 100_000),
        "a megabyte of brackets": skeleton("[" * MEGABYTE),
        "lists": skeleton("[" + "[]," * (MEGABYTE // 3) + "[]]"),
        "tables": skeleton('{"pairs":[' + '["a",{}],' * (MEGABYTE // 9) + '["a",{}]]}'),
        OTHER: skeleton('{"pairs":[' + ",".join(f'["{i:x}",[[]]]' for i in range(MEGABYTE // 14)) + "]}"),
        "numbers": skeleton("[" + "1.5," * (MEGABYTE // 4) + "1]"),
        "a number of a megabyte": skeleton("9" * MEGABYTE),
        "an infinite number": skeleton('{"pairs":[["round",1e999]]}'),
        "no number": skeleton('{"pairs":[["round",NaN]]}'),
        "text": skeleton('"' + "\\u4e2d" * (MEGABYTE // 6) + '"'),
        "no table": skeleton("[1,2]"),
        "nothing": sealed_up(b""),
        "no end of the line": sealed_up(b"x" * MEGABYTE),
    }


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """(what would be there had code run, hostile checkpoints)."""
    mark = tmp_path_factory.mktemp("strange") / "code ran"
    return mark, hostile(mark)


def test_no_foreign_checkpoint_runs_code_or_takes_much_memory(
    strange: tuple[Path, dict[str, bytes]], forks: Forks, tmp_path: Path
) -> None:
    mark, files = strange
    extra: dict[str, int] = {}
    for name, content in files.items():
        path, said = tmp_path / "checkpoint", tmp_path / "said"
        path.write_bytes(content)
        assert len(content) < 1.6 * MEGABYTE, name
        assert forks.start("load", path, said=said).go().wait() == 0, (name, said.read_text())
        *refused, figure = said.read_text().splitlines()
        assert len(refused) == (name != OTHER), name
        assert all("checkpoint is not a ganzoo checkpoint: its checksum is right" in line for line in refused), name
        extra[name] = int(figure)
    assert not mark.exists()
    worst = max(extra, key=extra.__getitem__)
    assert extra[worst] < 64 * MEGABYTE, (worst, extra[worst] / MEGABYTE)


def test_thirty_megabytes_of_brackets_take_little_more_memory_than_that(forks: Forks, tmp_path: Path) -> None:
    path, said = tmp_path / "checkpoint", tmp_path / "said"
    for text in ("[" * 30 * MEGABYTE, "[],[" * (7 * MEGABYTE) + "]"):
        path.write_bytes(skeleton(text))
        assert forks.start("load", path, said=said).go().wait() == 0
        assert int(said.read_text().splitlines()[1]) < 100 * MEGABYTE


def test_a_cell_falls_back_from_every_foreign_checkpoint_to_its_own(
    strange: tuple[Path, dict[str, bytes]], trained: Path
) -> None:
    mark, files = strange
    newest, before = checkpoints(trained)
    newest.unlink()
    training, stranger = prepare_cell(trained), newest.with_name("checkpoint-00000009")
    for name, content in files.items():
        stranger.write_bytes(content)
        folder = CellFolder(trained, 1)
        if name == OTHER:
            with pytest.raises(UserError, match="checkpoint-00000009 lacks a part of the state: best_generator, cell,"):
                folder.resume(training.resume)
            continue
        with warned() as said:
            assert folder.resume(training.resume) == before, name
        assert len(said) == 1, name
        assert len(said[0].splitlines()) == 1
        assert training.round == 7
    assert not mark.exists()


def test_a_whole_checkpoint_of_another_game_is_refused_with_one_line_and_the_cell_is_invalid(
    trained: Path, forks: Forks, tmp_path: Path
) -> None:
    newest = checkpoints(trained)[0]
    state = load_checkpoint(newest)
    state["generator"] = {key: value.double() for key, value in state["generator"].items()}
    save_checkpoint(newest, state)
    (trained / "row.json").unlink()
    assert forks.start("worker", trained, said=tmp_path / "said").go().wait() == 1
    row = read_row(trained)
    assert row is not None
    assert row["verdict"] == "invalid"
    assert re.fullmatch(r".*checkpoint-00000008 lacks a part of the state: .* is torch.float64 .*", row["reason"])


# Row 27


def test_a_curve_torn_at_any_byte_of_its_last_lines_is_made_whole_with_one_warning(calm: Path, in_memory: Path) -> None:
    directory = shutil.copytree(calm, in_memory / calm.name)
    path, points = directory / "curve.jsonl", read_curve(directory)
    whole = path.read_bytes()
    assert whole.count(b"\n") == len(points) == 3
    ends = {0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))}
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        folder = CellFolder(directory, 1)
        with warned() as said:
            folder.begin_curve(points)
        # A cut between two lines leaves whole lines: nothing is torn, and what is missing is made again.
        assert len(said) == (cut not in ends)
        assert said == folder.recovered
        assert path.read_bytes() == whole


def test_a_curve_torn_while_its_cell_was_at_work_ends_as_if_nothing_had_happened(trained: Path, calm: Path) -> None:
    checkpoints(trained)[0].unlink()
    (trained / "row.json").unlink()
    path = trained / "curve.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with warned() as said:
        train_cell(trained)
    assert len(said) == 1
    assert re.search(r"curve.jsonl was torn or altered after 2 lines; what was lost is made again", said[0])
    assert end_of(trained) == end_of(calm)


def test_a_log_torn_at_any_byte_of_its_last_lines_loses_no_more_than_it_must_and_goes_on(in_memory: Path) -> None:
    path = in_memory / "log.jsonl"
    with Log(path) as log:
        for attempt in range(5):
            log.note(in_memory, "placed", in_memory / "cells" / "dcgan", attempt=attempt)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(b"".join(lines[:2])), len(whole)):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        torn = cut != len(b"".join(lines[:kept]))
        with warned() as said, Log(path) as log:
            log.note(in_memory, "placed", in_memory / "cells" / "dcgan", attempt=9)
        assert len(said) == torn
        assert not torn or re.search(r"log.jsonl was torn; its last \d+ bytes are cut off", said[0])
        found = path.read_bytes()
        assert found.startswith(b"".join(lines[:kept]))
        assert [line["attempt"] for _, line in sealed_lines(found)] == [*range(kept), 9]
        assert sealed_lines_end(found) == len(found)


def sealed_lines_end(content: bytes) -> int:
    return max((end for end, _ in sealed_lines(content)), default=0)
