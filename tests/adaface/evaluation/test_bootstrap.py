"""Intervals against distributions whose mean is known."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.bootstrap import drawn_means, interval, mean_over_subjects, subject_draws


def covers(draw_subjects, truth: float, subjects: int, trials: int = 600) -> float:
    """The share of experiments whose interval holds the true mean."""
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(trials):
        values = draw_subjects(rng, subjects)
        low, high = interval(drawn_means(subject_draws(subjects, 400, trial), values), subjects)
        hits += low <= truth <= high
    return hits / trials


@pytest.mark.parametrize(
    ("draw_subjects", "truth", "subjects", "least"),
    [
        (lambda rng, n: rng.normal(0.4, 0.2, n), 0.4, 48, 0.925),
        (lambda rng, n: rng.normal(0.4, 0.2, n), 0.4, 16, 0.90),  # percentile intervals of few subjects are narrow
        (lambda rng, n: rng.exponential(1.0, n), 1.0, 48, 0.90),
        (lambda rng, n: (rng.random(n) < 0.3).astype(float), 0.3, 48, 0.90),
    ],
    ids=["normal", "few", "skewed", "shares"],
)
def test_95_percent_intervals_hold_the_truth_about_that_often(draw_subjects, truth, subjects, least):
    assert least <= covers(draw_subjects, truth, subjects) <= 0.975


def test_the_width_is_that_of_the_standard_error():
    values = np.random.default_rng(0).normal(size=60)
    drawn = drawn_means(subject_draws(60, 20_000, 1), values)
    expected = values.std() / np.sqrt(60)  # of the bootstrap's own distribution
    low, high = interval(drawn, 60)
    assert drawn.std() == pytest.approx(expected, rel=0.03)
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.05)
    assert drawn.mean() == pytest.approx(values.mean(), abs=4 * expected / np.sqrt(20_000))


def test_every_draw_has_as_many_subjects_as_there_are():
    counts = subject_draws(7, 500, 3)
    assert counts.shape == (500, 7) and (counts.sum(axis=1) == 7).all()
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.15
    assert np.array_equal(counts, subject_draws(7, 500, 3)) and not np.array_equal(counts, subject_draws(7, 500, 4))


def test_drawn_means_are_those_of_the_drawn_subjects():
    values = np.array([1.0, 2.0, 4.0])
    counts = np.array([[3, 0, 0], [1, 1, 1], [0, 1, 2]], float)
    assert drawn_means(counts, values) == pytest.approx([1, 7 / 3, 10 / 3])


def test_subjects_without_a_value_are_left_out_of_every_draw():
    values = np.array([1.0, np.nan, 4.0])
    counts = np.array([[1, 1, 1], [0, 3, 0], [0, 2, 1]], float)
    drawn = drawn_means(counts, values)
    assert drawn[[0, 2]] == pytest.approx([2.5, 4.0]) and np.isnan(drawn[1])
    assert interval(drawn, 2) == pytest.approx((2.5375, 3.9625))
    assert mean_over_subjects(values) == 2.5 and np.isnan(mean_over_subjects(np.array([np.nan])))


def test_one_subject_alone_has_no_interval():
    assert np.isnan(interval(drawn_means(subject_draws(1, 100, 0), np.array([0.7])), 1)).all()
    assert np.isnan(interval(np.array([np.nan, np.nan]), 5)).all()
