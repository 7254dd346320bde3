"""A recogniser without a detector: embeds faces that were found by somebody else, and aligned."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import _load, _probe


class Recogniser:
    """One .onnx file of an ArcFace-like network, of any embedding length.

    Attributes: `file`, `id_dim` D of the embeddings.
    Raises FileNotFoundError and ValueError for a file or a device that cannot be used.
    """

    def __init__(self, file: Path, *, device: str = "auto", threads: int = 1, batch_size: int = 16):
        if not file.is_file():
            raise FileNotFoundError(
                f"recogniser {file} does not exist; name the .onnx file of an ArcFace-like network"
            )
        config = PerceptionConfig.model_validate(
            {"pack": str(file.parent), "device": device, "threads": threads, "batch_size": batch_size}
        )
        model = _load(file, config)
        if getattr(model, "taskname", None) != "recognition":
            raise ValueError(f"{file} is not a face recogniser; name the .onnx file of an ArcFace-like network")
        self.file = file
        self._model = model
        self._batch, self.id_dim = _probe(model, batch_size)

    def embed(self, aligned: Sequence[np.ndarray]) -> np.ndarray:
        """Unit embeddings (N, D) float32 of aligned RGB uint8 (S, S, 3) faces; another S is scaled to the network's."""
        crops = [np.ascontiguousarray(face[:, :, ::-1]) for face in aligned]
        rows = [self._model.get_feat(crops[i : i + self._batch]) for i in range(0, len(crops), self._batch)]
        raw = np.concatenate(rows).astype(np.float32) if rows else np.empty((0, self.id_dim), np.float32)
        return raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), np.float32(1e-12))


def align(image: np.ndarray, landmarks: np.ndarray, side: int) -> np.ndarray:
    """The face at landmarks (5, 2) px of an RGB uint8 (H, W, 3) picture, turned and scaled to the ArcFace template:
    (side, side, 3).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-image's, about a call inside insightface
        from insightface.utils import face_align

        return face_align.norm_crop(image, landmark=landmarks, image_size=side)
