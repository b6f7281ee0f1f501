"""`bench`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.cli.app import (
    Json,
    Plugins,
    app,
    fitted,
    print_json,
    say,
    settings_of,
    warn_of_broken,
    width,
    wrapped,
    zoo_of,
)
from ganzoo.cli.complete import complete_data, complete_engine, complete_listener, complete_objective
from ganzoo.cli.leaving import ctrl_c_leaves
from ganzoo.errors import printable

if TYPE_CHECKING:
    from ganzoo.config import Plan


@app.command()
def bench(
    plan: Annotated[Path | None, typer.Argument(metavar="[PLAN.toml]", show_default=False)] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            "-o",
            help="NAME or NAME:key=v1,v2,key=v; may be repeated.",
            autocompletion=complete_objective,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", help="digits, mnist, cifar10, folder, npz, npy, ...", autocompletion=complete_data
        ),
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
        str,
        typer.Option(
            help="Who starts the workers: local, ray, or another's; NAME:key=value,key=value.",
            autocompletion=complete_engine,
        ),
    ] = "local",
    address: Annotated[str | None, typer.Option(help="Of the engine's cluster.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of a cell whose process dies or hangs.")] = 2,
    lost_seconds: Annotated[float, typer.Option(min=2, help="Without a sign of life: the worker is lost.")] = 30.0,
    hang_seconds: Annotated[float, typer.Option(min=2, help="Without a finished round: the worker hangs.")] = 900.0,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Resume where numbers round differently; the result says so.")
    ] = False,
    listener: Annotated[
        list[str] | None,
        typer.Option(
            "--listener",
            metavar="NAME[:key=value]",
            help="Who hears rows and pictures: tensorboard, ...",
            autocompletion=complete_listener,
        ),
    ] = None,
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
    from ganzoo.processes import start_server

    # Until there is something to save: what is imported for seconds might swallow an exception.
    with ctrl_c_leaves():
        if out is not None and not dry_run:
            require_free(out)  # said at once, not after seconds of imports
        if not dry_run and device in (None, "cpu"):
            start_server()  # first: it imports torch while we do
        from ganzoo import bench as benching
        from ganzoo.delivery import asked_listeners, both, listening
        from ganzoo.durable import commit, commit_json
        from ganzoo.lattice import same_games
        from ganzoo.progress import following
        from ganzoo.seam import Policy

        chosen = _plan(plan, objective, data, seeds, device, settings, plugin)
        zoo = zoo_of([Path(path) for path in chosen.plugins])
        warn_of_broken(zoo)
        heard_by = asked_listeners(listener or (), zoo)
        prepared = benching.prepare(chosen, zoo)
        chosen = prepared.plan
        for name in prepared.left_out:
            say(f"note: {printable(name, 80)} is left out: it needs images of at least 2 classes", file=sys.stderr)
        for same in same_games({c.contender.label: c.contender for c in prepared.cells}.values(), zoo, chosen.recipe):
            shown = same._replace(one=printable(same.one, 80), other=printable(same.other, 80))
            say(f"note: {shown.text}", file=sys.stderr)
        folder = out or Path("runs") / f"{plan.stem if plan else chosen.data.set}-{chosen.sha256[:8]}"
        at_once = jobs or benching.natural_jobs(chosen)
        policy = Policy(retries, lost_seconds, hang_seconds, (benching.INEXACT,) if allow_inexact else ())
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
        with listening(heard_by, prepared, folder) as heard:
            with following(prepared, folder, at_once) as tell:
                rows = run.train(at_once, both(tell, heard.tell), placing, policy)
            heard.finished(rows)
        from ganzoo.report import reported
        from ganzoo.report.figures import draw  # matplotlib: not before the work is done

        text, summary = reported(chosen, rows, run.baselines(), folder)
        commit(folder / "table.txt", text.encode())
        commit_json(folder / "summary.json", summary)
        figures = draw(rows, run.baselines(), folder)
    if as_json:
        print_json({"folder": str(folder), **summary})
    else:
        say(fitted(text, width()))
        say(f"rows      {folder / 'rows.jsonl'}")
        for figure in figures:
            say(f"figure    {figure}")
        ours = "".join(f" -p {shlex.quote(path)}" for path in chosen.plugins)
        say(f"page      made by: ganzoo report {shlex.quote(str(folder))}{ours}")
        for entry, _ in heard_by:
            say(f"listener  {folder / 'listeners' / entry.name}")
    notes = [f"{row['label']}: {note}" for row in rows for note in row.get("notes", ())]
    for note in dict.fromkeys([*notes, *heard.notes()]):
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
    from ganzoo.bench import due
    from ganzoo.predict import free_mb, predict
    from ganzoo.report.text import few_images
    from ganzoo.statistics import enough, needed_p, reach, smallest_p

    plan, data = prepared.plan, prepared.data
    found = due(prepared, folder)
    contenders = list(dict.fromkeys(cell.contender.label for cell in prepared.cells))
    sizes = [len(part.images) for part in data]
    todo = prepared._replace(cells=[one.cell for one in found if one.cached is None])
    free = free_mb(folder)
    if as_json:
        predicted = predict(todo, jobs).as_dict() if todo.cells else None
        print_json(
            {
                "folder": str(folder),
                "cells": [cell.model_dump(mode="json") for cell in prepared.cells],
                "left_out": list(prepared.left_out),
                "cached": {one.cell.directory: one.cached for one in found if one.cached is not None},
                "resumed": {one.cell.directory: one.round for one in found if one.cached is None and one.round},
                "images": dict(zip(data._fields, sizes, strict=True)),
                "smallest_p": smallest_p(plan.seeds),
                "needed_p": needed_p(len(contenders)),
                "reach": reach(plan.seeds, len(contenders)),
                "prediction": predicted,
                "free_mb": free,
            }
        )
        return
    columns = width()
    for label in contenders:
        folds = "" if plan.labels.folds is None else f" x {plan.labels.folds} folds"
        its = [one for one in found if one.cell.contender.label == label]
        say(wrapped(f"  {label}  x {plan.seeds} seeds{folds}: {_counts(its)}", columns))
    few = few_images(min(plan.test_images, len(data.test.images)))
    said = (
        f"{len(prepared.cells)} cells of {plan.epochs} epochs on {data.train.name}"
        f" ({' / '.join(map(str, sizes))} images to train / validate / test), {jobs} at a time, recipe {plan.recipe}:"
        f" {_counts(found)}\n"
        f"{enough(plan.seeds, len(contenders))}\n" + (few and f"{few}\n") + f"would write to {folder}"
    )
    say(wrapped(said, columns))
    sys.stdout.flush()
    if not todo.cells:
        say("nothing to train: the same command without --dry-run prints the table")
        return
    foretold = predict(todo, jobs)
    short = (
        f", which is not enough: {free:,.0f} MB are free"
        if foretold.disk_mb > free
        else f" of {free / 1000:,.1f} GB free"
    )
    say(wrapped(f"{foretold.text()}{short}", columns))


def _counts(found: list[Any]) -> str:
    """`8 seeds: 5 cached, 1 to resume, 2 to run`."""
    cached = sum(one.cached is not None for one in found)
    resumed = sum(one.cached is None and one.round > 0 for one in found)
    parts = {"cached": cached, "to resume": resumed, "to run": len(found) - cached - resumed}
    return ", ".join(f"{count} {what}" for what, count in parts.items() if count)
