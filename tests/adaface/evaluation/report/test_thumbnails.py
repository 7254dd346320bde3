"""Small pictures: bounded in pixels and bytes, small ones untouched, broken ones named."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from adaface.evaluation.report.thumbnails import MAX_BYTES, SIDE, Thumbnail, Thumbnails, thumbnail


def decoded(made: Thumbnail) -> Image.Image:
    head, _, data = made.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)), formats=["JPEG"])


@pytest.mark.parametrize(
    ("shape", "size"), [((512, 512), (SIDE, SIDE)), ((300, 600), (SIDE, SIDE // 2)), ((5000, 10), (1, SIDE))]
)
def test_large_pictures_are_scaled_down(shape: tuple[int, int], size: tuple[int, int]) -> None:
    made = thumbnail(np.full((*shape, 3), 90, np.uint8))
    assert decoded(made).size == (made.width, made.height) == size
    assert not made.crisp


def test_small_pictures_keep_their_pixels() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = (250, 30, 40)
    made = thumbnail(image)
    assert made.crisp
    assert np.abs(np.asarray(decoded(made)).astype(int) - image).max() < 40  # red beside black, not smeared
    assert decoded(made).size == (64, 64)


def test_bytes_are_bounded() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    for side in (128, 150, 192, 700):
        assert len(base64.b64decode(thumbnail(noise[:side, :side]).uri.partition(",")[2])) <= MAX_BYTES


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not an RGB uint8 picture"):
        thumbnail(wrong)


def test_each_file_is_read_once() -> None:
    read = []

    def load(file: str) -> np.ndarray:
        read.append(file)
        if file == "gone":
            raise FileNotFoundError(file)
        return np.zeros((4, 4, 3), np.uint8)

    pictures = Thumbnails(load)
    assert pictures.of("a") is pictures.of("a")
    assert pictures.of("gone").problem == pictures.of("gone").problem == "the picture is no longer there"
    assert read == ["a", "gone"]


def test_mistakes_of_the_program_are_not_hidden() -> None:
    def load(file: str) -> np.ndarray:
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        Thumbnails(load).of("a")
