"""The original's aggregates, against what its two scripts would have printed, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaface.evaluation.summary import Summary, summarise

NONE = float("nan")
COLUMNS = {"parity_face": "higher", "parity_no_face": "lower", "parity_clip_text": "higher", "face_pack": "higher"}
# subject -> prompt -> face similarity of each picture
FACES: dict[str, dict[str, list[float]]] = {
    "ann": {"p": [0.6, 0.6], "q": [NONE, NONE]},  # .6 and 0 -> .3
    "bob": {"p": [0.5, NONE], "q": [0.2, 0.4]},  # .5 and .3 -> .4
    "cat": {"p": [NONE, NONE], "q": [NONE, NONE]},  # 0, left out
    "dan": {"p": [-0.4, -0.2], "q": [0.1, 0.1]},  # -.3 and .1 -> -.1, left out
}


def table(faces: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    rows = [
        (
            "m",
            subject,
            prompt,
            prompt.upper(),
            k,
            value,
            float(np.isnan(value)),
            0.1 * k + 0.2 * (prompt == "q"),
            value,
        )
        for subject, prompts in faces.items()
        for prompt, values in prompts.items()
        for k, value in enumerate(values)
    ]
    names = ("method", "subject", "prompt_id", "category", "k", *COLUMNS)
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.fixture
def summary() -> Summary:
    return summarise(table(FACES), metrics=COLUMNS)


def test_pairs_prompts_subjects_and_only_faces_above_zero(summary):
    cell = summary.overall["m"]["parity_face"]
    assert cell["mean"] == pytest.approx((0.3 + 0.4) / 2)
    assert (cell["subjects"], cell["images"]) == (2, 5)
    assert cell["low"] == pytest.approx(0.3) and cell["high"] == pytest.approx(0.4)
    # ours: means over pictures, and everybody with a face counts
    ours = summary.overall["m"]["face_pack"]
    assert ours["mean"] == pytest.approx((0.6 + (0.5 + 0.2 + 0.4) / 3 - 0.1) / 3) and ours["subjects"] == 3


def test_a_subjects_row_has_its_value_even_where_it_is_left_out_of_the_mean(summary):
    found = {name: summary.by_subject["m"][name]["parity_face"]["mean"] for name in FACES}
    assert found == pytest.approx({"ann": 0.3, "bob": 0.4, "cat": 0.0, "dan": -0.1})


def test_the_share_of_exceptions_is_over_all_subjects(summary):
    cell = summary.overall["m"]["parity_no_face"]
    assert cell["mean"] == pytest.approx((2 / 4 + 1 / 4 + 4 / 4 + 0) / 4) and cell["subjects"] == 4


def test_the_other_columns_are_plain_means_over_prompts_and_subjects(summary):
    assert summary.overall["m"]["parity_clip_text"]["mean"] == pytest.approx((0.05 + 0.25) / 2)


def test_a_prompt_of_few_pictures_counts_as_much_as_any(summary):
    """After a run that was cut short; a mean over pictures would be (.6 + .1 + .1) / 3."""
    cell = summarise(table({"ann": {"p": [0.6], "q": [0.1, 0.1]}}), metrics=COLUMNS).overall["m"]
    assert cell["parity_face"]["mean"] == pytest.approx(0.35)
    assert cell["face_pack"]["mean"] == pytest.approx(0.8 / 3)


def test_nobody_has_a_face_above_zero():
    cell = summarise(table({"cat": FACES["cat"], "dan": FACES["dan"]}), metrics=COLUMNS).overall["m"]["parity_face"]
    assert cell == {"mean": None, "low": None, "high": None, "subjects": 0, "images": 0}
