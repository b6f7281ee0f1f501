"""Where a plugin came from, and why one of them is refused."""

import re
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ganzoo.hooks import PROJECT


@dataclass(frozen=True)
class Origin:
    """Where a plugin came from: a distribution with its version, or a file."""

    plugin: str
    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None
    """The name under which the distribution announces it."""

    def __str__(self) -> str:
        return self.plugin if self.distribution is None else f"{self.distribution} {self.version} ({self.plugin})"

    @property
    def ours(self) -> bool:
        return self.distribution == PROJECT


@dataclass(frozen=True)
class Broken:
    """A plugin, or one function of it, that the zoo refuses."""

    origin: Origin
    reason: str
    traceback: str = ""
    claims: tuple[str, str] | None = None
    """The (kind, name) that nobody has, because several claim it."""
    subject: tuple[str, str] | None = None
    """The (kind, name) of the function that is refused; None where the whole plugin is."""
    source: str = ""
    """FILE:LINE of that function, or FILE of the plugin; empty where neither is known."""

    @property
    def asked(self) -> str:
        """What `ganzoo why` finds it by, as one types it."""
        if self.claims is not None:
            return "/".join(self.claims)
        origin = self.origin
        return shlex.quote(origin.plugin if origin.distribution is None else origin.entry_point or origin.distribution)


def normal(distribution: str) -> str:
    """A distribution's name as the package index compares it: `Acme.Costs` is `acme-costs`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def module_file(module: str) -> Path | None:
    """The source file that an import of this module would run, found without importing anything; None where it is not
    to be found so (no such module, a namespace package, a module without a file)."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, AttributeError, ValueError):  # ValueError: something put itself into sys.modules without one
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    for place in spec.submodule_search_locations or ():
        within = Path(place, *rest)
        for path in (within / "__init__.py", within.with_name(f"{within.name}.py")):
            if path.is_file():
                return path
    return None
