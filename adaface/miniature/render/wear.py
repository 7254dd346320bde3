"""What a person wears: clothes, jewellery, hats and glasses."""

from __future__ import annotations

import math

import numpy as np

from adaface.miniature.render.canvas import COS, SIN, Frame
from adaface.miniature.render.head import EYE_DEPTH, FAR_EYE_HIDDEN, SIDES
from adaface.miniature.render.shape import HeadShape
from adaface.perception.classes import CLASS_NAMES

CLOTH, NECK, NECKLACE = (CLASS_NAMES.index(name) for name in ("cloth", "neck", "neck_l"))
HAT, GLASSES = CLASS_NAMES.index("hat"), CLASS_NAMES.index("eye_g")

_BASE_COLOUR = {
    "plain shirt": (150, 150, 155),
    "red shirt": (208, 30, 38),
    "blue suit": (28, 52, 136),
    "armor": (146, 154, 168),
    "chef uniform": (248, 248, 248),
    "green hoodie": (40, 146, 66),
    "yellow raincoat": (248, 210, 30),
    "black jacket": (26, 26, 30),
    "striped shirt": (246, 246, 246),
    "purple dress": (132, 44, 164),
    "spacesuit": (232, 235, 242),
    "orange sweater": (240, 124, 28),
}
_RISE = 0.26  # shoulders stand this much higher than the pattern below is drawn


def draw_neck(frame: Frame, shape: HeadShape, necklace: bool) -> None:
    w = shape.neck
    frame.polygon([(-w, 0.5), (w, 0.5), (w * 1.1, 1.75), (-w * 1.1, 1.75)], shape.shade, NECK)
    if necklace:
        frame.line([(-w * 0.95, 1.05), (0, 1.20), (w * 0.95, 1.05)], (250, 214, 90), 0.08, NECKLACE)


def draw_clothes(frame: Frame, kind: str, shape: HeadShape, rng: np.random.Generator) -> None:
    w = shape.neck * 1.05
    tone = rng.uniform(0.75, 1.1) if kind == "plain shirt" else rng.uniform(0.94, 1.04)

    def fill(points: list, colour: object) -> None:
        frame.polygon([(x, y - _RISE) for x, y in points], np.asarray(colour, np.float64), CLOTH)

    def stroke(points: list, colour: tuple, width: float) -> None:
        frame.line([(x, y - _RISE) for x, y in points], colour, width, CLOTH)

    shoulders = [(-2.6, 3.6), (-2.2, 1.95), (-1.5, 1.58), (-w, 1.32), (0, 1.55), (w, 1.32), (1.5, 1.58), (2.2, 1.95)]
    if kind == "spacesuit":
        frame.ellipse(0, 1.5 - _RISE, 1.5, 0.55, (172, 178, 188), CLOTH)
    fill([*shoulders, (2.6, 3.6)], np.array(_BASE_COLOUR[kind]) * tone)
    if kind == "blue suit":
        fill([(-0.40, 1.40), (0, 2.5), (0.40, 1.40), (0, 1.55)], (245, 245, 245))
        fill([(-0.13, 1.55), (0, 2.6), (0.13, 1.55)], (196, 30, 40))
    elif kind == "armor":
        for sign in (-1, 1):
            frame.ellipse(sign * 1.45, 1.85 - _RISE, 0.62, 0.48, (204, 212, 222), CLOTH)
        stroke([(-0.8, 1.70), (0, 2.05), (0.8, 1.70)], (78, 84, 96), 0.13)
        stroke([(0, 1.6), (0, 3)], (78, 84, 96), 0.13)
    elif kind == "chef uniform":
        scarf = [(-w - 0.12, 1.28), (0, 1.62), (w + 0.12, 1.28), (0.34, 1.88), (0, 1.72), (-0.34, 1.88)]
        fill(scarf, (225, 40, 40))
        for y in (2.0, 2.35):
            for sign in (-1, 1):
                frame.ellipse(sign * 0.55, y - _RISE, 0.10, 0.10, (30, 30, 30), CLOTH)
    elif kind == "green hoodie":
        stroke([(-1.0, 1.5), (-0.45, 1.75), (0, 1.9), (0.45, 1.75), (1.0, 1.5)], (24, 102, 44), 0.30)
        for sign in (-1, 1):
            stroke([(sign * 0.25, 1.9), (sign * 0.25, 2.5)], (240, 240, 240), 0.10)
    elif kind == "yellow raincoat":
        stroke([(0, 1.6), (0, 3.2)], (188, 148, 10), 0.13)
        stroke([(-w, 1.38), (0, 1.65), (w, 1.38)], (188, 148, 10), 0.18)
    elif kind == "black jacket":
        fill([(-0.36, 1.42), (0, 2.4), (0.36, 1.42), (0, 1.55)], (236, 236, 236))
    elif kind == "striped shirt":
        for y in np.arange(1.72, 3.4, 0.38):
            stroke([(-2.4, y), (2.4, y)], (24, 40, 118), 0.17)
    elif kind == "purple dress":
        stroke([(-1.3, 1.58), (0, 1.98), (1.3, 1.58)], (206, 126, 230), 0.15)
    elif kind == "spacesuit":
        stroke([(-1.2, 1.58), (0, 1.92), (1.2, 1.58)], (112, 120, 132), 0.18)
        fill([(0.45, 2.1), (1.1, 2.1), (1.1, 2.45), (0.45, 2.45)], (40, 90, 200))
        fill([(-1.1, 2.1), (-0.45, 2.1), (-0.45, 2.45), (-1.1, 2.45)], (222, 60, 40))
    elif kind == "orange sweater":
        stroke([(-w, 1.36), (0, 1.62), (w, 1.36)], (178, 80, 10), 0.22)


def draw_headwear(frame: Frame, kind: str, shape: HeadShape) -> None:
    w, h = shape.width, shape.height
    if kind == "hat":
        frame.ellipse(0, -h * 0.64, w * 1.75, 0.21, (74, 48, 30), HAT, 0.3)
        top = [(-w, -h * 0.68), (-w * 0.85, -h * 1.5), (0, -h * 1.42), (w * 0.85, -h * 1.5), (w, -h * 0.68)]
        frame.polygon(top, (100, 68, 42), HAT, 0.15)
        frame.line([(-w * 0.96, -h * 0.80), (w * 0.96, -h * 0.80)], (205, 40, 40), 0.16, HAT, 0.2)
    elif kind == "crown":
        a, b, c = -h * 0.66, -h * 1.10, -h * 1.55
        spikes = [(-w * 1.1, c), (-w * 0.55, b), (0, c), (w * 0.55, b), (w * 1.1, c)]
        frame.polygon([(-w, a), *spikes, (w, a)], (250, 206, 40), HAT, 0.15)
        for x in (-0.6, 0, 0.6):
            frame.ellipse(x * w, -h * 0.84, 0.12, 0.12, (218, 30, 60) if x == 0 else (40, 90, 225), HAT, 0.25)
    elif kind == "helmet":
        above = SIN < 0.05
        dome = np.stack([COS[above] * w * 1.28, SIN[above] * h * 1.05 - h * 0.42], 1)
        frame.polygon(dome[np.argsort(np.arctan2(SIN[above], COS[above]))], (220, 60, 36), HAT, 0.1)
        frame.line([(-w * 1.22, -h * 0.47), (w * 1.22, -h * 0.47)], (245, 245, 245), 0.18, HAT, 0.2)
        frame.line([(0, -h * 0.55), (0, -h * 1.4)], (245, 245, 245), 0.18, HAT, 0.2)


def draw_eyewear(frame: Frame, kind: str, shape: HeadShape) -> None:
    if kind == "none":
        return
    black, depth = (20, 20, 24), EYE_DEPTH + 0.08
    y, r = shape.eye_y + 0.02, max(0.255, shape.eye_radius * 1.42)
    for sign, _ in SIDES:
        if sign * frame.yaw > FAR_EYE_HIDDEN:
            continue
        x = sign * max(shape.eye_x, 0.32)
        if kind == "sunglasses":
            frame.ellipse(x, y, r * 1.08, r * 0.88, (14, 14, 18), GLASSES, depth)
            frame.line([(x - 0.12, y - 0.05), (x + 0.03, y - 0.12)], (96, 96, 108), 0.06, None, depth)
        else:
            ring = np.stack([x + COS * r * 1.02, y + SIN * r * 0.94], 1)
            frame.line(np.concatenate([ring, ring[:1]]), black, 0.075, GLASSES, depth)
        frame.line(
            [(sign * shape.width * 1.02, y - 0.06), (x + sign * r * 0.95, y - 0.02)], black, 0.075, GLASSES, 0.5
        )
    bridge = max(shape.eye_x, 0.32) - r
    if bridge > 0 and not math.isclose(bridge, 0):
        frame.line([(-bridge, y - 0.03), (bridge, y - 0.03)], black, 0.075, GLASSES, depth)
