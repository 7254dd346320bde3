"""The twelve places a picture can be taken at."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

VARIANTS = 8


def background(place: str, variant: int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3); one of `VARIANTS` pictures of the place, mirrored for the odd ones. A fresh copy."""
    picture = _cached(place, variant % VARIANTS, height, width)
    return np.ascontiguousarray(picture[:, ::-1]) if variant % 2 else picture.copy()


@lru_cache(maxsize=512)
def _cached(place: str, variant: int, height: int, width: int) -> np.ndarray:
    sheet = _Sheet(height, width, np.random.default_rng([variant, *place.encode()]))
    _PAINTERS[place](sheet)
    return sheet.image


class _Sheet:
    """A picture addressed in shares of its width and height; discs stay round."""

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.image = np.zeros((height, width, 3), np.uint8)
        self.rng, self.height, self.width = rng, height, width
        self.sway = float(rng.uniform(-0.06, 0.06))

    def gradient(self, top: tuple, bottom: tuple, y0: float = 0.0, y1: float = 1.0) -> None:
        a, b = round(y0 * self.height), round(y1 * self.height)
        t = np.linspace(0, 1, max(b - a, 1))[:, None, None]
        self.image[a:b] = np.clip(np.array(top) * (1 - t) + np.array(bottom) * t, 0, 255)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: tuple) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def polygon(self, points: list[tuple[float, float]], colour: tuple) -> None:
        corners = np.round(np.array(points) * [self.width * 16, self.height * 16]).astype(np.int32)
        cv2.fillPoly(self.image, [corners], tuple(map(int, colour)), cv2.LINE_AA, 4)

    def disc(self, x: float, y: float, radius: float, colour: tuple) -> None:
        centre = (round(x * self.width * 16), round(y * self.height * 16))
        cv2.circle(
            self.image, centre, round(radius * min(self.height, self.width) * 16), tuple(map(int, colour)), -1,
            cv2.LINE_AA, 4,
        )  # fmt: skip


def _studio(s: _Sheet) -> None:
    grey = s.rng.uniform(150, 215)
    s.gradient((grey,) * 3, (grey - 35,) * 3)


def _beach(s: _Sheet) -> None:
    s.gradient((110, 190, 245), (190, 228, 250), 0, 0.45 + s.sway)
    s.gradient((20, 120, 190), (70, 190, 210), 0.45 + s.sway, 0.65 + s.sway)
    s.gradient((240, 215, 150), (225, 190, 120), 0.65 + s.sway, 1)
    s.disc(s.rng.uniform(0.08, 0.22), 0.12, 0.08, (255, 245, 170))


def _forest(s: _Sheet) -> None:
    s.gradient((70, 125, 60), (34, 78, 34))
    for x in np.linspace(0.06, 0.94, 5) + s.rng.uniform(-0.04, 0.04, 5):
        s.rectangle(x - 0.035, 0, x + 0.035, 0.92, (78, 52, 30))
        s.disc(x, s.rng.uniform(0, 0.2), 0.15, (44, s.rng.uniform(110, 150), 48))


def _snow(s: _Sheet) -> None:
    s.gradient((190, 208, 232), (250, 250, 255))
    for x in (0.1 + s.sway, 0.9 + s.sway, 0.55 + s.sway):
        s.polygon([(x - 0.14, 0.66), (x, 0.2), (x + 0.14, 0.66)], (78, 112, 100))
        s.polygon([(x - 0.06, 0.4), (x, 0.2), (x + 0.06, 0.4)], (250, 250, 255))
    for x, y in s.rng.random((16, 2)):
        s.disc(x, y, 0.02, (255, 255, 255))


def _city(s: _Sheet) -> None:
    s.gradient((16, 16, 56), (46, 34, 90))
    for i in range(5):
        x, top = i / 5, s.rng.uniform(0.08, 0.4)
        s.rectangle(x, top, x + 0.18, 1, (28, 28, 40))
        for y in np.arange(top + 0.06, 0.9, 0.14):
            for dx in (0.035, 0.105):
                if s.rng.random() < 0.7:
                    s.rectangle(x + dx, y, x + dx + 0.045, y + 0.06, (255, 222, 105))


def _desert(s: _Sheet) -> None:
    s.gradient((250, 200, 120), (255, 230, 180), 0, 0.5 + s.sway)
    s.gradient((225, 160, 80), (190, 120, 55), 0.5 + s.sway, 1)
    for x in (s.rng.uniform(0.06, 0.16), s.rng.uniform(0.84, 0.94)):
        s.rectangle(x - 0.035, 0.28, x + 0.035, 0.78, (50, 120, 60))
        s.rectangle(x - 0.1, 0.40, x + 0.1, 0.47, (50, 120, 60))
        s.rectangle(x - 0.1, 0.32, x - 0.05, 0.47, (50, 120, 60))


def _office(s: _Sheet) -> None:
    s.gradient((205, 212, 220), (170, 178, 190))
    for x in (0.03 + s.sway, 0.70 + s.sway):
        s.rectangle(x, 0.08, x + 0.27, 0.48, (128, 192, 235))
        s.rectangle(x + 0.12, 0.08, x + 0.15, 0.48, (250, 250, 250))
        s.rectangle(x, 0.26, x + 0.27, 0.29, (250, 250, 250))
    s.rectangle(0, 0.70, 1, 0.80, (120, 85, 60))


def _mountain(s: _Sheet) -> None:
    s.gradient((120, 180, 235), (200, 225, 245))
    for x in (0.08 + s.sway, 0.92 + s.sway, 0.5 + s.sway):
        s.polygon([(x - 0.36, 0.85), (x, 0.14), (x + 0.36, 0.85)], (108, 108, 124))
        s.polygon([(x - 0.11, 0.36), (x, 0.14), (x + 0.11, 0.36)], (250, 250, 255))
    s.rectangle(0, 0.80, 1, 1, (90, 140, 80))


def _library(s: _Sheet) -> None:
    s.gradient((96, 62, 36), (64, 40, 24))
    books = ((170, 40, 40), (40, 90, 150), (60, 130, 70), (210, 170, 80), (120, 60, 130))
    for shelf in range(4):
        x = 0.0
        while x < 1:
            wide = s.rng.uniform(0.055, 0.09)
            s.rectangle(x, shelf * 0.25 + 0.03, x + wide - 0.012, shelf * 0.25 + 0.20, books[s.rng.integers(5)])
            x += wide


def _space(s: _Sheet) -> None:
    s.gradient((6, 3, 20), (28, 10, 54))
    for x, y in s.rng.random((26, 2)):
        s.disc(x, y, 0.013, (255, 255, 255))
    s.disc(s.rng.choice([0.13, 0.87]), s.rng.uniform(0.14, 0.3), 0.13, (196, 96, 62))


def _kitchen(s: _Sheet) -> None:
    s.gradient((240, 236, 222), (240, 236, 222))
    for v in np.arange(0, 1, 0.167):
        s.rectangle(0, v, 1, v + 0.018, (176, 178, 170))
        s.rectangle(v, 0, v + 0.018, 1, (176, 178, 170))
    s.rectangle(0, 0, 0.26 + s.sway, 0.32, (150, 95, 60))
    s.rectangle(0.74 + s.sway, 0, 1, 0.32, (150, 95, 60))


def _garden(s: _Sheet) -> None:
    s.gradient((150, 210, 250), (210, 235, 240), 0, 0.35)
    s.gradient((96, 178, 74), (62, 132, 52), 0.35, 1)
    petals = ((240, 70, 110), (255, 220, 60), (230, 120, 230), (255, 255, 255))
    for x, y in s.rng.random((18, 2)) * [1, 0.62] + [0, 0.38]:
        s.disc(x, y, 0.042, petals[s.rng.integers(4)])


_PAINTERS: dict[str, Callable[[_Sheet], None]] = {
    "studio": _studio,
    "beach": _beach,
    "forest": _forest,
    "snow": _snow,
    "city": _city,
    "desert": _desert,
    "office": _office,
    "mountain": _mountain,
    "library": _library,
    "space": _space,
    "kitchen": _kitchen,
    "garden": _garden,
}
