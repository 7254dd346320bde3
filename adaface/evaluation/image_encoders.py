"""Encoders of whole pictures beside CLIP: vision transformers such as DINO, and encoders of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from adaface.evaluation.entry_points import open_entry_point
from adaface.evaluation.picture_input import vision_input
from adaface.evaluation.torch_models import Running
from adaface.models.whole import load_model


class ImageEncoder(Protocol):
    """What `FeatureReader` asks of an encoder."""

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures -> unit float32 (N, D)."""


class VisionTransformer:
    """A transformer of vision with a class token, from a folder: DINO (Caron et al. 2021, arXiv 2104.14294) and kin.

    The feature is the class token of the last hidden state, as in the original's evaluation (evaluation/vit_eval.py).
    Attributes: `width` D, `folder`.
    Raises FileNotFoundError and ValueError for a folder without such a model.
    """

    def __init__(self, folder: Path, running: Running):
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json; name the folder of a vision model of transformers")
        config = AutoConfig.from_pretrained(folder)
        if hasattr(config, "text_config") or not hasattr(config, "hidden_size"):
            raise ValueError(
                f"{folder} is a {config.model_type}, not a vision transformer with a class token, such as "
                "facebook/dino-vits16; for anything else write an entry point"
            )
        self.folder, self._running = folder, running
        self.width: int = config.hidden_size
        self._input = vision_input(folder)
        # many are published without the pooler, which makes something else of the class token
        model = load_model(AutoModel, folder, "vision transformer", unused="pooler.", dtype=torch.float32)
        self._model = model.eval().requires_grad_(False).to(running.device)

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any sizes -> unit float32 (N, D)."""
        return self._running.unit_rows(lambda batch: self._class_token(self._input(batch)), images, self.width)

    def _class_token(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), of any length."""
        return self._model(pixel_values=pixels.to(self._running.device)).last_hidden_state[:, 0]


class OwnEncoder:
    """An entry point `encoder(images) -> (N, D)`, its rows brought to unit length."""

    def __init__(self, entry_point: str, settings: Mapping[str, Any], batch: int = 16):
        self.own: Callable[[list[np.ndarray]], Any] = open_entry_point(entry_point, settings)
        self._name, self._batch = entry_point, batch

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB uint8 pictures of any sizes -> unit float32 (N, D); (0, 0) of no pictures.

        Raises ValueError when the entry point does not give one finite row per picture.
        """
        rows = [np.empty((0, 0), np.float32)]
        for start in range(0, len(images), self._batch):
            part = list(images[start : start + self._batch])
            made = np.asarray(self.own(part), dtype=np.float32)
            if made.ndim != 2 or len(made) != len(part) or not np.isfinite(made).all():
                raise ValueError(
                    f"image encoder {self._name} must give one finite row per picture, ({len(part)}, D), got {made.shape}"
                )
            rows.append(made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12))
        return np.concatenate(rows[1:]) if len(rows) > 1 else rows[0]
