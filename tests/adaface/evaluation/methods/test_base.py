"""One loaded base for all methods of a process, and text states that are computed once."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from adaface.evaluation.config import ClassWordConfig, EncoderMethodConfig, TeacherConfig
from adaface.evaluation.methods.base import BasePipe, Person, known_ids
from adaface.evaluation.methods.open import open_method
from adaface.model_path import model_path
from adaface.shipped_files import sha256
from tests.adaface.evaluation.methods.tiny_methods import BASE, BEACH, HAT, requests


def test_all_methods_over_one_base_share_it(base, generation, teacher_folder, encoder_folder):
    word = open_method(ClassWordConfig(kind="class_word"), generation)
    encoder = open_method(EncoderMethodConfig(kind="encoder", name="a", path=str(encoder_folder)), generation)
    other = generation.model_copy(update={"steps": 2, "device": "cpu"})  # other settings, the same weights
    second = open_method(EncoderMethodConfig(kind="encoder", name="b", path=str(encoder_folder)), other)
    parts = {"unet": str(teacher_folder / "unet"), "text_encoder": str(teacher_folder / "text_encoder")}
    teacher = open_method(TeacherConfig(kind="teacher", **parts), generation)

    assert word.base is encoder.base is second.base is teacher.base is base
    assert teacher._pipe.vae is base.pipe.vae and teacher._pipe.unet is not base.pipe.unet
    assert teacher._pipe.scheduler is not base.pipe.scheduler


def test_a_base_goes_with_the_last_method_that_holds_it(tmp_path, base):
    base.pipe.save_pretrained(tmp_path)
    loaded = BasePipe.shared(str(tmp_path), "cpu")
    assert loaded is not base and BasePipe.shared(str(tmp_path), "cpu") is loaded
    key = (str(tmp_path), "cpu", "float32")
    assert key in BasePipe._in_use
    del loaded
    gc.collect()
    assert key not in BasePipe._in_use
    assert BasePipe.shared(BASE, "cpu") is base


def test_the_configuration_says_the_precision_and_not_the_device(generation, base):
    assert base.pipe.dtype == torch.float32
    half = open_method(ClassWordConfig(kind="class_word"), generation.model_copy(update={"precision": "float16"}))
    assert half.base is not base and half.base.pipe.dtype == torch.float16


@pytest.mark.parametrize("kind", ["class_word", "encoder"])
def test_text_states_are_computed_once_per_subject_and_prompt(kind, generation, encoder_folder, anna, ids, text_calls):
    if kind == "encoder":
        method = open_method(EncoderMethodConfig(kind="encoder", name="a", path=str(encoder_folder)), generation)
    else:
        method = open_method(ClassWordConfig(kind="class_word"), generation)
    prepared = method.prepare(anna, [], ids)
    text_calls.clear()
    method.draw(prepared, requests(1, 2, prompt=BEACH) + requests(3, prompt=HAT))
    assert len(text_calls) == 4  # two prompts, each with the negative one
    method.draw(prepared, requests(4, prompt=HAT) + requests(5, prompt=BEACH))
    assert len(text_calls) == 4
    method.draw(method.prepare(anna, [], ids), requests(6, prompt=HAT))
    assert len(text_calls) == 6  # another preparation begins anew


def test_the_states_of_a_prompt_do_not_depend_on_which_came_before(base, generation):
    texts = [BEACH.of("man"), HAT.of("man"), "a drawing of a woman"]
    first, second = Person(), Person()
    forward = [base.states(generation, first, text) for text in texts]
    backward = [base.states(generation, second, text) for text in texts[::-1]][::-1]
    assert all(a.equal(b) for a, b in zip(forward, backward, strict=True))


def test_photos_without_a_face_do_not_count(ids):
    rows = np.concatenate([ids[:1], np.zeros_like(ids[:1]), ids[1:]])
    assert np.array_equal(known_ids("anna", rows).numpy(), ids)


@pytest.mark.parametrize("rows", [np.zeros((2, 8), np.float32), np.zeros((0, 8), np.float32), np.array([])])
def test_nobody_without_a_face_can_be_drawn(rows):
    with pytest.raises(ValueError, match=r"subject anna: there is no ID embedding"):
        known_ids("anna", rows)


def test_a_base_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        BasePipe.shared(str(tmp_path / "nothing"), "cpu")


def test_provenance_names_the_files_of_the_base(base):
    files, folder = base.files(), model_path(BASE)
    assert files["unet/diffusion_pytorch_model.safetensors"] == sha256(
        folder / "unet" / "diffusion_pytorch_model.safetensors"
    )
    parts = {name.partition("/")[0] for name in files}
    assert parts == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
