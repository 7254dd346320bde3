"""The weights that the package ships: whole, small enough, read by the plain calls of their libraries, and trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from adaface import load_adaface
from adaface.encoder.teacher import teacher_states
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.measure.generators import Models
from adaface.miniature.render import Picture, render
from adaface.miniature.ship import CONTENT, MAX_BYTES
from adaface.miniature.shipped import MANIFEST, WEIGHTS, check
from adaface.miniature.world.captions import identity_phrase, prompt_for
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.config import BiSeNetConfig, PerceptionConfig
from adaface.perception.faces import FaceAnalyser
from adaface.perception.parsing import load_parser

PEOPLE = 6


@pytest.fixture(scope="module")
def people() -> list[Identity]:
    """Nobody whom a network was trained on."""
    return [Identity.sample(np.random.default_rng([990_001, 4242, number])) for number in range(PEOPLE)]


def photo(person: Identity, seed: int, side: int = 64) -> Picture:
    return render(person, Scene(), Nuisance.sample(np.random.default_rng([seed, 7])), side)


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return FaceReader(WEIGHTS)


@pytest.fixture(scope="module")
def references(people: list[Identity], reader: FaceReader) -> np.ndarray:
    """(PEOPLE, 64): the pack's embedding of a photograph of each."""
    return reader.read([photo(person, 1).image for person in people]).pack


def own_and_others(rows: np.ndarray, references: np.ndarray) -> tuple[float, float]:
    cosine = rows @ references.T
    own = float(np.diagonal(cosine).mean())
    return own, float((cosine.sum() - np.trace(cosine)) / (cosine.size - len(cosine)))


def test_the_files_are_those_of_the_manifest() -> None:
    assert check() == []


def test_nothing_is_shipped_that_the_manifest_does_not_name() -> None:
    manifest = json.loads((WEIGHTS / MANIFEST).read_text())
    there = {file.relative_to(WEIGHTS).as_posix() for file in WEIGHTS.rglob("*") if file.is_file()}
    assert there == set(manifest["files"]) | {MANIFEST}
    parts = [part for model in manifest["models"] for part in CONTENT.get(model, ())]
    assert all(any(name == part or name.startswith(f"{part}/") for name in there) for part in parts)
    assert sum((WEIGHTS / name).stat().st_size for name in there) <= MAX_BYTES


def test_weights_are_halves() -> None:
    """But for the numbers per channel of the parser, which batch normalisation needs whole."""
    for file in WEIGHTS.rglob("*.safetensors"):
        large = [name for name, tensor in load_file(file).items() if tensor.ndim > 1 and tensor.dtype != torch.float16]
        assert not large, file


def test_the_pack_finds_aligns_and_tells_apart(people: list[Identity]) -> None:
    analyser = FaceAnalyser(PerceptionConfig(pack=str(WEIGHTS / "pack"), detector_sizes=(320, 160), device="cpu"))
    assert set(analyser.files) == {"detection", "recognition", "genderage"}
    pictures = [photo(person, seed, 256) for seed in (1, 2) for person in people]
    results = analyser.analyse([picture.image for picture in pictures])
    for picture, result in zip(pictures, results, strict=True):
        truth = picture.faces[0].landmarks
        eyes = np.linalg.norm(truth[1] - truth[0])
        assert np.linalg.norm(result.faces[0].landmarks - truth, axis=1).mean() < 0.15 * eyes
    embeddings = np.stack([result.embedding for result in results])
    own, others = own_and_others(embeddings[PEOPLE:], embeddings[:PEOPLE])
    assert own > 0.75 and others < 0.35
    right = [result.gender == 1 - person.female for result, person in zip(results, people * 2, strict=True)]
    assert np.mean(right) >= 0.8


def test_the_parser_outlines_a_person(people: list[Identity]) -> None:
    config = BiSeNetConfig(file=str(WEIGHTS / "parser" / "bisenet.safetensors"), side=256)
    pictures = [photo(person, 3, 256) for person in people]
    found = load_parser(config, device="cpu").parse(np.stack([picture.image for picture in pictures])) > 0
    truth = np.stack([picture.classes for picture in pictures]) > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_clip_finds_the_word_for_a_place(people: list[Identity]) -> None:
    clip, tokenizer = CLIPModel.from_pretrained(WEIGHTS / "clip"), CLIPTokenizer.from_pretrained(WEIGHTS / "clip")
    places = ("beach", "forest", "city", "space")
    pictures = [render(person, Scene(place=place), Nuisance(), 64).image for place in places for person in people[:3]]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    tokens = tokenizer([prompt_for("place", place) for place in places], padding=True, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = clip(input_ids=tokens, pixel_values=pixels).logits_per_image
    assert (logits.argmax(1) == torch.arange(len(places)).repeat_interleave(3)).float().mean() >= 0.9


def test_stable_diffusion_draws_whom_it_is_told(
    people: list[Identity], reader: FaceReader, references: np.ndarray
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS / "sd", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe(
        [f"a photo of a {identity_phrase(person)}" for person in people],
        num_inference_steps=15,
        guidance_scale=2.5,
        generator=[torch.Generator().manual_seed(number) for number in range(PEOPLE)],
        output_type="np",
    ).images
    found = reader.read((pictures * 255).round().astype(np.uint8))
    assert found.found.mean() >= 0.8
    own, others = own_and_others(found.pack, references)
    assert own - others > 0.35


def test_the_teacher_draws_whom_it_is_shown(
    people: list[Identity], reader: FaceReader, references: np.ndarray
) -> None:
    unet = UNet2DConditionModel.from_pretrained(WEIGHTS / "teacher" / "unet", torch_dtype=torch.float32).eval()
    text = CLIPTextModel.from_pretrained(WEIGHTS / "teacher" / "text_encoder", dtype=torch.float32).eval()
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "sd" / "vae", torch_dtype=torch.float32).eval()
    models = Models(unet, text, CLIPTokenizer.from_pretrained(WEIGHTS / "clip"), vae)
    with torch.inference_mode():
        states = teacher_states(text, models.tokenizer, torch.from_numpy(references)).float()
    found = reader.read(models.draw(states))
    own, others = own_and_others(found.pack, references)
    assert own > 0.6 and others < 0.35


def test_the_encoder_puts_people_into_prompts(
    people: list[Identity], reader: FaceReader, references: np.ndarray
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        WEIGHTS / "sd", torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    adaface = load_adaface(pipe, WEIGHTS / "encoder")
    drawn = []
    for identity in torch.from_numpy(references):
        prompt = adaface.subject(ids=identity).prompt("a photo of a z on the beach", negative_prompt=None)
        generator = torch.Generator().manual_seed(3)
        drawn += pipe(**prompt, num_inference_steps=12, guidance_scale=3, generator=generator).images
    own, others = own_and_others(reader.read([np.asarray(picture) for picture in drawn]).pack, references)
    assert own > 0.55 and others < 0.35


def test_a_missing_weight_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        FaceReader(tmp_path)
