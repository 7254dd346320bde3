"""The class word of somebody, by the ages and genders that his photos are taken for."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.perception.person_type import person_type

# The table of the original (filter_faces.py), with every boundary.
TABLE = [
    (1, "girl", "boy"),
    (18, "girl", "boy"),
    (18.5, "young woman", "young man"),
    (19, "young woman", "young man"),
    (29, "young woman", "young man"),
    (29.5, "young woman", "young man"),
    (30, "woman", "man"),
    (90, "woman", "man"),
]


@pytest.mark.parametrize(("age", "female", "male"), TABLE)
def test_person_types(age: float, female: str, male: str) -> None:
    ages = np.array([np.floor(age), np.ceil(age)])
    assert person_type(np.zeros(2), ages)[:2] == (female, 0)
    assert person_type(np.ones(2), ages)[:2] == (male, 1)
    assert abs(person_type(np.ones(2), ages)[2] - age) <= 0.5


def test_gender_is_the_majority_and_age_the_median() -> None:
    assert person_type(np.array([1, 1, 0]), np.array([20, 21, 90])) == ("young man", 1, 21)
    assert person_type(np.array([1, 0, 0]), np.array([3, 40, 41])) == ("woman", 0, 40)
    # The mean of these ages is 33.3.
    assert person_type(np.array([0, 0, 0]), np.array([20, 20, 60])) == ("young woman", 0, 20)


def test_a_tie_and_no_estimate_are_a_person() -> None:
    nan = np.nan
    assert person_type(np.array([1, 0]), np.array([40, 40])) == ("person", None, 40)
    assert person_type(np.array([1, 0, 0, 1]), np.array([5, 5, 5, 5])) == ("person", None, 5)
    assert person_type(np.array([]), np.array([])) == ("person", None, None)
    assert person_type(np.array([nan, nan]), np.array([nan, nan])) == ("person", None, None)
    assert person_type(np.array([nan, 1]), np.array([nan, 40])) == ("man", 1, 40)
