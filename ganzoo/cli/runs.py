"""Commands on a run's folder: `worker`, `verify`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, print_json, say
from ganzoo.cli.complete import complete_run
from ganzoo.errors import printable


@app.command("worker")
def worker_(
    folder: Annotated[
        Path, typer.Option("--claim", metavar="RUN", help="The run's folder.", autocompletion=complete_run)
    ],
    retries: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of a cell whose process dies or hangs.")] = 2,
    lost_seconds: Annotated[float, typer.Option(min=2, help="Without a sign of life: a cell is taken over.")] = 30.0,
    hang_seconds: Annotated[float, typer.Option(min=2, help="Without a finished round: the worker hangs.")] = 900.0,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Resume where numbers round differently; the result says so.")
    ] = False,
) -> None:
    """Train what is not finished in a run's folder, beside any others who do the same, on any machine that sees it."""
    from ganzoo.claim import claim
    from ganzoo.seam import Policy

    policy = Policy(retries, lost_seconds, hang_seconds, ("--allow-inexact",) if allow_inexact else ())
    raise typer.Exit(claim(folder, policy, lambda line: print(printable(line), file=sys.stderr, flush=True)))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="RUN", autocompletion=complete_run)], as_json: Json = False
) -> None:
    """Read all of a run's folder: what is whole, what is not, what a resume would do. Exit status 1 for damage."""
    from ganzoo.verify import verify as verified

    found = verified(folder)
    if as_json:
        print_json(found.as_dict())
    else:
        say(found.text())
    raise typer.Exit(0 if found.is_whole else 1)
