"""One photograph of an album: a good portrait, or one with a fault that a dataset must not take in.

Faults of a file rather than of a picture (copies, broken files) are made in `album`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from adaface.miniature.album.held_things import AWAY, draw_kind, held_before
from adaface.miniature.render import Face, Picture, Sitter, render_people
from adaface.miniature.render.shape import HeadShape
from adaface.miniature.render.stills import render_still
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.classes import BACKGROUND, CLASS_NAMES

SHORTEST, LONGEST = 160, 512  # px, the shorter side of a photograph
# (longer side / shorter side, upright or lying, odds), as phones, cameras and websites cut pictures
_FORMATS = (
    *((1.0, "square", 0.20), (5 / 4, "upright", 0.15), (4 / 3, "upright", 0.20), (3 / 2, "upright", 0.10)),
    *((4 / 3, "lying", 0.20), (3 / 2, "lying", 0.15)),
)
_EYE_DISTANCE = 0.72  # of an average face, in halves of its height
_ALIGNED_EYE_DISTANCE = 35.2  # px; ArcFace's template
# Bodies are drawn down to this many halves of a face below its centre.
_TORSO = 3.1
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
# What shows of a face where nothing is before it.
_FACE = [
    CLASS_NAMES.index(name)
    for name in ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "nose", "mouth", "u_lip", "l_lip")
]


@dataclass(frozen=True)
class Shot:
    """A picture before it becomes a file. `classes` uint8 (H, W), CelebAMask-HQ ids; `faces` the largest first."""

    image: np.ndarray  # uint8 (H, W, 3) RGB
    classes: np.ndarray
    faces: tuple[Face, ...]
    scene: Scene | None = None
    nuisance: Nuisance | None = None
    details: dict[str, float | str] = field(default_factory=dict)  # of the fault


def portrait(person: Identity, rng: np.random.Generator, *, studio: bool = False) -> Shot:
    """A photograph of `person` that a dataset should take in; in a studio there is nothing but the person."""
    return _portrait(person, rng, *_size(rng), scene=Scene() if studio else None)


def no_face(person: Identity, rng: np.random.Generator) -> Shot:
    """A place or a thing; `person` is not in the picture."""
    height, width = _size(rng)
    image = render_still(rng, height, width)
    return Shot(image, np.zeros((height, width), np.uint8), ())


def several_people(person: Identity, rng: np.random.Generator) -> Shot:
    """Somebody else beside `person`, about as large."""
    height, width = _size(rng, lying=True)
    unit = float(rng.uniform(0.20, 0.235)) * height
    apart = float(rng.uniform(1.35, 1.55)) * unit
    other = Identity.sample(rng)
    scene, left = _scene(rng), bool(rng.random() < 0.5)
    area = [HeadShape.of(who).width * HeadShape.of(who).height for who in (person, other)]
    units = (unit, unit * math.sqrt(area[0] / area[1] * rng.uniform(0.75, 0.95)))
    sitters = []
    for index, (who, half) in enumerate(zip((person, other), units, strict=True)):
        x = width / 2 + (apart if (index == 0) != left else -apart)
        pose = _placed(Nuisance.sample(rng), half, x, rng.uniform(0.42, 0.5) * height, height, width)
        wears = scene if index == 0 else replace(_scene(rng), place=scene.place)
        sitters.append(Sitter(who, wears, pose))
    picture = render_people(sitters, scene, sitters[0].nuisance, height, width)
    return _shot(picture, scene, sitters[0].nuisance)


def profile(person: Identity, rng: np.random.Generator) -> Shot:
    """From the side: 72 to 86 degrees."""
    yaw = float(rng.uniform(1.25, 1.5) * rng.choice([-1, 1]))
    shot = _portrait(person, rng, *_size(rng), yaw=yaw)
    return replace(shot, details={"yaw": round(yaw, 3)})


def blurred(person: Identity, rng: np.random.Generator) -> Shot:
    """Out of focus: a blur of 4 to 6 px on a face that is scaled to ArcFace's template."""
    shot = portrait(person, rng)
    sigma = float(rng.uniform(4, 6)) * _unit(shot) * _EYE_DISTANCE / _ALIGNED_EYE_DISTANCE
    return replace(shot, image=cv2.GaussianBlur(shot.image, (0, 0), sigma), details={"blur_px": round(sigma, 2)})


def tiny_face(person: Identity, rng: np.random.Generator) -> Shot:
    """`person` far away: a face 26 to 34 px wide."""
    height, width = _size(rng)
    unit = float(rng.uniform(26, 34)) / (2 * HeadShape.of(person).width)
    x, y = float(rng.uniform(0.15, 0.85)) * width, height - float(rng.uniform(2.2, _TORSO)) * unit
    scene = _scene(rng)
    pose = _placed(Nuisance.sample(rng), unit, x, y, height, width)
    return _shot(render_people([Sitter(person, scene, pose)], scene, pose, height, width), scene, pose)


def occluded(person: Identity, rng: np.random.Generator) -> Shot:
    """Something is held before the face, so that at most 34% of its box shows it; the class map has background there."""
    shot = portrait(person, rng)
    image, kind = shot.image.copy(), draw_kind(rng)
    target = float(rng.uniform(0.22, 0.34))
    thing = held_before(shot.faces[0].box, kind, rng)
    for away in AWAY:
        hidden = thing.cover(shot.classes, away, BACKGROUND)
        seen = _share_in(np.isin(hidden, _FACE), shot.faces[0].box)
        if seen <= target:
            break
    thing.draw(image, away, rng)
    details: dict[str, float | str] = {"object": thing.name, "from": thing.side, "seen": round(seen, 3)}
    return replace(shot, image=image, classes=hidden, details=details)


def over_exposed(person: Identity, rng: np.random.Generator) -> Shot:
    """So much light that over half of the face is plain white."""
    shot = portrait(person, rng)
    target = float(rng.uniform(0.55, 0.65))
    for gain in np.geomspace(1.2, 12, 30):
        image = np.clip(shot.image.astype(np.float32) * gain + 15, 0, 255).astype(np.uint8)
        white = _share_in(image @ _LUMA >= 252, shot.faces[0].box)
        if white >= target:
            break
    return replace(shot, image=image, details={"gain": round(float(gain), 2), "white": round(white, 3)})


PICTURES: dict[str, Callable[[Identity, np.random.Generator], Shot]] = {
    "good": portrait,
    "no_face": no_face,
    "several_people": several_people,
    "profile": profile,
    "blurred": blurred,
    "tiny_face": tiny_face,
    "occluded": occluded,
    "over_exposed": over_exposed,
}


def _portrait(
    person: Identity,
    rng: np.random.Generator,
    height: int,
    width: int,
    yaw: float | None = None,
    scene: Scene | None = None,
) -> Shot:
    side = min(height, width)
    unit = float(rng.uniform(0.26, 0.315)) * side
    x = width / 2 + float(rng.uniform(-1, 1)) * (0.035 * side + 0.5 * (width - side))
    # the body is drawn down to a certain length only: its end must lie outside the picture
    y = max(float(rng.uniform(0.44, 0.485)) * height, height - _TORSO * unit)
    pose = _placed(Nuisance.sample(rng), unit, x, y, height, width)
    if yaw is not None:
        pose = replace(pose, yaw=yaw)
    scene = scene or _scene(rng)
    return _shot(render_people([Sitter(person, scene, pose)], scene, pose, height, width), scene, pose)


def _scene(rng: np.random.Generator) -> Scene:
    return Scene.sample(rng, styles=False, lights=False)


def _size(rng: np.random.Generator, lying: bool = False) -> tuple[int, int]:
    """Height and width of a photograph, px."""
    formats = [each for each in _FORMATS if each[1] == "lying" or not lying]
    odds = np.array([each[2] for each in formats])
    aspect, stands, _ = formats[int(rng.choice(len(formats), p=odds / odds.sum()))]
    short = int(rng.integers(SHORTEST if not lying else 240, LONGEST + 1))
    long = round(short * aspect)
    return (long, short) if stands == "upright" else (short, long)


def _placed(pose: Nuisance, unit: float, x: float, y: float, height: int, width: int) -> Nuisance:
    """The same pose with the centre of the face at x, y and half its height `unit`, all in px."""
    return replace(pose, scale=unit / height, dx=x / width - 0.5, dy=y / height - 0.5)


def _shot(picture: Picture, scene: Scene, nuisance: Nuisance) -> Shot:
    faces = sorted(picture.faces, key=lambda face: -float(np.prod(face.box[2:] - face.box[:2])))
    return Shot(picture.image, picture.classes, tuple(faces), scene, nuisance)


def _unit(shot: Shot) -> float:
    assert shot.nuisance is not None
    return shot.nuisance.scale * shot.image.shape[0]


def _share_in(mask: np.ndarray, box: np.ndarray) -> float:
    """Share of the pixels of a box that are set in (H, W) bool."""
    x0, y0, x1, y1 = (max(0, round(float(value))) for value in box)
    return float(mask[y0:y1, x0:x1].mean())
