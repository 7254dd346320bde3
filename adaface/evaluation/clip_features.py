"""CLIP (Radford et al. 2021, arXiv 2103.00020): pictures and texts in one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel

from adaface.evaluation.picture_input import clip_input
from adaface.evaluation.torch_models import Running
from adaface.models.whole import load_model, load_tokenizer

Pixels = Callable[[Sequence[np.ndarray], int, Sequence[float], Sequence[float]], Tensor]


class ClipFeatures:
    """A `CLIPModel` with its tokenizer, from a folder.

    Attributes: `width` D of the joint space, `side` S of its pictures, px, `folder`.
    Raises FileNotFoundError for a folder without one, ValueError for one that is not whole.
    """

    def __init__(self, folder: Path, running: Running):
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json; `measures.clip` is the folder of a CLIPModel")
        self.folder, self._running = folder, running
        self._clip = load_model(CLIPModel, folder, "CLIP", dtype=torch.float32).eval().requires_grad_(False)
        self._tokenizer = load_tokenizer(folder, self._clip.config.text_config.vocab_size)
        self._clip.to(running.device)
        self.side: int = self._clip.config.vision_config.image_size
        self._input = clip_input(folder, self.side)
        self.width: int = self._clip.config.projection_dim

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any sizes -> unit float32 (N, D)."""
        return self._running.unit_rows(lambda batch: self._project(self._input(batch)), images, self.width)

    def images_by(self, images: Sequence[np.ndarray], pixels: Pixels) -> np.ndarray:
        """The same, with pictures made into pixels by another function of (pictures, S, mean, deviation)."""

        def function(batch: Sequence[np.ndarray]) -> Tensor:
            return self._project(pixels(batch, self.side, self._input.mean, self._input.std))

        return self._running.unit_rows(function, images, self.width)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """-> unit float32 (N, D). Texts that are longer than the window are cut, as the original's are."""
        return self._running.unit_rows(self._texts, list(texts), self.width)

    def _project(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D) in the joint space, of any length."""
        pooled = self._clip.vision_model(pixel_values=pixels.to(self._running.device)).pooler_output
        return self._clip.visual_projection(pooled)

    def _texts(self, texts: list[str]) -> Tensor:
        window = self._clip.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            texts, padding="max_length", max_length=window, truncation=True, return_tensors="pt"
        ).input_ids
        pooled = self._clip.text_model(input_ids=tokens.to(self._running.device)).pooler_output
        return self._clip.text_projection(pooled)
