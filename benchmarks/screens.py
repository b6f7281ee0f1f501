"""docs/commands.md: the help of every command, and a screen of it as it came out.

python benchmarks/screens.py                  # every command is run in an empty folder: some minutes
python benchmarks/screens.py --only check     # this one; the other screens stay as they are
python benchmarks/screens.py --only           # none is run: the helps alone
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from typer.main import get_command

from ganzoo.cli import app

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"
COLUMNS = 100

BEGINNING = """\
# Every command, with a screen

Each command's help, and below it what one call of it printed: two cores of a server, 100 columns, no colour. Long
screens are cut where it says so. `python benchmarks/screens.py` makes this page; a test keeps the helps in step with
the code.

What holds for all of them:

* `--json` prints one JSON document and nothing else on standard output.
* Exit status: 0; 1 if a cell failed or diverged, a check failed, or something is damaged; 2 for a slip, told in one
  line with nothing written; 75 if another process is at work there; 130 and 143 after Ctrl-C and SIGTERM, everything
  saved.
* A slip names who, what, and what there is instead. Tables go to standard output, notes and warnings to standard error.

## Shell completion

    ganzoo --install-completion        # bash, zsh, fish or PowerShell, whichever runs; then open a new shell
    ganzoo --show-completion           # only print it, for a file of your own

After that `ganzoo sh<TAB>` completes commands and options, and `ganzoo show l<TAB>` names. Completing does not import
torch: it takes as long as `ganzoo --help`.
"""

PLAN = """\
objectives = ["ls-gan", "wgan-gp"]
seeds = 2
epochs = 8
validate_every = 4
batch_size = 32
z_dim = 10
generator.width = 8
critic.width = 8
validation_images = 40
test_images = 40
control_images = 10
test_mre.steps = 50

[shared]
critic_rate = 0.004
generator_rate = 0.004
"""

COST = '''\
import ganzoo, torch, typing, annotated_types


@ganzoo.cost
def capped(a: torch.Tensor, cap: typing.Annotated[float, annotated_types.Ge(0)] = 0.1) -> torch.Tensor:
    """C(a) = max(a, -cap)."""
    return a.clamp(min=-cap)
'''

WRONG = '''\
import ganzoo, torch


@ganzoo.cost
def softer(a: torch.Tensor) -> torch.Tensor:
    """C(a) = log(1 + e^a), which is not a for a >= 0."""
    return torch.nn.functional.softplus(a)
'''

BROKEN = """\
import ganzoo
from torch import Tensr


@ganzoo.cost
def broken(a: Tensr) -> Tensr:
    return a
"""

FILES = {"two.toml": PLAN, "capped.py": COST, "softer.py": WRONG, "broken.py": BROKEN}
"""What lies in the folder before the first command."""
BEFORE = ("ganzoo bench two.toml --out runs/two",)
"""Run first, unseen: commands on a run need one."""


class Screen(NamedTuple):
    """What is typed to show a command."""

    lines: tuple[str, ...]
    status: int = 0
    """The exit status that the last line has to end with."""
    longest: int = 45
    """So many lines of an output are shown."""


SCREENS: dict[str, Screen] = {
    "": Screen(("ganzoo",)),
    "list": Screen(("ganzoo list cost", "ganzoo list objective -p capped.py")),
    "show": Screen(("ganzoo show gls-gan", "ganzoo show leaky")),
    "doctor": Screen(("ganzoo doctor",)),
    "why": Screen(("ganzoo why leaky", "ganzoo why broken.py")),
    "new": Screen(("ganzoo new cost kinked", "ganzoo new margin tilted --package")),
    "check": Screen(("ganzoo check capped.py", "ganzoo check softer.py"), status=1, longest=30),
    "lattice": Screen(("ganzoo lattice",)),
    "bench": Screen(
        ("cat two.toml", "ganzoo bench two.toml --dry-run", "ganzoo bench two.toml --out runs/three --seeds 3")
    ),
    "demo": Screen(("ganzoo demo",)),
    "report": Screen(("ganzoo report runs/two",)),
    "compare": Screen(
        (
            "ganzoo bench two.toml --set epochs=16 --out runs/longer > /dev/null 2>&1",
            "ganzoo compare runs/two runs/longer --varying epochs",
        )
    ),
    "merge": Screen(
        (
            "ganzoo bench two.toml --set first_seed=2 --out runs/more > /dev/null 2>&1",
            "ganzoo merge runs/two runs/more --out runs/four",
        )
    ),
    "export": Screen(("ganzoo export runs/two rows.csv", "head -c 300 rows.csv")),
    "share": Screen(("ganzoo share runs/two -o two.zip", "python -m zipfile -l two.zip")),
    "open": Screen(("ganzoo open two.zip -o theirs", "ls theirs")),
    "worker": Screen(("ganzoo bench two.toml --out runs/later --lay-out", "ganzoo worker --claim runs/later")),
    "verify": Screen(("ganzoo verify runs/two",)),
    "mre": Screen(("ganzoo mre runs/two/cells/ls-gan-seed0-* --images 20 --set restarts=4",)),
    "paper": Screen(("ganzoo paper",)),
}


def commands() -> dict[str, Any]:
    """Every command by its name, the root as ''."""
    root: Any = get_command(app)
    return {"": root, **root.commands}


def help_of(name: str, command: Any) -> str:
    """What `--help` prints on a terminal of 80 columns or more."""
    context = command.context_class(
        command,
        info_name=f"ganzoo {name}".strip(),
        terminal_width=80,  # wider than which no help is set
        help_option_names=["-h", "--help"],
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def captured(screen: Screen, folder: Path) -> str:
    """The screen's lines and what each printed, in this folder. Raises where one ends otherwise than it should."""
    shown = []
    for i, line in enumerate(screen.lines):
        wanted = screen.status if i == len(screen.lines) - 1 else 0
        run = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "COLUMNS": str(COLUMNS),
                "HOME": str(folder),
                "NO_COLOR": "1",
                "OMP_NUM_THREADS": "1",
                "TERM": "dumb",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if run.returncode != wanted:
            raise SystemExit(f"$ {line}\n{run.stdout}\nended with {run.returncode}, not {wanted}")
        shown += [f"$ {line}", *shortened(without_paths(run.stdout, folder).rstrip().splitlines(), screen.longest)]
        if wanted:
            shown.append(f"[exit status {wanted}]")
        shown.append("")
    return "\n".join(line.rstrip() for line in shown).rstrip()


def without_paths(text: str, folder: Path) -> str:
    """The machine's own paths, made anybody's."""
    for path, name in (
        (f"{folder}/", ""),
        (str(folder), "."),
        (f"{ROOT}/", ""),
        (str(ROOT), "."),
        (sys.prefix, ".venv"),
    ):
        text = text.replace(path, name)
    return text


def shortened(lines: list[str], longest: int) -> list[str]:
    if len(lines) <= longest + 1:
        return lines
    return [*lines[:longest], f"... ({len(lines) - longest} more lines)"]


def screens_of(page: str) -> dict[str, str]:
    """The screens of a page made earlier."""
    sections = re.split(r"^## `(ganzoo[^`]*)`$", page, flags=re.MULTILINE)[1:]
    found = {}
    for name, section in zip(sections[::2], sections[1::2], strict=True):
        screen = re.search(r"^```console\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
        if screen is not None:
            found[name.removeprefix("ganzoo").strip()] = screen[1]
    return found


def page_of(screens: dict[str, str]) -> str:
    parts = [BEGINNING]
    for name, command in commands().items():
        parts.append(f"## `ganzoo {name}".rstrip() + f"`\n\n```text\n{help_of(name, command)}\n```\n")
        if name in screens:
            parts.append(f"```console\n{screens[name]}\n```\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="COMMAND", help="run these alone")
    asked = parser.parse_args().only
    chosen = list(SCREENS) if asked is None else ["" if name == "ganzoo" else name for name in asked]
    screens = screens_of(PAGE.read_text(encoding="utf-8")) if PAGE.exists() and asked is not None else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for file, text in FILES.items():
            (folder / file).write_text(text, encoding="utf-8")
        if chosen:
            captured(Screen(BEFORE), folder)
        failed = []
        for command in (name for name in SCREENS if name in chosen):
            print(f"ganzoo {command}", file=sys.stderr)
            try:
                screens[command] = captured(SCREENS[command], folder)
            except SystemExit as error:
                failed.append(f"{error}")
    PAGE.write_text(page_of(screens), encoding="utf-8")
    if failed:
        raise SystemExit("\n\n".join(failed))


if __name__ == "__main__":
    main()
