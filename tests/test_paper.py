"""`ganzoo paper`: what it lists, how an item is made into a folder, and one line for each slip."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import Command, Said

from ganzoo import paper
from ganzoo.bench import Run, usable_cores
from ganzoo.errors import UserError
from ganzoo.paper import BARE, Item, Options, described, listing, make, write_rows
from ganzoo_paper import NAMES

IN_THE_PAPERS_ORDER = [
    *("figure-1", "figure-2", "figure-3", "figure-4", "figure-5", "figure-6", "figure-7", "figure-8", "figure-9"),
    *("figure-10", "table-1", "table-2", "table-3", "consistency", "generalization"),
]


@pytest.fixture
def ganzoo(ganzoo: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """With no data set near; nothing is trained."""

    def train(*_: Any) -> None:
        raise AssertionError("a slip was not refused")

    monkeypatch.setattr(Run, "train", train)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    return ganzoo


def is_a_slip(said: Said, *words: str) -> None:
    assert said.status == 2, said
    assert said.out == ""
    assert said.err.startswith("ganzoo: ")
    assert said.err.count("\n") == 1, said.err
    for word in words:
        assert word in said.err
    assert os.listdir() == []


def one_row(options: Options) -> str:
    write_rows(options.folder, [{"size": options.size, "data": options.data}])
    (options.folder / "picture.png").write_bytes(b"a picture")
    return f"a table of {options.data}\nand what it says"


def of(run: Callable[[Options], str] = one_row, **changes: Any) -> dict[str, Item]:
    """One item named `mine`."""
    return {"mine": Item(shows="what is mine", small="1 s", paper="1 min, measured", run=run, **changes)}


# The listing


def test_every_item_of_the_paper_is_listed_in_the_papers_order(ganzoo: Command) -> None:
    said = ganzoo("paper", "--json")
    assert (said.status, said.err) == (0, "")
    assert [item["item"] for item in json.loads(said.out)] == IN_THE_PAPERS_ORDER
    assert list(NAMES) == IN_THE_PAPERS_ORDER
    assert os.listdir() == []


def test_each_item_says_what_it_shows_what_to_type_on_what_data_how_long_it_takes_and_its_state(
    ganzoo: Command,
) -> None:
    text, found = ganzoo("paper").out, json.loads(ganzoo("paper", "--json").out)
    for item in found:
        assert set(item) == {"item", "shows", "command", "data", "small", "paper", "state"}
        assert item["command"] == f"ganzoo paper {item['item']}"
        assert item["state"] == "ready"
        for key in ("item", "shows", "command", "small", "paper", "state"):
            assert item[key].strip()
            assert item[key] in text
            assert "\n" not in item[key]
        assert f"(data: {', '.join(item['data'])})" in text
    assert text.count("\n") == 2 + 3 * len(found)


@pytest.mark.parametrize("name", IN_THE_PAPERS_ORDER)
def test_an_item_runs_on_a_bare_machine_by_default_and_says_how_long_that_takes(name: str) -> None:
    item = paper.items()[name]
    assert item.data[0] in BARE
    assert len(set(item.data)) == len(item.data)
    assert item.paper_data is None or item.paper_data in item.data
    assert item.small.split(",")[0].split(" on ")[0].rpartition(" ")[2] in ("s", "min")
    assert item.small[0].isdigit()


def test_the_state_is_done_after_a_run_and_names_the_folder(ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "items", of)
    assert json.loads(ganzoo("paper", "--json").out)[0]["state"] == "ready"
    said = ganzoo("paper", "mine")
    assert said == Said(
        0,
        "a table of synthetic\nand what it says\nruns/paper/mine/picture.png\nruns/paper/mine/rows.jsonl\n",
        "",
    )
    assert json.loads(ganzoo("paper", "--json").out)[0]["state"] == "done: runs/paper/mine"
    assert "[done: runs/paper/mine]" in ganzoo("paper").out


def test_an_item_made_elsewhere_or_half_made_is_not_listed_as_done(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "items", of)
    assert ganzoo("paper", "mine", "--out", "elsewhere").status == 0
    Path("runs/paper/mine").mkdir(parents=True)
    Path("runs/paper/mine/rows.jsonl").touch()
    assert json.loads(ganzoo("paper", "--json").out)[0]["state"] == "ready"


def test_an_item_that_lives_on_a_data_set_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = described("mine", of(data=("cifar10", "digits"))["mine"])
    assert found["state"] == "needs --path FOLDER of cifar10"
    ((name, (_, second, _)),) = listing([found])
    assert (name, second.endswith("   [needs --path FOLDER of cifar10]")) == ("mine", True)


# Who announces items


def announced(monkeypatch: pytest.MonkeyPatch, **by_module: Callable[[], Mapping[str, Item]]) -> None:
    points = [SimpleNamespace(value=value, load=lambda items=items: items) for value, items in by_module.items()]
    groups = {"ganzoo.paper": points}
    monkeypatch.setattr(paper, "entry_points", lambda group: groups[group])


def test_items_of_several_distributions_stand_in_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = of()["mine"]
    announced(monkeypatch, one=lambda: {"a": mine, "b": mine}, other=lambda: {"c": mine})
    assert list(paper.items()) == ["a", "b", "c"]


def test_two_items_of_one_name_are_refused_and_so_is_a_distribution_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced(monkeypatch, one=of, other=of)
    with pytest.raises(UserError, match=r"other announces 'mine'.*another has announced"):
        paper.items()
    announced(monkeypatch, one=of, broken=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match=r"^broken, announced for `ganzoo paper`, fails: ZeroDivisionError"):
        paper.items()


# An item made into a folder


def test_the_folder_says_how_its_rows_and_figures_came_about(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "mine"
    made = make("mine", of(), out=folder, jobs=3)
    assert sorted(os.listdir(folder)) == ["item.json", "picture.png", "rows.jsonl", "table.txt"]
    assert (folder / "table.txt").read_text() == "a table of synthetic\nand what it says\n"
    assert made["text"] == "a table of synthetic\nand what it says"
    assert made["files"] == [str(folder / "picture.png"), str(folder / "rows.jsonl")]
    assert made["folder"] == str(folder)
    kept = json.loads((folder / "item.json").read_text())
    assert kept == {key: value for key, value in made.items() if key not in ("folder", "text", "files")}
    assert kept["item"] == "mine"
    assert kept["options"] == {
        "folder": None,
        "size": "small",
        "data": "synthetic",
        "path": None,
        "device": "cpu",
        "jobs": 3,
    }
    assert set(kept["provenance"]) == {"versions", "commit", "device", "command", "started"}
    assert kept["provenance"]["versions"]["torch"] == version("torch")


def test_the_seconds_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def waits(options: Options) -> str:
        now[0] += 12.34
        return "done"

    monkeypatch.setattr(paper.time, "monotonic", lambda: now[0])
    assert make("mine", of(waits), out=tmp_path)["seconds"] == 12.3


def test_what_is_printed_is_the_table_whatever_line_the_item_ends_with(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("a table", "a table\n", "a table\n\n"):
        monkeypatch.setattr(paper, "items", lambda text=text: of(lambda options: text))
        said = ganzoo("paper", "mine", "--out", "made")
        assert said.out.startswith("a table\n")
        assert Path("made/table.txt").read_text() == "a table\n"


def test_json_is_one_document_with_the_text_the_files_and_the_provenance(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "items", lambda: of(data=("digits", "mnist")))
    said = ganzoo("paper", "mine", "--json", "--data", "mnist", "--path", "x", "--jobs", "2", "--out", "made")
    found = json.loads(said.out)
    assert found["text"] == "a table of mnist\nand what it says"
    assert found["options"] == {
        "folder": None,
        "size": "small",
        "data": "mnist",
        "path": "x",
        "device": "cpu",
        "jobs": 2,
    }
    assert found["files"] == ["made/picture.png", "made/rows.jsonl"]
    assert found["provenance"]["command"].startswith("ganzoo paper mine --json")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Options]:
    """The options that an item `able` of some data receives, on a machine with one CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paper, "provenance", lambda device: {"device": device})

    def received(able: Sequence[str], paper_data: str | None = None, **asked: Any) -> Options:
        found: list[Options] = []
        item = of(lambda options: found.append(options) or "", data=able, paper_data=paper_data)  # type: ignore[func-returns-value]
        assert make("mine", item, out=tmp_path, **asked)["provenance"] == {"device": found[0].device}
        return found[0]

    return received


def test_without_options_an_item_is_small_on_its_first_data_on_every_core(asked: Callable[..., Options]) -> None:
    options = asked(("digits", "cifar10"), "cifar10")
    assert options[1:] == ("small", "digits", None, "cpu", usable_cores())
    assert options.folder.is_dir()


def test_at_size_paper_an_item_runs_on_the_papers_data_on_a_gpu_one_process_at_a_time(
    asked: Callable[..., Options],
) -> None:
    assert asked(("digits", "cifar10"), "cifar10", size="paper")[1:] == ("paper", "cifar10", None, "cuda", 1)
    assert asked(("digits", "cifar10"), size="paper").data == "digits"
    assert asked(("digits", "svhn", "cifar10"), "cifar10", size="paper", data="svhn", path="x")[2:4] == ("svhn", "x")
    assert asked(("digits",), size="paper", device="cpu")[4:] == ("cpu", usable_cores())
    assert asked(("digits",), device="cuda:0", jobs=5)[4:] == ("cuda:0", 5)


def test_synthetic_data_need_no_gpu_at_any_size(asked: Callable[..., Options]) -> None:
    assert asked(("synthetic",), size="paper").device == "cpu"
    assert asked(("digits", "synthetic"), size="paper").device == "cuda"


def test_an_item_that_raises_leaves_no_trace_of_having_been_made(tmp_path: Path) -> None:
    for error in (UserError("no"), RuntimeError("no"), KeyboardInterrupt()):

        def fails(options: Options, error: BaseException = error) -> str:
            raise error

        with pytest.raises(type(error)):
            make("mine", of(fails), out=tmp_path / "new" / "mine")
        assert os.listdir(tmp_path) == []


def test_what_an_item_made_before_it_raised_stays_and_so_does_a_folder_that_was_there(tmp_path: Path) -> None:
    def fails_late(options: Options) -> str:
        one_row(options)
        raise RuntimeError("no")

    def fails(options: Options) -> str:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        make("mine", of(fails_late), out=tmp_path / "new" / "mine")
    assert sorted(os.listdir(tmp_path / "new" / "mine")) == ["picture.png", "rows.jsonl"]
    (tmp_path / "old").mkdir()
    with pytest.raises(RuntimeError):
        make("mine", of(fails), out=tmp_path / "old")
    assert (tmp_path / "old").is_dir()


def test_made_again_an_item_overwrites_all_that_it_wrote(tmp_path: Path) -> None:
    make("mine", of(), out=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    make("mine", of(data=("synthetic", "digits")), out=tmp_path, data="digits")
    after = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {"picture.png"}
    assert json.loads(after["rows.jsonl"]) == {"data": "digits", "size": "small"}


def test_rows_are_json_a_line_each_and_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"b": 1, "a": None}, {"a": [1.5, "ü"]}]
    write_rows(tmp_path, rows)
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows
    before = (tmp_path / "rows.jsonl").read_bytes()
    for bad in (math.nan, math.inf, [1.0, -math.inf]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_rows(tmp_path, [{"a": 1}, {"a": bad}])
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_rows(tmp_path / "other", [{"a": bad}])
    assert os.listdir(tmp_path) == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_bytes() == before


# Slips


SLIPS = {
    "figure-11": ["the paper has no 'figure-11'", "did you mean 'figure-1", "generalization"],
    "figure9": ["did you mean 'figure-9'?"],
    "lemma": ["the paper has no 'lemma'; there are: consistency"],
    "figure-3 --size papers": ["no size 'papers'; did you mean 'paper'? there are: paper, small"],
    "figure-3 --data cifar": ["figure-3 does not run on 'cifar'; did you mean 'cifar10'?"],
    "figure-1 --data digits": ["figure-1 does not run on 'digits'; there are: synthetic"],
    "table-3 --data cifar10": ["table-3 does not run on 'cifar10'", "digits, svhn"],
    "figure-9 --data folder": ["'folder' needs --path, a folder of images"],
    "figure-10 --data folder": ["'folder' needs --path, a folder of images"],
    "figure-9 --data folder --path gone": ["no folder of images at ", "/here/gone"],
    "figure-7 --data mnist --path gone.npz": ["no .npz file at ", "/here/gone.npz"],
    "table-2 --data cifar10 --path gone": ["cifar10 is not in gone; give --path"],
    "figure-3 --path x": ["figure-3 on digits reads no --path; say --data mnist or cifar10 or celeba"],
    "figure-1 --path x": ["figure-1 on synthetic reads no --path\n"],
    "figure-1 --device gpu": ["no device named 'gpu'; there are: cpu, cuda, cuda:N"],
    "figure-1 --device mps": ["ganzoo does not run on 'mps'; there are: cpu, cuda, cuda:N"],
    "figure-3 --jobs 0": ["--jobs"],
    "figure-2 --data celeba": ["figure-2 at size small trains its feature network on labels"],
    "figure-9 --size paper --data digits --device cpu": [
        "figure-9 at size paper runs on cifar10 and folder, not on digits"
    ],
    "table-2 --size paper --data digits --device cpu": [
        "labels.per_class = 400, but class '0' has 98 images in the training part of digits"
    ],
}


@pytest.mark.parametrize("arguments", SLIPS)
def test_a_slip_is_one_line_and_writes_nothing(ganzoo: Command, arguments: str) -> None:
    is_a_slip(ganzoo("paper", *arguments.split()), *SLIPS[arguments])


@pytest.mark.parametrize("seen", [0, 1, 2])
def test_a_device_that_is_not_there_is_a_slip(ganzoo: Command, monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    sees = ("no CUDA device", "1 CUDA device", "2 CUDA devices")[seen]
    what = ("figure-1", "figure-3")[seen % 2]
    said = ganzoo("paper", what, "--device", "cuda:2")
    is_a_slip(said, f"{what} at size small wants cuda:2, but torch sees {sees} here; take --device cpu")


def on_data(bare: bool) -> list[str]:
    return [name for name, item in paper.items().items() if (item.data == ("synthetic",)) == bare]


@pytest.mark.parametrize("name", on_data(bare=False))
def test_without_a_gpu_the_papers_size_is_a_slip(name: str, ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = f"{name} at size paper wants cuda, but torch sees no CUDA device here; take --device cpu"
    is_a_slip(ganzoo("paper", name, "--size", "paper"), words)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (name, data)
        for name, item in paper.items().items()
        for data in item.data
        if data not in (*BARE, "folder") and (name, data) != ("figure-2", "celeba")
    ],
)
def test_a_data_set_that_is_not_there_is_a_slip_that_says_how_to_come_by_it(
    name: str, data: str, ganzoo: Command, tmp_path: Path
) -> None:
    is_a_slip(
        ganzoo("paper", name, "--data", data),
        f"{data} is not in {tmp_path / 'data'}; give --path, the folder that holds its ",
        f"ganzoo bench --data {data} --set data.download=true --dry-run",
    )


def test_a_damaged_archive_is_a_slip(ganzoo: Command, tmp_path: Path) -> None:
    path = tmp_path / "data" / "images.npz"
    path.write_bytes(b"nothing of the kind")
    is_a_slip(ganzoo("paper", "figure-3", "--data", "mnist", "--path", str(path)), "cannot be read as an .npz file")


def test_a_folder_that_cannot_be_is_a_slip(ganzoo: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    is_a_slip(ganzoo("paper", "table-1", "--out", str(file)), f"cannot use {file}: file exists")
    is_a_slip(ganzoo("paper", "table-1", "--out", str(file / "in")), f"cannot use {file / 'in'}: not a directory")
    is_a_slip(ganzoo("paper", "table-1", "--out", "x" * 999), f"cannot use {'x' * 999}: file name too long")


def test_a_folder_of_another_run_is_a_slip_and_is_left_as_it_was(ganzoo: Command, tmp_path: Path) -> None:
    run = tmp_path / "out" / "batchnorm"
    run.mkdir(parents=True)
    (run / "plan.toml").write_text('z_dim = 7\n[data]\nset = "digits"\n')
    (run / "run.json").write_text('{"format": 2}')
    said = ganzoo("paper", "figure-3", "--out", str(tmp_path / "out"))
    is_a_slip(said, f"{run} holds a run of another plan", "z_dim", "take --out")
    assert sorted(os.listdir(run)) == ["plan.toml", "run.json", "run.lock"]
