"""Whether the scene classifier reads what the prompts expect, asked before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from adaface.evaluation.entry_points import open_entry_point

if TYPE_CHECKING:
    from adaface.evaluation.config import MeasuresConfig
    from adaface.evaluation.prompts import Prompt

_SIDE = 64  # px of the picture that it is asked about


def check_factors(measures: MeasuresConfig, prompts: Iterable[Prompt]) -> None:
    """Opens the classifier and shows it one grey picture; does nothing where no metric asks for it.

    Raises ValueError for factors that it does not read, and as `open_entry_point`.
    """
    expected = sorted({factor for prompt in prompts for factor in prompt.expects})
    told = measures.scene_classifier
    if told is None or not expected or "composition" not in (measures.metrics or ("composition",)):
        return
    reader = open_entry_point(told.entry_point, told.settings)
    seen = reader([np.full((_SIDE, _SIDE, 3), 128, np.uint8)])
    if unread := [factor for factor in expected if factor not in seen]:
        raise ValueError(
            f"prompts expect {', '.join(unread)}, but the scene classifier {told.entry_point} reads only "
            f"{', '.join(seen) or 'nothing'}; take these words out of `expects`, or leave composition out of "
            "measures.metrics"
        )
