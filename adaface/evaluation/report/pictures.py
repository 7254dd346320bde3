"""The pictures of the page, each with what was measured on it: grids, best and worst cases, those without a face."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaface.evaluation.report.choices import Case, case_limit, cases, file_of, grid_choice, undetected_choice
from adaface.evaluation.report.data import ReportData, SubjectInfo
from adaface.evaluation.report.drawing import hues
from adaface.evaluation.report.thumbnails import Thumbnail, Thumbnails, thumbnail
from adaface.evaluation.report.wording import write

PHOTOS = 4  # references of a person that are shown


class Photos:
    """The first few references of everybody who is shown."""

    def __init__(self, data: ReportData):
        self._photos = {subject.name: subject.photos[:PHOTOS] for subject in data.subjects}
        self._made: dict[str, list[Thumbnail]] = {}

    def of(self, subject: str) -> list[Thumbnail]:
        if subject not in self._made:
            self._made[subject] = [_photo(photo) for photo in self._photos[subject]]
        return self._made[subject]


def shown_grids(data: ReportData, pictures: Thumbnails, photos: Photos) -> list[dict[str, Any]]:
    """People with rows of a photo and a picture by each method."""
    prompts = {prompt.id: prompt for prompt in data.prompts}
    people = {subject.name: subject for subject in data.subjects}
    grids = []
    for name, rows in grid_choice(data):
        person, own = people[name], photos.of(name)
        shown = [
            {
                "prompt": prompts[row.prompt_id].of(person.class_word),
                "category": prompts[row.prompt_id].category,
                "k": row.k,
                "photo": own[place % len(own)] if own else None,
                "photo_number": place % len(own) + 1 if own else 0,
                "held_back": person.given is not None and bool(own) and place % len(own) not in person.given,
                "cells": [
                    _picture(data, row.rows[method.name], pictures) if method.name in row.rows else None
                    for method in data.methods
                ],
            }
            for place, row in enumerate(rows)
        ]
        limit = person.ceiling.get(data.recogniser or "")
        grids.append(
            {
                "name": name,
                "class_word": person.class_word,
                "photos": len(person.photos) if person.photo_count is None else person.photo_count,
                "given": _given(person),
                "ceiling": "" if limit is None or not np.isfinite(limit) else write(float(limit), decimals=2),
                "rows": shown,
            }
        )
    return grids


def shown_cases(data: ReportData, pictures: Thumbnails, photos: Photos) -> list[dict[str, Any]]:
    """Best and worst pictures of each method that is judged; of every method where none is."""
    methods = data.candidates or [method.name for method in data.methods]
    limit = case_limit(data, methods)

    def shown(case: Case) -> dict[str, Any]:
        picture = _picture(data, case.row, pictures)
        own = photos.of(picture["subject"])
        return {**picture, "photo": own[0] if own else None, "weak": _weakness(case)}

    found = []
    for method in methods:
        top, bottom = cases(data, method, limit)
        if top or bottom:
            count = int((np.asarray(data.scores["method"]) == method).sum())
            found.append(
                {
                    "method": method,
                    "pictures": count,
                    "best": [shown(case) for case in top],
                    "worst": [shown(case) for case in bottom],
                }
            )
    return found


def shown_faceless(data: ReportData, pictures: Thumbnails) -> list[dict[str, Any]]:
    """Some pictures without a face."""
    return [_picture(data, row, pictures) for row in undetected_choice(data)]


def _given(person: SubjectInfo) -> int | None:
    """How many of the photos the methods were shown; None for all."""
    photos = len(person.photos) if person.photo_count is None else person.photo_count
    return None if person.given is None or len(person.given) >= photos else len(person.given)


def _photo(photo: np.ndarray) -> Thumbnail:
    try:
        return thumbnail(photo)
    except ValueError:
        return Thumbnail(problem="the photo cannot be shown")


def _picture(data: ReportData, row: int, pictures: Thumbnails) -> dict[str, Any]:
    """One picture with what was measured on it."""
    names = {name: str(data.scores[name][row]) for name in ("method", "subject", "prompt_id", "category")}
    prompt = next(prompt for prompt in data.prompts if prompt.id == names["prompt_id"])
    word = next(subject.class_word for subject in data.subjects if subject.name == names["subject"])
    marks = []
    for column in (f"face_{data.recogniser}", "clip_text"):
        value = float(data.values(column)[row])
        if np.isfinite(value):
            marks.append((data.columns[column].short or data.columns[column].label, write(value, decimals=2)))
    return {
        **names,
        "k": int(data.scores["k"][row]),
        "prompt": prompt.of(word),
        "hue": hues(data)[names["method"]],
        "thumb": pictures.of(file_of(data, row)),
        "marks": marks,
        "faceless": bool(data.values("detected")[row] == 0),
    }


def _weakness(case: Case) -> str:
    """What puts a picture among the worst."""
    known = {name: place for name, place in (("identity", case.identity), ("text", case.text)) if np.isfinite(place)}
    weak = [name for name, place in known.items() if place <= 0.1]
    return " and ".join(weak) or min(known, key=lambda name: known[name])
