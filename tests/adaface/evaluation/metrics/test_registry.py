from __future__ import annotations

import pytest

from adaface.evaluation.metrics.registry import KNOWN, metrics_for
from tests.adaface.evaluation.known_pictures import PROMPT, measures


def names(**settings) -> list[str]:
    options = {key: settings.pop(key) for key in ("baseline", "held_back", "prompts") if key in settings}
    return [metric.name for metric in metrics_for(measures(**settings), **options)]


def test_all_that_the_models_allow():
    assert names(mode="parity") == list(KNOWN)
    assert names() == [name for name in KNOWN if name != "parity"]
    assert names(clip=None, image_encoders={}, scene_classifier=None) == [
        "face_similarity",
        "identity_gap",
        "copy_paste",
    ]
    assert names(clip=None, scene_classifier=None, held_back=False) == [
        "face_similarity",
        "identity_gap",
        "image_similarity",
    ]
    assert "base_disturbance" not in names(baseline=False)
    assert "composition" not in names(prompts=[])


def test_the_ones_that_are_named_in_the_order_of_the_report():
    assert names(metrics=["diversity", "face_similarity"]) == ["face_similarity", "diversity"]


def test_what_prompts_expect_gives_columns():
    (metric,) = metrics_for(measures(metrics=["composition"]), prompts=[PROMPT])
    assert list(metric.columns) == [
        "composition",
        "composition_clothing",
        "composition_headwear",
        "composition_place",
    ]


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError) as raised:
        names(
            metrics=["face_similarty", "text_alignment", "base_disturbance", "copy_paste", "composition", "parity"],
            clip=None,
            scene_classifier=None,
            baseline=False,
            held_back=False,
            prompts=[],
        )
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("unknown metric 'face_similarty': did you mean face_similarity? known are ")
    assert lines[1:] == [
        "metric text_alignment needs a CLIP (measures.clip)",
        "metric base_disturbance needs a CLIP (measures.clip) and a method of kind class_word to compare with",
        "metric copy_paste needs photos that the methods are not shown (subjects.given)",
        "metric composition needs a classifier (measures.scene_classifier) and prompts that say what they expect",
        "metric parity needs measures.mode: parity",
    ]


def test_columns_cannot_be_there_twice():
    encoder = {"entry_point": "adaface.miniature.scene_reader:PictureEncoder"}
    with pytest.raises(ValueError, match="column diversity is there twice; give recognisers and image encoders"):
        names(image_encoders={"diversity": encoder})
