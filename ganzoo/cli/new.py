"""`new`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganzoo.cli.app import Json, app, print_json, say, zoo_of
from ganzoo.cli.complete import complete_kind
from ganzoo.hooks import KINDS

if TYPE_CHECKING:
    from ganzoo.new import Named


@app.command()
def new(
    kind: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(KINDS)}.", autocompletion=complete_kind),
    ],
    name: Annotated[str, typer.Argument(help="What the zoo will call it: small letters, digits, - between them.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
    package: Annotated[
        bool,
        typer.Option("--package", help="A distribution to install, with tests, CI and README, in place of a file."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a plugin to start from: one file with a formula, a domain and a test, which passes its checks as it is."""
    from ganzoo import new as making
    from ganzoo.zoo.listing import listing

    made = making.named(kind, name, listing())
    if package:
        folder = out / made.distribution
        paths = _write_package(made, folder)
        next_ = [
            f"cd {shlex.quote(str(folder))}",
            'pip install -e ".[test]"',
            "pytest",
            f"ganzoo show {made.reference}",
            made.use(),
        ]
    else:
        paths = making.write(out, {made.file: making.plugin_file(made)})
        path = shlex.quote(str(paths[0]))
        next_ = [f"ganzoo check {path}", f"pytest {path}", made.use(f" -p {path}")]
    if as_json:
        print_json({"kind": kind, "name": made.name, "files": [str(path) for path in paths], "next": next_})
        return
    say("\n".join(f"wrote {path}" for path in paths))
    say("\nNext:")
    say("\n".join(f"  {command}" for command in next_))  # never broken: they are there to be copied


def _write_package(made: "Named", folder: Path) -> list[Path]:
    from ganzoo import new as making

    making.require_own_module(made)
    making.require_absent(folder)
    say(f"checking the {made.kind} for its README ...", file=sys.stderr)
    report, doc = making.judged(made, zoo_of(None))
    return making.write(folder, making.package_files(made, report.markdown(), doc))
