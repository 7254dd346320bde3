"""Identities as wholes: merged, leaked, too small, unknown; and the table of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data_pipeline.tables import BROKEN, FACELESS, Photos, column, face, off, own, rules


def test_the_larger_of_two_names_of_one_person_stays(two_people: Photos) -> None:
    rows = [two_people.add("zoe", face(0, 50 + n)) for n in range(7)]
    reasons = two_people.reasons(rules())
    assert reasons[:5] == [["identity_merged"]] * 5 and reasons[5:] == [[]] * (5 + len(rows))


def test_an_identity_of_rejects_swallows_nobody(two_people: Photos) -> None:
    for n in range(7):
        two_people.add("zoe", face(0, 50 + n), sharpness=0.0)
    assert two_people.reasons(rules()) == [[]] * 10 + [["blurry"]] * 7


def test_a_leak_takes_the_identity_and_every_single_face(two_people: Photos) -> None:
    two_people.add("ann", None, **BROKEN)
    two_people.add("ann", face(5, similarity=1.0))
    alone = two_people.add("bob", face(0, 90))
    unknown = two_people.add(None, face(0, 91))
    reasons = two_people.reasons(rules(min_identity_images=None), own(0)[None])
    for row in (*range(5), 10, 11, alone, unknown):
        assert "eval_identity_leak" in reasons[row], row
    assert reasons[5:10] == [[]] * 5


def test_the_count_of_an_identity_is_taken_last() -> None:
    photos = Photos()
    photos.person("ann", 0, count=3)
    photos.add("ann", face(0, 0), source={"image_id": photos.source[0]["image_id"]})
    photos.add("ann", face(0, 9), sharpness=0.0)
    photos.add("ann", face(0, 10), width=100)
    too_small = "identity_too_small"
    assert photos.reasons(rules()) == [[], [], [], ["duplicate_exact"], ["blurry"], ["too_small"]]
    expected = [[too_small], [too_small], [too_small], ["duplicate_exact"], ["blurry"], ["too_small"]]
    assert photos.reasons(rules(min_identity_images=4)) == expected


def test_unknown_people_need_no_count(two_people: Photos) -> None:
    two_people.add(None, face(9))
    assert two_people.reasons(rules()) == [[]] * 11


def test_only_unknown_people() -> None:
    photos = Photos()
    for number in range(6):
        photos.add(None, face(number))
    photos.add(None, None, **FACELESS)
    for config in (rules(), rules("original")):
        selection = photos.select(config, own(5)[None])
        assert sum(column(selection, "accepted")) == (5 if config.profile == "strict" else 6)
        assert len(selection.identities) == 0
        assert column(selection, "identity_similarity") == [None] * 7


def test_not_a_single_face() -> None:
    photos = Photos()
    photos.add("ann", None, **FACELESS)
    photos.add("ann", None, **BROKEN)
    photos.add(None, None, **FACELESS)
    for config in (rules(), rules("original"), off()):
        selection = photos.select(config, own(5)[None])
        assert column(selection, "reasons") == [["no_face"], ["decode_error"], ["no_face"]]
        (identity,) = selection.identities.to_pylist()
        assert identity["mean_embedding"] is None and identity["person_type"] == "person"
        assert (identity["images"], identity["faces"], identity["accepted"]) == (2, 0, 0)


def test_the_table_of_identities(two_people: Photos) -> None:
    two_people.add("ann", None, **FACELESS)
    two_people.add("ann", face(5, similarity=1.0), gender=1, age=80, det_score=0.6)
    selection = two_people.select(rules())
    ann, bob = selection.identities.to_pylist()
    assert (ann["identity"], ann["source"], ann["images"], ann["faces"], ann["accepted"]) == (
        "src/ann",
        "src",
        7,
        6,
        5,
    )
    assert (ann["person_type"], ann["gender"], ann["age"]) == ("young woman", 0, 25)
    assert ann["det_score"] == pytest.approx(0.9)
    assert ann["nearest_identity"] == "src/bob" and bob["nearest_identity"] == "src/ann"
    mean = np.array(ann["mean_embedding"])
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-5) and mean @ own(0) > 0.95
    taken = column(selection, "identity_similarity")[:5]
    assert ann["consistency"] == pytest.approx(np.mean(taken), abs=1e-6)
    assert ann["nearest_similarity"] == pytest.approx(mean @ bob["mean_embedding"], abs=1e-6)


def test_only_the_accepted_have_a_say_in_the_person_type(two_people: Photos) -> None:
    for number in range(9):
        two_people.add("ann", face(10 + number, similarity=1.0), gender=1, age=70)
    two_people.add("late", face(20), sharpness=0.0, gender=1, age=70)
    ann, _, late = two_people.select(rules(identity_centre="mean", min_identity_similarity=0.5)).identities.to_pylist()
    assert (ann["accepted"], ann["person_type"]) == (5, "young woman")
    assert (late["accepted"], late["person_type"]) == (0, "man"), "where nobody is accepted, all have"
