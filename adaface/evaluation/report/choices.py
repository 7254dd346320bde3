"""Which pictures the page shows of how many: a fixed choice that looks at names, but for the best and worst cases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from adaface.evaluation.plan import Picture
from adaface.evaluation.report.data import ReportData

# Pictures in all; with 20 kB each at most the page stays below 11 MB, whatever the run.
GRID_PICTURES = 300
CASE_PICTURES = 160
UNDETECTED = 24

T = TypeVar("T")


@dataclass(frozen=True)
class GridRow:
    """One prompt and seed of a subject; `rows`: method -> row of the scores, where the picture exists."""

    prompt_id: str
    k: int
    rows: dict[str, int]


@dataclass(frozen=True)
class Case:
    """A picture that is shown for its scores: places among the method's pictures, 0 the worst, 1 the best."""

    row: int
    identity: float
    text: float


def file_of(data: ReportData, row: int) -> str:
    """The file of a row of the scores."""
    method, subject, prompt_id = (str(data.scores[key][row]) for key in ("method", "subject", "prompt_id"))
    return Picture(method, subject, prompt_id, int(data.scores["k"][row]), seed=0).file


def grid_choice(data: ReportData) -> list[tuple[str, list[GridRow]]]:
    """Subjects with rows of their grids: by hash of the name, prompts from all categories in turn.

    Every row holds one photo and a picture of each method; there are at most GRID_PICTURES in all.
    """
    if not data.grid_prompts:
        return []
    where: dict[tuple[str, str, int], dict[str, int]] = {}
    for row in range(len(data)):
        place = str(data.scores["subject"][row]), str(data.scores["prompt_id"][row]), int(data.scores["k"][row])
        where.setdefault(place, {})[str(data.scores["method"][row])] = row
    seeds: dict[tuple[str, str], list[int]] = {}
    for subject, prompt_id, k in where:
        seeds.setdefault((subject, prompt_id), []).append(k)
    present = {subject for subject, _ in seeds}
    names = sorted((one.name for one in data.subjects if one.name in present), key=_hash)[: data.grid_subjects]
    wide = len(data.methods) + 1
    per_subject = min(data.grid_prompts, GRID_PICTURES // wide // len(names)) if names else 0
    if names and not per_subject:
        per_subject = 1
        names = names[: max(1, GRID_PICTURES // wide)]
    # in the order of the run, whatever the hashes are
    order = [one.name for one in data.subjects]
    chosen = []
    for turn, subject in enumerate(sorted(names, key=order.index)):
        categories: dict[str, list[str]] = {}
        for prompt in sorted(data.prompts, key=lambda prompt: _hash(f"{subject}/{prompt.id}")):
            if (subject, prompt.id) in seeds:
                categories.setdefault(prompt.category, []).append(prompt.id)
        # another category first for each subject, so that few prompts show many
        known = [name for name in dict.fromkeys(prompt.category for prompt in data.prompts) if name in categories]
        start = turn * per_subject % len(known)
        prompts = in_turn([categories[name] for name in known[start:] + known[:start]], per_subject)
        at = {prompt.id: place for place, prompt in enumerate(data.prompts)}
        rows = []
        for prompt_id in sorted(prompts, key=at.__getitem__):
            # the seed that most methods have: a run may have been cut short
            full = {k: where[subject, prompt_id, k] for k in sorted(seeds[subject, prompt_id])}
            k = max(full, key=lambda k: len(full[k]))
            rows.append(GridRow(prompt_id, k, full[k]))
        chosen.append((subject, rows))
    return chosen


def cases(data: ReportData, method: str, limit: int) -> tuple[list[Case], list[Case]]:
    """The best and the worst pictures of a method, at most one of each subject and prompt, none in both lists.

    A picture counts by the weaker of its two places among the method's pictures: in identity, and in text alignment
    compared with the class word's picture of the same subject, prompt and seed, where there is one (some prompts score
    low whoever draws them).
    """
    rows = np.flatnonzero(np.asarray(data.scores["method"]) == method)
    identity, text = _placed(_identity(data)[rows]), _placed(_text(data, method)[rows])
    weaker = np.fmin(identity, text)
    order = np.lexsort((rows, np.nan_to_num(identity) + np.nan_to_num(text), weaker))
    found = [
        Case(int(rows[at]), float(identity[at]), float(text[at])) for at in order.tolist() if np.isfinite(weaker[at])
    ]
    worst = _once(data, found)[:limit]
    taken = {case.row for case in worst}
    best = [case for case in _once(data, reversed(found)) if case.row not in taken][:limit]
    return best, worst


def case_limit(data: ReportData, methods: Sequence[str]) -> int:
    """How many best and how many worst of each method, so that there are at most CASE_PICTURES with their photos."""
    return min(data.cases, CASE_PICTURES // (4 * max(1, len(methods))))


def undetected(data: ReportData) -> np.ndarray:
    """(M,) all rows in whose picture no face was found; empty where nobody looked for one."""
    return np.flatnonzero(data.values("detected") == 0)


def undetected_choice(data: ReportData) -> list[int]:
    """Up to UNDETECTED of them, from all methods in turn."""
    by_method: dict[str, list[int]] = {method.name: [] for method in data.methods}
    for row in undetected(data).tolist():
        by_method[str(data.scores["method"][row])].append(row)
    ordered = [sorted(rows, key=lambda row: _hash(file_of(data, row))) for rows in by_method.values()]
    place = {method: i for i, method in enumerate(by_method)}
    return sorted(in_turn(ordered, UNDETECTED), key=lambda row: (place[str(data.scores["method"][row])], row))


def in_turn(lists: Iterable[Sequence[T]], limit: int) -> list[T]:
    """The first of each list, then the second of each, and so on."""
    lists = [one for one in lists if one]
    chosen = [one[turn] for turn in range(max(map(len, lists), default=0)) for one in lists if turn < len(one)]
    return chosen[:limit]


def _identity(data: ReportData) -> np.ndarray:
    """(N,) what says who is in a picture; the lowest of all where no face was found."""
    name = data.recogniser
    column = next((c for c in (f"gap_{name}", f"face_{name}_or_0", f"face_{name}") if data.has(c)), "")
    values = data.values(column).copy()
    lowest = np.nanmin(values) if np.isfinite(values).any() else 0.0
    values[(data.values("detected") == 0) & data.has(column)] = lowest - 1
    return values


def _text(data: ReportData, method: str) -> np.ndarray:
    """(N,) what says how well a picture follows its prompt, less what the baseline's picture has."""
    column = next((c for c in ("clip_text", "composition") if data.has(c)), "")
    values = data.values(column).copy()
    if data.baseline in (None, method):
        return values
    key = _keys(data)
    base = {
        key[row]: values[row] for row in np.flatnonzero(np.asarray(data.scores["method"]) == data.baseline).tolist()
    }
    return np.array([value - base.get(key[row], np.nan) for row, value in enumerate(values)], np.float64)


def _keys(data: ReportData) -> list[tuple[str, str, int]]:
    columns: list[Any] = [data.scores[name] for name in ("subject", "prompt_id", "k")]
    return [(str(subject), str(prompt), int(k)) for subject, prompt, k in zip(*columns, strict=True)]


def _placed(values: np.ndarray) -> np.ndarray:
    """Places of values among each other, 0 the lowest and 1 the highest, equal ones in the middle of theirs; nan stays."""
    known = np.isfinite(values)
    placed = np.full(len(values), np.nan)
    if not known.any():
        return placed
    unique, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(unique) == 1:
        placed[known] = 0.5
        return placed
    first = np.cumsum(counts) - counts
    placed[known] = ((first + (counts - 1) / 2) / (known.sum() - 1))[inverse]
    return placed


def _once(data: ReportData, ordered: Iterable[Case]) -> list[Case]:
    """The first of each subject and prompt."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for case in ordered:
        about = str(data.scores["subject"][case.row]), str(data.scores["prompt_id"][case.row])
        if about not in seen:
            seen.add(about)
            kept.append(case)
    return kept


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
