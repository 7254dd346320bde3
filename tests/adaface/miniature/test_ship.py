"""Weights on their way into the package, and their manifest."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adaface.encoder.model import AdaFaceEncoder
from adaface.miniature import ship as shipping
from adaface.miniature.ship import CONTENT, main, ship, ship_encoder
from adaface.miniature.shipped import check
from adaface.miniature.train import ORDER
from tests.adaface.encoder.tiny_encoder import LAYERS, encoder, faces, text_model

PARTS = [part for parts in CONTENT.values() for part in parts]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in PARTS:
        file = tmp_path / "runs" / "weights" / (name if "." in name else f"{name}/unet/model.safetensors")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    (tmp_path / "runs" / "weights" / "notes.txt").write_text("not shipped")
    for name in ORDER:
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "metrics.json").write_text(json.dumps({"steps": 7}))
    return tmp_path / "runs"


def test_what_is_shipped_is_complete_and_checks(runs, tmp_path):
    manifest = ship(runs, tmp_path / "to")
    assert len(manifest["files"]) == len(PARTS) and "notes.txt" not in manifest["files"]
    assert manifest["models"]["clip"] == {"steps": 7} and manifest["commit"]
    assert check(tmp_path / "to") == []


def test_where_a_model_was_loaded_from_is_not_shipped(runs, tmp_path):
    config = runs / "weights" / "sd" / "vae" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"_name_or_path": str(tmp_path), "latent_channels": 4}))
    ship(runs, tmp_path / "to")
    assert json.loads((tmp_path / "to/sd/vae/config.json").read_text()) == {"latent_channels": 4}
    assert check(tmp_path / "to") == []


def test_a_changed_and_a_missing_file_are_named(runs, tmp_path):
    ship(runs, tmp_path / "to")
    (tmp_path / "to" / "pack" / "detector.onnx").write_bytes(b"other")
    (tmp_path / "to" / "judge" / "recogniser.onnx").unlink()
    problems = check(tmp_path / "to")
    assert len(problems) == 2
    assert any("detector.onnx is not the shipped file (sha256 differs)" in problem for problem in problems)
    assert any("recogniser.onnx is missing" in problem for problem in problems)


def test_a_folder_without_manifest_says_so(tmp_path):
    assert "manifest.json does not exist" in check(tmp_path)[0]


def test_unfinished_runs_are_refused_and_nothing_is_replaced(runs, tmp_path, capsys):
    ship(runs, tmp_path / "to")
    (runs / "weights" / "parser" / "bisenet.safetensors").unlink()
    (runs / "sd" / "metrics.json").unlink()
    assert main(["--runs", str(runs), "--to", str(tmp_path / "to")]) == 1
    said = capsys.readouterr().err
    assert "parser/bisenet.safetensors, metrics of sd missing" in said
    assert check(tmp_path / "to") == []


def test_too_much_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "MAX_BYTES", 20)
    with pytest.raises(ValueError, match="the package has room for 0"):
        ship(runs, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_an_encoder_goes_along_in_halves_and_stays(runs, tmp_path):
    text_model(1).save_pretrained(tmp_path / "teacher")
    made = encoder(teacher=str(tmp_path / "teacher"))
    made.save_pretrained(tmp_path / "made", teacher="reference")
    ship(runs, tmp_path / "to", encoder=tmp_path / "made")
    assert check(tmp_path / "to") == []
    weights = load_file(tmp_path / "to/encoder/adaface.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    shipped = AdaFaceEncoder.from_pretrained(tmp_path / "to/encoder")
    with torch.no_grad():
        torch.testing.assert_close(shipped(faces()), made(faces()), rtol=0.02, atol=0.02)
    again = ship(runs, tmp_path / "to", ["clip"])
    assert "encoder/adaface.safetensors" in again["files"] and check(tmp_path / "to") == []


def test_an_encoder_alone_leaves_all_else_as_it_is(runs, tmp_path, monkeypatch, capsys):
    text_model(1).save_pretrained(tmp_path / "teacher")
    folders = [tmp_path / name for name in ("one", "other")]
    for copies, folder in enumerate(folders, start=1):
        encoder([copies] * LAYERS, teacher=str(tmp_path / "teacher")).save_pretrained(folder, teacher="reference")
    with pytest.raises(FileNotFoundError, match="ship the networks first"):
        ship_encoder(folders[0], tmp_path / "to")
    before = ship(runs, tmp_path / "to", encoder=folders[0])
    assert main(["--to", str(tmp_path / "to"), "--encoder", str(folders[1])]) == 0
    after = json.loads((tmp_path / "to/manifest.json").read_text())
    changed = {name for name in after["files"] if after["files"][name] != before["files"].get(name)}
    assert "encoder/adaface.safetensors" in changed and all(name.startswith("encoder/") for name in changed)
    assert after["models"] == before["models"] and after["commit"] == before["commit"]
    assert check(tmp_path / "to") == []
    monkeypatch.setattr(shipping, "MAX_BYTES", 1000)
    assert main(["--to", str(tmp_path / "to"), "--encoder", str(folders[0])]) == 1
    assert "has room for" in capsys.readouterr().err and check(tmp_path / "to") == []


def test_some_models_can_go_without_others(runs, tmp_path):
    (runs / "teacher" / "metrics.json").unlink()
    manifest = ship(runs, tmp_path / "to", ["recogniser", "clip"])
    assert set(manifest["models"]) == {"recogniser", "clip"}
    assert set(manifest["files"]) == {"pack/recogniser.onnx", "clip/unet/model.safetensors"}
    assert check(tmp_path / "to") == []
