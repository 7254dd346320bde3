"""How much of the base model's picture is still there?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table


class BaseDisturbance:
    """undisturbed: CLIP cosine to the picture that the class word gives with the same prompt and the same seed.

    PuLID's CLIP-I (Guo et al. 2024, arXiv 2404.16022): a subject should change the person in the picture and nothing
    else. Range -1..1; 1 is the very same picture. nan for the class-word method itself, and where its picture of the
    same subject, prompt and number is not in the table. Model: `measures.clip`.
    """

    name = "base_disturbance"
    about = (
        "CLIP cosine to the class word's picture of the same prompt and seed: 1 leaves the base model's picture alone."
    )
    needs: tuple[str, ...] = ("clip", "baseline")

    def __init__(self) -> None:
        self.columns: dict[str, Direction] = {"undisturbed": "higher"}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        plain = {
            (picture.subject, picture.prompt_id, picture.k): row
            for row, picture in enumerate(table.pictures)
            if picture.method == table.baseline
        }
        pairs = [
            (row, plain[key])
            for row, picture in enumerate(table.pictures)
            if picture.method != table.baseline and (key := (picture.subject, picture.prompt_id, picture.k)) in plain
        ]
        undisturbed = table.nothing()
        if pairs:
            rows, others = np.array(pairs).T
            images = table.features.images["clip"].astype(np.float64)
            undisturbed[rows] = np.einsum("nd,nd->n", images[rows], images[others])
        return {"undisturbed": undisturbed}
