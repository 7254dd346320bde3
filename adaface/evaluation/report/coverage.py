"""How many of the pictures that could have a value have one: a mean over a few of them says little about a method."""

from __future__ import annotations

import numpy as np

from adaface.evaluation.report.data import ReportData

LEAST = 0.5  # of a method's pictures, below which its mean is not compared with others
COMPOSITION = "composition"


def covered(data: ReportData, method: str, column: str) -> tuple[int, int]:
    """(pictures of the method with a value, those that could have one); of shares of the teacher (0, 0).

    Of a composition column those could have one whose prompt asks for it: no method can do anything about the others.
    """
    if column not in data.scores:
        return 0, 0
    own = np.asarray(data.scores["method"]) == method
    if column == COMPOSITION or column.startswith(f"{COMPOSITION}_"):
        factor = column.removeprefix(COMPOSITION).removeprefix("_")
        asking = {prompt.id for prompt in data.prompts if (factor in prompt.expects if factor else prompt.expects)}
        # a set of prompts that does not say what it expects has no such columns
        own &= np.isin(np.asarray(data.scores["prompt_id"]).astype(str), sorted(asking)) if asking else True
    known = np.isfinite(data.values(column))
    return int((own & known).sum()), int(own.sum())


def is_thin(data: ReportData, method: str, column: str) -> bool:
    """Whether the mean is over less than half of the pictures."""
    known, asked = covered(data, method, column)
    return known < LEAST * asked


def thin_words(data: ReportData, method: str, column: str) -> str:
    """`3 of 42 pictures` where that is less than half, else ""."""
    known, asked = covered(data, method, column)
    return f"{known:,} of {asked:,} pictures" if 0 < known < LEAST * asked else ""
