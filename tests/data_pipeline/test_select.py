"""Every rule on constructed tables: who is rejected, for which reasons together, and who is kept instead."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.identities import unit
from data_pipeline.reasons import REASONS
from data_pipeline.schema import FEATURES, IDENTITIES, SELECTION
from data_pipeline.select import read_features, select
from data_pipeline.storage import Storage
from tests.data_pipeline.tables import BROKEN, DIM, FACELESS, Photos, column, face, off, rules


def test_sound_photos_are_accepted(two_people: Photos) -> None:
    selection = two_people.select(rules())
    assert column(selection, "accepted") == [True] * 10
    assert column(selection, "reasons") == [[]] * 10
    assert selection.images.schema == SELECTION
    assert selection.identities.schema == IDENTITIES
    assert column(selection, "path") == two_people.source_table()["path"].to_pylist()
    assert min(column(selection, "identity_similarity")) > 0.85
    assert column(selection, "nearest_identity") == ["src/bob"] * 5 + ["src/ann"] * 5
    assert max(column(selection, "nearest_similarity")) < 0.5


# reason -> what makes a photo of a sound person carry it, and the configuration
ON_ONE_IMAGE: dict[str, dict[str, Any]] = {
    "decode_error": BROKEN,
    "too_small": {"width": 100},
    "no_face": FACELESS,
    "multi_face": {"second_face": 0.9},
    "low_det_score": {"det_score": 0.2},
    "low_embedding_norm": {"embedding_norm": 0.5},
    "small_face": {"face_pixels": 20.0},
    "extreme_pose": {"yaw": 80.0},
    "blurry": {"sharpness": 1.0},
    "bad_exposure": {"clipped": 0.8},
    "occluded": {"face_seen": 0.1},
    "too_few_parts": {"n_parts": 4},
    "too_many_parts": {"n_parts": 18},
}


@pytest.mark.parametrize("reason", ON_ONE_IMAGE)
def test_reasons_of_one_image(two_people: Photos, reason: str) -> None:
    features = ON_ONE_IMAGE[reason]
    has_face = "embedding_norm" not in features or features["embedding_norm"] is not None
    row = two_people.add("ann", face(0, 99) if has_face else None, **features)
    selection = two_people.select(rules(min_embedding_norm=5.0))
    assert column(selection, "reasons") == [[]] * 10 + [[reason]]
    rejected = selection.images.slice(row, 1).to_pylist()[0]
    assert not rejected["accepted"] and rejected["key"] is None and rejected["shard"] is None


def scenario(reason: str, photos: Photos) -> tuple[list[int], np.ndarray]:
    """Adds photos that carry `reason` alone; returns their rows and evaluation means."""
    means = np.zeros((0, DIM), np.float32)
    if reason == "identity_outlier":
        return [photos.add("ann", face(5, similarity=1.0))], means
    if reason == "duplicate_exact":
        return [photos.add("ann", face(0, 0), source={"image_id": photos.source[0]["image_id"]})], means
    if reason == "duplicate_near":
        phash = photos.features[photos.source[0]["image_id"]]["phash"] ^ 0b1111
        return [photos.add("ann", face(0, 50), phash=phash, width=500)], means
    if reason == "identity_not_a_face":
        return photos.person("cat", 2, det_score=0.6), means
    if reason == "identity_too_small":
        return photos.person("carl", 2, count=2), means
    if reason == "identity_merged":
        return [photos.add("ann again", face(0, 50 + n)) for n in range(4)], means
    if reason == "eval_identity_leak":
        return photos.person("celebrity", 2), face(2, 77)[None]
    raise AssertionError(reason)


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason not in ON_ONE_IMAGE])
def test_reasons_across_images(two_people: Photos, reason: str) -> None:
    rows, means = scenario(reason, two_people)
    reasons = two_people.reasons(rules(), means)
    assert [reasons[row] for row in rows] == [[reason]] * len(rows)
    assert reasons[:10] == [[]] * 10
    unaffected = two_people.reasons(off(), means)
    assert unaffected == [[]] * len(unaffected), "with the rule off nothing is rejected"


def test_a_row_carries_all_its_reasons_in_the_order_of_the_list() -> None:
    photos = Photos()
    photos.person("ann", 0)
    everything = {
        "width": 100,
        "second_face": 0.9,
        "det_score": 0.2,
        "embedding_norm": 0.5,
        "face_pixels": 20.0,
        "yaw": 80.0,
        "sharpness": 1.0,
        "clipped": 0.8,
        "face_seen": 0.1,
        "n_parts": 4,
    }
    photos.add("ann", face(5, similarity=1.0), source={"image_id": photos.source[0]["image_id"]}, **everything)
    photos.features.pop(photos.source[0]["image_id"])  # the same bytes have one row of features: these
    photos.features[photos.source[0]["image_id"]] = {
        **everything,
        "outcome": "analysed",
        "image_id": photos.source[0]["image_id"],
        "n_faces": 1,
        "height": 100,
        "embedding": face(5, similarity=1.0).tolist(),
        "phash": 7,
    }
    photos.person("statue", 2, det_score=0.6, yaw=80.0)
    reasons = photos.reasons(rules(min_embedding_norm=5.0), face(5, similarity=1.0)[None])
    on_one_image = [reason for reason in ON_ONE_IMAGE if reason not in ("decode_error", "no_face", "too_many_parts")]
    assert reasons[0] == reasons[5] == [*on_one_image, "identity_outlier", "eval_identity_leak"]
    assert reasons[6:] == [["extreme_pose", "identity_not_a_face"]] * 5
    for row in reasons:
        assert row == sorted(row, key=list(REASONS).index)


def test_the_original_profile_does_what_the_original_did(two_people: Photos) -> None:
    """gen_face_masks.py and filter_faces.py: class counts, a face, cosine 0.65 to the plain mean; nothing else."""
    awful = {"width": 20, "height": 20, "det_score": 0.1, "second_face": 1.0, "yaw": 170.0, "sharpness": 0.0}
    two_people.add("ann", face(0, 60), face_pixels=1.0, embedding_norm=0.1, **awful)
    two_people.add("ann", face(0, 0), source={"image_id": two_people.source[0]["image_id"]}, phash=0)
    two_people.add("alone", face(3))
    two_people.add("ann again", face(0, 61))
    too_few = two_people.add("ann", face(0, 62), n_parts=9)
    too_many = two_people.add("ann", face(0, 63), n_parts=18)
    broken = two_people.add("bob", None, **BROKEN)
    faceless = two_people.add("bob", None, **FACELESS)
    stranger = two_people.add("bob", face(7, similarity=1.0))
    reasons = two_people.reasons(rules("original"), face(1)[None])
    assert {row: reasons[row] for row in range(len(reasons)) if reasons[row]} == {
        too_few: ["too_few_parts"],
        too_many: ["too_many_parts"],
        broken: ["decode_error"],
        faceless: ["no_face"],
        stranger: ["identity_outlier"],
    }


def test_the_original_s_mean_includes_the_outliers_but_not_what_the_masks_rejected(two_people: Photos) -> None:
    two_people.add("ann", face(7, similarity=1.0))
    two_people.add("ann", face(8, similarity=1.0), n_parts=3)
    selection = two_people.select(rules("original"))
    rows = np.stack([*(face(0, number) for number in range(5)), face(7, similarity=1.0)])
    mean = unit(rows.mean(axis=0))
    np.testing.assert_allclose(selection.identities["mean_embedding"][0].as_py(), mean, atol=1e-6)
    similarity = column(selection, "identity_similarity")
    np.testing.assert_allclose([*similarity[:5], similarity[10]], rows @ mean, atol=1e-6)
    assert similarity[11] == pytest.approx(face(8, similarity=1.0) @ mean, abs=1e-6)


def test_limits_across_images_are_exact_in_float32(two_people: Photos) -> None:
    first = two_people.select(rules(near_duplicate_similarity=None))
    worst = min(column(first, "identity_similarity"))
    at = two_people.reasons(rules(min_identity_similarity=worst, near_duplicate_similarity=None))
    above = two_people.reasons(
        rules(min_identity_similarity=float(np.nextafter(np.float32(worst), 2)), near_duplicate_similarity=None)
    )
    assert at == [[]] * 10
    assert [row for row in above if row] == [["identity_outlier"]]


@pytest.mark.parametrize("limit", [0.55, 0.6, 0.7, 0.8, 0.85, 0.9])
def test_the_limit_of_det_scores_of_an_identity_is_exact(limit: float) -> None:
    photos = Photos()
    photos.person("cat", 2, det_score=limit)
    assert photos.reasons(off(min_identity_det_score=limit)) == [[]] * 5
    photos.person("dog", 3, det_score=float(np.nextafter(np.float32(limit), 0)))
    assert photos.reasons(off(min_identity_det_score=limit)) == [[]] * 5 + [["identity_not_a_face"]] * 5


def test_det_scores_of_an_identity_are_a_median_over_faces(two_people: Photos) -> None:
    for number in range(4):
        two_people.add("ann", face(0, 60 + number), det_score=0.56)
        two_people.add("ann", None, **FACELESS)
    reasons = two_people.reasons(rules())
    assert Counter(reason for row in reasons for reason in row) == {"no_face": 4}


def many(count: int = 60) -> Photos:
    photos = Photos()
    for number in range(count):
        photos.add(f"person {number % 7}", face(number % 7, number))
    for number in range(0, count, 10):
        photos.add("person 0", face(0, number), source={"image_id": photos.source[number]["image_id"]})
    return photos


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_features_does_not_matter(seed: int) -> None:
    photos = many()
    config = rules(shard_size=10)
    features = photos.feature_table()
    extra = pa.Table.from_pylist([{"image_id": "f" * 64, "outcome": "analysed", "n_faces": 0}], schema=FEATURES)
    features = pa.concat_tables([extra, features])
    order = np.random.default_rng(seed).permutation(len(features))
    shuffled = pa.concat_tables([features.take(order[:20]), features.take(order[20:])])
    means = np.zeros((0, DIM), np.float32)
    first, second = (
        select(photos.source_table(), table, config, means) for table in (photos.feature_table(), shuffled)
    )
    assert first.images.equals(second.images)
    assert first.identities.equals(second.identities)


def keys_and_shards(config: DataConfig) -> tuple[list[str], list[int]]:
    selection = many().select(config)
    keys, shards = column(selection, "key"), column(selection, "shard")
    accepted = column(selection, "accepted")
    assert [key is not None for key in keys] == [shard is not None for shard in shards] == accepted
    return [key for key in keys if key], [shard for shard in shards if shard is not None]


@pytest.mark.parametrize("size", [1, 7, 10, 22, 65, 66, 67, 1000])
def test_keys_are_unique_and_shards_dense_and_even(size: int) -> None:
    keys, shards = keys_and_shards(off(shard_size=size))
    assert len(keys) == len(set(keys)) == 66
    assert sum("-" in key for key in keys) == 6, "equal bytes kept twice have keys of their own"
    assert all(not set(key) - set("0123456789abcdef-") for key in keys)
    counts = Counter(shards)
    assert sorted(counts) == list(range(-(-66 // size)))
    assert max(counts.values()) <= size and max(counts.values()) - min(counts.values()) <= 1


def test_shards_mix_people_and_the_seed_decides_how() -> None:
    first, second = (keys_and_shards(off(shard_size=22, seed=seed)) for seed in (0, 1))
    assert first[0] == second[0], "keys name the photo, not its place"
    assert first[1] != second[1]
    assert keys_and_shards(off(shard_size=22, seed=0)) == first


def test_read_features_refuses_files_of_another_configuration(tmp_path: Any, two_people: Photos) -> None:
    out = Storage(tmp_path)
    for part, made_under in ((0, "this"), (1, "other")):
        table = two_people.feature_table().replace_schema_metadata({"analyse_hash": made_under})
        out.write_table(f"features/part-{part:05d}.parquet", table)
    assert len(read_features(out, 1, "this", ["image_id"])) == 10
    with pytest.raises(ValueError, match=r"part-00001\.parquet is of another configuration"):
        read_features(out, 2, "this", ["image_id"])
