from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipeline.report.thumbnails import CLASS_COLOURS, MASK_COLOUR, SIDE, Thumbnail, View, thumbnail


def save(path: Path, pixels: np.ndarray) -> tuple[str, str]:
    Image.fromarray(pixels).save(path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def png(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def make(
    path: str, image_id: str, features: dict[str, Any] | None = None, view: View = "face", **limits: int
) -> Thumbnail:
    return thumbnail(path, image_id, features, view, **{"max_pixels": 10**7, "max_bytes": 10**7, **limits})


@pytest.fixture
def photo(tmp_path: Path) -> tuple[str, str]:
    """300 x 200, grey, with a red square at x 200..240, y 80..120."""
    pixels = np.full((200, 300, 3), 128, np.uint8)
    pixels[80:120, 200:240] = (255, 0, 0)
    return save(tmp_path / "photo.png", pixels)


def test_face_is_cut_out_around_the_box(photo: tuple[str, str]) -> None:
    small = make(*photo, {"bbox": [200.0, 80.0, 240.0, 120.0]})
    pixels = np.asarray(opened(small.picture)).astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80)
    assert red[SIDE // 2, SIDE // 2]
    assert red.mean() == pytest.approx(1 / 1.6**2, abs=0.05)


@pytest.mark.parametrize(
    "box", [[-50.0, -50.0, 10.0, 10.0], [290.0, 190.0, 400.0, 300.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 900.0, 900.0]]
)
def test_boxes_beyond_the_image_are_fine(photo: tuple[str, str], box: list[float]) -> None:
    for view in ("face", "image"):
        assert make(*photo, {"bbox": box}, view).picture


def test_whole_image_keeps_its_shape(photo: tuple[str, str]) -> None:
    small = make(*photo, None, "image")
    assert (small.width, small.height) == (SIDE, round(SIDE * 2 / 3))
    assert opened(small.picture).size == (small.width, small.height)


def test_mask_is_a_transparent_layer(photo: tuple[str, str]) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    small = make(
        *photo,
        {"crop": [50, 0, 250, 200], "mask": png(mask), "parts": png((mask > 0).astype(np.uint8) * 17)},
        "sample",
    )
    layer = np.asarray(opened(small.mask).convert("RGBA"))
    assert layer.shape == (SIDE, SIDE, 4)
    assert tuple(layer[10, 10, :3]) == MASK_COLOUR
    assert 0 < layer[10, 10, 3] < 255
    assert layer[10, SIDE // 2 - 1, 3] == 255
    assert layer[10, SIDE - 10, 3] == 0
    parts = np.asarray(opened(small.parts).convert("RGBA"))
    assert tuple(parts[10, 10, :3]) == CLASS_COLOURS[17]
    assert parts[10, SIDE - 10, 3] == 0


def test_classes_can_be_painted_on(photo: tuple[str, str]) -> None:
    parts = np.full((64, 64), 17, np.uint8)
    small = make(*photo, {"crop": [0, 0, 100, 100], "parts": png(parts)}, "parts")
    expected = (np.array(CLASS_COLOURS[17]) + 128) / 2
    assert np.abs(np.asarray(opened(small.picture)).reshape(-1, 3).mean(axis=0) - expected).max() < 4


def test_no_features_show_the_whole_image(photo: tuple[str, str]) -> None:
    for view in ("face", "image", "sample", "parts"):
        small = make(*photo, None, view)
        assert small.picture
        assert small.mask is None


def test_what_cannot_be_read_says_why(photo: tuple[str, str], tmp_path: Path) -> None:
    path, image_id = photo
    assert make(str(tmp_path / "gone.png"), image_id).problem == "the file is no longer there"
    assert make(path, "0" * 64).problem == "the file has changed since the build"
    assert "max_pixels" in (make(path, image_id, max_pixels=100).problem or "")
    assert make(path, image_id, max_bytes=10).problem == "cannot be read (ValueError)"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more")
    small = make(str(broken), hashlib.sha256(broken.read_bytes()).hexdigest())
    assert small.picture is None
    assert small.problem
