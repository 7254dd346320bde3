"""The teacher draws the face and cannot read the prompt."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from adaface.encoder.teacher import teacher_states
from adaface.evaluation.config import TeacherConfig
from adaface.evaluation.methods.open import open_method
from adaface.shipped_files import sha256
from adaface.subjects.faces_of import mean_id
from tests.adaface.evaluation.methods.tiny_methods import HAT, drawn_by, make_unet, requests


@pytest.fixture
def config(teacher_folder):
    return TeacherConfig(
        kind="teacher", unet=str(teacher_folder / "unet"), text_encoder=str(teacher_folder / "text_encoder")
    )


def test_it_draws_what_its_authors_pipeline_draws(base, generation, teacher_folder, config, anna, ids):
    """The ID embedding as prompt, and no negative prompt: diffusers takes the empty one through the teacher's encoder."""
    text = CLIPTextModel.from_pretrained(teacher_folder / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(teacher_folder / "unet", dtype=torch.float32, low_cpu_mem_usage=False)
    pipe = StableDiffusionPipeline(
        **(base.pipe.components | {"unet": unet, "text_encoder": text}), requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        states = teacher_states(text, pipe.tokenizer, mean_id(torch.from_numpy(ids))[None])
    method = open_method(config, generation)
    first, second = method.draw(method.prepare(anna, [], ids), requests(5, 6))
    for picture, seed in ((first, 5), (second, 6)):
        expected = drawn_by(pipe, generation, seed, prompt_embeds=states)
        assert np.abs(picture.astype(int) - expected).max() <= 1
    assert not np.array_equal(first, second)


def test_the_prompt_is_ignored_and_the_face_is_not(generation, config, anna, ids):
    method = open_method(config, generation)
    prepared, other = method.prepare(anna, [], ids), method.prepare(anna, [], -ids)
    (beach,) = method.draw(prepared, requests(5))
    assert np.array_equal(method.draw(prepared, requests(5, prompt=HAT, word="man"))[0], beach)
    assert not np.array_equal(method.draw(other, requests(5))[0], beach)


def test_its_guidance_may_be_its_own(generation, config, anna, ids):
    own = open_method(config.model_copy(update={"guidance": (3.0, 3.0)}), generation)
    shared = open_method(config, generation.model_copy(update={"guidance": (3.0, 3.0)}))
    usual = open_method(config, generation)
    pictures = [method.draw(method.prepare(anna, [], ids), requests(5))[0] for method in (own, shared, usual)]
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    assert own.provenance()["guidance"] == [3.0, 3.0] and usual.provenance()["guidance"] == [4.0, 1.0]


def test_it_cannot_draw_nobody(generation, config, anna, ids):
    with pytest.raises(ValueError, match="method teacher: subject anna: there is no ID embedding"):
        open_method(config, generation).prepare(anna, [], np.zeros_like(ids))


def test_embeddings_wider_than_its_text_model_are_refused(generation, config, anna):
    with pytest.raises(ValueError, match="method teacher: ID embeddings must be"):
        open_method(config, generation).prepare(anna, [], np.ones((1, 512), np.float32))


def test_provenance_names_its_files(generation, config, teacher_folder):
    said = open_method(
        config.model_copy(update={"tokenizer": f"{generation.base}/tokenizer"}), generation
    ).provenance()
    assert said["files"]["unet/diffusion_pytorch_model.safetensors"] == sha256(
        teacher_folder / "unet" / "diffusion_pytorch_model.safetensors"
    )
    assert {"text_encoder/model.safetensors", "text_encoder/config.json", "tokenizer/tokenizer.json"} <= set(
        said["files"]
    )
    assert "vae/diffusion_pytorch_model.safetensors" in said["base_files"]


def test_parts_that_are_not_there(generation, config, tmp_path):
    for part in ("unet", "text_encoder", "tokenizer"):
        with pytest.raises(FileNotFoundError, match="no such folder of a model"):
            open_method(config.model_copy(update={part: str(tmp_path / "nothing")}), generation)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no UNet can be read from"):
        open_method(config.model_copy(update={"unet": str(tmp_path / "empty")}), generation)


def test_half_a_model_is_refused_and_not_filled_with_random_numbers(generation, config, teacher_folder, tmp_path):
    for part, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        shutil.copytree(teacher_folder / part, tmp_path / part)
        weights = load_file(tmp_path / part / f"{file}.safetensors")
        lost = sorted(weights)[3]
        del weights[lost]
        save_file(weights, tmp_path / part / f"{file}.safetensors", metadata={"format": "pt"})
        with pytest.raises(
            ValueError, match=rf"is no whole .*: 1 tensors are missing, .*{lost.rpartition('.')[2]} first"
        ):
            open_method(config.model_copy(update={part: str(tmp_path / part)}), generation)


def test_a_unet_of_another_width_is_refused(generation, config, tmp_path):
    make_unet(in_channels=8, cross_attention_dim=32).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"method teacher: .*states of 32 values and gets 128; .*8 channels.*reads 4"):
        open_method(config.model_copy(update={"unet": str(tmp_path)}), generation)
