"""From the house's docstrings to Markdown, for the API reference.

A docstring here is plain text: `||grad_x L(x)||_2^2`, `(N, *image_shape)`, `[-1, 1]` mean what they say, a line
`steps: ...` tells of one parameter, and what is indented by four columns after an empty line is kept as it is. Markdown
would read emphasis, links and one long paragraph into that.
"""

import itertools
import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")
SPECIAL = re.compile(r"([*_\[\]>#\\])")
TELLS = re.compile(r"(?P<names>`?\w+`?(?:, `?\w+`?)*): (?P<rest>.*)")


class PlainText(griffe.Extension):
    """Every docstring of the reference, made Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            known = {parameter.name for parameter in obj.parameters} if isinstance(obj, griffe.Function) else set()
            obj.docstring.value = markdown(obj.docstring.value, known)


def markdown(text: str, parameters: set[str]) -> str:
    """The docstring as Markdown; `parameters`: the names that may begin a line which tells of one."""
    written: list[str] = []
    is_kept = is_item = False
    for line in text.splitlines():
        indented = line.startswith("    ")
        is_kept = indented and (is_kept or not written or not written[-1])
        told = TELLS.fullmatch(line)
        if is_kept or not line.strip():
            written.append(line.rstrip())
            is_item = False
        elif told and parameters.issuperset(names := [name.strip("` ") for name in told["names"].split(",")]):
            written += [""] * (bool(written) and bool(written[-1]) and not is_item)
            written.append(f"- {', '.join(f'`{name}`' for name in names)}: {escaped(told['rest'])}")
            is_item = True
        elif is_item and indented:
            written.append(f"    {escaped(line.strip())}")
        else:
            written += [""] * is_item
            written.append(escaped(line.strip()))
            is_item = False
    return "\n".join(written)


def escaped(line: str) -> str:
    """The line with what Markdown would read as its own, outside `code`, marked as text."""
    text = (SPECIAL.sub(r"\\\1", part).replace("&", "&amp;") for part in CODE.split(line)[::2])
    return "".join(itertools.chain(*itertools.zip_longest(text, CODE.findall(line), fillvalue="")))
