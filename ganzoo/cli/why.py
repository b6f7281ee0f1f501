"""`why`."""

from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say
from ganzoo.cli.complete import complete_why


@app.command()
def why(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A plugin's name, KIND/NAME, a distribution, an entry point, a file or folder.",
            autocompletion=complete_why,
        ),
    ],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Where a plugin comes from, who else claims its name, and why it is broken, with the whole traceback."""
    from ganzoo.zoo import Zoo
    from ganzoo.zoo.why import given_files
    from ganzoo.zoo.why import why as explained

    zoo = Zoo.installed()
    for path in [*(plugin or []), *([Path(name)] if _is_path(name) else [])]:
        given_files(zoo, path)
    found = explained(zoo, name)
    if as_json:
        print_json([account.as_dict() for account in found])
    else:
        say("\n\n".join(account.text() for account in found))


def _is_path(name: str) -> bool:
    """As it stands there, or as one would write it."""
    import os

    return os.path.exists(name) or name.endswith(".py")
