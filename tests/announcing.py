"""Distributions that announce plugins, written to a folder for sys.path: what `pip install` would leave there."""

from pathlib import Path

HEAD = "from typing import Annotated\nfrom annotated_types import Ge, Le\nimport ganzoo\n"
COST = HEAD + "@ganzoo.cost\ndef {name}(a):\n    return a\n"


def announce(
    site: Path,
    name: str,
    source: str | dict[str, str],
    *,
    entry_points: str | None = None,
    version: str = "1.0",
) -> Path:
    """The module, or the package where `source` gives its files, and its metadata in `site`; returns `site`."""
    site.mkdir(parents=True, exist_ok=True)
    if isinstance(source, str):
        (site / f"{name}.py").write_text(source, encoding="utf-8")
    else:
        for path, text in source.items():
            (site / name / path).parent.mkdir(parents=True, exist_ok=True)
            (site / name / path).write_text(text, encoding="utf-8")
    information = site / f"{name}-{version}.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    announced = f"[ganzoo]\n{name} = {name}\n" if entry_points is None else f"[ganzoo]\n{entry_points}\n"
    (information / "entry_points.txt").write_text(announced, encoding="utf-8")
    return site
