"""The columns of FEATURES that describe one photo: its face, its parse, its foreground."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from adaface.perception.classes import BACKGROUND, CLASS_NAMES
from adaface.perception.faces import FaceResult
from data_pipeline import measures

FACE_CLASSES = [
    CLASS_NAMES.index(name)
    for name in ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "nose", "mouth", "u_lip", "l_lip")
]


def face_metrics(face: FaceResult, pixels: np.ndarray, window: tuple[int, int, int, int], size: int) -> dict[str, Any]:
    """Columns about the largest face.

    Args:
        face: with at least one face, and `aligned`.
        pixels: (H, W, 3) uint8 RGB, the whole photo.
        window: x0, y0, x1, y1, px, the part of it that becomes the sample.
        size: side of the sample, px.
    """
    largest = face.faces[0]
    assert face.aligned is not None
    x0, y0, x1, y1 = window
    # Px that survive in the sample: enlarging a small picture adds none, shrinking a large one loses some.
    scale_x, scale_y = min(1.0, size / (x1 - x0)), min(1.0, size / (y1 - y0))
    seen = measures.overlap(largest.bbox, window)
    box_width, box_height = float(largest.bbox[2] - largest.bbox[0]), float(largest.bbox[3] - largest.bbox[1])
    eyes = (largest.landmarks[1] - largest.landmarks[0]) * (scale_x, scale_y)
    yaw, pitch, roll = measures.head_pose(largest.landmarks)
    luma, clipped = measures.exposure(measures.crop_box(pixels, largest.bbox))
    return {
        "det_score": largest.score,
        "detector_size": face.detector_size,
        "border": face.border,
        "bbox": largest.bbox.tolist(),
        "landmarks": largest.landmarks.ravel().tolist(),
        "second_face": face.faces[1].area / largest.area if len(face.faces) > 1 else 0.0,
        "face_share": seen / ((x1 - x0) * (y1 - y0)),
        "face_pixels": min(box_width * scale_x, box_height * scale_y),
        "inter_ocular": float(np.hypot(*eyes)),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "sharpness": measures.sharpness(face.aligned),
        "exposure": luma,
        "clipped": clipped,
        "gender": face.gender,
        "age": face.age,
    }


def face_seen(parts: np.ndarray, bbox: np.ndarray | list[float], window: list[int]) -> float:
    """How much of a face shows: the share of its box, as far as it lies in the sample, that the parser gives to the
    face and what belongs to it. Hair, hats and whatever is held before the face are not counted.

    Args:
        parts: (S, S) uint8 class ids.
        bbox: (4,) x0, y0, x1, y1 of the face, px of the photo.
        window: (4,) x0, y0, x1, y1, px, the part of the photo that became the sample.
    """
    scale = np.array([parts.shape[1] / (window[2] - window[0]), parts.shape[0] / (window[3] - window[1])])
    box = (np.asarray(bbox, np.float64).reshape(2, 2) - window[:2]) * scale
    return float(np.isin(measures.crop_box(parts, box.ravel()), FACE_CLASSES).mean())


def mask_metrics(parts: np.ndarray | None, mask: np.ndarray | None, mask_is_given: bool) -> dict[str, Any]:
    """Columns about the face parse and the foreground.

    Args:
        parts: (S, S) uint8 class ids, or None without a parser.
        mask: (S, S) bool, the NAME_mask.png beside the image, or None.
        mask_is_given: that mask is the foreground; otherwise it is only compared with the parser's.
    """
    row: dict[str, Any] = {}
    foreground = mask if mask_is_given else None
    if parts is not None:
        pixels = np.bincount(parts.ravel(), minlength=len(CLASS_NAMES))
        parsed = parts != BACKGROUND
        row.update(n_parts=int((pixels > 0).sum()), part_pixels=pixels.tolist(), parts=png(parts))
        if mask is not None:
            either = int((parsed | mask).sum())
            row["mask_iou"] = float((parsed & mask).sum() / either) if either else 1.0
        foreground = parsed if foreground is None else foreground
    if foreground is not None:
        row.update(foreground=float(foreground.mean()), mask=png(foreground.astype(np.uint8) * 255))
    return row


def png(plane: np.ndarray) -> bytes:
    """(H, W) uint8 as an 8-bit greyscale PNG."""
    ok, data = cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a plane of shape {plane.shape} and type {plane.dtype}")
    return data.tobytes()
