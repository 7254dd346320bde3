"""The largest face of each picture, embedded by every recogniser of the evaluation.

The first recogniser is the one of the face pack; the judges embed the very crops that it got. A judge that no encoder
was trained with is the one to believe: what is trained towards a network scores too well by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaface.model_path import model_path

if TYPE_CHECKING:
    from adaface.evaluation.config import MeasuresConfig
    from adaface.perception.config import PerceptionConfig


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """Of N pictures, as in a `Gallery`: `faces` (N,), `boxes` (N, 4) px, `scores` (N,), `embeddings` by recogniser."""

    faces: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    embeddings: dict[str, np.ndarray]


class FaceFeatures:
    """Detector and recognisers of a `measures:` section.

    Attributes: `files` {name: file}: "detector" and each recogniser by its name.
    Raises FileNotFoundError and ValueError for models that cannot be used.
    """

    def __init__(self, measures: MeasuresConfig):
        from adaface.perception.faces import FaceAnalyser
        from adaface.perception.recogniser import Recogniser

        self.config = faces_config(measures)
        self._analyser = FaceAnalyser(self.config)
        self._first = measures.first
        self._judges = {
            judge.name: Recogniser(
                model_path(judge.file),
                device=self.config.device,
                threads=self.config.threads,
                batch_size=self.config.batch_size,
            )
            for judge in measures.judges
        }
        files = self._analyser.files
        self.files: dict[str, Path] = {"detector": files["detection"], self._first: files["recognition"]}
        self.files |= {name: judge.file for name, judge in self._judges.items()}

    def read(self, images: Sequence[np.ndarray]) -> FoundFaces:
        """RGB uint8 pictures of any sizes."""
        results = [self._analyser.detect(image) for image in images]
        rows = [row for row, result in enumerate(results) if result.faces]
        crops = [result.aligned for result in results if result.aligned is not None]
        boxes = np.full((len(images), 4), np.nan, np.float32)
        scores = np.full(len(images), np.nan, np.float32)
        for row in rows:
            boxes[row], scores[row] = results[row].faces[0].bbox, results[row].faces[0].score
        raw = self._analyser.embed(crops)
        found = {self._first: raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), np.float32(1e-12))}
        found |= {name: judge.embed(crops) for name, judge in self._judges.items()}
        embeddings = {}
        for name, unit in found.items():
            embeddings[name] = np.zeros((len(images), unit.shape[1]), np.float32)
            embeddings[name][rows] = unit
        faces = np.array([len(result.faces) for result in results], np.int32)
        return FoundFaces(faces, boxes, scores, embeddings)


def faces_config(measures: MeasuresConfig) -> PerceptionConfig:
    """The `faces:` section, without what no evaluation asks for."""
    return measures.faces.model_copy(update={"attributes": False, "parser": None})
