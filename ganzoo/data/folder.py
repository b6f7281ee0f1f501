"""Image files -> one tensor. Headers are read first: what does not fit is refused before decoding starts."""

import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ganzoo.data.image_set import ImageSet
from ganzoo.data.limits import require_inside, require_memory, require_room
from ganzoo.data.png import require_all_rows
from ganzoo.errors import UserError, printable

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # by content: a PostScript file named x.png would start a program
LARGEST_PIXELS = 64_000_000
LARGEST_FILE = 8 * LARGEST_PIXELS  # four channels of 16 bits
GREY_MODES = {"1", "L", "LA"}

_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, struct.error, zlib.error)
# What Pillow raises for a damaged file, depending on where the damage lies.


def folder_set(root: Path, size: int | None, skip_corrupt: bool) -> ImageSet:
    """The images below `root`, in the order of their sorted paths; the class is the first-level subfolder.

    Names that begin with a dot and files of other endings are passed over. Transparency is dropped, an EXIF
    rotation applied.
    """
    paths = _found(root)
    owners = [path.relative_to(root).parts[:-1] for path in paths]
    loose = [path for path, owner in zip(paths, owners, strict=True) if not owner]
    if loose and len(loose) < len(paths):
        raise UserError(
            f"{root} has images both directly in it ({loose[0].name}) and in subfolders: "
            "put each into the subfolder of its class, or all into one folder without classes"
        )
    images, kept = read_files(paths, size, skip_corrupt)
    if loose:
        return ImageSet("folder", images, None, ())
    names = [owners[place][0] for place in kept]
    classes = tuple(sorted(set(names)))
    number = {name: label for label, name in enumerate(classes)}
    return ImageSet("folder", images, torch.tensor([number[name] for name in names]), classes)


def _found(root: Path) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror})") from error

    for here, folders, files in os.walk(root, onerror=refuse):  # without it a closed folder would be passed over
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (linked := Path(here, name)).is_symlink():
                raise UserError(
                    f"{linked} is a link to a folder, which is not followed: put the images themselves there"
                )
        for name in files:
            path = Path(here, name)
            if name.startswith(".") or path.suffix.lower() not in ENDINGS:
                continue
            require_inside(path, root)
            found.append(path)
    if not found:
        raise UserError(f"no images in {root}; looked for {', '.join(ENDINGS)}, in its subfolders too")
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def read_files(paths: Sequence[Path], size: int | None, skip_corrupt: bool) -> tuple[Tensor, list[int]]:
    """(N, C, H, W) uint8, C = 1 where every file is greyscale, else 3; and which of `paths` are in it.

    With `size` each image's central square is brought to size x size; without, all must be of one square
    size. Raises UserError for a corrupt file (with `skip_corrupt` it is left out, with one warning),
    for one of more than 64 megapixels, for one of more than 8 bits a channel, for what is no ordinary file, and where
    all of them would take more memory than `require_room` grants.
    """
    problems: dict[int, str] = {}
    headers: dict[int, tuple[str, tuple[int, int]]] = {}

    def refuse_or_note(place: int, error: Exception) -> None:
        problem = f"{paths[place]} cannot be read as an image ({' '.join(str(error).split())})"
        if not skip_corrupt:
            raise UserError(f"{problem}; remove it, or pass over such files: --set data.skip_corrupt=true") from error
        problems[place] = problem

    stored = 0
    for place, path in enumerate(paths):
        stored += _stored(path)
        try:
            headers[place] = _header(path)
        except Image.DecompressionBombError as error:
            raise UserError(f"{path} is too large: {error}") from error
        except _UNREADABLE as error:
            refuse_or_note(place, error)
            continue
        mode, (width, height) = headers[place]
        if width * height > LARGEST_PIXELS:
            raise UserError(
                f"{path} is of {width} x {height} pixels; at most {LARGEST_PIXELS // 10**6} million are read"
            )
        if mode.startswith(("I", "F")):
            raise UserError(f"{path} has more than 8 bits a channel (mode {mode}): convert it to 8 first")
    if not headers:
        raise UserError(f"none of the {len(paths)} files is a readable image; the first: {problems[0]}")
    edge = _common_edge(paths, headers) if size is None else size
    mode = "L" if all(mode in GREY_MODES for mode, _ in headers.values()) else "RGB"
    shape = (len(paths), len(mode), edge, edge)
    where = f"{len(paths)} images ({paths[0]} is the first)"
    if size is None:
        require_room(where, math.prod(shape), stored)
    else:
        require_memory(where, math.prod(shape))
    pixels = np.zeros(shape, dtype=np.uint8)

    def read(place: int) -> None:
        try:
            pixels[place] = _pixels(paths[place], mode, size).reshape(edge, edge, len(mode)).transpose(2, 0, 1)
        except _UNREADABLE as error:
            refuse_or_note(place, error)

    # Pillow decodes without the interpreter lock. All that is decoded at a time has the pixels that one image may have.
    largest = max(width * height for _mode, (width, height) in headers.values())
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, LARGEST_PIXELS // max(1, largest)))) as pool:
        for _ in pool.map(read, headers):
            pass
    if problems:
        if len(problems) == len(paths):
            raise UserError(f"none of the {len(paths)} files is a readable image; the first: {problems[0]}")
        first = problems[min(problems)]
        warnings.warn(printable(f"left out {len(problems)} of {len(paths)} files; the first: {first}"), stacklevel=2)
    kept = [place for place in range(len(paths)) if place not in problems]
    if problems:
        pixels = pixels[kept]
    return torch.from_numpy(pixels), kept


def _stored(path: Path) -> int:
    """Bytes of the file, 0 where there is none. UserError for what opening would wait for, and for a huge one."""
    try:
        status = path.stat()
    except OSError:
        return 0  # opening it says why
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not an ordinary file")
    if status.st_size > LARGEST_FILE:
        raise UserError(f"{path} is too large: it has {status.st_size:,} bytes; at most {LARGEST_FILE:,} are read")
    return status.st_size


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height), without decoding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # LARGEST_PIXELS is below its limit
        with Image.open(path, formats=FORMATS) as image:
            return image.mode, image.size


def _common_edge(paths: Sequence[Path], headers: dict[int, tuple[str, tuple[int, int]]]) -> int:
    first, (_, (width, height)) = next(iter(headers.items()))
    for place, (_, shape) in headers.items():
        if shape != (width, height):
            raise UserError(
                f"images of two sizes: {paths[first]} is {width} x {height}, "
                f"{paths[place]} is {shape[0]} x {shape[1]}; give one size for all with --set data.size=..."
            )
    if width != height:
        raise UserError(
            f"{paths[first]} is {width} x {height} pixels (width x height), and networks take squares; "
            "give the edge with --set data.size=..."
        )
    return width


def _pixels(path: Path, mode: str, size: int | None) -> np.ndarray:
    with Image.open(path, formats=FORMATS) as opened:
        if opened.format == "PNG":
            require_all_rows(path)
        image = ImageOps.exif_transpose(opened)  # of a square or a square to be, so no shape changes here
        if image.has_transparency_data:
            image = image.convert("RGBA")  # straight from a palette to RGB, Pillow warns
        image = image.convert(mode)
        if size is not None:
            edge = min(image.size)
            left, top = (image.width - edge) // 2, (image.height - edge) // 2
            centre = image.crop((left, top, left + edge, top + edge))  # first: resizing would blend in what is cut
            image = centre.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image)
