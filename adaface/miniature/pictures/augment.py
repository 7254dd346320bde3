"""What happens to a face between the person and the network: a careless detector, cameras, small sizes."""

from __future__ import annotations

import cv2
import numpy as np


def jitter_points(landmarks: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(5, 2) px with an error as a detector makes it: normal, `share` of the distance of the eyes per coordinate."""
    distance = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    return landmarks + rng.normal(0, share * distance, landmarks.shape)


def jitter_box(box: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(4,) px with a normal error of `share` of its longer side in each number."""
    return box + rng.normal(0, share * max(box[2] - box[0], box[3] - box[1]), 4)


def degrade(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (S, S, 3) -> the same: now and then softer, noisier, brighter, darker or of another white balance."""
    side = crop.shape[0]
    if rng.random() < 0.25:
        small = int(rng.integers(round(side * 0.25), round(side * 0.7)))
        crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    elif rng.random() < 0.2:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.2) * side / 112)
    noise = rng.uniform(1, 9) if rng.random() < 0.15 else 0.0
    gain = rng.uniform(0.75, 1.25) if rng.random() < 0.4 else 1.0
    cast = rng.uniform(0.93, 1.07, 3) if rng.random() < 0.3 else np.ones(3)
    if not noise and gain == 1.0 and (cast == 1).all():
        return crop
    values = crop * (gain * cast).astype(np.float32)
    if noise:
        values = values + rng.standard_normal(crop.shape, np.float32) * np.float32(noise)
    return np.clip(values, 0, 255).astype(np.uint8)
