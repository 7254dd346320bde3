"""JPEG files: encoding samples, and passing on those that are samples already."""

from __future__ import annotations

import cv2
import numpy as np

QUALITY = 95

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_RESTART = range(0xD0, 0xD8)
# Application segments and comments hold metadata: EXIF (place and time of the photo, thumbnails), XMP, colour
# profiles, which we ignore in other photos too. APP0 (JFIF) and APP14 (Adobe) stay: decoders need them to know the
# colour space.
_METADATA = {0xFE, *range(0xE0, 0xF0)} - {0xE0, 0xEE}


def encode(bgr: np.ndarray) -> bytes:
    """(H, W, 3) uint8 BGR as a JPEG of QUALITY, 4:2:0."""
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {bgr.shape} and type {bgr.dtype}")
    return data.tobytes()


def without_metadata(data: bytes) -> bytes | None:
    """The same picture without EXIF, comments and whatever follows its end; the coded pixels are not touched.

    Layout of the segments: ITU-T T.81, annex B.

    Returns:
        the shorter file; None where the segments do not follow the standard, so that the caller decodes instead.
    """
    if data[:2] != bytes((0xFF, _SOI)):
        return None
    kept = [data[:2]]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte before a marker
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker in (_SOI, _EOI) or marker in _RESTART or length < 2 or end > len(data):
            return None
        if marker not in _METADATA:
            kept.append(data[at:end])
        at = end
        if marker == _SOS:
            end = _end_of_scan(data, at)
            kept.append(data[at:end])
            at = end
        if data[at : at + 2] == bytes((0xFF, _EOI)):
            kept.append(data[at : at + 2])
            return b"".join(kept)
    return None


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the entropy-coded data that begins at `at` ends: at the first marker that is neither stuffing nor a
    restart."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        follower = data[at + 1]
        if follower == 0xFF:
            at += 1
        elif follower == 0x00 or follower in _RESTART:
            at += 2
        else:
            return at
