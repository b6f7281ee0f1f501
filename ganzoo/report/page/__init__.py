"""report.html: what a run came to, as one file that opens offline, by double click, also while the run goes on.

No network, no file beside it; a Content-Security-Policy of hashes lets only the page's own style and script through, so
that nothing that a plugin, a data set or a path put into a name can run.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ganzoo.durable import commit
from ganzoo.errors import UserError, printable
from ganzoo.report.page import drawing
from ganzoo.report.page.contenders import contenders_of, status_of
from ganzoo.report.page.costs import costs_of, labels_without_cost
from ganzoo.report.page.curves import chart_of, dynamics_of, table_of
from ganzoo.report.page.health import health_of
from ganzoo.report.page.origin import origin_of
from ganzoo.report.page.pictures import by_rank, kept_of
from ganzoo.report.page.run_folder import RunFolder, read_run
from ganzoo.report.page.standings import standings_of, verdict_of
from ganzoo.report.text import named, number, span

LARGEST_PAGE = 3_000_000
"""Bytes."""
GENERATOR = "ganzoo report"
"""How a page says what made it."""


def write_page(folder: Path, out: Path | None = None, plugins: Sequence[Path] = ()) -> Path:
    """The page of the run in `folder` at `out`, by default FOLDER/report.html. Returns where it is.

    The run is only read, and may go on meanwhile; what is missing or damaged is left out and named on the page. The
    code of a cost is looked for among what is installed and in `plugins` alone: what a plan names is not run.
    Raises UserError for a folder that is no run's or one of another version, a damaged plan, a folder of `out` that is
    not there, and an `out` that holds something else than a page.
    """
    path = _free(folder / "report.html" if out is None else out, folder)
    commit(path, page(read_run(folder), plugins).encode())
    return path


def _free(out: Path, folder: Path) -> Path:
    """Raises UserError where nothing may be written."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file: {out / 'report.html'}")
    if folder.is_dir() and not out.parent.is_dir():
        raise UserError(f"cannot write {out}: there is no folder {out.parent}; make it, or take another --out")
    if out.is_file():
        with out.open("rb") as file:
            known = f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(2000)
        if not known:
            raise UserError(f"{out} is there and is no page of ganzoo; take another --out")
    return out


def page(run: RunFolder, plugins: Sequence[Path] = ()) -> str:
    """The page as HTML."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    contenders = contenders_of(run)
    kept = kept_of(run, contenders)
    said = [*run.said, *kept.said]
    costs = costs_of(run, {label: found for label, (_, found) in kept.by_label.items()}, plugins)
    standings = standings_of(run)
    content = {
        "policy": _policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "generator": GENERATOR,
        "version": version("ganzoo"),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "run": run,
        "plan": run.plan,
        "title": named(run.path.resolve().name),
        "status": status_of(run),
        "contenders": contenders,
        "standings": standings,
        "verdict": verdict_of(run, standings),
        "charts_shown": chart_of(run, contenders),
        "curve_table": table_of(run, contenders),
        "dynamics": dynamics_of(run, contenders),
        "shown": by_rank(kept.shown, standings),
        "originals": kept.originals,
        "costs": costs,
        "without_cost": [named(label) for label in labels_without_cost(run)],
        "health": health_of(run, contenders),
        "provenance": origin_of(run),
        "plan_text": run.plan.toml(),
        "latex": standings.latex,
        "said": [printable(line) for line in said],
    }
    return _environment().get_template("page.html").render(content)


def _asset(name: str) -> str:
    return (files("ganzoo.report.page") / "templates" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _policy(style: str, script: str) -> str:
    """What a browser may load and run: data: pictures, this very style, this very script, and nothing else."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ganzoo.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"named": named, "printable": printable, "number": number, "span": span, "minus": _minus}
    made.globals["longest_name"] = drawing.LONGEST_NAME
    return made


def _minus(text: str) -> str:
    """With a minus sign where a number has a hyphen; a hyphen alone is a figure that there is not."""
    if text == "-":
        return "\N{EN DASH}"
    return "\N{MINUS SIGN}" + text[1:] if text[:1] == "-" and text[1:2].isdigit() else text
