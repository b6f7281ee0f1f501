"""The how-tos are done as they are written."""

from pathlib import Path

import pytest
from pages import ROOT, Block, Command, Said, blocks, commands, follow, same, typed_within

PAGES = ROOT / "docs" / "how-to"
GAMES = ("cost", "margin", "generator", "critic", "objective")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", [*GAMES, "images", "listener"])
def test_the_how_to_works_as_it_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    count = follow(PAGES / f"{kind}.md", tmp_path, typed_within(monkeypatch, capfd))
    assert count >= 3


@pytest.mark.parametrize("kind", [*GAMES, "listener"])
def test_the_how_to_names_the_command_that_writes_a_first_one_and_checks_and_compares_its_own(kind: str) -> None:
    page = PAGES / f"{kind}.md"
    assert f"`ganzoo new {kind} NAME`" in page.read_text(encoding="utf-8")
    typed = [command for block in blocks(page) if block.language == "console" for command in commands(block.text)]
    plugin = next(block.title for block in blocks(page) if block.title)
    assert f"ganzoo check {plugin}" in [command.text for command in typed]
    assert any(command.text.startswith(f"ganzoo bench -p {plugin} ") for command in typed)


# The reading of a page can fail


def test_a_page_is_read_into_files_commands_and_screens(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('A\n\n```python title="a.py"\nx = 1\n```\n\n```console\n$ one\nsaid\nagain\n$ two\n```\n')
    assert blocks(page) == [
        Block("python", "a.py", "x = 1\n", 3),
        Block("console", "", "$ one\nsaid\nagain\n$ two\n", 7),
    ]
    assert commands("$ one\nsaid\nagain\n$ two\n") == [Command("one", "said\nagain\n"), Command("two", "")]


@pytest.mark.parametrize(
    ("shown", "said", "alike"),
    [
        ("wrote mine.py\n", "wrote  mine.py\n", True),
        ("wrote ...\n", "wrote mine.py\nand more\n", True),
        ("wrote mine.py\n", "wrote mine.py\nand more\n", False),
        ("", "anything\n", False),
        ("0 failed\n", "1 failed\n", False),
    ],
)
def test_a_screen_is_compared_but_for_dots_and_white_space(shown: str, said: str, alike: bool) -> None:
    assert same(shown, said) is alike


@pytest.mark.parametrize(
    ("screen", "status"), [("ok\n", 0), ("  FAIL  cost-1\n", 1), ("ganzoo: no\n", 2), ("...\n^C\nganzoo: kept\n", 130)]
)
def test_a_screen_says_how_its_command_ended(screen: str, status: int) -> None:
    assert Command("ganzoo", screen).status == status


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("```console\n$ one\nfine\n```\n", "shows"),
        ("```console\n$ one\nFAIL\n```\n", "0: said"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "but this was printed"),
        ("```toml\nx = 1\n```\n", "page.md, line 1"),
    ],
)
def test_a_page_that_is_wrong_is_found_wrong(block: str, why: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(block)
    with pytest.raises(AssertionError, match=why):
        follow(page, tmp_path, lambda command: Said(0, "said\n"))


def test_a_block_of_no_known_form_is_no_block_to_pass_over(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\n$ one\n```\n\ntext\n\n```console {.wide}\n$ two\n```\n")
    with pytest.raises(AssertionError, match="a block that is none of ours"):
        blocks(page)
