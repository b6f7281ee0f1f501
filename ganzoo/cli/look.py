"""What there is: the welcome, `list`, `show`, `doctor`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import (
    Json,
    Plugins,
    app,
    indented,
    paired,
    print_json,
    say,
    warn_of_broken,
    width,
    wrapped,
    zoo_of,
)
from ganzoo.cli.complete import PENALTIES, complete_kind, complete_show
from ganzoo.errors import UserError, printable

NEXT = (
    ("ganzoo demo", "two objectives on handwritten digits, and the page of how they compare, in half a minute"),
    ("ganzoo new cost mine", "a cost of your own in one file; `ganzoo check mine.py` then proves or refutes it"),
    ("ganzoo check leaky", "what is known of a plugin: conditions, gradients, shapes, counterexamples"),
    ("ganzoo bench --dry-run", "what a comparison of all objectives would do, and how long it takes"),
)
"""What to type first."""
NEEDED = {
    "ganzoo demo": {"ls-gan", "wgan", "dcgan"},
    "ganzoo check leaky": {"leaky"},
    "ganzoo bench --dry-run": {"dcgan"},
}
"""The plugins that a command lives on."""


@app.callback()
def welcome(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    as_json: Json = False,
) -> None:
    if version:
        from importlib.metadata import version as of

        say(f"ganzoo {of('ganzoo')}")
        raise typer.Exit
    if as_json and context.invoked_subcommand is not None:
        raise UserError(f"--json goes after the command: ganzoo {context.invoked_subcommand} ... --json")
    if context.invoked_subcommand is None:
        _welcome(as_json)


def _welcome(as_json: bool) -> None:
    from ganzoo.hooks import KINDS
    from ganzoo.zoo.announced import VARIABLE, limit
    from ganzoo.zoo.listing import listing

    found, only = listing(), limit()
    if as_json:
        broken = [{"origin": str(b.origin), "reason": b.reason} for b in found.broken]
        print_json({**{kind: found.names(kind) for kind in KINDS}, "broken": broken, VARIABLE: only})
        return
    columns = width()
    say(wrapped("ganzoo: a zoo of GAN objectives, compared fairly on held-out images\n", columns))
    say(paired([(f"{kind}s", ", ".join(found.names(kind)) or "none") for kind in KINDS], columns))
    if only is not None:
        lets_in = ", ".join(only) or "nothing that is installed"
        say(wrapped(f"\n{VARIABLE} is set: it lets in {lets_in}.", columns))
    if found.broken:
        say("\nBroken:")
        say("\n".join(_broken(f"  {broken.origin}: {broken.reason}", columns) for broken in found.broken))
        asked = dict.fromkeys(broken.asked for broken in found.broken)
        say(wrapped("  more: " + ", ".join(f"ganzoo why {name}" for name in asked), columns))
    there = {name for kind in KINDS for name in found.names(kind)}
    steps = [(command, what) for command, what in NEXT if NEEDED.get(command, set()) <= there]
    if only is not None and len(steps) < len(NEXT):
        steps.append((f"unset {VARIABLE}", "all that is installed is let in again"))
    say("\nNext:")
    say(paired(steps, columns))


def _broken(text: str, columns: int | None) -> str:
    """One line, of which is left out what does not fit; a few where that would be nearly all of it."""
    line = printable(text)
    if columns is None or len(line) <= columns:
        return line
    return f"{line[: columns - 3]}..." if columns >= WIDE else wrapped(printable(text, 5 * WIDE), columns)


WIDE = 60
"""Columns from which on a line says enough."""


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(autocompletion=complete_kind)] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """What is installed: all of it, or one KIND (objective, cost, margin, generator, critic, engine, listener)."""
    from ganzoo.hooks import KINDS
    from ganzoo.zoo.announced import VARIABLE, limit
    from ganzoo.zoo.listing import listing

    zoo = listing(plugin or [])
    singular = kind.removesuffix("s") if kind is not None else None
    entries = zoo.of(singular if singular in KINDS else kind)
    if as_json:
        broken = [{"origin": str(b.origin), "reason": b.reason, "traceback": b.traceback} for b in zoo.broken]
        print_json({"plugins": [entry.about for entry in entries], "broken": broken})
        return
    if not entries:
        only = limit()
        says = "" if only is None else f": {VARIABLE} lets in {', '.join(only) or 'nothing that is installed'}"
        say(f"no {singular or 'plugin'} is installed{says}", file=sys.stderr)
        warn_of_broken(zoo)
        return
    longest = max(len(entry.name) for entry in entries)
    say(
        paired(
            [
                (
                    f"{entry.kind:<9}  {entry.name:<{longest}}",
                    entry.formula + ("" if entry.origin.ours else f"   [{entry.origin}]"),
                )
                for entry in entries
            ],
            width(),
            indent=0,
        )
    )
    warn_of_broken(zoo)


@app.command()
def show(
    name: Annotated[str, typer.Argument(autocompletion=complete_show)], plugin: Plugins = None, as_json: Json = False
) -> None:
    """A plugin's formula, its hyperparameters with their domains, its source and origin. NAME may be KIND/NAME; `plan`
    shows the keys of a plan, `r1`, `r2`, `dragan` and `theta_penalty` a penalty that goes with any objective."""
    from ganzoo.zoo import describe

    if name == "plan":
        from ganzoo.config import PLANS, Plan

        if as_json:
            print_json(Plan.schema_of_toml())
        else:
            say("# The defaults, those of the paper where it gives any. Not set: data.path, data.size.\n")
            say(Plan().toml().rstrip())
            say("\n# What `ganzoo bench` lays over them for the digits:\n")
            say("\n".join(f"# {line}".rstrip() for line in (PLANS / "digits.toml").read_text().splitlines()))
        return
    zoo = zoo_of(plugin)
    if name in PENALTIES and not any(entry.name == name for entry in zoo):
        _show_penalty(name, as_json)
        return
    entries = zoo.named(name)
    if as_json:
        print_json(describe(entries))
        return
    for i, (entry, described) in enumerate(zip(entries, describe(entries), strict=True)):
        say("\n" * bool(i) + f"{entry.kind} {entry.name}\n")
        say(indented(entry.doc or "(no docstring)", width()) + "\n")
        settings = [(one.name, f"{one.domain}; default {one.default}") for one in entry.hyperparameters.values()]
        origin = [("origin", str(entry.origin)), ("source", described["source"])]
        takes = [("takes", ", ".join(entry.inputs))] if entry.inputs else []
        say(paired([*takes, *settings, *origin], width()))


def _show_penalty(name: str, as_json: bool) -> None:
    import inspect

    from ganzoo import penalty

    function = penalty.PENALTIES[name]
    doc, code = inspect.getdoc(function) or "", inspect.unwrap(function).__code__
    use, source = f"-o OBJECTIVE:{name}=WEIGHT", f"{code.co_filename}:{code.co_firstlineno}"
    if as_json:
        print_json([{"kind": "penalty", "name": name, "doc": doc, "use": use, "source": source}])
        return
    say(f"penalty {name}\n")
    say(indented(doc, width()) + "\n")
    say(paired([("use", f"{use}   (WEIGHT times this, beside the critic's loss)"), ("source", source)], width()))


@app.command()
def doctor(plugin: Plugins = None, as_json: Json = False) -> None:
    """What is wrong with this installation, and the cure: torch, machine, plugins, data. Exit status 1 for a FAIL."""
    from ganzoo import doctor as diagnosis

    findings = diagnosis.examine(plugin or [], Path.cwd())
    if as_json:
        print_json(diagnosis.as_dicts(findings))
    else:
        say(diagnosis.text(findings, width()))
    raise typer.Exit(0 if diagnosis.healthy(findings) else 1)
