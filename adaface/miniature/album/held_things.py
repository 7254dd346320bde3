"""What people hold before their faces: a book, a sheet of paper, a balloon, a phone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


_BLOCK = _polygon((-1, -1), (1, -1), (1, 1), (-1, 1))
_DISC = np.stack([np.cos(turn := np.linspace(0, 2 * math.pi, 40, endpoint=False)), np.sin(turn)], 1)
# An outline in halves of the face box, and what is drawn on it.
_THINGS: dict[str, tuple[np.ndarray, tuple[np.ndarray, ...]]] = {
    "book": (_BLOCK, (_polygon((-0.06, -1), (0.06, -1), (0.06, 1), (-0.06, 1)), _BLOCK * [0.5, 0.12] + [0, -0.5])),
    "sheet of paper": (_BLOCK * [1, 1.1], (_BLOCK * [0.7, 0.05] + [0, -0.3], _BLOCK * [0.7, 0.05] + [0, 0.2])),
    "balloon": (_DISC * 1.15, (_DISC * 0.2 - 0.5,)),
    "phone": (_BLOCK * [0.85, 1.15], (_BLOCK * [0.75, 1.0], _BLOCK * [0.12, 0.06] + [0, -0.8])),
}
# Where it comes from, as a direction.
_SIDES = {"below": (0.0, 1.0), "left": (-1.0, 0.25), "right": (1.0, 0.25)}
AWAY = np.linspace(1.0, 0.0, 21)  # the way it takes: from beside the face to right before it


@dataclass(frozen=True)
class HeldThing:
    """One of them, of a size and at an angle, on its way before one face."""

    name: str
    side: str
    centre: np.ndarray  # of the face box, px
    half: np.ndarray  # halves of the thing's unit, px
    turn: np.ndarray  # (2, 2) rotation

    def cover(self, classes: np.ndarray, away: float, value: int) -> np.ndarray:
        """A copy of the map (H, W) uint8 with `value` where the thing is."""
        covered = classes.copy()
        cv2.fillPoly(covered, [self._placed(_THINGS[self.name][0], away)], value, cv2.LINE_8, 4)
        return covered

    def draw(self, image: np.ndarray, away: float, rng: np.random.Generator) -> None:
        """Into the picture uint8 (H, W, 3), in colours of chance."""
        outline, marks = _THINGS[self.name]
        colours = rng.uniform(20, 240, (3, 3))
        for part, colour in zip((outline, *marks), colours, strict=False):
            cv2.fillPoly(image, [self._placed(part, away)], tuple(map(int, colour)), cv2.LINE_AA, 4)

    def _placed(self, points: np.ndarray, away: float) -> np.ndarray:
        middle = self.centre + np.array(_SIDES[self.side]) * self.half * away
        return np.round((points * self.half @ self.turn.T + middle) * 16).astype(np.int32)  # 4 bits of fraction


def draw_kind(rng: np.random.Generator) -> tuple[str, str]:
    """What, and where from."""
    return str(rng.choice(list(_THINGS))), str(rng.choice(list(_SIDES)))


def held_before(box: np.ndarray, kind: tuple[str, str], rng: np.random.Generator) -> HeldThing:
    """A thing a little larger than the face box (x0, y0, x1, y1), held nearly upright."""
    x0, y0, x1, y1 = box
    centre, half = np.array([x0 + x1, y0 + y1]) / 2, np.array([x1 - x0, y1 - y0]) / 2 * rng.uniform(1.1, 1.3)
    angle = float(rng.uniform(-0.2, 0.2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return HeldThing(*kind, centre, half, turn)
