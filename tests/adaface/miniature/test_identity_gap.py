"""The identity gap."""

import numpy as np
import pytest

from adaface.miniature.measure.identity_gap import identity_gap


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_person_themselves_scores_one_and_others_nothing():
    references = np.eye(6)
    gap = identity_gap(np.repeat(references[:, None], 3, axis=1), references)
    assert (gap.own, gap.others, gap.gap, gap.top1, gap.gap_error) == (1, 0, 1, 1, 0)


def test_pictures_that_look_like_everybody_score_no_gap():
    rng = np.random.default_rng(0)
    common = unit(rng, 32)
    references = unit(rng, 40, 32) * 0.3 + common
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    gap = identity_gap(np.repeat(common[None, None], 40, axis=0), references)
    assert gap.own > 0.9 and abs(gap.gap) < 0.02


def test_a_picture_without_a_face_counts_as_zero():
    references = np.eye(4)
    pictures = np.stack([references, np.zeros((4, 4))], axis=1)
    gap = identity_gap(pictures, references)
    assert gap.own == 0.5 and gap.gap == 0.5


def test_swapped_people_score_below_zero():
    references = np.eye(5)
    gap = identity_gap(np.roll(references, 1, axis=0)[:, None], references)
    assert gap.own == 0 and gap.gap == pytest.approx(-0.25) and gap.top1 == 0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"need \(P, K, D\) pictures"):
        identity_gap(np.zeros((3, 1, 8)), np.zeros((4, 8)))
