"""Rows of SOURCE and FEATURES made by hand: a good photo, and what is different about this one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.config import DataConfig
from data_pipeline.plan import feature_key
from data_pipeline.schema import FEATURES, SOURCE
from data_pipeline.select import Selection, select

DIM = 32

GOOD: dict[str, Any] = {
    "outcome": "analysed",
    "format": "JPEG",
    "width": 1000,
    "height": 1000,
    "crop": [0, 0, 1000, 1000],
    "phash": 0,
    "n_faces": 1,
    "det_score": 0.9,
    "detector_size": 640,
    "border": 0.0,
    "bbox": [300.0, 300.0, 700.0, 700.0],
    "landmarks": [0.0] * 10,
    "second_face": 0.0,
    "face_share": 0.16,
    "face_pixels": 400.0,
    "inter_ocular": 150.0,
    "yaw": 0.0,
    "pitch": 0.0,
    "roll": 0.0,
    "sharpness": 500.0,
    "exposure": 0.5,
    "clipped": 0.0,
    "gender": 0,
    "age": 25,
    "embedding_norm": 20.0,
    "n_parts": 12,
    "part_pixels": [1] * 12 + [0] * 7,
    "face_seen": 0.7,
    "foreground": 0.5,
}
BROKEN: dict[str, Any] = {"outcome": "decode_error", "error": "damaged", **dict.fromkeys(set(GOOD) - {"outcome"})}
_OF_A_FACE = FEATURES.names[FEATURES.names.index("det_score") : FEATURES.names.index("n_parts")]
FACELESS: dict[str, Any] = {"n_faces": 0, **{name: None for name in GOOD if name in _OF_A_FACE}}


def face(person: int, number: int = 0, similarity: float = 0.9, dim: int = DIM) -> np.ndarray:
    """A unit vector (dim,) float32 whose cosine to `person`'s own is `similarity`."""
    own = np.zeros(dim)
    own[person] = 1
    other = np.random.default_rng([person, number]).normal(size=dim)
    other -= other @ own * own
    other /= np.linalg.norm(other)
    return (similarity * own + np.sqrt(1 - similarity**2) * other).astype(np.float32)


class Photos:
    """Collects photos; every one differs in bytes and in phash from the others unless it is told otherwise."""

    def __init__(self) -> None:
        self.source: list[dict[str, Any]] = []
        self.features: dict[str, dict[str, Any]] = {}

    def add(
        self,
        identity: str | None,
        embedding: np.ndarray | None,
        *,
        name: str = "",
        source: dict[str, Any] | None = None,
        **features: Any,
    ) -> int:
        """A photo of "src/<identity>"; returns its row."""
        row = len(self.source)
        path = f"/photos/{identity or 'unknown'}/{name or f'{row:04d}.jpg'}"
        image_id = hashlib.sha256(path.encode()).hexdigest()
        self.source.append(
            {
                "image_id": image_id,
                "source": "src",
                "path": path,
                "identity": identity and f"src/{identity}",
                "licence": "test",
                "bytes": 1000,
                "mask_is_given": False,
                **(source or {}),
            }
        )
        added = self.source[-1]
        key = feature_key(added["image_id"], added.get("mask_id"))
        phash = int.from_bytes(hashlib.sha256(added["image_id"].encode()).digest()[:8], "big", signed=True)
        self.features[key] = {
            **GOOD,
            "phash": phash,
            "embedding": None if embedding is None else embedding.tolist(),
            **features,
            "image_id": added["image_id"],
            "mask_id": added.get("mask_id"),
        }
        return row

    def person(self, identity: str, person: int, count: int = 5, **features: Any) -> list[int]:
        return [self.add(identity, face(person, number), **features) for number in range(count)]

    def source_table(self) -> pa.Table:
        return pa.Table.from_pylist(self.source, schema=SOURCE)

    def feature_table(self) -> pa.Table:
        return pa.Table.from_pylist(list(self.features.values()), schema=FEATURES)

    def select(self, config: DataConfig, eval_means: np.ndarray | None = None) -> Selection:
        means = np.zeros((0, DIM), np.float32) if eval_means is None else eval_means
        return select(self.source_table(), self.feature_table(), config, means)

    def reasons(self, config: DataConfig, eval_means: np.ndarray | None = None) -> list[list[str]]:
        return self.select(config, eval_means).images["reasons"].to_pylist()


def rules(profile: str = "strict", **data: Any) -> DataConfig:
    return DataConfig(sources=[{"path": "/photos", "name": "src"}], output="/out", profile=profile, **data)


def off(**data: Any) -> DataConfig:
    """Every rule off but those given."""
    switched_off = {
        "min_parts": None,
        "max_parts": None,
        "min_identity_similarity": None,
    }
    return rules("original", **{**switched_off, **data})


def own(person: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[person]


def column(selection: Selection, name: str) -> list[Any]:
    return selection.images[name].to_pylist()
