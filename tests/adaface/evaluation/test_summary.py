"""Means and intervals over subjects, pairs of methods, and the share of the teacher's identity."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adaface.evaluation.summary import summarise

DIRECTIONS = {"gap_pack": "higher", "clip_text": "higher"}


def scores(
    values: dict[str, Any], subjects: int = 12, prompts: int = 3, each: int = 2, seed: int = 0
) -> dict[str, np.ndarray]:
    """Rows of methods whose score is `values[method](rng, subject, prompt)`, or a number, in both columns."""
    rng = np.random.default_rng(seed)
    rows = []
    for method, value in values.items():
        for subject in range(subjects):
            for prompt in range(prompts):
                for k in range(each):
                    score = value(rng, subject, prompt) if callable(value) else float(value)
                    category = "place" if prompt % 2 == 0 else "wear"
                    rows.append((method, f"s{subject:02d}", f"p{prompt}", category, k, score, score / 2))
    names = ("method", "subject", "prompt_id", "category", "k", "gap_pack", "clip_text")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def one_per_subject(means: list[float]):
    return lambda rng, subject, prompt: means[subject]


def test_pictures_are_averaged_in_a_subject_first():
    """A subject with many pictures counts no more than one with few."""
    table = {
        "method": ["a"] * 5,
        "subject": ["x"] * 4 + ["y"],
        "prompt_id": ["p", "p", "q", "q", "p"],
        "category": ["place", "place", "wear", "wear", "place"],
        "k": [0, 1, 0, 1, 0],
        "clip_text": [0.1, 0.3, 0.5, 0.7, 1.0],
    }
    summary = summarise(table, metrics={"clip_text": "higher"})
    cell = summary.overall["a"]["clip_text"]
    assert cell["mean"] == pytest.approx((0.4 + 1.0) / 2)
    assert (cell["subjects"], cell["images"]) == (2, 5)
    assert cell["low"] == pytest.approx(0.4) and cell["high"] == pytest.approx(1.0)  # both subjects, or one twice
    assert summary.by_subject["a"] == {
        "x": {"clip_text": {"mean": pytest.approx(0.4), "images": 4}},
        "y": {"clip_text": {"mean": 1.0, "images": 1}},
    }
    prompt = summary.by_prompt["a"]["p"]["clip_text"]
    assert prompt["mean"] == pytest.approx((0.2 + 1.0) / 2) and (prompt["subjects"], prompt["images"]) == (2, 3)
    assert prompt["low"] == pytest.approx(0.2) and prompt["high"] == pytest.approx(1.0)
    assert summary.by_prompt["a"]["q"]["clip_text"]["low"] is None  # of one subject
    place, wear = (summary.by_category["a"][name]["clip_text"] for name in ("place", "wear"))
    assert place["mean"] == pytest.approx(0.6) and place["subjects"] == 2 and place["low"] < place["mean"]
    assert wear["mean"] == pytest.approx(0.6) and wear["subjects"] == 1 and wear["low"] is None


def test_the_interval_is_over_subjects_and_not_over_pictures():
    """Twelve subjects of very different means: more pictures of them tell nothing about other people."""
    means = list(np.random.default_rng(1).normal(0.5, 0.2, 12))
    widths = []
    for each in (1, 50):
        cell = summarise(scores({"a": one_per_subject(means)}, each=each), metrics=DIRECTIONS).overall["a"]["gap_pack"]
        widths.append(cell["high"] - cell["low"])
    assert widths[0] == pytest.approx(widths[1])
    assert widths[0] == pytest.approx(2 * 1.96 * np.std(means) / np.sqrt(12), rel=0.1)


def test_undefined_scores_are_left_out():
    table = scores({"a": one_per_subject([0.2, 0.4, 0.6, 0.8])}, subjects=4)
    table["gap_pack"][:] = np.where(table["subject"] == "s03", np.nan, table["gap_pack"])
    table["gap_pack"][0] = np.nan  # one picture of s00
    summary = summarise(table, metrics=DIRECTIONS)
    cell = summary.overall["a"]["gap_pack"]
    assert cell["mean"] == pytest.approx(0.4) and (cell["subjects"], cell["images"]) == (3, 17)
    assert summary.by_subject["a"]["s03"]["gap_pack"] == {"mean": None, "images": 0}
    assert summary.by_subject["a"]["s00"]["gap_pack"]["images"] == 5

    table["gap_pack"][:] = np.nan
    nothing = summarise(table, metrics=DIRECTIONS, teacher="a", baseline="a").overall["a"]["gap_pack"]
    assert nothing == {"mean": None, "low": None, "high": None, "subjects": 0, "images": 0}


def test_one_subject_has_means_and_no_interval():
    table = scores({"sd": 0.1, "a": 0.4, "teacher": 0.7}, subjects=1)
    summary = summarise(table, metrics=DIRECTIONS, teacher="teacher", baseline="sd")
    cell = summary.overall["a"]["gap_pack"]
    assert cell["mean"] == pytest.approx(0.4) and (cell["low"], cell["high"], cell["subjects"]) == (None, None, 1)
    assert summary.derived["a"]["identity_pack"]["mean"] == pytest.approx(0.5)
    assert summary.derived["a"]["identity_pack"]["low"] is None
    assert summary.difference("gap_pack", "a", "sd")["high"] is None
    json.dumps(summary.to_dict(), allow_nan=False)


class TestShareOfTheTeacher:
    @pytest.fixture
    def summary(self):
        """Faces that are hard for one method are hard for all."""
        hard = np.random.default_rng(2).normal(0, 0.2, 12)
        return summarise(
            scores(
                {
                    "sd": one_per_subject(list(0.1 + hard)),
                    "mine": lambda rng, s, p: 0.4 + hard[s] + rng.normal(0, 0.02),
                    "teacher": one_per_subject(list(0.7 + hard)),
                }
            ),
            metrics=DIRECTIONS,
            teacher="teacher",
            baseline="sd",
        )

    def test_it_is_0_for_the_baseline_and_1_for_the_teacher_in_every_draw(self, summary):
        assert summary.derived["sd"]["identity_pack"] == {"mean": 0, "low": 0, "high": 0, "subjects": 12}
        assert summary.derived["teacher"]["identity_pack"] == {"mean": 1, "low": 1, "high": 1, "subjects": 12}
        assert set(summary.derived["mine"]) == {"identity_pack"}  # of the gaps alone

    def test_it_is_paired_and_so_much_surer_than_the_gaps(self, summary):
        share, gap = summary.derived["mine"]["identity_pack"], summary.overall["mine"]["gap_pack"]
        assert share["low"] < 0.5 < share["high"] and share["mean"] == pytest.approx(0.5, abs=0.02)
        assert (share["high"] - share["low"]) * 0.6 < 0.2 * (gap["high"] - gap["low"])

    def test_it_is_undefined_where_the_teacher_is_no_better(self):
        table = scores({"sd": 0.3, "mine": 0.4, "teacher": 0.3})
        summary = summarise(table, metrics=DIRECTIONS, teacher="teacher", baseline="sd")
        undefined = {"mean": None, "low": None, "high": None, "subjects": 12}
        assert {method: row["identity_pack"] for method, row in summary.derived.items()} == {
            "sd": undefined,
            "mine": undefined,
            "teacher": undefined,
        }

    def test_it_has_no_interval_where_the_teacher_is_not_better_in_all_draws(self):
        noisy = np.random.default_rng(3).normal(0.05, 0.5, 12)
        noisy += 0.05 - noisy.mean()
        table = scores({"sd": 0.0, "mine": 0.4, "teacher": one_per_subject(list(noisy))})
        share = summarise(table, metrics=DIRECTIONS, teacher="teacher", baseline="sd").derived["mine"]["identity_pack"]
        assert share["mean"] == pytest.approx(8) and share["low"] is None and share["high"] is None

    def test_only_subjects_that_all_three_have_count(self):
        table = scores({"sd": 0.0, "mine": one_per_subject([0.2, 0.4, 9.0]), "teacher": 1.0}, subjects=3)
        missing = (table["method"] == "teacher") & (table["subject"] == "s02")
        table = {name: column[~missing] for name, column in table.items()}
        share = summarise(table, metrics=DIRECTIONS, teacher="teacher", baseline="sd").derived["mine"]["identity_pack"]
        assert share["mean"] == pytest.approx(0.3) and share["subjects"] == 2

    @pytest.mark.parametrize("roles", [{"teacher": "teacher"}, {"baseline": "sd"}, {}])
    def test_without_one_of_them_there_is_none(self, roles):
        assert summarise(scores({"sd": 0.0, "teacher": 1.0}), metrics=DIRECTIONS, **roles).derived == {}


class TestDifference:
    def test_pairs_see_what_separate_intervals_do_not(self):
        hard = np.random.default_rng(4).normal(0, 0.3, 12)
        summary = summarise(
            scores({"a": lambda rng, s, p: hard[s] + 0.05 + rng.normal(0, 0.01), "b": one_per_subject(list(hard))}),
            metrics=DIRECTIONS,
        )
        apart = summary.difference("gap_pack", "a", "b")
        assert apart["mean"] == pytest.approx(0.05, abs=0.01) and apart["low"] > 0.03
        a, b = (summary.overall[method]["gap_pack"] for method in "ab")
        assert a["low"] < b["mean"] < a["high"]
        back = summary.difference("gap_pack", "b", "a")
        assert (back["mean"], back["low"], back["high"]) == pytest.approx(
            (-apart["mean"], -apart["high"], -apart["low"])
        )
        assert summary.difference("gap_pack", "a", "a")["high"] == 0

    def test_it_is_on_the_subjects_of_both(self):
        table = scores({"a": one_per_subject([1.0, 2.0, 3.0]), "b": 0.0}, subjects=3)
        table["gap_pack"][(table["method"] == "b") & (table["subject"] == "s02")] = np.nan
        apart = summarise(table, metrics=DIRECTIONS).difference("gap_pack", "a", "b")
        assert apart["mean"] == pytest.approx(1.5) and apart["subjects"] == 2

    def test_it_covers_the_truth_about_as_often_as_it_says(self):
        rng = np.random.default_rng(5)
        hits = 0
        for _ in range(200):
            hard, gain = rng.normal(0, 0.3, 24), rng.normal(0.1, 0.1, 24)
            table = scores(
                {"a": one_per_subject(list(hard + gain)), "b": one_per_subject(list(hard))},
                subjects=24,
                prompts=1,
                each=1,
            )
            apart = summarise(table, metrics=DIRECTIONS, bootstrap=400).difference("gap_pack", "a", "b")
            hits += apart["low"] <= 0.1 <= apart["high"]
        assert 0.89 <= hits / 200 <= 0.985

    def test_unknown_names(self):
        summary = summarise(scores({"a": 0.1}), metrics=DIRECTIONS)
        with pytest.raises(ValueError, match="there is no method 'b'; known are a"):
            summary.difference("gap_pack", "a", "b")
        with pytest.raises(ValueError, match="there is no column 'dino'; known are gap_pack, clip_text"):
            summary.difference("dino", "a", "a")


def test_the_order_of_rows_changes_no_bit():
    table = scores({"b": lambda rng, s, p: rng.normal(), "a": lambda rng, s, p: rng.normal()})
    # the first row of each name stays first, for names are in that order
    order = np.random.default_rng(6).permutation(len(table["k"]) - 1) + 1
    shuffled = {name: np.concatenate([column[:1], column[order]]) for name, column in table.items()}
    one, two = (summarise(t, metrics=DIRECTIONS, teacher="b", baseline="a").to_dict() for t in (table, shuffled))
    assert one["methods"] == two["methods"] == ["b", "a"]
    for name in ("overall", "by_category", "by_subject", "by_prompt", "derived", "differences"):
        assert json.dumps(one[name], sort_keys=True) == json.dumps(two[name], sort_keys=True)


def test_draws_follow_the_seed():
    table = scores({"a": lambda rng, s, p: rng.normal()})
    first, again, other = (
        summarise(table, metrics=DIRECTIONS, seed=seed, bootstrap=300).overall["a"]["gap_pack"] for seed in (1, 1, 2)
    )
    assert first == again and first["mean"] == other["mean"] and first["low"] != other["low"]


def test_as_json():
    table = scores({"sd": 0.1, "a": 0.4, "teacher": 0.7})
    summary = summarise(
        table, metrics=DIRECTIONS, teacher="teacher", baseline="sd", ceiling={"pack": np.float64(0.7), "judge": np.nan}
    )
    said = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert said["methods"] == ["sd", "a", "teacher"] and said["categories"] == ["place", "wear"]
    assert said["ceiling"] == {"pack": 0.7, "judge": None}
    assert said["columns"] == DIRECTIONS
    assert said["draws"] == {"draws": 2000, "seed": 42, "confidence": 0.95}
    assert [(a, b) for a, of in said["differences"].items() for b in of] == [
        ("sd", "a"),
        ("sd", "teacher"),
        ("a", "teacher"),
    ]
    assert said["differences"]["sd"]["a"]["gap_pack"]["mean"] == pytest.approx(-0.3)
    assert not [name for name in said if name.startswith("_")]


class TestRefusals:
    def test_columns(self):
        table = scores({"a": 0.1})
        del table["clip_text"]
        with pytest.raises(ValueError, match="the scores have no column clip_text; they have method"):
            summarise(table, metrics=DIRECTIONS)
        table["clip_text"] = np.zeros(3)
        with pytest.raises(ValueError, match="unequal lengths"):
            summarise(table, metrics=DIRECTIONS)
        with pytest.raises(ValueError, match="no scores to summarise"):
            summarise({name: column[:0] for name, column in scores({"a": 0.1}).items()}, metrics=DIRECTIONS)

    def test_rows_all_at_once(self):
        table = scores({"a": 0.1})
        table["gap_pack"][4] = np.inf
        table = {name: np.concatenate([column, column[:1]]) for name, column in table.items()}
        with pytest.raises(ValueError) as error:
            summarise(table, metrics=DIRECTIONS | {"clip_text": "up"}, teacher="t", baseline="sd", bootstrap=0)
        assert str(error.value).splitlines() == [
            "gap_pack: 1 scores are infinite",
            "1 pictures come twice, the first of them is method a, subject s00, prompt_id p0, k 0",
            "the teacher 't' has no scores; methods are a",
            "the baseline 'sd' has no scores; methods are a",
            "clip_text: a direction is one of higher, lower, none, not 'up'",
            "bootstrap must be at least 1 draw, not 0",
        ]
