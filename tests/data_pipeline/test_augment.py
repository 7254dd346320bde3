"""What augmentation may do to a picture: mirror, shrink, move inside its own border, and its masks with it."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from data_pipeline.augment import (
    Augmentation,
    AugmentConfig,
    apply_to_image,
    apply_to_mask,
    draw_augmentation,
    valid_mask,
)
from data_pipeline.measures import resize_antialiased

SIZE = 512
ORIGINAL = AugmentConfig()


def drawn(config: AugmentConfig, count: int = 2000) -> list[Augmentation]:
    rng = np.random.default_rng(0)
    return [draw_augmentation(config, rng) for _ in range(count)]


def border(valid: np.ndarray) -> tuple[int, int, int, int]:
    """Empty lines above, below, left and right."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    return int(rows[0]), len(valid) - 1 - int(rows[-1]), int(columns[0]), len(valid) - 1 - int(columns[-1])


def test_defaults_are_the_original_s_numbers() -> None:
    assert (ORIGINAL.size, ORIGINAL.flip, ORIGINAL.scale, ORIGINAL.shift) == (512, 0.5, (0.7, 1.0), True)


def test_distributions() -> None:
    draws = drawn(ORIGINAL)
    assert np.mean([draw.flipped for draw in draws]) == pytest.approx(0.5, abs=0.045)
    scales = np.array([draw.side for draw in draws]) / SIZE
    assert 0.7 - 0.001 <= scales.min() < 0.702 and 0.998 < scales.max() <= 1
    assert scales.mean() == pytest.approx(0.85, abs=0.008) and scales.std() == pytest.approx(0.3 / 12**0.5, abs=0.005)
    moved = [draw for draw in draws if SIZE - draw.side > 24]
    across = [(draw.left - 12) / (SIZE - draw.side - 24) for draw in moved]
    down = [(draw.top - 12) / (SIZE - draw.side - 24) for draw in moved]
    for places in (across, down):
        assert min(places) >= 0 and max(places) <= 1
        assert np.mean(places) == pytest.approx(0.5, abs=0.03) and np.std(places) == pytest.approx(12**-0.5, abs=0.03)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.1


def test_nothing_leaves_the_square_and_the_margin_is_kept() -> None:
    for draw in drawn(ORIGINAL, 300):
        above, below, left, right = border(valid_mask(draw, SIZE))
        assert above + below == left + right == SIZE - draw.side
        if SIZE - draw.side > 24:
            assert min(above, below, left, right) >= 12
        else:
            assert abs(above - below) <= 1 and abs(left - right) <= 1


def test_the_picture_lies_where_it_is_valid_and_nowhere_else() -> None:
    """The original rolls a third of its pictures over the edge."""
    rng = np.random.default_rng(1)
    image = rng.integers(1, 256, (96, 96, 3), np.uint8)  # black nowhere
    for draw in drawn(AugmentConfig(size=64, scale=(0.4, 1.0)), 50):
        placed, valid = apply_to_image(draw, 64, image), valid_mask(draw, 64)
        assert placed.shape == (64, 64, 3) and placed.dtype == valid.dtype == np.uint8
        assert set(np.unique(valid)) <= {0, 1} and valid.sum() == draw.side**2
        assert not placed[valid == 0].any()
        inside = placed[valid == 1].reshape(draw.side, draw.side, 3)
        expected = resize_antialiased(image, draw.side)
        np.testing.assert_array_equal(inside, expected[:, ::-1] if draw.flipped else expected)


def test_the_mask_moves_with_the_picture() -> None:
    rows, columns = np.mgrid[:96, :96]
    person = ((rows - 30) ** 2 + (columns - 60) ** 2 < 25**2) | ((columns > 50) & (rows > 40))
    mask = person.astype(np.uint8) * 255
    image = np.repeat(mask[..., None], 3, axis=2)
    for draw in drawn(AugmentConfig(size=64, scale=(0.4, 1.0)), 50):
        placed = apply_to_mask(draw, 64, mask)
        assert placed.dtype == np.uint8 and set(np.unique(placed)) == {0, 1}
        np.testing.assert_array_equal(placed, apply_to_image(draw, 64, image)[..., 0] >= 128)
        assert not (placed & ~valid_mask(draw, 64) & 1).any()


def test_without_scale_the_picture_fills_the_square() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for draw in drawn(AugmentConfig(size=64, scale=None), 20):
        assert (draw.side, draw.left, draw.top) == (64, 0, 0)
        np.testing.assert_array_equal(apply_to_image(draw, 64, image), image[:, ::-1] if draw.flipped else image)
        assert valid_mask(draw, 64).all()


def test_without_shift_the_picture_stays_in_the_middle() -> None:
    for draw in drawn(AugmentConfig(shift=False), 100):
        above, below, left, right = border(valid_mask(draw, SIZE))
        assert abs(above - below) <= 1 and abs(left - right) <= 1


def test_fine_patterns_become_grey_not_coarse_patterns() -> None:
    """A pattern finer than the smaller picture can show: nearest neighbour makes bold false ones of it."""
    rows, columns = np.mgrid[:512, :512]
    fine = (((rows + columns) % 2) * 255).astype(np.uint8)
    image = np.repeat(fine[..., None], 3, axis=2)
    draw = Augmentation(flipped=False, side=int(0.4 * 512), left=0, top=0)
    small = apply_to_image(draw, 512, image)[: draw.side, : draw.side, 0].astype(float)
    picked = (np.arange(draw.side) * 512 // draw.side).astype(int)
    nearest = fine[np.ix_(picked, picked)].astype(float)
    assert nearest.std() > 120 and small.std() < 25
    assert small.mean() == pytest.approx(127.5, abs=2)


def test_one_setting_does_not_change_the_draw_of_another() -> None:
    base = drawn(ORIGINAL, 50)
    assert [d.side for d in drawn(AugmentConfig(flip=0, shift=False), 50)] == [d.side for d in base]
    assert [d.flipped for d in drawn(AugmentConfig(scale=None), 50)] == [d.flipped for d in base]
    half = drawn(AugmentConfig(size=256), 50)
    assert all(
        abs(2 * a.left - b.left) <= 3 and abs(2 * a.side - b.side) <= 1 for a, b in zip(half, base, strict=True)
    )
    assert all(draw.flipped for draw in drawn(AugmentConfig(flip=1), 50))


@pytest.mark.parametrize("scale", [(1.0, 0.7), (0.05, 1.0), (0.7, 1.1)])
def test_scales_that_are_none_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="two rising numbers"):
        AugmentConfig(scale=scale)
