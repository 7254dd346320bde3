"""Reading the summary: an estimate with its interval, and which method is best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaface.evaluation.report.coverage import is_thin
from adaface.evaluation.report.data import Column, ReportData

# Of fewer, what is called a 95 % interval is none: with 4 it holds the true mean in 79 % of cases (see `bootstrap`), and
# with 2 it is no more than the two values.
LEAST_SUBJECTS = 4


@dataclass(frozen=True)
class Estimate:
    """A mean over subjects and its 95 % interval, nan where undefined; `subjects` 0: not known how many."""

    mean: float
    low: float
    high: float
    subjects: int = 0
    images: int | None = None  # None where shares of other estimates are meant

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.mean))

    @property
    def bounded(self) -> bool:
        """Whether there is an interval that is worth its name."""
        few = 0 < self.subjects < LEAST_SUBJECTS
        return bool(np.isfinite(self.low) and np.isfinite(self.high)) and not few

    def ends(self) -> list[float]:
        """All finite numbers of it that are shown, for the range of an axis."""
        shown = (self.mean, self.low, self.high) if self.bounded else (self.mean,)
        return [value for value in shown if np.isfinite(value)]


def number(value: Any) -> float:
    """None and what is no number become nan."""
    return float(value) if isinstance(value, int | float | np.number) else float("nan")


def estimate(cell: Mapping[str, Any] | None) -> Estimate:
    """A cell of the summary or a row of the history; None gives an unknown estimate."""
    cell = cell or {}
    images = cell.get("images")
    return Estimate(
        number(cell.get("mean")),
        number(cell.get("low")),
        number(cell.get("high")),
        int(cell.get("subjects") or 0),
        None if images is None else int(images),
    )


def overall(data: ReportData, method: str, column: str) -> Estimate:
    """Of a measured or derived column."""
    for part in ("overall", "derived"):
        cell = data.summary.get(part, {}).get(method, {}).get(column)
        if cell is not None:
            return estimate(cell)
    return estimate(None)


def by_category(data: ReportData, method: str, category: str, column: str) -> Estimate:
    return estimate(data.summary.get("by_category", {}).get(method, {}).get(category, {}).get(column))


def of_group(data: ReportData, kind: str, method: str, key: str, column: str) -> Estimate:
    """Of one prompt (`kind` "prompt"), or of one subject ("subject"), which has no interval over subjects."""
    return estimate(data.summary.get(f"by_{kind}", {}).get(method, {}).get(key, {}).get(column))


def ceiling(data: ReportData, recogniser: str) -> float:
    """Mean cosine between two photos of one person, over subjects; nan where it was not measured."""
    given = data.summary.get("ceiling") or {}
    value = given.get(recogniser)
    if isinstance(value, Mapping):
        value = value.get("mean")
    if np.isfinite(number(value)):
        return number(value)
    known = [number(subject.ceiling.get(recogniser)) for subject in data.subjects]
    known = [one for one in known if np.isfinite(one)]
    return float(np.mean(known)) if known else float("nan")


def recognisers(data: ReportData) -> list[str]:
    """Names of the face recognisers, that of the captions first."""
    return sorted(data.recognisers, key=lambda name: name != data.recogniser)


def by_definition(data: ReportData, method: str, column: str) -> bool:
    """The baseline has 0 and the teacher 1 of a share of the teacher's identity, whatever was drawn."""
    return column.startswith("identity_") and method in (data.baseline, data.teacher)


def best(data: ReportData, column: str, about: Column) -> tuple[str | None, set[str]]:
    """The best method, and those that the run cannot tell from it: their paired difference has 0 in its interval.

    A mean over less than half of a method's pictures takes no part. Where several methods are the best, as those with
    values of `about.enough` or better are, none is named and all of them are in the set. (None, empty) where fewer than
    two methods have a value, or no value is better than another.
    """
    known = {
        method.name: found.mean
        for method in data.methods
        if (found := overall(data, method.name, column)).known
        and not by_definition(data, method.name, column)
        and not is_thin(data, method.name, column)
    }
    sign = 1 if about.direction == "higher" else -1
    most = np.inf if about.enough is None else sign * about.enough
    worth = {method: min(sign * mean, most) for method, mean in known.items()}
    if about.direction == "none" or len(set(worth.values())) < 2:
        return None, set()
    first = [method for method in worth if worth[method] == max(worth.values())]
    level = {method for method in worth if method not in first and _same(data, column, first[0], method)}
    return (first[0], level) if len(first) == 1 else (None, level | set(first))


def _same(data: ReportData, column: str, a: str, b: str) -> bool:
    differences = data.summary.get("differences", {})
    cell = differences.get(a, {}).get(b, {}).get(column) or differences.get(b, {}).get(a, {}).get(column)
    found = estimate(cell)
    if found.bounded:
        return found.low <= 0 <= found.high
    # shares of the teacher have no stored difference: their intervals then decide
    one, other = overall(data, a, column), overall(data, b, column)
    return one.bounded and other.bounded and one.low <= other.high and other.low <= one.high


def columns_in(data: ReportData, *, main: bool = False) -> Iterator[tuple[str, Column]]:
    """Columns with a value for any method, in the order of the report."""
    for name, about in data.columns.items():
        if main and not about.main:
            continue
        if any(overall(data, method.name, name).known for method in data.methods):
            yield name, about
