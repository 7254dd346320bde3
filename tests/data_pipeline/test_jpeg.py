"""Samples that are passed on: the same pixels, nothing of what was written about the photo."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from data_pipeline import jpeg
from data_pipeline.decode import decode
from tests.tiny_world import photo


def saved(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def exif() -> Image.Exif:
    data = Image.Exif()
    data[0x010E] = "SECRET PLACE"
    return data


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 95, "subsampling": 0},
        {"quality": 85, "progressive": True},
        {"quality": 85, "restart_marker_blocks": 3},
        {"quality": 85, "optimize": True},
        {"quality": 85, "comment": b"SECRET PLACE"},
        {"quality": 85, "exif": exif()},
        {"quality": 85, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
    ],
    ids=lambda options: ",".join(options),
)
def test_pixels_stay_and_metadata_goes(options: dict) -> None:
    data = saved(photo(0, 1, size=96), **options)
    clean = jpeg.without_metadata(data)
    assert clean is not None and len(clean) <= len(data)
    assert np.array_equal(decode(clean, 10**6), decode(data, 10**6))
    assert b"SECRET" not in clean and b"Exif" not in clean and b"ICC_PROFILE" not in clean
    assert jpeg.without_metadata(clean) == clean


def test_what_follows_the_picture_goes() -> None:
    data = saved(photo(0, 1, size=64))
    assert jpeg.without_metadata(data + b"SECRET" + data) == jpeg.without_metadata(data)


def test_damaged_files_are_not_passed_on() -> None:
    data = saved(photo(0, 1, size=64), exif=exif())
    assert jpeg.without_metadata(b"") is None
    assert jpeg.without_metadata(b"\x89PNG\r\n\x1a\n" + data) is None
    whole = jpeg.without_metadata(data)
    assert whole is not None
    for length in range(0, len(whole) - 1, 7):
        assert jpeg.without_metadata(whole[:length]) is None, length


def test_random_damage_never_raises() -> None:
    data = np.frombuffer(saved(photo(0, 2, size=64), exif=exif()), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoilt = data.copy()
        spoilt[rng.integers(2, len(data), 3)] = rng.integers(0, 256, 3)
        result = jpeg.without_metadata(spoilt.tobytes())
        assert result is None or result.startswith(b"\xff\xd8")


def test_encoding_is_that_of_pillow() -> None:
    pixels = np.asarray(photo(1, 1, size=128))
    assert jpeg.encode(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)) == saved(Image.fromarray(pixels), quality=jpeg.QUALITY)


def test_real_photos(shared: Path) -> None:
    checked = 0
    for path in sorted((shared / "faces").glob("*/*.jpg"))[::9]:
        data = path.read_bytes()
        clean = jpeg.without_metadata(data)
        assert clean is not None
        assert np.array_equal(
            cv2.imdecode(np.frombuffer(clean, np.uint8), cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR),
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR),
        )
        checked += 1
    assert checked > 10
