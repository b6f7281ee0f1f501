"""How long one waits for what only looks: `ganzoo` alone, --help, list, a Tab; beside Python itself and `import torch`.

    python benchmarks/startup.py [--repeats 10] [--out benchmarks/results/startup]

Each way is timed once in every turn, so that a slow moment of the machine is everybody's; the least of the turns is
what the way itself takes, the median what one sees. The home folder is a fresh one. "broken" is a zoo in which one
plugin fails at its import: the first time the zoo is loaded to say why, from then on what it said is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = (sys.executable, "-c", "import sys; sys.argv[0] = 'ganzoo'; from ganzoo.cli import main; main()")
TAB = {"_GANZOO_COMPLETE": "complete_bash", "COMP_WORDS": "ganzoo show le", "COMP_CWORD": "2"}


class Way(NamedTuple):
    """One thing to wait for."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012 (never written to)
    broken: bool = False
    forget: bool = False
    """What was kept is removed before each turn."""


WAYS = (
    Way("python -c pass", (sys.executable, "-c", "pass")),
    Way("ganzoo", COMMAND),
    Way("ganzoo --help", (*COMMAND, "--help")),
    Way("ganzoo list", (*COMMAND, "list")),
    Way("ganzoo show <Tab>", COMMAND, TAB),
    Way("ganzoo, one plugin broken", COMMAND, broken=True),
    Way("ganzoo, one plugin broken, first time", COMMAND, broken=True, forget=True),
    Way("python -c 'import torch'", (sys.executable, "-c", "import torch")),
)


def seconds(way: Way, home: Path, site: Path) -> float:
    """Wall-clock seconds from the start of the process to its end."""
    if way.forget:
        for kept in home.glob(".cache/ganzoo/listings/*"):
            kept.unlink()
    path = os.pathsep.join([str(site)] * way.broken + [place for place in sys.path if place])
    environment = {key: value for key, value in os.environ.items() if key != "GANZOO_PLUGINS"}
    environment |= {"HOME": str(home), "PYTHONPATH": path, **way.environment}
    began = time.perf_counter()
    subprocess.run(way.command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def broken_plugin(site: Path) -> None:
    """A distribution in `site` whose plugin cannot be imported."""
    information = site / "acme-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[ganzoo]\nacme = acme\n")
    (site / "acme.py").write_text("import no_module_of_this_name\n")


def measured(repeats: int) -> dict[str, list[float]]:
    """Way -> the seconds of each turn. One turn before them warms the disk's cache, and compiles."""
    found: dict[str, list[float]] = {way.name: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="ganzoo-startup-") as folder:
        home, site = Path(folder, "home"), Path(folder, "site")
        home.mkdir()
        broken_plugin(site)
        for turn in range(repeats + 1):
            for way in WAYS:
                took = seconds(way, home, site)
                if turn > 0:
                    found[way.name].append(took)
    return found


def table(found: dict[str, list[float]]) -> str:
    """A line a way: the least, the median, the most, in seconds."""
    lines = [f"{'':<40}{'least':>8}{'median':>8}{'most':>8}   seconds"]
    for name, turns in found.items():
        lines.append(f"{name:<40}{min(turns):8.3f}{statistics.median(turns):8.3f}{max(turns):8.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "startup")
    options = parser.parse_args()
    load_before = os.getloadavg()
    found = measured(options.repeats)
    print(table(found))
    from ganzoo.bench import provenance  # with torch: after the measurement

    content: dict[str, Any] = {
        "unit": "seconds of wall-clock time, each way once a turn",
        "turns": {name: [round(took, 4) for took in turns] for name, turns in found.items()},
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "provenance": {**provenance("cpu"), "command": f"python benchmarks/startup.py --repeats {options.repeats}"},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "startup.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "table.txt").write_text(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
