"""What the last full load of the zoo found, kept for listings in ~/.cache/ganzoo/listings: a file a way of asking.

It is believed as long as nothing that the load could depend on has changed: Python, sys.path, the installed
distributions, GANZOO_PLUGINS and all of the environment but what differs from terminal to terminal, the content of the
plugins' packages, the size and time of each other module that was loaded, and that the modules which were missing are
missing still. What is broken for another reason than its code (a server that did not answer) is believed for ten
minutes. What a plugin's import makes of a file that is no module, of the clock or of the network is not seen: the
commands that play a game load it anew in any case. A file that is damaged, foreign or cannot be written is as none.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from ganzoo.zoo.origin import Broken, module_file

FORMAT = 1
LARGEST = 64 * 1024 * 1024
"""Bytes of a file that is read again."""
MOST = 20
"""Files kept; the oldest goes first."""
DOUBTFUL_SECONDS = 600.0
LASTING = (
    "SyntaxError",
    "IndentationError",
    "TabError",
    "ModuleNotFoundError",
    "NameError",
    "AttributeError",
    "TypeError",
)
"""What the code alone decides."""
PACKAGE = 1000
"""Source files of a plugin's package that are looked at, at most."""
PASSING = re.compile(
    "_|PWD|OLDPWD|SHLVL|COLUMNS|LINES|TERM|COLORTERM|TERM_.*|TMUX.*|STY|WINDOW.*|SSH_.*|XDG_.*|DBUS_.*|DISPLAY|WAYLAND_.*"
    "|NO_COLOR|FORCE_COLOR|PS1|PROMPT.*|HIST.*|LS_COLORS|COMP_.*|_TYPER_.*|_GANZOO_.*|PYTEST_.*|OMP_NUM_THREADS"
)
"""Variables of the environment that differ between two terminals, or two lines, of one user."""


def key(paths: Sequence[Path]) -> str:
    """Of a way of asking: what is fixed before anything is looked at."""
    environment = {name: value for name, value in os.environ.items() if not PASSING.fullmatch(name)}
    asked = [
        FORMAT, sys.version, sys.prefix, [os.path.abspath(place) for place in sys.path], sys.flags.optimize,
        [[str(path), os.path.abspath(path)] for path in paths], sorted(environment.items()),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read(name: str) -> Any:
    """What was kept under this key; None where nothing was, or it can no longer be believed."""
    try:
        path = _folder() / f"{name}.json"
        if path.stat().st_size > LARGEST:
            return None
        digest, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        found = json.loads(body)
        return found["content"] if _stands(found["depends"]) else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError):  # RuntimeError: no home
        return None


def keep(name: str, content: Any, broken: Sequence[Broken], modules: Iterable[str], paths: Sequence[Path]) -> None:
    """Keep what a load in this process found. `modules`: those announced; `paths`: the files and folders given."""
    with suppress(OSError, ValueError, RuntimeError, RecursionError):
        folder = _folder()
        body = json.dumps({"content": content, "depends": _depends(broken, modules, paths)}).encode()
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{name}.{os.getpid()}.tmp"
        try:
            aside.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            aside.replace(folder / f"{name}.json")
        finally:
            aside.unlink(missing_ok=True)
        kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-MOST]:
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path("~/.cache/ganzoo/listings").expanduser()


# What it depends on


def _depends(broken: Sequence[Broken], modules: Iterable[str], paths: Sequence[Path]) -> dict[str, Any]:
    said = "\n".join(f"{one.reason}\n{one.traceback}" for one in broken)
    wanted = sorted(set(modules))
    folders = [str(path.absolute()) for path in paths if path.is_dir()]
    packages = sorted({str(path.parent) for top in {name.partition(".")[0] for name in wanted}
                       if (path := module_file(top)) is not None and path.name == "__init__.py"})  # fmt: skip
    own = {str(path) for name in wanted if (path := module_file(name)) is not None}
    own |= {str(path.absolute()) for path in paths if path.is_file()}
    own |= {line for line in re.findall(r'File "([^"\n]+)", line', said) if os.path.isfile(line)}
    loaded = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    certain = all(not one.traceback or one.reason.startswith(LASTING) for one in broken)
    return {
        "until": None if certain else time.time() + DOUBTFUL_SECONDS,
        "distributions": _distributions(),
        "where": {name: _where(name) for name in wanted},
        "missing": [name for name in set(re.findall(r"No module named '([\w.]+)'", said)) if _is_missing(name)],
        "folders": {folder: _names(folder) for folder in folders},
        "packages": {package: _contents(package) for package in packages},
        "own": {path: _digest(path) for path in sorted(own)},
        "loaded": {path: stamp for path in sorted(loaded) if (stamp := _stamp(path)) is not None},
    }


def _stands(depends: dict[str, Any]) -> bool:
    until = depends["until"]
    return (
        (until is None or 0 <= until - time.time() <= DOUBTFUL_SECONDS)
        and all(_where(name) == path for name, path in depends["where"].items())
        and all(map(_is_missing, depends["missing"]))
        and all(_names(folder) == names for folder, names in depends["folders"].items())
        and all(_digest(path) == digest for path, digest in depends["own"].items())
        and all(_contents(package) == contents for package, contents in depends["packages"].items())
        and depends["distributions"] == _distributions()
        and all(_stamp(path) == stamp for path, stamp in depends["loaded"].items())
    )


def _distributions() -> list[Any]:
    """Of each folder on sys.path the distributions installed there, and when they announced what they announce."""
    found = []
    for place in dict.fromkeys(os.path.abspath(place) for place in sys.path):
        try:
            names = sorted(name for name in os.listdir(place) if name.endswith((".dist-info", ".egg-info")))
        except OSError:
            names = []
        found.append([place, [[name, _stamp(os.path.join(place, name, "entry_points.txt"))] for name in names]])
    return found


def _where(module: str) -> str | None:
    path = module_file(module)
    return None if path is None else str(path)


def _is_missing(module: str) -> bool:
    if module_file(module) is not None:
        return False
    try:
        return "." in module or find_spec(module) is None
    except (ImportError, ValueError):
        return False


def _names(folder: str) -> list[str] | None:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    except OSError:
        return None


def _contents(package: str) -> str:
    """A hash of the sources in a package's folder and below."""
    digest = hashlib.sha256()
    for path in sorted(islice(Path(package).rglob("*.py"), PACKAGE)):
        digest.update(f"{path}\0{_digest(str(path))}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
