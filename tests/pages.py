"""Pages of the docs, done as they are written: files are written, commands typed, and what they say is compared.

    ```python title="mine.py"     is written to that file, and so is ```toml title="mine.toml"
    ```python                     is executed; all such blocks of a page are one session
    ```text                       is what the block before it printed
    ```console                    lines that begin with `$ ` are typed; those below are what is then on the screen

`...` stands for any text, lines included, and white space is compared as one space. A command whose screen says FAIL
ends with status 1, one whose screen begins with `ganzoo: ` with 2; one whose screen has a line `^C` is interrupted
there and ends with 130; any other ends with 0.
"""

import doctest
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CTRL_C = "^C\n"


class Block(NamedTuple):
    language: str
    title: str
    text: str
    line: int
    """Of the page, where it begins."""


class Command(NamedTuple):
    text: str
    screen: str

    @property
    def status(self) -> int:
        if CTRL_C in self.screen:
            return 130
        return 1 if "FAIL" in self.screen else 2 if self.screen.startswith("ganzoo: ") else 0


class Said(NamedTuple):
    status: int
    screen: str
    """Standard output, then standard error."""


Typed = Callable[[Command], Said]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```", text, re.MULTILINE)
    assert len(fences) == 2 * len(BLOCK.findall(text)), f"{page}: a block that is none of ours"
    return [Block(*found.groups(""), text[: found.start()].count("\n") + 1) for found in BLOCK.finditer(text)]


def commands(console: str) -> list[Command]:
    assert console.startswith("$ ")
    return [Command(*part.partition("\n")[::2]) for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]]


def same(shown: str, said: str) -> bool:
    """What is shown is what was said, but for `...` and white space."""
    # doctest's own marker of an empty line is of no use here: white space is one space.
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown, said, options)


def follow(page: Path, folder: Path, typed: Typed) -> int:
    """Do all that the page says in the folder, which is the working directory. How many commands it had."""
    session: dict[str, Any] = {"__name__": "page"}
    printed = ""
    count = 0
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            caught = StringIO()
            with redirect_stdout(caught):
                exec(compile(block.text, where, "exec"), session)
            printed = caught.getvalue()
        elif block.language == "text":
            assert same(block.text, printed), f"{where} shows\n{block.text}\nbut this was printed:\n{printed}"
        else:
            assert block.language == "console", where
            for command in commands(block.text):
                said = typed(command)
                assert said.status == command.status, f"{where}: $ {command.text}\n{said.status}: {said.screen}"
                shown = command.screen.replace(CTRL_C, "")
                assert same(shown, said.screen), f"{where}: $ {command.text}\nshows\n{shown}\nbut says\n{said.screen}"
                count += 1
    return count


def typed_within(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """`ganzoo` in this process, which spares its start; everything else in a shell."""
    from ganzoo.cli import main

    def typed(command: Command) -> Said:
        program, *arguments = command.text.split()
        if program != "ganzoo":
            return in_a_shell(command)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Said(int(ended.value.code or 0), "".join(capfd.readouterr()))

    return typed


def in_a_shell(command: Command, patience: float = 240.0) -> Said:
    """As somebody types it, with the programs of this Python first; Ctrl-C once the page has it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command.text}" if CTRL_C in command.screen else command.text],
        env=os.environ | {"PATH": path, "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    began = _interrupt(process) if CTRL_C in command.screen else ""
    out, err = process.communicate(timeout=patience)
    return Said(process.returncode, out + began + err)


def _interrupt(process: subprocess.Popen[str]) -> str:
    """Once it is at work: it has said a line."""
    assert process.stderr is not None
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    return line
