"""Which method is called the best, and over how many pictures a mean is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adaface.evaluation.reference_faces import ReferenceFaces
from adaface.evaluation.report import ReportData, build_report, markdown
from adaface.evaluation.report.coverage import covered, is_thin, thin_words
from adaface.evaluation.report.estimates import best
from adaface.evaluation.report.tables import measure_groups, prompt_table, subject_table
from adaface.evaluation.report.verdict import gaps_in_measurement

Make = Callable[..., ReportData]
METHODS = ("class-word", "teacher", "adaface", "third")


def with_copying(data: ReportData, means: dict[str, float], pictures: dict[str, int]) -> ReportData:
    """The same run with other values of copy_pack: the first so many pictures of each method have its mean."""
    values = np.full(len(data), np.nan)
    overall: dict[str, Any] = {}
    for method, mean in means.items():
        rows = np.flatnonzero(np.asarray(data.scores["method"]) == method)[: pictures[method]]
        values[rows] = mean
        cell = {"mean": mean if len(rows) else None, "low": mean, "high": mean, "subjects": 9, "images": len(rows)}
        overall[method] = data.summary["overall"][method] | {"copy_pack": cell}
    differences = {
        a: {
            b: {"copy_pack": dict.fromkeys(("mean", "low", "high"), means[a] - means[b]) | {"subjects": 9}}
            for b in means
        }
        for a in means
    }
    summary = {**data.summary, "overall": overall, "differences": differences}
    return replace(data, summary=summary, scores={**data.scores, "copy_pack": values})


@pytest.fixture(scope="module")
def four(make: Make) -> ReportData:
    """144 pictures of each of four methods."""
    return make(methods=METHODS)


def test_a_mean_over_few_pictures_is_not_the_best(four: ReportData) -> None:
    """Copying is lower where the person is seldom to be seen at all."""
    means = {"class-word": 0.05, "teacher": 0.4, "adaface": 0.2, "third": 0.3}
    data = with_copying(four, means, {"class-word": 3, "teacher": 144, "adaface": 72, "third": 144})
    assert covered(data, "class-word", "copy_pack") == (3, 144) and is_thin(data, "class-word", "copy_pack")
    assert not is_thin(data, "adaface", "copy_pack")  # half is enough
    assert best(data, "copy_pack", data.columns["copy_pack"]) == ("adaface", set())
    cells = next(
        row["cells"]
        for group in measure_groups(data, main=True)
        for row in group["rows"]
        if row["name"] == "copy_pack"
    )
    assert [cell["thin"] for cell in cells] == ["3 of 144 pictures", "", "", ""]
    assert cells[2]["title"] == "9 subjects, 72 of 144 pictures"
    assert "3 of 144 pictures" in build_report(data) and "0.050 (0.050–0.050), 3 of 144 pictures" in markdown(data)


def test_no_copying_is_level_however_far_below_zero(four: ReportData) -> None:
    means = {"class-word": 0.5, "teacher": 0.2, "adaface": -0.8, "third": -0.01}
    data = with_copying(four, means, dict.fromkeys(METHODS, 144))
    assert best(data, "copy_pack", data.columns["copy_pack"]) == (None, {"adaface", "third"})
    means |= {"teacher": -0.1, "class-word": -0.2}
    data = with_copying(four, means, dict.fromkeys(METHODS, 144))
    assert best(data, "copy_pack", data.columns["copy_pack"]) == (None, set())


def test_composition_is_asked_of_the_prompts_that_name_it(four: ReportData) -> None:
    """Place is the matter of a third of the prompts: no method has a value for the others, and none is to blame."""
    asked = [replace(one, expects={"place": "beach"} if one.category == "place" else {}) for one in four.prompts]
    values = np.where(np.asarray(four.scores["category"]) == "place", 1.0, np.nan)
    data = replace(four, prompts=asked, scores={**four.scores, "composition_place": values})
    assert covered(data, "adaface", "composition_place") == (54, 54)  # 9 subjects, 3 prompts, 2 seeds
    assert thin_words(data, "adaface", "composition_place") == ""


def test_shares_of_the_teacher_have_no_pictures_of_their_own(four: ReportData) -> None:
    assert covered(four, "adaface", "identity_pack") == (0, 0) and not is_thin(four, "adaface", "identity_pack")


def test_a_guard_that_cannot_work_says_why(four: ReportData) -> None:
    said = "Copying of photos was not measured: the methods were given all photos of everybody (subjects.given)"
    assert not [note for note in gaps_in_measurement(four) if note.startswith(said)]
    everything = [replace(subject, given=tuple(range(7))) for subject in four.subjects]
    assert [note for note in gaps_in_measurement(replace(four, subjects=everything)) if note.startswith(said)]


def test_prompts_have_intervals_over_subjects_and_subjects_have_none(four: ReportData) -> None:
    cell = four.summary["by_prompt"]["class-word"]["prompt-0"]["gap_pack"]
    assert cell["low"] < cell["mean"] < cell["high"] and cell["subjects"] == 9
    shown = prompt_table(four)["rows"][0]["cells"][0]["title"]
    sign = "\N{MINUS SIGN}"
    low, high = (f"{cell[end]:.3f}".replace("-", sign) for end in ("low", "high"))
    assert shown == (f"{low} to {high} over 9 subjects" if sign in low + high else f"{low}–{high} over 9 subjects")
    assert f'title="{shown}"' in build_report(four)
    assert {cell["title"] for row in subject_table(four)["rows"] for cell in row["cells"]} == {""}


def test_a_subject_that_may_be_no_person_is_shown_as_that(four: ReportData) -> None:
    dog, person = ReferenceFaces(10, 9, 0.638, 0.65, 0.0), ReferenceFaces(10, 10, 0.8, 0.7, 0.0)
    known = [replace(subject, faces=dog if place == 3 else person) for place, subject in enumerate(four.subjects)]
    data = replace(four, subjects=known)
    rows = subject_table(data)["rows"]
    assert [row["doubt"] for row in rows] == [place == 3 for place in range(9)]
    assert [cell["text"] for cell in rows[3]["photos"][1:]] == ["9 of 10", "0.64"]
    html = build_report(data)
    assert html.count("may be no person</small>") == 1 and "9 of 10</td>" in html
    (note,) = [note for note in gaps_in_measurement(data) if "may be no person" in note]
    assert note.startswith("person3 may be no person: on its photos the detector's median score is 0.64, below 0.70.")
    assert not [note for note in gaps_in_measurement(four) if "may be no person" in note]  # where nothing is known


def test_a_mean_over_few_of_the_subjects_says_so(four: ReportData) -> None:
    """It has no interval, and the run has enough subjects for one."""
    overall = {**four.summary["overall"]["adaface"]}
    overall["copy_pack"] = overall["copy_pack"] | {"subjects": 2}
    summary = {**four.summary, "overall": {**four.summary["overall"], "adaface": overall}}
    groups = measure_groups(replace(four, summary=summary), main=True)
    (row,) = [row for group in groups for row in group["rows"] if row["name"] == "copy_pack"]
    cell = row["cells"][2]
    assert (cell["method"], cell["range"], cell["note"]) == ("adaface", "", "of 2 subjects alone")
