"""An encoder that could not draw is named before the run, and not when the methods before it have drawn for hours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from adaface.encoder.files import CONFIG, WEIGHTS
from adaface.evaluation.encoder_problems import encoder_problems
from tests.adaface.encoder.tiny_encoder import ID_DIM, WIDTH, encoder, text_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return encoder(face_pack="some-pack").save_pretrained(tmp_path_factory.mktemp("saved") / "encoder")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "encoder"))


def found(folder: Path, id_dim: int | None = ID_DIM, width: int | None = WIDTH) -> list[str]:
    return list(encoder_problems(folder, id_dim=id_dim, width=width))


def say(folder: Path, **changes: Any) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**settings, **changes}))


def test_nothing_is_wrong(saved):
    assert found(saved) == found(saved, None, None) == []


def test_it_is_made_for_another_base_and_other_embeddings(saved):
    ids, base = found(saved, 192, 768)
    assert ids.startswith(f"the encoder reads ID embeddings of {ID_DIM} values, and the first recogniser gives 192")
    assert "the pack it was trained with (some-pack)" in ids
    assert base.startswith(
        f"the encoder makes vectors of {WIDTH} values, and the text encoder of generation.base reads"
    )


def test_weights_that_are_not_whole(folder):
    weights = load_file(folder / WEIGHTS)
    save_file({}, folder / WEIGHTS)
    (line,) = found(folder)
    assert "does not fit its config.json" in line and "layer_weights is missing" in line
    save_file({**weights, "layer_weights": torch.ones(7, 2)}, folder / WEIGHTS)
    assert "layer_weights is (7, 2)" in found(folder)[0]
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    assert "is not a whole safetensors file" in found(folder)[0]


def test_a_configuration_that_cannot_be_read(folder):
    (folder / CONFIG).write_text("{")
    assert "is not JSON" in found(folder)[0]


def test_a_teacher_that_is_not_there(folder, monkeypatch):
    say(folder, teacher="../teacher")
    assert "its teacher is not at '../teacher'" in found(folder)[0]
    say(folder, teacher="package://no.such.package/x")
    assert "there is no Python package" in found(folder)[0]
    say(folder, teacher="")
    assert "does not say where its teacher lies" in found(folder)[0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # asked at once and not six times
    say(folder, teacher="nobody/has-this")
    (line,) = found(folder)
    assert "its teacher cannot be read from nobody/has-this" in line and "\n" not in line


def test_a_teacher_that_is_not_whole(folder, tmp_path):
    teacher = folder / "teacher"
    (teacher / "model.safetensors").rename(tmp_path / "kept")
    assert found(folder) == [f"{folder}: its teacher in {teacher} has no weights"]
    (tmp_path / "kept").rename(teacher / "model.safetensors")
    (teacher / "config.json").unlink()
    assert found(folder) == [f"{folder}: its teacher in {teacher} has no config.json"]


def test_a_teacher_of_another_width(folder):
    text_model(hidden_size=16).save_pretrained(folder / "teacher")
    assert found(folder) == [f"{folder}: its teacher in {folder / 'teacher'} is 16 wide, the encoder 32"]
