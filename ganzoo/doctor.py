"""What is wrong with an installation, and the cure: Python, torch, the machine, plugins, data, the working folder."""

import os
import platform
import re
import shutil
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ganzoo.errors import UserError, printable

if TYPE_CHECKING:
    from ganzoo.zoo import Entry, Zoo

Level = Literal["ok", "warn", "FAIL"]

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest that ganzoo is tested on."""
OLDEST_TORCH = (2, 11)
ENOUGH_DISK = 2 * 10**9
"""Bytes; a comparison of a few dozen cells on images of 64 x 64 fits."""
MARGIN = 6
"""Columns of a level and what stands below it."""
LAST_LINES = 3
"""Of a traceback: the line that failed, and what it said."""


class Finding(NamedTuple):
    """One line of the diagnosis."""

    level: Level
    what: str
    cure: str = ""
    """What to do; empty where nothing need be done."""
    details: tuple[str, ...] = ()
    """Lines that go with it: the end of a traceback."""


def examine(plugins: Sequence[Path] = (), folder: Path | None = None) -> list[Finding]:
    """All that can be found without a training. `plugins`: files and folders beside what is installed; `folder`: where
    runs would be written, by default the working folder, in which a file is written and removed again.

    Every plugin is imported and called once. Nothing is raised but KeyboardInterrupt.
    """
    found = [_python(), *_torch()]
    if all(finding.level != "FAIL" for finding in found):
        found += [_torchvision(), *_processors(), *_plugins(plugins), *_data()]
    return [*found, *_folder(folder or Path()), _ray()]


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing FAILs: the command's exit status is 0 then, else 1."""
    return all(finding.level != "FAIL" for finding in findings)


def text(findings: Sequence[Finding], columns: int | None = None) -> str:
    """For people: a line each, below it what goes with it and the cure, at the end the count. `columns`: of a terminal,
    where what is found goes on below itself; cures are never broken: they are there to be copied."""
    lines = []
    for finding in findings:
        what = printable(finding.what)
        # At least 14 columns of words: beside 6 of margin, fewer than that are a column of letters.
        shown = textwrap.wrap(what, max(columns - MARGIN, 14), break_on_hyphens=False) if columns else [what]
        lines += [f"{finding.level if i == 0 else '':<{MARGIN}}{line}" for i, line in enumerate(shown or [""])]
        lines += [f"{'':<{MARGIN}}| {printable(line)}" for line in finding.details]
        if finding.cure:
            lines.append(f"{'':<{MARGIN}}cure: {printable(finding.cure)}")
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warn", "FAIL")}
    lines.append(f"{counts['FAIL']} FAIL, {counts['warn']} warn, {counts['ok']} ok")
    return "\n".join(lines)


def as_dicts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """What `--json` prints."""
    return [finding._asdict() for finding in findings]


def _python() -> Finding:
    said = f"Python {platform.python_version()} in {sys.prefix}, {platform.system()} {platform.machine()}"
    if sys.version_info < (3, 11, 4):
        return Finding(
            "warn", f"{said}: its tarfile cannot refuse members that lead out of a folder", "update to 3.11.4 or newer"
        )
    if sys.version_info[:2] > PYTHONS[1]:
        tested = " to ".join(".".join(map(str, one)) for one in PYTHONS)
        return Finding("warn", f"{said}: ganzoo is tested on {tested}", "where something fails, take one of those")
    return Finding("ok", said)


def _torch() -> Iterator[Finding]:
    try:
        torch = import_module("torch")
        torch.ones(2).sum()
    except Exception as error:  # noqa: BLE001 (a broken installation may raise anything)
        yield Finding(
            "FAIL", f"torch cannot be imported: {_said(error)}", "pip install --force-reinstall torch", _last(error)
        )
        return
    said = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    oldest = ".".join(map(str, OLDEST_TORCH))
    if _numbers(torch.__version__) < OLDEST_TORCH:
        yield Finding(
            "FAIL", f"{said}: ganzoo needs {oldest} or newer", f"pip install -U 'torch>={oldest}' torchvision"
        )
        return
    yield Finding("ok", said)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _gpu(torch, number)
    elif any(Path("/dev").glob("nvidia[0-9]*")):
        built = torch.version.cuda
        why = "is built for CPUs alone" if built is None else f"wants a driver for CUDA {built}"
        yield Finding(
            "warn", f"there is a GPU, and this torch, which {why}, does not see it", "install the torch of your driver"
        )
    else:
        yield Finding("ok", "no GPU: everything runs on the CPU")


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 11) of 2.11.0a0+git1234."""
    return tuple(int(part) for part in re.findall(r"^(\d+)\.(\d+)", version)[0]) if version[:1].isdecimal() else (0,)


def _gpu(torch: Any, number: int) -> Finding:
    """One that is seen may still be too new, or too old, for what torch was built for; only work shows it."""
    try:
        about = torch.cuda.get_device_properties(number)
        said = f"cuda:{number} is {about.name}, {about.total_memory / 2**30:.0f} GiB"
        torch.ones(2, device=f"cuda:{number}").sum().item()
    except Exception as error:  # noqa: BLE001 (a broken installation may raise anything)
        cure = "install the torch of your driver and GPU, or take --device cpu"
        return Finding("FAIL", f"cuda:{number} does not compute: {_said(error)}", cure, _last(error))
    return Finding("ok", said)


def _torchvision() -> Finding:
    """A torchvision finds at its import whether it was built for this torch."""
    torch = import_module("torch")
    try:
        import_module("torchvision")
    except Exception as error:  # noqa: BLE001 (as above)
        said = _said(error)
        build = torch.__version__.partition("+")[2] or "cpu"
        here = f"torch is {torch.__version__}, torchvision {_version('torchvision') or 'not installed'}"
        cure = (
            f"install both from one place: pip install torchvision --index-url https://download.pytorch.org/whl/{build}"
        )
        if "torchvision::" in said:
            # The package index has a torchvision for GPUs, and does not say so in its version.
            if torch.__version__.endswith("+cpu") and not (_version("torchvision") or "+cpu").endswith("+cpu"):
                here = f"{here}: a torch for CPUs alone beside a torchvision for GPUs"
            return Finding("FAIL", f"torchvision was not built for this torch ({said}); {here}", cure, _last(error))
        return Finding("FAIL", f"torchvision cannot be imported: {said}; {here}", cure, _last(error))
    return Finding("ok", f"torchvision {_version('torchvision')}")


def _processors() -> Iterator[Finding]:
    torch: Any = import_module("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    bf16 = "with instructions for bf16" if able else "without instructions for bf16, so in fp32"
    yield Finding("ok", f"{cores} CPU cores ({torch.backends.cpu.get_cpu_capability()}), {bf16}")


def _plugins(paths: Sequence[Path]) -> Iterator[Finding]:
    from ganzoo.zoo import Zoo
    from ganzoo.zoo.announced import VARIABLE, limit

    only = limit()
    if only is not None:
        lets_in = ", ".join(only) or "nothing that is installed"
        yield Finding("warn", f"{VARIABLE} is set: it lets in {lets_in}", f"unset {VARIABLE} for all that is installed")
    zoo = Zoo()
    try:
        zoo.add_installed(only)
    except UserError as error:
        yield Finding("FAIL", str(error), f"unset {VARIABLE}, or name what is installed")
        zoo.add_installed()
    for path in paths:
        try:
            zoo.add_folder(path) if path.is_dir() else zoo.add_file(path)
        except (UserError, OSError) as error:
            if not any(broken.origin.plugin == str(path) for broken in zoo.broken):  # else it is told of below
                yield Finding("FAIL", str(error), "give the path of a plugin file or of a folder of them")
    homes: dict[str, list[Entry]] = {}
    for entry in zoo:
        homes.setdefault(_home(entry.origin), []).append(entry)
    for home, entries in homes.items():
        yield Finding("ok", f"{len(entries)} plugins of {home}: {', '.join(entry.name for entry in entries)}")
    if only is None and not any(entry.kind == "objective" for entry in zoo):
        yield Finding("FAIL", "no objective is installed", "pip install ganzoo, or pip install -e . in a checkout")
    for broken in zoo.broken:
        details = tuple(broken.traceback.strip().splitlines()[-LAST_LINES:])
        cure = f"{_removal(broken.origin)}; `ganzoo why {broken.asked}` says more"
        yield Finding("FAIL", f"{broken.origin}: {broken.reason}", cure, details)
    for entry in zoo:
        try:
            with redirect_stdout(sys.stderr):
                _called(entry, zoo)
        except UserError:
            continue  # it refuses these images or networks, in words
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            what = f"{entry.origin}: {entry.kind} '{entry.name}' raises {_said(error)}"
            yield Finding(
                "FAIL", what, f"{_removal(entry.origin)}; `ganzoo check {entry.name}` says more", _last(error)
            )


def _home(origin: Any) -> str:
    return origin.plugin if origin.distribution is None else f"{origin.distribution} {origin.version}"


def _removal(origin: Any) -> str:
    """All the rest works without it."""
    if origin.distribution is None:
        return "mend that file, or remove it"
    return f"pip install -U {origin.distribution}, or pip uninstall {origin.distribution}"


def _called(entry: "Entry", zoo: "Zoo") -> None:
    """The plugin once, at its defaults, on a few small images: whether it raises, not whether it is right."""
    import torch

    from ganzoo.checks import stand_ins
    from ganzoo.game import Need
    from ganzoo.randomness import seeded

    with seeded("doctor"):
        real, fake = torch.rand(4, *stand_ins.IMAGE).double() * 2 - 1, torch.rand(4, *stand_ins.IMAGE).double() * 2 - 1
        if entry.kind == "cost":
            entry.bind()(torch.linspace(-1, 1, 4))
        elif entry.kind == "margin":
            stand_ins.partner(entry)(real, fake)
        elif entry.kind == "generator":
            entry.bind()(8, (3, 32, 32))(torch.zeros(4, 8))
        elif entry.kind == "critic":
            entry.bind()((3, 32, 32), 1)(torch.zeros(4, 3, 32, 32))
        elif entry.kind == "objective":
            game = zoo.objective(entry.name, stand_ins.cost, stand_ins.margin)
            network = stand_ins.critic("doctor", outputs=stand_ins.outputs(game))
            critic = stand_ins.played(network, game)
            game.critic_loss(critic, real, fake)
            if Need.ALONE not in game.needs:
                game.generator_loss(critic, real, fake)


def _data() -> Iterator[Finding]:
    from ganzoo.data.official import OFFICIAL

    root = Path(os.environ.get("GANZOO_DATA") or "~/.cache/ganzoo").expanduser()
    there = [name for name, official in OFFICIAL.items() if (root / official.sign).exists()]
    absent = [name for name in OFFICIAL if name not in there]
    yield Finding("ok", f"data sets in {root}: {', '.join(['digits (with scikit-learn)', *there])}")
    if absent:
        yield Finding("ok", f"data sets not there: {', '.join(absent)}; `--set data.download=true` fetches them")
    there_is = next((place for place in (root, *root.parents) if place.exists()), root)
    if not os.access(there_is, os.W_OK | os.X_OK):
        what = f"{root} cannot be written to: no data set can be fetched to it"
        yield Finding("warn", what, "set GANZOO_DATA to a folder of yours, or mend the permissions")


def _folder(folder: Path) -> Iterator[Finding]:
    where = folder.absolute()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".ganzoo-doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding("FAIL", f"nothing can be written in {where}: {error.strerror}", "go elsewhere, or take --out")
    else:
        yield Finding("ok", f"{where} can be written to")
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # told of above
    said = f"{free / 1e9:.1f} GB free there"
    yield Finding("ok", said) if free >= ENOUGH_DISK else Finding("warn", said, "make room, or take --out elsewhere")


def _ray() -> Finding:
    there = _version("ray")
    return Finding("ok", f"ray {there}" if there else "no ray; `pip install 'ganzoo[ray]'` for --engine ray")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    except Exception:  # noqa: BLE001 (an error that cannot even be printed)
        return type(error).__name__


def _last(error: BaseException) -> tuple[str, ...]:
    try:
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
    except Exception:  # noqa: BLE001 (an error that cannot even be printed)
        return ()
    return tuple(lines[-LAST_LINES:])
