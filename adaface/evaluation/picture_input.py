"""Pictures as a vision model wants them: its own preprocessor_config.json, and what to do where there is none.

Always by PIL, which smooths when it makes pictures smaller; torchvision is not needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoImageProcessor, CLIPImageProcessorPil

log = logging.getLogger(__name__)

PREPROCESSOR = "preprocessor_config.json"
# of the smallest CLIP that was published; all of those have the same mean and deviation, the library's default
_PUBLISHED_SIDE = 224


class PictureInput:
    """RGB uint8 pictures of any sizes -> float32 (N, 3, S, S), by a processor of transformers.

    Attributes: `mean` and `std` of the three channels, of values 0..1.
    """

    def __init__(self, processor: Any):
        self._processor = processor
        self.mean: list[float] = list(processor.image_mean)
        self.std: list[float] = list(processor.image_std)

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """Pictures (H, W, 3); raises ValueError for anything else."""
        for image in images:
            check_picture(image)
        # the channels are said, not guessed: a picture may be three pixels high
        made = self._processor(list(images), return_tensors="pt", input_data_format="channels_last")
        return made["pixel_values"].to(torch.float32)


def clip_input(folder: Path, side: int) -> PictureInput:
    """Of the CLIP in `folder`, whose pictures are `side` px wide.

    Without a preprocessor_config.json: the shorter side to `side`, bicubic, and the middle. Values by the mean and
    deviation of all published CLIPs where the model is as large as those, else from -1 to 1, as the miniature's.
    """
    if (folder / PREPROCESSOR).is_file():
        return PictureInput(AutoImageProcessor.from_pretrained(folder, backend="pil"))
    settings: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    if side >= _PUBLISHED_SIDE:
        log.warning("%s has no %s; taking the mean and deviation of OpenAI's CLIP", folder, PREPROCESSOR)
    else:
        settings |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return PictureInput(CLIPImageProcessorPil(**settings))


def vision_input(folder: Path) -> PictureInput:
    """Of any other vision model. Raises FileNotFoundError without a preprocessor_config.json: nobody could guess it."""
    if not (folder / PREPROCESSOR).is_file():
        raise FileNotFoundError(f"{folder} has no {PREPROCESSOR}, so its input is not known; download the whole model")
    return PictureInput(AutoImageProcessor.from_pretrained(folder, backend="pil"))


def check_picture(image: np.ndarray) -> None:
    """Raises ValueError for what is not RGB uint8 (H, W, 3)."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a picture must be RGB uint8 (H, W, 3), got {what}")
    if not image.size:
        raise ValueError("a picture without pixels")
