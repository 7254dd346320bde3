from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ViTModel

from adaface.evaluation.image_encoders import OwnEncoder, VisionTransformer
from adaface.evaluation.picture_input import vision_input
from adaface.evaluation.torch_models import Running
from tests.adaface.evaluation.known_pictures import album
from tests.adaface.evaluation.tiny_vision import save_clip, save_dino

HERE = "tests.adaface.evaluation.test_image_encoders"


def colours(power: float = 1.0):
    return lambda images: [image.mean((0, 1)) ** power for image in images]


def too_few():
    return lambda images: np.ones((max(0, len(images) - 1), 3))


def not_finite():
    return lambda images: np.full((len(images), 3), np.inf)


def test_a_vision_transformer_gives_its_class_token(tmp_path):
    folder = save_dino(tmp_path / "dino")
    images = album().images[:5]
    found = VisionTransformer(folder, Running.on("cpu", batch=2)).images(images)
    with torch.no_grad():
        states = ViTModel.from_pretrained(folder)(vision_input(folder)(images)).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(found, states / np.linalg.norm(states, axis=1, keepdims=True), atol=1e-5)
    assert found.dtype == np.float32 and found.shape == (5, 32)


def test_what_is_no_such_transformer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        VisionTransformer(tmp_path, Running.on("cpu"))
    with pytest.raises(ValueError, match="is a clip, not a vision transformer with a class token"):
        VisionTransformer(save_clip(tmp_path / "clip"), Running.on("cpu"))


def test_an_encoder_of_ones_own_gives_rows_of_any_length():
    found = OwnEncoder(f"{HERE}:colours", {"power": 2.0}, batch=2).images(album().images[:5])
    means = np.array([image.mean((0, 1)) ** 2 for image in album().images[:5]])
    np.testing.assert_allclose(found, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5)
    assert len(OwnEncoder(f"{HERE}:colours", {}).images([])) == 0


@pytest.mark.parametrize("name", ["too_few", "not_finite"])
def test_an_encoder_that_does_not_keep_to_its_interface_is_named(name):
    with pytest.raises(ValueError, match=rf"image encoder {HERE}:{name} must give one finite row per picture"):
        OwnEncoder(f"{HERE}:{name}", {}).images(album().images[:2])


def test_torch_models_run_on_devices_that_are_there():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is `cuda`, which torch does not see"):
            Running.on("cuda")
    assert Running.on("cpu").device.type == "cpu"


def test_threads_are_given_back():
    before = torch.get_num_threads()
    inside = []

    def look(batch: list[int]) -> torch.Tensor:
        inside.append(torch.get_num_threads())
        return torch.ones(len(batch), 2)

    assert Running.on("cpu", batch=2, threads=before + 1).unit_rows(look, [1, 2, 3], 2).shape == (3, 2)
    assert inside == [before + 1] * 2 and torch.get_num_threads() == before
