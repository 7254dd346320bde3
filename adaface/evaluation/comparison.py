"""Two methods of an evaluation against each other, category by category: what the one adds to the other, and how much of
the way to a third one, the baseline, that is.

Methods drew the same prompts for the same people from the same seeds, so people are compared with themselves: the
interval of a difference is narrower than those of the two means are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaface.evaluation.bootstrap import CONFIDENCE, drawn_means, interval, mean_over_subjects, quotient, subject_draws
from adaface.evaluation.parity_means import counted
from adaface.evaluation.score_rows import ScoreRows

ALL = "all"  # the category of all pictures


@dataclass(frozen=True)
class Comparison:
    """One column in one category. Means are over subjects; nan where undefined.

    Attributes:
        against, method: their means, over the subjects that have both.
        baseline: its mean, over those of them that it has, too.
        difference: `method` minus `against`.
        low, high: its interval.
        kept: (method - baseline) / (against - baseline): 1 is all that `against` has above (or below) the baseline, 0 is
            the baseline again. nan without a baseline, or where the two do not differ.
        kept_low, kept_high: its interval; nan where a draw of subjects has no difference to divide by, or one of the
            other sign.
        subjects: how many have a value of both.
    """

    category: str
    column: str
    baseline: float
    against: float
    method: float
    difference: float
    low: float
    high: float
    kept: float
    kept_low: float
    kept_high: float
    subjects: int


def compare_methods(
    scores: Mapping[str, Any],
    method: str,
    against: str,
    *,
    columns: Sequence[str],
    baseline: str | None = None,
    bootstrap: int = 2000,
    seed: int = 42,
    confidence: float = CONFIDENCE,
) -> list[Comparison]:
    """Every column in every category that both methods have a value in, and, of several, at last in all pictures.

    Args:
        scores: as of `summarise`: a row per picture.
        columns: of floats with nan where a score is undefined.
        bootstrap, seed: draws of the subjects.
        confidence: of the intervals, between 0 and 1.

    Raises ValueError for unknown methods or columns, and for scores that no mean can be taken of.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    rows = ScoreRows(scores, columns)
    named = list(dict.fromkeys(name for name in (method, against, baseline) if name is not None))
    problems = rows.problems()
    problems += [
        f"there is no method {name}; there are {', '.join(rows.names['method'])}"
        for name in named
        if name not in rows.names["method"]
    ]
    if problems:
        raise ValueError("\n".join(problems))
    counts = subject_draws(len(rows.subjects), bootstrap, seed)
    means = {name: _by_category(rows, among) for name, among in rows.parts("method") if name in named}
    found = []
    categories = rows.names["category"]
    if len(categories) > 1 and ALL not in categories:
        categories = [*categories, ALL]
    for category in categories:
        own, other = means[method].get(category), means[against].get(category)
        if own is None or other is None:
            continue
        base = means[baseline].get(category) if baseline is not None else None
        for column in columns:
            if not (np.isnan(own[column]).all() or np.isnan(other[column]).all()):
                values = (own[column], other[column], None if base is None else base[column])
                found.append(_compared(category, column, *values, counts, confidence))
    return found


def _by_category(rows: ScoreRows, among: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Means of the subjects, (S,) by category and column; those of all pictures too, unless a category is called so."""
    parts = [(ALL, among), *rows.parts("category", among)]
    return {
        name: {column: counted(column, means) for column, (means, _) in rows.per_subject(part).items()}
        for name, part in parts
    }


def _compared(
    category: str,
    column: str,
    method: np.ndarray,
    against: np.ndarray,
    baseline: np.ndarray | None,
    counts: np.ndarray,
    confidence: float,
) -> Comparison:
    known = ~np.isnan(method) & ~np.isnan(against)
    subjects = int(known.sum())
    apart = np.where(known, method - against, np.nan)
    low, high = interval(drawn_means(counts, apart), subjects, confidence)
    base, kept = float("nan"), (float("nan"),) * 3
    if baseline is not None:  # which may lack what the two have: the class word has no copied photo
        above, whole = (np.where(known, values - baseline, np.nan) for values in (method, against))
        base = mean_over_subjects(np.where(known, baseline, np.nan))
        kept = quotient(above, whole, counts, confidence)
    return Comparison(
        category=category,
        column=column,
        baseline=base,
        against=mean_over_subjects(np.where(known, against, np.nan)),
        method=mean_over_subjects(np.where(known, method, np.nan)),
        difference=mean_over_subjects(apart),
        low=low,
        high=high,
        kept=kept[0],
        kept_low=kept[1],
        kept_high=kept[2],
        subjects=subjects,
    )


def table(compared: Sequence[Comparison], method: str, against: str, baseline: str | None) -> Iterator[str]:
    """The lines of a Markdown table.

    Where `against` is above the baseline, as in identity, the last cell says which part of that `method` keeps; where it is
    below, as in what a training costs, which part of that `method` gives back.
    """
    first = [baseline] if baseline else []
    last = [f"of what {against} differs from {baseline}"] if baseline else []
    head = ["category", "column", *first, against, method, "difference", *last]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for each in compared:
        cells = [each.category, each.column]
        if baseline:
            cells.append(f"{each.baseline:.3f}")
        cells += [f"{each.against:.3f}", f"{each.method:.3f}"]
        cells.append(f"{each.difference:+.3f} [{each.low:+.3f}, {each.high:+.3f}]")
        if baseline:
            cells.append(_share(each))
        yield f"| {' | '.join(cells)} |"


def _share(each: Comparison) -> str:
    if each.kept_low != each.kept_low:
        return "-"  # too little between the two to have parts
    if each.against > each.baseline:
        return f"{each.kept:.3f} [{each.kept_low:.3f}, {each.kept_high:.3f}] kept"
    return f"{1 - each.kept:.3f} [{1 - each.kept_high:.3f}, {1 - each.kept_low:.3f}] given back"
