"""From the bytes of an untrusted image file to pixels, with the size bounded before anything is decoded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Photographs come in these. Everything else PIL could open (PostScript, PDF, icons, ...) only widens the attack
# surface.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"})

_ORIENTATION = 0x0112  # EXIF tag

# PIL warns about large images; here a bound decides instead. For the whole process, because changing filters around
# each call is not safe among threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# 16-bit greyscale; PIL's own conversion to 8 bits clips at 255 instead of scaling.
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class DecodeError(ValueError):
    """The bytes are not an image that may enter a dataset."""


@dataclass(frozen=True)
class Decoded:
    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright
    format: str  # PIL's name
    mode: str  # PIL's pixel mode as stored, e.g. RGB, L, CMYK
    orientation: int  # EXIF, 1..8; 1 is upright


def decode_image(data: bytes, max_pixels: int) -> Decoded:
    """Decode a photograph: EXIF rotation applied, first frame of animations, CMYK, grey, palette and 16 bit turned to
    RGB.

    Transparent pixels become white. A truncated file is an error, not half a picture.

    Raises:
        DecodeError: not an image, damaged, or more than `max_pixels` pixels.
    """
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DecodeError(
                    f"{width} x {height} pixels are more than the {max_pixels:,} allowed (data.max_pixels)"
                )
            name, mode = image.format or "unknown", image.mode
            orientation = image.getexif().get(_ORIENTATION, 1)
            ImageOps.exif_transpose(image, in_place=True)  # without a copy of an upright image
            # MPO is a JPEG with further pictures behind it.
            return Decoded(_to_rgb(image), "JPEG" if name == "MPO" else name, mode, _valid_orientation(orientation))
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"more pixels than the {max_pixels:,} allowed (data.max_pixels): {error}") from error
    # PIL's decoders signal damage with whatever their parsers raise (AVIF's with RuntimeError).
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise DecodeError(f"damaged: {error}") from error


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """`decode_image`, pixels alone: (H, W, 3) uint8 RGB."""
    return decode_image(data, max_pixels).pixels


def decode_known(data: bytes, feature: dict[str, Any], max_pixels: int) -> np.ndarray:
    """Pixels of an image that `decode_image` has decoded before, (H, W, 3) uint8 BGR, upright.

    An ordinary JPEG goes through OpenCV, which gives the same pixels faster. It would also give a picture for a damaged
    file, which is why only bytes that are known to be whole may come here.

    Args:
        feature: the image's row of FEATURES.
    """
    if feature["format"] == "JPEG" and feature["mode"] == "RGB":
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if bgr is not None and bgr.shape[:2] == (feature["height"], feature["width"]):
            return bgr
    return decode(data, max_pixels)[..., ::-1]


def decode_mask(data: bytes, max_pixels: int) -> np.ndarray:
    """A foreground mask of 1 or 8 bits.

    Returns:
        (H, W) bool, True where the picture shows the person.

    Raises:
        DecodeError: as `decode_image`.
    """
    return decode_image(data, max_pixels).pixels[..., 0] >= 128


def survives(data: bytes, max_pixels: int, timeout_s: float = 60) -> str | None:
    """Decode in a child process, for files suspected of ending the process that decodes them.

    Returns:
        why the file cannot be decoded safely; None when it can, or when it fails in the ordinary way, by DecodeError.
    """
    command = [sys.executable, "-c", _PROBE, str(max_pixels)]
    # The child must find this package wherever this process found it, or no file would survive.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        child = subprocess.run(
            command, input=data, capture_output=True, timeout=timeout_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"decoding it does not end within {timeout_s:.0f} s"
    return None if child.returncode == 0 else f"decoding it ends the process (status {child.returncode})"


_PROBE = """
import contextlib, sys
from data_pipeline.decode import DecodeError, decode
with contextlib.suppress(DecodeError):
    decode(sys.stdin.buffer.read(), int(sys.argv[1]))
"""


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        wide = np.asarray(image).astype(np.int64)
        grey = (np.clip(wide, 0, 65535) >> 8 if wide.max(initial=0) > 255 else np.clip(wide, 0, 255)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
