"""Rendered portraits by the thousand, for the networks that look at faces: pictures, who is in them and where.

The pictures are kept as JPEG files in slots of equal length: photographs have been through JPEG anyway, and several
times as many fit on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.miniature.render import render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import EYEWEAR, Nuisance, Scene

# First number of the random seeds of all people that no network is trained on.
HELD_OUT = 990_001
PEOPLE_PER_CHUNK = 100
SLOT = 12_288  # bytes
# Generated pictures are this large; half of the portraits are, too.
SMALL_SIDE, LARGEST_SIDE = 64, 256


@dataclass(frozen=True)
class Album:
    """Which people and which pictures of them. `seed` names the people, and no two albums share it by accident.

    scenes: "mixed" is half photographs in plain light and half anything; "any" is `Scene.sample`; "photo" leaves out
    art styles, coloured light and sunglasses.
    """

    name: str
    seed: int
    people: int  # a multiple of PEOPLE_PER_CHUNK
    photos: int  # of each
    scenes: str = "mixed"


def load_album(data: Path, album: Album) -> Chunk:
    """Rows in the order of the people, rendered at first use into `data`:

    photo uint8 (N, SLOT) JPEG; landmarks float32 (N, 5, 2) px; box float32 (N, 4) px; person int32 (N,);
    factors float32 (N, 20), see `Identity.factors`; scene int16 (N, 6), see `Scene.factors`.
    """
    name = f"{album.name}-{album.seed}-{album.people}x{album.photos}"
    return rendered_set(data, name, partial(_render_chunk, album), album.people // PEOPLE_PER_CHUNK)


def decode(photo: np.ndarray) -> np.ndarray:
    """One row of `photo` -> uint8 (H, W, 3), blue first as insightface and OpenCV have it."""
    image = cv2.imdecode(np.asarray(photo), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a JPEG; delete the folder of rendered pictures to have them made anew")
    return image


def _render_chunk(album: Album, chunk: int) -> Chunk:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([album.seed, chunk])
    rows: list[dict[str, np.ndarray]] = []
    for person in range(PEOPLE_PER_CHUNK):
        identity = Identity.sample(rng)
        for number in range(album.photos):
            scene, nuisance = _scene(album.scenes, rng), Nuisance.sample(rng)
            small = number % 2 == 0
            side = SMALL_SIDE if small else round(float(np.exp(rng.uniform(np.log(72), np.log(LARGEST_SIDE)))))
            picture = render(identity, scene, nuisance, side)
            rows.append(
                {
                    "photo": _encode(picture.image, rng),
                    "landmarks": picture.landmarks,
                    "box": picture.box,
                    "person": np.array(chunk * PEOPLE_PER_CHUNK + person, np.int32),
                    "factors": identity.factors(),
                    "scene": scene.factors().astype(np.int16),
                }
            )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _scene(kind: str, rng: np.random.Generator) -> Scene:
    if kind == "any" or (kind == "mixed" and rng.random() < 0.5):
        return Scene.sample(rng)
    while True:
        scene = Scene.sample(rng, styles=False, lights=False)
        if kind == "mixed" or scene.eyewear != EYEWEAR[2]:
            return scene


def _encode(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RGB (H, W, 3) -> uint8 (SLOT,): half the pictures nearly lossless, half as phones and websites keep them."""
    fine = rng.random() < 0.5
    quality = 98 if fine else int(rng.integers(60, 96))
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if fine else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    while True:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        data = cv2.imencode(".jpg", image[:, :, ::-1], options)[1]
        if len(data) <= SLOT:
            return np.pad(data.reshape(-1), (0, SLOT - len(data)))
        quality -= 5
