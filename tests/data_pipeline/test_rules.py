"""Thresholds on one image: each fires where it should, exactly at its limit, and never on what was not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.reasons import REASONS
from data_pipeline.rules import image_reasons
from data_pipeline.schema import FEATURES
from tests.data_pipeline.tables import BROKEN, FACELESS, GOOD, off, rules


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{"image_id": str(n), **GOOD, **row} for n, row in enumerate(rows)], schema=FEATURES)


def fired(config: DataConfig, **features: Any) -> list[str]:
    return [reason for reason, hit in image_reasons(table(features), config).items() if hit[0]]


def test_a_good_photo_passes_both_profiles() -> None:
    assert fired(rules("strict", min_embedding_norm=10.0)) == []
    assert fired(rules("original")) == []


def test_what_was_not_measured_fires_nothing() -> None:
    config = rules("strict", min_embedding_norm=10.0)
    assert fired(config, **BROKEN) == ["decode_error"]
    assert fired(config, **FACELESS) == ["no_face"]
    assert fired(config, n_parts=None, face_seen=None, clipped=None, gender=None, age=None) == []


def test_an_image_carries_every_reason_that_applies_in_the_order_of_the_list() -> None:
    bad = {
        "width": 10,
        "second_face": 1.0,
        "det_score": 0.1,
        "embedding_norm": 1.0,
        "face_pixels": 1.0,
        "yaw": 90.0,
        "sharpness": 0.0,
        "clipped": 0.9,
        "face_seen": 0.1,
    }
    config = rules("strict", min_embedding_norm=10.0)
    expected = [
        "too_small",
        "multi_face",
        "low_det_score",
        "low_embedding_norm",
        "small_face",
        "extreme_pose",
        "blurry",
        "bad_exposure",
        "occluded",
    ]
    assert fired(config, **bad, n_parts=3) == [*expected, "too_few_parts"]
    assert fired(config, **bad, n_parts=19) == [*expected, "too_many_parts"]
    assert [reason for reason in REASONS if reason in expected] == expected
    assert fired(config, width=10, **{**FACELESS, "n_parts": 1}) == ["too_small", "no_face", "too_few_parts"]


# rule, reason, feature, limit; -1: fires below the limit, 1: above it, 0: at and above it
LIMITS = [
    ("min_side", "too_small", "width", 256, -1),
    ("min_side", "too_small", "height", 256, -1),
    ("max_second_face", "multi_face", "second_face", 0.7, 0),
    ("min_det_score", "low_det_score", "det_score", 0.6, -1),
    ("min_embedding_norm", "low_embedding_norm", "embedding_norm", 10.1, -1),
    ("min_face", "small_face", "face_pixels", 64, -1),
    ("max_yaw", "extreme_pose", "yaw", 45.3, 1),
    ("max_pitch", "extreme_pose", "pitch", 30.1, 1),
    ("max_roll", "extreme_pose", "roll", 30.7, 1),
    ("min_sharpness", "blurry", "sharpness", 15.3, -1),
    ("max_clipped", "bad_exposure", "clipped", 0.3, 1),
    ("min_face_seen", "occluded", "face_seen", 0.7, -1),
    ("min_parts", "too_few_parts", "n_parts", 10, -1),
    ("max_parts", "too_many_parts", "n_parts", 17, 1),
]


@pytest.mark.parametrize(
    ("rule", "reason", "feature", "limit", "side"), LIMITS, ids=[f"{r[0]}-{r[2]}" for r in LIMITS]
)
def test_limits_are_exact(rule: str, reason: str, feature: str, limit: float, side: int) -> None:
    config = off(**{rule: limit})
    if FEATURES.field(feature).type == pa.float32():
        exact = np.float32(limit)
        below, at, above = (float(value) for value in (np.nextafter(exact, -9), exact, np.nextafter(exact, 999)))
    else:
        below, at, above = limit - 1, limit, limit + 1
    for value, expected in ((below, side < 0), (at, side == 0), (above, side >= 0)):
        assert (reason in fired(config, **{feature: value})) == expected, value


@pytest.mark.parametrize(
    "rule", ["max_second_face", "min_det_score", "max_yaw", "min_sharpness", "max_clipped", "min_face_seen"]
)
def test_equality_holds_for_every_decimal_limit(rule: str) -> None:
    """0.7 as float32 lies below 0.7, 0.6 above: a limit and a stored value that read the same must be the same."""
    feature, reason, at_limit = {
        "max_second_face": ("second_face", "multi_face", True),
        "min_det_score": ("det_score", "low_det_score", False),
        "max_yaw": ("yaw", "extreme_pose", False),
        "min_sharpness": ("sharpness", "blurry", False),
        "max_clipped": ("clipped", "bad_exposure", False),
        "min_face_seen": ("face_seen", "occluded", False),
    }[rule]
    for limit in np.arange(1, 100) / 100:
        assert (reason in fired(off(**{rule: float(limit)}), **{feature: float(limit)})) == at_limit, limit


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_pose_counts_both_ways(angle: str) -> None:
    config = off(**{f"max_{angle}": 40.0})
    assert fired(config, **{angle: -41.0}) == fired(config, **{angle: 41.0}) == ["extreme_pose"]
    assert fired(config, **{angle: -39.0}) == []
    others = {name: 90.0 for name in ("yaw", "pitch", "roll") if name != angle}
    assert fired(config, **others) == []


def test_the_original_profile_is_what_the_original_did() -> None:
    config = rules("original")
    on = set(image_reasons(table({}), config))
    assert on == {"decode_error", "no_face", "too_few_parts", "too_many_parts"}
    assert [n for n in range(20) if fired(config, n_parts=n)] == [*range(10), 18, 19]
    awful = {"width": 1, "height": 1, "second_face": 1.0, "det_score": 0.0, "embedding_norm": 0.0, "face_pixels": 0.1}
    assert fired(config, **awful, yaw=180.0, pitch=90.0, roll=180.0, sharpness=0.0, clipped=1.0, face_seen=0.0) == []


def test_every_rule_on_images_is_a_known_reason_and_in_order() -> None:
    names = list(image_reasons(table({}), rules("strict", min_embedding_norm=1.0)))
    assert names == [reason for reason in REASONS if reason in names]


def test_no_images_at_all() -> None:
    hits = image_reasons(table(), rules("strict"))
    assert all(len(hit) == 0 for hit in hits.values())
