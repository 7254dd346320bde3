"""Whether the scene classifier reads what the prompts expect, asked before anything is drawn.

A classifier may say its words in an attribute `vocabulary`, {factor: words}; then a misspelt word is found as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from adaface.evaluation.entry_points import open_entry_point

if TYPE_CHECKING:
    from adaface.evaluation.config import MeasuresConfig
    from adaface.evaluation.prompts import Prompt

_SIDE = 64  # px of the picture that it is asked about


def factor_problems(measures: MeasuresConfig, prompts: Iterable[Prompt]) -> Iterator[str]:
    """One sentence for factors that the classifier does not read, and one for each word that it does not know.

    Opens the classifier and shows it one grey picture; does nothing where no metric asks for it. Raises as
    `open_entry_point`.
    """
    prompts = list(prompts)
    expected = sorted({factor for prompt in prompts for factor in prompt.expects})
    told = measures.scene_classifier
    if told is None or not expected or "composition" not in (measures.metrics or ("composition",)):
        return
    reader = open_entry_point(told.entry_point, told.settings)
    seen = reader([np.full((_SIDE, _SIDE, 3), 128, np.uint8)])
    if unread := [factor for factor in expected if factor not in seen]:
        yield (
            f"prompts expect {', '.join(unread)}, but the scene classifier {told.entry_point} reads only "
            f"{', '.join(seen) or 'nothing'}; take these words out of `expects`, or leave composition out of "
            "measures.metrics"
        )
    known = getattr(reader, "vocabulary", {})
    for prompt in prompts:
        for factor, word in prompt.expects.items():
            if factor in known and word not in known[factor]:
                near = difflib.get_close_matches(word, known[factor], n=1)
                yield (
                    f"prompt {prompt.id} expects {factor}: {word}, which the scene classifier does not know; "
                    + (f"did you mean {near[0]}?" if near else f"it knows {', '.join(known[factor])}")
                )
