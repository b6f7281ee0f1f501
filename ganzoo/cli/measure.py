"""`mre`."""

from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, print_json, say, settings_of
from ganzoo.errors import UserError, did_you_mean


@app.command()
def mre(
    checkpoint: Annotated[Path, typer.Argument(help="A cell's checkpoint, or the cell's folder.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    images: Annotated[int | None, typer.Option(min=1, help="The first so many; default: as in the plan.")] = None,
    last: Annotated[
        bool, typer.Option("--last", help="The last epoch's generator, not the best on validation.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="steps, rate, restarts or domain.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained generator: MRE, the self-inversion control, how far z has converged."""
    from ganzoo.measure import measure_checkpoint

    if split not in ("train", "validation", "test"):
        raise UserError(f"no split '{split}'{did_you_mean(split, ('train', 'validation', 'test'))}")
    found = measure_checkpoint(checkpoint, split, images, last, settings_of(settings))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        say(f"{key:<16} {value:.4f}" if isinstance(value, float) else f"{key:<16} {value}")
