"""Does the whole picture look like the reference photos?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table, mean_cosine

CLIP = "clip"


class ImageSimilarity:
    """Cosine of features of the whole picture to those of all reference photos, mean over the photos.

    Columns: clip_image (CLIP-I) of CLIP, and one of each other encoder by its name, such as dino (DINO of DreamBooth,
    Ruiz et al. 2022, arXiv 2208.12242); compare_folders in evaluation/eval_utils.py of the original. Range -1..1.

    They see hair, clothes and background as well as the person: a picture that copies the photos' scene instead of
    following its prompt has the highest values. Photos without a face count, too. Models: `measures.clip` and
    `measures.image_encoders`.
    """

    name = "image_similarity"
    about = "Cosine of whole-picture features to the reference photos; scenery counts as much as the person."

    def __init__(self, encoders: Sequence[str]):
        self._encoders = {f"{CLIP}_image" if name == CLIP else name: name for name in encoders}
        self.needs: tuple[str, ...] = tuple(encoders)
        self.columns: dict[str, Direction] = dict.fromkeys(self._encoders, "higher")

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        return {column: reference_cosine(table, references, name) for column, name in self._encoders.items()}


def reference_cosine(table: Table, references: Mapping[str, References], encoder: str) -> np.ndarray:
    """(N,) float64, mean over all photos of each picture's subject."""
    images, similar = table.features.images[encoder], table.nothing()
    for own, rows in table.by_subject(references):
        similar[rows] = mean_cosine(images[rows], own.gallery.images[encoder])
    return similar
