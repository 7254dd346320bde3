"""The percentile bootstrap over subjects (Efron 1979): how far a mean would move with other people in the evaluation.

Pictures of one subject are no independent measurements of a method: they share the face, its photos and its prompts. So
whole subjects are drawn, and all methods and columns are computed on the same draws, which makes their differences and
quotients paired.

Of few subjects percentile intervals are too narrow. Measured on normal values, 2,000 experiments each: they hold the
true mean in 79 % of the cases with 4 subjects, 90 % with 8, 92 % with 16, 93 % with 24 and 94.5 % with 48.
"""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.95


def subject_draws(subjects: int, draws: int, seed: int) -> np.ndarray:
    """How often each subject is in each draw of `subjects` of them with replacement: float64 (draws, subjects)."""
    chosen = np.random.default_rng(seed).integers(subjects, size=(draws, subjects))
    counts = np.zeros((draws, subjects))
    np.add.at(counts, (np.arange(draws)[:, None], chosen), 1.0)
    return counts


def mean_over_subjects(values: np.ndarray) -> float:
    """The mean of the subjects that have a value; nan where none has. `values`: (subjects,) with nan for none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def drawn_means(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of `values` (subjects,) in every draw, (draws,); nan where a draw has no subject with a value."""
    known = ~np.isnan(values)
    present = counts @ known.astype(np.float64)
    total = counts @ np.where(known, values, 0.0)
    return np.divide(total, present, out=np.full(len(counts), np.nan), where=present > 0)


def interval(drawn: np.ndarray, subjects: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle 95 % of a statistic's values in all draws; (nan, nan) where nothing can be said.

    Args:
        drawn: (draws,), nan in draws that have no value.
        subjects: how many had a value; fewer than two say nothing about other people.
        confidence: another share than 95 %.
    """
    drawn = drawn[~np.isnan(drawn)]
    if subjects < 2 or not len(drawn):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def quotient(
    part: np.ndarray, whole: np.ndarray, counts: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """(mean of `part` / mean of `whole`, its low, its high), both on the same draws of subjects.

    All nan where the whole is nothing; no interval where it is nothing, or of the other sign, in some draw: the quotient
    then has no bounds.

    Args:
        part, whole: (subjects,), nan for the same subjects.
        counts: of `subject_draws`.
        confidence: of the interval, between 0 and 1.
    """
    mean = mean_over_subjects(whole)
    if not mean or np.isnan(mean):
        return (float("nan"),) * 3
    drawn = drawn_means(counts, whole)
    low = high = float("nan")
    if not (drawn * mean <= 0).any():
        subjects = int((~np.isnan(whole)).sum())
        low, high = interval(drawn_means(counts, part) / drawn, subjects, confidence)
    return mean_over_subjects(part) / mean, low, high
