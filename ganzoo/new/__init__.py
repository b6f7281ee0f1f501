"""New plugins from templates: one file, or a distribution that can be installed. As written they pass their checks."""

import ast
import keyword
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from ganzoo.errors import UserError, did_you_mean
from ganzoo.hooks import KINDS

if TYPE_CHECKING:
    from jinja2 import Environment

    from ganzoo.checks import Report
    from ganzoo.zoo import Zoo
    from ganzoo.zoo.listing import Listing

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
LONGEST = 40
USES = {
    "objective": "ganzoo bench{plugin} -o {name} -o gls-gan",
    "cost": "ganzoo bench{plugin} -o gls-gan -o gls-gan:cost={name}",
    "margin": "ganzoo bench{plugin} -o gls-gan -o gls-gan:margin={name}",
    "generator": "ganzoo bench{plugin} -o gls-gan -o wgan-gp --set generator.name={name}",
    "critic": "ganzoo bench{plugin} -o gls-gan -o wgan-gp --set critic.name={name}",
    "engine": "ganzoo bench{plugin} -o gls-gan -o wgan-gp --engine {name}",
    "listener": "ganzoo bench{plugin} -o gls-gan -o wgan-gp --listener {name}",
}
"""How a comparison takes a plugin of each kind."""


class Named(NamedTuple):
    """A plugin to be: what the zoo, Python and the package index call it."""

    kind: str
    name: str
    """Of the zoo, `least-absolute`."""
    function: str
    """Of the function and of its file, `least_absolute`."""

    @property
    def reference(self) -> str:
        """What finds it, whatever else has its name."""
        return f"{self.kind}/{self.name}"

    @property
    def file(self) -> str:
        return f"{self.function}.py"

    @property
    def distribution(self) -> str:
        return f"ganzoo-{self.name}"

    @property
    def module(self) -> str:
        return f"ganzoo_{self.function}"

    def use(self, plugin: str = "") -> str:
        """The command that compares it; `plugin` is ` -p FILE` where it is not installed."""
        return USES[self.kind].format(name=self.name, plugin=plugin)


def named(kind: str, name: str, there: "Listing") -> Named:
    """The plugin of that kind and name. Raises UserError for a name that a file, a function or the zoo could not have,
    and for one that is taken."""
    if kind not in KINDS:
        raise UserError(f"no kind '{kind}'{did_you_mean(kind, KINDS)}")
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise UserError(
            f"'{shown}' is no name for {article(kind)} {kind}: a small letter, then small letters and digits, with"
            f" single - or _ between them, at most {LONGEST} in all; my-{kind}, say"
        )
    new = Named(kind, name.replace("_", "-"), name.replace("-", "_"))
    instead = f"; take another name, my-{new.name} say"
    if keyword.iskeyword(new.function):
        raise UserError(f"'{name}' is a keyword of Python{instead}")
    if new.function.startswith("test"):
        raise UserError(f"'{name}': pytest would take the function, and the zoo the file, for a test{instead}")
    if new.function in meanings(kind):
        raise UserError(f"'{name}' means something else in the file of {article(kind)} {kind}{instead}")
    if _importable(new.function):
        raise UserError(f"'{name}' is a module: in its folder, {new.file} would be imported in its place{instead}")
    from ganzoo.zoo.entry import AMBIGUOUS

    if new.name in AMBIGUOUS:
        raise UserError(f"'{name}' is ambiguous: {AMBIGUOUS[new.name]}")
    for one in there.of(kind):
        if one.name == new.name:
            raise UserError(f"{kind} '{new.name}' is there already, from {one.origin}{instead}")
    for broken in there.broken:
        if broken.claims == (kind, new.name):
            raise UserError(broken.reason)
    return new


def plugin_file(new: Named) -> str:
    """The one file: a formula, a domain and a test."""
    return _render(f"{new.kind}.py", function=new.function, tested=True)


def package_files(new: Named, table: str, doc: str) -> dict[str, str]:
    """The files of the distribution by their paths in it. `table`: the compliance table in Markdown, `doc`: the
    formula, both for the README."""
    import ganzoo

    about = {"kind": new.kind, "name": new.name, "function": new.function, "reference": new.reference}
    about |= {"distribution": new.distribution, "module": new.module, "version": ganzoo.__version__}
    about |= {"article": article(new.kind)}
    test = _render(f"{new.kind}_test.py", function=new.function)
    return {
        "pyproject.toml": _render("package/pyproject.toml", **about),
        "README.md": _render("package/README.md", **about, table=table.strip(), doc=doc, use=new.use()),
        f"src/{new.module}/__init__.py": _render("package/init.py", **about),
        f"src/{new.module}/{new.file}": package_source(new),
        f"tests/test_{new.file}": _render(
            "package/test.py", **about, uses=[name for name in ("torch", "Path") if name in test]
        ),
        ".github/workflows/test.yml": _render("package/test.yml", **about),
        ".gitignore": _render("package/gitignore", **about),
    }


def package_source(new: Named) -> str:
    """The plugin's module in the distribution; its test stands apart."""
    return _render(f"{new.kind}.py", function=new.function, tested=False)


def article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"


def require_own_module(new: Named) -> None:
    """Raises UserError where the distribution would hide a module that is installed."""
    if _importable(new.module):
        raise UserError(f"the module {new.module} is there already; take another name, my-{new.name} say")


def write(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write them all, or raise UserError and write none where one of them is there already."""
    paths = [folder / name for name in files]
    for path in paths:
        require_absent(path)
    try:
        for path, text in zip(paths, files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    return paths


def require_absent(path: Path) -> None:
    """Raises UserError where there is anything of that name: nothing is ever overwritten."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    raise UserError(f"{path} is there already; it is left as it is")


def judged(new: Named, zoo: "Zoo") -> "tuple[Report, str]":
    """The report of the plugin as it stands in the distribution, which the zoo then has, and its formula."""
    from ganzoo.checks import run_checks
    from ganzoo.checks.search import kept_in_cache

    with TemporaryDirectory() as folder, kept_in_cache():
        path = Path(folder) / new.file
        path.write_text(package_source(new), encoding="utf-8")
        zoo.add_file(path)
        entry = zoo.find(new.kind, new.name)
        return run_checks(entry, zoo), entry.doc.partition("\n")[0]


@cache
def meanings(kind: str) -> frozenset[str]:
    """The names that mean something in the file of that kind, whatever the plugin is called."""
    nodes = [*ast.walk(ast.parse(_render(f"{kind}.py", function="the_function", tested=True)))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return frozenset(names - {"the_function"})


def _importable(module: str) -> bool:
    """A module of Python or of an installed package. What lies in the working directory shadows nothing but itself."""
    here = Path.cwd()
    elsewhere = [path for path in sys.path if path and Path(path) != here]
    spec = PathFinder.find_spec(module, elsewhere)
    return module in sys.stdlib_module_names or (spec is not None and spec.loader is not None)


def _render(template: str, **about: object) -> str:
    return _environment().get_template(f"{template}.jinja").render(about)


@cache
def _environment() -> "Environment":
    # Not the usual braces: Python's sets and GitHub's workflows have those. No escaping: nothing here is HTML.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
