"""The numbers that the original's evaluation would have printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table, has_face, mean_cosine
from adaface.evaluation.metrics.image_similarity import reference_cosine
from adaface.evaluation.metrics.text_alignment import text_cosine
from adaface.evaluation.parity_means import FACE, NO_FACE


class Parity:
    """Columns of the original, from features that `ParityReader` made with its preprocessing:

        parity_face        mean cosine to all photos with a face (compare_face_folders, engine insightface); pictures
                           without a face have nan
        parity_no_face     1 for a picture without a face, else 0: the original's share of exceptions
        parity_clip_image  mean cosine to all photos; parity_clip_text to the prompt with the class word (compare_folders)
        parity_dino        mean cosine to all photos, and likewise one column for each other image encoder

    Means over a prompt's pictures are means over the original's pairs of photo and picture; `parity_means` takes its way
    from there on. Range -1..1. Models in the original: antelopev2, ViT-B/32 of OpenAI, facebook/dino-vits16.
    """

    name = "parity"
    about = "The original's numbers with its preprocessing; for comparison with older results only."

    def __init__(self, *, clip: bool, encoders: Sequence[str]):
        self._clip, self._encoders = clip, tuple(encoders)
        self.needs: tuple[str, ...] = ("faces", "parity", *(("clip",) if clip else ()), *self._encoders)
        self.columns: dict[str, Direction] = {FACE: "higher", NO_FACE: "lower"}
        if clip:
            self.columns |= {"parity_clip_image": "higher", "parity_clip_text": "higher"}
        self.columns |= {f"parity_{name}": "higher" for name in self._encoders}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        faces, similar = table.features.embeddings[FACE], table.nothing()
        for own, rows in table.by_subject(references):
            similar[rows] = mean_cosine(faces[rows], own.faces(FACE))
        seen = has_face(faces)
        scores: Scores = {FACE: np.where(seen, similar, np.nan), NO_FACE: (~seen).astype(np.float64)}
        if self._clip:
            scores["parity_clip_image"] = reference_cosine(table, references, "parity_clip")
            scores["parity_clip_text"] = text_cosine(table, "parity_clip")
        for name in self._encoders:
            scores[f"parity_{name}"] = reference_cosine(table, references, f"parity_{name}")
        return scores
