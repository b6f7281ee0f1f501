"""Commands on finished runs: `compare`, `merge`, `export`, `share`, `open`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, fitted, print_json, say, width
from ganzoo.cli.complete import complete_run, complete_run_or_share, complete_share, complete_varying
from ganzoo.errors import UserError

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run's folder, or a share of one.",
        show_default=False,
        autocompletion=complete_run_or_share,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


@app.command()
def compare(
    first: Run,
    second: Run,
    varying: Annotated[
        list[str] | None,
        typer.Option(
            "--varying",
            metavar="KEY",
            help="What differs on purpose: epochs, batch_size, code, machine, ...",
            autocompletion=complete_varying,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs, seed by seed. What was not measured alike, or differs in more than is said, is refused."""
    from ganzoo.share.compare import compare as compared
    from ganzoo.share.reading import read_run

    found = compared(read_run(first), read_run(second), tuple(varying or ()))
    if as_json:
        print_json(found.as_dict())
    else:
        say(fitted(found.text(), width()))


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", show_default=False, autocompletion=complete_run)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new run's folder.")],
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Cells of machines that round differently; the table says so.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put the cells of several runs of one plan into one run's folder. Two results of one cell that differ are
    refused."""
    from ganzoo.share.merge import merge as merged

    found = merged(runs, out, allow_inexact=allow_inexact)
    if as_json:
        print_json(found.as_dict())
        return
    say(fitted(found.text, width()))
    for note in found.notes:
        say(note, file=sys.stderr)


@app.command()
def export(
    run: Run,
    file: Annotated[Path | None, typer.Argument(metavar="FILE.csv|.json|.parquet", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="FILE, as `share` takes it.")] = None,
    curves: Annotated[bool, typer.Option("--curves", help="A row for each point of each curve instead.")] = False,
    force: Force = False,
) -> None:
    """Write a run's rows for another program, by the file's ending."""
    from ganzoo.share.export import export as exported
    from ganzoo.share.reading import read_run

    if (file is None) == (out is None):
        raise UserError("give one file: ganzoo export RUN rows.csv, or .json, or .parquet")
    found, path = read_run(run), file or out
    assert path is not None
    count = exported(found, path, curves=curves, force=force)
    say(f"{count} rows in {path}")
    if found.caveat:
        say(found.caveat, file=sys.stderr)


@app.command()
def share(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.zip", help="The share.")],
    without_weights: Annotated[bool, typer.Option("--without-weights", help="Leave the networks out.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Put what a run came to into one zip that opens without ganzoo: rows, plan, page, versions, weights without code.
    Paths of this machine are cut down to their last part."""
    from ganzoo.share.packing import share as shared

    found = shared(run, out, weights=not without_weights, force=force)
    if as_json:
        print_json({**found._asdict(), "path": str(found.path)})
        return
    say(f"{found.rows} rows and the networks of {found.weights} trainings in {found.path} ({found.size / 1e6:.1f} MB)")
    for note in found.notes:
        say(note, file=sys.stderr)


@app.command("open")
def open_(
    share: Annotated[Path, typer.Argument(metavar="FILE.zip", show_default=False, autocompletion=complete_share)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder for its files; default: the file's name.")
    ] = None,
) -> None:
    """Unpack what somebody shared, once all of it is judged: nothing in it can lie elsewhere or be executed."""
    from ganzoo.share.opening import open_share
    from ganzoo.share.reading import read_run, table_of

    folder = out or share.with_suffix("")
    opened = open_share(share, folder)
    found = read_run(folder)
    say(fitted(table_of(found)[0], width()))
    say(f"opened    {folder}")
    if opened.page:
        say(f"page      {folder / 'page.html'}  (its sender's: what is in it runs in your browser)")
    if found.caveat:
        say(found.caveat, file=sys.stderr)
