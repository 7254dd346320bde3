"""One picture: a place, the people in it, light, camera and style; with the ground truth of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from adaface.miniature.render.canvas import Canvas, Frame
from adaface.miniature.render.finish import illuminate, photograph, stylise
from adaface.miniature.render.hair import draw_back_hair, draw_beard, draw_front_hair
from adaface.miniature.render.head import draw_ears, draw_eyes, draw_face, draw_mouth, draw_nose, landmarks
from adaface.miniature.render.places import background
from adaface.miniature.render.shape import HeadShape
from adaface.miniature.render.wear import draw_clothes, draw_eyewear, draw_headwear, draw_neck
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene

MIN_SIDE, MAX_SIDE = 16, 2048
# Pictures are drawn at least this large and scaled down, so that lines are as wide in a small one as in a large one.
_DRAWING_SIDE = 192


@dataclass(frozen=True)
class Face:
    """Where a face is: `landmarks` float32 (5, 2) px in insightface's order, `box` float32 (4,) x0, y0, x1, y1 px."""

    landmarks: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class Picture:
    """`image` uint8 (H, W, 3) RGB; `classes` uint8 (H, W), CelebAMask-HQ ids; `faces` in the order of the people."""

    image: np.ndarray
    classes: np.ndarray
    faces: tuple[Face, ...]

    @property
    def landmarks(self) -> np.ndarray:
        """float32 (5, 2) px of the first face."""
        return self.faces[0].landmarks

    @property
    def box(self) -> np.ndarray:
        """float32 (4,) px of the first face."""
        return self.faces[0].box


@dataclass(frozen=True)
class Sitter:
    """Somebody in a picture."""

    identity: Identity
    scene: Scene
    nuisance: Nuisance


def render(identity: Identity, scene: Scene, nuisance: Nuisance, size: int = 64) -> Picture:
    """One person, square, `size` px. Equal arguments give equal pixels. Raises ValueError for an impossible size."""
    return render_people([Sitter(identity, scene, nuisance)], scene, nuisance, size, size)


def render_people(sitters: Sequence[Sitter], scene: Scene, nuisance: Nuisance, height: int, width: int) -> Picture:
    """Any number of people at one place, the first one behind. `scene` and `nuisance` are those of the whole picture:
    place, style, light, exposure, seed. Raises ValueError for an impossible size.
    """
    for name, side in (("height", height), ("width", width)):
        if not (isinstance(side, int | np.integer) and MIN_SIDE <= side <= MAX_SIDE):
            raise ValueError(f"{name} must be an integer in {MIN_SIDE}..{MAX_SIDE} px, got {side!r}")
    times = max(1, math.ceil(_DRAWING_SIDE / min(height, width)))
    rng = np.random.default_rng(nuisance.seed)
    canvas = Canvas(background(scene.place, int(rng.integers(2**31)), height * times, width * times))
    faces = [_draw_sitter(canvas, sitter) for sitter in sitters]
    image = photograph(canvas.image, height, width)
    image = illuminate(image, scene.light, nuisance.side_light, nuisance.exposure)
    classes = canvas.classes[times // 2 :: times, times // 2 :: times].copy()
    return Picture(
        image=stylise(image, scene.style, rng),
        classes=classes,
        faces=tuple(Face(f.landmarks / np.float32(times), f.box / np.float32(times)) for f in faces),
    )


def _draw_sitter(canvas: Canvas, sitter: Sitter) -> Face:
    person, scene, pose = sitter.identity, sitter.scene, sitter.nuisance
    frame, shape = canvas.place(pose), HeadShape.of(person)
    rng = np.random.default_rng([pose.seed, 1])
    jewellery = rng.random(2) < (0.25, 0.30) if person.female and person.age else (False, False)
    draw_back_hair(frame, person, shape)
    draw_neck(frame, shape, necklace=bool(jewellery[0]))
    draw_clothes(frame, scene.clothing, shape, rng)
    draw_ears(frame, person, shape, earrings=bool(jewellery[1]))
    draw_face(frame, person, shape)
    draw_beard(frame, person, shape)
    draw_front_hair(frame, person, shape)
    draw_eyes(frame, person, shape)
    draw_nose(frame, shape)
    draw_mouth(frame, shape, pose)
    draw_eyewear(frame, scene.eyewear, shape)
    draw_headwear(frame, scene.headwear, shape)
    return _face(frame, shape, pose)


def _face(frame: Frame, shape: HeadShape, pose: Nuisance) -> Face:
    outline = frame.pixels(shape.outline())
    points = landmarks(frame, shape, pose)
    box = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
    return Face(points.astype(np.float32), box.astype(np.float32))


def grid(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Equal pictures uint8 (H, W, 3) side by side on white, row by row."""
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    blank = np.full_like(images[0], 255)
    framed = [
        [cv2.copyMakeBorder(i, 0, gap, 0, gap, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for i in row]
        for row in ([*row, *[blank] * (columns - len(row))] for row in rows)
    ]
    return np.vstack([np.hstack(row) for row in framed])
