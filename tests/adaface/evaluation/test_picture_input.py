"""What vision models get to see, against the same worked out with PIL and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.picture_input import clip_input, vision_input
from adaface.evaluation.torch_models import Running
from adaface.miniature.measure.retrieval import embed_images, embed_texts
from adaface.miniature.networks.clip import load_clip
from adaface.miniature.networks.vae import to_tensor
from adaface.miniature.shipped import WEIGHTS
from tests.adaface.evaluation.known_pictures import album
from tests.adaface.evaluation.tiny_vision import CLIP_INPUT, DINO_INPUT, save_clip, save_dino


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def scaled(image: np.ndarray, size: tuple[int, int], how: Image.Resampling, mean, std) -> np.ndarray:
    values = np.asarray(Image.fromarray(image).resize(size, how), np.float32) / 255
    return ((values - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def test_a_published_clip_gets_the_middle_square_of_224_px(tmp_path):
    pixels = clip_input(save_clip(tmp_path / "clip"), 224)([photo(300, 448), photo(64, 64)])
    mean, std = CLIP_INPUT["image_mean"], CLIP_INPUT["image_std"]
    wide = scaled(photo(300, 448), (334, 224), Image.Resampling.BICUBIC, mean, std)[:, :, 55:279]
    small = scaled(photo(64, 64), (224, 224), Image.Resampling.BICUBIC, mean, std)
    np.testing.assert_allclose(pixels.numpy(), np.stack([wide, small]), atol=1e-5)


def test_a_published_clip_is_known_by_its_size_when_it_does_not_say_its_input(tmp_path, caplog):
    folder = save_clip(tmp_path / "clip", preprocessor=False)
    named = clip_input(save_clip(tmp_path / "named"), 224)([photo(300, 448)])
    np.testing.assert_allclose(clip_input(folder, 224)([photo(300, 448)]).numpy(), named.numpy(), atol=1e-6)
    assert "has no preprocessor_config.json" in caplog.text


def test_the_miniatures_clip_gets_what_it_was_trained_on():
    """Its folder has no preprocessor_config.json: pictures of 64 px in -1..1, and larger ones scaled down to that."""
    images = album().images[:6]
    seen = clip_input(WEIGHTS / "clip", 64)
    np.testing.assert_allclose(seen(images).numpy(), to_tensor(np.stack(images), "cpu").numpy(), atol=1e-6)
    large = photo(128, 192)
    middle = scaled(large, (96, 64), Image.Resampling.BICUBIC, 0.5, 0.5)[:, :, 16:80]
    np.testing.assert_allclose(seen([large])[0].numpy(), middle, atol=1e-5)


def test_clip_features_of_the_miniature_are_those_of_its_own_measures():
    clip, tokenizer = load_clip(WEIGHTS)
    features = ClipFeatures(WEIGHTS / "clip", Running.on("cpu", batch=4))
    images, texts = album().images[:6], ["a photo of a man on the beach", "a pencil sketch of a girl wearing a hat"]
    np.testing.assert_allclose(features.images(images), embed_images(clip, np.stack(images)).numpy(), atol=1e-5)
    np.testing.assert_allclose(features.texts(texts), embed_texts(clip, tokenizer, texts).numpy(), atol=1e-5)
    assert features.images([]).shape == (0, 128) == features.texts([]).shape


def test_texts_beyond_the_window_are_cut():
    features = ClipFeatures(WEIGHTS / "clip", Running.on("cpu"))
    short, long = "a photo of a man " * 10, "a photo of a man " * 40
    found = features.texts([long, long + "in the snow", short])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert found[0] @ found[2] < 0.9999


def test_dino_gets_the_whole_picture_squeezed_to_224_px(tmp_path):
    pixels = vision_input(save_dino(tmp_path / "dino"))([photo(300, 448)])
    squeezed = scaled(
        photo(300, 448), (224, 224), Image.Resampling.BILINEAR, DINO_INPUT["image_mean"], DINO_INPUT["image_std"]
    )
    np.testing.assert_allclose(pixels[0].numpy(), squeezed, atol=1e-5)


def test_a_model_whose_input_nobody_knows_is_refused(tmp_path):
    folder = save_dino(tmp_path / "dino")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no preprocessor_config\.json, so its input is not known"):
        vision_input(folder)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), "a.png"]
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="picture"):
        clip_input(WEIGHTS / "clip", 64)([image])


def test_a_picture_of_three_rows_is_not_taken_for_channels():
    tall = photo(3, 40)
    assert clip_input(WEIGHTS / "clip", 64)([tall]).shape == (1, 3, 64, 64)
