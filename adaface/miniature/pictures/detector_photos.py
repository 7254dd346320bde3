"""Rendered photographs for the detector: no face, one or several, near and far, whole, cut off or hidden.

Kept as JPEG files of their own sizes in slots of equal length; photographs have been through JPEG anyway.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.miniature.render import Face, Picture, Sitter, render_people
from adaface.miniature.render.canvas import Canvas
from adaface.miniature.render.finish import PIXEL_ART_CELLS
from adaface.miniature.render.stills import render_still
from adaface.miniature.render.things import THINGS, draw_thing
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene

# First number of the random seeds of all people that no network is trained on.
HELD_OUT = 990_001
_SEEDS = {
    "any": 310_000,
    "still": 311_000,
    "portrait": 312_000,
    "album": HELD_OUT,
    "hard": HELD_OUT + 1,
    "empty": HELD_OUT + 2,
}

SLOT = 32_768  # bytes of one photograph
MAX_FACES = 4
PER_CHUNK = 100
# The sides that albums have; few different ones, so that the places behind the people are painted once.
_SIDES = (160, 192, 224, 256, 320, 384, 448, 512)
# A face of fewer cells of pixel art cannot be told from anything else.
_CELLS_OF_A_FACE = 8


def load_photos(data: Path, kind: str, count: int) -> Chunk:
    """`count` (below PER_CHUNK, or a multiple of it) photographs, rendered at first use into `data`.

    kinds: "any" (pose, style and fault), "portrait" (what people keep: portraits and small groups, faces of at least
    24 px), "still" (landscapes and things); held out, in the same order: "hard", "album", "empty".
    Returns photo uint8 (N, SLOT) JPEG and faces float32 (N, MAX_FACES, 16): box (4) px, key points (10) px, yaw (rad)
    and the share of the face that nothing in front of it hides; rows of zeros where there is no face.
    """
    each = min(PER_CHUNK, count)
    return rendered_set(data, f"detector-{kind}-{count}", partial(_render_chunk, kind, each), count // each)


def decode(photo: np.ndarray) -> np.ndarray:
    """One row of `photo` -> uint8 (H, W, 3), blue first."""
    image = cv2.imdecode(np.asarray(photo), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a JPEG; delete the folder of rendered photographs to have them made anew")
    return image


def _render_chunk(kind: str, count: int, chunk: int) -> Chunk:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([_SEEDS[kind], chunk])
    kept = kind in ("portrait", "album")
    photos, faces = [], []
    no_faces: list[np.ndarray] = []
    for _ in range(count):
        height, width = _size(rng)
        if kind in ("still", "empty") or (not kept and rng.random() < 0.22):
            image, found = render_still(rng, height, width), no_faces
        else:
            image, found = (_album_photo if kept else _any_photo)(rng, height, width)
        if not kept:
            image = _camera(image, rng)
        photos.append(_encode(image, int(rng.integers(65 if kept else 30, 96))))
        faces.append(np.stack((found + [np.zeros(16, np.float32)] * MAX_FACES)[:MAX_FACES]))
    return {"photo": np.stack(photos), "faces": np.stack(faces).astype(np.float32)}


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width: square, 3:4 or 4:3."""
    long = int(rng.choice(_SIDES))
    short = max(160, long * 3 // 4 // 8 * 8)
    return ((long, long), (long, short), (short, long))[int(rng.integers(3))]


def _album_photo(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """One person from near or far, or two or three beside each other; everybody whole and at least 24 px wide."""
    scene = Scene.sample(rng, styles=False)
    count = int(rng.choice(3, p=[0.7, 0.18, 0.12])) + 1
    sitters = []
    for i in range(count):
        # half a face's height; a face is at least 0.66 times as wide as high, and its neighbours keep their distance
        low = max(0.065, 20 / height)
        high = 0.38 if count == 1 else 0.34 * width / height / count
        pose = Nuisance.sample(rng)
        scale = float(np.exp(rng.uniform(np.log(low), np.log(max(low, min(high, 0.38))))))
        room_x, room_y = max(0.0, 0.5 / count - scale * height / width * 1.1), max(0.0, 0.5 - scale * 1.15)
        dx = (i + 0.5) / count - 0.5 + float(rng.uniform(-1, 1)) * room_x * 0.8
        dy = float(rng.uniform(-0.8, 0.6)) * room_y
        pose = replace(pose, yaw=_clipped(rng, 0.35, 0.9), scale=scale, dx=dx, dy=dy)
        clothes = Scene.sample(rng, styles=False)
        sitters.append(Sitter(Identity.sample(rng), clothes, pose))
    return _with_labels(render_people(sitters, scene, sitters[0].nuisance, height, width), sitters, scene.style)


def _any_photo(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Everything an album may have and more: profiles, tight portraits, crowds, things in front of faces."""
    scene = Scene.sample(rng)
    kind = int(rng.choice(3, p=[0.45, 0.35, 0.2]))
    count = 1 if kind == 0 else int(rng.integers(1, MAX_FACES + 1)) if kind == 1 else 1
    low, high = ((0.16, 0.42), (0.035, 0.18), (0.40, 0.75))[kind]
    sitters = []
    for i in range(count):
        turned = rng.random()
        pose = replace(
            Nuisance.sample(rng),
            yaw=float(rng.uniform(-1.45, 1.45)) if turned < 0.4 else _clipped(rng, 0.35, 1.4),
            pitch=_clipped(rng, 0.2, 0.7),
            roll=float(rng.uniform(-1.2, 1.2)) if rng.random() < 0.1 else _clipped(rng, 0.16, 1.0),
            smile=float(rng.uniform(-1, 1)),
            scale=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
            dx=float(np.clip((i + 0.5) / count - 0.5 + rng.normal(0, 0.12), -0.55, 0.55)),
            dy=_clipped(rng, 0.18 if kind == 1 else 0.08, 0.5),
            exposure=float(rng.uniform(0.45, 1.7) if rng.random() < 0.25 else rng.uniform(0.85, 1.12)),
            side_light=float(rng.uniform(-0.6, 0.6)),
        )
        sitters.append(Sitter(Identity.sample(rng), Scene.sample(rng), pose))
    image, faces = _with_labels(
        render_people(sitters, scene, sitters[0].nuisance, height, width), sitters, scene.style
    )
    if rng.random() < 0.3:
        for face in faces:
            image = _hide(image, face, rng)
    return image, faces


def _with_labels(picture: Picture, sitters: list[Sitter], style: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rows of `faces`. People are drawn one after the other, so later ones hide earlier ones."""
    rows = []
    for i, (face, sitter) in enumerate(zip(picture.faces, sitters, strict=True)):
        seen = 1 - _hidden(face, picture.faces[i + 1 :])
        cell = min(picture.image.shape[:2]) / PIXEL_ART_CELLS
        if style == "pixel art" and face.box[3] - face.box[1] < _CELLS_OF_A_FACE * cell:
            seen = min(seen, 0.3)  # nobody could tell
        rows.append(np.array([*face.box, *face.landmarks.reshape(-1), sitter.nuisance.yaw, seen], np.float32))
    return picture.image, rows


def _hidden(face: Face, in_front: tuple[Face, ...]) -> float:
    """The share of the face's box behind the heads and shoulders of others, roughly."""
    x0, y0, x1, y1 = face.box
    x, y = np.meshgrid(np.linspace(x0, x1, 16), np.linspace(y0, y1, 16))
    covered = np.zeros(x.shape, bool)
    for other in in_front:
        a, b, c, d = other.box
        wide, high = (c - a) / 2, d - b
        covered |= (x > a - 0.2 * wide) & (x < c + 0.2 * wide) & (y > b - 0.15 * high) & (y < d + 0.3 * high)
        covered |= (x > a - 1.4 * wide) & (x < c + 1.4 * wide) & (y > d + 0.05 * high)
    return float(covered.mean())


def _hide(image: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bar, a hand or a thing before a part of the face; the last number of `face` goes down by what it covers."""
    x0, y0, x1, y1 = (int(v) for v in np.clip(face[:4], 0, np.tile(image.shape[1::-1], 2)))
    if x1 - x0 < 4 or y1 - y0 < 4:
        return image
    height, width = image.shape[:2]
    side = float(face[3] - face[1])
    middle = (face[:2] + face[2:4]) / 2 + rng.normal(0, 0.35, 2) * side
    pose = Nuisance(
        scale=float(np.clip(side / height * rng.uniform(0.12, 0.35), 0.005, 2)),
        dx=float(np.clip(middle[0] / width - 0.5, -1, 1)),
        dy=float(np.clip(middle[1] / height - 0.5, -1, 1)),
        roll=_clipped(rng, 0.5, 3),
    )
    canvas = Canvas(image.copy())
    frame = canvas.place(pose)
    kind = rng.random()
    if kind < 0.15:
        draw_thing(frame, str(rng.choice(THINGS)), rng)
    elif kind < 0.65:  # from one side of the face to the other
        half = float(rng.uniform(0.3, 0.8))
        bar = [(-4.0, -half), (4.0, -half), (4.0, half), (-4.0, half)]
        frame.polygon(bar, rng.uniform(0, 60, 3) if rng.random() < 0.5 else rng.uniform(0, 255, 3), None)
    else:
        skin = rng.uniform(90, 250) * np.array([1, 0.78, 0.62])
        frame.ellipse(0, 0.6, 0.8, 0.9, skin, None)
        for finger in (-0.6, -0.2, 0.2, 0.6):
            frame.line([(finger, 0.2), (finger * 1.3, -1.1)], skin * 0.95, 0.34)
    changed = (canvas.image[y0:y1, x0:x1] != image[y0:y1, x0:x1]).any(-1)
    face[15] *= 1 - float(changed.mean())
    return canvas.image


def _camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, or grainy, or fine."""
    fault = rng.random()
    if fault < 0.2:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 0.008 * min(image.shape[:2]))))
    if fault < 0.35:
        grain = rng.normal(0, rng.uniform(3, 22), image.shape).astype(np.float32)
        return np.clip(image + grain, 0, 255).astype(np.uint8)
    return image


def _encode(image: np.ndarray, quality: int) -> np.ndarray:
    """RGB (H, W, 3) -> JPEG, uint8 (SLOT,), of a lower quality where it would not fit."""
    while True:
        data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1)
        if len(data) <= SLOT:
            return np.pad(data, (0, SLOT - len(data)))
        quality = quality * 3 // 4


def _clipped(rng: np.random.Generator, deviation: float, limit: float) -> float:
    return float(np.clip(rng.normal(0, deviation), -limit, limit))
