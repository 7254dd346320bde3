"""Small pictures for the report, as data URIs: faces, whole images, samples with their mask and class map."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from adaface.perception.classes import BACKGROUND, CLASS_NAMES
from data_pipeline.decode import DecodeError, decode
from data_pipeline.storage import read_file

SIDE = 112  # px, examples
MONTAGE_SIDE = 144  # px, accepted faces
QUALITY = 82
FACE_MARGIN = 1.6  # side of the cut-out / longer side of the face box

# One colour per class, distinct where classes touch; the subject's left and right share a hue.
CLASS_COLOURS: tuple[tuple[int, int, int], ...] = (
    (120, 124, 130),  # background
    (246, 178, 138),  # skin
    (150, 88, 40),  # l_brow
    (186, 116, 58),  # r_brow
    (30, 150, 220),  # l_eye
    (92, 184, 240),  # r_eye
    (20, 60, 130),  # eye_g
    (238, 120, 160),  # l_ear
    (246, 160, 190),  # r_ear
    (250, 214, 60),  # ear_r
    (240, 138, 60),  # nose
    (140, 16, 40),  # mouth
    (224, 48, 72),  # u_lip
    (196, 32, 100),  # l_lip
    (214, 190, 110),  # neck
    (170, 200, 60),  # neck_l
    (96, 84, 190),  # cloth
    (44, 150, 110),  # hair
    (150, 60, 170),  # hat
)
MASK_COLOUR = (0, 200, 190)

View = Literal["face", "image", "sample", "parts"]


@dataclass(frozen=True)
class Thumbnail:
    """A picture as data URIs, or the reason why there is none."""

    picture: str | None = None
    mask: str | None = None
    parts: str | None = None
    problem: str | None = None
    width: int = SIDE
    height: int = SIDE


def class_colour(class_id: int) -> str:
    """CSS colour of a face-parsing class."""
    return "#{:02x}{:02x}{:02x}".format(*CLASS_COLOURS[class_id])


def thumbnail(
    path: str,
    image_id: str,
    features: dict[str, Any] | None,
    view: View,
    *,
    max_pixels: int,
    max_bytes: int,
    side: int = SIDE,
) -> Thumbnail:
    """Make the small picture of one image.

    Args:
        path: full path or URI of the source file.
        image_id: sha256 of its bytes at the time of the build; a file that changed since is not shown.
        features: `bbox`, `crop`, `mask`, `parts` of the row (schema.FEATURES), as far as they are known.
        view: `face`: square around the face box; `image`: the whole file with the box drawn; `sample`: the part that becomes
            the sample, mask and class map as separate transparent layers; `parts`: the sample with the class map painted on.
        max_pixels: larger images are refused, as in the build.
        max_bytes: larger files are refused, as in the build.
        side: longer side of the result, px.
    """
    features = features or {}
    try:
        data = read_file(path, max_bytes)
        if hashlib.sha256(data).hexdigest() != image_id:
            return Thumbnail(problem="the file has changed since the build", width=side, height=side)
        image = Image.fromarray(decode(data, max_pixels))
    except FileNotFoundError:
        return Thumbnail(problem="the file is no longer there", width=side, height=side)
    except DecodeError as error:
        return Thumbnail(problem=str(error)[:200], width=side, height=side)
    except (OSError, ValueError) as error:
        # Without the message of the file system: it may carry addresses and request ids.
        return Thumbnail(problem=f"cannot be read ({type(error).__name__})", width=side, height=side)
    box: Sequence[float] | None = features.get("bbox")
    crop: Sequence[int] | None = features.get("crop")
    if view == "face" and box is not None:
        cut = _around(box, image.size)
        return Thumbnail(
            picture=_jpeg(image.resize((side, side), Image.Resampling.LANCZOS, box=cut)), width=side, height=side
        )
    if view in ("face", "image") or crop is None:
        return _whole(image, box, side)
    small = image.resize((side, side), Image.Resampling.LANCZOS, box=_inside(crop, image.size))
    mask, parts = (_class_map(features.get(name), side) for name in ("mask", "parts"))
    if view == "parts":
        return Thumbnail(picture=_jpeg(_painted(small, parts)), width=side, height=side)
    return Thumbnail(
        picture=_jpeg(small),
        mask=None if mask is None else _mask_layer(mask >= 128),
        parts=None if parts is None else _parts_layer(parts),
        width=side,
        height=side,
    )


def _whole(image: Image.Image, box: Sequence[float] | None, side: int) -> Thumbnail:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.LANCZOS)
    if box is not None:
        draw = ImageDraw.Draw(small)
        x0, y0, x1, y1 = (round(value * scale) for value in box)
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(20, 20, 20))
        draw.rectangle((x0, y0, x1, y1), outline=(255, 214, 70))
    return Thumbnail(picture=_jpeg(small), width=size[0], height=size[1])


def _around(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A square around a face box, moved and shrunk so that it lies inside the image."""
    x0, y0, x1, y1 = box
    side = float(np.clip(FACE_MARGIN * max(x1 - x0, y1 - y0), 1, min(size)))
    left = float(np.clip((x0 + x1 - side) / 2, 0, size[0] - side))
    upper = float(np.clip((y0 + y1 - side) / 2, 0, size[1] - side))
    return left, upper, left + side, upper + side


def _inside(crop: Sequence[int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(np.clip(value, 0, limit)) for value, limit in zip(crop, (*size, *size), strict=True))
    if x1 <= x0 or y1 <= y0:
        return 0.0, 0.0, float(size[0]), float(size[1])
    return x0, y0, x1, y1


def _class_map(png: bytes | None, side: int) -> np.ndarray | None:
    """(side, side) uint8 values of a PNG of the build, nearest neighbour; None where there is none."""
    if png is None:
        return None
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image.convert("L").resize((side, side), Image.Resampling.NEAREST))


def _edge(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of the mask that touch a pixel outside it."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _mask_layer(mask: np.ndarray) -> str:
    """Transparent layer: the foreground tinted, its outline solid."""
    index = mask.astype(np.uint8)
    index[_edge(mask)] = 2
    return _palette_png(index, [(0, 0, 0), MASK_COLOUR, MASK_COLOUR], [0, 85, 255])


def _parts_layer(parts: np.ndarray) -> str:
    alpha = [0 if class_id == BACKGROUND else 165 for class_id in range(len(CLASS_NAMES))]
    return _palette_png(np.minimum(parts, len(CLASS_NAMES) - 1), list(CLASS_COLOURS), alpha)


def _painted(image: Image.Image, parts: np.ndarray | None) -> Image.Image:
    if parts is None:
        return image
    colours = np.array(CLASS_COLOURS, np.float32)[np.minimum(parts, len(CLASS_NAMES) - 1)]
    weight = np.where(parts == BACKGROUND, 0.0, 0.5).astype(np.float32)[..., None]
    return Image.fromarray((np.asarray(image) * (1 - weight) + colours * weight).round().astype(np.uint8))


def _palette_png(index: np.ndarray, colours: Sequence[tuple[int, int, int]], alpha: Sequence[int]) -> str:
    image = Image.fromarray(index, mode="P")
    image.putpalette([value for colour in colours for value in colour])
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, transparency=bytes(alpha))
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _jpeg(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
