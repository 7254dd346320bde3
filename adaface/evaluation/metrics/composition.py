"""Is everything there that the prompt asks for?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table


class Composition:
    """What a scene classifier sees of the words that a prompt `expects`.

    Columns: composition_FACTOR, 1 where the expected word of that factor is seen and 0 where another is, and
    composition, their mean over the factors that the picture's prompt says anything about. nan where nothing is
    expected. Range 0..1. Model: `measures.scene_classifier`; the miniature's reads place, clothing, head-wear, eye-wear,
    style and light off rendered pictures.
    """

    name = "composition"
    about = "Share of what the prompt asks for (place, clothing, style, ...) that the scene classifier sees."
    needs: tuple[str, ...] = ("seen",)

    def __init__(self, factors: Iterable[str]):
        self._factors = tuple(dict.fromkeys(factors))
        self.columns: dict[str, Direction] = {"composition": "higher"}
        self.columns |= {f"composition_{factor}": "higher" for factor in self._factors}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        """Raises ValueError for factors that the classifier does not read."""
        seen = table.features.seen
        if unread := [factor for factor in self._factors if factor not in seen]:
            raise ValueError(
                f"prompts expect {', '.join(unread)}, but the scene classifier reads only {', '.join(seen) or 'nothing'}"
            )
        hits = np.full((len(self._factors), len(table)), np.nan)
        for row, picture in enumerate(table.pictures):
            expects = table.prompts[picture.prompt_id].expects
            for index, factor in enumerate(self._factors):
                if factor in expects:
                    hits[index, row] = seen[factor][row] == expects[factor]
        asked = ~np.isnan(hits)
        count = asked.sum(axis=0)
        total = np.where(asked, hits, 0.0).sum(axis=0)
        share = np.divide(total, count, out=table.nothing(), where=count > 0)
        return {"composition": share} | {
            f"composition_{factor}": hits[index] for index, factor in enumerate(self._factors)
        }
