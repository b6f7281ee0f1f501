"""The page holds what the run holds, says what is missing, survives what is damaged, and runs nothing of a folder."""

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import time
import zipfile
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import BASELINES, made_cell, made_pictures, made_row, made_run, planned
from PIL import Image
from typer.testing import CliRunner

from ganzoo.bench import Run
from ganzoo.cli import app
from ganzoo.durable import commit, commit_sealed
from ganzoo.errors import UserError
from ganzoo.report import ranking
from ganzoo.report.page import LARGEST_PAGE, drawing, page, write_page
from ganzoo.report.page.grids import grid, picture
from ganzoo.report.page.latex import escaped, latex_table
from ganzoo.report.page.run_folder import read_run

COST = Path(__file__).parent / "wrong_plugins.py"
HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[2J\u202egnp"


class Read(HTMLParser):
    """Text by the id of the section it stands in; tags; table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._section, self._cells = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cells = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cells = False

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data
        if self._cells:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(folder: Path, **more: Any) -> Read:
    return Read(write_page(folder, **more).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three contenders of six seeds; look, or copy it."""
    rows = [
        made_row(label, seed, error + 0.001 * ((seed * 7) % 5))
        for label, error in (("dcgan", 0.17), ("ls-gan", 0.15), ("wgan", 0.25))
        for seed in range(6)
    ]
    return made_run(tmp_path_factory.mktemp("page") / "run", rows, made_pictures())


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


# What it holds


def test_the_table_is_that_of_the_ranking(whole: Path, tmp_path: Path) -> None:
    found = read(whole, out=tmp_path / "x.html")
    ranked = ranking.rank(read_run(whole).rows, BASELINES)
    lines = {cells[1].strip(): cells for cells in found.rows if len(cells) > 8 and cells[0].strip().isdigit()}
    assert list(lines) == ["ls-gan", "dcgan", "wgan"]
    for place, standing in enumerate(ranked.standings, start=1):
        cells = lines[standing.label]
        assert cells[0].strip() == str(place)
        assert f"{standing.test_mre:.4f}" in cells[2]
        assert standing.interval is not None
        assert f"{standing.interval.low:.4f} … {standing.interval.high:.4f}" in cells[2]
        if standing.difference is not None:
            assert f"{standing.difference.mean:+.4f}" in cells[4]
            assert f"{standing.difference.p_holm:.3f}" in cells[5]
    for name, error in BASELINES.items():
        assert any(name in cells[1] and f"{error:.4f}" in cells[2] for cells in found.rows if len(cells) > 3)
    assert "all 18 trainings done" in found.text[""]
    assert ranked.standings[1].difference is not None
    assert ranked.standings[1].difference.p < 0.05 < ranked.standings[1].difference.p_holm
    assert "Not told from the leader by these seeds: dcgan and wgan." in " ".join(found.text[""].split())
    assert "Apart from the leader" not in found.text[""]


def test_the_sentences_say_who_leads_and_what_these_seeds_can_tell(tmp_path: Path) -> None:
    def said(seeds: int) -> str:
        rows = [made_row(label, s, e + 0.001 * s) for label, e in (("b", 0.2), ("a", 0.15)) for s in range(seeds)]
        folder = made_run(tmp_path / str(seeds), rows, made_pictures())
        return " ".join(read(folder).text[""].split())

    eight = said(8)
    assert "a has the lowest test MRE: 0.1535" in eight
    assert "Apart from the leader at p < 0.05 after Holm's correction: b." in eight
    assert "Better without any training" not in eight
    assert "Not told from the leader by these seeds: b." in said(3)
    assert "With one seed no difference can be tested." in said(1)
    rows = [made_row("a", s, 0.18) for s in range(2)]
    assert "Better without any training: nearest training image (0.1600)" in " ".join(
        read(made_run(tmp_path / "worse", rows)).text[""].split()
    )


def test_a_run_that_was_trained_here_has_all_its_parts(finished: Run, tmp_path: Path) -> None:
    found = read(finished.folder, out=tmp_path / "x.html")
    for section in ("ranking", "curves", "pictures", "costs", "health", "origin", "copy"):
        assert found.text[section].strip(), section
    assert "violation rate" in found.text["health"]
    assert "nearest training image" in found.text["pictures"]
    said = " ".join(found.text["costs"].split())
    assert "leaky:slope=0.01 ✓ valid" in said
    assert "Played with by gls-gan." in said
    assert "Without a cost to choose: dcgan. Where" in said
    assert finished.cells[0].recipe is not None
    for digest in finished.rows()[0]["hashes"].values():
        assert digest in found.text["origin"]
    assert found.text["copy"].count("[test_mre]") == 1
    assert "What is missing" not in " ".join(found.text.values())


def test_every_picture_says_what_it_shows_and_comes_with_the_page(whole: Path, tmp_path: Path) -> None:
    found = read(whole, out=tmp_path / "x.html")
    images = found.all("img")
    assert len(images) >= 1 + 3 * 3
    assert all((image["alt"] or "").strip() and (image["src"] or "").startswith("data:image/") for image in images)
    for drawn in found.all("svg"):
        assert drawn.get("aria-hidden") == "true" or (
            drawn["role"] == "img" and (drawn.get("aria-labelledby") or drawn.get("aria-label"))
        )
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found.tags:
        for wanted in (attributes.get("aria-labelledby") or "").split():
            assert wanted in ids


def test_the_pictures_are_the_cells_own(tmp_path: Path) -> None:
    samples = np.zeros((4, 3, 8, 8), np.uint8)
    samples[1, 0] = 200
    kept = made_pictures((3, 8, 8), samples=samples, across=np.int64(2))
    folder = made_run(tmp_path / "run", [made_row("a", 0, 0.1)], kept)
    (image,) = [one for one in read(folder).all("img") if "4 samples" in (one["alt"] or "")]
    drawn = np.array(Image.open(BytesIO(b64decode((image["src"] or "").partition(",")[2]))))
    assert drawn.shape == (18, 18, 4)
    assert (drawn[:8, 9:17, :3] == [200, 0, 0]).all()
    assert (drawn[:8, :8, :3] == 0).all()
    assert (drawn[8, :, 3] == 0).all()


def test_errors_stand_below_the_reconstructions_and_the_mean_beside_them(tmp_path: Path) -> None:
    errors = np.linspace(0.1, 0.2, 120, dtype=np.float32)
    folder = made_run(tmp_path / "run", [made_row("a", 0, 0.15)], made_pictures(errors=errors))
    found = " ".join(read(folder).text["pictures"].split())
    assert "".join(f"{error:.3f}" for error in errors[:8]) in found
    assert f"{errors.mean():.4f} over all" in found


def test_the_plan_can_be_copied_and_read_back(whole: Path, tmp_path: Path) -> None:
    from ganzoo.config import read_plan

    found = read(whole, out=tmp_path / "x.html")
    text = found.text["copy"]
    plan = text[text.index("objectives = [") : text.index("The ranking in LaTeX")]
    (tmp_path / "again.toml").write_text(plan)
    assert read_plan(tmp_path / "again.toml") == read_plan(whole / "plan.toml")


def test_the_policy_lets_only_the_pages_own_style_and_script_through(whole: Path, tmp_path: Path) -> None:
    html = write_page(whole, tmp_path / "x.html").read_text(encoding="utf-8")
    (policy,) = [tag["content"] for tag in Read(html).all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.S)
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r"\son\w+=|\sstyle=|https?://|<link|<iframe|<base", html)


def test_a_classification_run_has_its_own_table(tmp_path: Path) -> None:
    def row(label: str, seed: int, accuracy: float) -> dict[str, Any]:
        curve = [{"epoch": e, "round": e, "validation_accuracy": 0.5 + 0.01 * e} for e in range(5)]
        more = {"validation_accuracy": accuracy - 0.01, "test_accuracy": accuracy, "labelled_images": 100}
        done = made_row(label, seed, 0.1, curve=curve, classifier="argmin L(x, y)", **more)
        return {key: value for key, value in done.items() if not key.startswith("test_mre")}

    rows = [row(label, s, a + 0.01 * s) for label, a in (("cls-gan", 0.8), ("dcgan", 0.9)) for s in range(3)]
    folder = made_run(
        tmp_path / "run",
        rows,
        made_pictures(),
        {"largest class": 0.1, "nearest labelled image": 0.85},
        measure="accuracy",
    )
    found = read(folder)
    assert "dcgan has the highest test accuracy: 0.9100" in " ".join(found.text[""].split())
    lines = [cells for cells in found.rows if len(cells) > 6 and cells[0].strip().isdigit()]
    assert [cells[1].strip() for cells in lines] == ["dcgan", "cls-gan"]
    assert "argmin L(x, y)" in " ".join(lines[0])
    assert "Validation accuracy over the epochs" in found.text["curves"]


def test_the_plans_other_metrics_have_columns(tmp_path: Path) -> None:
    rows = [made_row("a", s, 0.1, metrics={"classifier-kid": 0.25 + s, "x": 1.0}) for s in range(2)]
    rows += [made_row("b", s, 0.2, metrics={"classifier-kid": 1.0} if s else {}) for s in range(2)]
    lines = [cells for cells in read(made_run(tmp_path / "run", rows)).rows if len(cells) > 8]
    assert [cell.strip() for cell in lines[0][-3:-1]] == ["classifier-kid", "x"]
    assert [cell.strip() for cell in lines[1][-3:-1]] == ["0.75", "1"]
    assert [cell.strip() for cell in lines[2][-3:-1]] == ["\N{EN DASH}", "\N{EN DASH}"]


# While it goes on


def test_an_unfinished_run_has_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    curve = made_row("a", 1, 0.2)["curve"][:3]
    rows = [made_row("a", 0, 0.2), planned("a", 1, curve=curve), planned("a", 2), planned("b", 0)]
    rows.append(made_row("b", 1, 0.3, verdict="diverged@17", reason="the critic loss is nan"))
    folder = made_run(tmp_path / "run", rows, made_pictures(), None, seeds=3)
    (folder / "cells" / "cell-001" / "beat").write_text("1 5 40 1000")
    found = read(folder)
    missing = " ".join(found.text["missing"].split())
    assert "unfinished: 1 of 5 trainings done, 3 to come" in found.text[""]
    assert "a seed 1: epoch 4 of 40" in missing
    assert "a seed 2: not begun" in missing
    assert "b seed 0: not begun" in missing
    assert "b seed 1: diverged@17: the critic loss is nan" in missing
    assert "1 of them at work" in missing
    assert "42 % of all epochs played" in found.text[""]  # two of five, and 4 of 40 of a third
    assert "the baselines are not measured yet" in missing
    assert "Alarm: diverged" in found.text["health"]
    an_hour_ago = time.time() - 3600
    os.utime(folder / "cells" / "cell-001" / "beat", (an_hour_ago, an_hour_ago))  # its worker was killed
    assert "at work" not in read(folder).text["missing"]


def test_a_run_without_a_single_row_has_a_page(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", [planned("a", 0)], None, None)
    found = read(folder)
    assert "No training has a result yet." in found.text["ranking"]
    shutil.rmtree(folder / "cells")
    assert "no cell has a result yet" in read(folder).text[""]


def test_the_run_is_left_as_it_was(copied: Path, tmp_path: Path) -> None:
    (copied / "cells" / "cell-000" / "row.json").write_text("{torn")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copied.rglob("*") if path.is_file()}
    write_page(copied, tmp_path / "x.html")
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copied.rglob("*") if path.is_file()}
    assert after == before


def test_a_page_can_be_made_while_the_run_is_held(finished: Run, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    held = Run(copied, bench_prepared(finished))
    with held.held():
        assert write_page(copied).is_file()
    with held.held():  # the page inside the folder is no obstacle
        assert {row["verdict"] for row in held.rows()} == {"done"}


def bench_prepared(run: Run) -> Any:
    from ganzoo.bench import Prepared

    return Prepared(run.plan, run.cells, run.data)


def test_cells_of_other_objectives_or_seeds_are_counted_not_ranked(copied: Path) -> None:
    made_cell(copied / "cells" / "else", made_row("other", 0, 0.01), made_pictures())
    made_cell(copied / "cells" / "later", made_row("ls-gan", 99, 0.01), made_pictures())
    found = read(copied)
    assert "2 further trainings in the folder belong to plans of other objectives" in " ".join(
        found.text["missing"].split()
    )
    assert not any("other" in cells[1] for cells in found.rows if len(cells) > 8)


# Damage


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cells/cell-000/row.json", b"{torn", "cell-000: its row is damaged"),
        ("cells/cell-000/row.json", b"\xff\xfe\x00", "cell-000: its row is damaged"),
        ("cells/cell-000/cell.json", b"[]", "cell-000: its cell.json cannot be read"),
        ("cells/cell-000/cell.json", b"[" * 100_000, "cell-000: its cell.json cannot be read"),
        ("cells/cell-000/pictures.npz", b"PK\x03\x04 nothing", "cell-000: its pictures are damaged"),
        ("cells/cell-000/pictures.npz", b"", "cell-000: its pictures are damaged"),
        ("baselines.json", b"{}", "the baselines are damaged"),
        ("baselines.json", b"no", "the baselines are damaged"),
        ("run.json", b"no", "where the run comes from is not known"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_shown(file: str, content: bytes, said: str, copied: Path) -> None:
    if file == "baselines.json" and content == b"{}":
        content = json.dumps({"training mean": 0.4, "sha256": "0" * 64}).encode()
    (copied / file).write_bytes(content)
    found = read(copied)
    assert said in " ".join(found.text["missing"].split())
    assert {"ls-gan", "wgan"} <= {cells[1].strip() for cells in found.rows if len(cells) > 8}


@pytest.mark.parametrize(
    "changes",
    [
        {"test_mre": "0.1"},
        {"curve": [{"epoch": "<b>"}]},
        {"curve": "abc"},
        {"settled": "yes"},
        {"mre": 3},
        {"health": {"violation_rate": "much"}},
        {"sources": {"cost/x": 3}},
        {"notes": "one"},
        {"gap": None},
    ],
)
def test_a_row_with_a_right_checksum_and_wrong_content_is_left_out(changes: dict[str, Any], copied: Path) -> None:
    commit_sealed(copied / "cells" / "cell-006" / "row.json", {**made_row("ls-gan", 0, 0.01), **changes})
    found = read(copied)
    assert "cell-006: its row is damaged" in " ".join(found.text["missing"].split())
    assert "ls-gan seed 0: not begun" in " ".join(found.text["missing"].split())
    assert "0.0100" not in found.text["ranking"]


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": np.zeros((4, 2, 8, 8), np.uint8)},
        {"samples": np.zeros((4, 1, 8, 8), np.float64)},
        {"samples": np.zeros((4, 8), np.uint8)},
        {"originals": np.zeros((1, 1, 5000, 1), np.uint8)},
        {"errors": np.full(8, np.nan, np.float32)},
        {"across": np.array("two")},
        {"errors": np.zeros((8, 2), np.float32)},
        {"reconstructions": np.zeros((4, 1, 8, 8, 2), np.uint8)},
    ],
)
def test_pictures_that_are_none_are_left_out(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", [made_row("a", s, 0.1) for s in range(2)], made_pictures(**changes))
    assert "its pictures are damaged and left out" in read(folder).text["missing"]


def test_pictures_that_would_fill_the_memory_are_not_unpacked(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", [made_row("a", s, 0.1) for s in range(2)])
    for directory in (folder / "cells").iterdir():
        with zipfile.ZipFile(directory / "pictures.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("samples.npy", b"\0" * (70 * 1024 * 1024))
    assert "its pictures are larger than 67,108,864 bytes" in read(folder).text["missing"]


def test_no_pickle_in_the_pictures_is_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    folder = made_run(tmp_path / "run", [made_row("a", s, 0.1) for s in range(2)])
    for directory in (folder / "cells").iterdir():
        np.savez(directory / "pictures.npz", samples=np.array([Trap()], dtype=object))
    assert "its pictures are damaged" in read(folder).text["missing"]
    assert not (tmp_path / "sprung").exists()


def test_published_rows_without_cells_have_a_page(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", [made_row("a", s, 0.1) for s in range(3)])
    rows = [made_row("a", seed, 0.1 + 0.01 * seed) for seed in range(3)]
    shutil.rmtree(folder / "cells")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn\n[]\n")
    found = read(folder)
    assert "0.1100" in found.text["ranking"]
    assert "2 of 5 lines are no row" in found.text["missing"]
    assert "rows and no cells" in found.text["missing"]


# Slips


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(UserError, match=r"no run's folder at .*: there is nothing"):
        write_page(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"no run's folder at .*: there is a file"):
        write_page(tmp_path / "file")
    (tmp_path / "x.zip").write_text("")
    with pytest.raises(UserError, match=r"x\.zip is a share, which brings its page: ganzoo open "):
        write_page(tmp_path / "x.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is not a run's folder: it has no plan.toml"):
        write_page(tmp_path / "empty")
    commit(copied / "run.json", json.dumps({"format": 99}).encode())
    with pytest.raises(UserError, match="was made by a newer ganzoo"):
        write_page(copied)


def test_a_damaged_plan_is_refused(copied: Path) -> None:
    (copied / "plan.toml").write_text("seeds = [")
    with pytest.raises(UserError, match=r"plan\.toml"):
        write_page(copied)


def test_nothing_but_a_page_is_written_over(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing"):
        write_page(copied, tmp_path / "missing" / "x.html")
    with pytest.raises(UserError, match=r"is a folder; name a file: .*report.html"):
        write_page(copied, tmp_path)
    before = (copied / "plan.toml").read_bytes()
    with pytest.raises(UserError, match=r"plan\.toml is there and is no page of ganzoo"):
        write_page(copied, copied / "plan.toml")
    assert (copied / "plan.toml").read_bytes() == before
    path = write_page(copied)
    assert write_page(copied) == path == copied / "report.html"


def test_the_command_names_the_page_and_refuses_slips(copied: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["report", str(copied), "--json"])
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.output)
    assert Path(said["page"]) == copied / "report.html"
    assert said["bytes"] == (copied / "report.html").stat().st_size
    answer = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert isinstance(answer.exception, UserError)


# Names


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    rows = [made_row(HOSTILE, s, 0.1, notes=[HOSTILE], hashes={HOSTILE: HOSTILE}) for s in range(2)]
    rows.append(made_row("b", 0, 0.3, verdict=f"failed:{HOSTILE}", reason=HOSTILE))
    folder = made_run(tmp_path / "run<b>", rows, made_pictures(), {HOSTILE: 0.2})
    html = write_page(folder).read_text(encoding="utf-8")
    found = Read(html)
    assert not any("onerror" in attributes for _, attributes in found.tags)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<img src=x onerror=alert(1)>" in found.text["ranking"]
    assert "run<b>" in found.text[""]


def test_a_docstring_of_a_megabyte_and_names_without_end_keep_the_page_small(tmp_path: Path) -> None:
    plugin = tmp_path / "long.py"
    doc = "x" * 1_000_000
    plugin.write_text(
        f'import ganzoo, torch\n\n\n@ganzoo.cost\ndef long(a: torch.Tensor) -> torch.Tensor:\n    """{doc}"""\n'
        "    return a.clamp(min=0)\n"
    )
    label = "a:" + "y" * 100_000
    folder = made_run(tmp_path / "run", [made_row(label, s, 0.1, cost="long") for s in range(2)], objectives=["a"])
    path = write_page(folder, plugins=[plugin])
    found = Read(path.read_text(encoding="utf-8"))
    assert "long ✓ valid" in " ".join(found.text["costs"].split())
    assert path.stat().st_size < 300_000


def test_latex_prints_any_name() -> None:
    assert escaped("a_b & 50 % $x^2$ {~} \\def #1") == (
        r"a\_b \& 50 \% \$x\textasciicircum{}2\$ \{\textasciitilde{}\} \textbackslash{}def \#1"
    )
    assert escaped("a-b --[x]") == "a-b -{}-{[}x{]}"
    assert escaped("雪\x1b") == "??"
    table = latex_table(["name", "a", "b"], [["x", "1", "2"]], [["(y)", "3"]], "Caption")
    assert table.count(r"\\") == 3
    assert all(line.count("&") == 2 for line in table.splitlines() if line.endswith(r"\\"))
    assert r"\begin{tabular}{lrr}" in table


# Costs


def test_the_shape_is_the_kept_one_and_a_plugin_that_a_plan_names_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\nimport ganzoo, torch\n\n\n"
        "@ganzoo.cost\ndef mine(a: torch.Tensor) -> torch.Tensor:\n    return a.clamp(min=0)\n"
    )
    a = np.linspace(-3, 3, 241, dtype=np.float32)
    kept = made_pictures(cost_a=a, cost=np.maximum(a, a / 2))
    rows = [made_row("gls-gan:cost=mine", s, 0.1, cost="mine") for s in range(2)]
    folder = made_run(tmp_path / "run", rows, kept, plugins=[str(trap)])
    found = read(folder)
    said = " ".join(found.text["costs"].split())
    assert "mine ? open" in said
    assert "its plugin is not installed here" in said
    assert "C(-3) = -1.5, C(-1) = -0.5, C(0) = 0, C(1) = 1" in said
    assert not (tmp_path / "sprung").exists()
    said = " ".join(read(folder, plugins=[trap]).text["costs"].split())
    assert (tmp_path / "sprung").exists()
    assert "mine" in said


def test_a_cost_that_breaks_a_condition_is_marked(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import ganzoo, torch\n\n\n@ganzoo.cost\ndef half(a: torch.Tensor) -> torch.Tensor:\n"
        '    """C(a) = a / 2."""\n    return a / 2\n'
    )
    folder = made_run(tmp_path / "run", [made_row("gls-gan:cost=half", s, 0.1, cost="half") for s in range(2)])
    said = " ".join(read(folder, plugins=[plugin]).text["costs"].split())
    assert "half ✗ refused" in said
    assert "FAILED cost-1" in said
    assert "C(a) = a / 2." in said


def test_a_cost_whose_code_has_changed_is_open_unless_its_values_are_the_same(tmp_path: Path) -> None:
    a = torch.arange(-120, 121) * 0.025
    for name, kept, word in (
        ("same", torch.where(a >= 0, a, 0.01 * a), "✓ valid"),
        ("other", torch.where(a >= 0, a, 0.02 * a), "? open"),
    ):
        row = made_row(
            "gls-gan", 0, 0.1, cost="leaky", cost_hyperparameters={"slope": 0.01}, sources={"cost/leaky": "0"}
        )
        pictures = made_pictures(cost_a=a.numpy(), cost=kept.numpy())
        said = " ".join(read(made_run(tmp_path / name, [row], pictures)).text["costs"].split())
        assert f"leaky:slope=0.01 {word}" in said


# Geometry


def test_a_scale_holds_its_values_in_order_and_its_ticks_are_where_they_say() -> None:
    for values, log in (([0.15, 0.7], True), ([-3.0, 5.0], False), ([1e-6, 1e3], True), ([2.0, 2.0], False)):
        made = drawing.scale(values, 400.0, 20.0, log=log)
        assert 20 <= made(max(values)) <= made(min(values)) <= 400
        for tick in made.ticks(6):
            assert tick.at == pytest.approx(made(float(tick.text.replace("\N{MINUS SIGN}", "-"))), abs=1.5)
        assert 1 <= len(made.ticks(6)) <= 9
    middle = drawing.scale([1.0, 100.0], 0.0, 100.0, log=True)
    assert middle(10.0) == pytest.approx(50.0)


def test_names_beside_the_lines_do_not_cover_one_another() -> None:
    assert drawing.curves([], width=700, height=400, x_name="x", y_name="y").lines == ()
    series = [drawing.Series(f"n{i}", i, [0, 1], [1, 2 + 1e-4 * i], [1, 1], [1, 1]) for i in range(12)]
    series.append(drawing.Series("far", 12, [0, 1], [1, 9], [1, 1], [1, 1]))
    chart = drawing.curves(series, width=700, height=400, x_name="x", y_name="y", labelled=True)
    places = sorted(line.label_at for line in chart.lines)
    assert min(b - a for a, b in itertools.pairwise(places)) >= 14.9
    assert 0 < places[0] < places[-1] <= chart.bottom


def test_a_chart_reaches_from_the_first_epoch_to_the_last_one_planned() -> None:
    begun = drawing.Series("a", 0, [0, 4], [1, 2], [1, 2], [1, 2])
    chart = drawing.curves([begun], width=700, height=400, x_name="x", y_name="y", until=40)
    assert chart.x_ticks[-1].text == "40"
    assert chart.lines[0].end[0] < chart.left + 0.15 * (chart.right - chart.left)


def test_contenders_can_be_told_apart_without_colour() -> None:
    looks = {(i % 5, i % 6) for i in range(30)}  # dash and mark, as the template takes them
    assert len(looks) == 30


def test_the_two_conditions_shade_what_they_forbid() -> None:
    chart = drawing.cost_shape([-3, 0, 3], [0, 0, 3])
    across, up = drawing.Scale(-3, 3, chart.left, chart.right), drawing.Scale(-3, 3, chart.bottom, chart.top)

    def inside(path: str, x: float, y: float) -> bool:
        points = [tuple(map(float, pair.split(","))) for pair in path.strip("MZ").split("L")]
        turns = [
            (b[0] - a[0]) * (up(y) - a[1]) - (b[1] - a[1]) * (across(x) - a[0])
            for a, b in zip(points, [*points[1:], points[0]], strict=True)
        ]
        return all(turn > 0 for turn in turns) or all(turn < 0 for turn in turns)

    one, two = (area.path for area in chart.areas)
    for a in (-2.5, -1.0, 1.0, 2.0):
        for c in (-2.7, -0.9, 0.3, 1.1, 2.9):
            assert inside(one, a, c) == (c < a)
            assert inside(two, a, c) == (a > 0 and c > a)


def test_the_curve_is_the_mean_over_seeds_and_the_band_their_range(tmp_path: Path) -> None:
    from ganzoo.report.page.contenders import contenders_of
    from ganzoo.report.page.curves import series_of

    def row(seed: int, values: list[float]) -> dict[str, Any]:
        points = [{"epoch": e, "round": e, "validation_mre": v} for e, v in enumerate(values)]
        return made_row("a", seed, 0.1, curve=points)

    run = read_run(made_run(tmp_path / "run", [row(0, [1, 2, 3.0]), row(1, [3, 6]), row(2, [2, 1, 1.0])]))
    (series,) = series_of(contenders_of(run), "validation_mre")
    assert list(series.x) == [0, 1]
    assert list(series.y) == [2, 3]
    assert list(series.low) == [1, 1]
    assert list(series.high) == [3, 6]
    begun = planned("a", 2, curve=row(2, [9.0])["curve"])
    run = read_run(made_run(tmp_path / "begun", [row(0, [1, 2.0]), row(1, [3, 6.0]), begun]))
    (series,) = series_of(contenders_of(run), "validation_mre")
    assert list(series.y) == [2, 4]  # what is not finished does not cut the others short


# Pictures


def test_a_grid_keeps_every_pixel_and_its_gaps_are_clear() -> None:
    images = np.random.default_rng(0).integers(1, 256, (5, 3, 32, 32), dtype=np.uint8)
    canvas = grid(images, 2)
    assert canvas.shape == (3 * 34, 2 * 34, 4)
    for i, image in enumerate(images):
        top, left = 34 * (i // 2), 34 * (i % 2)
        assert (canvas[top : top + 32, left : left + 32, :3] == image.transpose(1, 2, 0)).all()
    assert canvas[..., 3].sum() == 255 * 5 * 32 * 32


def test_a_picture_keeps_within_its_budget_or_is_none() -> None:
    images = made_pictures((3, 64, 64))["samples"]
    free = picture(images, 8, 10**9)
    assert free is not None
    assert free.source.startswith("data:image/png")
    budget = len(free.source) * 3 // 4 // 2
    tight = picture(images, 8, budget)
    assert tight is not None
    assert tight.source.startswith("data:image/webp")
    assert len(tight.source) < budget * 4 / 3 + 100
    assert picture(images, 8, 1000) is None
    wide = picture(np.zeros((8, 3, 2048, 2048), np.uint8), 8, 10**6)
    assert wide is not None
    assert wide.height <= 200


def test_twelve_contenders_of_eight_seeds_stay_below_three_megabytes(tmp_path: Path) -> None:
    rows = [made_row(f"objective-{i:02d}", s, 0.1 + 0.01 * i + 0.001 * s) for i in range(12) for s in range(8)]
    for row in rows:
        row["curve"] = [{**row["curve"][-1], "epoch": e, "round": e} for e in range(200)]
    folder = made_run(tmp_path / "run", rows, made_pictures((3, 64, 64)))
    path = write_page(folder)
    assert 1_000_000 < path.stat().st_size < LARGEST_PAGE
    assert path.read_text(encoding="utf-8").count('src="data:image/') == 3 * 12 + 2  # noise, and still none is left out


def test_the_same_run_gives_the_same_page_but_for_the_time(whole: Path) -> None:
    def timeless(html: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", html)

    run = read_run(whole)
    assert timeless(page(run)) == timeless(page(read_run(whole)))
    assert math.isfinite(len(page(run)))
