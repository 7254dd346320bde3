"""Hair and beards: the part behind the head, the part in front, and what grows below."""

from __future__ import annotations

import math

import numpy as np

from adaface.miniature.render.canvas import SIN, Frame
from adaface.miniature.render.shape import HeadShape
from adaface.miniature.world.identity import BEARDS, HAIR_STYLES, Identity
from adaface.perception.classes import CLASS_NAMES

HAIR, SKIN = CLASS_NAMES.index("hair"), CLASS_NAMES.index("skin")


def draw_back_hair(frame: Frame, person: Identity, shape: HeadShape) -> None:
    """What hangs or stands behind the head; drawn before the neck."""
    w, h, colour = shape.width, shape.height, shape.hair * 0.82
    style = HAIR_STYLES[person.hair_style]
    if style == "long":
        crown = [(-w * 1.22, -0.3), (-w * 1.05, -1.0), (0, -h * 1.22), (w * 1.05, -1.0), (w * 1.22, -0.3)]
        frame.polygon([*crown, (w * 1.42, 1.75), (-w * 1.42, 1.75)], colour, HAIR)
    elif style == "bob":
        crown = [(-w * 1.2, -0.3), (-w, -1.0), (0, -h * 1.2), (w, -1.0), (w * 1.2, -0.3)]
        frame.polygon([*crown, (w * 1.34, 0.78), (w * 0.8, 0.9), (-w * 0.8, 0.9), (-w * 1.34, 0.78)], colour, HAIR)
    elif style == "curly":
        for angle in np.linspace(-0.35, math.pi + 0.35, 11):
            frame.ellipse(math.cos(angle) * w * 1.12, -math.sin(angle) * h * 0.95 - 0.15, 0.34, 0.34, colour, HAIR)
    elif style == "bun":
        frame.ellipse(0, -h * 1.28, 0.38, 0.34, shape.hair * 0.8, HAIR)


def draw_front_hair(frame: Frame, person: Identity, shape: HeadShape) -> None:
    """The hairline over the forehead; drawn over the face."""
    w, colour, style = shape.width, shape.hair, HAIR_STYLES[person.hair_style]
    outline = shape.outline()
    cap = outline[SIN < 0] * [1.06, 1.1]
    cap = cap[np.argsort(cap[:, 0])]
    hairlines = {
        "short": [(w * 0.98, -0.15), (w * 0.82, -0.54), (0, -0.60), (-w * 0.82, -0.54), (-w * 0.98, -0.15)],
        "bun": [(w * 0.98, -0.15), (w * 0.80, -0.60), (0, -0.70), (-w * 0.80, -0.60), (-w * 0.98, -0.15)],
        "parted": [(w, -0.05), (w * 0.86, -0.44), (-w * 0.35, -0.84), (-w * 0.8, -0.47), (-w, -0.05)],
        "bob": [(w * 1.08, 0.3), (w * 0.86, -0.44), (-w * 0.86, -0.44), (-w * 1.08, 0.3)],
        "long": [(w * 1.1, 0.5), (w * 0.8, -0.38), (0.05, -0.88), (-w * 0.8, -0.38), (-w * 1.1, 0.5)],
    }
    if style in hairlines:
        frame.polygon([*map(tuple, cap), *hairlines[style]], colour, HAIR, 0.1)
    elif style == "curly":
        for angle in np.linspace(0.25, math.pi - 0.25, 7):
            frame.ellipse(math.cos(angle) * w * 0.85, -math.sin(angle) * 0.3 - 0.64, 0.24, 0.24, colour, HAIR, 0.15)
    elif style == "spiky":
        x = np.linspace(-1, 1, 9) * w * 1.04
        arch = 0.5 * np.sqrt(np.clip(1 - (x / (w * 1.1)) ** 2, 0, 1))
        y = -0.42 - arch - np.where(np.arange(9) % 2, 0.5, 0.0)
        frame.polygon([*zip(x, y, strict=True), (w * 0.9, -0.45), (0, -0.62), (-w * 0.9, -0.45)], colour, HAIR, 0.1)


def draw_beard(frame: Frame, person: Identity, shape: HeadShape) -> None:
    """Beards are skin in the class map, as in CelebAMask-HQ."""
    w, mouth, y, colour = shape.width, shape.mouth_width, shape.mouth_y, shape.hair * 0.92
    kind = BEARDS[person.beard]
    if kind == "full beard":
        lower = shape.outline()[SIN > 0.05]
        lower = lower[np.argsort(lower[:, 0])]
        inner = [
            (w * 0.62, 0.34),
            (mouth + 0.14, y - 0.16),
            (0, y - 0.20),
            (-mouth - 0.14, y - 0.16),
            (-w * 0.62, 0.34),
        ]
        frame.polygon([*map(tuple, lower), *inner], colour, SKIN, 0.08)
    if kind in ("full beard", "moustache"):
        half = mouth + 0.06
        edge = [(-half, y), (-0.1, y - 0.20), (0.1, y - 0.20), (half, y), (0, y - 0.06)]
        frame.polygon(edge, colour, SKIN, 0.85)
    if kind == "goatee":
        frame.ellipse(0, shape.height * 0.86, 0.23, 0.20, colour, SKIN, 0.5)
