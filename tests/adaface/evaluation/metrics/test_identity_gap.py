from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.identity_gap import IdentityGap
from tests.adaface.evaluation.metrics.small_tables import NOBODY, X, Y, Z, at, gallery, picture, references, table

METRIC = IdentityGap(["r"])
THREE = references(gallery([X, X]), "a") | references(gallery([Y]), "b") | references(gallery([Z, NOBODY]), "c")


def gaps(pictures, faces, people=THREE) -> np.ndarray:
    return METRIC.score(table(pictures, gallery(faces)), people)["gap_r"]


def test_own_person_less_the_mean_of_the_others():
    """0.6 to a, 0.8 to b, 0 to c; each person counts once, however many photos they have."""
    assert gaps([picture("a")], [at(0.6)]) == pytest.approx([0.6 - 0.4])
    assert gaps([picture("b")], [at(0.6)]) == pytest.approx([0.8 - 0.3])


def test_no_face_has_no_gap():
    found = gaps([picture("a"), picture("b")], [NOBODY, NOBODY])
    assert found.tolist() == [0, 0] and not np.signbit(found).any()


def test_a_face_that_is_like_everybody_has_no_gap():
    """A plain cosine would be 0.58."""
    everybody = ((X + Y + Z) / np.sqrt(3)).astype(np.float32)
    assert gaps([picture("a")], [everybody]) == pytest.approx([0], abs=1e-7)


def test_other_people_of_the_run_count_against_it():
    assert gaps([picture("a")], [Y]) == pytest.approx([-0.5])


def test_a_run_of_one_subject_has_no_gap_to_measure():
    assert np.isnan(gaps([picture("a")], [X], references(gallery([X]), "a"))).all()


def test_subjects_without_a_face_are_nobody():
    """The cat d: no gap of its own, and not among the others."""
    people = THREE | references(gallery([NOBODY]), "d")
    assert gaps([picture("a")], [at(0.6)], people) == pytest.approx([0.2])
    assert np.isnan(gaps([picture("d")], [X], people)).all()
