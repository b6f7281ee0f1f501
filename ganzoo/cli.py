"""The command: parses, calls, prints. Nothing heavy is imported before it is needed."""

import io
import json
import os
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.errors import UserError, did_you_mean, printable, printable_lines

if TYPE_CHECKING:
    from ganzoo.config import Plan
    from ganzoo.zoo import Entry, Zoo

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A plugin-based zoo of GAN objectives, compared fairly on held-out images.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", "-p", metavar="PATH", help="A plugin file or folder, beside what is installed."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def main() -> None:
    """Exit status 2 for a user's slip, 1 for a failed or diverged cell or check, 75 where another process is at work or
    after SIGUSR2, 130 after Ctrl-C, 143 after SIGTERM, 0 otherwise."""
    from ganzoo.pulse import Stopped

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _leave)
    warnings.formatwarning = lambda message, *_, **__: f"ganzoo: {message}\n"
    # By version, typer carries a copy of click or takes the installed one; the class has the same name in both.
    slip: type[typer.BadParameter] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a formula in a terminal that has only ASCII
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()  # a reader that left early is met here, not while Python exits
    except UserError as error:
        from ganzoo.lock import Busy

        _end(str(error), 75 if isinstance(error, Busy) else 2)
    except Stopped as stopped:
        _end("stopped and saved; the same command resumes where this one stopped", stopped.status)
    except slip as error:
        _end(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted; the same command resumes where this one stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if status == 130:  # how typer returns a KeyboardInterrupt
        _end("interrupted; the same command resumes where this one stopped", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _leave(number: int, _: object) -> None:
    """While nothing is at work that could be saved. An exception might meet an import that swallows it."""
    os.write(2, b"ganzoo: stopped; the same command resumes where this one stopped\n")
    os._exit(75 if number == signal.SIGUSR2 else 128 + number)


def _end(message: str, status: int) -> None:
    print(f"ganzoo: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


def _say(text: str, file: IO[str] | None = None) -> None:
    """For people: what a plugin, a plan or a file put into it does nothing to their terminal."""
    print(printable_lines(text), file=file or sys.stdout)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, allow_nan=False, default=str))


def _zoo(plugins: list[Path] | None) -> "Zoo":
    from ganzoo.zoo import Zoo

    return Zoo.installed(*(plugins or []))


def _warn_of_broken(zoo: "Zoo") -> None:
    for broken in zoo.broken:
        _say(f"broken: {broken.origin}: {broken.reason}", file=sys.stderr)


@app.callback()
def welcome(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    as_json: Json = False,
) -> None:
    if version:
        from importlib.metadata import version as of

        _say(f"ganzoo {of('ganzoo')}")
        raise typer.Exit
    if as_json and context.invoked_subcommand is not None:
        raise UserError(f"--json goes after the command: ganzoo {context.invoked_subcommand} ... --json")
    if context.invoked_subcommand is None:
        from ganzoo.hooks import KINDS

        zoo = _zoo(None)
        if as_json:
            broken = [{"origin": str(b.origin), "reason": b.reason} for b in zoo.broken]
            _print_json({**{kind: zoo.names(kind) for kind in KINDS}, "broken": broken})
            return
        _say("ganzoo: a zoo of GAN objectives, compared fairly on held-out images\n")
        for kind in KINDS:
            _say(f"  {kind + 's':<11} {', '.join(zoo.names(kind)) or 'none'}")
        _warn_of_broken(zoo)
        _say(
            "\nNext:\n"
            "  ganzoo show gls-gan           a formula, its hyperparameters, its source\n"
            "  ganzoo check leaky            property-test a plugin, by name or file\n"
            "  ganzoo bench --dry-run        what a comparison on handwritten digits would do\n"
            "  ganzoo bench                  do it"
        )


@app.command("list")
def list_(kind: Annotated[str | None, typer.Argument()] = None, plugin: Plugins = None, as_json: Json = False) -> None:
    """What is installed: all of it, or one KIND (objective, cost, margin, generator, critic)."""
    from ganzoo.zoo import describe

    zoo = _zoo(plugin)
    entries = zoo.entries(kind.removesuffix("s")) if kind is not None else list(zoo)
    if as_json:
        broken = [{"origin": str(b.origin), "reason": b.reason, "traceback": b.traceback} for b in zoo.broken]
        _print_json({"plugins": describe(entries), "broken": broken})
        return
    for entry in entries:
        formula = entry.doc.partition("\n")[0]
        foreign = "" if entry.origin.ours else f"   [{entry.origin}]"
        _say(f"{entry.kind:<10} {entry.name:<12} {formula}{foreign}")
    _warn_of_broken(zoo)


@app.command()
def show(name: str, plugin: Plugins = None, as_json: Json = False) -> None:
    """A plugin's formula, its hyperparameters with their domains, its source and origin. NAME may be KIND/NAME; `plan`
    shows the keys of a plan."""
    from ganzoo.zoo import describe

    if name == "plan":
        from ganzoo.config import PLANS, Plan

        if as_json:
            _print_json(Plan.model_json_schema())
        else:
            _say("# The defaults, those of the paper where it gives any. Not set: data.path, data.size.\n")
            _say(Plan().toml().rstrip())
            _say("\n# What `ganzoo bench` lays over them for the digits:\n")
            _say("\n".join(f"# {line}".rstrip() for line in (PLANS / "digits.toml").read_text().splitlines()))
        return
    zoo = _zoo(plugin)
    entries = zoo.named(name)
    if as_json:
        _print_json(describe(entries))
        return
    for i, (entry, described) in enumerate(zip(entries, describe(entries), strict=True)):
        _say("\n" * bool(i) + f"{entry.kind} {entry.name}\n")
        _say("\n".join(f"  {line}".rstrip() for line in (entry.doc or "(no docstring)").splitlines()))
        if entry.inputs:
            _say(f"\n  takes       {', '.join(entry.inputs)}")
        for hyperparameter in entry.hyperparameters.values():
            _say(f"  {hyperparameter.name:<11} {hyperparameter.domain}; default {hyperparameter.default}")
        _say(f"  origin      {entry.origin}\n  source      {described['source']}")


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
        _print_json([report.as_dict() for report in reports])
    else:
        _say("\n\n".join(report.text() for report in reports))
    raise typer.Exit(0 if all(report.passed for report in reports) else 1)


def _to_check(name: str, plugin: list[Path] | None) -> "tuple[Zoo, list[Entry]]":
    path = Path(name)
    if path.suffix == ".py" or os.path.isdir(name):  # a name of any length is no error to os.path
        zoo = _zoo([*(plugin or []), path])
        within = path.resolve()
        mine = [e for e in zoo if within in (p := Path(e.origin.plugin).resolve(), *p.parents)]
        for broken in zoo.broken:
            if within in (p := Path(broken.origin.plugin).resolve(), *p.parents):
                raise UserError(f"{broken.origin}: {broken.reason}")
        if not mine:
            raise UserError(f"no plugin in {name}: no *.py file that does not begin with _ or test_")
        return zoo, mine
    zoo = _zoo(plugin)
    return zoo, zoo.named(name)


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
    zoo = _zoo([Path(path) for path in chosen.plugins])
    _warn_of_broken(zoo)
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
            _say(f"{len(prepared.cells)} cells in {folder}; train them with: {command}")
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
        _print_json({"folder": str(folder), **summary})
    else:
        _say(text)
        _say(f"rows      {folder / 'rows.jsonl'}")
        for figure in figures:
            _say(f"figure    {figure}")
    for note in dict.fromkeys(f"{row['label']}: {note}" for row in rows for note in row.get("notes", ())):
        _say(note, file=sys.stderr)
    for row in rows:
        if row["verdict"] != "done":
            fold = "" if row["fold"] is None else f" fold {row['fold']}"
            why = f": {row['reason']}" if row.get("reason") else ""
            _say(f"{row['label']} seed {row['seed']}{fold}: {row['verdict']}{why}", file=sys.stderr)
    verdicts = {row["verdict"] for row in rows}
    raise typer.Exit(0 if verdicts == {"done"} else 2 if "invalid" in verdicts else 1)


def _settings(settings: list[str] | None) -> dict[str, Any]:
    """The `--set KEY=VALUE` of a command line."""
    from ganzoo.config import value_of

    changes: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected KEY=VALUE")
        changes[key.strip()] = value_of(value.strip())
    return changes


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

    changes = _settings(settings)
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
        _print_json(
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
        _say(f"  {label}  x {plan.seeds} seeds{folds}")
    _say(
        f"{len(prepared.cells)} cells of {plan.epochs} epochs on {data.train.name}"
        f" ({' / '.join(map(str, sizes))} images to train / validate / test), {jobs} at a time, recipe {plan.recipe}\n"
        f"{reach(plan.seeds, contenders)}\n"
        f"would write to {folder}"
    )
    sys.stdout.flush()
    _say(predict(prepared, jobs).text())


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
    found = measure_checkpoint(checkpoint, split, images, last, _settings(settings))
    if as_json:
        _print_json(found)
        return
    for key, value in found.items():
        _say(f"{key:<16} {value:.4f}" if isinstance(value, float) else f"{key:<16} {value}")


@app.command()
def doctor(plugin: Plugins = None, as_json: Json = False) -> None:
    """What is wrong with this installation, and the cure: torch, machine, plugins, data. Exit status 1 for a FAIL."""
    from ganzoo import doctor as diagnosis

    findings = diagnosis.examine(plugin or [], Path.cwd())
    if as_json:
        _print_json(diagnosis.as_dicts(findings))
    else:
        _say(diagnosis.text(findings))
    raise typer.Exit(0 if diagnosis.healthy(findings) else 1)


@app.command("worker")
def worker_(
    folder: Annotated[Path, typer.Option("--claim", metavar="RUN", help="The run's folder.")],
    retries: Annotated[int, typer.Option(min=0, max=1_000_000, help="Of a cell whose process dies or hangs.")] = 2,
    lost_seconds: Annotated[float, typer.Option(min=2, help="Without a sign of life: a cell is taken over.")] = 30.0,
    hang_seconds: Annotated[float, typer.Option(min=2, help="Without a finished round: the worker hangs.")] = 900.0,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Resume where numbers round differently; the result says so.")
    ] = False,
) -> None:
    """Train what is not finished in a run's folder, beside any others who do the same, on any machine that sees it."""
    from ganzoo.claim import claim
    from ganzoo.seam import Policy

    policy = Policy(retries, lost_seconds, hang_seconds, ("--allow-inexact",) if allow_inexact else ())
    raise typer.Exit(claim(folder, policy, lambda line: print(printable(line), file=sys.stderr, flush=True)))


@app.command()
def verify(folder: Annotated[Path, typer.Argument(metavar="RUN")], as_json: Json = False) -> None:
    """Read all of a run's folder: what is whole, what is not, what a resume would do. Exit status 1 for damage."""
    from ganzoo.verify import verify as verified

    found = verified(folder)
    if as_json:
        _print_json(found.as_dict())
    else:
        _say(found.text())
    raise typer.Exit(0 if found.is_whole else 1)


@app.command()
def paper(
    name: Annotated[str | None, typer.Argument(metavar="[ITEM]", show_default=False)] = None,
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
            _print_json(listed)
            return
        _say(papers.listing(listed))
        return
    made = papers.make(name, items, size=size, data=data, path=path, device=device, out=out, jobs=jobs)
    if as_json:
        _print_json(made)
        return
    _say(made["text"])
    _say("\n".join(made["files"]))


if __name__ == "__main__":
    main()
