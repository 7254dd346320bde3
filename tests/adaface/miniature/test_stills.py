"""Pictures without a face."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.miniature.render.canvas import Canvas
from adaface.miniature.render.stills import render_still
from adaface.miniature.render.things import THINGS, draw_thing
from adaface.miniature.world.scene import Nuisance


def test_equal_seeds_give_equal_pictures_and_other_seeds_others() -> None:
    first = render_still(3, 96, 128)
    assert first.shape == (96, 128, 3) and first.dtype == np.uint8
    assert np.array_equal(first, render_still(np.random.default_rng(3), 96, 128))
    assert not np.array_equal(first, render_still(4, 96, 128))


def test_pictures_vary() -> None:
    pictures = np.stack([render_still(seed, 32, 32) for seed in range(60)])
    assert len(np.unique(pictures.reshape(60, -1), axis=0)) == 60
    assert pictures.mean((1, 2, 3)).std() > 20  # dark and bright ones


@pytest.mark.parametrize("size", [(16, 512), (512, 16), (160, 120)])
def test_any_size(size: tuple[int, int]) -> None:
    for seed in range(4):
        assert render_still(seed, *size).shape == (*size, 3)


@pytest.mark.parametrize(("height", "width", "name"), [(8, 64, "height"), (64, 4096, "width"), (64.0, 64, "height")])
def test_impossible_sizes_are_refused(height: float, width: float, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be an integer in 16\.\.2048 px"):
        render_still(0, height, width)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", THINGS)
def test_every_thing_is_drawn_where_it_should_be_and_is_no_part_of_a_face(name: str) -> None:
    canvas = Canvas(np.full((96, 96, 3), 127, np.uint8))
    draw_thing(canvas.place(Nuisance(scale=0.2, dx=0.0, dy=0.0)), name, np.random.default_rng(0))
    drawn = (canvas.image != 127).any(-1)
    assert drawn.mean() > 0.02
    rows, columns = np.nonzero(drawn)
    reach = 0.2 * 96 * 1.5
    assert max(abs(rows - 48).max(), abs(columns - 48).max()) <= reach
    assert not canvas.classes.any()
