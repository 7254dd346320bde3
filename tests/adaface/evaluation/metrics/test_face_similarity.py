from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.face_similarity import FaceSimilarity, ceiling
from tests.adaface.evaluation.metrics.small_tables import NOBODY, X, Y, at, gallery, picture, references, table

METRIC = FaceSimilarity(["r"])


def test_the_mean_over_photos_that_show_a_face():
    """Photos X, Y and one without a face; the picture is at 0.6 from X and 0.8 from Y."""
    scores = METRIC.score(table([picture()], gallery([at(0.6)])), references(gallery([X, Y, NOBODY])))
    assert scores["face_r"] == pytest.approx([0.7])
    assert scores["face_r_or_0"] == pytest.approx([0.7])
    assert scores["detected"].tolist() == [1] and scores["face_score"] == pytest.approx([0.9])


def test_a_picture_without_a_face_is_nan_and_zero():
    scores = METRIC.score(table([picture(), picture(k=1)], gallery([X, NOBODY])), references(gallery([X])))
    assert scores["face_r"] == pytest.approx([1, np.nan], nan_ok=True)
    assert scores["face_r_or_0"].tolist() == [1, 0]
    assert scores["detected"].tolist() == [1, 0]
    assert np.isnan(scores["face_score"][1])


def test_a_subject_without_faces_has_no_similarity_but_a_detection_rate():
    """A cat: not 0, which would count against the method."""
    scores = METRIC.score(
        table([picture(), picture(k=1)], gallery([X, NOBODY])), references(gallery([NOBODY, NOBODY]))
    )
    assert np.isnan(scores["face_r"]).all() and np.isnan(scores["face_r_or_0"]).all()
    assert scores["detected"].tolist() == [1, 0]


def test_the_ceiling_is_over_pairs_of_different_photos():
    (photos,) = references(gallery([X, at(0.5), NOBODY, X])).values()
    assert ceiling(photos) == {"r": pytest.approx((0.5 + 1 + 0.5) / 3)}


def test_the_ceiling_is_of_the_recognisers_alone():
    (photos,) = references(gallery([X, X])).values()
    photos.gallery.embeddings["parity_face"] = photos.gallery.embeddings["r"]
    assert ceiling(photos) == {"r": 1}


def test_one_face_has_no_ceiling():
    (photos,) = references(gallery([X, NOBODY])).values()
    assert np.isnan(ceiling(photos)["r"])


def test_every_recogniser_has_its_columns():
    assert list(FaceSimilarity(["pack", "judge"]).columns) == [
        "face_pack",
        "face_pack_or_0",
        "face_judge",
        "face_judge_or_0",
        "detected",
        "face_score",
    ]
