"""`paper`."""

from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, fitted, paired, print_json, say, width, wrapped
from ganzoo.cli.complete import complete_item

HEADING = "The paper's items. --size small (the default) is for two CPU cores, --size paper for a GPU."


@app.command()
def paper(
    name: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", show_default=False, autocompletion=complete_item)
    ] = None,
    size: Annotated[str, typer.Option(help="small: two CPU cores, minutes; paper: its own size, for a GPU.")] = "small",
    data: Annotated[str | None, typer.Option("--data", "-d", help="One of the item's data sets.")] = None,
    path: Annotated[str | None, typer.Option(help="The folder or file of the data set.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: cpu, cuda at size paper.")] = None,
    out: Annotated[Path | None, typer.Option(help="The item's folder; default runs/paper/ITEM.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at a time; default: one a core or GPU.")] = None,
    as_json: Json = False,
) -> None:
    """The figures, tables and theorems of the paper: all of them listed, or one ITEM made anew."""
    from ganzoo import paper as papers

    items = papers.items()
    if name is None:
        listed = [papers.described(key, item) for key, item in items.items()]
        if as_json:
            print_json(listed)
            return
        columns = width()
        say(wrapped(f"{HEADING}\n", columns))
        lines = [(name if line is of[0] else "", line) for name, of in papers.listing(listed) for line in of]
        say(paired(lines, columns))
        return
    made = papers.make(name, items, size=size, data=data, path=path, device=device, out=out, jobs=jobs)
    if as_json:
        print_json(made)
        return
    say(fitted(made["text"], width()))
    say("\n".join(made["files"]))
