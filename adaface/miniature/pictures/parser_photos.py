"""Pictures and class maps for the face parser, cut and stored as the data pipeline's samples are.

Half of the training pictures are an album's, good ones and faulty ones; the other half go further in everything: all
styles and lights, faces near and far, several people, turned and tilted heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from adaface.miniature.album.faults import PICTURES
from adaface.miniature.album.photo_file import Jpeg, upright
from adaface.miniature.pictures.augment import degrade
from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.miniature.render import Face, Sitter, render_people
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.classes import CLASS_NAMES

SAMPLE_SIDE = 512  # px; what the pipeline cuts a photograph to
PER_CHUNK = 50
# First number of the random seeds of all people that no network is trained on.
HELD_OUT = 990_001
_SEEDS = {"train": 350_000, "album": HELD_OUT, "any": HELD_OUT + 1}
_SIDES = (160, 192, 224, 256, 320, 384, 512)
_NO_ONE = Face(np.zeros((5, 2), np.float32), np.zeros(4, np.float32))
# Odds of the faults among the album's training pictures; the rest are good ones.
_FAULTS = {
    "several_people": 0.08,
    "profile": 0.06,
    "occluded": 0.06,
    "tiny_face": 0.03,
    "blurred": 0.03,
    "over_exposed": 0.03,
    "no_face": 0.03,
}


def load_training_set(data: Path, count: int, side: int) -> Chunk:
    """image uint8 (N, side, side, 3) RGB and classes uint8 (N, side, side), rendered at first use into `data`.

    `count` is a multiple of PER_CHUNK.
    """
    name = f"parser-{side}-{count}"
    return rendered_set(data, name, partial(_training_chunk, side), count // PER_CHUNK)


def held_out_samples(kind: str, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Samples uint8 (512, 512, 3) with class maps uint8 (512, 512), of people nobody was trained on.

    kinds: "album", good photographs as an album has them; "any", the wider half of what is trained on.
    """
    for number in range(count):
        yield _sample(*_draw(kind, np.random.default_rng([_SEEDS[kind], number])))


def mirrored(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., H, W, 3) and (..., H, W) seen in a mirror: what was a left ear is a right one."""
    return images[..., ::-1, :], _MIRRORED[classes[..., ::-1]]


def _mirrored_ids() -> np.ndarray:
    other = {"l": "r", "r": "l"}
    names = [f"{other[n[0]]}{n[1:]}" if n[:2] in ("l_", "r_") and n != "l_lip" else n for n in CLASS_NAMES]
    return np.array([CLASS_NAMES.index(name) for name in names], np.uint8)


_MIRRORED = _mirrored_ids()


def _training_chunk(side: int, chunk: int) -> Chunk:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([_SEEDS["train"], chunk])
    images, maps = [], []
    for _ in range(PER_CHUNK):
        image, classes = _sample(*_draw("train", rng))
        images.append(_bilinear(image, side))
        maps.append(_nearest(classes, side))
    return {"image": np.stack(images), "classes": np.stack(maps)}


def _draw(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A square photograph of any size and its class map."""
    if kind == "any" or (kind == "train" and rng.random() < 0.5):
        image, classes, face = _any_picture(rng)
    else:
        fault = "good"
        if kind == "train":
            names = ["good", *_FAULTS]
            fault = names[int(rng.choice(len(names), p=[1 - sum(_FAULTS.values()), *_FAULTS.values()]))]
        shot = PICTURES[fault](Identity.sample(rng), rng)
        image, classes, face = shot.image, shot.classes, shot.faces[0] if shot.faces else _NO_ONE
    image, classes = _square(image, classes, face, rng, 0.0 if kind == "album" else 0.04)
    if kind != "album" and rng.random() < 0.5:
        image = degrade(image, rng)
    quality = int(rng.integers(62 if kind == "album" else 45, 97))
    return upright(Jpeg(quality, 0 if rng.random() < 0.3 else 2).encode(image)), classes


def _any_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Face]:
    """Any scene, style and light; mostly one person, near or far, at times nobody, two or three."""
    side = int(rng.choice(_SIDES))
    count = int(rng.choice(4, p=[0.05, 0.75, 0.12, 0.08]))
    scene, sitters = Scene.sample(rng), []
    for i in range(count):
        pose = Nuisance.sample(rng)
        scale = float(rng.uniform(0.12, 0.42)) if count == 1 else float(rng.uniform(0.10, 0.28))
        room = max(0.03, 0.42 - scale)
        pose = replace(
            pose,
            yaw=float(np.clip(rng.normal(0, 0.45), -1.5, 1.5)),
            pitch=float(np.clip(rng.normal(0, 0.18), -0.6, 0.6)),
            roll=float(np.clip(rng.normal(0, 0.15), -0.8, 0.8)),
            smile=float(rng.uniform(-1, 1)),
            scale=scale,
            dx=float(rng.uniform(-1, 1) * room) if count == 1 else (i + float(rng.uniform(0.3, 0.7))) / count - 0.5,
            dy=float(rng.uniform(-0.8, 0.5) * room),
            exposure=float(rng.uniform(0.6, 1.4)),
            side_light=float(rng.uniform(-0.4, 0.4)),
        )
        sitters.append(Sitter(Identity.sample(rng), Scene.sample(rng), pose))
    whole = sitters[0].nuisance if sitters else Nuisance.sample(rng)
    picture = render_people(sitters, scene, whole, side, side)
    return picture.image, picture.classes, picture.faces[0] if sitters else _NO_ONE


def _square(
    image: np.ndarray, classes: np.ndarray, face: Face, rng: np.random.Generator, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """The largest square around a face; `jitter`: by how much of its side it may lie beside it."""
    height, width = classes.shape
    side = min(height, width)
    centre = (face.box[:2] + face.box[2:]) / 2 if face is not _NO_ONE else np.array([width, height]) / 2
    corner = centre - side / 2 + rng.uniform(-jitter, jitter, 2) * side
    x, y = (int(np.clip(round(float(c)), 0, room - side)) for c, room in zip(corner, (width, height), strict=True))
    return image[y : y + side, x : x + side], classes[y : y + side, x : x + side]


def _sample(image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At 512 x 512: by area where it shrinks, cubic where it grows, as the pipeline does."""
    shrinks = len(image) > SAMPLE_SIDE
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (SAMPLE_SIDE,) * 2, interpolation=interpolation), _nearest(classes, SAMPLE_SIDE)


def _bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """As `perception.parsing` squeezes a picture for the network."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _nearest(classes: np.ndarray, side: int) -> np.ndarray:
    # OpenCV's plain INTER_NEAREST is half a pixel off
    return cv2.resize(classes, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
