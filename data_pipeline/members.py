"""The members of a sample, from bytes to arrays. Only for bytes that were checked: damage would not be noticed here."""

from __future__ import annotations

import functools
import io

import cv2
import numpy as np


def picture(data: bytes) -> np.ndarray | None:
    """`KEY.jpg` -> (H, W, 3) uint8 RGB; None where it cannot be decoded."""
    return _decoded(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def person_mask(data: bytes) -> np.ndarray | None:
    """`KEY.mask.png` -> (H, W) uint8, {0, 255}; None where it cannot be decoded."""
    return _decoded(data, cv2.IMREAD_GRAYSCALE)


def id_embedding(data: bytes, length: int) -> np.ndarray | None:
    """`KEY.id.npy` -> (length,) float32 of unit norm, which half precision had not quite; None for anything else."""
    begin = len(data) - 2 * length
    if begin < 0 or not _announces_vector(data[:begin], length):
        return None
    vector = np.frombuffer(data, np.float16, offset=begin).astype(np.float32)
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if 0 < norm < np.inf else None


@functools.lru_cache(maxsize=4)
def _announces_vector(header: bytes, length: int) -> bool:
    """Whether an .npy file that begins like this holds float16 (length,). numpy takes long to read it every time."""
    try:
        return np.load(io.BytesIO(header + bytes(2 * length)), allow_pickle=False).dtype == np.float16
    except (ValueError, EOFError):
        return False


def _decoded(data: bytes, flags: int) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
