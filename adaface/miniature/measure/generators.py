"""Stable Diffusion and the teacher, judged by the faces and the scenes of what they draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from adaface.encoder.teacher import teacher_states
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.measure.identity_gap import identity_gap
from adaface.miniature.networks.diffusion import decode, sample, text_states
from adaface.miniature.networks.factors import FactorClassifier, read_factors
from adaface.miniature.networks.vae import load_vae, to_images
from adaface.miniature.pictures.portraits import SIZE, held_out_people
from adaface.miniature.render import render
from adaface.miniature.world.captions import identity_phrase, prompt_for
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.names import name_of
from adaface.miniature.world.scene import VOCABULARY, Nuisance, Scene

PEOPLE = 48
STEPS, SEED = 20, 9
GUIDANCE = 4.0  # what generation starts with by default
_PHOTO_SEED = 77


@dataclass(frozen=True)
class Models:
    """What draws: UNet, text model, tokenizer and the VAE that it draws through."""

    unet: nn.Module
    text: CLIPTextModel
    tokenizer: CLIPTokenizer
    vae: AutoencoderKL

    @torch.inference_mode()
    def draw(self, states: Tensor, *, seed: int = SEED) -> np.ndarray:
        """Text states (B, 77, D) -> uint8 (B, 64, 64, 3)."""
        empty = text_states(self.text, self.tokenizer, [""])
        return to_images(decode(self.vae, sample(self.unet, states, empty, steps=STEPS, guidance=GUIDANCE, seed=seed)))

    @torch.inference_mode()
    def draw_prompts(self, prompts: list[str]) -> np.ndarray:
        """One picture per prompt, uint8 (B, 64, 64, 3)."""
        return self.draw(text_states(self.text, self.tokenizer, prompts))


def people_and_photos(count: int = PEOPLE, photos: int = 2) -> tuple[list[Identity], np.ndarray]:
    """Held-out people and plain photographs of them, uint8 (count, photos, 64, 64, 3)."""
    people = held_out_people(count, seed=_PHOTO_SEED)
    rng = np.random.default_rng(_PHOTO_SEED)
    pictures = [[render(p, Scene(), Nuisance.sample(rng), SIZE).image for _ in range(photos)] for p in people]
    return people, np.array(pictures)


def identity_rows(reader: FaceReader, references: np.ndarray, pictures: np.ndarray, name: str) -> dict[str, float]:
    """Gaps of pictures (P, K, H, W, 3) to the reference photographs (P, H, W, 3), by both recognisers."""
    people, each = pictures.shape[:2]
    found = reader.read(pictures.reshape(-1, *pictures.shape[2:]))
    known = reader.read(references)
    out = {f"{name}_faces_found": round(float(found.found.mean()), 4)}
    for recogniser in ("pack", "judge"):
        rows = found.of(recogniser).reshape(people, each, -1)
        out.update(identity_gap(rows, known.of(recogniser)).as_dict(f"{name}_{recogniser}_"))
    return out


def gate(unet: nn.Module, text: CLIPTextModel, tokenizer: CLIPTokenizer, weights: Path) -> dict[str, float]:
    """Stable Diffusion told who somebody is: the identity gap with a person's traits spelled out, next to the class
    word alone; and how often each word of a scene is seen when it is prompted.
    """
    models = Models(unet, text, tokenizer, load_vae(weights))
    reader = FaceReader(weights)
    people, photos = people_and_photos()
    told = models.draw_prompts([f"a photo of a {identity_phrase(person)}" for person in people])
    word = models.draw_prompts([f"a photo of a {person.class_word}" for person in people])
    faces = np.concatenate([told, word])
    return {
        "portrait_faces_found": round(float(reader.read(faces).found.mean()), 4),
        **identity_rows(reader, photos[:, 0], photos[:, 1:], "real"),
        **identity_rows(reader, photos[:, 0], told[:, None], "traits"),
        **identity_rows(reader, photos[:, 0], word[:, None], "class_word"),
        **scene_rows(models, weights),
    }


def gate_of_names(unet: nn.Module, text: CLIPTextModel, tokenizer: CLIPTokenizer, weights: Path) -> dict[str, float]:
    """Stable Diffusion told somebody's name: the identity gap, with the class word behind the name and without."""
    models = Models(unet, text, tokenizer, load_vae(weights))
    reader = FaceReader(weights)
    people, photos = people_and_photos()
    rows = {}
    for row, behind in (("name", "{} {}"), ("name_alone", "{}")):
        told = models.draw_prompts([f"a photo of a {behind.format(name_of(p), p.class_word)}" for p in people])
        rows.update(identity_rows(reader, photos[:, 0], told[:, None], row))
    return rows


def scene_rows(models: Models, weights: Path, each: int = 8) -> dict[str, float]:
    """Share of pictures in which the classifier sees the word that was prompted, per factor."""
    classifier = FactorClassifier.load(weights)
    out = {}
    for factor, words in VOCABULARY.items():
        asked = [word for word in words if word != words[0]]
        images = models.draw_prompts([prompt_for(factor, word) for word in asked for _ in range(each)])
        seen = read_factors(classifier, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)[factor]
        truth = torch.tensor([words.index(word) for word in asked for _ in range(each)])
        out[f"prompted_{factor}_seen"] = round(float((seen == truth).float().mean()), 4)
    return out


def teacher_gap(unet: nn.Module, text: CLIPTextModel, tokenizer: CLIPTokenizer, weights: Path) -> dict[str, float]:
    """The teacher shown a photograph: its pictures against that photograph, next to another real photograph."""
    models = Models(unet, text, tokenizer, load_vae(weights))
    reader = FaceReader(weights)
    _, photos = people_and_photos()
    identities = torch.from_numpy(reader.read(photos[:, 0]).pack)
    with torch.inference_mode():
        states = teacher_states(text, tokenizer, identities).float()
    drawn = models.draw(states.repeat_interleave(2, 0)).reshape(len(photos), 2, SIZE, SIZE, 3)
    rows = {
        **identity_rows(reader, photos[:, 0], photos[:, 1:], "real"),
        **identity_rows(reader, photos[:, 0], drawn, "teacher"),
    }
    for recogniser in ("pack", "judge"):
        share = rows[f"teacher_{recogniser}_own"] / rows[f"real_{recogniser}_own"]
        rows[f"share_of_real_{recogniser}"] = round(share, 4)
    return rows
