"""The bug museum's exhibits: what each file says of itself, its corrected twin, and what refuses it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ganzoo.checks import CHECKS, Refuted, Report, Result, Subject
from ganzoo.errors import UserError
from ganzoo.zoo import Entry, Zoo
from museum_laws import LAWS, Run, of_exhibit

FOLDER = Path(__file__).parent / "museum"
FIELDS = ("Wrong", "Meant", "Reported in", "Seen in", "Refused by", "Also by")
LABEL = re.compile(rf"^({'|'.join(FIELDS)}): (.*?)(?=^\w[\w ]*: |\Z)", re.DOTALL | re.MULTILINE)
CURE = re.compile(r"^ *# cure: (.*)\n( *).*\n", re.MULTILINE)
MISSING = re.compile(r"^( *)# missing: (.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Exhibit:
    """One bug. Its docstring is the label: a title, then the fields."""

    path: Path
    title: str
    wrong: str
    meant: str
    reported: str
    seen: str
    refused_by: str
    """The id of a check, or the name of a law of `museum_laws`."""
    also_by: tuple[str, ...]
    """Other checks that may refuse it for the same reason."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def of_the_harness(self) -> bool:
        return self.path.parent.name == "harness"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


def exhibits() -> list[Exhibit]:
    """All of them, those of plugins first, by name."""
    return [read(path) for folder in (FOLDER, FOLDER / "harness") for path in sorted(folder.glob("*.py"))]


def read(path: Path) -> Exhibit:
    """Raises UserError for a file without the fields that a label needs."""
    quoted = re.match(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    title, _, label = (quoted[1] if quoted else "").partition("\n\n")
    found = {name: " ".join(text.split()) for name, text in LABEL.findall(label)}
    missing = [name for name in FIELDS[:2] + FIELDS[4:5] if not found.get(name)]
    if missing or not (found.get("Reported in") or found.get("Seen in")):
        raise UserError(f"exhibit {path.name}: its docstring lacks {', '.join(missing) or 'where it was seen'}")
    return Exhibit(
        path, title.strip(), found["Wrong"], found["Meant"], found.get("Reported in", ""), found.get("Seen in", ""),
        found["Refused by"], tuple(filter(None, re.split(r", *", found.get("Also by", "")))),
    )  # fmt: skip


def corrected(text: str) -> str:
    """The twin: a line below `# cure: ...` is replaced by what the comment says, `(nothing)` by nothing; the line that
    `# missing: ...` names is put there."""

    def cured(match: re.Match[str]) -> str:
        return "" if match[1] == "(nothing)" else f"{match[2]}{match[1]}\n"

    return MISSING.sub(r"\1\2\n", CURE.sub(cured, text))


def entry_of(exhibit: Exhibit, text: str | None = None) -> Entry:
    """The plugin of an exhibit, or of its twin's text."""
    zoo = Zoo()
    if text is None:
        zoo.add_file(exhibit.path)
    else:
        zoo.add(module_of(exhibit, text))
    for broken in zoo.broken:
        raise UserError(f"exhibit {exhibit.name}: {broken.reason}")
    (entry,) = zoo
    return entry


def module_of(exhibit: Exhibit, text: str) -> ModuleType:
    module = ModuleType(exhibit.name)
    exec(compile(text, str(exhibit.path), "exec"), vars(module))
    return module


def report_of(entry: Entry, only: str | None = None) -> Report:
    """At a few settings of the hyperparameters: exhibits have none."""
    subject = Subject(entry, examples=1)
    checks = [check for check in CHECKS if check.kind == entry.kind and only in (None, check.id)]
    return Report(entry.kind, entry.name, [check.run(subject) for check in checks])


def harness_of(exhibit: Exhibit, text: str | None = None) -> Run:
    return of_exhibit(module_of(exhibit, text or exhibit.text))


def refusal(exhibit: Exhibit) -> str:
    """What the check or the law says of it; empty where nothing refuses it."""
    if exhibit.of_the_harness:
        return refused(LAWS[exhibit.refused_by], harness_of(exhibit))
    results: list[Result] = report_of(entry_of(exhibit), exhibit.refused_by).results
    return results[0].message if results and results[0].verdict == "fail" else ""


def refused(law: Callable[[Run], None], run: Run) -> str:
    try:
        law(run)
    except Refuted as found:
        return found.message
    return ""
