"""Generated pictures through the pack's detector and both recognisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaface.miniature.networks.recogniser import ID_DIM, embed_portraits, load_recogniser

# a picture of 64 px fills the detector's input once enlarged to this
_DETECTOR_SIZE = 160


@dataclass(frozen=True)
class FoundFaces:
    """`found` bool (N,); per recogniser unit embeddings float32 (N, 64), zero where no face was found."""

    found: np.ndarray
    pack: np.ndarray
    judge: np.ndarray

    def of(self, recogniser: str) -> np.ndarray:
        return {"pack": self.pack, "judge": self.judge}[recogniser]


class FaceReader:
    """Finds the largest face of each picture and embeds it with the pack's recogniser and with the judge's."""

    def __init__(self, weights: Path):
        from adaface.perception.config import PerceptionConfig
        from adaface.perception.faces import FaceAnalyser

        config = PerceptionConfig(
            pack=str(weights / "pack"), detector_sizes=(_DETECTOR_SIZE,), attributes=False, device="cpu"
        )
        self._analyser = FaceAnalyser(config)
        self._networks = {name: load_recogniser(weights, name) for name in ("pack", "judge")}

    def read(self, images: Sequence[np.ndarray] | np.ndarray) -> FoundFaces:
        """RGB uint8 pictures (N, H, W, 3)."""
        faces = [self._analyser.detect(image).faces for image in images]
        rows = [row for row, found in enumerate(faces) if found]
        landmarks = np.array([faces[row][0].landmarks for row in rows], np.float32).reshape(-1, 5, 2)
        embeddings = {}
        for name, network in self._networks.items():
            embeddings[name] = np.zeros((len(images), ID_DIM), np.float32)
            if rows:
                embeddings[name][rows] = embed_portraits(network, [images[row] for row in rows], landmarks).numpy()
        return FoundFaces(found=np.array([bool(found) for found in faces]), **embeddings)
