from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import pytest

from adaface.evaluation.model_folders import locate_model, weights_sha256


def test_folders_and_packages_are_found_where_they_lie(tmp_path):
    assert locate_model(str(tmp_path)) == tmp_path
    assert (locate_model("package://adaface.miniature/weights/clip") / "config.json").is_file()


@pytest.mark.parametrize("name", ["nowhere", "./no/where/at/all"])
def test_what_is_not_there_is_said(name):
    with pytest.raises(FileNotFoundError, match="there is no such folder of a model"):
        locate_model(name)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="no such folder of a model"):
        locate_model(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "only pickles"])
def test_of_the_hub_one_form_of_weights_is_taken(monkeypatch, tmp_path, safe):
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns[-1])
        if safe:
            (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate_model("facebook/dino-vits16") == tmp_path
    assert asked == (["*.safetensors"] if safe else ["*.safetensors", "*.bin"])


def test_a_hub_that_gives_nothing_is_an_error(monkeypatch):
    def download(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match="the hub did not give it: no network"):
        locate_model("facebook/dino-vits16")


def write(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_weights_are_known_by_what_transformers_would_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no weights"):
        weights_sha256(tmp_path)
    pickled = write(tmp_path / "pytorch_model.bin", b"old")
    assert weights_sha256(tmp_path) == pickled
    first = write(tmp_path / "model-00001-of-00002.safetensors", b"one")
    assert weights_sha256(tmp_path) == first
    second = write(tmp_path / "model-00002-of-00002.safetensors", b"two")
    both = f"model-00001-of-00002.safetensors {first}\nmodel-00002-of-00002.safetensors {second}\n"
    assert weights_sha256(tmp_path) == hashlib.sha256(both.encode()).hexdigest()
