"""Half a model or half a tokenizer is refused: its libraries would go on with random numbers, or with two words."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModel

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.image_encoders import VisionTransformer
from adaface.evaluation.prompt_length import open_tokenizer
from adaface.evaluation.torch_models import Running
from adaface.model_path import model_path
from adaface.models.whole import has_tokenizer, load_model, load_tokenizer
from tests.adaface.evaluation.known_pictures import album
from tests.adaface.evaluation.tiny_vision import save_clip, save_dino

SD = model_path("package://adaface.miniature/weights/sd")
ON_THE_CPU = Running.on("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


def without(folder: Path, start: str) -> None:
    """Takes the tensors whose names begin so out of a model."""
    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(start)}
    save_file(kept, file, metadata={"format": "pt"})


def test_a_clip_without_its_tokenizer(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "clip")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no whole tokenizer \(tokenizer.json, or vocab.json and merges.txt\)"
    ):
        ClipFeatures(folder, ON_THE_CPU)
    (folder / "vocab.json").write_text("{}")  # words that nobody says how to put together
    assert not has_tokenizer(folder)


def test_a_tokenizer_of_another_model(clip):
    known = len(load_tokenizer(clip))
    assert len(load_tokenizer(clip, known)) == known
    with pytest.raises(ValueError, match=f"has {known} words, and the text model {known + 1}"):
        load_tokenizer(clip, known + 1)


def test_a_tokenizer_of_no_words(tmp_path):
    (tmp_path / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="has 2 words; download the whole model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("lost", ["text_projection", "vision_model.embeddings.patch"])
def test_a_clip_that_is_not_whole(clip, tmp_path, lost):
    folder = shutil.copytree(clip, tmp_path / "clip")
    without(folder, lost)
    with pytest.raises(ValueError, match=rf"is no whole CLIP: 1 tensors are missing, {lost}\S* first"):
        ClipFeatures(folder, ON_THE_CPU)


def test_a_clip_that_is_cut_off(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "clip")
    data = (clip / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="is no whole CLIP"):
        ClipFeatures(folder, ON_THE_CPU)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no CLIP can be read from"):
        ClipFeatures(folder, ON_THE_CPU)


def test_a_vision_transformer_may_lack_the_pooler_alone(tmp_path):
    folder = save_dino(tmp_path / "dino")
    images = album().images[:2]
    whole = VisionTransformer(folder, ON_THE_CPU).images(images)
    without(folder, "pooler.")
    np.testing.assert_array_equal(VisionTransformer(folder, ON_THE_CPU).images(images), whole)
    without(folder, "embeddings.cls_token")
    with pytest.raises(ValueError, match=r"no whole vision transformer: 1 tensors are missing, embeddings.cls_token"):
        VisionTransformer(folder, ON_THE_CPU)


def test_the_tokenizer_of_a_base(tmp_path):
    assert open_tokenizer("owner/that-was-never-downloaded") is None
    assert open_tokenizer(str(tmp_path / "nothing")) is None
    shutil.copytree(SD / "tokenizer", tmp_path / "base" / "tokenizer")
    assert len(open_tokenizer(str(tmp_path / "base"))) == len(open_tokenizer(str(SD)))
    (tmp_path / "base" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no whole tokenizer"):
        open_tokenizer(str(tmp_path / "base"))


def test_the_half_of_a_model_that_is_not_asked_for_is_no_news(clip):
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(listener)
    try:
        load_model(CLIPVisionModel, clip, "CLIP", dtype=torch.float32)
        assert not said
        CLIPVisionModel.from_pretrained(clip)
        assert any("UNEXPECTED" in record.getMessage() for record in said)
    finally:
        logger.removeHandler(listener)
