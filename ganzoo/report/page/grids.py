"""Images of a run as the page carries them: one picture a grid, within a budget of bytes."""

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

LEAST_SIDE = 64
"""Pixels that an image has on the page at least; small ones are shown larger, their pixels whole."""

LARGEST_SIDE = 160
"""Pixels that an image has on the page at most; larger ones are averaged down."""


class Picture(NamedTuple):
    """For an <img>."""

    source: str
    """A data: address."""
    width: int
    height: int
    """Pixels on the page."""


def grid(images: np.ndarray, across: int) -> np.ndarray:
    """(N, C, H, W) uint8 -> (rows * (H + gap), across * (W + gap), C + 1): the images side by side, each with a gap
    below and right of it; the last channel is opacity, 0 in the gaps and where there are too few images."""
    n, channels, height, width = images.shape
    gap = max(1, width // 16)
    down = -(-n // across)
    canvas = np.zeros((down * (height + gap), across * (width + gap), channels + 1), np.uint8)
    for i, image in enumerate(images):
        top, left = (i // across) * (height + gap), (i % across) * (width + gap)
        canvas[top : top + height, left : left + width, :channels] = image.transpose(1, 2, 0)
        canvas[top : top + height, left : left + width, channels] = 255
    return canvas


def picture(images: np.ndarray, across: int, budget: int) -> Picture | None:
    """The images as one picture of at most `budget` bytes: lossless where that fits, else as WebP of falling quality,
    else averaged down; None where not even the poorest fits."""
    canvas = grid(images, across)
    side = images.shape[3]
    image = Image.fromarray(canvas, {2: "LA", 4: "RGBA"}[canvas.shape[2]])
    if side > LARGEST_SIDE:
        image = image.reduce(math.ceil(side / LARGEST_SIDE))
    larger = max(1, round(LEAST_SIDE / side))
    tried: list[tuple[str, dict[str, Any]]] = [("png", {"optimize": True})]
    tried += [("webp", {"quality": quality, "method": 4}) for quality in (90, 70, 50, 20)]
    for smaller in (1, 2, 4):
        made = image if smaller == 1 else image.reduce(smaller)
        for kind, options in tried:
            buffer = io.BytesIO()
            made.save(buffer, kind, **options)
            if len(buffer.getvalue()) <= budget:
                source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
                return Picture(source, image.width * larger, image.height * larger)
    return None
