"""From the scores of pictures to statements about methods: means, intervals over subjects, shares of the teacher.

The mean of a method is the mean over subjects of their means over pictures: a subject with more pictures, or with more
pictures on which a face was found, counts no more than another. Scores that are undefined (nan) are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adaface.evaluation.bootstrap import CONFIDENCE, drawn_means, interval, mean_over_subjects, quotient, subject_draws
from adaface.evaluation.parity_means import counted
from adaface.evaluation.score_rows import ScoreRows

GAP = "gap_"  # columns of the identity gap; what follows names the recogniser
SHARE = "identity_"  # columns of `Summary.derived`
DIRECTIONS = ("higher", "lower", "none")  # which values of a column are the better ones

Cell = dict[str, Any]  # "mean", "low", "high", "subjects", "images"; None where undefined


@dataclass(frozen=True)
class Summary:
    """What an evaluation found. Cells are {"mean", "low", "high", "subjects", "images"}, None where undefined.

    Attributes:
        methods, categories, prompts: in the order of their first rows.
        subjects: sorted.
        columns: column -> "higher", "lower" or "none".
        overall: [method][column], with the 95 % interval over subjects.
        by_category, by_prompt: [method][category or prompt_id][column], the same.
        by_subject: [method][subject][column], {"mean", "images"}: an interval over subjects has no meaning for one, and
            pictures of one person are no independent draws that it could be over.
        derived: [method]["identity_R"] for every recogniser R: where the method's identity gap lies between the
            baseline's, 0, and the teacher's, 1.
        ceiling: what real photographs reach, as it was given.
        draws: {"draws", "seed", "confidence"} of the bootstrap.
    """

    methods: list[str]
    subjects: list[str]
    categories: list[str]
    prompts: list[str]
    columns: dict[str, str]
    teacher: str | None
    baseline: str | None
    overall: dict[str, dict[str, Cell]]
    by_category: dict[str, dict[str, dict[str, Cell]]]
    by_subject: dict[str, dict[str, dict[str, Cell]]]
    by_prompt: dict[str, dict[str, dict[str, Cell]]]
    derived: dict[str, dict[str, Cell]]
    ceiling: dict[str, Any]
    draws: dict[str, Any]
    # [method][column] -> (subjects,), and how often each subject is in each draw
    _means: dict[str, dict[str, np.ndarray]] = field(repr=False)
    _counts: np.ndarray = field(repr=False)

    def difference(self, column: str, a: str, b: str) -> Cell:
        """{"mean", "low", "high", "subjects"} of `a` minus `b` on the subjects that both have a value for.

        An interval that does not hold 0 tells the methods apart with these subjects. Raises ValueError for unknown
        names.
        """
        for kind, name, known in (("column", column, self.columns), *(("method", m, self.methods) for m in (a, b))):
            if name not in known:
                raise ValueError(f"there is no {kind} {name!r}; known are {', '.join(known)}")
        apart = self._means[a][column] - self._means[b][column]
        subjects = int((~np.isnan(apart)).sum())
        low, high = interval(drawn_means(self._counts, apart), subjects)
        return _plain({"mean": mean_over_subjects(apart), "low": low, "high": high, "subjects": subjects})

    def to_dict(self) -> dict[str, Any]:
        """For JSON; "differences" holds `difference` as [a][b][column], each pair of methods once, in their order."""
        pairs = [(a, b) for row, a in enumerate(self.methods) for b in self.methods[row + 1 :]]
        differences: dict[str, dict[str, dict[str, Cell]]] = {}
        for a, b in pairs:
            differences.setdefault(a, {})[b] = {column: self.difference(column, a, b) for column in self.columns}
        names = (name for name in self.__dataclass_fields__ if not name.startswith("_"))
        return {name: getattr(self, name) for name in names} | {"differences": differences}


def summarise(
    scores: Mapping[str, Any],
    *,
    metrics: Mapping[str, str],
    bootstrap: int = 2000,
    seed: int = 42,
    teacher: str | None = None,
    baseline: str | None = None,
    ceiling: Mapping[str, Any] | None = None,
) -> Summary:
    """Summarise N rows, one per picture, in any order.

    Args:
        scores: columns of length N: "method", "subject", "prompt_id", "category", "k", and those of `metrics`, floats
            with nan where a score is undefined.
        metrics: column -> "higher", "lower" or "none".
        bootstrap: draws of the subjects.
        seed: of the draws.
        teacher: the method whose identity gap counts as 1, where there is one.
        baseline: the method whose identity gap counts as 0, where there is one.
        ceiling: kept as it is; nan becomes None.

    Raises ValueError for columns that are missing or of unequal length, pictures that come twice, infinite scores, and
    names of methods without rows; all of them at once.
    """
    roles = {"teacher": teacher, "baseline": baseline}
    rows = ScoreRows(scores, list(metrics))
    if problems := [*rows.problems(), *_problems(rows, metrics, roles, bootstrap)]:
        raise ValueError("\n".join(problems))
    counts = subject_draws(len(rows.subjects), bootstrap, seed)

    overall: dict[str, dict[str, Cell]] = {}
    by_category: dict[str, dict[str, dict[str, Cell]]] = {}
    by_subject: dict[str, dict[str, dict[str, Cell]]] = {}
    by_prompt: dict[str, dict[str, dict[str, Cell]]] = {}
    means: dict[str, dict[str, np.ndarray]] = {}
    for method, own in rows.parts("method"):
        table = rows.per_subject(own)
        means[method] = {column: counted(column, mean) for column, (mean, _) in table.items()}
        overall[method] = _cells(table, counts)
        by_category[method] = {
            category: _cells(rows.per_subject(part), counts) for category, part in rows.parts("category", own)
        }
        by_prompt[method] = {
            prompt: _cells(rows.per_subject(part), counts) for prompt, part in rows.parts("prompt_id", own)
        }
        by_subject[method] = {
            subject: {column: _of_one(*of) for column, of in rows.per_subject(part).items()}
            for subject, part in rows.parts("subject", own)
        }
    return Summary(
        methods=rows.names["method"],
        subjects=rows.subjects,
        categories=rows.names["category"],
        prompts=rows.names["prompt_id"],
        columns=dict(metrics),
        teacher=teacher,
        baseline=baseline,
        overall=overall,
        by_category=by_category,
        by_subject=by_subject,
        by_prompt=by_prompt,
        derived=_shares(means, counts, teacher, baseline),
        ceiling=_plain(dict(ceiling or {})),
        draws={"draws": bootstrap, "seed": seed, "confidence": CONFIDENCE},
        _means=means,
        _counts=counts,
    )


def _problems(
    rows: ScoreRows, metrics: Mapping[str, str], roles: Mapping[str, str | None], bootstrap: int
) -> list[str]:
    methods = rows.names["method"]
    problems = [
        f"the {role} {name!r} has no scores; methods are {', '.join(methods)}"
        for role, name in roles.items()
        if name is not None and name not in methods
    ]
    problems += [
        f"{column}: a direction is one of {', '.join(DIRECTIONS)}, not {direction!r}"
        for column, direction in metrics.items()
        if direction not in DIRECTIONS
    ]
    if bootstrap < 1:
        problems.append(f"bootstrap must be at least 1 draw, not {bootstrap}")
    return problems


def _cells(table: Mapping[str, tuple[np.ndarray, np.ndarray]], counts: np.ndarray) -> dict[str, Cell]:
    return {column: _cell(counted(column, means), images, counts) for column, (means, images) in table.items()}


def _cell(means: np.ndarray, images: np.ndarray, counts: np.ndarray) -> Cell:
    """The pictures are those with a value, of the subjects that count."""
    known = ~np.isnan(means)
    subjects = int(known.sum())
    low, high = interval(drawn_means(counts, means), subjects)
    mean = mean_over_subjects(means)
    return _plain({"mean": mean, "low": low, "high": high, "subjects": subjects, "images": int(images[known].sum())})


def _of_one(means: np.ndarray, images: np.ndarray) -> Cell:
    """Of one subject: without an interval."""
    return _plain({"mean": mean_over_subjects(means), "images": int(images.sum())})


def _shares(
    means: Mapping[str, Mapping[str, np.ndarray]], counts: np.ndarray, teacher: str | None, baseline: str | None
) -> dict[str, dict[str, Cell]]:
    """identity_R = (gap - baseline's gap) / (teacher's gap - baseline's gap), all three on the same subjects and draws.

    None where the teacher is no better than the baseline, and no interval where it is not in every draw: the quotient
    then has no bounds.
    """
    if teacher is None or baseline is None or teacher == baseline:
        return {}
    shares: dict[str, dict[str, Cell]] = {}
    for method, columns in means.items():
        shares[method] = {}
        for column in columns:
            if not column.startswith(GAP):
                continue
            above = columns[column] - means[baseline][column]
            whole = means[teacher][column] - means[baseline][column]
            both = np.isnan(above) | np.isnan(whole)
            above, whole = np.where(both, np.nan, above), np.where(both, np.nan, whole)
            mean = low = high = float("nan")
            if mean_over_subjects(whole) > 0:
                mean, low, high = quotient(above, whole, counts)
            subjects = int((~both).sum())
            shares[method][SHARE + column.removeprefix(GAP)] = _plain(
                {"mean": mean, "low": low, "high": high, "subjects": subjects}
            )
    return shares


def _plain(value: Any) -> Any:
    """As JSON has it: plain numbers, None for nan."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inside) for name, inside in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(inside) for inside in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
