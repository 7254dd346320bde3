"""The background token: "z with background y", whose `y` stands for what is around the person in a photograph.

With it in the prompt, vectors of the person need not explain the rest of the picture. Its generator belongs to the
encoder; the features that it reads are of CLIP's vision model, which stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModel

from adaface.encoder.background import BackgroundGenerator
from adaface.encoder.config import BACKGROUND_SIZES
from adaface.encoder.image_features import other_side, patch_mask, side_features
from adaface.encoder.model import AdaFaceEncoder
from adaface.evaluation.model_folders import locate_model
from adaface.evaluation.picture_input import clip_input
from adaface.models.whole import load_model

TOKEN, WORDS = "y", "with background {}"
CLASS_WORD = "unknown"  # what class prompts have in its place
VECTORS = BACKGROUND_SIZES["vectors"]


class BackgroundFeatures:
    """What a CLIP sees around people.

    Args:
        model: folder or hub id of a CLIP of transformers; ViT-L/14 in the original.

    Attributes: `width` W of the features, `tokens` N of a picture, the class token included.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu") -> None:
        folder = locate_model(model)
        self._vision = load_model(CLIPVisionModel, folder, "CLIP", dtype=torch.float32).eval().requires_grad_(False)
        self._vision.to(device)
        config = self._vision.config
        self._input = clip_input(folder, config.image_size)
        self.width: int = config.hidden_size
        self.tokens = (config.image_size // config.patch_size) ** 2 + 1

    def __call__(self, images: Tensor, person: Tensor) -> Tensor:
        """float32 (B, N, W) of pictures uint8 (B, S, S, 3) with the mask of the person, (B, S, S) in 0..1.

        Zeros but for the class token where the mask is everything.
        """
        device = self._vision.device
        pixels = self._input(list(images.cpu().numpy())).to(device)
        return side_features(self._vision, pixels, other_side(patch_mask(self._vision, person.to(device).float())))


def new_generator(width: int, layers: int, features: BackgroundFeatures) -> tuple[BackgroundGenerator, dict[str, Any]]:
    """A generator with random weights of torch's own stream, and its sizes for the encoder's configuration.

    Args:
        width: D of the text model.
        layers: cross-attention layers of the UNet, each of which gets vectors of its own.
        features: that it is to read.

    Dropout is off, unlike the original's 0.05: what a step draws must depend on nothing but its place in the run.
    """
    heads = max(number for number in range(1, BACKGROUND_SIZES["heads"] + 1) if width % number == 0)
    sizes = {
        "image_dim": features.width,
        "image_tokens": features.tokens,
        "heads": heads,
        "layers": layers,
        "vectors": VECTORS,
        "dropout": 0.0,
    }
    return BackgroundGenerator(width, sizes), sizes


def background_vectors(encoder: AdaFaceEncoder, around: Tensor | None) -> Tensor | None:
    """(B, L, K, D) of what is around people, from features (B, N, W), with gradient; None for None."""
    if around is None or encoder.background is None:
        return None
    vectors: Tensor = encoder.background(around)
    return vectors
