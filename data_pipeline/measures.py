"""Numbers read off one photograph: where the sample is cut, pose, sharpness, exposure, perceptual hash."""

from __future__ import annotations

import cv2
import numpy as np

# The five points of a frontal face, in units of the ArcFace template (112 px; Deng et al. 2019), x right, y down, and
# z towards the camera. x and y are the template made symmetric, with the nose tip lower, where detectors see it on
# level heads (0.57 of the way from the eyes to the mouth; the template has 0.49); z is anatomy: the nose tip stands
# about 0.4 eye distances before the eyes.
_FRONTAL = np.array(
    [
        [-17.6, -22.6, 0.0],
        [17.6, -22.6, 0.0],
        [0.0, 0.6, 14.0],
        [-14.6, 18.1, 1.0],
        [14.6, 18.1, 1.0],
    ]
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def square_window(width: int, height: int, bbox: np.ndarray | None, resize: str) -> tuple[int, int, int, int]:
    """The part of an image that becomes the sample.

    Args:
        width, height: of the image, px.
        bbox: (4,) x0, y0, x1, y1 of the face, or None.
        resize: "squeeze" takes the whole image; "crop" the largest square, moved so that the face is as central as it
            can be.

    Returns:
        x0, y0, x1, y1, px.
    """
    if resize == "squeeze":
        return 0, 0, width, height
    side = min(width, height)
    centre_x, centre_y = (
        (width / 2, height / 2) if bbox is None else ((bbox[0] + bbox[2]) / 2, (bbox[1] + bbox[3]) / 2)
    )
    x0 = round(min(max(float(centre_x) - side / 2, 0), width - side))
    y0 = round(min(max(float(centre_y) - side / 2, 0), height - side))
    return x0, y0, x0 + side, y0 + side


def resize_antialiased(pixels: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8, channels in any order -> (size, size, 3) uint8.

    Area average where the picture shrinks, cubic where it grows.
    """
    height, width = pixels.shape[:2]
    # First the sides that shrink: with one side growing, OpenCV's INTER_AREA is bilinear on both, and aliases.
    smaller = (min(width, size), min(height, size))
    if smaller != (width, height):
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(pixels)


def head_pose(landmarks: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll from five points, under a scaled orthographic camera.

    The affine camera that best maps the frontal points to the seen ones is found by least squares and brought to the
    nearest rotation (POS, DeMenthon and Davis 1995, first step).

    Args:
        landmarks: (5, 2) px: eyes, nose tip, mouth corners, left of the picture first.

    Returns:
        Degrees. Yaw: positive when the nose points to the right of the picture; pitch: positive when it points up;
        roll: positive when the head leans clockwise in the picture.
    """
    seen = landmarks.astype(np.float64) - landmarks.mean(axis=0)
    model = _FRONTAL - _FRONTAL.mean(axis=0)
    camera = np.linalg.lstsq(model, seen, rcond=None)[0].T  # (2, 3)
    u, _, vt = np.linalg.svd(camera, full_matrices=False)
    first, second = u @ vt
    third = np.cross(first, second)
    # Rows map face axes to picture axes; `third` completes them, its z is how far the face looks into the camera.
    yaw = np.degrees(np.arctan2(first[2], third[2]))
    pitch = np.degrees(np.arcsin(np.clip(-second[2], -1, 1)))
    roll = np.degrees(np.arctan2(second[0], second[1]))
    return float(yaw), float(pitch), float(roll)


def sharpness(aligned: np.ndarray) -> float:
    """Variance of the Laplacian of an aligned face (112, 112, 3) uint8 RGB, in squared grey levels; low is blurry.

    Aligned faces all have one scale, so the number compares across pictures (Pech-Pacheco et al. 2000).
    """
    grey = (aligned.astype(np.float32) @ _LUMA).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def exposure(face: np.ndarray) -> tuple[float, float]:
    """Mean luma, 0..1, and share of clipped pixels (luma <= 4 or >= 251), 0..1, of (H, W, 3) uint8 RGB."""
    luma = face.reshape(-1, 3).astype(np.float32) @ _LUMA
    return float(luma.mean() / 255), float(((luma <= 4) | (luma >= 251)).mean())


def perceptual_hash(sample: np.ndarray) -> int:
    """64-bit DCT hash (pHash: sign of the 8 x 8 lowest frequencies against their median), as a signed integer.

    Args:
        sample: (S, S, 3) uint8 RGB.
    """
    grey = cv2.cvtColor(cv2.resize(sample, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first coefficient is the mean brightness and would shift the median
    return int(np.packbits(bits).view(">i8")[0])


def hamming(hashes: np.ndarray, other: int) -> np.ndarray:
    """Differing bits, 0..64, between (N,) int64 hashes and one more."""
    different = np.bitwise_xor(hashes.astype(np.int64), np.int64(other)).view(np.uint64)
    return np.bitwise_count(different)


def overlap(bbox: np.ndarray, window: tuple[int, int, int, int]) -> float:
    """Area, square px, of the part of a box (4,) that lies inside a window; both are x0, y0, x1, y1."""
    width = min(float(bbox[2]), window[2]) - max(float(bbox[0]), window[0])
    height = min(float(bbox[3]), window[3]) - max(float(bbox[1]), window[1])
    return max(width, 0.0) * max(height, 0.0)


def crop_box(pixels: np.ndarray, bbox: np.ndarray) -> np.ndarray:
    """The part of (H, W, 3) inside a box, which may reach over the edge; at least one pixel."""
    height, width = pixels.shape[:2]
    x0, y0 = int(min(max(np.floor(bbox[0]), 0), width - 1)), int(min(max(np.floor(bbox[1]), 0), height - 1))
    x1, y1 = int(min(max(np.ceil(bbox[2]), x0 + 1), width)), int(min(max(np.ceil(bbox[3]), y0 + 1), height))
    return pixels[y0:y1, x0:x1]
