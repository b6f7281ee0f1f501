"""`check`."""

import os
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say, width, zoo_of
from ganzoo.cli.complete import complete_name
from ganzoo.cli.leaving import ctrl_c_asks, ctrl_c_leaves
from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.checks import Report
    from ganzoo.checks.exhaustive import Tally
    from ganzoo.zoo import Entry, Zoo
    from ganzoo.zoo.origin import Origin


class Format(StrEnum):
    TEXT = "text"
    MD = "md"
    JSON = "json"


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="NAME, KIND/NAME, a file or a folder; NAME:key=v1,v2 for settings.",
            autocompletion=complete_name,
        ),
    ],
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Evaluate a cost at all 2^32 float32 values; Ctrl-C, and later go on.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier --exhaustive did.")] = False,
    form: Annotated[Format, typer.Option("--format", help="md: a compliance table for a README.")] = Format.TEXT,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that one check may take.")] = 300.0,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Property-test a plugin: by NAME, or all that a FILE supplies. Exit status 1 if a required check fails."""
    if as_json and form is Format.MD:
        raise UserError("--json and --format md are two documents; take one")
    if fresh and not exhaustive:
        raise UserError("--fresh is for --exhaustive, which alone keeps what it did")
    import torch

    from ganzoo.checks import run_checks
    from ganzoo.checks.search import kept_in_cache
    from ganzoo.devices import require_device

    torch.set_num_threads(1)  # thousands of tiny steps: more threads only wait for one another
    require_device(device, "check")
    zoo, entries, given = _to_check(name, plugin)
    if exhaustive:
        _require_a_cost(entries)

    def reports(every_float: "Callable[[Entry, dict[str, Any]], Tally] | None") -> "list[Report]":
        return [
            run_checks(entry, zoo, device=device, given=given, patience=patience, every_float=every_float)
            for entry in entries
        ]

    with kept_in_cache(), ctrl_c_leaves():
        found = _exhaustively(reports, device, fresh, patience) if exhaustive else reports(None)
    if as_json or form is Format.JSON:
        print_json([report.as_dict() for report in found])
    elif form is Format.MD:
        say("\n\n".join(report.markdown() for report in found))
    else:
        say("\n\n".join(report.text(width()) for report in found))
    raise typer.Exit(0 if all(report.passed for report in found) else 1)


def _exhaustively(
    reports: "Callable[[Callable[[Entry, dict[str, Any]], Tally]], list[Report]]",
    device: str,
    fresh: bool,
    patience: float,
) -> "list[Report]":
    from ganzoo.checks.bar import following
    from ganzoo.checks.sweeps import News, every_float

    try:
        with following() as tell:

            def sweep(entry: "Entry", settings: dict[str, Any]) -> "Tally":
                with ctrl_c_asks() as comply:

                    def told(news: News) -> None:
                        tell(news)
                        comply()

                    return every_float(entry, settings, told, device=device, fresh=fresh, patience=patience)

            return reports(sweep)
    except KeyboardInterrupt:
        command = shlex.join(["ganzoo", *(word for word in sys.argv[1:] if word != "--fresh")])
        say(f"ganzoo: interrupted; what is evaluated is kept; go on with: {command}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # a thread that is inside torch while Python ends as usual would abort the process


def _require_a_cost(entries: "list[Entry]") -> None:
    if not any(entry.kind == "cost" for entry in entries):
        what = " and ".join(f"{entry.kind} '{entry.name}'" for entry in entries[:3])
        raise UserError(
            f"--exhaustive is for costs, functions of one number; {what} takes images or networks, of which nobody can"
            " try all: ganzoo check without it draws some"
        )


def _to_check(name: str, plugin: list[Path] | None) -> "tuple[Zoo, list[Entry], list[dict[str, Any]]]":
    """The zoo, what to check of it, and the settings to check it at besides the defaults."""
    from ganzoo.config import grid_of

    what, colon, _ = (name, "", "") if os.path.exists(name) else name.partition(":")
    given = grid_of(name) if colon else []
    path = Path(what)
    if path.suffix == ".py" or os.path.isdir(what):  # a name of any length is no error to os.path
        zoo = zoo_of([*(plugin or []), path])
        mine = [entry for entry in zoo if _lies_in(entry.origin, path)]
        for broken in zoo.broken:
            if _lies_in(broken.origin, path):
                raise UserError(f"{broken.origin}: {broken.reason}")
        if not mine:
            raise UserError(f"no plugin in {what}: no *.py file that does not begin with _ or test_")
    else:
        zoo = zoo_of(plugin)
        mine = zoo.named(what)
    if given:
        keys = given[0].keys()
        taking = [entry for entry in mine if keys <= entry.hyperparameters.keys()]
        for entry in taking or mine:
            for settings in given:
                entry.validate(**settings)  # the first that takes none of it says so
        mine = taking
    return zoo, mine, given


def _lies_in(origin: "Origin", path: Path) -> bool:
    """A file that is this one or in this folder. What is installed has a module in the place of a file."""
    file = Path(origin.plugin).resolve()
    return origin.distribution is None and path.resolve() in (file, *file.parents)
