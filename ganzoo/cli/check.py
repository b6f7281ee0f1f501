"""`check`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say, zoo_of
from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.zoo import Entry, Zoo


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE")], plugin: Plugins = None, as_json: Json = False
) -> None:
    """Property-test a plugin: by NAME, or all that a FILE supplies. Exit status 1 if a required check fails."""
    import torch

    from ganzoo.checks import run_checks

    torch.set_num_threads(1)  # thousands of tiny steps: more threads only wait for one another
    zoo, entries = _to_check(name, plugin)
    reports = [run_checks(entry, zoo) for entry in entries]
    if as_json:
        print_json([report.as_dict() for report in reports])
    else:
        say("\n\n".join(report.text() for report in reports))
    raise typer.Exit(0 if all(report.passed for report in reports) else 1)


def _to_check(name: str, plugin: list[Path] | None) -> "tuple[Zoo, list[Entry]]":
    path = Path(name)
    if path.suffix == ".py" or os.path.isdir(name):  # a name of any length is no error to os.path
        zoo = zoo_of([*(plugin or []), path])
        within = path.resolve()
        mine = [e for e in zoo if within in (p := Path(e.origin.plugin).resolve(), *p.parents)]
        for broken in zoo.broken:
            if within in (p := Path(broken.origin.plugin).resolve(), *p.parents):
                raise UserError(f"{broken.origin}: {broken.reason}")
        if not mine:
            raise UserError(f"no plugin in {name}: no *.py file that does not begin with _ or test_")
        return zoo, mine
    zoo = zoo_of(plugin)
    return zoo, zoo.named(name)
