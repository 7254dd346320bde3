"""Two methods against each other: differences in categories, paired by subject, and what is kept or given back."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.comparison import compare_methods, table

SUBJECTS = 40


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """Style: class .7, stage 1 .5, stage 2 .6. Portrait: .1, .8, .73. A subject's own level is larger than all of that."""
    rng = np.random.default_rng(0)
    level = {
        "style": {"class": 0.7, "stage1": 0.5, "stage2": 0.6},
        "portrait": {"class": 0.1, "stage1": 0.8, "stage2": 0.73},
    }
    rows = []
    for subject in range(SUBJECTS):
        own = rng.normal(0, 0.5)
        for category, methods in level.items():
            for method, value in methods.items():
                for k in range(2):
                    score = value + own + rng.normal(0, 0.01)
                    rows.append((method, f"s{subject:02d}", f"a {category}", category, k, score))
    names = ("method", "subject", "prompt_id", "category", "k", "gap_pack")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def compared(scores, **options):
    options = {"columns": ["gap_pack"], "baseline": "class"} | options
    return {each.category: each for each in compare_methods(scores, "stage2", "stage1", **options)}


def test_differences_are_paired(scores):
    found = compared(scores)
    assert [*found] == ["style", "portrait", "all"]
    style = found["style"]
    assert style.difference == pytest.approx(0.1, abs=0.005) and style.subjects == SUBJECTS
    assert 0.09 < style.low < style.difference < style.high < 0.11  # the subjects' levels, .5 apart, are not in it
    assert style.method - style.against == pytest.approx(style.difference)
    assert style.baseline - style.against == pytest.approx(0.2, abs=0.005)


def test_what_is_kept_of_a_gain_and_given_back_of_a_loss(scores):
    found = compared(scores)
    assert found["portrait"].kept == pytest.approx(0.63 / 0.7, abs=0.005)
    assert found["portrait"].kept_low < found["portrait"].kept < found["portrait"].kept_high
    assert 1 - found["style"].kept == pytest.approx(0.5, abs=0.02)
    lines = [*table([*found.values()], "stage2", "stage1", "class")]
    assert lines[0].split("|")[1:-1] == [
        " category ", " column ", " class ", " stage1 ", " stage2 ", " difference ", " of what stage1 differs from class "
    ]  # fmt: skip
    assert lines[2].endswith("given back |") and lines[3].endswith("kept |")
    assert float(lines[2].split("|")[-2].split()[0]) == pytest.approx(0.5, abs=0.02)


def test_one_category_is_all_there_is(scores):
    one = {name: column[scores["category"] == "style"] for name, column in scores.items()}
    assert [*compared(one)] == ["style"]


def test_a_category_may_be_called_all(scores):
    names = np.where(scores["category"] == "style", "all", scores["category"])
    found = compare_methods(scores | {"category": names}, "stage2", "stage1", columns=["gap_pack"])
    assert [each.category for each in found] == ["all", "portrait"]
    assert found[0].difference == pytest.approx(0.1, abs=0.005)  # of its own pictures


def test_a_part_of_next_to_nothing_is_not_shown(scores):
    """Where some draws of subjects have the baseline above and some below, the quotient says nothing."""
    rng = np.random.default_rng(1)
    near = rng.normal(0, 0.05, len(scores["k"])) * (scores["method"] == "stage1")
    same = {"gap_pack": np.where(scores["method"] == "class", 0.5, 0.501) + near}
    found = compared(scores | same)["style"]
    assert np.isnan(found.kept_low) and np.isnan(found.kept_high)
    (_, _, line) = table([found], "stage2", "stage1", "class")
    assert line.endswith("| - |")


def test_a_method_equals_itself(scores):
    (*_, whole) = compare_methods(scores, "stage1", "stage1", columns=["gap_pack"], baseline="class")
    assert (whole.difference, whole.low, whole.high, whole.kept) == (0, 0, 0, 1)
    (*_, nothing) = compare_methods(scores, "stage2", "stage1", columns=["gap_pack"], baseline="stage1")
    assert np.isnan(nothing.kept)  # no difference to keep anything of


def test_a_smaller_confidence_has_smaller_intervals(scores):
    wide, narrow = compared(scores)["style"], compared(scores, confidence=0.5)["style"]
    assert wide.low < narrow.low < narrow.high < wide.high and wide.difference == narrow.difference
    without = compared(scores, baseline=None)["style"]
    assert np.isnan(without.kept) and without.difference == wide.difference
    assert not any("class" in line for line in table([without], "stage2", "stage1", None))


def test_subjects_without_a_score_are_left_out_of_all_means(scores):
    gone = (scores["subject"] == "s00") & (scores["method"] == "stage2")
    cut = scores | {"gap_pack": np.where(gone, np.nan, scores["gap_pack"])}
    style = compared(cut)["style"]
    assert style.subjects == SUBJECTS - 1
    assert style.method - style.against == pytest.approx(style.difference)


def test_categories_that_one_has_no_score_in_are_left_out(scores):
    gone = (scores["category"] == "style") & (scores["method"] == "stage2")
    assert [*compared({name: column[~gone] for name, column in scores.items()})] == ["portrait", "all"]
    assert [*compared(scores | {"gap_pack": np.where(gone, np.nan, scores["gap_pack"])})] == ["portrait", "all"]


def test_what_cannot_be_compared_is_said(scores):
    with pytest.raises(ValueError, match="there is no method stage3; there are class, stage1, stage2"):
        compare_methods(scores, "stage3", "stage1", columns=["gap_pack"])
    with pytest.raises(ValueError, match="no column clip"):
        compare_methods(scores, "stage2", "stage1", columns=["clip"])
    with pytest.raises(ValueError, match="lies between 0 and 1, not at 95"):
        compared(scores, confidence=95)


def test_a_baseline_without_the_score_takes_nothing_from_the_difference(scores):
    """The class word has no copied photo to compare with: two methods that have one are still compared."""
    of_class = scores["method"] == "class"
    cut = scores | {"gap_pack": np.where(of_class, np.nan, scores["gap_pack"])}
    style, whole = compared(cut)["style"], compared(scores)["style"]
    assert (style.difference, style.low, style.high) == (whole.difference, whole.low, whole.high)
    assert (style.method, style.against, style.subjects) == (whole.method, whole.against, SUBJECTS)
    assert np.isnan(style.baseline) and np.isnan(style.kept)

    half = np.isin(scores["subject"], [f"s{number:02d}" for number in range(SUBJECTS // 2)])
    cut = scores | {"gap_pack": np.where(of_class & half, np.nan, scores["gap_pack"])}
    style = compared(cut)["style"]
    assert style.difference == whole.difference and style.subjects == SUBJECTS
    (other_half,) = (
        each for each in compare_methods(
            {name: column[~half] for name, column in scores.items()},
            "stage2", "stage1", columns=["gap_pack"], baseline="class",
        ) if each.category == "style"
    )  # fmt: skip
    assert style.baseline == other_half.baseline and style.kept == pytest.approx(other_half.kept)


def test_faces_that_parity_leaves_out_are_left_out_here_too(scores):
    """The original drops people whose mean is not above 0; the report does for its column, and so must this."""
    levels = {"stage1": (0.5, 0.5, 0.3, 0.6), "stage2": (0.5, 0.4, -0.2, 0.6)}
    rows = [(method, f"s{place}", value) for method, values in levels.items() for place, value in enumerate(values)]
    table_of = {
        "method": np.array([row[0] for row in rows]),
        "subject": np.array([row[1] for row in rows]),
        "prompt_id": np.array(["a"] * 8),
        "category": np.array(["style"] * 8),
        "k": np.zeros(8, int),
        "parity_face": np.array([row[2] for row in rows]),
    }
    (found,) = compare_methods(table_of, "stage2", "stage1", columns=["parity_face"])
    assert found.method == pytest.approx(0.5) and found.subjects == 3
    assert found.difference == pytest.approx(-0.1 / 3)
