"""How much of a face shows, from a class map and a box."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.perception.classes import CLASS_NAMES
from data_pipeline.metrics import face_seen

SKIN, HAIR, NOSE, GLASSES = (CLASS_NAMES.index(name) for name in ("skin", "hair", "nose", "eye_g"))


def parts_of_a_face() -> np.ndarray:
    """(64, 64): a face at x 16..48, y 8..56, its upper quarter under hair."""
    parts = np.zeros((64, 64), np.uint8)
    parts[8:56, 16:48] = SKIN
    parts[8:20, 16:48] = HAIR
    parts[30:36, 28:36] = NOSE
    parts[24:28, 16:48] = GLASSES
    return parts


def test_skin_features_and_glasses_count_and_hair_does_not() -> None:
    assert face_seen(parts_of_a_face(), [16, 8, 48, 56], [0, 0, 64, 64]) == pytest.approx(0.75)


def test_what_is_held_before_the_face_does_not_count() -> None:
    parts = parts_of_a_face()
    parts[32:56, 16:48] = 0
    assert face_seen(parts, [16, 8, 48, 56], [0, 0, 64, 64]) == pytest.approx(0.25)


def test_the_box_is_in_pixels_of_the_photo_and_the_map_of_what_was_cut_out() -> None:
    """A photo of 300 x 200 px, of which the square at x 40 .. 240 became the sample."""
    scale = 200 / 64
    box = [16 * scale + 40, 8 * scale, 48 * scale + 40, 56 * scale]
    assert face_seen(parts_of_a_face(), box, [40, 0, 240, 200]) == pytest.approx(0.75)


def test_of_a_box_over_the_edge_only_what_is_in_the_sample_is_looked_at() -> None:
    parts = np.full((64, 64), SKIN, np.uint8)
    assert face_seen(parts, [-50, -50, 32, 32], [0, 0, 64, 64]) == 1
    assert face_seen(parts, [-50.0, -50.0, -40.0, -40.0], [0, 0, 64, 64]) == 1, "at least a pixel"
