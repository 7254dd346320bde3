"""What the networks saw in pictures, one row per picture: all that metrics look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Columns of a row: "faces", "box", "face_score", and these followed by the name of a recogniser, an encoder or a factor.
EMBEDDING, IMAGE, SEEN = "embedding_", "image_", "seen_"
# What begins the names of features that `ParityReader` made, of recognisers and encoders alike.
PARITY = "parity_"


@dataclass(eq=False)
class Gallery:
    """Features of N pictures.

    Attributes:
        faces: (N,) int32, how many faces were found.
        boxes: (N, 4) float32, x1, y1, x2, y2 of the largest face, px of the picture; nan without one.
        embeddings: by recogniser, (N, D) float32, unit rows of the largest face; zeros where there is none.
        images: by encoder ("clip", "dino", ...), (N, D) float32, unit rows of the whole picture.
        seen: by factor of a scene, the word that the scene classifier read off each picture.
        scores: (N,) float32, how sure the detector is of the largest face, 0..1; nan without one. What is no face at
            all, as on a dog, tends to have a low one.

    Raises ValueError for columns of different lengths, all of them named.
    """

    faces: np.ndarray
    boxes: np.ndarray
    embeddings: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)
    scores: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))  # nan where they are not given

    def __post_init__(self) -> None:
        if not len(self.scores):
            self.scores = np.full(len(self), np.nan, np.float32)
        lengths = {"boxes": len(self.boxes), "scores": len(self.scores)}
        for prefix, columns in _groups(self).items():
            lengths |= {prefix + name: len(column) for name, column in columns.items()}
        if wrong := [f"{name} has {length}" for name, length in lengths.items() if length != len(self)]:
            raise ValueError(f"features of {len(self)} pictures, but {', '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def detected(self) -> np.ndarray:
        """(N,) bool, whether a face was found."""
        return self.faces > 0

    def select(self, rows: Sequence[int] | np.ndarray | slice) -> Gallery:
        """Some of the pictures: indices in any order, a mask (N,) of bool, or a slice."""
        chosen = np.arange(len(self))[rows if isinstance(rows, slice) else _indices(rows)]
        return Gallery(
            faces=self.faces[chosen],
            boxes=self.boxes[chosen],
            embeddings={name: rows[chosen] for name, rows in self.embeddings.items()},
            images={name: rows[chosen] for name, rows in self.images.items()},
            seen={name: [words[row] for row in chosen] for name, words in self.seen.items()},
            scores=self.scores[chosen],
        )

    @staticmethod
    def concat(galleries: Sequence[Gallery]) -> Gallery:
        """All pictures one after the other.

        Raises ValueError when they were not read with the same models, and for none at all.
        """
        if not galleries:
            raise ValueError("there is nothing to put together")
        first = galleries[0]
        for other in galleries[1:]:
            if _columns(other) != _columns(first):
                odd = sorted(_columns(other) ^ _columns(first))
                raise ValueError(
                    f"these features are of different models ({', '.join(odd)}); read all pictures with the same measures"
                )
        return Gallery(
            faces=np.concatenate([gallery.faces for gallery in galleries]),
            boxes=np.concatenate([gallery.boxes for gallery in galleries]),
            embeddings={name: np.concatenate([g.embeddings[name] for g in galleries]) for name in first.embeddings},
            images={name: np.concatenate([g.images[name] for g in galleries]) for name in first.images},
            seen={name: [word for g in galleries for word in g.seen[name]] for name in first.seen},
            scores=np.concatenate([gallery.scores for gallery in galleries]),
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat dict per picture, for a table: int, str, float32 and float32 arrays (D,). `from_rows` takes them back."""
        flat = {prefix + name: column for prefix, columns in _groups(self).items() for name, column in columns.items()}
        return [
            {
                "faces": int(self.faces[row]),
                "box": self.boxes[row],
                "face_score": self.scores[row],
                **{name: column[row] for name, column in flat.items()},
            }
            for row in range(len(self))
        ]

    @staticmethod
    def from_rows(rows: Sequence[Mapping[str, Any]]) -> Gallery:
        """Features from rows of `to_rows`, also after a table gave its arrays back as lists; other columns are ignored.

        Raises ValueError for no rows, which would not say what was measured, and for rows without features.
        """
        if not rows:
            raise ValueError("no rows of features, so it is not known what was measured")
        if absent := {"faces", "box", "face_score"} - rows[0].keys():
            raise ValueError(f"rows without {' and '.join(sorted(absent))} hold no features")

        def named(prefix: str) -> list[str]:
            return [name[len(prefix) :] for name in rows[0] if name.startswith(prefix)]

        def floats(column: str) -> np.ndarray:
            return np.array([row[column] for row in rows], dtype=np.float32)

        return Gallery(
            faces=np.array([row["faces"] for row in rows], dtype=np.int32),
            boxes=floats("box"),
            embeddings={name: floats(EMBEDDING + name) for name in named(EMBEDDING)},
            images={name: floats(IMAGE + name) for name in named(IMAGE)},
            seen={name: [str(row[SEEN + name]) for row in rows] for name in named(SEEN)},
            scores=floats("face_score"),
        )


def _groups(gallery: Gallery) -> dict[str, Mapping[str, Any]]:
    return {EMBEDDING: gallery.embeddings, IMAGE: gallery.images, SEEN: gallery.seen}


def _columns(gallery: Gallery) -> set[str]:
    return {prefix + name for prefix, columns in _groups(gallery).items() for name in columns}


def _indices(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    chosen = np.asarray(rows)
    return chosen if chosen.size else chosen.astype(np.int64)  # an empty list is of floats
