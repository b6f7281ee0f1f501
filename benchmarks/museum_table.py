"""Write docs/museum.md: every exhibit of the bug museum, where it was seen, and what refuses it in which words.

python benchmarks/museum_table.py
"""

from pathlib import Path

import torch

from ganzoo.checks import CHECKS
from museum_exhibits import Exhibit, corrected, exhibits, refusal
from museum_laws import LAWS

PAGE = Path(__file__).parent.parent / "docs" / "museum.md"

HEAD = """# The bug museum

{count} bugs that were found in public GAN code, each written anew as a file of a few lines, with the check that refuses
it. Hardly one of them stops a program: it trains, its curves look plausible, and what it plays is another game than the
one it is named after.

    ganzoo check benchmarks/museum/one_epsilon.py                                # a plugin: refused, exit status 1
    python benchmarks/museum_laws.py benchmarks/museum/harness/clip_before_the_step.py   # a training loop: the same

A file's docstring says what is wrong, what was meant and where it was seen; in its text the comment `# cure:` holds
what the line below it should be (`# missing:` a line that should be there). The tests hold that an exhibit is refused
by its check and by no other that is required, but those named beside it, and that the cured file passes all of them:
the checks are not merely strict.

*Reported in* is an issue or a pull request that describes the bug; *mended* where its thread says that it was. *Seen
in* is a file in which it was read. The programs may have changed since.

This page is written by `python benchmarks/museum_table.py`; the last column is what the check says.
"""

PLUGINS = """
## In plugins

`ganzoo check` refuses these: what a cost, a margin, an objective or a network can do wrong.
"""

HARNESS = """
## In training loops

What an objective cannot do wrong, and the loop that plays it can. Each loop is one function; a law of
`benchmarks/museum_laws.py`, which ganzoo's own loop keeps, refuses it.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def row(exhibit: Exhibit) -> str:
    said = refusal(exhibit)
    if not said:
        raise SystemExit(f"{exhibit.name}: {exhibit.refused_by} does not refuse it")
    seen = [f"{how} {what}" for how, what in (("Reported in", exhibit.reported), ("Seen in", exhibit.seen)) if what]
    name = f"`{'harness/' if exhibit.of_the_harness else ''}{exhibit.name}.py`"
    bug = f"**{exhibit.title}** Wrong: {exhibit.wrong} Meant: {exhibit.meant}"
    columns = (name, bug, " ".join(seen), f"`{exhibit.refused_by}`", said)
    return f"| {' | '.join(map(cell, columns))} |"


def table(shown: list[Exhibit]) -> str:
    head = "| exhibit | bug | seen where | refused by | what the check says |\n|---|---|---|---|---|"
    return "\n".join([head, *map(row, shown)])


def page() -> str:
    found = exhibits()
    plugins, harness = ([e for e in found if e.of_the_harness == of] for of in (False, True))
    used = {exhibit.refused_by for exhibit in plugins}
    titles = [f"* `{check.id}`: {check.title}" for check in CHECKS if check.id in used]
    laws = [f"* `{name}`: {law.__name__.replace('_', ' ')}" for name, law in LAWS.items()]
    parts = [
        HEAD.format(count=len(found)), PLUGINS, table(plugins), "\nThe checks named:\n", *titles, HARNESS,
        table(harness), "\nThe laws:\n", *laws,
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert all(corrected(exhibit.text) != exhibit.text for exhibit in exhibits())
    PAGE.write_text(page(), encoding="utf-8")
