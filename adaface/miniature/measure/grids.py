"""Pictures for the page of measures: what a number does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from adaface import load_adaface
from adaface.encoder.teacher import teacher_states
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.measure.generators import Models, people_and_photos
from adaface.miniature.measure.reconstruction import reconstruct
from adaface.miniature.networks.diffusion import load_sd, load_teacher
from adaface.miniature.networks.vae import load_vae
from adaface.miniature.pictures.portraits import SIZE, held_out_people
from adaface.miniature.render import grid, render
from adaface.miniature.world.captions import identity_phrase
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene

COLUMNS = 12
_ENLARGED = 2
# one row each, after the person's traits
PROMPTS = (
    "a photo of a {}",
    "a photo of a {} wearing armor on the beach",
    "a photo of a {} wearing a chef uniform and a crown in the forest",
    "a photo of a {} wearing a red shirt and glasses in space",
    "a photo of a {} wearing a blue suit and a hat in the city at night at sunset",
    "a photo of a {} wearing a purple dress in the library in neon light",
    "a pencil sketch of a {} wearing a helmet on a mountain",
    "an oil painting of a {} in the garden",
    "a pixel art of a {} wearing a green hoodie in the snow",
)


def world(weights: Path) -> np.ndarray:
    """People of the renderer, one a row: three plain photographs, then scenes."""
    rng = np.random.default_rng(0)
    rows = []
    for person in held_out_people(6, seed=1):
        scenes = [Scene()] * 3 + [Scene.sample(rng, styles=n > 3, lights=n > 5) for n in range(COLUMNS - 3)]
        rows += [render(person, scene, Nuisance.sample(rng), SIZE).image for scene in scenes]
    return _sheet(rows)


def reconstructions(weights: Path) -> np.ndarray:
    """Pictures above what the VAE makes of them."""
    vae, rng = load_vae(weights), np.random.default_rng(1)
    images = [
        render(person, Scene() if n % 3 == 0 else Scene.sample(rng), Nuisance.sample(rng), SIZE).image
        for n, person in enumerate(held_out_people(2 * COLUMNS, seed=2))
    ]
    again = reconstruct(vae, np.array(images))
    half = COLUMNS
    return _sheet([*images[:half], *again[:half], *images[half:], *again[half:]])


def prompts(weights: Path) -> np.ndarray:
    """Real photographs of twelve people, then Stable Diffusion told their traits, one prompt of `PROMPTS` a row."""
    pipe = load_sd(weights)
    models = Models(pipe.unet, pipe.text_encoder, pipe.tokenizer, pipe.vae)
    people, photos = people_and_photos(COLUMNS)
    rows = list(photos[:, 0])
    for prompt in PROMPTS:
        rows += list(models.draw_prompts([_fill(prompt, person) for person in people]))
    return _sheet(rows)


def encoder(weights: Path) -> np.ndarray:
    """The same photographs, then what the shipped encoder makes of each: one prompt of `PROMPTS` a row."""
    pipe = load_sd(weights)
    models = Models(pipe.unet, pipe.text_encoder, pipe.tokenizer, pipe.vae)
    adaface = load_adaface(pipe, str(weights / "encoder"), face_pack=str(weights / "pack"))
    _, photos = people_and_photos(COLUMNS)
    subjects = [adaface.subject(images=[photo]) for photo in photos[:, 0]]
    rows = list(photos[:, 0])
    for prompt in PROMPTS:
        states = [subject.prompt(prompt.format("z"), negative_prompt="")["prompt_embeds"] for subject in subjects]
        rows += list(models.draw(torch.cat(states)))
    return _sheet(rows)


def teacher(weights: Path) -> np.ndarray:
    """Photographs, and below each what the teacher draws from its ID embedding alone: three starts."""
    unet, text, tokenizer = load_teacher(weights)
    models = Models(unet, text, tokenizer, load_vae(weights))
    _, photos = people_and_photos(2 * COLUMNS)
    identities = torch.from_numpy(FaceReader(weights).read(photos[:, 0]).pack)
    with torch.inference_mode():
        states = teacher_states(text, tokenizer, identities).float()
    drawn = [models.draw(states, seed=seed) for seed in (9, 10, 11)]
    rows = []
    for half in (slice(0, COLUMNS), slice(COLUMNS, 2 * COLUMNS)):
        for images in (photos[:, 0], *drawn):
            rows += list(images[half])
    return _sheet(rows)


GRIDS: dict[str, Callable[[Path], np.ndarray]] = {
    "world": world,
    "vae": reconstructions,
    "names": prompts,
    "encoder": encoder,
    "teacher": teacher,
}


def _fill(prompt: str, person: Identity) -> str:
    return prompt.format(identity_phrase(person))


def _sheet(images: list[np.ndarray]) -> np.ndarray:
    sheet = grid(images, COLUMNS)
    return cv2.resize(sheet, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_NEAREST)
