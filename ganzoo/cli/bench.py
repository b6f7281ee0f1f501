"""`bench`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say, settings_of, warn_of_broken, zoo_of

if TYPE_CHECKING:
    from ganzoo.config import Plan


@app.command()
def bench(
    plan: Annotated[Path | None, typer.Argument(metavar="[PLAN.toml]", show_default=False)] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", "-o", help="NAME or NAME:key=v1,v2,key=v; may be repeated.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="digits, mnist, cifar10, folder, npz, npy, ...")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each objective.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the plan, data.path=DIR say.")
    ] = None,
    plugin: Plugins = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME-HASH.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "--slots",
            min=1,
            help="Cells, or stacks of small cells, at a time; default: one a core, six on a GPU.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Who starts the workers: local, ray, or another's; NAME:key=value,key=value.")
    ] = "local",
    address: Annotated[str | None, typer.Option(help="Of the engine's cluster.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of a cell whose process dies or hangs.")] = 2,
    lost_seconds: Annotated[float, typer.Option(min=2, help="Without a sign of life: the worker is lost.")] = 30.0,
    hang_seconds: Annotated[float, typer.Option(min=2, help="Without a finished round: the worker hangs.")] = 900.0,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Resume where numbers round differently; the result says so.")
    ] = False,
    lay_out: Annotated[
        bool, typer.Option("--lay-out", help="Write the run's folder for `ganzoo worker --claim`, train nothing.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print the cells and what they will take, write nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare objectives on held-out images. The same command again resumes."""
    from ganzoo.lock import require_free
    from ganzoo.processes import ctrl_c_held_back, start_server

    if out is not None and not dry_run:
        require_free(out)  # said at once, not after seconds of imports
    if not dry_run and device in (None, "cpu"):
        start_server()  # first: it imports torch while we do
    with ctrl_c_held_back():  # a library whose import is interrupted may swallow it, or fail in its own way
        from ganzoo import bench as benching
        from ganzoo.durable import commit, commit_json
        from ganzoo.progress import following
        from ganzoo.seam import Policy

    chosen = _plan(plan, objective, data, seeds, device, settings, plugin)
    zoo = zoo_of([Path(path) for path in chosen.plugins])
    warn_of_broken(zoo)
    prepared = benching.prepare(chosen, zoo)
    folder = out or Path("runs") / f"{plan.stem if plan else chosen.data.set}-{chosen.sha256[:8]}"
    at_once = jobs or benching.natural_jobs(chosen)
    policy = Policy(retries, lost_seconds, hang_seconds, ("--allow-inexact",) if allow_inexact else ())
    if dry_run:
        _print_dry_run(prepared, folder, at_once, as_json)
        return
    run = benching.Run(folder, prepared)
    with run.held():
        if lay_out:
            command = f"ganzoo worker --claim {shlex.quote(str(folder))}"
            say(f"{len(prepared.cells)} cells in {folder}; train them with: {command}")
            return
        placing = benching.engine_of(engine, zoo, chosen, jobs, address)
        at_once = jobs or (at_once if placing is None else placing.slots)
        with following(prepared, folder, at_once) as tell:
            rows = run.train(at_once, tell, placing, policy)
        from ganzoo.report import reported
        from ganzoo.report.figures import draw  # matplotlib: not before the work is done

        text, summary = reported(chosen, rows, run.baselines(), folder)
        commit(folder / "table.txt", text.encode())
        commit_json(folder / "summary.json", summary)
        figures = draw(rows, run.baselines(), folder)
    if as_json:
        print_json({"folder": str(folder), **summary})
    else:
        say(text)
        say(f"rows      {folder / 'rows.jsonl'}")
        for figure in figures:
            say(f"figure    {figure}")
    for note in dict.fromkeys(f"{row['label']}: {note}" for row in rows for note in row.get("notes", ())):
        say(note, file=sys.stderr)
    for row in rows:
        if row["verdict"] != "done":
            fold = "" if row["fold"] is None else f" fold {row['fold']}"
            why = f": {row['reason']}" if row.get("reason") else ""
            say(f"{row['label']} seed {row['seed']}{fold}: {row['verdict']}{why}", file=sys.stderr)
    verdicts = {row["verdict"] for row in rows}
    raise typer.Exit(0 if verdicts == {"done"} else 2 if "invalid" in verdicts else 1)


def _plan(
    path: Path | None,
    objectives: list[str] | None,
    data: str | None,
    seeds: int | None,
    device: str | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
) -> "Plan":
    from ganzoo.config import read_plan

    changes = settings_of(settings)
    options = {"objectives": objectives, "data.set": data, "seeds": seeds, "device": device}
    changes |= {key: value for key, value in options.items() if value is not None}
    if plugins:
        # Absolute: the run's workers and a later resume may start elsewhere.
        changes["plugins"] = [str(plugin.resolve()) for plugin in plugins]
    return read_plan(path, **changes)


def _print_dry_run(prepared: Any, folder: Path, jobs: int, as_json: bool) -> None:
    from ganzoo.predict import predict
    from ganzoo.statistics import reach, smallest_p

    plan, data = prepared.plan, prepared.data
    contenders = len({cell.contender.label for cell in prepared.cells})
    sizes = [len(part.images) for part in data]
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "cells": [cell.model_dump(mode="json") for cell in prepared.cells],
                "images": dict(zip(data._fields, sizes, strict=True)),
                "smallest_p": smallest_p(plan.seeds),
                "reach": reach(plan.seeds, contenders),
                "prediction": predict(prepared, jobs).as_dict(),
            }
        )
        return
    for label in dict.fromkeys(cell.contender.label for cell in prepared.cells):
        folds = "" if plan.labels.folds is None else f" x {plan.labels.folds} folds"
        say(f"  {label}  x {plan.seeds} seeds{folds}")
    say(
        f"{len(prepared.cells)} cells of {plan.epochs} epochs on {data.train.name}"
        f" ({' / '.join(map(str, sizes))} images to train / validate / test), {jobs} at a time, recipe {plan.recipe}\n"
        f"{reach(plan.seeds, contenders)}\n"
        f"would write to {folder}"
    )
    sys.stdout.flush()
    say(predict(prepared, jobs).text())
