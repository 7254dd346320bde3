from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.report.examples import accepted_faces, decode_errors, examples_of, pick, short_name
from data_pipeline.report.quantities import QUANTITIES
from data_pipeline.report.tables import Tables, load


@pytest.fixture(scope="module")
def tables(dataset: Path) -> Tables:
    return load(str(dataset))


def test_images_with_one_reason_come_first() -> None:
    alone = np.arange(40) % 4 == 0
    chosen = pick(np.arange(40), alone, np.arange(40), None, limit=6)
    assert chosen.tolist() == [0, 4, 8, 12, 16, 20]
    more = pick(np.arange(40), alone, np.arange(40), None, limit=12)
    assert alone[more].sum() == 10
    assert len(more) == 12


def test_examples_run_from_the_borderline_to_the_worst() -> None:
    severity = np.random.default_rng(0).permutation(100).astype(float)
    chosen = pick(np.arange(100), np.ones(100, bool), np.arange(100), severity, limit=5)
    assert severity[chosen].tolist() == [0, 25, 50, 74, 99]


def test_equal_bytes_are_shown_once() -> None:
    rank = np.array([0, 0, 1, 1, 2])
    alone = np.array([False, True, False, False, True])
    chosen = pick(np.arange(5), alone, rank, None)
    assert chosen.tolist() == [1, 4, 2]


def test_nothing_to_pick_from() -> None:
    assert pick(np.array([], np.int64), np.zeros(3, bool), np.arange(3), np.zeros(3)).tolist() == []


def test_captions_say_what_failed(tables: Tables) -> None:
    assert all(example.measured == "yaw 75°" for example in examples_of(tables, "extreme_pose"))
    assert all(example.measured == "120 px" for example in examples_of(tables, "too_small"))
    assert all(example.measured == "cosine 0.40" for example in examples_of(tables, "identity_outlier"))
    scores = [example.measured for example in examples_of(tables, "blurry")]
    values = [float(score.removeprefix("sharpness ")) for score in scores]
    assert values == sorted(values, reverse=True)
    assert len(values) == 12


def test_a_missed_threshold_is_never_rounded_onto() -> None:
    score = next(quantity for quantity in QUANTITIES if quantity.column == "det_score")
    assert score.caption(0.5951, 0.6) == "score 0.595"
    assert score.caption(0.5999, 0.6) == "score 0.5999"
    assert score.caption(0.41, 0.6) == "score 0.41"
    yaw = next(quantity for quantity in QUANTITIES if quantity.column == "yaw")
    assert yaw.caption(-60.2, 60) == "yaw −60.2°"
    assert yaw.write(-0.2) == "0°"


def test_outliers_stand_beside_their_identity(tables: Tables) -> None:
    for example in examples_of(tables, "identity_outlier"):
        assert example.reference is not None
        folder = example.name.split("/")[0]
        assert example.remark.startswith(f"own identity: {folder}/")


def test_near_duplicates_stand_beside_what_was_kept(tables: Tables) -> None:
    for example in examples_of(tables, "duplicate_near"):
        assert example.reference is not None
        assert example.reference.picture
        assert "apart" in example.measured
        assert example.remark.startswith("kept: ")


def test_other_reasons_are_named(tables: Tables) -> None:
    shown = {
        example.path: example.also for reason in ("too_small", "blurry") for example in examples_of(tables, reason)
    }
    rows = {path: row for row, path in enumerate(tables.source["path"].to_pylist())}
    for path, also in shown.items():
        bits = int(tables.reasons[rows[path]])
        assert len(also) == bits.bit_count() - 1


def test_unreadable_files_are_listed_with_their_error(tables: Tables) -> None:
    errors = decode_errors(tables)
    assert len(errors) == int(tables.has("decode_error").sum())
    assert all("not an image of a known format" in error for _, _, error in errors)


def test_montage_holds_accepted_images_only(tables: Tables) -> None:
    faces = accepted_faces(tables, limit=20)
    accepted = {path for path, taken in zip(tables.source["path"].to_pylist(), tables.accepted, strict=True) if taken}
    assert len(faces) == 20
    assert all(face.path in accepted for face in faces)
    assert all(face.picture.mask and face.picture.parts for face in faces)


def test_masks_are_read_for_the_rows_asked_for_only(tables: Tables) -> None:
    found = tables.read_features([3, 200, 3], ["mask"])
    assert set(found) == {3, 200} - {row for row in (3, 200) if tables.location[row, 0] < 0}


def test_short_names() -> None:
    assert short_name("s3://bucket/people/ann/1.jpg") == "ann/1.jpg"
    assert short_name("1.jpg") == "1.jpg"
