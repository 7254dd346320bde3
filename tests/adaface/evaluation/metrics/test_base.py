"""Tables, and properties that all metrics have."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.base import Table, score_all
from adaface.evaluation.metrics.face_similarity import FaceSimilarity
from adaface.evaluation.metrics.registry import metrics_for
from adaface.evaluation.metrics.text_alignment import TextAlignment
from adaface.evaluation.references import reference_features
from tests.adaface.evaluation.known_pictures import BASELINE, PEOPLE, PROMPT, album, known, measures
from tests.adaface.evaluation.metrics.small_tables import X, gallery, picture, references, table

ALL = metrics_for(measures(mode="parity"), prompts=[PROMPT])


def chosen(rows: np.ndarray) -> Table:
    whole, _ = known()
    assert whole.text is not None
    pictures = [whole.pictures[row] for row in rows]
    return Table(pictures, whole.prompts, whole.features.select(rows), whole.text[rows], BASELINE)


def test_scores_do_not_depend_on_the_order_of_the_pictures():
    whole, photos = known()
    order = np.random.default_rng(0).permutation(len(whole))
    straight, shuffled = score_all(ALL, whole, photos), score_all(ALL, chosen(order), photos)
    assert list(straight) == list(shuffled)
    for column in straight:
        np.testing.assert_allclose(shuffled[column], straight[column][order], rtol=0, atol=1e-12, err_msg=column)


def test_scores_do_not_depend_on_the_order_of_the_photos():
    whole, photos = known()
    turned = {}
    for name, own in photos.items():
        rows = np.array([0, 4, 2, 1, 3])  # the given one stays in front
        turned |= references(own.gallery.select(rows), name, own.subject.given)
    straight, other = score_all(ALL, whole, photos), score_all(ALL, whole, turned)
    for column in straight:
        np.testing.assert_allclose(other[column], straight[column], rtol=0, atol=1e-9, err_msg=column)


def test_scores_of_a_part_are_those_of_the_whole():
    """Pictures that are complete in themselves: one subject, all methods. The other subjects are there as references."""
    whole, photos = known()
    rows = np.flatnonzero([shown.subject == "person-1" for shown in whole.pictures])
    part, everything = score_all(ALL, chosen(rows), photos), score_all(ALL, whole, photos)
    for column in part:
        np.testing.assert_allclose(part[column], everything[column][rows], rtol=0, atol=1e-12, err_msg=column)


def test_scoring_leaves_features_and_references_as_they_are():
    whole, photos = known()
    before = (
        whole.features.select(slice(None)),
        {name: own.gallery.select(slice(None)) for name, own in photos.items()},
    )
    score_all(ALL, whole, photos)
    for old, new in ((before[0], whole.features), *((before[1][name], own.gallery) for name, own in photos.items())):
        for name in old.embeddings:
            assert np.array_equal(old.embeddings[name], new.embeddings[name])
        for name in old.images:
            assert np.array_equal(old.images[name], new.images[name])


def test_references_are_read_once_and_scores_need_no_network(monkeypatch):
    """The original read ten photos and their ten masks anew for each of its 47 prompts."""
    _, known_photos = known()
    read = []

    class Counting:
        def read(self, images, *, photos=False):
            assert photos, "no picture of a method"
            read.append(len(images))
            return known_photos[f"person-{len(read) - 1}"].gallery

    monkeypatch.setattr("adaface.evaluation.references.read_references", lambda subject, side: [None] * 5)
    found = reference_features(album().subjects, Counting())
    assert read == [5] * PEOPLE and list(found) == [subject.name for subject in album().subjects]
    whole, _ = known()
    first = score_all(ALL, whole, found)
    again = score_all(ALL, whole, found)
    assert read == [5] * PEOPLE
    for column in first:
        assert np.array_equal(first[column], again[column], equal_nan=True)


def test_no_pictures_have_no_scores():
    whole, photos = known()
    assert whole.text is not None
    empty = Table([], whole.prompts, whole.features.select([]), whole.text[:0], BASELINE)
    assert {column: values.shape for column, values in score_all(ALL, empty, photos).items()} == {
        column: (0,) for metric in ALL for column in metric.columns
    }


def test_directions_and_names_are_complete():
    for metric in ALL:
        assert metric.name and metric.about.endswith(".") and metric.needs
        assert set(metric.columns.values()) <= {"higher", "lower", "none"}


def test_tables_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"2 pictures, but features of 1"):
        table([picture(), picture(k=1)], gallery([X]))
    with pytest.raises(ValueError, match="texts of 3"):
        table([picture()], gallery([X]), text=np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="no such prompts: p"):
        Table([picture()], {}, gallery([X]))
    with pytest.raises(ValueError, match="no references of b"):
        score_all([FaceSimilarity(["r"])], table([picture("b")], gallery([X])), references(gallery([X]), "a"))


def test_a_metric_that_does_not_keep_to_its_columns_is_named():
    class Odd(TextAlignment):
        def score(self, table, references):
            return {"other": np.zeros(len(table))}

    with pytest.raises(ValueError, match=r"metric text_alignment must give \(1,\) of each of clip_text"):
        score_all([Odd()], table([picture()], gallery([X])), references(gallery([X])))
