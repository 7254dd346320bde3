"""An encoder's folder: whole or not there, equal bytes for equal weights, everything wrong named at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaface.encoder.files import CONFIG, WEIGHTS, locate
from adaface.encoder.model import AdaFaceEncoder
from tests.adaface.encoder.tiny_encoder import BACKGROUND, WIDTH, encoder, faces, text_model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def vectors(made: AdaFaceEncoder) -> torch.Tensor:
    with torch.no_grad():
        return made(faces(), id_scale=1.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Read only."""
    made = encoder((4, 1, 2, 1), background=BACKGROUND, face_pack="package://some/pack")
    made.layer_weights.data = torch.tensor([[0.5], [1.5], [2.5]])
    made.pad_table = made.pads() + 1  # older than the weights
    return made.save_pretrained(tmp_path_factory.mktemp("saved") / "encoder")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "encoder"))


def test_what_lies_in_the_folder(saved):
    assert set(contents(saved)) == {
        CONFIG, WEIGHTS, "README.md", "teacher/config.json", "teacher/model.safetensors",
    }  # fmt: skip
    settings = json.loads((saved / CONFIG).read_text())
    assert settings["format"] == "adaface-encoder/1" and settings["multipliers"] == [4, 1, 2, 1]
    assert settings["teacher"] == "teacher" and settings["text"]["hidden_size"] == WIDTH
    names = set(load_file(saved / WEIGHTS))
    assert {"layer_weights", "pad_table", "inverse.encoder.layers.0.self_attn.k_proj.weight"} < names
    assert "background.queries" in names and not any(name.startswith("teacher") for name in names)
    card = (saved / "README.md").read_text()
    assert "| ID embedding | 20 values of unit length, of `package://some/pack` |" in card and "4, 1, 2, 1" in card


def test_it_comes_back_the_same(saved):
    again = AdaFaceEncoder.from_pretrained(saved)
    assert not again.training and again.config.background == {**BACKGROUND, "dropout": 0.05}
    assert torch.equal(again.pad_table, load_file(saved / WEIGHTS)["pad_table"])
    features = torch.randn(1, 17, 24)
    twin = AdaFaceEncoder.from_pretrained(str(saved))
    assert torch.equal(again.background(features), twin.background(features))
    made = encoder((4, 1, 2, 1), background=BACKGROUND)
    made.layer_weights.data = torch.tensor([[0.5], [1.5], [2.5]])
    made.pad_table = made.pads() + 1
    assert torch.equal(vectors(again), vectors(made))
    assert all(parameter.requires_grad for parameter in again.trainable_parameters())


def test_equal_weights_give_equal_bytes(saved, tmp_path):
    again = AdaFaceEncoder.from_pretrained(saved)
    assert contents(again.save_pretrained(tmp_path / "elsewhere" / "second")) == contents(saved)


def test_reading_draws_no_random_numbers_and_leaves_the_file_alone(folder):
    before = torch.get_rng_state()
    made = AdaFaceEncoder.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)
    bytes_before = (folder / WEIGHTS).read_bytes()
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter.add_(1)
    assert (folder / WEIGHTS).read_bytes() == bytes_before


def step(made: AdaFaceEncoder) -> None:
    optimizer = torch.optim.SGD(made.train().trainable_parameters(), lr=0.01)
    made(faces()).square().mean().backward()
    optimizer.step()


def test_training_goes_on_as_if_it_had_never_been_written(saved, tmp_path):
    unbroken = AdaFaceEncoder.from_pretrained(saved)
    step(unbroken)
    resumed = AdaFaceEncoder.from_pretrained(unbroken.save_pretrained(tmp_path / "step-1"))
    unbroken.zero_grad()
    for made in (unbroken, resumed):
        step(made)
    ours, theirs = unbroken.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["layer_weights"], load_file(saved / WEIGHTS)["layer_weights"])


def test_dtype_and_a_shared_teacher(saved):
    text = text_model(1)
    made = AdaFaceEncoder.from_pretrained(saved, dtype=torch.bfloat16, teacher=text, output_gradient=0.4)
    assert made.teacher is text and made.output_gradient == 0.4
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert made.pads().dtype == torch.bfloat16 and vectors(made).isfinite().all()


def test_a_reference_follows_the_teacher(saved, tmp_path):
    made = AdaFaceEncoder.from_pretrained(saved)
    light = made.save_pretrained(tmp_path / "run" / "step-10", teacher="reference")
    assert "teacher/config.json" not in contents(light)
    named = json.loads((light / CONFIG).read_text())["teacher"]
    assert named.startswith("..") and (light / named).resolve() == (saved / "teacher").resolve()
    again = AdaFaceEncoder.from_pretrained(light)
    assert torch.equal(vectors(again), vectors(made))
    moved = Path(shutil.copytree(light, tmp_path / "moved"))
    with pytest.raises(FileNotFoundError, match=r'its teacher is not at .*give teacher="path or hub id"'):
        AdaFaceEncoder.from_pretrained(moved)
    assert torch.equal(vectors(AdaFaceEncoder.from_pretrained(moved, teacher=str(saved / "teacher"))), vectors(made))


def test_a_reference_to_nowhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match='save with teacher="copy"'):
        encoder().save_pretrained(tmp_path / "encoder", teacher="reference")
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_is_replaced_and_nothing_else_is(folder, tmp_path):
    made = encoder()
    made.save_pretrained(folder)
    assert AdaFaceEncoder.from_pretrained(folder).config.multipliers == (1, 1, 1, 1)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds other files \(notes.txt\)"):
        made.save_pretrained(folder)
    other = tmp_path / "model"
    other.mkdir()
    (other / CONFIG).write_text('{"model_type": "clip"}')
    with pytest.raises(FileExistsError, match="is not an encoder's folder"):
        made.save_pretrained(other)
    assert {path.name for path in tmp_path.iterdir()} == {"encoder", "model"}


def test_a_failed_write_leaves_the_old_folder(folder, tmp_path):
    class Unwritable(AdaFaceEncoder):
        def state_dict(self, *_arguments, **_named):
            raise OSError("no space left on device")

    made = AdaFaceEncoder.from_pretrained(folder)
    before = contents(folder)
    made.__class__ = Unwritable
    with pytest.raises(OSError, match="no space left"):
        made.save_pretrained(folder)
    assert contents(folder) == before and [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_all_problems_of_the_weights_come_at_once(folder):
    weights = load_file(folder / WEIGHTS)
    weights["layer_weights"] = torch.ones(7, 2)
    weights["pad_table"] = torch.ones(76, WIDTH)
    weights["inverse.encoder.layers.1.self_attn.k_proj.weight"] = torch.ones(2 * WIDTH, WIDTH)
    weights["surplus"] = torch.ones(1, dtype=torch.int64)
    del weights["inverse.final_layer_norm.bias"]
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError, match="does not fit its config") as caught:
        AdaFaceEncoder.from_pretrained(folder)
    for problem in (
        "inverse.final_layer_norm.bias is missing",
        "surplus is unknown",
        "surplus is torch.int64",
        "layers.1.self_attn.k_proj.weight is (64, 32), not (32, 32)",
        "layer_weights is (7, 2), not (n, 1) or (n, 32) with n in 1..5",
        "pad_table is (76, 32), not (77, 32)",
    ):
        assert problem in str(caught.value)


def test_broken_files_are_named(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"adaface\.safetensors is not a whole safetensors file"):
        AdaFaceEncoder.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"adaface\.safetensors is missing"):
        AdaFaceEncoder.from_pretrained(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        AdaFaceEncoder.from_pretrained(folder)
    (folder / CONFIG).write_text('{"format": "adaface-encoder/2"}')
    with pytest.raises(ValueError, match="its format is 'adaface-encoder/2', not 'adaface-encoder/1'"):
        AdaFaceEncoder.from_pretrained(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match="it is not an encoder's folder"):
        AdaFaceEncoder.from_pretrained(folder)


def test_wrong_settings_are_named_with_their_file(folder):
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**settings, "id_dim": 0, "face_packs": ""}))
    with pytest.raises(ValueError, match=r"config\.json: .*unknown 'face_packs' \(meant 'face_pack'\?\)"):
        AdaFaceEncoder.from_pretrained(folder)


def test_a_teacher_that_does_not_fit_is_refused(folder, tmp_path):
    text_model(hidden_size=16).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ValueError, match="is 16 wide, the encoder 32"):
        AdaFaceEncoder.from_pretrained(folder, teacher=str(tmp_path / "narrow"))
    weights = load_file(folder / "teacher" / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1." not in name}
    save_file(kept, folder / "teacher" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="is not a CLIP text model: 16 tensors are missing"):
        AdaFaceEncoder.from_pretrained(folder)


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder of an encoder"):
        locate(tmp_path / "nothing")
    (tmp_path / "a-file.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="there is no such folder of an encoder"):
        AdaFaceEncoder.from_pretrained(tmp_path / "a-file.pt")


def test_a_name_of_the_hub_without_a_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="nobody/no-encoder: there is no such folder, and the hub did not give"
    ):
        locate("nobody/no-encoder")
