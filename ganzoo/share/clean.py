"""What of a machine must not leave it: the paths of its folders, and with them its users' names."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATHS = re.compile(
    r"""(?<![\w.:/\\<~+*-])         # not within a word, a URL, a tag, base64
        (?:file:(?://)?)?               # file:///home/...
        (?:~[\w.-]*/|/|[A-Za-z]:[\\/]|\\\\) # ~/, ~user/, /, C:, a server
        (?:[^\s'"`,;:<>|?*()\[\]{}/\\]+[/\\]+)+ # one folder at least
        [^\s'"`,;:<>|?*()\[\]{}/\\]*  # the last part
    """,
    re.VERBOSE,
)
HOME = re.compile(r"(?:file:(?://)?)?(?:/home|/Users|[A-Za-z]:[\\/]Users)[/\\][^/\\]+[/\\]?|~[^/\\]*")
PLACES = ("path", "plugins", "weights")
"""Keys whose values are paths as a whole, whatever characters they hold."""


def paths_in(content: Any, key: str = "") -> set[str]:
    """Every path of a machine that a JSON document holds, absolute ones and whatever stands where a path belongs."""
    if isinstance(content, dict):
        return set().union(*(paths_in(value, str(name)) | paths_in(str(name)) for name, value in content.items()))
    if isinstance(content, list | tuple):
        return set().union(*(paths_in(value, key) for value in content))
    if not isinstance(content, str):
        return set()
    found = {match.group() for match in PATHS.finditer(content)}
    if key.rpartition(".")[2] in PLACES and _is_path(content):
        found.add(content)
    if key == "command":
        found |= {part for word in _words(content) for part in (word, word.partition("=")[2]) if _is_absolute(part)}
    return found


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text) is not None


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text


def own_paths(*more: Path) -> set[str]:
    """Where this process and its user are at home."""
    places = [Path.home(), Path.cwd(), *more]
    return {str(place) for path in places for place in (path, path.resolve()) if len(place.parts) > 1}


def cleaned(text: str, paths: Iterable[str]) -> str:
    """The text, of each of the paths only its last part; a longer path before one that it begins with."""
    for path in sorted(paths, key=len, reverse=True):
        for form in dict.fromkeys((path, path.replace("\\", "\\\\"))):
            if form in text:
                text = text.replace(form, _last_part(path))
    return text


def _last_part(path: str) -> str:
    if path == str(Path.home()) or HOME.fullmatch(path):
        return "~"  # its last part is somebody's name
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "..."


def cleaned_json(content: Any, paths: Iterable[str]) -> Any:
    """The same document with every text in it `cleaned`."""
    paths = list(paths)
    if isinstance(content, dict):
        return {cleaned(name, paths): cleaned_json(value, paths) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [cleaned_json(value, paths) for value in content]
    return cleaned(content, paths) if isinstance(content, str) else content
