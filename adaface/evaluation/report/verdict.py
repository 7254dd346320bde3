"""What a run says in a few sentences, what the rules say of it, and what was not measured."""

from __future__ import annotations

import numpy as np

from adaface.evaluation.reference_faces import LEAST_SCORE
from adaface.evaluation.report.data import Column, ReportData, SubjectInfo
from adaface.evaluation.report.estimates import LEAST_SUBJECTS, overall, recognisers
from adaface.evaluation.report.wording import write, write_count, write_percent, write_with_range

SENTENCES = 3  # methods that the first lines speak of


def verdict(data: ReportData) -> list[dict[str, str]]:
    """{"method", "text"} of the first few methods that are judged."""
    told = [(name, _sentence(data, name, first=place == 0)) for place, name in enumerate(data.candidates[:SENTENCES])]
    return [{"method": name, "text": text} for name, text in told if text]


def _sentence(data: ReportData, method: str, first: bool) -> str:
    told = []
    shares = _told(data, method, "identity", True)
    gaps = _told(data, method, "gap", False)
    if shares:
        told.append(f"keeps {_listed(shares)} of the identity that the teacher carries over.")
    elif gaps:
        told.append(f"has an identity gap of {_listed(gaps)}.")
    text = overall(data, method, "clip_text")
    if text.known:
        base = overall(data, data.baseline, "clip_text") if data.baseline and first else None
        beside = f"; the class word alone reaches {write(base.mean)}" if base is not None and base.known else ""
        told.append(f"Text alignment is {write_with_range(text)}{beside}.")
    seen = overall(data, method, "composition")
    if seen.known:
        told.append(f"Of what prompts ask for, {write_with_range(seen, True)} is seen.")
    own = np.asarray(data.scores["method"]) == method
    found = data.values("detected")[own]
    if told and np.isfinite(found).any():
        lost, looked = int((found == 0).sum()), int(np.isfinite(found).sum())
        told.append(
            f"No face in {lost:,} of {write_count(looked, 'picture')}." if lost else "Every picture has a face."
        )
    words = " ".join(told)
    return words if shares or gaps else f": {words}" if words else ""


def _told(data: ReportData, method: str, head: str, share: bool) -> list[str]:
    """0.372 (0.330–0.412) by pack, for every recogniser that has a value."""
    known = [(name, overall(data, method, f"{head}_{name}")) for name in recognisers(data)]
    return [f"{write_with_range(found, share)} by {name}" for name, found in known if found.known]


def finding_rows(data: ReportData) -> list[dict[str, str]]:
    """The findings against the history, the labels of their columns in words."""
    rows = []
    for finding in data.findings:
        column = data.columns.get(finding.column)
        rows.append(
            {
                "level": str(finding.level),
                "method": str(getattr(finding, "method", "")),
                "about": column.label if column else str(finding.column),
                "text": str(finding.text),
            }
        )
    return rows


def gaps_in_measurement(data: ReportData, *, named: bool = True) -> list[str]:
    """What the numbers leave out, as far as the scores show it; subjects are `named` or only counted."""
    notes = []
    if not len(data):
        return ["No picture was scored, so there is nothing to show but how it was asked for."]
    subjects = len({str(name) for name in data.scores["subject"]})
    if subjects == 1:
        notes.append("There is one subject: nothing can be said about other people, so there are no intervals.")
    elif subjects < LEAST_SUBJECTS:
        notes.append(
            f"There are only {subjects} subjects: too few for intervals, of which the report shows none with fewer than "
            f"{LEAST_SUBJECTS}. Differences between methods may be those of who was drawn."
        )
    elif subjects < 8:
        notes.append(
            f"There are only {subjects} subjects. Intervals over so few are too narrow: those called 95% hold the true mean "
            "in about 79% of cases with 4 subjects, and in 90% with 8."
        )
    if data.baseline is None:
        notes.append("There is no class-word method: nothing says what a stranger scores and what the text allows.")
    if data.teacher is None and any(name.startswith("gap_") for name in data.columns):
        notes.append(
            "There is no teacher in this run, so identity is not given as a share of what a teacher carries over."
        )
    if not recognisers(data):
        notes.append("No face recogniser was at work: nothing here says whether it is the person.")
    elif len(recognisers(data)) == 1:
        notes.append(
            "One recogniser alone judged identity. Where an encoder was trained with it, it flatters that encoder; a second "
            "one that was not used in training would show it."
        )
    if recognisers(data) and subjects < 2 and not any(data.has(f"gap_{name}") for name in recognisers(data)):
        notes.append("With one subject there are no other people to compare with, so there is no identity gap.")
    if not data.has("clip_text") and not data.has("composition"):
        notes.append(
            "Neither CLIP nor a scene classifier was at work: nothing here says whether pictures follow their text."
        )
    if data.subjects and recognisers(data) and not any(_held_back(subject) for subject in data.subjects):
        notes.append(
            "Copying of photos was not measured: the methods were given all photos of everybody (subjects.given), so there is "
            "none to tell a person known from a photo pasted."
        )
    notes += _no_people(data, named)
    notes += _uneven(data)
    empty = [about.label for name, about in data.columns.items() if name in data.scores and not data.has(name)]
    if empty:
        notes.append(f"No picture has a value for: {'; '.join(empty)}.")
    broken = [_lost(data, column, about) for column, about in data.columns.items() if _unexpected(data, column)]
    return notes + broken


def _no_people(data: ReportData, named: bool) -> list[str]:
    found = [(one.name, one.faces.score) for one in data.subjects if one.faces and one.faces.may_be_no_person]
    if not named and found:
        return [
            f"{write_count(len(found), 'subject')} may be no person: the detector's median score on the photos is below "
            f"{LEAST_SCORE:.2f}."
        ]
    return [
        f"{name} may be no person: on its photos the detector's median score is {score:.2f}, below {LEAST_SCORE:.2f}. Its "
        "similarities are of what the detector takes for a face."
        for name, score in found
    ]


def _held_back(subject: SubjectInfo) -> bool:
    """Whether there are photos that the methods were not shown."""
    photos = len(subject.photos) if subject.photo_count is None else subject.photo_count
    return subject.given is not None and len(subject.given) < photos


def _uneven(data: ReportData) -> list[str]:
    """Methods that drew fewer pictures than others are compared on other questions."""
    methods = np.asarray(data.scores["method"])
    counts = {method.name: int((methods == method.name).sum()) for method in data.methods}
    if len(set(counts.values())) < 2:
        return []
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return [f"The methods did not draw the same pictures ({told}): their means are about different questions."]


def _unexpected(data: ReportData, column: str) -> bool:
    """Text alignment needs no face and no expectation: a picture without it was not measured."""
    values = data.values(column)
    return column in ("clip_text", "detected") and data.has(column) and bool((~np.isfinite(values)).any())


def _lost(data: ReportData, column: str, about: Column) -> str:
    missing = int((~np.isfinite(data.values(column))).sum())
    return (
        f"{about.label}: {write_count(missing, 'picture')} ({write_percent(missing / len(data))}) could not be measured and "
        "is left out of the means."
        if missing == 1
        else f"{about.label}: {write_count(missing, 'picture')} ({write_percent(missing / len(data))}) could not be measured "
        "and are left out of the means."
    )


def _listed(parts: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
