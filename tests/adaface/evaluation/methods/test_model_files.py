"""Which files count as those of a model, in a folder and in the hub's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaface.evaluation.methods.model_files import hashes_below, hub_name, local_folder, pinned, tokenizer_hashes
from adaface.shipped_files import sha256


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_weights_in_several_forms_count_as_they_are_read(tmp_path):
    put(
        tmp_path,
        *("unet/model.safetensors", "unet/model.fp16.safetensors", "unet/model.bin", "unet/config.json"),
        *("text/model-00001-of-00002.bin", "text/model-00002-of-00002.bin", "text/.cache/junk.json"),
        *("safety/model.safetensors", "README.md"),
    )
    hashes = hashes_below(tmp_path, ["unet", "text", "not-there"])
    assert set(hashes) == {
        *("unet/model.safetensors", "unet/config.json"),
        *("text/model-00001-of-00002.bin", "text/model-00002-of-00002.bin"),
    }
    assert hashes["unet/config.json"] == sha256(tmp_path / "unet" / "config.json")


def test_a_tokenizer_in_the_folder_of_a_model(tmp_path):
    put(tmp_path, "tokenizer.json", "vocab.json", "config.json", "model.safetensors")
    assert set(tokenizer_hashes(tmp_path)) == {"tokenizer.json", "vocab.json"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of the hub with `owner/name`, of which one folder was downloaded."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    put(repository, "snapshots/" + "a" * 40 + "/arc/model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / ("a" * 40)


def test_a_model_of_the_hub_is_known_by_its_commit(cache):
    assert pinned("owner/name") == f"owner/name@{'a' * 40}"
    assert pinned("owner/name/arc") == f"owner/name/arc@{'a' * 40}"
    (cache.parents[1] / "refs" / "main").write_text("b" * 40)
    (cache.parent / ("b" * 40)).mkdir()
    assert pinned("owner/name") == f"owner/name@{'b' * 40}"
    for name in ("owner/another", "no folder at all", "/nowhere/at/all"):
        assert pinned(name) == name


def test_models_of_the_hub_are_found_in_its_cache(cache):
    assert local_folder("owner/name") == cache
    assert local_folder("owner/name/arc") == cache / "arc"
    assert set(hashes_below(local_folder("owner/name/arc"))) == {"model.safetensors"}


@pytest.mark.parametrize("name", ["owner/another", "no folder at all", "/nowhere/at/all"])
def test_models_that_are_not_here(cache, name):
    assert local_folder(name) is None


def test_names_of_the_hub():
    assert hub_name("owner/name") == ("owner/name", "")
    assert hub_name("owner/name/a/b") == ("owner/name", "a/b")
