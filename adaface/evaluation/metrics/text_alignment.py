"""Does the picture show what the prompt says?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table


class TextAlignment:
    """clip_text: CLIP's cosine between the picture and the prompt with the class word in the subject's place.

    As CLIP-T of the original (compare_folders in evaluation/eval_utils.py), not times 100 and not clipped; in essence
    CLIPScore (Hessel et al. 2021, arXiv 2104.08718). Range -1..1; which values are good depends on the CLIP: 0.25 to
    0.35 for OpenAI's. Model: `measures.clip`.
    """

    name = "text_alignment"
    about = "CLIP cosine between the picture and the prompt, with the class word instead of the subject."
    needs: tuple[str, ...] = ("clip",)

    def __init__(self) -> None:
        self.columns: dict[str, Direction] = {"clip_text": "higher"}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        return {"clip_text": text_cosine(table, "clip")}


def text_cosine(table: Table, encoder: str) -> np.ndarray:
    """(N,) float64, between each picture by `encoder` and its own text. Raises ValueError for a table without texts."""
    if table.text is None:
        raise ValueError("text alignment needs the CLIP features of the prompts; give the table its `text`")
    return np.einsum("nd,nd->n", table.features.images[encoder].astype(np.float64), table.text.astype(np.float64))
