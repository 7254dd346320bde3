"""Ears, face, eyes, brows, nose and mouth."""

from __future__ import annotations

import numpy as np

from adaface.miniature.render.canvas import Frame
from adaface.miniature.render.shape import HeadShape
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance
from adaface.perception.classes import CLASS_NAMES

_ID = {name: index for index, name in enumerate(CLASS_NAMES)}
# The subject's own right is the left of the picture.
SIDES = ((-1, "r"), (1, "l"))
EYE_DEPTH, NOSE_DEPTH, MOUTH_DEPTH = 0.75, 1.0, 0.80
# Beyond this turn the far eye is behind the bridge of the nose (radians).
FAR_EYE_HIDDEN = 0.85


def draw_ears(frame: Frame, person: Identity, shape: HeadShape, earrings: bool) -> None:
    for sign, side in SIDES:
        if sign * frame.yaw > FAR_EYE_HIDDEN:
            continue  # the ear on the side the nose points to is behind the head
        turn = 0.9 * max(0.0, abs(frame.yaw) - 0.5)  # in a profile the near ear moves onto the head
        x = sign * (shape.width - turn)
        frame.ellipse(x, 0.05, shape.ear * 0.72, shape.ear * 1.25, shape.shade, _ID[f"{side}_ear"], -0.15)
        if earrings:
            below = 0.05 + shape.ear * 1.35
            frame.ellipse(sign * (shape.width + 0.05), below, 0.07, 0.09, (250, 220, 110), _ID["ear_r"], -0.15)


def draw_face(frame: Frame, person: Identity, shape: HeadShape) -> None:
    """Skin, cheeks and the folds of an adult."""
    frame.polygon(shape.outline(), shape.skin, _ID["skin"])
    for sign, _ in SIDES:
        frame.ellipse(
            sign * shape.width * 0.58, shape.mouth_y - 0.2, 0.17, 0.12, shape.skin * [1, 0.88, 0.86], None, 0.5
        )
        if person.age == 2:
            fold = [
                (sign * (shape.nose_width + 0.07), shape.nose_y),
                (sign * (shape.mouth_width + 0.10), shape.mouth_y - 0.02),
            ]
            frame.line(fold, shape.shade * 0.95, 0.05, None, EYE_DEPTH)


def draw_eyes(frame: Frame, person: Identity, shape: HeadShape) -> None:
    """Eyes and brows."""
    r, y = shape.eye_radius, shape.eye_y
    for sign, side in SIDES:
        if sign * frame.yaw > FAR_EYE_HIDDEN:
            continue
        x = sign * shape.eye_x
        frame.ellipse(x, y, r * 1.22, r * 0.82, (250, 250, 250), _ID[f"{side}_eye"], EYE_DEPTH)
        frame.ellipse(x, y, r * 0.68, r * 0.74, shape.iris, None, EYE_DEPTH + 0.02)
        frame.ellipse(x, y, r * 0.30, r * 0.34, (10, 10, 12), None, EYE_DEPTH + 0.02)
        lid = [
            (x - r * 1.25, y - r * 0.15),
            (x - r * 0.6, y - r * 0.74),
            (x + r * 0.6, y - r * 0.74),
            (x + r * 1.25, y - r * 0.15),
        ]
        frame.line(lid, (40, 26, 22), 0.065 if person.female else 0.04, None, EYE_DEPTH)
        inner, outer = x - sign * r * 1.05, x + sign * r * 1.35
        brow, tilt, thick = y - r - 0.13, shape.brow_tilt, shape.brow_thickness
        corners = [
            (inner, brow + tilt),
            (outer, brow - tilt),
            (outer, brow - tilt + thick),
            (inner, brow + tilt + thick * 1.9),
        ]
        frame.polygon(corners, shape.hair * 0.68 + shape.shade * 0.06, _ID[f"{side}_brow"], EYE_DEPTH)


def draw_nose(frame: Frame, shape: HeadShape) -> None:
    y, w = shape.nose_y, shape.nose_width
    bridge = [(-0.055, shape.eye_y + 0.04), (0.055, shape.eye_y + 0.04)]
    wings = [(w, y - 0.03), (w * 0.7, y + 0.06), (-w * 0.7, y + 0.06), (-w, y - 0.03)]
    frame.polygon([*bridge, *wings], shape.skin * [0.90, 0.83, 0.81], _ID["nose"], 0.9)
    if abs(frame.yaw) > FAR_EYE_HIDDEN:  # seen from the side it stands out from the face
        tip = float(np.sign(frame.yaw)) * 0.22
        frame.polygon(
            [(0, shape.eye_y + 0.05), (tip * 3, y - 0.02), (0, y + 0.06)], shape.skin, _ID["nose"], NOSE_DEPTH
        )
    for sign, _ in SIDES:
        frame.ellipse(sign * w * 0.52, y + 0.02, w * 0.25, 0.036, shape.shade * 0.5, None, 0.95)


def draw_mouth(frame: Frame, shape: HeadShape, pose: Nuisance) -> None:
    lift, gap = 0.12 * pose.smile, 0.14 * pose.mouth_open
    x = np.linspace(-1, 1, 9)
    middle, curve = shape.mouth_y - lift * x**2, 1 - x**2

    def between(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        wide = x * shape.mouth_width
        return np.concatenate([np.stack([wide, upper], 1), np.stack([wide, lower], 1)[::-1]])

    top, bottom = middle - gap * 0.3 * curve, middle + gap * curve
    if gap > 0.02:
        frame.polygon(between(top, bottom), (96, 20, 28), _ID["mouth"], MOUTH_DEPTH)
        frame.polygon(between(top, top + gap * 0.5 * curve), (245, 242, 235), _ID["mouth"], MOUTH_DEPTH)
    frame.polygon(between(top - shape.lip * curve, top), shape.lips * 0.88, _ID["u_lip"], MOUTH_DEPTH)
    frame.polygon(between(bottom, bottom + shape.lip * 1.35 * curve), shape.lips, _ID["l_lip"], MOUTH_DEPTH)


def landmarks(frame: Frame, shape: HeadShape, pose: Nuisance) -> np.ndarray:
    """float (5, 2) px: the eye on the left of the picture, the other, nose tip, left and right mouth corner."""
    corner = shape.mouth_y - 0.12 * pose.smile
    eyes = frame.pixels([(-shape.eye_x, shape.eye_y), (shape.eye_x, shape.eye_y)], EYE_DEPTH)
    nose = frame.pixels([(0, shape.nose_y)], NOSE_DEPTH)
    mouth = frame.pixels([(-shape.mouth_width, corner), (shape.mouth_width, corner)], MOUTH_DEPTH)
    return np.concatenate([eyes, nose, mouth])
