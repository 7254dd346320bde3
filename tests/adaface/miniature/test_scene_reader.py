"""The factor classifier as models of an evaluation."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from adaface.evaluation.entry_points import open_entry_point
from adaface.miniature.pictures.portraits import held_out_people
from adaface.miniature.render import render
from adaface.miniature.scene_reader import PictureEncoder, SceneReader, to_small
from adaface.miniature.world.scene import VOCABULARY, Nuisance, Scene

SCENES = [
    Scene(),
    Scene(place="beach", clothing="red shirt", headwear="hat"),
    Scene(place="space", clothing="spacesuit", eyewear="glasses"),
    Scene(place="forest", style="pencil sketch"),
    Scene(place="city", light="neon", headwear="crown"),
    Scene(place="kitchen", clothing="chef uniform", style="pixel art"),
]


def pictures(size: int) -> list[np.ndarray]:
    people = held_out_people(len(SCENES), seed=6)
    return [render(p, s, Nuisance(seed=9), size).image for p, s in zip(people, SCENES, strict=True)]


@pytest.mark.parametrize("size", [64, 160, 300])
def test_it_reads_the_words_off_pictures_of_any_size(size):
    seen = SceneReader()(pictures(size))
    assert list(seen) == list(VOCABULARY)
    right = [seen[factor][row] == word for row, scene in enumerate(SCENES) for factor, word in asdict(scene).items()]
    assert np.mean(right) > 0.94


def test_large_pictures_are_scaled_with_antialiasing():
    """Every other column black: grey, and not black or white by chance."""
    striped = np.zeros((256, 256, 3), np.uint8)
    striped[:, ::2] = 255
    assert float(to_small([striped])[..., 2:-2].abs().max()) < 0.05


def test_of_a_wide_picture_the_middle_is_read():
    square = pictures(160)[1]
    wide = np.zeros((160, 300, 3), np.uint8)
    wide[:, 70:230] = square
    np.testing.assert_array_equal(to_small([wide])[0].numpy(), to_small([square])[0].numpy())


def test_the_encoder_tells_scenes_apart():
    encoder = open_entry_point("adaface.miniature.scene_reader:PictureEncoder", {})
    found = encoder(pictures(64))
    assert found.shape == (6, 96) and found.dtype == np.float32
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    large = [np.asarray(Image.fromarray(image).resize((128, 128))) for image in pictures(64)]
    again = encoder(large)
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    assert ((unit @ again.T).argmax(axis=1) == np.arange(6)).all()
    assert encoder.file.name == "classifier.safetensors"


def test_no_pictures_have_no_words():
    assert SceneReader()([]) == {factor: [] for factor in VOCABULARY}
    assert PictureEncoder()([]).shape == (0, 96)


def test_weights_elsewhere_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classifier\.safetensors does not exist"):
        SceneReader(weights=str(tmp_path))
