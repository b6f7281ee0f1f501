"""The command's root, and what every command's screen is made of."""

import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ganzoo.errors import UserError, printable_lines

if TYPE_CHECKING:
    from ganzoo.zoo import Zoo

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


def say(text: str, file: IO[str] | None = None) -> None:
    """For people: what a plugin, a plan or a file put into it does nothing to their terminal."""
    print(printable_lines(text), file=file or sys.stdout)


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, allow_nan=False, default=str))


def zoo_of(plugins: list[Path] | None) -> "Zoo":
    from ganzoo.zoo import Zoo

    return Zoo.installed(*(plugins or []))


def warn_of_broken(zoo: "Zoo") -> None:
    for broken in zoo.broken:
        say(f"broken: {broken.origin}: {broken.reason}", file=sys.stderr)


def settings_of(settings: list[str] | None) -> dict[str, Any]:
    """The `--set KEY=VALUE` of a command line."""
    from ganzoo.config import value_of

    changes: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected KEY=VALUE")
        changes[key.strip()] = value_of(value.strip())
    return changes
