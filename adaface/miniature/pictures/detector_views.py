"""What the detector sees in training: photographs fitted into a square, cut, scaled, mirrored, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from adaface.miniature.album.held_things import AWAY, draw_kind, held_before
from adaface.miniature.pictures.detector_photos import decode
from adaface.miniature.pictures.rendered import Chunk

# Faces from this to this share of the canvas, px at a canvas of 320: what a detector has to find in one look.
_SMALLEST, _LARGEST = 12.0, 300.0
_LEFT_TO_SEE = (0.15, 0.7)  # of a face that something is held before, a share of its box
_TOO_SMALL_TO_HIDE = 16.0  # px
_MIRRORED = [1, 0, 2, 4, 3]  # left and right swap names


# A set of photographs with the share of the views that come from it.
Source = tuple[float, Chunk]


def view(sources: Sequence[Source], rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """One training picture: uint8 (side, side, 3), blue first, and its faces, float32 (F, 16) as in `load_photos`.

    The last number of a face is the share of it that can be seen, now also counting what the edge cuts off.
    """
    kind = rng.random()
    if kind < 0.40:
        image, faces = _fitted(*_photo(sources, rng), side, rng)
    elif kind < 0.80:
        image, faces = _cut(*_photo(sources, rng), side, rng)
    else:
        image, faces = _four(sources, rng, side)
    if rng.random() < 0.5:
        image, faces = image[:, ::-1], mirror(faces, side)
    if rng.random() < 0.35:
        image = _relit(image, rng)
    return np.ascontiguousarray(image), faces


def with_something_held(
    image: np.ndarray, faces: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same view with a thing before most of one face, where there is one.

    The last number of each face goes down by what it covers.
    """
    large = np.flatnonzero((faces[:, 2:4] - faces[:, :2]).min(1) >= _TOO_SMALL_TO_HIDE)
    image, faces = image.copy(), faces.copy()
    if len(large):
        box = faces[rng.choice(large), :4].astype(np.float64)
    else:  # before nobody: such a thing alone is no face
        corner, size = rng.random(2) * image.shape[1], rng.uniform(0.1, 0.6) * image.shape[1]
        box = np.concatenate([corner - size / 2, corner + size / 2])
    thing = held_before(box, draw_kind(rng), rng)
    target = float(rng.uniform(*_LEFT_TO_SEE))
    open_ = np.ones(image.shape[:2], np.uint8)
    for away in AWAY:
        after = thing.cover(open_, away, 0)
        if _open_share(after, box) <= target:
            break
    thing.draw(image, away, rng)
    faces[:, 15] *= [_open_share(after, face[:4]) for face in faces]
    return image, faces[faces[:, 15] > 0]


def _open_share(open_: np.ndarray, box: np.ndarray) -> float:
    """Of the part of the box that lies in the picture, the share that is 1 in (H, W)."""
    x0, y0, x1, y1 = (max(0, round(float(value))) for value in box)
    part = open_[y0:y1, x0:x1]
    return float(part.mean()) if part.size else 0.0


def mirror(faces: np.ndarray, width: int) -> np.ndarray:
    """The faces (F, 16) of a picture `width` px wide in its mirror image; the left eye stays the left one in it."""
    out = faces.copy()
    out[:, 0], out[:, 2] = width - faces[:, 2], width - faces[:, 0]
    points = faces[:, 4:14].reshape(-1, 5, 2)[:, _MIRRORED]
    out[:, 4:14] = (points * [-1, 1] + [width, 0]).reshape(-1, 10)
    out[:, 14] = -faces[:, 14]
    return out


def moved(faces: np.ndarray, scale: float, dx: float, dy: float) -> np.ndarray:
    """The faces (F, 16) after all px coordinates are multiplied by `scale` and shifted."""
    out = faces.copy()
    out[:, :14] = faces[:, :14] * scale + np.tile(np.array([dx, dy], np.float32), 7)
    return out


def seen_in(faces: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Those of the faces (F, 16) that lie in the window, the share that can be seen reduced by what lies outside."""
    low, high = np.maximum(faces[:, :2], [x0, y0]), np.minimum(faces[:, 2:4], [x1, y1])
    area = np.maximum(np.prod(faces[:, 2:4] - faces[:, :2], axis=1), 1e-6)
    out = faces.copy()
    out[:, 15] *= np.prod(np.maximum(high - low, 0), axis=1) / area
    return out[out[:, 15] > 0]


def _photo(sources: Sequence[Source], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    photos = sources[int(rng.choice(len(sources), p=[share for share, _ in sources]))][1]
    row = int(rng.integers(len(photos["photo"])))
    return decode(photos["photo"][row]), np.asarray(photos["faces"][row])


def _fitted(
    image: np.ndarray, faces: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As insightface does: the whole photograph, as large as fits, in the upper left corner; sometimes with a border."""
    faces = seen_in(faces, 0, 0, *image.shape[1::-1])
    if rng.random() < 0.2:
        border = float(rng.uniform(0.1, 0.3))
        y, x = (round(border * length) for length in image.shape[:2])
        image = cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        faces = moved(faces, 1.0, x, y)
    scale = side / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=_interpolation(scale, rng))[:side, :side]
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas, moved(faces, scale, 0, 0)


def _cut(image: np.ndarray, faces: np.ndarray, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One of the faces as large as chance wants it, anywhere in the picture; the rest is one colour."""
    height, width = image.shape[:2]
    there = faces[faces[:, 15] > 0, :4]
    if len(there):
        box = there[int(rng.integers(len(there)))]
        now = float(np.sqrt(np.prod(box[2:] - box[:2])))
        wanted = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))) * side / 320
        # not so small that the square is mostly empty
        scale = float(np.clip(wanted / now, 0.45 * side / max(height, width), 4.0))
        centre = (box[:2] + box[2:]) / 2
    else:
        scale = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5))))
        centre = rng.random(2) * [width, height]
    dx, dy = rng.uniform(0.05, 0.95, 2) * side - centre * scale
    if scale < 0.6:  # warpAffine looks at four pixels only
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    else:
        matrix = np.array([[scale, 0, dx + (scale - 1) / 2], [0, scale, dy + (scale - 1) / 2]], np.float64)
    colour = (0, 0, 0) if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(0, 256, 3))
    canvas = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=colour)
    window = max(0, dx), max(0, dy), min(side, dx + scale * width), min(side, dy + scale * height)
    return canvas, seen_in(moved(faces, scale, float(dx), float(dy)), *window)


def _four(sources: Sequence[Source], rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Four photographs in a square: small faces beside each other, and negatives beside faces."""
    half = side // 2
    canvas, faces = np.zeros((side, side, 3), np.uint8), []
    for y in (0, half):
        for x in (0, half):
            part, found = (_fitted if rng.random() < 0.6 else _cut)(*_photo(sources, rng), half, rng)
            canvas[y : y + half, x : x + half] = part
            faces.append(moved(found, 1.0, x, y))
    return canvas, np.concatenate(faces)


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and colour balance, or grey."""
    if rng.random() < 0.2:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    values = np.arange(256, dtype=np.float32)[:, None]
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    table = np.clip((values - 128) * gain + 128 + rng.uniform(-35, 35), 0, 255)
    return cv2.LUT(np.ascontiguousarray(image), table.astype(np.uint8)[:, None, :])


def _interpolation(scale: float, rng: np.random.Generator) -> int:
    """insightface scales with plain bilinear interpolation; other programs with others."""
    return cv2.INTER_AREA if scale < 1 and rng.random() < 0.3 else cv2.INTER_LINEAR
