"""A picture and its class map, drawn into by the same calls, so that the two cannot drift apart.

Shapes are given in the frame of a face: origin at its centre, y down, one unit = half the height of an average face.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from adaface.miniature.world.scene import Nuisance

# OpenCV takes polygon corners as fixed-point numbers with this many fractional bits.
_FRACTION = 4
_TURN = np.linspace(0, 2 * math.pi, 48, endpoint=False)
COS, SIN = np.cos(_TURN), np.sin(_TURN)
# Half the depth of a head in face units: how far a turn moves what lies at depth 1 (the nose tip) from the ear plane.
_HEAD_DEPTH = 0.75

Colour = np.ndarray | tuple[float, ...]
Points = np.ndarray | list[tuple[float, float]]


class Canvas:
    """`image` uint8 (H, W, 3) RGB and `classes` uint8 (H, W), CelebAMask-HQ ids."""

    def __init__(self, image: np.ndarray):
        self.image = image
        self.classes = np.zeros(image.shape[:2], np.uint8)

    def place(self, pose: Nuisance) -> Frame:
        """The frame of a face in this picture."""
        height, width = self.image.shape[:2]
        return Frame(self, pose.scale * height, ((0.5 + pose.dx) * width, (0.5 + pose.dy) * height), pose)


class Frame:
    """Draws shapes given in face units onto a canvas, turned and placed as the pose says."""

    def __init__(self, canvas: Canvas, unit: float, centre: tuple[float, float], pose: Nuisance):
        self.canvas, self.unit, self.yaw = canvas, unit, pose.yaw
        self._shift = np.array([math.sin(pose.yaw), math.sin(pose.pitch)]) * _HEAD_DEPTH
        self._narrow = np.array([1 - math.cos(pose.yaw), 1 - math.cos(pose.pitch)])
        cos, sin = math.cos(pose.roll) * unit, math.sin(pose.roll) * unit
        self._matrix = np.array([[cos, -sin], [sin, cos]])
        self._origin = np.array(centre)

    def pixels(self, points: Points, depth: float = 0.0) -> np.ndarray:
        """Face frame -> float (N, 2) px. `depth`: 0 the plane of the ears, 1 the tip of the nose.

        A turn of the head moves what lies in front (parallax) and narrows it; the outline of a head, depth 0, stays.
        """
        p = np.asarray(points, np.float64).reshape(-1, 2)
        p = p * (1 - self._narrow * min(1.0, max(0.0, depth) / 0.7)) + self._shift * depth
        return p @ self._matrix.T + self._origin

    def polygon(self, points: Points, colour: Colour, label: int | None, depth: float = 0.0) -> None:
        """Fill a polygon; `label` None leaves the class map as it is."""
        corners = self._fixed(points, depth)
        cv2.fillPoly(self.canvas.image, [corners], _rgb(colour), cv2.LINE_AA, _FRACTION)
        if label is not None:
            cv2.fillPoly(self.canvas.classes, [corners], label, cv2.LINE_8, _FRACTION)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, label: int | None, depth: float = 0.0
    ) -> None:
        self.polygon(np.stack([COS * rx + x, SIN * ry + y], 1), colour, label, depth)

    def line(self, points: Points, colour: Colour, width: float, label: int | None = None, depth: float = 0.0) -> None:
        """A polyline `width` face units wide."""
        corners, thick = self._fixed(points, depth), max(1, round(width * self.unit))
        cv2.polylines(self.canvas.image, [corners], False, _rgb(colour), thick, cv2.LINE_AA, _FRACTION)
        if label is not None:
            cv2.polylines(self.canvas.classes, [corners], False, label, thick, cv2.LINE_8, _FRACTION)

    def _fixed(self, points: Points, depth: float) -> np.ndarray:
        # OpenCV overflows on corners far outside; nothing that far away can be seen
        pixels = np.clip(self.pixels(points, depth), -16_000, 16_000)
        return np.round(pixels * (1 << _FRACTION)).astype(np.int32)


def _rgb(colour: Colour) -> tuple[int, ...]:
    return tuple(int(min(255.0, max(0.0, value))) for value in colour)
