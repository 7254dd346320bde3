"""Every rule on constructed tables: who is rejected, for which reasons together, and who is kept instead."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.duplicates import near_duplicates_across
from data_pipeline.identities import unit
from data_pipeline.reasons import REASONS
from data_pipeline.schema import FEATURES, IDENTITIES, SELECTION
from data_pipeline.select import Selection, read_features, select
from data_pipeline.storage import Storage
from tests.data_pipeline.tables import BROKEN, DIM, FACELESS, Photos, face, off, rules


def own(person: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[person]


def column(selection: Selection, name: str) -> list[Any]:
    return selection.images[name].to_pylist()


@pytest.fixture
def photos() -> Photos:
    """Two sound people of five photos each: rows 0..4 and 5..9."""
    made = Photos()
    made.person("ann", 0)
    made.person("bob", 1)
    return made


def test_sound_photos_are_accepted(photos: Photos) -> None:
    selection = photos.select(rules())
    assert column(selection, "accepted") == [True] * 10
    assert column(selection, "reasons") == [[]] * 10
    assert selection.images.schema == SELECTION
    assert selection.identities.schema == IDENTITIES
    assert column(selection, "path") == photos.source_table()["path"].to_pylist()
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
def test_reasons_of_one_image(photos: Photos, reason: str) -> None:
    features = ON_ONE_IMAGE[reason]
    has_face = "embedding_norm" not in features or features["embedding_norm"] is not None
    row = photos.add("ann", face(0, 99) if has_face else None, **features)
    selection = photos.select(rules(min_embedding_norm=5.0))
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
def test_reasons_across_images(photos: Photos, reason: str) -> None:
    rows, means = scenario(reason, photos)
    reasons = photos.reasons(rules(), means)
    assert [reasons[row] for row in rows] == [[reason]] * len(rows)
    assert reasons[:10] == [[]] * 10
    unaffected = photos.reasons(off(), means)
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


def test_the_original_profile_does_what_the_original_did(photos: Photos) -> None:
    """gen_face_masks.py and filter_faces.py: class counts, a face, cosine 0.65 to the plain mean; nothing else."""
    awful = {"width": 20, "height": 20, "det_score": 0.1, "second_face": 1.0, "yaw": 170.0, "sharpness": 0.0}
    photos.add("ann", face(0, 60), face_pixels=1.0, embedding_norm=0.1, **awful)
    photos.add("ann", face(0, 0), source={"image_id": photos.source[0]["image_id"]}, phash=0)
    photos.add("alone", face(3))
    photos.add("ann again", face(0, 61))
    too_few = photos.add("ann", face(0, 62), n_parts=9)
    too_many = photos.add("ann", face(0, 63), n_parts=18)
    broken = photos.add("bob", None, **BROKEN)
    faceless = photos.add("bob", None, **FACELESS)
    stranger = photos.add("bob", face(7, similarity=1.0))
    reasons = photos.reasons(rules("original"), face(1)[None])
    assert {row: reasons[row] for row in range(len(reasons)) if reasons[row]} == {
        too_few: ["too_few_parts"],
        too_many: ["too_many_parts"],
        broken: ["decode_error"],
        faceless: ["no_face"],
        stranger: ["identity_outlier"],
    }


def test_the_original_s_mean_includes_the_outliers_but_not_what_the_masks_rejected(photos: Photos) -> None:
    photos.add("ann", face(7, similarity=1.0))
    photos.add("ann", face(8, similarity=1.0), n_parts=3)
    selection = photos.select(rules("original"))
    rows = np.stack([*(face(0, number) for number in range(5)), face(7, similarity=1.0)])
    mean = unit(rows.mean(axis=0))
    np.testing.assert_allclose(selection.identities["mean_embedding"][0].as_py(), mean, atol=1e-6)
    similarity = column(selection, "identity_similarity")
    np.testing.assert_allclose([*similarity[:5], similarity[10]], rows @ mean, atol=1e-6)
    assert similarity[11] == pytest.approx(face(8, similarity=1.0) @ mean, abs=1e-6)


def test_limits_across_images_are_exact_in_float32(photos: Photos) -> None:
    first = photos.select(rules(near_duplicate_similarity=None))
    worst = min(column(first, "identity_similarity"))
    at = photos.reasons(rules(min_identity_similarity=worst, near_duplicate_similarity=None))
    above = photos.reasons(
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


def test_det_scores_of_an_identity_are_a_median_over_faces(photos: Photos) -> None:
    for number in range(4):
        photos.add("ann", face(0, 60 + number), det_score=0.56)
        photos.add("ann", None, **FACELESS)
    reasons = photos.reasons(rules())
    assert Counter(reason for row in reasons for reason in row) == {"no_face": 4}


def test_an_exact_duplicate_stays_with_the_right_person(photos: Photos) -> None:
    """A photo of bob lies in ann's folder, which comes first, too."""
    copy = {"image_id": photos.source[7]["image_id"]}
    wrong = photos.add("aaa", face(1, 2), source=copy)
    photos.person("aaa", 9)
    selection = photos.select(rules())
    reasons = column(selection, "reasons")
    assert reasons[wrong] == ["identity_outlier", "duplicate_exact"]
    assert reasons[7] == []
    assert column(selection, "duplicate_of")[wrong] == photos.source[7]["path"]
    assert Counter(map(len, reasons)) == {0: 15, 2: 1}


def test_a_better_copy_takes_the_place_of_a_worse_one(photos: Photos) -> None:
    phash = photos.features[photos.source[0]["image_id"]]["phash"]
    better = photos.add("ann", face(0, 0), phash=phash ^ 0b1, width=2000)
    selection = photos.select(rules())
    assert column(selection, "reasons")[0] == ["duplicate_near"]
    assert column(selection, "reasons")[better] == []
    assert column(selection, "duplicate_of")[0] == photos.source[better]["path"]


def test_a_rejected_copy_takes_nobody_s_place(photos: Photos) -> None:
    phash = photos.features[photos.source[0]["image_id"]]["phash"]
    photos.add("ann", face(0, 0), phash=phash, width=2000, sharpness=0.0)
    assert photos.reasons(rules()) == [[]] * 10 + [["blurry"]]


def test_phash_is_compared_inside_an_identity_only(photos: Photos) -> None:
    phash = photos.features[photos.source[0]["image_id"]]["phash"]
    photos.add("bob", face(1, 70), phash=phash)
    photos.add(None, face(9, 70), phash=phash)
    photos.add(None, face(9, 71), phash=phash)
    assert photos.reasons(rules()) == [[]] * 13


def test_one_photo_of_unknown_people_twice(photos: Photos) -> None:
    photos.add(None, face(9, 1), width=500)
    photos.add(None, face(9, 1), width=600)
    photos.add(None, face(0, 0), width=500)
    selection = photos.select(rules())
    assert column(selection, "reasons") == [[]] * 10 + [["duplicate_near"], [], ["duplicate_near"]]
    paths = column(selection, "path")
    assert column(selection, "duplicate_of")[10:] == [paths[11], None, paths[0]]


def test_what_a_duplicate_points_to_was_kept(photos: Photos) -> None:
    """Bytes equal to one that is in turn the worse copy of a third."""
    first = photos.source[0]
    phash = photos.features[first["image_id"]]["phash"]
    photos.add("ann", face(0, 0), source={"image_id": first["image_id"]}, phash=phash)
    best = photos.add("ann", face(0, 0), phash=phash, width=2000)
    selection = photos.select(rules())
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


def test_the_larger_of_two_names_of_one_person_stays(photos: Photos) -> None:
    rows = [photos.add("zoe", face(0, 50 + n)) for n in range(7)]
    reasons = photos.reasons(rules())
    assert reasons[:5] == [["identity_merged"]] * 5 and reasons[5:] == [[]] * (5 + len(rows))


def test_an_identity_of_rejects_swallows_nobody(photos: Photos) -> None:
    for n in range(7):
        photos.add("zoe", face(0, 50 + n), sharpness=0.0)
    assert photos.reasons(rules()) == [[]] * 10 + [["blurry"]] * 7


def test_a_leak_takes_the_identity_and_every_single_face(photos: Photos) -> None:
    photos.add("ann", None, **BROKEN)
    photos.add("ann", face(5, similarity=1.0))
    alone = photos.add("bob", face(0, 90))
    unknown = photos.add(None, face(0, 91))
    reasons = photos.reasons(rules(min_identity_images=None), own(0)[None])
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


def test_unknown_people_need_no_count(photos: Photos) -> None:
    photos.add(None, face(9))
    assert photos.reasons(rules()) == [[]] * 11


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


def test_the_table_of_identities(photos: Photos) -> None:
    photos.add("ann", None, **FACELESS)
    photos.add("ann", face(5, similarity=1.0), gender=1, age=80, det_score=0.6)
    selection = photos.select(rules())
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


def test_only_the_accepted_have_a_say_in_the_person_type(photos: Photos) -> None:
    for number in range(9):
        photos.add("ann", face(10 + number, similarity=1.0), gender=1, age=70)
    photos.add("late", face(20), sharpness=0.0, gender=1, age=70)
    ann, _, late = photos.select(rules(identity_centre="mean", min_identity_similarity=0.5)).identities.to_pylist()
    assert (ann["accepted"], ann["person_type"]) == (5, "young woman")
    assert (late["accepted"], late["person_type"]) == (0, "man"), "where nobody is accepted, all have"


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


def test_read_features_refuses_files_of_another_configuration(tmp_path: Any, photos: Photos) -> None:
    out = Storage(tmp_path)
    for part, made_under in ((0, "this"), (1, "other")):
        table = photos.feature_table().replace_schema_metadata({"analyse_hash": made_under})
        out.write_table(f"features/part-{part:05d}.parquet", table)
    assert len(read_features(out, 1, "this", ["image_id"])) == 10
    with pytest.raises(ValueError, match=r"part-00001\.parquet is of another configuration"):
        read_features(out, 2, "this", ["image_id"])
