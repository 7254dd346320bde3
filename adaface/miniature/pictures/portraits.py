"""The rendered pictures that CLIP, the VAE and the diffusion models learn from, at 64 px, with their factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from adaface.miniature.pictures.rendered import Chunk, rendered_set
from adaface.miniature.render import render
from adaface.miniature.world.identity import CONTINUOUS, Identity
from adaface.miniature.world.scene import VOCABULARY, Nuisance, Scene

SIZE = 64
_PLAIN, _SCENES, _HELD_OUT = 410_001, 420_001, 990_001  # first number of every seed: the sets share no person
_PEOPLE = 400  # of one chunk


def plain_portraits(folder: Path) -> Chunk:
    """72,000 photographs in a studio, 3 of each of 24,000 people, one after the other; keys as `_pictures`."""
    return rendered_set(folder, "portraits-plain", _plain, 60)


def scene_portraits(folder: Path) -> Chunk:
    """96,000 pictures in random scenes, 2 of each of 48,000 people."""
    return rendered_set(folder, "portraits-scenes", _scene, 120)


def held_out_people(count: int, seed: int = 0) -> list[Identity]:
    """People who are in no training set."""
    rng = np.random.default_rng([_HELD_OUT, seed])
    return [Identity.sample(rng) for _ in range(count)]


def held_out_pictures(folder: Path) -> Chunk:
    """2,000 pictures, 4 in a studio and 4 in random scenes of each of 250 people who are in no training set."""
    return rendered_set(folder, "portraits-held-out", _held_out, 1)


def person_at(pictures: Chunk, row: int) -> Identity:
    """The identity of one row of a set."""
    values = pictures["identity"][row]
    names = [field.name for field in fields(Identity)]
    factors: dict[str, Any] = {n: float(v) if n in CONTINUOUS else int(v) for n, v in zip(names, values, strict=True)}
    return Identity(**factors)


def scene_at(pictures: Chunk, row: int) -> Scene:
    """The scene of one row of a set."""
    words = pictures["scene"][row]
    return Scene(**{name: VOCABULARY[name][int(i)] for name, i in zip(VOCABULARY, words, strict=True)})


def _plain(chunk: int) -> Chunk:
    rng = np.random.default_rng([_PLAIN, chunk])
    return _pictures(rng, [Identity.sample(rng) for _ in range(_PEOPLE)], [lambda: Scene()] * 3)


def _scene(chunk: int) -> Chunk:
    rng = np.random.default_rng([_SCENES, chunk])
    return _pictures(rng, [Identity.sample(rng) for _ in range(_PEOPLE)], [lambda: Scene.sample(rng)] * 2)


def _held_out(chunk: int) -> Chunk:
    rng = np.random.default_rng([_HELD_OUT, 1, chunk])
    return _pictures(rng, held_out_people(250), [lambda: Scene()] * 4 + [lambda: Scene.sample(rng)] * 4)


def _pictures(rng: np.random.Generator, people: list[Identity], scenes: list[Callable[[], Scene]]) -> Chunk:
    """image uint8 (N, 64, 64, 3), classes uint8 (N, 64, 64), landmarks float32 (N, 5, 2) px, identity float32 (N, 20),
    scene uint8 (N, 6): indices into `VOCABULARY`."""
    rows: dict[str, list] = {"image": [], "classes": [], "landmarks": [], "identity": [], "scene": []}
    for person in people:
        for draw in scenes:
            scene = draw()
            picture = render(person, scene, Nuisance.sample(rng), SIZE)
            rows["image"].append(picture.image)
            rows["classes"].append(picture.classes)
            rows["landmarks"].append(picture.landmarks)
            rows["identity"].append(person.factors())
            rows["scene"].append(scene.factors().astype(np.uint8))
    return {key: np.stack(values) for key, values in rows.items()}
