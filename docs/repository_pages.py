"""A hook of mkdocs: what the documentation links to elsewhere in the repository comes into the site.

Pages kept where GitHub and pip look for them (the changelog, the benchmarks' page) and the notebook become pages; a
linked figure, table or plan is copied; a linked folder, which a site cannot show, keeps its text and gains its path. A
link to what is not there is left as it is, for `mkdocs build --strict` to refuse.
"""

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results/reliability/README.md": "storm.md",
    "benchmarks/tour.ipynb": "tour.md",
}
"""Where a file of the repository stands in the site."""
LINK = re.compile(r"(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
FENCE = re.compile(r"(^```[\s\S]*?^```|^(?: {4}.*\n)+|`[^`\n]*`)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in PAGES.items():
        if place != "index.md":
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=notebook(text) if source.endswith(".ipynb") else text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    homes = {place: source for source, place in PAGES.items() if place != "index.md"}
    home = PurePosixPath(homes.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def placed(link: re.Match[str]) -> str:
        target, hash_, anchor = link["target"].partition("#")
        if not target or ":" in target:
            return link[0]
        path = os.path.normpath(home.parent / target)
        if path in PAGES:
            place = PAGES[path]
        elif path.startswith("docs/"):
            place = path.removeprefix("docs/")
        elif (ROOT / path).is_dir():
            return f"{link['text']} (`{path}`)"
        elif (ROOT / path).is_file() and not path.startswith(".."):
            place = f"repository/{path}"
            if files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
        else:
            return link[0]
        here = PurePosixPath(page.file.src_uri).parent
        return f"{link['bang']}[{link['text']}]({os.path.relpath(place, here)}{hash_}{anchor})"

    parts = FENCE.split(markdown)  # code, which holds no links, at odd places
    return "".join(part if i % 2 else LINK.sub(placed, part) for i, part in enumerate(parts))


def notebook(text: str) -> str:
    """The cells of a notebook as a page; their code in fences."""
    cells: list[dict[str, Any]] = json.loads(text)["cells"]
    shown = (
        f"```python\n{''.join(c['source'])}\n```" if c["cell_type"] == "code" else "".join(c["source"]) for c in cells
    )
    return "\n\n".join(shown) + "\n"
