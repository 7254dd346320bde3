"""Errors of detectors and cameras: of the right size, and the same for the same chance."""

from __future__ import annotations

import numpy as np

from adaface.miniature.pictures.augment import degrade, jitter_box, jitter_points
from adaface.miniature.render import render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene


def test_points_and_boxes_are_off_by_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    points = np.array([[10, 20], [50, 20], [30, 40], [15, 60], [45, 60]], np.float32)  # the eyes are 40 px apart
    errors = np.stack([jitter_points(points, 0.03, rng) - points for _ in range(500)])
    np.testing.assert_allclose(errors.std((0, 2)), 1.2, rtol=0.1)
    assert (jitter_points(points, 0, rng) == points).all()
    box = np.array([0, 0, 100, 50], np.float32)
    errors = np.stack([jitter_box(box, 0.02, rng) - box for _ in range(500)])
    np.testing.assert_allclose(errors.std(0), 2.0, rtol=0.15)


def test_pictures_get_worse_now_and_then_and_stay_pictures() -> None:
    rng = np.random.default_rng(0)
    image = render(Identity.sample(rng), Scene(), Nuisance.sample(rng), 112).image
    results = [degrade(image, np.random.default_rng(seed)) for seed in range(100)]
    assert all(result.dtype == np.uint8 and result.shape == image.shape for result in results)
    errors = [float(np.abs(result.astype(int) - image).mean()) for result in results]
    assert 10 <= sum(error == 0 for error in errors) <= 40
    assert max(errors) < 45
    for seed in range(10):
        assert (degrade(image, np.random.default_rng(seed)) == results[seed]).all()
