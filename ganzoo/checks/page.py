"""The table of checks as `docs/checks.md` has it, between two marks:

python -m ganzoo.checks.page docs/checks.md
"""

import sys
from pathlib import Path

from ganzoo.checks import TABLE
from ganzoo.checks.about import CURES, SOURCES
from ganzoo.checks.report import escaped
from ganzoo.durable import commit
from ganzoo.errors import UserError
from ganzoo.hooks import KINDS

BEGIN, END = "<!-- the table, written by `python -m ganzoo.checks.page` -->", "<!-- the end of the table -->"


def page() -> str:
    """The table, a part a kind, in Markdown."""
    parts = []
    for kind in KINDS:
        checks = [check for check in TABLE if check.kind == kind]
        if not checks:
            continue
        lines = [f"### {kind.capitalize()}", "", "| id | level | what it tests | source | cure |", "|---" * 5 + "|"]
        for check in sorted(checks, key=lambda check: _number(check.id)):
            level = f"{check.level}, with `--exhaustive`" if check.every_float else check.level
            about = (_but_for_code(text) for text in (SOURCES[check.id], CURES.get(check.id, "")))
            cells = (f"`{check.id}`", level, escaped(check.title), *about)
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _but_for_code(text: str) -> str:
    """Escaped, but for what stands between backticks."""
    return "`".join(escaped(part) if i % 2 == 0 else part for i, part in enumerate(text.split("`")))


def _number(check_id: str) -> tuple[int, str]:
    last = check_id.rpartition("-")[2]
    return (int(last), "") if last.isdigit() else (0, last)


def renewed(text: str) -> str:
    """The document with its table as it is now. Raises UserError where the marks are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"no table to renew: the marks {BEGIN} and {END} stand around it")
    return f"{before}{BEGIN}\n\n{page()}\n\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    commit(path, renewed(path.read_text(encoding="utf-8")).encode())
