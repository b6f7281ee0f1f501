"""The command, called within this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ganzoo.cli import main


class Said(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Said]


def called_within(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """command("bench", "--dry-run") in `folder`."""
    monkeypatch.chdir(folder)

    def called(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganzoo", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return called
