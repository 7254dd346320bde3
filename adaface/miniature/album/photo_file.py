"""A picture as the JPEG file that a camera or a messenger would have made of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

# EXIF tags
_MAKE, _MODEL, _ORIENTATION, _SOFTWARE, _DATE, _EXIF_PART = 0x010F, 0x0110, 0x0112, 0x0131, 0x0132, 0x8769
_TAKEN, _WIDTH, _HEIGHT = 0x9003, 0xA002, 0xA003
# Orientation -> quarter turns to the left that the stored picture is turned by.
_QUARTER_TURNS = {1: 0, 6: 1, 3: 2, 8: 3}


@dataclass(frozen=True)
class Jpeg:
    """How a picture is stored. `orientation` is EXIF's: 1 upright, 6 and 8 lying, 3 upside down."""

    quality: int
    subsampling: int = 2  # 0: 4:4:4, 2: 4:2:0
    progressive: bool = False
    orientation: int = 1
    make: str = ""  # an empty make: without metadata, as messengers send pictures
    model: str = ""
    taken: datetime | None = None

    @staticmethod
    def sample(rng: np.random.Generator, make: str, model: str, taken: datetime) -> Jpeg:
        """Mostly good quality; a quarter of the files is stored turned, a tenth has lost its metadata."""
        quality, fine, progressive = int(rng.integers(62, 97)), rng.random() < 0.3, bool(rng.random() < 0.2)
        orientation = int(rng.choice([1, 6, 8, 3], p=[0.75, 0.12, 0.08, 0.05]))
        if rng.random() < 0.1:
            return Jpeg(quality, 0 if fine else 2, progressive)
        return Jpeg(quality, 0 if fine else 2, progressive, orientation, make, model, taken)

    def encode(self, image: np.ndarray) -> bytes:
        """The file of an upright picture uint8 (H, W, 3) RGB; equal arguments give equal bytes."""
        from PIL import Image

        stored = Image.fromarray(np.ascontiguousarray(np.rot90(image, _QUARTER_TURNS[self.orientation])))
        exif = Image.Exif()
        if self.make:
            exif[_MAKE], exif[_MODEL], exif[_ORIENTATION] = self.make, self.model, self.orientation
            details: dict[int, int | str] = {_WIDTH: stored.width, _HEIGHT: stored.height}
            if self.taken is not None:
                exif[_DATE] = details[_TAKEN] = f"{self.taken:%Y:%m:%d %H:%M:%S}"
            exif.get_ifd(_EXIF_PART).update(details)
        buffer = io.BytesIO()
        stored.save(
            buffer,
            "JPEG",
            quality=self.quality,
            subsampling=self.subsampling,
            progressive=self.progressive,
            **({"exif": exif} if self.make else {}),
        )
        return buffer.getvalue()


def upright(data: bytes) -> np.ndarray:
    """The picture of a JPEG file as it is to be looked at, uint8 (H, W, 3) RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a picture")
    return np.ascontiguousarray(image[:, :, ::-1])


def class_map(classes: np.ndarray) -> bytes:
    """Class ids uint8 (H, W) as a PNG file."""
    ok, data = cv2.imencode(".png", classes, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not ok:
        raise ValueError(f"no class map: {classes.dtype} {classes.shape}")
    return data.tobytes()
