"""One zip that holds what others need of a run, and nothing of the machine that made it. It opens without ganzoo."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from ganzoo.bench import FORMAT
from ganzoo.cell_folder import checkpoints
from ganzoo.config import Plan
from ganzoo.durable import Damaged, commit, json_bytes, load_checkpoint, read_sealed
from ganzoo.errors import UserError
from ganzoo.share.clean import cleaned, cleaned_json, own_paths, paths_in
from ganzoo.share.export import csv_bytes, flat
from ganzoo.share.opening import ABOUT, PAGE, README, SHARE
from ganzoo.share.reading import ReadRun, read_run, table_of

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file: the same run gives the same bytes."""
WHICH = {"generator": "best_generator", "generator-last": "generator", "critic": "critic"}
"""File of weights -> what of a checkpoint it holds."""
REPORT = "ganzoo.report.page"
MADE = "%Y-%m-%d %H:%M UTC"
"""How a page says when it was made."""


class Shared(NamedTuple):
    path: Path
    size: int
    """Bytes."""
    rows: int
    weights: int
    """Trainings whose networks are in it."""
    notes: tuple[str, ...]


def share(folder: Path, out: Path, *, weights: bool = True, force: bool = False) -> Shared:
    """Put what a run came to into the zip `out`, whole or not at all.

    Raises UserError for a folder that is no run, a run without a finished cell, an `out` that is not called .zip or is
    there already unless `force`, and a disk that does not take it.
    """
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a share is a zip; take -o {out.with_suffix('.zip') if out.name else 'FILE.zip'}")
    if out.exists() and not force:
        raise UserError(f"{out} is there already; take another -o, or --force")
    run = read_run(folder)
    if run.folder is None:
        raise UserError(f"{folder} is a share already; copy the file")
    run.require_some()
    said = _sealed(run.folder / "run.json")
    paths = paths_in([run.plan.model_dump(mode="json"), run.plan.toml(), run.rows, said])
    paths |= own_paths(run.folder, Path(str(run.folder.absolute())))
    packed = _Packed(run, paths)
    packed.texts(said)
    notes = packed.page()
    if weights:
        packed.weights()
    commit(out, packed.zipped())
    notes += [run.caveat] if run.caveat else []
    return Shared(out, out.stat().st_size, len(run.rows), packed.trained, tuple(notes))


def _sealed(path: Path) -> dict[str, Any]:
    try:
        return read_sealed(path)
    except UserError:
        return {}


class _Packed:
    """The files of a share, by name."""

    def __init__(self, run: ReadRun, paths: set[str]) -> None:
        self.run, self.paths = run, sorted(paths)
        self.files: dict[str, bytes] = {}
        self.trained, self.started = 0, ""
        self.plan: Plan = Plan.model_validate_json(json.dumps(self.cleaned(run.plan.model_dump(mode="json"))))
        self.rows: list[dict[str, Any]] = self.cleaned(run.rows)

    def cleaned(self, content: Any) -> Any:
        return cleaned_json(content, self.paths)

    def texts(self, said: dict[str, Any]) -> None:
        """Plan, rows, tables, environment."""
        lines = (json.dumps(row, allow_nan=False, sort_keys=True) + "\n" for row in self.rows)
        self.files["rows.jsonl"] = "".join(lines).encode()
        self.files["rows.csv"] = csv_bytes([flat(row) for row in self.rows])
        self.files["plan.toml"] = self.plan.toml().encode()
        self.files["baselines.json"] = json_bytes(self.run.baselines)
        text, summary = table_of(self.run._replace(plan=self.plan, rows=self.rows))
        self.files["table.txt"] = cleaned(text, self.paths).encode()
        self.files["summary.json"] = json_bytes(self.cleaned(summary))
        made_on = [
            json.loads(one) for one in sorted({json.dumps(row["fingerprint"], sort_keys=True) for row in self.run.done})
        ]
        self.started = str(said.get("started", ""))[:16].replace("T", " ") + " UTC"
        environment = {key: said[key] for key in ("versions", "commit", "device", "command") if key in said}
        self.files["environment.json"] = json_bytes(self.cleaned({**environment, "arithmetic": made_on}))

    def page(self) -> list[str]:
        """The run's page, cleaned; why there is none."""
        if find_spec(REPORT) is None:
            return ["without a page: this ganzoo makes none"]
        assert self.run.folder is not None
        began = datetime.now(UTC)
        with TemporaryDirectory(prefix="ganzoo-") as folder:
            made: Path = import_module(REPORT).write_page(self.run.folder, Path(folder) / PAGE)
            text = cleaned(made.read_text(encoding="utf-8"), [*self.paths, folder])
        # Of when the run was started, not of now: the same run gives the same bytes.
        for now in (began, datetime.now(UTC)):
            text = text.replace(now.strftime(MADE), self.started)
        self.files[PAGE] = text.encode()
        return []

    def weights(self) -> None:
        """The networks of every cell that is done, as safetensors: they hold no code."""
        assert self.run.folder is not None
        for clean, row in zip(self.rows, self.run.rows, strict=True):
            if row["verdict"] != "done":
                continue
            directory = next((self.run.folder / "cells").glob(f"*-{row['cell'][:8]}"), None)
            state = None if directory is None else _newest(directory)
            if state is None:
                raise UserError(
                    f"{row['label']} seed {row['seed']} has no whole checkpoint; `ganzoo verify {self.run.name}` says"
                    " what there is; share the rows --without-weights"
                )
            self.trained += 1
            about = {key: clean[key] for key in ("label", "seed", "fold", "cell")}
            for name, part in WHICH.items():
                if state[part]:
                    self.files[f"weights/{folder_name(clean)}/{name}.safetensors"] = weight_bytes(state[part], about)

    def zipped(self) -> bytes:
        """The zip: the same bytes for the same files."""
        run = self.run
        self.files[README] = readme(self.plan, self.rows, self.files).encode()
        about = {
            "share": SHARE,
            "format": FORMAT,
            "unfinished": run.unfinished,
            "core_sha256": sorted(run.core),
            "files": {name: hashlib.sha256(self.files[name]).hexdigest() for name in sorted(self.files)},
        }
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in ((README, self.files[README]), (ABOUT, json_bytes(about)), *self._rest()):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = 0o100644 << 16
                # Weights are noise to a packer.
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
                entry.create_system = 3
                archive.writestr(entry, content, compresslevel=9)
        return out.getvalue()

    def _rest(self) -> Iterator[tuple[str, bytes]]:
        yield from ((name, self.files[name]) for name in sorted(self.files) if name != README)


def folder_name(row: dict[str, Any]) -> str:
    """A cell's folder within a share: as in the run, but of the cleaned label."""
    label = "".join(c if (c.isascii() and c.isalnum()) or c in ".-" else "_" for c in row["label"].lower())[:40]
    fold = "" if row["fold"] is None else f"-fold{row['fold']}"
    return f"{label}-seed{row['seed']}{fold}-{row['cell'][:8]}"


def _newest(directory: Path) -> dict[str, Any] | None:
    for path in checkpoints(directory):
        with suppress(Damaged):
            return load_checkpoint(path)
    return None


def weight_bytes(state: dict[str, Tensor], about: dict[str, Any]) -> bytes:
    """A state dict in the safetensors format; `about` stands in its head as JSON, under one key: of several the order
    would be another each time."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if not all(value.layout == torch.strided for value in plain.values()):
        raise UserError("a state dict holds what is no plain tensor")
    return safetensors.torch.save(plain, {"ganzoo": json.dumps(about, sort_keys=True)})


TEXT = Template(
    """# A shared run of ganzoo

What $contenders came to over $seeds on `$data`, measured by $measure.
Everything here opens without ganzoo; nothing in it is executed.

| file | what it is |
|---|---|
| `table.txt` | the result, ranked, with what its figures mean |
$page| `rows.csv` | a row for every training, for a spreadsheet |
| `rows.jsonl` | the same, complete, a JSON object a line: settings, seeds, hashes, curves, versions |
| `summary.json` | the ranking as JSON |
| `baselines.json` | what needs no generator, on the same test images |
| `plan.toml` | what was asked for: `ganzoo bench plan.toml` does it again |
| `environment.json` | versions, commit, processor, command |
$weights| `share.json` | the version of this format, and the sha256 of every file |

Paths of the machine that made it were cut down to their last part. Data are not in it; rows hold their sha256.

## Read the rows

```python
import json

rows = [json.loads(line) for line in open("rows.jsonl", encoding="utf-8")]
for row in rows:
    print(row["label"], row["seed"], row["verdict"], row.get("$figure"))
```
$load
## With ganzoo

    ganzoo open FILE.zip              # judged before anything is written; prints the table
    ganzoo compare FILE.zip MY-RUN    # refuses what is not measured alike
"""
)
WEIGHTS_LINE = "| `weights/*/*.safetensors` | the networks of each training that is done, without any code |\n"
PAGE_LINE = "| `page.html` | the same with curves, samples and health, in any browser, offline |\n"
LOAD = Template(
    """
## Load the weights

```python
from safetensors.torch import load_file  # pip install safetensors torch

state = load_file("weights/$example/generator.safetensors")
for name, tensor in state.items():
    print(name, tuple(tensor.shape), tensor.dtype)
```

`generator` is of the epoch that is best on validation, the one the test error is of; `generator-last` and `critic` are
of the last round. Generator: `$generator`. Critic: `$critic`. z is uniform in [-1, 1]^$z_dim, images are in [-1, 1].
"""
)


def readme(plan: Plan, rows: list[dict[str, Any]], files: dict[str, bytes]) -> str:
    """How to open a share without ganzoo."""
    done = [row for row in rows if row["verdict"] == "done"]
    labels = len({row["label"] for row in rows})
    seeds = len({row["seed"] for row in rows})
    example = next((name.split("/")[1] for name in sorted(files) if name.startswith("weights/")), None)
    networks = {
        kind: ", ".join(f"{key}={value}" for key, value in getattr(plan, kind).model_dump().items())
        for kind in ("generator", "critic")
    }
    figure = "test_mre" if plan.measure == "mre" else "test_accuracy"
    if plan.measure == "accuracy" and done and done[0]["test_accuracy"] is None:
        figure = "validation_accuracy"
    return TEXT.substitute(
        contenders=f"{labels} objective{'s' * (labels > 1)}",
        seeds=f"{seeds} seed{'s' * (seeds > 1)}",
        data=plan.data.set,
        measure="the reconstruction of test images (MRE)" if plan.measure == "mre" else "classification",
        figure=figure,
        page=PAGE_LINE if PAGE in files else "",
        weights=WEIGHTS_LINE if example else "",
        load=LOAD.substitute(example=example, z_dim=plan.z_dim, **networks) if example else "",
    )
