"""Small pictures as data URIs. Each is bounded in bytes, so that the page is."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 192  # px, longer side
SMALL = 128  # px; pictures up to this are not scaled, the browser shows their pixels
QUALITY = 85
MAX_BYTES = 15_000  # of one JPEG; a picture of noise gets there at quality 85


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, or the reason why there is none."""

    uri: str = ""
    width: int = SIDE
    height: int = SIDE
    crisp: bool = False  # smaller than it is shown: its pixels stay squares
    problem: str = ""


class Thumbnails:
    """Loads pictures through `load` and keeps what it made; each file is read once."""

    def __init__(self, load: Callable[[str], np.ndarray]):
        self._load = load
        self._made: dict[str, Thumbnail] = {}

    def of(self, file: str) -> Thumbnail:
        """The picture of a file; a problem where it cannot be read."""
        if file not in self._made:
            self._made[file] = self._read(file)
        return self._made[file]

    def _read(self, file: str) -> Thumbnail:
        try:
            return thumbnail(self._load(file))
        except FileNotFoundError:
            return Thumbnail(problem="the picture is no longer there")
        except (OSError, ValueError) as error:
            # without the message, which may carry addresses and paths of a machine
            return Thumbnail(problem=f"the picture cannot be read ({type(error).__name__})")


def thumbnail(image: np.ndarray) -> Thumbnail:
    """RGB uint8 (H, W, 3) of any size. Raises ValueError for what is no picture."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"not an RGB uint8 picture: {image.dtype} {image.shape}")
    picture = Image.fromarray(image)
    longer = max(picture.size)
    if longer <= SMALL:
        return Thumbnail(_uri(picture, 92, 0), *picture.size, crisp=True)
    if longer > SIDE:
        size = tuple(max(1, round(side * SIDE / longer)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return Thumbnail(_uri(picture, QUALITY, 2), *picture.size)


def _uri(picture: Image.Image, quality: int, subsampling: int) -> str:
    """A JPEG of at most MAX_BYTES, where need be of lower quality."""
    while True:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
        if out.tell() <= MAX_BYTES or quality <= 25:
            return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
        quality, subsampling = quality - 15, 2
