"""Files as they really lie in photo folders: other formats, other colour models, damaged, hostile."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipeline.decode import DecodeError, decode, decode_image, decode_mask, survives
from tests.tiny_world import photo

MAX = 1_000_000  # pixels
PHOTO = photo(0, 0, size=96)
ORIENTATION = 0x0112  # EXIF tag
# What undoes each EXIF orientation; the file is stored the other way round.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W) or (H, W, 3) uint16, written by hand: PIL cannot write 16-bit RGB."""
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else 2
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png_file(struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0), zlib.compress(lines))


def png_file(header: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def close(a: np.ndarray, b: np.ndarray, levels: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b.astype(float)).mean()) <= levels


LOSSLESS = {
    "png": (encoded(PHOTO, "PNG"), "PNG"),
    "webp": (encoded(PHOTO, "WEBP", lossless=True), "WEBP"),
    "bmp": (encoded(PHOTO, "BMP"), "BMP"),
    "tiff": (encoded(PHOTO, "TIFF"), "TIFF"),
    "tiff lzw": (encoded(PHOTO, "TIFF", compression="tiff_lzw"), "TIFF"),
}
LOSSY = {
    "jpeg": (encoded(PHOTO, "JPEG", quality=95), "JPEG"),
    "progressive jpeg": (encoded(PHOTO, "JPEG", quality=95, progressive=True), "JPEG"),
    "gif": (encoded(PHOTO, "GIF"), "GIF"),
    "avif": (encoded(PHOTO, "AVIF", quality=90), "AVIF"),
    "mpo": (encoded(PHOTO, "MPO", quality=95, save_all=True, append_images=[photo(1, 0, size=96)]), "JPEG"),
}
EVERY = {name: data for name, (data, _) in {**LOSSLESS, **LOSSY}.items()}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    data, name = LOSSLESS[kind]
    decoded = decode_image(data, MAX)
    assert decoded.format == name
    assert decoded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(decoded.pixels, np.asarray(PHOTO))


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_formats_stay_close(kind: str) -> None:
    data, name = LOSSY[kind]
    decoded = decode_image(data, MAX)
    assert decoded.format == name
    assert close(decoded.pixels, np.asarray(PHOTO), 12 if kind == "gif" else 4)


@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_rotation_is_applied(orientation: int) -> None:
    upright = photo(0, 0, size=96).crop((0, 0, 96, 64))
    stored = upright if STORED_AS[orientation] is None else upright.transpose(STORED_AS[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(decode(encoded(stored, "PNG", exif=exif), MAX), np.asarray(upright))
    assert close(decode(encoded(stored, "JPEG", exif=exif, quality=95), MAX), np.asarray(upright), 4)


def test_an_impossible_exif_rotation_is_no_rotation() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 77
    np.testing.assert_array_equal(decode(encoded(PHOTO, "PNG", exif=exif), MAX), np.asarray(PHOTO))


def test_cmyk_becomes_the_same_colours_in_rgb() -> None:
    cmyk = encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)
    assert close(decode(cmyk, MAX), np.asarray(PHOTO), 4)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(mode: str) -> None:
    grey = PHOTO.convert("L").convert(mode)
    pixels = decode(encoded(grey, "PNG"), MAX)
    assert pixels.shape == (96, 96, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(grey.convert("L")))


@pytest.mark.parametrize("shape", [(5, 300), (5, 300, 3)], ids=["grey", "rgb"])
def test_sixteen_bits_are_scaled_and_not_clipped(shape: tuple[int, ...]) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, shape)
    pixels = decode(png16(wide), MAX).astype(int)
    expected = np.repeat(wide[..., None], 3, axis=2) if wide.ndim == 2 else wide
    assert np.abs(pixels - expected / 257).max() <= 1


def test_first_frame_of_an_animation() -> None:
    for kind in ("WEBP", "GIF", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(PHOTO, kind, save_all=True, append_images=[photo(1, 0, size=96)], duration=50, **options)
        assert close(decode(data, MAX), np.asarray(PHOTO), 12), kind
        assert not close(np.asarray(photo(1, 0, size=96)), np.asarray(PHOTO), 24)


def test_transparent_pixels_become_white() -> None:
    alpha = np.zeros((96, 96), np.uint8)
    alpha[:, :48] = 255
    rgba = PHOTO.copy()
    rgba.putalpha(Image.fromarray(alpha))
    pixels = decode(encoded(rgba, "PNG"), MAX)
    np.testing.assert_array_equal(pixels[:, :48], np.asarray(PHOTO)[:, :48])
    assert (pixels[:, 48:] == 255).all()


def test_palette_with_a_transparent_entry() -> None:
    indices = np.repeat(np.arange(3, dtype=np.uint8), 32)[None].repeat(96, axis=0)
    image = Image.fromarray(indices, "P")
    image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    pixels = decode(encoded(image, "PNG", transparency=1), MAX)
    assert pixels[0, [0, 40, 95]].tolist() == [[200, 10, 10], [255, 255, 255], [10, 10, 200]]
    opaque = decode(encoded(image, "PNG"), MAX)
    assert opaque[0, 40].tolist() == [10, 200, 10]


@pytest.mark.parametrize("data", [b"", b"\0", b"a text file named .jpg\n" * 50, b"\xff\xd8\xff", b"<html></html>"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, MAX)


def test_formats_that_are_no_photographs_are_refused() -> None:
    for kind in ("ICO", "PDF", "EPS", "PPM", "TGA"):
        with pytest.raises(DecodeError):
            decode(encoded(PHOTO, kind), MAX)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", [name for name in EVERY if name != "mpo"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error_and_not_half_a_picture(kind: str, share: float) -> None:
    data = EVERY[kind]
    with pytest.raises(DecodeError):
        decode(data[: int(len(data) * share)], MAX)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", EVERY)
def test_damage_is_a_decode_error_whatever_it_is(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(EVERY[kind])
        # Half of the damage in the head, where the structure is.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 200)
        for place in rng.integers(0, reach, rng.integers(1, 20)):
            data[place] = rng.integers(256)
        try:
            pixels = decode(bytes(data), MAX)
        except DecodeError:
            continue
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_a_header_of_900_megapixels_costs_nothing() -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = png_file(header, zlib.compress(bytes(100_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(bomb, 100_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", EVERY)
def test_the_bound_is_exact(kind: str) -> None:
    assert decode(EVERY[kind], 96 * 96).shape == (96, 96, 3)
    with pytest.raises(DecodeError, match="96 x 96 pixels are more than the 9,215 allowed"):
        decode(EVERY[kind], 96 * 96 - 1)


def test_masks_of_one_and_eight_bits() -> None:
    mask = np.zeros((64, 48), bool)
    mask[10:40, 5:30] = True
    for image in (Image.fromarray(mask), Image.fromarray(mask.astype(np.uint8) * 255)):
        decoded = decode_mask(encoded(image, "PNG"), MAX)
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


def test_a_child_decodes_what_is_suspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any working folder: a child that cannot find this package would condemn every photo."""
    monkeypatch.chdir(tmp_path)
    assert survives(EVERY["jpeg"], MAX) is None
    assert survives(b"no image, which is an ordinary error", MAX) is None
    assert "does not end within 0 s" in (survives(EVERY["jpeg"], MAX, timeout_s=0.001) or "")
