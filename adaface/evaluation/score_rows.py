"""The columns of scores, checked, in an order of their own: equal rows give equal sums to the last bit, however they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adaface.evaluation.parity_means import is_parity, subject_means

KEYS = ("method", "subject", "prompt_id", "k")  # which picture a row is about
TEXTS = ("method", "subject", "prompt_id", "category")


class ScoreRows:
    """N rows, one per picture.

    Attributes:
        names: the different values of the text columns, in the order of their first rows as given; subjects sorted.

    Raises ValueError for columns that are missing or of unequal length, and where there are no rows.
    """

    def __init__(self, scores: Mapping[str, Any], metrics: Sequence[str]):
        needed = list(dict.fromkeys((*TEXTS, "k", *metrics)))
        if missing := [name for name in needed if name not in scores]:
            raise ValueError(f"the scores have no column {', '.join(missing)}; they have {', '.join(scores)}")
        given = {name: np.asarray(scores[name]) for name in needed}
        lengths = {name: len(column) for name, column in given.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of the scores have unequal lengths: {lengths}")
        if not lengths["method"]:
            raise ValueError("there are no scores to summarise")
        texts = {name: given[name].astype(str) for name in TEXTS}
        self.names = {name: [str(value) for value in dict.fromkeys(column)] for name, column in texts.items()}
        self.names["subject"].sort()
        order = np.lexsort((given["k"].astype(np.int64), texts["prompt_id"], texts["subject"], texts["method"]))
        self._keys = [(*(str(texts[name][row]) for name in KEYS[:3]), int(given["k"][row])) for row in order]
        self._codes = {name: _codes(column[order], self.names[name]) for name, column in texts.items()}
        self._values = {name: given[name][order].astype(np.float64) for name in metrics}

    @property
    def subjects(self) -> list[str]:
        return self.names["subject"]

    def problems(self) -> list[str]:
        """Scores that no mean can be taken of."""
        problems = [
            f"{name}: {infinite} scores are infinite"
            for name, column in self._values.items()
            if (infinite := int(np.isinf(column).sum()))
        ]
        twice = [key for key, after in zip(self._keys, self._keys[1:], strict=False) if key == after]
        if twice:
            named = ", ".join(f"{key} {value}" for key, value in zip(KEYS, twice[0], strict=True))
            problems.append(f"{len(twice)} pictures come twice, the first of them is {named}")
        return problems

    def parts(self, name: str, among: np.ndarray | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """(value, its rows (N,) bool) for the values of a text column that are among the given rows."""
        for code, value in enumerate(self.names[name]):
            rows = self._codes[name] == code
            if among is not None:
                rows &= among
            if rows.any():
                yield value, rows

    def per_subject(self, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{metric: (means (S,), pictures (S,))} of some rows; nan and 0 for subjects without a defined score.

        Of the columns of parity the means are the original's, see `parity_means`.
        """
        subject, size = self._codes["subject"][rows], len(self.subjects)
        table = {}
        for column, values in self._values.items():
            x = values[rows]
            known = ~np.isnan(x)
            pictures = np.bincount(subject[known], minlength=size)
            total = np.bincount(subject[known], weights=x[known], minlength=size)
            means = np.divide(total, pictures, out=np.full(size, np.nan), where=pictures > 0)
            if is_parity(column):
                means = subject_means(x, subject, self._codes["prompt_id"][rows], size)
            table[column] = (means, pictures)
        return table


def _codes(column: np.ndarray, names: Sequence[str]) -> np.ndarray:
    number = {name: code for code, name in enumerate(names)}
    return np.array([number[value] for value in column.tolist()], dtype=np.int64)
