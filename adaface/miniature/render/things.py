"""Things that are not faces, each drawn in the frame of a face: within about -1..1 both ways, in colours by chance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from adaface.miniature.render.canvas import COS, SIN, Colour, Frame, Points

Drawing = Callable[["_Brush"], None]


class _Brush:
    """A frame that leaves the class map alone, and chance."""

    def __init__(self, frame: Frame, rng: np.random.Generator):
        self.frame, self.rng = frame, rng

    def polygon(self, points: Points, colour: Colour) -> None:
        self.frame.polygon(points, colour, None)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """A circle, or an ellipse `flat` times as high as wide."""
        self.frame.ellipse(x, y, radius, radius * flat, colour, None)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        self.frame.line(points, colour, width)

    def colour(self) -> np.ndarray:
        """Anything, skin colours included."""
        if self.rng.random() < 0.3:
            return self.rng.uniform(70, 250) * np.array([1.0, 0.8, 0.64])
        return self.rng.uniform(20, 250, 3)

    def coin(self, odds: float = 0.5) -> bool:
        return bool(self.rng.random() < odds)


def _ball(b: _Brush) -> None:
    first, second = b.colour(), b.colour()
    b.disc(0, 0, 1, first)
    for k in range(0, 6, 2):
        angle = k * math.pi / 3
        arc = [(math.cos(a), math.sin(a)) for a in np.linspace(angle, angle + math.pi / 3, 9)]
        b.polygon([(0.2, -0.25), *arc], second)
    b.disc(-0.35, -0.4, 0.15, (255, 255, 255))


def _football(b: _Brush) -> None:
    b.disc(0, 0, 1, (240, 240, 240))
    for x, y in [(0.0, 0.0), *((0.78 * math.cos(a), 0.78 * math.sin(a)) for a in np.arange(5) * 1.257 + 0.3)]:
        b.disc(x, y, 0.24, (25, 25, 28))


def _mug(b: _Brush) -> None:
    colour = b.colour()
    b.line(np.stack([0.75 + 0.45 * COS, 0.05 + 0.45 * SIN], 1), colour * 0.85, 0.18)
    b.box(-0.8, -0.85, 0.7, 0.9, colour)
    b.disc(-0.05, -0.85, 0.75, colour * 0.6, 0.22)
    if b.coin():
        b.disc(-0.05, 0.1, 0.3, b.colour())


def _house(b: _Brush) -> None:
    b.box(-0.85, -0.3, 0.85, 1, b.colour())
    b.polygon([(-1.1, -0.3), (0, -1.1), (1.1, -0.3)], b.colour())
    glass = (255, 225, 120) if b.coin(0.4) else (90, 130, 170)
    for x in (-0.45, 0.45):
        b.box(x - 0.2, -0.05, x + 0.2, 0.3, glass)
    b.box(-0.17, 0.45, 0.17, 1, b.colour() * 0.5)


def _tree(b: _Brush) -> None:
    b.box(-0.14, 0.1, 0.14, 1.1, (88, 58, 34))
    leaves = np.array([50, b.rng.uniform(100, 180), 50]) if b.coin(0.7) else np.array([210, 130, 40])
    if b.coin():
        for x, y in ((-0.4, -0.1), (0.4, -0.1), (0, -0.55), (0, 0)):
            b.disc(x, y, 0.48, leaves)
        for x, y in b.rng.uniform(-0.5, 0.4, (5, 2)):
            b.disc(x, y - 0.15, 0.09, (210, 40, 40))
    else:
        for y in (0.3, -0.2, -0.65):
            b.polygon([(-0.75 - y * 0.25, y + 0.25), (0, y - 0.55), (0.75 + y * 0.25, y + 0.25)], leaves)


def _car(b: _Brush) -> None:
    """From the side, or from the front with two lamps and a grille."""
    paint = b.colour()
    if b.coin():
        b.polygon([(-0.6, -0.1), (-0.35, -0.5), (0.35, -0.5), (0.65, -0.1)], (170, 205, 230))
        b.polygon([(-1.1, 0), (1.1, -0.05), (1.15, 0.4), (-1.15, 0.4)], paint)
        for x in (-0.62, 0.62):
            b.disc(x, 0.42, 0.25, (25, 25, 25))
            b.disc(x, 0.42, 0.12, (190, 190, 190))
    else:
        b.polygon([(-0.7, -0.1), (-0.5, -0.7), (0.5, -0.7), (0.7, -0.1)], (90, 120, 140))
        b.box(-0.95, -0.15, 0.95, 0.65, paint)
        for x in (-0.65, 0.65):
            b.disc(x, 0.12, 0.2, (250, 245, 210))
            b.box(x - 0.2, 0.65, x + 0.2, 0.9, (25, 25, 25))
        b.box(-0.4, 0.25, 0.4, 0.45, (40, 40, 44))


def _apple(b: _Brush) -> None:
    colour = np.array([[200, 30, 40], [120, 180, 50], [235, 190, 60]][b.rng.integers(3)], float)
    b.disc(-0.25, 0.1, 0.75, colour, 1.1)
    b.disc(0.25, 0.1, 0.75, colour, 1.1)
    b.line([(0, -0.6), (0.1, -1)], (80, 50, 30), 0.1)
    b.disc(0.35, -0.85, 0.25, (70, 150, 60), 0.45)


def _orange(b: _Brush) -> None:
    b.disc(0, 0, 0.95, (245, 140, 30))
    for x, y in b.rng.uniform(-0.6, 0.6, (8, 2)):
        b.disc(x, y, 0.05, (220, 115, 15))


def _bananas(b: _Brush) -> None:
    angle = np.linspace(0.3, 2.6, 15)
    for k in range(int(b.rng.integers(1, 4))):
        outer = np.stack([np.cos(angle), np.sin(angle) * 0.9 - 0.2 + 0.2 * k], 1)
        b.polygon([*map(tuple, outer), *map(tuple, (outer * [0.9, 0.62] - [0, 0.1])[::-1])], (245, 215 - 15 * k, 60))


def _grapes(b: _Brush) -> None:
    colour = b.rng.uniform(0.7, 1.1) * np.array([[110, 50, 130], [140, 190, 80]][b.rng.integers(2)])
    for row in range(4):
        for k in range(4 - row):
            b.disc((k - (3 - row) / 2) * 0.48, -0.6 + row * 0.42, 0.28, colour * (0.85 + 0.1 * ((row + k) % 3)))
    b.line([(0, -0.8), (0.05, -1.15)], (90, 120, 50), 0.1)


def _clock(b: _Brush) -> None:
    b.disc(0, 0, 1, b.colour())
    b.disc(0, 0, 0.85, (245, 243, 235))
    for a in np.arange(12) * math.pi / 6:
        b.disc(0.7 * math.cos(a), 0.7 * math.sin(a), 0.05, (30, 30, 30))
    for reach in (0.4, 0.62):
        a = b.rng.uniform(0, 2 * math.pi)
        b.line([(0, 0), (reach * math.cos(a), reach * math.sin(a))], (20, 20, 20), 0.08)


def _flower(b: _Brush) -> None:
    b.line([(0, 0), (0.08, 1.2)], (50, 130, 50), 0.1)
    b.disc(0.35, 0.75, 0.3, (60, 150, 60), 0.45)
    petal, count = b.colour(), int(b.rng.integers(5, 9))
    for a in np.arange(count) * 2 * math.pi / count:
        b.disc(0.5 * math.cos(a), -0.3 + 0.5 * math.sin(a), 0.3, petal)
    b.disc(0, -0.3, 0.32, (245, 205, 60) if b.coin(0.7) else (90, 60, 40))


def _vase(b: _Brush) -> None:
    colour = b.colour()
    for x in (-0.45, 0.0, 0.45):
        b.line([(0, -0.1), (x, -0.75)], (60, 130, 60), 0.07)
        b.disc(x, -0.8, 0.24, b.colour())
    b.polygon([(-0.3, -0.2), (0.3, -0.2), (0.55, 0.4), (0.35, 1), (-0.35, 1), (-0.55, 0.4)], colour)
    b.line([(-0.5, 0.4), (0.5, 0.4)], colour * 0.6, 0.1)


def _fish(b: _Brush) -> None:
    colour = b.colour()
    b.polygon([(0.6, 0), (1.1, -0.4), (1.1, 0.4)], colour * 0.8)
    b.disc(0, 0, 0.8, colour, 0.55)
    b.disc(-0.5, -0.1, 0.12, (250, 250, 250))
    b.disc(-0.5, -0.1, 0.06, (10, 10, 10))
    b.line([(-0.2, -0.35), (-0.15, 0.35)], colour * 0.7, 0.06)


def _bird(b: _Brush) -> None:
    colour = b.colour()
    b.polygon([(0.4, 0.2), (1.1, -0.2), (0.7, 0.5)], colour * 0.8)
    b.disc(0.05, 0.25, 0.6, colour, 0.75)
    b.disc(-0.5, -0.3, 0.35, colour)
    b.polygon([(-0.8, -0.35), (-1.15, -0.2), (-0.8, -0.15)], (240, 160, 40))
    b.disc(-0.58, -0.38, 0.07, (10, 10, 10))
    b.disc(0.15, 0.2, 0.35, colour * 0.75, 0.6)


def _cat(b: _Brush) -> None:
    """A cat's head: ears on top, slit eyes, whiskers."""
    fur = np.array([[225, 150, 70], [110, 110, 115], [40, 38, 42], [240, 235, 225]][b.rng.integers(4)], float)
    for sign in (-1, 1):
        b.polygon([(sign * 0.9, -0.1), (sign * 0.85, -1.1), (sign * 0.2, -0.6)], fur)
        b.polygon([(sign * 0.78, -0.4), (sign * 0.75, -0.85), (sign * 0.4, -0.6)], (235, 160, 160))
    b.disc(0, 0.1, 0.9, fur, 0.82)
    for sign in (-1, 1):
        b.disc(sign * 0.4, -0.05, 0.2, (150, 200, 70))
        b.disc(sign * 0.4, -0.05, 0.05, (10, 10, 10), 3.4)
        for y in (0.3, 0.42):
            b.line([(sign * 0.3, 0.35), (sign * 1.15, y)], (250, 250, 250) if fur.sum() < 400 else (60, 60, 60), 0.03)
    b.polygon([(-0.12, 0.22), (0.12, 0.22), (0, 0.36)], (220, 120, 130))
    b.line([(-0.2, 0.5), (0, 0.36), (0.2, 0.5)], fur * 0.4, 0.05)


def _button(b: _Brush) -> None:
    colour = b.colour()
    b.disc(0, 0, 0.95, colour * 0.8)
    b.disc(0, 0, 0.75, colour)
    holes = [(-0.22, -0.22), (0.22, -0.22), (-0.22, 0.22), (0.22, 0.22)] if b.coin() else [(-0.25, 0.0), (0.25, 0.0)]
    for x, y in holes:
        b.disc(x, y, 0.12, colour * 0.25)


def _plate(b: _Brush) -> None:
    rim = b.colour()
    b.disc(0, 0, 1, rim)
    b.disc(0, 0, 0.85, (246, 244, 240))
    if b.coin(0.6):  # two eggs and a sausage
        for x in (-0.33, 0.33):
            b.disc(x, -0.15, 0.3, (255, 255, 255))
            b.disc(x, -0.15, 0.15, (250, 190, 40))
        b.line([(-0.35, 0.35), (0, 0.45), (0.35, 0.35)], (150, 70, 40), 0.16)


def _socket(b: _Brush) -> None:
    b.box(-0.9, -0.9, 0.9, 0.9, (236, 234, 228))
    b.disc(0, 0, 0.65, (215, 212, 205))
    for x in (-0.27, 0.27):
        b.disc(x, 0, 0.11, (30, 30, 30))


def _lamp(b: _Brush) -> None:
    b.line([(0, 0), (0, 0.9)], (90, 80, 70), 0.1)
    b.disc(0, 0.95, 0.45, (90, 80, 70), 0.25)
    b.polygon([(-0.4, -0.9), (0.4, -0.9), (0.8, 0.05), (-0.8, 0.05)], b.colour())


def _books(b: _Brush) -> None:
    for k in range(5):
        half, shift = b.rng.uniform(0.7, 1), b.rng.uniform(-0.1, 0.1)
        b.box(shift - half, 0.6 - 0.38 * k, shift + half, 0.95 - 0.38 * k, b.colour())


def _boat(b: _Brush) -> None:
    b.line([(0, 0.4), (0, -1.1)], (110, 80, 50), 0.08)
    b.polygon([(0.06, -1), (0.06, 0.2), (0.8, 0.2)], (245, 240, 230))
    b.polygon([(-0.06, -0.8), (-0.06, 0.2), (-0.6, 0.2)], b.colour())
    b.polygon([(-1.1, 0.35), (1.1, 0.35), (0.7, 0.85), (-0.7, 0.85)], b.colour())


def _mushroom(b: _Brush) -> None:
    b.polygon([(-0.25, 0), (0.25, 0), (0.35, 1), (-0.35, 1)], (240, 228, 205))
    above = SIN < 0.05
    b.polygon(np.stack([COS[above] * 1.0, SIN[above] * 0.9 + 0.15], 1), b.colour())
    for x, y in ((-0.5, -0.15), (0.1, -0.45), (0.5, -0.1)):
        b.disc(x, y, 0.15, (250, 245, 240))


def _balloons(b: _Brush) -> None:
    for x, y in ((-0.5, -0.3), (0.45, -0.5), (0, 0.1)):
        colour = b.colour()
        b.line([(x, y), (0, 1.2)], (80, 80, 80), 0.03)
        b.disc(x, y, 0.42, colour, 1.2)
        b.disc(x - 0.14, y - 0.2, 0.08, np.minimum(colour + 60, 255))


def _cake(b: _Brush) -> None:
    b.box(-0.9, 0, 0.9, 0.9, (200, 140, 85))
    b.box(-0.9, -0.15, 0.9, 0.2, b.colour())
    for x in (-0.5, 0.0, 0.5):
        b.box(x - 0.05, -0.65, x + 0.05, -0.15, (240, 240, 250))
        b.disc(x, -0.75, 0.08, (255, 190, 60), 1.5)


def _traffic_light(b: _Brush) -> None:
    b.box(-0.42, -1, 0.42, 1, (35, 38, 40))
    lit = b.rng.integers(3)
    for k, colour in enumerate(((230, 40, 40), (240, 190, 40), (50, 200, 80))):
        b.disc(0, -0.62 + 0.62 * k, 0.25, np.array(colour) * (1.0 if k == lit else 0.35))


def _window(b: _Brush) -> None:
    frame = b.colour()
    b.box(-0.9, -1, 0.9, 1, frame)
    for x in (-0.8, 0.06):
        for y in (-0.9, 0.06):
            b.box(x, y, x + 0.74, y + 0.84, (120, 180, 225))


def _tape(b: _Brush) -> None:
    """A music cassette: two reels in a window, a trapezium below."""
    b.box(-1.1, -0.7, 1.1, 0.7, b.colour())
    b.box(-0.7, -0.25, 0.7, 0.25, (230, 226, 215))
    for x in (-0.4, 0.4):
        b.disc(x, 0, 0.2, (30, 30, 30))
        b.disc(x, 0, 0.1, (240, 240, 240))
    b.polygon([(-0.5, 0.7), (-0.42, 0.45), (0.42, 0.45), (0.5, 0.7)], (60, 60, 64))


_DRAWINGS: tuple[Drawing, ...] = (
    *(_ball, _football, _mug, _house, _tree, _car, _apple, _orange, _bananas, _grapes, _clock, _flower, _vase, _fish),
    *(_bird, _cat, _button, _plate, _socket, _lamp, _books, _boat, _mushroom, _balloons, _cake, _traffic_light),
    *(_window, _tape),
)


def draw_thing(frame: Frame, name: str, rng: np.random.Generator) -> None:
    """Draw one of `THINGS` into a frame, about as large as a face there would be. The class map stays as it is."""
    _BY_NAME[name](_Brush(frame, rng))


_BY_NAME = {drawing.__name__[1:].replace("_", " "): drawing for drawing in _DRAWINGS}
THINGS = tuple(_BY_NAME)
