"""The measures and colours of one person's head, from the factors of the identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaface.miniature.render.canvas import COS, SIN
from adaface.miniature.world.identity import Identity

_SKIN = np.array([[255, 226, 203], [241, 198, 160], [216, 164, 120], [168, 112, 74], [96, 60, 42]], np.float64)
_HAIR = np.array(
    [[28, 24, 26], [74, 46, 30], [134, 88, 50], [226, 190, 112], [196, 88, 36], [208, 208, 212], [156, 40, 62],
     [52, 74, 140]], np.float64,
)  # fmt: skip
_EYES = np.array([[70, 40, 22], [150, 100, 44], [60, 136, 70], [58, 122, 206], [122, 134, 146]], np.float64)


@dataclass(frozen=True)
class HeadShape:
    """Lengths in face units, colours as RGB 0..255."""

    width: float  # half the width of the face
    height: float
    jaw: float  # 0 pointed .. 1 square
    eye_x: float
    eye_y: float
    eye_radius: float
    brow_thickness: float
    brow_tilt: float
    nose_y: float  # lower end
    nose_width: float
    mouth_y: float
    mouth_width: float
    lip: float
    ear: float
    neck: float  # half its width
    skin: np.ndarray
    shade: np.ndarray  # skin in shadow
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray

    @staticmethod
    def of(person: Identity) -> HeadShape:
        child, young, female = person.age == 0, person.age == 1, bool(person.female)
        width = 0.80 + 0.11 * person.width + (0.03 if child else 0) - (0.03 if female else 0)
        eye = (0.165 + 0.040 * person.eye_size) * (1.2 if child else 1.05 if young else 0.97)
        eye_y = -0.06 + 0.07 * person.eye_height + (0.06 if child else 0)
        nose = (0.38 + 0.10 * person.nose_length) * (0.75 if child else 1)
        at = person.skin * (len(_SKIN) - 1)
        below = min(int(at), len(_SKIN) - 2)
        skin = _SKIN[below] * (1 - (at - below)) + _SKIN[below + 1] * (at - below)
        return HeadShape(
            width=width,
            height=1.0 + 0.09 * person.height - (0.05 if child else 0),
            jaw=float(np.clip(0.5 + 0.45 * person.jaw + (0 if female else 0.10) - (0.20 if child else 0), 0, 1)),
            eye_x=min(0.36 + 0.065 * person.eye_gap, width - 1.3 * eye),
            eye_y=eye_y,
            eye_radius=eye,
            brow_thickness=(0.070 + 0.036 * person.brow_thickness) * (0.8 if female else 1.1) * (0.85 if child else 1),
            brow_tilt=0.10 * person.brow_angle,
            nose_y=eye_y + nose,
            nose_width=(0.165 + 0.065 * person.nose_width) * (0.85 if child else 1),
            mouth_y=eye_y + nose + 0.27 + 0.02 * person.nose_length,
            mouth_width=(0.29 + 0.095 * person.mouth_width) * (0.9 if child else 1),
            lip=0.070 + 0.034 * person.lips + (0.015 if female else 0),
            ear=0.18 + 0.065 * person.ears,
            neck=0.36 if female or child else 0.46,
            skin=skin,
            shade=skin * [0.84, 0.77, 0.74],
            hair=_HAIR[person.hair_colour],
            lips=skin * [0.75, 0.28, 0.32] + [55, 5, 15] if female else skin * [0.92, 0.52, 0.52] + [20, 0, 5],
            iris=_EYES[person.eye_colour],
        )

    def outline(self) -> np.ndarray:
        """float (N, 2): the face as a closed curve, an ellipse whose lower half is drawn out to a chin."""
        lower = SIN > 0
        power = np.where(lower, 1.12 - 0.60 * self.jaw, 1.0)
        taper = np.where(lower, 1 - 0.14 * (1 - self.jaw) * SIN, 1)
        x = np.sign(COS) * np.abs(COS) ** power * self.width * taper
        return np.stack([x, SIN * self.height], 1)
