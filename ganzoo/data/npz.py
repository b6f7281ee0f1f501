"""A numpy archive of images -> one set."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.image_set import ImageSet, channels_first
from ganzoo.errors import UserError


def npz_set(path: Path) -> ImageSet:
    """`images`, (N, H, W), (N, H, W, C) or (N, C, H, W) uint8, and if there, `labels`, (N,) integers.

    Where a shape can be read both ways, the last axis holds the channels. Labels are renumbered 0..k-1 in
    ascending order; the classes are their former values. Nothing pickled is loaded.
    """
    arrays = _arrays(path)
    array = arrays["images"]
    found = f"{path}: images is {array.dtype} of shape {array.shape}"
    if array.dtype != np.uint8:
        raise UserError(f"{found}; expected uint8 in 0..255")
    images = channels_first(array)
    if images is None:
        raise UserError(f"{found}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3")
    if images.numel() == 0:
        raise UserError(f"{found}: there is nothing in it")
    if "labels" not in arrays:
        return ImageSet("npz", images, None, ())
    labels, classes = renumbered(f"{path}: labels", arrays["labels"], len(images))
    return ImageSet("npz", images, labels, classes)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:  # np.load leaves a file it opened itself open when it is damaged
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise UserError(f"{path} is a single array (.npy); save it as .npz under the name 'images'")
            if "images" not in loaded:
                raise UserError(f"{path} has no array 'images'; it has: {', '.join(loaded.files) or 'none'}")
            arrays = {name: loaded[name] for name in ("images", "labels") if name in loaded}
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise UserError(f"{path}: {name} is not an array; save it with numpy.savez")
            return arrays
    except UserError:
        raise
    except (  # the last two: an encrypted member, an unknown compression
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        MemoryError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path} cannot be read as an .npz file ({' '.join(str(error).split())})") from error


def renumbered(where: str, values: np.ndarray, count: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels 0..k-1 in ascending order of the values, and the values. UserError, beginning with `where`, if bad."""
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"{where} is {values.dtype} of shape {values.shape}; expected integers of shape ({count},)")
    former, labels = np.unique(values, return_inverse=True)
    return torch.from_numpy(labels.astype(np.int64)), tuple(str(value) for value in former)
