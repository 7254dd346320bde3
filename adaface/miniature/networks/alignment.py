"""Where insightface cuts its crops of a face: for recognition by five points, for gender and age by the box.

The same numbers as `insightface/utils/face_align.py`, for many faces at once and without insightface.
"""

from __future__ import annotations

import cv2
import numpy as np

RECOGNITION_SIDE, ATTRIBUTE_SIDE = 112, 96
# Where the five points of an upright face come to lie in a crop of 112 px (ArcFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
# How much wider than the longer side of the box the crop for gender and age is.
ATTRIBUTE_MARGIN = 1.5


def similarity(landmarks: np.ndarray) -> np.ndarray:
    """(B, 5, 2) px -> float64 (B, 2, 3): the turn, scale and shift that bring five points closest to `TEMPLATE`.

    The least-squares similarity of Umeyama (1991). In the plane it has a closed form: with points as complex numbers
    around their means, the factor on p that comes closest to q is <p, q> / <p, p>. Raises ValueError where all points
    of a face coincide.
    """
    points = np.asarray(landmarks, np.float64).reshape(-1, 5, 2)
    p, q = points[..., 0] + 1j * points[..., 1], TEMPLATE[:, 0].astype(np.float64) + 1j * TEMPLATE[:, 1]
    p_mean, q_mean = p.mean(1, keepdims=True), q.mean()
    spread = (np.abs(p - p_mean) ** 2).sum(1)
    if not (spread > 0).all():
        raise ValueError("the five points of a face must not all be the same")
    factor = ((p - p_mean).conj() * (q - q_mean)).sum(1) / spread
    shift = q_mean - factor * p_mean[:, 0]
    rows = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return np.moveaxis(np.array(rows), -1, 0)


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) and (5, 2) px -> uint8 (112, 112, 3), as `face_align.norm_crop` does; black beyond the edges."""
    return cv2.warpAffine(image, similarity(landmarks)[0], (RECOGNITION_SIDE, RECOGNITION_SIDE), borderValue=0.0)


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) and (4,) px -> uint8 (96, 96, 3) around the box, as insightface's `Attribute.get` does."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(x1 - x0, y1 - y0)
    if side <= 0:
        raise ValueError(f"the box of a face must have a width or a height, got {x0}, {y0}, {x1}, {y1}")
    scale, half = ATTRIBUTE_SIDE / (side * ATTRIBUTE_MARGIN), ATTRIBUTE_SIDE / 2
    matrix = np.array([[scale, 0, half - (x0 + x1) / 2 * scale], [0, scale, half - (y0 + y1) / 2 * scale]])
    return cv2.warpAffine(image, matrix, (ATTRIBUTE_SIDE, ATTRIBUTE_SIDE), borderValue=0.0)
