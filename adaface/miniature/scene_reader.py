"""The factor classifier as models of an evaluation: it says what it sees, and stands for DINO where that is too large.

Named in a configuration as entry points:

    scene_classifier: {entry_point: "adaface.miniature.scene_reader:SceneReader"}
    image_encoders: {dino: {entry_point: "adaface.miniature.scene_reader:PictureEncoder"}}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adaface.miniature.networks.factors import FactorClassifier, read_factors
from adaface.miniature.networks.vae import to_tensor
from adaface.miniature.pictures.portraits import SIZE
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.world.scene import VOCABULARY
from adaface.model_path import model_path


class _Classifier:
    def __init__(self, weights: str | None = None):
        folder = WEIGHTS if weights is None else model_path(weights)
        self._net = FactorClassifier.load(folder)
        self.file: Path = folder / "factors" / "classifier.safetensors"


class SceneReader(_Classifier):
    """Pictures -> {factor: the likeliest word for each}, for the six factors of `VOCABULARY`."""

    vocabulary = VOCABULARY

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, list[str]]:
        """RGB uint8 (H, W, 3) of any sizes."""
        found = read_factors(self._net, to_small(images))
        return {factor: [VOCABULARY[factor][int(index)] for index in rows] for factor, rows in found.items()}


class PictureEncoder(_Classifier):
    """Pictures -> the 96 features that the classifier reads its words from."""

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 (H, W, 3) of any sizes -> float32 (N, 96), not of unit length."""
        return self._net.features(to_small(images)).numpy()


def to_small(images: Sequence[np.ndarray]) -> Tensor:
    """float32 (N, 3, 64, 64) in -1..1: the middle square of each picture, scaled with antialiasing."""
    small = np.empty((len(images), SIZE, SIZE, 3), np.uint8)
    for row, image in enumerate(images):
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(image[top : top + side, left : left + side])
        small[row] = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return to_tensor(small, torch.device("cpu"))
