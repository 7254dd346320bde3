"""What happens to the picture after it is drawn: light, camera, style."""

from __future__ import annotations

import cv2
import numpy as np

# Width of the blur of a lens, px of the final picture (standard deviation).
LENS_BLUR = 0.45
PIXEL_ART_CELLS = 32
_PIXEL_ART_LEVELS = 6


def illuminate(image: np.ndarray, light: str, side_light: float, exposure: float) -> np.ndarray:
    """uint8 (H, W, 3) -> the same under a light; `side_light` -1..1, `exposure` a factor."""
    height, width = image.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    lit = image * ((1 + side_light * across) * exposure)
    if light == "sunset":
        lit = lit * np.array([1.06, 0.82, 0.60], np.float32) + np.array([64, 24, 0], np.float32) * (0.5 - 0.5 * down)
    elif light == "neon":
        t = 0.5 + 0.5 * across
        lit = lit * 0.70 + np.array([110, 0, 104], np.float32) * (1 - t) + np.array([0, 64, 122], np.float32) * t
    return np.clip(lit, 0, 255).astype(np.uint8)


def photograph(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Down to the final size by area, then the softness of a lens, which a drawing of hard edges lacks."""
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(image, (3, 3), LENS_BLUR)


def stylise(image: np.ndarray, style: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) photograph -> the same as a sketch, a painting or pixel art."""
    if style == "pencil sketch":
        return _sketch(image)
    if style == "oil painting":
        return _oil(image, rng)
    if style == "pixel art":
        return _pixel_art(image)
    return image


def _sketch(image: np.ndarray) -> np.ndarray:
    """Colour dodge: grey divided by its blurred negative leaves the edges dark on white; a little shading stays."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(255 - grey, (0, 0), image.shape[0] / 24)
    lines = cv2.divide(grey, 255 - blurred, scale=250).astype(np.float32)
    shaded = 0.65 * lines + 0.35 * (grey.astype(np.float32) * 0.6 + 95)
    return np.repeat(np.clip(shaded, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _oil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat patches (median), few tones, stronger colours, strokes along the horizontal."""
    unit = image.shape[0] / 64
    flat = cv2.medianBlur(image, 2 * round(unit) + 1).astype(np.float32)
    tones = np.round(flat / 36) * 36
    grain = rng.normal(0, 1, (32, 32)).astype(np.float32)
    strokes = cv2.resize(cv2.GaussianBlur(grain, (0, 0), sigmaX=1.6, sigmaY=0.5), image.shape[1::-1])
    grey = tones.mean(2, keepdims=True)
    return np.clip(grey + 1.3 * (tones - grey) + 26 * strokes[..., None], 0, 255).astype(np.uint8)


def _pixel_art(image: np.ndarray) -> np.ndarray:
    """`PIXEL_ART_CELLS` cells on the shorter side, a handful of tones per channel."""
    height, width = image.shape[:2]
    side = min(height, width) / PIXEL_ART_CELLS
    small = (max(1, round(width / side)), max(1, round(height / side)))
    cells = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    step = 255 / (_PIXEL_ART_LEVELS - 1)
    return cv2.resize(
        (np.round(cells / step) * step).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
