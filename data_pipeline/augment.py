"""A sample as a step of training sees it: mirrored or not, made smaller, moved about; its masks with it.

Reference: the image path of personalized.py, with its numbers. Here the picture is resized once, antialiased, and moved
inside its own border, which is known from where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_pipeline.measures import resize_antialiased

# The least distance of a moved picture from the edge, as a share of the side: 12 px of the original's 512.
MARGIN = 12 / 512


class AugmentConfig(BaseModel):
    """What happens to a picture on its way into a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(default=512, ge=8, le=2048, multiple_of=8, description="side of pictures and masks, px")
    flip: float = Field(default=0.5, ge=0, le=1, description="probability that a picture is mirrored")
    scale: tuple[float, float] | None = Field(
        default=(0.7, 1.0),
        description="side of the picture as a share of `size`, uniform between the two; the rest is black and not valid; "
        "null: always all of it",
    )
    shift: bool = Field(default=True, description="place a smaller picture anywhere, not in the middle")

    @model_validator(mode="after")
    def _scales_are_shares(self) -> AugmentConfig:
        if self.scale is not None and not 0.1 <= self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two rising numbers from 0.1 to 1, not {list(self.scale)}")
        return self


@dataclass(frozen=True)
class Augmentation:
    """What happens to one picture: it fills the square from (left, top), `side` px wide and high."""

    flipped: bool
    side: int
    left: int
    top: int


def draw_augmentation(config: AugmentConfig, rng: np.random.Generator) -> Augmentation:
    """Always takes four numbers from `rng`, so that no setting changes the draw of another."""
    mirror, shrink, across, down = rng.random(4)
    size, (low, high) = config.size, config.scale or (1.0, 1.0)
    side = max(1, round(size * (low + (high - low) * shrink)))
    free, margin = size - side, round(size * MARGIN)
    left = top = free // 2
    # A border that leaves no room on both sides keeps the picture in the middle, as in the original.
    if config.shift and free > 2 * margin:
        places = free - 2 * margin + 1
        left, top = margin + int(across * places), margin + int(down * places)
    return Augmentation(bool(mirror < config.flip), side, left, top)


def apply_to_image(what: Augmentation, size: int, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8, black outside of the picture."""
    return _placed(what, size, resize_antialiased(image, what.side))


def apply_to_mask(what: Augmentation, size: int, mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8, {0, 255} -> (size, size) uint8, {0, 1}: 1 where at least half of a pixel was 255.

    Outside of the picture there is nobody: 0.
    """
    return _placed(what, size, (resize_antialiased(mask, what.side) >= 128).astype(np.uint8))


def valid_mask(what: Augmentation, size: int) -> np.ndarray:
    """(size, size) uint8: 1 where there is a picture, 0 in the border around it."""
    return _placed(what, size, np.ones((what.side, what.side), np.uint8))


def _placed(what: Augmentation, size: int, content: np.ndarray) -> np.ndarray:
    canvas = np.zeros((size, size, *content.shape[2:]), np.uint8)
    rows, columns = slice(what.top, what.top + what.side), slice(what.left, what.left + what.side)
    canvas[rows, columns] = cv2.flip(content, 1) if what.flipped else content  # ten times as fast as [:, ::-1]
    return canvas
