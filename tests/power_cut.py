"""What a disk may hold after the power went: every legal state, from a record of a real process's system calls.

A file's bytes last once the file is synced; until then a write may be there, torn, all zeros, or not there. A name that
is made, moved or removed lasts once its folder is synced; until then each such change may have happened or not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

RECORDED = "openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,ftruncate,link"
OPTIONS = ("-y", "-xx", "-s", "100000000", "-e", f"trace={RECORDED}")
"""Of strace, for a record that can be read here."""


class Call(NamedTuple):
    name: str
    path: str
    """Of the file or folder that it is of."""
    content: bytes = b""
    """What is written."""
    to: str = ""
    """The new name."""
    flags: str = ""


def calls(trace: Path, folder: Path) -> list[Call]:
    """The calls of a record that changed something in a folder, in their order."""
    found = []
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        process, _, said = line.partition(" ")
        said = said.strip()
        if said.endswith("<unfinished ...>"):
            begun[process] = said.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", said):
            said = begun.pop(process) + resumed[1]
        match = re.match(r"(\w+)\((.*)\)\s+= (\d+)", said)
        if match is None:  # a signal, the end, a call that failed
            continue
        name, texts = match[1], [_bytes(text) for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', match[2])]
        held = re.match(r"\d+<((?:\\x[0-9a-f]{2})*)>", match[2])
        path = _bytes(held[1]).decode() if held else texts[0].decode()
        if path != str(folder) and not path.startswith(f"{folder}/"):
            continue
        assert name in ("openat", "write", "fsync", "rename", "unlink", "mkdir", "ftruncate"), f"{name} is not modelled"
        content = texts[0] if name == "write" else b""
        assert name != "write" or len(content) == int(match[3]), "a short write"
        assert name != "ftruncate" or match[2].endswith(", 0"), "only to nothing"
        flags = match[2].rpartition('"')[2] if name == "openat" else ""
        if name != "openat" or "O_WRONLY" in flags or "O_RDWR" in flags:
            found.append(Call(name, path, content, texts[1].decode() if name == "rename" else "", flags))
    return found


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


@dataclass
class Inode:
    lasting: bytes = b""
    written: list[bytes] = field(default_factory=list)
    """Since it was last synced."""
    emptied: bool = False
    """Since then, before what was written."""

    @property
    def now(self) -> bytes:
        return (b"" if self.emptied else self.lasting) + b"".join(self.written)

    def sync(self) -> None:
        self.lasting, self.written, self.emptied = self.now, [], False

    def may_hold(self) -> list[bytes]:
        """After a power cut; the first is what it holds now, the second what surely lasts."""
        if not self.written and not self.emptied:
            return [self.lasting]
        kept = b"" if self.emptied else self.lasting
        new = b"".join(self.written)
        return [self.now, self.lasting, kept, kept + new[: len(new) // 2], kept + new[:-1], kept + bytes(len(new))]


Change = tuple[str | None, str | None, Inode | None]
"""(name that goes, name that comes, what comes under it)."""


class Disk:
    """One folder without folders in it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.lasting = {name: Inode(content) for name, content in files.items()}
        self.now = dict(self.lasting)
        self.changes: list[Change] = []

    def do(self, call: Call) -> None:
        name = Path(call.path).name
        if call.name == "openat":
            if name not in self.now:
                assert "O_CREAT" in call.flags
                self._change((None, name, Inode()))
            elif "O_TRUNC" in call.flags:
                self.now[name].emptied, self.now[name].written = True, []
        elif call.name == "ftruncate":
            self.now[name].emptied, self.now[name].written = True, []
        elif call.name == "write":
            self.now[name].written.append(call.content)
        elif call.name == "fsync" and name in self.now:
            self.now[name].sync()
        elif call.name == "fsync":
            self.lasting, self.changes = dict(self.now), []
        elif call.name == "rename":
            self._change((name, Path(call.to).name, self.now[name]))
        elif call.name == "unlink":
            self._change((name, None, None))

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        _apply(self.now, change)

    def after_a_power_cut(self) -> Iterator[dict[str, bytes]]:
        """Each folder that may be there: name -> content."""
        assert len(self.changes) <= 12, "so many changes of names that wait for their folder to be synced"
        for happened in product((False, True), repeat=len(self.changes)):
            names = dict(self.lasting)
            for change in [change for change, did in zip(self.changes, happened, strict=True) if did]:
                _apply(names, change)
            contents = {name: inode.may_hold() for name, inode in names.items()}
            for base in (0, 1):
                yield {name: held[min(base, len(held) - 1)] for name, held in contents.items()}
            if len(set(happened)) <= 1:  # what tears a file does not ask for names
                plain = {name: held[0] for name, held in contents.items()}
                for name, held in contents.items():
                    yield from ({**plain, name: other} for other in held[2:])


def _apply(names: dict[str, Inode], change: Change) -> None:
    goes, comes, inode = change
    if goes is not None:
        names.pop(goes, None)
    if comes is not None and inode is not None:
        names[comes] = inode
