"""Crops are those of insightface, pixel for pixel."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from adaface.miniature.networks.alignment import align, crop_box, similarity
from adaface.miniature.render import Picture, render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(3)
    return [
        render(Identity.sample(rng), Scene.sample(rng), Nuisance.sample(rng), side)
        for side in (64, 64, 90, 128, 200, 256)
    ]


def test_five_points_are_aligned_as_insightface_does(pictures: list[Picture]) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    rng = np.random.default_rng(0)
    for picture in pictures:
        points = (picture.landmarks + rng.normal(0, 0.5, (5, 2))).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-image's, about a call inside insightface
            expected = face_align.norm_crop(picture.image, points)
            matrix = face_align.estimate_norm(points)
        np.testing.assert_allclose(similarity(points)[0], matrix, rtol=1e-6, atol=1e-5)
        difference = np.abs(align(picture.image, points).astype(int) - expected.astype(int))
        # a last bit of the matrix may tip the rounding of a position
        assert (difference > 0).mean() < 1e-3 and difference.max() <= 8


def test_many_faces_are_aligned_as_one_by_one(pictures: list[Picture]) -> None:
    points = np.stack([picture.landmarks for picture in pictures])
    one_by_one = np.concatenate([similarity(face) for face in points])
    np.testing.assert_allclose(similarity(points), one_by_one, rtol=1e-12)


def test_a_turned_and_scaled_template_comes_back() -> None:
    from adaface.miniature.networks.alignment import TEMPLATE

    angle, scale, shift = 0.7, 2.5, np.array([31.0, -7.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATE @ turn.T + shift
    matrix = similarity(moved)[0]
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-4)


def test_the_box_is_cropped_as_insightface_does(pictures: list[Picture]) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    for picture in pictures:
        x0, y0, x1, y1 = picture.box
        scale = 96 / (max(x1 - x0, y1 - y0) * 1.5)
        expected, _ = face_align.transform(picture.image, ((x0 + x1) / 2, (y0 + y1) / 2), 96, scale, 0)
        difference = np.abs(crop_box(picture.image, picture.box).astype(int) - expected.astype(int))
        assert (difference > 0).mean() < 1e-3 and difference.max() <= 8


def test_impossible_faces_are_refused() -> None:
    with pytest.raises(ValueError, match="five points"):
        similarity(np.ones((1, 5, 2)))
    with pytest.raises(ValueError, match="box"):
        crop_box(np.zeros((64, 64, 3), np.uint8), np.array([5.0, 5.0, 5.0, 5.0]))
