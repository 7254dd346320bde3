"""Metrics of whole pictures: text alignment, image similarity, base disturbance, diversity."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.base_disturbance import BaseDisturbance
from adaface.evaluation.metrics.diversity import Diversity
from adaface.evaluation.metrics.image_similarity import ImageSimilarity
from adaface.evaluation.metrics.text_alignment import TextAlignment
from tests.adaface.evaluation.metrics.small_tables import NOBODY, X, Y, Z, at, gallery, picture, references, table

NOT_NEEDED = references(gallery([X]))


def test_text_alignment_is_with_the_pictures_own_text():
    features = gallery(images={"clip": [at(0.6), Z]})
    found = TextAlignment().score(table([picture(), picture(k=1)], features, text=np.stack([X, Y])), NOT_NEEDED)
    assert found["clip_text"] == pytest.approx([0.6, 0])


def test_text_alignment_needs_texts():
    with pytest.raises(ValueError, match="give the table its `text`"):
        TextAlignment().score(table([picture()], gallery(images={"clip": [X]})), NOT_NEEDED)


def test_image_similarity_is_the_mean_over_all_photos_by_each_encoder():
    """Photos without a face count, too."""
    photos = gallery([X, NOBODY], images={"clip": [X, Y], "dino": [Z, Z]})
    metric = ImageSimilarity(["clip", "dino"])
    found = metric.score(table([picture()], gallery(images={"clip": [at(0.6)], "dino": [Z]})), references(photos))
    assert list(metric.columns) == ["clip_image", "dino"] and metric.needs == ("clip", "dino")
    assert found["clip_image"] == pytest.approx([0.7]) and found["dino"] == pytest.approx([1])


def test_disturbance_compares_with_the_same_subject_prompt_and_number():
    pictures = [
        picture("a", "plain", k=0),
        picture("a", "m", k=1),
        picture("a", "m", k=0),
        picture("b", "m", k=0),
        picture("a", "plain", k=1),
    ]
    features = gallery(images={"clip": [X, at(0.6), Z, X, X]})
    found = BaseDisturbance().score(table(pictures, features, baseline="plain"), NOT_NEEDED)["undisturbed"]
    assert found == pytest.approx([np.nan, 0.6, 0, np.nan, np.nan], nan_ok=True)


def test_without_a_baseline_nothing_is_said_of_disturbance():
    found = BaseDisturbance().score(table([picture(), picture(k=1)], gallery(images={"clip": [X, X]})), NOT_NEEDED)
    assert np.isnan(found["undisturbed"]).all()


def test_diversity_is_among_the_seeds_of_one_prompt():
    pictures = [picture(k=0), picture(k=1), picture(k=2), picture(prompt="q"), picture("b"), picture(method="n")]
    features = gallery(images={"clip": [X, X, Y, X, X, X]})
    found = Diversity().score(table(pictures, features), NOT_NEEDED)["diversity"]
    assert found == pytest.approx([0.5, 0.5, 1, np.nan, np.nan, np.nan], nan_ok=True)
