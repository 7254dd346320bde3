from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.copy_paste import CopyPaste
from tests.adaface.evaluation.metrics.small_tables import NOBODY, X, Y, at, gallery, picture, references, table

METRIC = CopyPaste(["r"])


def copied(faces, photos, given) -> np.ndarray:
    pictures = [picture(k=k) for k in range(len(faces))]
    return METRIC.score(table(pictures, gallery(faces)), references(gallery(photos), given=given))["copy_r"]


def test_one_given_photo_and_one_held_back():
    """X was given, and the held-back photo is at 0.6. The plain formula: difference of the cosines / (1 - 0.6)."""
    found = copied([X, at(0.6), at(0.8)], [X, at(0.6)], given=[0])
    between = 0.8 * 0.6 + 0.6 * 0.8
    assert found == pytest.approx([1, -1, (0.8 - between) / 0.4], abs=1e-6)


def people(rng: np.random.Generator, count: int, spread: float = 0.6) -> np.ndarray:
    """Photos of one person: a direction of 64 with noise."""
    person = np.zeros(64)
    person[0] = 1
    rows = person + rng.normal(0, spread / 8, (count, 64))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("given", [1, 5])
def test_a_copy_has_one_and_new_photos_have_zero(given):
    """However many photos were given: the nearest of many is near by chance, and that is allowed for."""
    photos = people(np.random.default_rng(0), given + 30)
    new = people(np.random.default_rng(1), 400)
    found = copied([*photos[:given], *new], photos, given=range(given))
    assert found[:given] == pytest.approx(1, abs=1e-5)
    assert abs(found[given:].mean()) < 0.05


def test_halfway_between_copy_and_new_scores_between():
    photos = people(np.random.default_rng(0), 20)
    new = people(np.random.default_rng(1), 200)
    half = new + photos[0]
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    assert 0.3 < copied([*half], photos, given=[0]).mean() < 0.9


def test_pictures_of_nobody_and_of_others_copy_nothing():
    found = copied([NOBODY, Y, X], [X, at(0.9)], given=[0])
    assert np.isnan(found[:2]).all() and found[2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("photos", "given"),
    [([X, X], [0]), ([X, at(0.6)], [0, 1]), ([NOBODY, X], [0]), ([X, NOBODY], [0])],
    ids=["the held-back photo is the given one", "none held back", "no face given", "no face held back"],
)
def test_where_there_is_no_scale_there_is_no_score(photos, given):
    assert np.isnan(copied([X, at(0.6)], photos, given)).all()


def test_the_class_word_saw_no_photo_and_copies_none():
    """Equal faces: of the baseline they are chance, of a method they are copies."""
    pictures = [picture(method="sd"), picture(method="m")]
    own = references(gallery([X, at(0.6)]), given=[0])
    found = METRIC.score(table(pictures, gallery([X, X]), baseline="sd"), own)["copy_r"]
    assert np.isnan(found[0]) and found[1] == pytest.approx(1)
    assert METRIC.score(table(pictures, gallery([X, X])), own)["copy_r"] == pytest.approx([1, 1])


def test_a_short_scale_does_not_make_large_numbers():
    """Photos that agree at .99: a picture at .8 of the held-back one would have -20 and more."""
    other_side = np.array([0.8, -0.6, 0], np.float32)
    found = copied([other_side, at(0.8), X, at(0.99)], [X, at(0.99)], given=[0])
    assert found[1] == -1 and found[2] == pytest.approx(1) and found[3] == pytest.approx(-1)
    assert found[0] == 1  # nearer to the given photo, whatever the scale
