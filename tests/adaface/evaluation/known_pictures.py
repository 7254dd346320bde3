"""Pictures whose scores are known by construction, rendered and measured with the shipped models of the miniature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adaface.evaluation.config import MeasuresConfig
from adaface.evaluation.features import FeatureReader
from adaface.evaluation.metrics.base import References, Table
from adaface.evaluation.plan import Picture
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.subjects import Subject
from adaface.miniature.pictures.portraits import held_out_people
from adaface.miniature.render import render
from adaface.miniature.render.places import background
from adaface.miniature.world.scene import Nuisance, Scene

WEIGHTS = "package://adaface.miniature/weights"
PEOPLE, PHOTOS, SEEDS = 12, 5, 2  # copying is measured by differences of distances, which needs many
BASELINE = "class-word"
RIGHT = Scene(place="beach", clothing="red shirt", headwear="hat")
WRONG = Scene(place="office", clothing="blue suit")
PROMPT = Prompt(
    id="beach",
    category="place",
    text="a photo of a {} wearing a red shirt and a hat on the beach",
    expects={"place": "beach", "clothing": "red shirt", "headwear": "hat"},
)


def measures(**changes: Any) -> MeasuresConfig:
    """The whole miniature, on one core."""
    settings: dict[str, Any] = {
        "faces": {"pack": f"{WEIGHTS}/pack", "detector_sizes": (160,)},
        "judges": [{"name": "judge", "file": f"{WEIGHTS}/judge/recogniser.onnx"}],
        "clip": f"{WEIGHTS}/clip",
        "image_encoders": {"dino": {"entry_point": "adaface.miniature.scene_reader:PictureEncoder"}},
        "scene_classifier": {"entry_point": "adaface.miniature.scene_reader:SceneReader"},
        "device": "cpu",
    }
    return MeasuresConfig(**settings | changes)


@cache
def reader(mode: str = "default") -> FeatureReader:
    return FeatureReader(measures(mode=mode))


@dataclass(frozen=True)
class Album:
    """Twelve people with studio photos of which the first is given to the "methods", and what these "drew" for PROMPT."""

    photos: list[list[np.ndarray]]  # of each person
    subjects: list[Subject]
    pictures: list[Picture]
    images: list[np.ndarray]  # as `pictures`


@cache
def album() -> Album:
    """Each "method" is one way to answer the prompt, with the same outcome for everybody and from every seed."""
    rng = np.random.default_rng(5)
    people = held_out_people(PEOPLE, seed=3)
    strangers = held_out_people(PEOPLE, seed=4)
    photos = [[render(p, Scene(), Nuisance.sample(rng)).image for _ in range(PHOTOS)] for p in people]
    subjects = [
        Subject(f"person-{i}", tuple(Path(f"{k}.png") for k in range(PHOTOS)), (0,), p.class_word, p.class_word)
        for i, p in enumerate(people)
    ]
    pictures, images = [], []
    for i, person in enumerate(people):
        for k in range(SEEDS):
            pose = Nuisance.sample(rng)  # what a seed decides
            drawn = {
                BASELINE: render(strangers[i], RIGHT, pose).image,
                "subject": render(person, RIGHT, pose).image,
                "wrong scene": render(person, WRONG, Nuisance.sample(rng)).image,
                "another photo": render(person, Scene(), Nuisance.sample(rng)).image,
                "another person": render(people[(i + 1) % PEOPLE], Scene(), Nuisance.sample(rng)).image,
                "landscape": _landscape(100 * i + k),
                "reference": photos[i][0],
                "unchanged": render(strangers[i], RIGHT, pose).image,
            }
            for method, image in drawn.items():
                pictures.append(Picture(method, f"person-{i}", PROMPT.id, k, seed=k))
                images.append(image)
    return Album(photos, subjects, pictures, images)


@cache
def known() -> tuple[Table, dict[str, References]]:
    """The album through all models, those of parity included."""
    everything, models = album(), reader("parity")
    references = {
        subject.name: References(subject, models.read(photos, photos=True))
        for subject, photos in zip(everything.subjects, everything.photos, strict=True)
    }
    words = {subject.name: subject.class_word for subject in everything.subjects}
    text = models.texts([PROMPT.of(words[picture.subject]) for picture in everything.pictures])
    features = models.read(everything.images)
    return Table(everything.pictures, {PROMPT.id: PROMPT}, features, text, BASELINE), references


def _landscape(seed: int) -> np.ndarray:
    large = Image.fromarray(background(RIGHT.place, seed, 192, 192).astype(np.uint8))
    return np.asarray(large.resize((64, 64), Image.Resampling.BOX))
