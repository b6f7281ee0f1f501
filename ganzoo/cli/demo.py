"""`demo`."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, app, print_json, say
from ganzoo.cli.bench import bench

PLAN = Path(__file__).parents[1] / "plans" / "demo.toml"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/demo"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at a time; default: one a core.")] = None,
    as_json: Json = False,
) -> None:
    """LS-GAN and WGAN on handwritten digits, and the page of how they compare: under half a minute on two CPU cores."""
    said = StringIO()
    try:
        if as_json:
            with redirect_stdout(said):
                bench(PLAN, out=out, jobs=jobs, as_json=True)
        else:
            bench(PLAN, out=out, jobs=jobs)
    except typer.Exit as end:
        status = end.exit_code
    from ganzoo.report.page import write_page

    page = write_page(out)
    if as_json:
        print_json({**json.loads(said.getvalue()), "page": str(page.absolute())})
    else:
        say(f"\npage      {page.absolute()}")
    raise typer.Exit(status)
