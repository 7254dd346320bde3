"""Copies: which photo stays, and what its copies point to."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from data_pipeline.duplicates import near_duplicates_across
from data_pipeline.identities import unit
from tests.data_pipeline.tables import DIM, Photos, column, face, off, own, rules


def test_an_exact_duplicate_stays_with_the_right_person(two_people: Photos) -> None:
    """A photo of bob lies in ann's folder, which comes first, too."""
    copy = {"image_id": two_people.source[7]["image_id"]}
    wrong = two_people.add("aaa", face(1, 2), source=copy)
    two_people.person("aaa", 9)
    selection = two_people.select(rules())
    reasons = column(selection, "reasons")
    assert reasons[wrong] == ["identity_outlier", "duplicate_exact"]
    assert reasons[7] == []
    assert column(selection, "duplicate_of")[wrong] == two_people.source[7]["path"]
    assert Counter(map(len, reasons)) == {0: 15, 2: 1}


def test_a_better_copy_takes_the_place_of_a_worse_one(two_people: Photos) -> None:
    phash = two_people.features[two_people.source[0]["image_id"]]["phash"]
    better = two_people.add("ann", face(0, 0), phash=phash ^ 0b1, width=2000)
    selection = two_people.select(rules())
    assert column(selection, "reasons")[0] == ["duplicate_near"]
    assert column(selection, "reasons")[better] == []
    assert column(selection, "duplicate_of")[0] == two_people.source[better]["path"]


def test_a_rejected_copy_takes_nobody_s_place(two_people: Photos) -> None:
    phash = two_people.features[two_people.source[0]["image_id"]]["phash"]
    two_people.add("ann", face(0, 0), phash=phash, width=2000, sharpness=0.0)
    assert two_people.reasons(rules()) == [[]] * 10 + [["blurry"]]


def test_phash_is_compared_inside_an_identity_only(two_people: Photos) -> None:
    phash = two_people.features[two_people.source[0]["image_id"]]["phash"]
    two_people.add("bob", face(1, 70), phash=phash)
    two_people.add(None, face(9, 70), phash=phash)
    two_people.add(None, face(9, 71), phash=phash)
    assert two_people.reasons(rules()) == [[]] * 13


def test_one_photo_of_unknown_people_twice(two_people: Photos) -> None:
    two_people.add(None, face(9, 1), width=500)
    two_people.add(None, face(9, 1), width=600)
    two_people.add(None, face(0, 0), width=500)
    selection = two_people.select(rules())
    assert column(selection, "reasons") == [[]] * 10 + [["duplicate_near"], [], ["duplicate_near"]]
    paths = column(selection, "path")
    assert column(selection, "duplicate_of")[10:] == [paths[11], None, paths[0]]


def test_what_a_duplicate_points_to_was_kept(two_people: Photos) -> None:
    """Bytes equal to one that is in turn the worse copy of a third."""
    first = two_people.source[0]
    phash = two_people.features[first["image_id"]]["phash"]
    two_people.add("ann", face(0, 0), source={"image_id": first["image_id"]}, phash=phash)
    best = two_people.add("ann", face(0, 0), phash=phash, width=2000)
    selection = two_people.select(rules())
    duplicate_of, accepted, paths = (column(selection, name) for name in ("duplicate_of", "accepted", "path"))
    assert duplicate_of[0] == duplicate_of[10] == paths[best]
    assert accepted[best]


def random_photos(seed: int) -> Photos:
    """People close to each other, with copies across folders: the worst for a shortcut."""
    rng = np.random.default_rng(seed)
    photos, vectors = Photos(), []
    for person in range(6):
        for _ in range(6):
            if vectors and rng.random() < 0.4:
                vector = unit(vectors[rng.integers(len(vectors))] + rng.normal(size=DIM) * 0.02)
            else:
                vector = unit(own(person) + 0.5 * own(6) + rng.normal(size=DIM) * rng.choice([0.02, 0.1]))
            vectors.append(vector)
            photos.add(f"person {person}", vector, width=int(rng.integers(500, 504)))
    return photos


@pytest.mark.parametrize("similarity", [0.8, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("limit", [-1.0, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_the_shortcut_finds_what_comparing_all_finds(seed: int, limit: float, similarity: float) -> None:
    photos = random_photos(seed)
    without = photos.select(off(min_identity_similarity=limit))
    clean = np.flatnonzero(without.images["accepted"].to_numpy(zero_copy_only=False))
    vectors = np.stack([photos.features[photos.source[row]["image_id"]]["embedding"] for row in clean]).astype(
        np.float32
    )
    identity = np.array([int(photos.source[row]["identity"][-1]) for row in clean])
    quality = np.array([photos.features[photos.source[row]["image_id"]]["width"] * 1000.0 for row in clean])
    expected = near_duplicates_across(vectors, identity, quality, similarity)
    found = photos.select(off(min_identity_similarity=limit, near_duplicate_similarity=similarity))
    paths = column(found, "path")
    assert [column(found, "duplicate_of")[row] for row in clean] == [
        paths[clean[other]] if other >= 0 else None for other in expected
    ]


def test_the_property_above_has_duplicates_to_find() -> None:
    reasons = random_photos(0).reasons(off(min_identity_similarity=0.5, near_duplicate_similarity=0.95))
    assert sum("duplicate_near" in row for row in reasons) > 3
