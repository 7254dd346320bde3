"""How good a detector file is on held-out rendered photographs, run by insightface as the pipeline runs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaface.miniature.pictures.detector_photos import decode, load_photos

THRESHOLD, OVERLAP = 0.5, 0.5
# Rungs of the retry ladder of `adaface.perception.faces` that `configs/miniature.yaml` asks for, px and share.
SIZES, BORDERS = (320, 160), (0.0, 0.25)
_MIN_SIDE = 24.0  # px of the photograph
_PROFILE, _FRONTAL = 0.9, 0.35  # radians
_MOSTLY_SEEN = 0.55

Detect = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def open_detector(file: Path) -> Detect:
    """A function from a picture (uint8 (H, W, 3), blue first) and a detector size to boxes with scores (N, 5) and key
    points (N, 5, 2), px, after insightface's own decoding and suppression of doubles.
    """
    from adaface.perception.onnx_session import providers, session_options

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside insightface and what it imports
        from insightface.model_zoo import get_model

        model: Any = get_model(str(file), providers=providers("cpu"), sess_options=session_options(1))
    return lambda image, size: model.detect(image, input_size=(size, size), det_thresh=THRESHOLD)


def measure(detect: Detect, data: Path, size: int = SIZES[0], photos: int = 300) -> dict[str, float]:
    """The numbers of the held-out photographs rendered into `data`; `_hard` ones are of any pose, style and fault.

    recall and precision of faces of at least 24 px; point_error: mean distance of the key points in distances
    between the eyes; score: 1st percentile and median of the faces found; empty: share of landscapes and things in
    which none of the rungs finds a face.
    """
    album = Tally()
    hard = Tally()
    for tally, kind in ((album, "album"), (hard, "hard")):
        for photo, faces in _pairs(data, kind, photos):
            tally.add(*detect(photo, size), faces, photo.shape)
    empty = [not any(len(detect(_bordered(photo, border), side)[0]) for border in BORDERS for side in SIZES)
             for photo, _ in _pairs(data, "empty", photos)]  # fmt: skip
    out = {**album.numbers(""), **hard.numbers("_hard"), "empty": float(np.mean(empty))}
    return {name: round(value, 4) for name, value in out.items()}


class Tally:
    """Matches found faces with true ones, best scores first."""

    def __init__(self) -> None:
        self.faces = self.found = self.false = 0
        self.errors: list[tuple[float, float]] = []  # |yaw|, error
        self.scores: list[tuple[float, float]] = []  # |yaw|, score; 0 for a face that was missed

    def add(self, boxes: np.ndarray, points: np.ndarray, faces: np.ndarray, shape: tuple[int, ...]) -> None:
        faces = faces[faces[:, 15] > 0]
        wanted = np.array([_wanted(face, shape) for face in faces], bool)
        free = np.ones(len(faces), bool)
        score_of = np.zeros(len(faces))
        for box, marks in zip(boxes, points, strict=True):
            overlap = _overlap(box, faces[:, :4]) * free
            best = int(overlap.argmax()) if len(faces) else -1
            if best < 0 or overlap[best] < OVERLAP:
                # what half shows a hidden face is neither right nor wrong
                if not (len(faces) and (_overlap(box, faces[~wanted, :4]) > 0.2).any()):
                    self.false += 1
                continue
            free[best], score_of[best] = False, box[4]
            if wanted[best]:
                self.found += 1
                true = faces[best, 4:14].reshape(5, 2)
                # in a profile the eyes fall together: their distance is what it would be from the front
                eyes = np.linalg.norm(true[1] - true[0]) / max(np.cos(faces[best, 14]), 0.35)
                error = float(np.linalg.norm(marks - true, axis=1).mean() / eyes)
                self.errors.append((abs(float(faces[best, 14])), error))
        self.faces += int(wanted.sum())
        self.scores += [(abs(float(f[14])), float(s)) for f, s in zip(faces[wanted], score_of[wanted], strict=True)]

    def numbers(self, suffix: str) -> dict[str, float]:
        errors, scores = np.array(self.errors).reshape(-1, 2), np.array(self.scores).reshape(-1, 2)
        profile = scores[scores[:, 0] > _PROFILE, 1]
        out = {
            "faces": float(self.faces),
            "recall": self.found / max(self.faces, 1),
            "precision": self.found / max(self.found + self.false, 1),
            "point_error": float(errors[:, 1].mean()) if len(errors) else 1.0,
            "point_error_frontal": float(errors[errors[:, 0] < _FRONTAL, 1].mean()) if len(errors) else 1.0,
            "score_p1": float(np.percentile(scores[:, 1], 1)),
            "score_median": float(np.median(scores[:, 1])),
            "score_profile": float(np.median(profile)) if len(profile) else 0.0,
        }
        return {name + suffix: value for name, value in out.items()}


def _wanted(face: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether this face (16,) of a picture must be found."""
    from adaface.miniature.pictures.detector_views import seen_in

    seen = seen_in(face[None], 0, 0, shape[1], shape[0])
    return bool(min(face[2:4] - face[:2]) >= _MIN_SIDE and len(seen) and seen[0, 15] >= _MOSTLY_SEEN)


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of box (4+,) with others (N, 4): (N,)."""
    both = np.minimum(box[2:4], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(both, 0), axis=1)
    return shared / (np.prod(box[2:4] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared + 1e-9)


def _bordered(image: np.ndarray, share: float) -> np.ndarray:
    y, x = (round(share * length) for length in image.shape[:2])
    return cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def _pairs(data: Path, kind: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    photos = load_photos(data, kind, count)
    return [(decode(photo), np.asarray(faces)) for photo, faces in zip(photos["photo"], photos["faces"], strict=True)]
