"""Image files -> one tensor. Headers are read first: what does not fit is refused before decoding starts."""

import os
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
from ganzoo.errors import UserError

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # by content: a PostScript file named x.png would start a program
LARGEST_PIXELS = 64_000_000
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
    real_root = root.resolve()

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
            try:
                inside = not path.is_symlink() or path.resolve().is_relative_to(real_root)
            except (OSError, RuntimeError) as error:  # a link to itself
                raise UserError(f"{path} cannot be followed ({' '.join(str(error).split())})") from None
            if not inside:
                raise UserError(f"{path} is a link out of {root}: put the image itself there")
            if path.exists() and not path.is_file():
                raise UserError(f"{path} is not an ordinary file")  # opening a pipe would wait for ever
            found.append(path)
    if not found:
        raise UserError(f"no images in {root}; looked for {', '.join(ENDINGS)}, in its subfolders too")
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def read_files(paths: Sequence[Path], size: int | None, skip_corrupt: bool) -> tuple[Tensor, list[int]]:
    """(N, C, H, W) uint8, C = 1 where every file is greyscale, else 3; and which of `paths` are in it.

    With `size` each image's central square is brought to size x size; without, all must be of one square
    size. Raises UserError for a corrupt file (with `skip_corrupt` it is left out, with one warning),
    for one of more than 64 megapixels and for one of more than 8 bits a channel.
    """
    problems: dict[int, str] = {}
    headers: dict[int, tuple[str, tuple[int, int]]] = {}

    def refuse_or_note(place: int, error: Exception) -> None:
        problem = f"{paths[place]} cannot be read as an image ({' '.join(str(error).split())})"
        if not skip_corrupt:
            raise UserError(f"{problem}; remove it, or leave such files out with skip_corrupt") from error
        problems[place] = problem

    for place, path in enumerate(paths):
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
    pixels = np.zeros((len(paths), edge, edge, len(mode)), dtype=np.uint8)

    def read(place: int) -> None:
        try:
            pixels[place] = _pixels(paths[place], mode, size).reshape(edge, edge, len(mode))
        except _UNREADABLE as error:
            refuse_or_note(place, error)

    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter lock
        for _ in pool.map(read, headers):
            pass
    if problems:
        if len(problems) == len(paths):
            raise UserError(f"none of the {len(paths)} files is a readable image; the first: {problems[0]}")
        first = problems[min(problems)]
        warnings.warn(f"left out {len(problems)} of {len(paths)} files; the first: {first}", stacklevel=2)
    kept = [place for place in range(len(paths)) if place not in problems]
    if problems:
        pixels = pixels[kept]
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2)).contiguous(), kept


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
                f"{paths[place]} is {shape[0]} x {shape[1]}; give one size for all with size=..."
            )
    if width != height:
        raise UserError(
            f"{paths[first]} is {width} x {height} pixels (width x height), and networks take squares; "
            "give the edge with size=..."
        )
    return width


def _pixels(path: Path, mode: str, size: int | None) -> np.ndarray:
    with Image.open(path, formats=FORMATS) as opened:
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
