from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaface.evaluation.gallery import Gallery


def gallery(length: int, seed: int = 0) -> Gallery:
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 3, length).astype(np.int32)
    found = (faces > 0)[:, None]

    def rows(width: int) -> np.ndarray:
        return rng.normal(size=(length, width)).astype(np.float32)

    return Gallery(
        faces=faces,
        boxes=np.where(found, rows(4), np.float32(np.nan)),
        embeddings={"pack": np.where(found, rows(8), np.float32(0)), "judge": rows(5)},
        images={"clip": rows(6)},
        seen={"place": [f"place {index}" for index in range(length)]},
        scores=np.where(found[:, 0], rows(1)[:, 0], np.float32(np.nan)),
    )


def assert_same(one: Gallery, other: Gallery) -> None:
    for name in ("faces", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for group in ("embeddings", "images"):
        assert list(getattr(one, group)) == list(getattr(other, group))
        for name, rows in getattr(one, group).items():
            np.testing.assert_array_equal(rows, getattr(other, group)[name])
            assert rows.dtype == getattr(other, group)[name].dtype == np.float32
    assert one.seen == other.seen


def test_rows_come_back_to_the_last_bit():
    whole = gallery(9)
    assert_same(Gallery.from_rows(whole.to_rows()), whole)


def test_rows_go_through_parquet_to_the_last_bit(tmp_path):
    whole = gallery(9)
    assert np.isnan(whole.boxes).any()
    table = pa.Table.from_pylist([{"file": f"{row}.png", **features} for row, features in enumerate(whole.to_rows())])
    assert table.schema.field("embedding_pack").type == pa.list_(pa.float32())
    assert table.schema.field("face_score").type == pa.float32()
    pq.write_table(table, tmp_path / "features.parquet")
    back = pq.read_table(tmp_path / "features.parquet")
    assert_same(Gallery.from_rows(back.to_pylist()), whole)


def test_parts_make_up_the_whole():
    whole = gallery(9)
    parts = [whole.select(slice(0, 4)), whole.select([]), whole.select(np.arange(4, 9))]
    assert [len(part) for part in parts] == [4, 0, 5]
    assert_same(Gallery.concat(parts), whole)
    assert_same(Gallery.concat([whole]), whole)


def test_rows_are_selected_in_any_order_and_by_masks():
    whole = gallery(9)
    some = whole.select([7, 2])
    assert some.seen == {"place": ["place 7", "place 2"]}
    np.testing.assert_array_equal(some.embeddings["pack"], whole.embeddings["pack"][[7, 2]])
    assert_same(whole.select(whole.detected), whole.select(np.flatnonzero(whole.faces)))


def test_features_of_different_models_do_not_mix():
    other = gallery(2)
    del other.embeddings["judge"]
    other.images["dino"] = other.images["clip"]
    with pytest.raises(ValueError, match=r"of different models \(embedding_judge, image_dino\)"):
        Gallery.concat([gallery(2), other])


def test_what_cannot_be_features_is_refused():
    with pytest.raises(ValueError, match="features of 2 pictures, but embedding_pack has 3, seen_place has 1"):
        Gallery(
            np.zeros(2, np.int32),
            np.zeros((2, 4), np.float32),
            {"pack": np.zeros((3, 2), np.float32)},
            seen={"place": ["snow"]},
        )
    with pytest.raises(ValueError, match="nothing to put together"):
        Gallery.concat([])
    with pytest.raises(ValueError, match="no rows"):
        Gallery.from_rows([])
    with pytest.raises(ValueError, match="rows without box and face_score hold no features"):
        Gallery.from_rows([{"faces": 1, "file": "a.png"}])


def test_scores_may_be_left_out():
    assert np.isnan(Gallery(np.ones(2, np.int32), np.zeros((2, 4), np.float32)).scores).all()
