"""Are the pictures of one prompt different from one another?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table


class Diversity:
    """diversity: 1 - CLIP cosine to the pictures of the same method, subject and prompt from other seeds, mean over them.

    Range 0..2; 0 is the same picture from every seed. More is not always better: strangers differ more than pictures of
    one person do, so it is to be read beside the identity. As a mean of pairwise distances it follows the LPIPS
    diversity of Arc2Face (Papantoniou et al. 2024, arXiv 2403.11641), with CLIP for LPIPS. nan for a single picture.
    Model: `measures.clip`.
    """

    name = "diversity"
    about = "1 - CLIP cosine between pictures of one prompt from different seeds; 0 is always the same picture."
    needs: tuple[str, ...] = ("clip",)

    def __init__(self) -> None:
        self.columns: dict[str, Direction] = {"diversity": "none"}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        groups: dict[tuple[str, str, str], list[int]] = {}
        for row, picture in enumerate(table.pictures):
            groups.setdefault((picture.method, picture.subject, picture.prompt_id), []).append(row)
        images, diversity = table.features.images["clip"].astype(np.float64), table.nothing()
        for rows in groups.values():
            if len(rows) > 1:
                among = images[rows] @ images[rows].T
                diversity[rows] = 1 - (among.sum(axis=1) - np.diagonal(among)) / (len(rows) - 1)
        return {"diversity": diversity}
