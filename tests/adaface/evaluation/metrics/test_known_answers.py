"""Pictures whose scores are known by construction rank as they must, for every metric there is."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.metrics.base import score_all
from adaface.evaluation.metrics.face_similarity import ceiling
from adaface.evaluation.metrics.registry import KNOWN, metrics_for
from tests.adaface.evaluation.known_pictures import BASELINE, PEOPLE, PROMPT, SEEDS, known, measures

FACES = ("reference", "another photo", "another person", "subject", "wrong scene", BASELINE)

# column -> (better, worse, by at least) of the means over all people and seeds
RANKS: dict[str, list[tuple[str, str, float]]] = {
    "face_{}": [
        ("reference", "another person", 0.5),
        ("another photo", "another person", 0.5),
        ("subject", BASELINE, 0.5),
        ("wrong scene", BASELINE, 0.5),  # the face is right there
    ],
    "gap_{}": [
        ("reference", "another person", 0.5),
        ("another photo", "landscape", 0.5),
        ("subject", "landscape", 0.5),
        ("wrong scene", "landscape", 0.5),
        ("landscape", "another person", 0.05),  # who is another subject of the run
    ],
    "clip_text": [
        ("subject", "wrong scene", 0.4),
        (BASELINE, "wrong scene", 0.4),  # nobody asks who it is
        ("subject", "landscape", 0.2),  # the beach without the rest of it
        ("landscape", "reference", 0.2),
        ("subject", "another photo", 0.4),
    ],
    "clip_image": [
        ("reference", "subject", 0.2),
        ("another photo", "subject", 0.2),  # the photos' scene counts, too
        ("another photo", "another person", 0.1),
        ("subject", BASELINE, 0.03),
        ("another photo", "landscape", 0.5),
    ],
    "dino": [
        ("reference", "subject", 0.1),
        ("another photo", "wrong scene", 0.1),
        ("wrong scene", "landscape", 0.02),
        ("subject", "landscape", 0.02),
    ],
    "undisturbed": [
        ("unchanged", "subject", 0.01),
        ("subject", "wrong scene", 0.4),
        ("subject", "reference", 0.4),
        ("subject", "landscape", 0.4),
    ],
    "copy_{}": [("reference", "another photo", 0.5), ("reference", "subject", 0.5), ("reference", "wrong scene", 0.5)],
    "diversity": [("another photo", "reference", 0.005), ("landscape", "reference", 0.01)],
    "composition": [
        ("subject", "landscape", 0.5),
        (BASELINE, "landscape", 0.5),
        ("landscape", "wrong scene", 0.3),  # at least the beach
        ("subject", "reference", 0.9),
    ],
}
RANKS["parity_face"] = RANKS["face_{}"]
for column in ("clip_text", "clip_image", "dino"):
    RANKS[f"parity_{column}"] = RANKS[column]


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    table, references = known()
    return score_all(metrics_for(measures(mode="parity"), prompts=[PROMPT]), table, references)


def of(scores: dict[str, np.ndarray], column: str, method: str) -> np.ndarray:
    methods = np.array([picture.method for picture in known()[0].pictures])
    values = scores[column][methods == method]
    assert len(values) == PEOPLE * SEEDS
    return values


def mean_of(scores: dict[str, np.ndarray], column: str, method: str) -> float:
    """Of all pictures; of those with a face for the original's column: its JPEG files cost pictures of 64 px their faces."""
    values = of(scores, column, method)
    return float(np.nanmean(values) if column == "parity_face" else values.mean())


def ranks_of(column: str) -> list[tuple[str, str, float]]:
    for pattern, ranks in RANKS.items():
        if column in {pattern.format(name) for name in ("pack", "judge")}:
            return ranks
    if column.endswith("_or_0"):
        return [*ranks_of(column.removesuffix("_or_0")), ("subject", "landscape", 0.5)]
    if column.startswith("composition_"):
        return [("subject", "wrong scene", 0.9), (BASELINE, "reference", 0.9)]
    if column in ("detected", "face_score", "parity_no_face"):
        return []
    raise KeyError(column)


def test_every_metric_ranks_them_as_it_must(scores):
    """Every column of every metric: one without ranks above has no meaning, and fails here."""
    assert len(metrics_for(measures(mode="parity"), prompts=[PROMPT])) == len(KNOWN)
    wrong = []
    for column in scores:
        for better, worse, least in ranks_of(column):
            by = mean_of(scores, column, better) - mean_of(scores, column, worse)
            if not by >= least:
                wrong.append(f"{column}: {better} is better than {worse} by {by:.3f}, not by {least}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("recogniser", ["pack", "judge"])
def test_faces_score_what_the_same_and_other_people_do(scores, recogniser):
    for method in ("reference", "another photo", "wrong scene", "subject"):
        assert (of(scores, f"face_{recogniser}", method) > 0.75).all(), method
        assert (of(scores, f"gap_{recogniser}", method) > 0.5).all(), method
    for method in ("another person", BASELINE):
        assert of(scores, f"face_{recogniser}", method).mean() < 0.3, method
    _, references = known()
    most = np.mean([ceiling(known_photos)[recogniser] for known_photos in references.values()])
    assert of(scores, f"face_{recogniser}", "another photo").mean() == pytest.approx(most, abs=0.03)


def test_no_face_is_counted_and_scores_nothing(scores):
    assert (of(scores, "detected", "landscape") == 0).all()
    for column in ("face_pack", "face_judge", "copy_pack", "parity_face", "face_score"):
        assert np.isnan(of(scores, column, "landscape")).all(), column
    assert (of(scores, "parity_no_face", "landscape") == 1).all()
    for column in ("face_pack_or_0", "face_judge_or_0", "gap_pack", "gap_judge"):
        assert (of(scores, column, "landscape") == 0).all(), column
    for method in FACES:
        assert (of(scores, "detected", method) == 1).all(), method


def test_the_same_picture_is_the_end_of_each_scale(scores):
    assert of(scores, "undisturbed", "unchanged") == pytest.approx(1)
    assert np.isnan(of(scores, "undisturbed", BASELINE)).all()
    assert of(scores, "diversity", "reference") == pytest.approx(0, abs=1e-6)
    assert of(scores, "copy_pack", "reference") == pytest.approx(1, abs=1e-3)
    assert abs(of(scores, "copy_pack", "another photo").mean()) < 0.5  # on a scale from 0 to 1
    assert np.isnan(of(scores, "copy_pack", BASELINE)).all()  # somebody else copies nothing of this person
    assert (of(scores, "composition", "subject") == 1).all() and (of(scores, "composition", "wrong scene") == 0).all()
    assert of(scores, "composition", "landscape") == pytest.approx(1 / 3)
