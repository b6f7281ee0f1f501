"""`report`."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, print_json, say
from ganzoo.cli.complete import complete_run


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder; it may still be at work.", autocompletion=complete_run)],
    out: Annotated[Path | None, typer.Option(help="The page; default RUN/report.html.")] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", "-p", metavar="PATH", help="Whose costs to check; a plan's own are not run."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """One HTML page of a run that needs no network: ranking, curves, pictures, costs, health, origin."""
    from ganzoo.report.page import write_page

    path = write_page(run, out, plugin or ())
    if as_json:
        print_json({"page": str(path), "bytes": path.stat().st_size})
    else:
        say(f"page      {path}")
    if show:
        webbrowser.open(path.resolve().as_uri())
