"""How well pictures fit texts, by CLIP: what the teacher filter of stage 2 goes by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.model_folders import locate_model
from adaface.evaluation.torch_models import Running


class ClipScore:
    """Cosines of pictures to texts.

    Args:
        model: folder or hub id of a CLIP of transformers, with its tokenizer; ViT-B/32 in the original.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu") -> None:
        self._clip = ClipFeatures(locate_model(model), Running(torch.device(device), threads=torch.get_num_threads()))

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) float32 in -1..1 and B texts -> (B,) float32 cosines, on the CPU."""
        pixels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        seen = self._clip.images(list(pixels.permute(0, 2, 3, 1).cpu().numpy()))
        different = list(dict.fromkeys(texts))
        read = dict(zip(different, self._clip.texts(different), strict=True))
        return torch.from_numpy((seen * np.stack([read[text] for text in texts])).sum(axis=1))
