"""Pictures without a face: the twelve places empty, and things, some of which look a little like a face."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from adaface.miniature.render.canvas import Canvas
from adaface.miniature.render.finish import illuminate, photograph, stylise
from adaface.miniature.render.places import background
from adaface.miniature.render.portrait import MAX_SIDE, MIN_SIDE
from adaface.miniature.render.shape import HeadShape
from adaface.miniature.render.things import THINGS, draw_thing
from adaface.miniature.render.wear import draw_clothes
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import CLOTHES, Nuisance, Scene

# Small pictures are drawn at least this large and scaled down, as portraits are.
_DRAWING_SIDE = 192


def render_still(rng: np.random.Generator | int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3) RGB: a landscape, a room, a still life or a close look at one thing; nobody in it.

    `rng` is a generator or a seed; equal ones give equal pixels. Light and style vary as in portraits.
    Raises ValueError for an impossible size.
    """
    for name, side in (("height", height), ("width", width)):
        if not (isinstance(side, int | np.integer) and MIN_SIDE <= side <= MAX_SIDE):
            raise ValueError(f"{name} must be an integer in {MIN_SIDE}..{MAX_SIDE} px, got {side!r}")
    rng = np.random.default_rng(rng)
    times = max(1, math.ceil(_DRAWING_SIDE / min(height, width)))
    scene = Scene.sample(rng)
    canvas = Canvas(_backdrop(rng, scene.place, height * times, width * times))
    _ARRANGEMENTS[int(rng.choice(len(_ARRANGEMENTS), p=_ODDS))](canvas, rng)
    image = photograph(canvas.image, height, width)
    image = illuminate(image, scene.light, float(rng.uniform(-0.2, 0.2)), float(rng.uniform(0.85, 1.1)))
    return stylise(image, scene.style, rng)


def _backdrop(rng: np.random.Generator, place: str, height: int, width: int) -> np.ndarray:
    """Mostly a place; else a wall in one colour or a texture."""
    chance = rng.random()
    if chance < 0.7:
        return background(place, int(rng.integers(2**31)), height, width)
    low, high = sorted(rng.uniform(0, 255, (2, 3)), key=lambda colour: float(colour.sum()))
    if chance < 0.9:
        shade = 1 - 0.3 * np.linspace(0, 1, height)[:, None, None]
        return np.ascontiguousarray(np.broadcast_to(high * shade, (height, width, 3)), np.uint8)
    cells = int(rng.integers(3, 40))
    grain = rng.random((cells, cells, 1))
    smooth = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_CUBIC
    t = np.clip(cv2.resize(grain, (width, height), interpolation=smooth), 0, 1)[..., None]
    return (low * (1 - t) + high * t).astype(np.uint8)


def _nothing(canvas: Canvas, rng: np.random.Generator) -> None:
    """An empty place."""


def _close(canvas: Canvas, rng: np.random.Generator) -> None:
    """One thing where a portrait has the face."""
    scale = float(rng.uniform(0.2, 0.5))
    _draw_any(canvas, rng, float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.12, 0.12)), scale)


def _spread(canvas: Canvas, rng: np.random.Generator) -> None:
    """Things all over the picture."""
    for _ in range(int(rng.integers(2, 9))):
        dx, dy, scale = (float(v) for v in rng.uniform([-0.45, -0.45, 0.03], [0.45, 0.45, 0.17]))
        _draw_any(canvas, rng, dx, dy, scale)


def _on_table(canvas: Canvas, rng: np.random.Generator) -> None:
    """Things beside each other on a table."""
    height, width = canvas.image.shape[:2]
    edge = float(rng.uniform(0.55, 0.8))
    colour = tuple(int(v) for v in rng.uniform(60, 220) * np.array([1, 0.78, 0.55]))
    cv2.rectangle(canvas.image, (0, round(edge * height)), (width, height), colour, -1)
    count = int(rng.integers(1, 5))
    scale = min(float(rng.uniform(0.1, 0.26)), 0.45 * width / count / height)
    for i in range(count):
        _draw_any(canvas, rng, (i + 0.5) / count - 0.5, edge + 0.06 - 0.5 - scale * 0.9, scale)


def _clothes_rail(canvas: Canvas, rng: np.random.Generator) -> None:
    """Clothes that nobody wears."""
    for _ in range(int(rng.integers(1, 4))):
        shape = HeadShape.of(Identity.sample(rng))
        dx, dy, scale = (float(v) for v in rng.uniform([-0.4, -0.5, 0.08], [0.4, 0.1, 0.3]))
        draw_clothes(canvas.place(Nuisance(dx=dx, dy=dy, scale=scale)), str(rng.choice(CLOTHES)), shape, rng)


def _draw_any(canvas: Canvas, rng: np.random.Generator, dx: float, dy: float, scale: float) -> None:
    pose = Nuisance(dx=dx, dy=dy, scale=scale, roll=float(np.clip(rng.normal(0, 0.15), -0.6, 0.6)))
    draw_thing(canvas.place(pose), str(rng.choice(THINGS)), rng)


_ARRANGEMENTS: tuple[Callable[[Canvas, np.random.Generator], None], ...] = (
    _nothing,
    _close,
    _spread,
    _on_table,
    _clothes_rail,
)
_ODDS = (0.30, 0.28, 0.17, 0.20, 0.05)
