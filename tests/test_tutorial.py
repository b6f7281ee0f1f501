"""The tutorial is done as it is written: in an empty folder, in a shell, one command after the other."""

import os
import zipfile
from pathlib import Path

import pytest
from pages import ROOT, blocks, commands, follow, in_a_shell

from ganzoo.cli.app import app

PAGE = ROOT / "docs" / "tutorial.md"


@pytest.mark.slow
def test_the_tutorial_works_from_an_empty_folder_to_a_shared_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, cache = tmp_path / "empty", tmp_path / "cache"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))  # nothing of it was ever checked, listed or compiled here
    follow(PAGE, empty, in_a_shell)
    assert {"first.zip", "runs", "soft_floor.py", "theirs"} <= set(os.listdir())
    with zipfile.ZipFile("first.zip") as shared:
        assert {"README.md", "page.html", "plan.toml", "rows.csv"} <= set(shared.namelist())
    assert Path("runs/first/report.html").read_text(encoding="utf-8").count("soft-floor") > 3


def test_the_tutorial_goes_the_whole_way() -> None:
    """new, edit, check, check --exhaustive, bench, compare, report, share: each of them is typed."""
    typed = [command.text for block in blocks(PAGE) if block.language == "console" for command in commands(block.text)]
    asked = ["new cost", "check", "check --exhaustive", "bench", "compare", "report", "share", "open"]
    for words in asked:
        name, *rest = words.split()
        assert any(text.startswith(f"ganzoo {name} ") and all(word in text for word in rest) for text in typed), words
    assert sum(block.title == "soft_floor.py" for block in blocks(PAGE)) == 2
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert {text.split()[1] for text in typed if text.startswith("ganzoo ")} <= known
