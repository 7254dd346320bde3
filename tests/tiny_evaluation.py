"""A few rendered people, an encoder before its training, and an evaluation of them that takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from adaface import AdaFaceEncoder
from adaface.encoder.config import EncoderConfig, text_values
from adaface.miniature.render import render
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene

NAMES = ("Ana", "Li Wei", "Ñandú")


def make_people(folder: Path) -> Path:
    """Three people with three photos each."""
    rng = np.random.default_rng(20261123)
    for name in NAMES:
        person = Identity.sample(rng)
        (folder / name).mkdir(parents=True)
        for number in range(3):
            picture = render(person, Scene(), Nuisance.sample(rng), 128).image
            Image.fromarray(picture).save(folder / name / f"{number}.jpg", quality=95)
    return folder


def make_encoder(folder: Path, seed: int = 1) -> Path:
    """One before its training, with a teacher that nobody has taught: the floor of every measure of identity."""
    torch.manual_seed(seed)
    text = CLIPTextModel.from_pretrained(WEIGHTS / "sd" / "text_encoder", dtype=torch.float32)
    config = EncoderConfig.for_tokenizer(
        CLIPTokenizer.from_pretrained(WEIGHTS / "sd" / "tokenizer"),
        text=text_values(text.config),
        id_dim=64,
        teacher="teacher",
        face_pack="package://adaface.miniature/weights/pack",
    )
    encoder = AdaFaceEncoder.from_text_model(config, text, text)
    with torch.no_grad():
        for parameter in encoder.trainable_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    encoder.save_pretrained(folder)
    return folder


def small_settings(people: Path, encoder: Path, out: Path, *overrides: str) -> list[str]:
    """Overrides of configs/evaluate-miniature.yaml: 3 people, 3 prompts, 2 pictures, 8 steps."""
    return [
        f"subjects.folder='{people}'",
        "subjects.given=1",
        f"output='{out}'",
        "prompts.limit=3",
        "generation.images_per_prompt=2",
        "generation.batch=4",
        "generation.steps=8",
        f"methods=[{{name: class-word, kind: class_word}}, {{name: ours, kind: encoder, path: '{encoder}'}}]",
        "measures.bootstrap=100",
        *overrides,
    ]
