"""What is said of reference photos, on vectors that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adaface.evaluation.reference_faces import LEAST_SCORE, ReferenceFaces, reference_faces
from data_pipeline.config import PROFILES
from tests.adaface.evaluation.metrics.small_tables import NOBODY, X, Y, Z, at, gallery, references


def test_faces_scores_and_similarities():
    photos = {"a": [X, at(0.6), NOBODY], "b": [Y, Y], "c": [Z], "d": [NOBODY]}
    known = {name: references(gallery(rows), name)[name] for name, rows in photos.items()}
    known["a"].gallery.scores[:2] = [0.5, 0.8]
    found = reference_faces(known, "r")
    assert list(found) == list(photos)
    a, d = found["a"], found["d"]
    assert (a.photos, a.found) == (3, 2)
    assert a.score == pytest.approx(0.65) and a.may_be_no_person
    assert a.same == pytest.approx(0.6)
    assert a.others == pytest.approx(((0 + 0.8) / 2 + 0) / 2)  # b and c count the same
    assert not found["b"].may_be_no_person and found["b"].same == pytest.approx(1)
    assert math.isnan(found["c"].same)
    assert (d.found, d.may_be_no_person) == (0, False) and all(map(math.isnan, (d.score, d.same, d.others)))


def test_one_subject_has_no_others():
    assert math.isnan(reference_faces(references(gallery([X, Y])), "r")["a"].others)


def test_the_limit_is_that_of_the_rules_for_data_sets():
    assert PROFILES["strict"]["min_identity_det_score"] == LEAST_SCORE
    person = ReferenceFaces(3, 3, LEAST_SCORE, 0.7, 0.0)
    assert not person.may_be_no_person and replace(person, score=np.nextafter(LEAST_SCORE, 0)).may_be_no_person
