"""A name -> a set of square images."""

import gzip
import io
import os
import shlex
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo.data.folder import folder_set
from ganzoo.data.image_set import ImageSet, channels_first
from ganzoo.data.limits import require_memory
from ganzoo.data.mapped import mapped_set
from ganzoo.data.npz import npz_set
from ganzoo.data.official import DIGITS, OFFICIAL, official_set
from ganzoo.errors import UserError, did_you_mean

SETS = ("digits", *OFFICIAL, "folder", "npy", "npz")
"""The names `load_images` accepts."""

DIGITS_FILE = "datasets/data/digits.csv.gz"  # in scikit-learn's folder
LARGEST_DIGITS_FILE = 1 << 20
"""Bytes, unpacked; it has half as many."""

CHUNK = 1024  # images resized at once, in float32


def load_images(
    name: str,
    *,
    path: Path | None = None,
    size: int | None = None,
    download: bool = False,
    skip_corrupt: bool = False,
) -> ImageSet:
    """The whole set `name`, one of SETS, as (N, C, H, W) uint8 with H = W, on the CPU; npy stays in its file.

    `path`: the folder or file; for torchvision's sets the folder they lie in, by default the environment
    variable GANZOO_DATA or ~/.cache/ganzoo; digits has none. `size`: the edge in pixels to bring images to,
    about their centre. `download` permits to fetch what is absent, `skip_corrupt` to leave unreadable image
    files out.

    Raises UserError for an unknown name, an absent or damaged set, images not of one square shape, and a set that
    memory does not hold.
    """
    try:
        return _loaded(name, path, size, download, skip_corrupt)
    except MemoryError as error:
        raise UserError(f"{name}: there is not enough memory for it ({' '.join(str(error).split())})") from error


def _loaded(name: str, path: Path | None, size: int | None, download: bool, skip_corrupt: bool) -> ImageSet:
    if name not in SETS:
        raise UserError(f"no image set named '{name}'{_if_a_path(name) or did_you_mean(name, SETS)}")
    if size is not None and (type(size) is not int or size < 1):
        raise UserError(f"size={size!r}: expected the edge in pixels, a whole number of at least 1")
    if name == "digits":
        if path is not None:
            raise UserError(f"digits needs no path: it comes with scikit-learn (path={str(path)!r} was given)")
        return _square(_digits(), size)
    if name == "folder":
        return _square(folder_set(_given(name, path), size, skip_corrupt), size)
    if name == "npz":
        return _square(npz_set(_given(name, path)), size)
    if name == "npy":
        return _as_it_is(mapped_set(_given(name, path)), size)
    root = Path(path or os.environ.get("GANZOO_DATA") or "~/.cache/ganzoo").expanduser()
    return _square(official_set(name, root, size, download, skip_corrupt), size)


def _if_a_path(name: str) -> str:
    """How to name the images that lie there; empty where there are none."""
    kind = next((ending for ending in ("npy", "npz") if name.endswith(f".{ending}")), "folder")
    there = (
        os.path.isdir(name) if kind == "folder" else os.path.exists(name)
    )  # a name of any length is no error to them
    return f"; to take what lies there: -d {kind} --set data.path={shlex.quote(name)}" if there else ""


def _given(name: str, path: Path | None) -> Path:
    kind = {"folder": "folder of images", "npy": ".npy file, or a folder with images.npy", "npz": ".npz file"}[name]
    if path is None:
        raise UserError(f"{name} needs a path: give the {kind} with --set data.path=...")
    try:
        path = Path(path).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, a user that does not exist
        raise UserError(f"no {kind} at {str(path)[:200]}: {getattr(error, 'strerror', None) or error}") from None
    if not there:
        raise UserError(f"no {kind} at {path.absolute()}")
    if path.is_dir() != (name == "folder") and not (name == "npy" and path.is_dir()):
        raise UserError(f"{path} is a {'folder' if path.is_dir() else 'file'}; {name} needs a {kind}")
    return path


def _digits() -> ImageSet:
    """scikit-learn's 1797 digits of 8 x 8 pixels; their 0..16 become 0..255."""
    table = _digits_table()
    images = channels_first(np.rint(table[:, :-1].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8))
    assert images is not None
    return ImageSet("digits", images, torch.from_numpy(table[:, -1].astype(np.int64)), DIGITS)


def _digits_table() -> np.ndarray:
    """(1797, 65): the pixels of an image and its class, from scikit-learn's file.

    By scikit-learn's own function where the file has moved: importing that takes a second.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / DIGITS_FILE
    if file.is_file():
        return _csv(file)
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


def _csv(file: Path) -> np.ndarray:
    """(N, 65) of a packed file; UserError where it is not scikit-learn's."""
    try:
        with gzip.open(file) as packed:
            content = packed.read(LARGEST_DIGITS_FILE + 1)
        if len(content) > LARGEST_DIGITS_FILE:
            raise ValueError(f"it unpacks to more than {LARGEST_DIGITS_FILE:,} bytes")
        table = np.loadtxt(io.BytesIO(content), delimiter=",", ndmin=2)
        pixels, classes = table[:, :-1], table[:, -1]
        if table.shape != (1797, 65) or not ((pixels >= 0) & (pixels <= 16)).all() or {*classes} != {*range(10)}:
            raise ValueError("it does not hold 1797 digits")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        said = " ".join(str(error).split())
        raise UserError(f"digits: {file} is damaged ({said}); install scikit-learn again") from error
    return table


def _as_it_is(images: ImageSet, size: int | None) -> ImageSet:
    """The set, if its images are square and of the size asked for: what stays in its file is not resized."""
    _channels, height, width = images.image_shape
    if height != width or size not in (None, height):
        wanted = "squares" if size is None else f"{size} x {size}"
        raise UserError(
            f"npy: images are {width} x {height} pixels (width x height) and are read where they lie, so they are not"
            f" brought to {wanted}; resize them once and save that"
        )
    return images


def _square(images: ImageSet, size: int | None) -> ImageSet:
    """The set with square images: as they are, or their central square brought to size x size."""
    channels, height, width = images.image_shape
    if size is None:
        if height != width:
            raise UserError(
                f"{images.name}: images are {width} x {height} pixels (width x height), and networks take "
                "squares; give the edge with --set data.size=..."
            )
        return images
    if height == width == size:
        return images
    require_memory(f"{images.name} at size={size}", len(images.images) * channels * size * size)
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    centre = images.images[:, :, top : top + edge, left : left + edge]
    return images._replace(
        images=torch.cat([_resized(centre[at : at + CHUNK], size) for at in range(0, len(centre), CHUNK)])
    )


def _resized(images: Tensor, size: int) -> Tensor:
    # through float32: the uint8 kernel differs between processors, and with it the set's hash would
    return (
        F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
    )
