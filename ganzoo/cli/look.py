"""What there is: the welcome, `list`, `show`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from ganzoo.cli.app import Json, Plugins, app, print_json, say, warn_of_broken, zoo_of
from ganzoo.errors import UserError


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
        from ganzoo.hooks import KINDS

        zoo = zoo_of(None)
        if as_json:
            broken = [{"origin": str(b.origin), "reason": b.reason} for b in zoo.broken]
            print_json({**{kind: zoo.names(kind) for kind in KINDS}, "broken": broken})
            return
        say("ganzoo: a zoo of GAN objectives, compared fairly on held-out images\n")
        for kind in KINDS:
            say(f"  {kind + 's':<11} {', '.join(zoo.names(kind)) or 'none'}")
        warn_of_broken(zoo)
        say(
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

    zoo = zoo_of(plugin)
    entries = zoo.entries(kind.removesuffix("s")) if kind is not None else list(zoo)
    if as_json:
        broken = [{"origin": str(b.origin), "reason": b.reason, "traceback": b.traceback} for b in zoo.broken]
        print_json({"plugins": describe(entries), "broken": broken})
        return
    for entry in entries:
        formula = entry.doc.partition("\n")[0]
        foreign = "" if entry.origin.ours else f"   [{entry.origin}]"
        say(f"{entry.kind:<10} {entry.name:<12} {formula}{foreign}")
    warn_of_broken(zoo)


@app.command()
def show(name: str, plugin: Plugins = None, as_json: Json = False) -> None:
    """A plugin's formula, its hyperparameters with their domains, its source and origin. NAME may be KIND/NAME; `plan`
    shows the keys of a plan."""
    from ganzoo.zoo import describe

    if name == "plan":
        from ganzoo.config import PLANS, Plan

        if as_json:
            print_json(Plan.model_json_schema())
        else:
            say("# The defaults, those of the paper where it gives any. Not set: data.path, data.size.\n")
            say(Plan().toml().rstrip())
            say("\n# What `ganzoo bench` lays over them for the digits:\n")
            say("\n".join(f"# {line}".rstrip() for line in (PLANS / "digits.toml").read_text().splitlines()))
        return
    zoo = zoo_of(plugin)
    entries = zoo.named(name)
    if as_json:
        print_json(describe(entries))
        return
    for i, (entry, described) in enumerate(zip(entries, describe(entries), strict=True)):
        say("\n" * bool(i) + f"{entry.kind} {entry.name}\n")
        say("\n".join(f"  {line}".rstrip() for line in (entry.doc or "(no docstring)").splitlines()))
        if entry.inputs:
            say(f"\n  takes       {', '.join(entry.inputs)}")
        for hyperparameter in entry.hyperparameters.values():
            say(f"  {hyperparameter.name:<11} {hyperparameter.domain}; default {hyperparameter.default}")
        say(f"  origin      {entry.origin}\n  source      {described['source']}")


@app.command()
def doctor(plugin: Plugins = None, as_json: Json = False) -> None:
    """What is wrong with this installation, and the cure: torch, machine, plugins, data. Exit status 1 for a FAIL."""
    from ganzoo import doctor as diagnosis

    findings = diagnosis.examine(plugin or [], Path.cwd())
    if as_json:
        print_json(diagnosis.as_dicts(findings))
    else:
        say(diagnosis.text(findings))
    raise typer.Exit(0 if diagnosis.healthy(findings) else 1)
