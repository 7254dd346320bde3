"""The tables of the page: the headline, every measure, subjects, prompts, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from adaface.evaluation.report.columns import DIRECTIONS, GROUPS
from adaface.evaluation.report.coverage import covered, thin_words
from adaface.evaluation.report.data import Column, ReportData
from adaface.evaluation.report.drawing import hues
from adaface.evaluation.report.estimates import (
    LEAST_SUBJECTS,
    Estimate,
    best,
    by_definition,
    ceiling,
    columns_in,
    number,
    of_group,
    overall,
    recognisers,
)
from adaface.evaluation.report.strips import strip_svg
from adaface.evaluation.report.wording import UNKNOWN, without_credentials, write, write_count, write_range

SUBJECT_ROWS = 200
PROMPT_ROWS = 300
TINTS = 5  # shades of a cell, t0 .. t4
PROVENANCE_ROWS = 400


def measure_groups(data: ReportData, *, main: bool) -> list[dict[str, Any]]:
    """Groups of rows, one per measure, with a cell per method and a drawing of all of them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    colours = hues(data)
    for name, column in columns_in(data, main=main):
        groups.setdefault(column.group, []).append(_measure(data, name, column, colours))
    for rows in groups.values():
        faces = [place for place, row in enumerate(rows) if _similarity_of(row["name"]) in recognisers(data)]
        if faces:
            rows[faces[-1]]["ceilings"] = ceilings(data)
    return [{"title": GROUPS[group], "rows": groups[group]} for group in GROUPS if group in groups]


def _measure(data: ReportData, name: str, column: Column, colours: Mapping[str, str]) -> dict[str, Any]:
    top, level = best(data, name, column)
    estimates = {method.name: overall(data, method.name, name) for method in data.methods}
    recogniser = _similarity_of(name)
    limit = ceiling(data, recogniser) if recogniser else float("nan")
    cells = [
        {
            "method": method,
            "title": _coverage(data, method, name, found) if found.known else "not measured",
            "thin": thin_words(data, method, name),
            "value": write(found.mean, column.share),
            "range": "" if by_definition(data, method, name) else write_range(found, column.share),
            "best": method == top,
            "level": method in level,
            "note": _note(data, method, name, found),
        }
        for method, found in estimates.items()
    ]
    return {
        "name": name,
        "label": column.label,
        "about": column.about,
        "model": column.model,
        "direction": column.direction,
        "better": DIRECTIONS[column.direction],
        "cells": cells,
        "strip": strip_svg(estimates, colours, column, ceiling=limit),
        "ceilings": [],  # shown under the last measure that has one
        "unmeasured": int((~np.isfinite(data.values(name))).sum()) if name in data.scores else 0,
    }


def _similarity_of(column: str) -> str:
    """The recogniser of a column of plain similarities; "" for other columns."""
    return column.removeprefix("face_").removesuffix("_or_0") if column.startswith("face_") else ""


def _coverage(data: ReportData, method: str, column: str, found: Estimate) -> str:
    """What a mean is about."""
    of = write_count(found.subjects, "subject")
    if found.images is None:
        return of
    known, asked = covered(data, method, column)
    some = f"{known:,} of {asked:,} pictures" if known < asked else write_count(found.images, "picture")
    return f"{of}, {some}"


def _note(data: ReportData, method: str, column: str, found: Estimate) -> str:
    """What stands in the place of an interval."""
    if by_definition(data, method, column):
        return "by definition"
    if column == "undisturbed" and method == data.baseline:
        return "the yardstick"
    if column.startswith("copy_") and method == data.baseline:
        return "saw no photo"
    if found.known and 0 < found.subjects < min(LEAST_SUBJECTS, len(data.summary.get("subjects", ()))):
        return f"of {write_count(found.subjects, 'subject')} alone"
    return "" if found.known else "not measured"


def ceilings(data: ReportData) -> list[tuple[str, str]]:
    """(recogniser, cosine between two photos of one person), those that are known."""
    known = [(name, ceiling(data, name)) for name in recognisers(data)]
    return [(name, write(value)) for name, value in known if np.isfinite(value)]


def table_columns(data: ReportData) -> list[tuple[str, Column]]:
    """The measures of the tables of subjects and prompts: identity, text, and faces where some were not found."""
    who = next((name for name in (f"gap_{data.recogniser}", f"face_{data.recogniser}") if data.has(name)), "")
    wanted = [who, "clip_text", "composition"]
    if data.has("detected") and (data.values("detected") == 0).any():
        wanted.append("detected")
    return [(name, data.columns[name]) for name in wanted if name in data.columns and data.has(name)]


def subject_table(data: ReportData) -> dict[str, Any]:
    """A row per subject, in the order of the run."""
    rows: list[dict[str, Any]] = []
    for subject in data.subjects[:SUBJECT_ROWS]:
        limit = number(subject.ceiling.get(data.recogniser or ""))
        faces = subject.faces
        rows.append(
            {
                "name": subject.name,
                "remark": subject.class_word,
                "doubt": faces is not None and faces.may_be_no_person,
                "photos": [
                    _fact(write(limit), limit),
                    _fact(f"{faces.found} of {faces.photos}", faces.found / faces.photos) if faces else _fact(),
                    _fact(write(faces.score, decimals=2), faces.score) if faces else _fact(),
                ],
            }
        )
    return _matrix(data, "subject", [subject.name for subject in data.subjects], rows)


def _fact(text: str = UNKNOWN, value: float = float("nan")) -> dict[str, str]:
    """A cell about the photos of a subject, with what it is sorted by."""
    return {"text": text, "value": f"{value:.6g}" if np.isfinite(value) else ""}


def prompt_table(data: ReportData) -> dict[str, Any]:
    """A row per prompt, in the order of the run."""
    rows: list[dict[str, Any]] = [
        {"name": prompt.text, "remark": prompt.category} for prompt in data.prompts[:PROMPT_ROWS]
    ]
    return _matrix(data, "prompt", [prompt.id for prompt in data.prompts], rows)


def _matrix(data: ReportData, kind: str, keys: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`rows` with cells, measure by measure and in each method by method; shades run over each measure."""
    columns = table_columns(data)
    colours = hues(data)
    for row in rows:
        row["cells"] = []
    for name, column in columns:
        table = [
            [of_group(data, kind, method.name, key, name) for method in data.methods] for key in keys[: len(rows)]
        ]
        means = np.array([[found.mean for found in line] for line in table]).reshape(len(rows), len(data.methods))
        shades = _shades(means, column.direction == "lower")
        for row, line, tints in zip(rows, table, shades.tolist(), strict=True):
            row["cells"] += [
                {
                    "text": write(found.mean, column.share, 2),
                    "title": _interval_words(found, column.share),
                    "value": f"{found.mean:.6g}" if found.known else "",
                    "tint": tint,
                    "first": place == 0,
                }
                for place, (found, tint) in enumerate(zip(line, tints, strict=True))
            ]
    return {
        "columns": [{"label": column.label, "better": DIRECTIONS[column.direction]} for _, column in columns],
        "methods": [{"name": method.name, "hue": colours[method.name]} for method in data.methods],
        "rows": rows,
        "all": len(keys),
    }


def _interval_words(found: Estimate, share: bool) -> str:
    """`0.31–0.42 over 16 subjects`; "" without an interval."""
    span = write_range(found, share)
    return f"{span} over {write_count(found.subjects, 'subject')}" if span else ""


def _shades(means: np.ndarray, lower: bool) -> np.ndarray:
    """0 .. TINTS - 1 over the range of all values, the best the darkest; -1 for none."""
    shades = np.full(means.shape, -1)
    known = np.isfinite(means)
    if not known.any():
        return shades
    low, high = means[known].min(), means[known].max()
    share = (means[known] - low) / (high - low) if high > low else np.zeros(known.sum())
    shades[known] = np.minimum(((1 - share if lower else share) * TINTS).astype(int), TINTS - 1)
    return shades


def undetected_table(data: ReportData) -> list[dict[str, Any]]:
    """For each method: pictures, those without a face, and the prompts where that happened most."""
    found, colours = data.values("detected"), hues(data)
    texts = {prompt.id: prompt.text for prompt in data.prompts}
    rows = []
    for method in data.methods:
        own = (np.asarray(data.scores["method"]) == method.name) & np.isfinite(found)
        lost = own & (found == 0)
        names, counts = np.unique(np.asarray(data.scores["prompt_id"])[lost].astype(str), return_counts=True)
        worst = sorted(zip(counts.tolist(), names.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))[:3]
        rows.append(
            {
                "method": method.name,
                "hue": colours[method.name],
                "images": int(own.sum()),
                "lost": int(lost.sum()),
                "share": float(lost.sum() / own.sum()) if own.any() else float("nan"),
                "prompts": [(texts[name], count) for count, name in worst],
            }
        )
    return rows


def provenance(data: ReportData) -> dict[str, Any]:
    """Rows of (dotted name, value) by section, and texts of several lines."""
    sections: dict[str, list[tuple[str, str]]] = {}
    texts: list[tuple[str, str]] = []
    for name, value in data.provenance.items():
        if isinstance(value, str) and "\n" in value.strip():
            texts.append((str(name), without_credentials(value)))
        elif isinstance(value, Mapping):
            sections[str(name)] = list(_flat(value))
        else:
            sections.setdefault("run", []).extend(_flat({name: value}))
    for method in data.methods:
        if method.provenance:
            sections[f"method {method.name}"] = list(_flat({"kind": method.kind, **method.provenance}))
    return {
        "sections": [(name, rows[:PROVENANCE_ROWS], len(rows)) for name, rows in sections.items() if rows],
        "texts": texts,
    }


def _flat(value: Mapping[str, Any], head: str = "") -> Iterable[tuple[str, str]]:
    for name, inside in value.items():
        if isinstance(inside, Mapping) and inside:
            yield from _flat(inside, f"{head}{name}.")
        elif isinstance(inside, list | tuple):
            yield f"{head}{name}", without_credentials(", ".join(map(str, inside)) or "none")
        else:
            yield f"{head}{name}", "none" if inside in (None, "", {}) else without_credentials(str(inside))
