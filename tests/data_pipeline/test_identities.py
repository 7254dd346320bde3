"""Who a folder is about, when part of it is somebody else; and which identities are one, or an evaluation's."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from data_pipeline.identities import (
    load_eval_means,
    merged_into_larger,
    nearest_other,
    plain_centre,
    robust_centre,
    unit,
)
from data_pipeline.schema import IDENTITIES
from data_pipeline.storage import Storage
from tests.data_pipeline.tables import face

DIM = 128
ALL = np.ones(100, bool)


def people(*counts: int, similarity: float = 0.8) -> np.ndarray:
    """Faces of several people, `counts[n]` of person n, shuffled; people are orthogonal."""
    rows = [face(person, number, similarity, DIM) for person, count in enumerate(counts) for number in range(count)]
    return np.random.default_rng(sum(counts)).permutation(np.stack(rows))


def own(person: int = 0) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[person]


@pytest.mark.parametrize("similarity", [0.75, 0.85, 0.95])
@pytest.mark.parametrize(
    "counts",
    [(60, 40), (60, 20, 20), (60, *[1] * 40), (10, 6), (6, 4), (6, 2, 2), (3, 1, 1), (2, 1)],
    ids=lambda counts: "-".join(map(str, counts[:3])),
)
def test_robust_centre_is_not_moved_by_strangers(counts: tuple[int, ...], similarity: float) -> None:
    """Up to 40% of strangers, of one person or of many."""
    embeddings = people(*counts, similarity=similarity)
    centre = robust_centre(embeddings, np.ones(len(embeddings), bool))
    clean = unit(np.stack([face(0, number, similarity, DIM) for number in range(counts[0])]).mean(axis=0))
    assert centre.mean @ clean > 0.99
    assert np.linalg.norm(centre.mean) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(centre.similarity, embeddings @ centre.mean, atol=1e-6)
    assert ((centre.similarity >= 0.65) == (embeddings @ own() > 0.5)).all()


def test_strangers_move_the_plain_centre() -> None:
    embeddings = people(60, 40)
    assert plain_centre(embeddings, ALL).mean @ own() < 0.9 < robust_centre(embeddings, ALL).mean @ own()


def test_plain_centre_is_the_original_s() -> None:
    """filter_faces.py: the mean of all embeddings of the folder, normalised; similarities are dot products with it."""
    rng = np.random.default_rng(0)
    embeddings = unit(rng.normal(size=(20, DIM)) + 2 * own())
    mean = embeddings.mean(axis=0)
    mean /= np.linalg.norm(mean)
    centre = plain_centre(embeddings, np.ones(20, bool))
    np.testing.assert_allclose(centre.mean, mean, atol=1e-6)
    np.testing.assert_allclose(centre.similarity, [float(e @ mean) for e in embeddings], atol=1e-6)
    assert centre.mean.dtype == centre.similarity.dtype == np.float32


@pytest.mark.parametrize("make", [plain_centre, robust_centre])
def test_only_usable_images_count_and_all_are_compared(make: Callable) -> None:
    embeddings = np.stack([face(0, 0, dim=DIM), face(0, 1, dim=DIM), face(1, 0, dim=DIM), face(1, 1, dim=DIM)])
    first = make(embeddings, np.array([True, True, False, False]))
    np.testing.assert_allclose(first.mean, make(embeddings[:2], np.ones(2, bool)).mean, atol=1e-6)
    assert first.similarity.shape == (4,)
    none = make(embeddings, np.zeros(4, bool))
    np.testing.assert_allclose(none.mean, make(embeddings, np.ones(4, bool)).mean, atol=1e-6)


@pytest.mark.parametrize("make", [plain_centre, robust_centre])
def test_one_image_is_its_own_centre(make: Callable) -> None:
    (embedding,) = people(1)
    centre = make(embedding[None], np.ones(1, bool))
    np.testing.assert_allclose(centre.mean, embedding, atol=1e-6)
    assert centre.similarity == pytest.approx([1], abs=1e-6)


def test_robust_centre_does_not_depend_on_order() -> None:
    embeddings = people(13, 4, 3)
    order = np.random.default_rng(1).permutation(20)
    a, b = (robust_centre(rows, np.ones(20, bool)) for rows in (embeddings, embeddings[order]))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-5)


def test_robust_centre_of_a_crowd_is_made_of_a_sample() -> None:
    embeddings = people(6000, 3000)
    assert robust_centre(embeddings, np.ones(9000, bool)).mean @ own() > 0.99


def test_people_who_changed_keep_their_early_photos() -> None:
    """Two ages of one person, similar to each other by 0.64 only: both are kept by a limit below that."""
    young, old = own(0), unit(0.64 * own(0) + np.sqrt(1 - 0.64**2) * own(1))
    rows = [young] * 7 + [old] * 5
    centre = robust_centre(np.stack(rows), np.ones(12, bool))
    assert centre.similarity.min() > 0.8


def test_nearest_other_equals_a_search_of_everything() -> None:
    rng = np.random.default_rng(2)
    means = unit(rng.normal(size=(9, 6)))
    embeddings = unit(rng.normal(size=(50, 6)))
    identity = rng.integers(-1, 9, 50)
    for block in (1, 7, 4096):
        nearest, cosine = nearest_other(embeddings, identity, means, block)
        for row in range(50):
            others = [k for k in range(9) if k != identity[row]]
            best = max(others, key=lambda k: embeddings[row] @ means[k])
            assert nearest[row] == best
            assert cosine[row] == pytest.approx(embeddings[row] @ means[best], abs=1e-6)


def test_nearest_other_of_nobody() -> None:
    one = unit(np.ones((1, 4)))
    for embeddings, identity, means in (
        (one, np.array([0]), one),
        (one, np.array([-1]), np.zeros((0, 4), np.float32)),
    ):
        nearest, cosine = nearest_other(embeddings, identity, means)
        assert nearest.tolist() == [-1] and np.isnan(cosine).all()
    nearest, cosine = nearest_other(one, np.array([-1]), one)
    assert nearest.tolist() == [0] and cosine == pytest.approx([1])
    assert nearest_other(np.zeros((0, 4), np.float32), np.zeros(0, int), one)[0].shape == (0,)


def test_merged_keeps_the_larger() -> None:
    means = np.stack([face(0, 0, 0.95), face(1), face(0, 1, 0.95), face(0, 2, 0.95)])
    assert merged_into_larger(means, np.array([5, 1, 9, 5]), 0.6).tolist() == [2, -1, -1, 2]
    assert merged_into_larger(means, np.array([5, 5, 5, 5]), 0.6).tolist() == [-1, -1, 0, 0]
    assert merged_into_larger(means, np.array([5, 1, 9, 5]), 1.0).tolist() == [-1] * 4
    assert merged_into_larger(means[:0], np.zeros(0, int), 0.6).tolist() == []


def test_merged_points_to_one_that_is_kept() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        means, sizes = unit(rng.normal(size=(40, 4))), rng.integers(1, 5, 40)
        into = merged_into_larger(means, sizes, 0.7)
        for identity, larger in enumerate(into):
            if larger >= 0:
                assert into[larger] == -1 and sizes[larger] >= sizes[identity]
                assert means[identity] @ means[larger] >= 0.7
        kept = np.flatnonzero(into < 0)
        cosine = means[kept] @ means[kept].T - 2 * np.eye(len(kept))
        assert cosine.max() < 0.7


@pytest.fixture
def vectors() -> np.ndarray:
    return (np.random.default_rng(4).normal(size=(3, DIM)) * 5).astype(np.float32)


def test_eval_means_of_every_format(tmp_path: Path, vectors: np.ndarray) -> None:
    (tmp_path / "ann").mkdir()
    np.save(tmp_path / "ann/means.npy", vectors)
    save_file({"a": vectors[0], "b": vectors[1:]}, tmp_path / "ann/means.safetensors")
    torch.save(torch.from_numpy(vectors), tmp_path / "ann/mean_emb.pt")
    row = {"source": "s", "images": 1, "faces": 1, "accepted": 1, "person_type": "man"}
    rows = [{**row, "identity": f"s/{n}", "mean_embedding": v} for n, v in enumerate([*vectors.tolist(), None])]
    pq.write_table(pa.Table.from_pylist(rows, schema=IDENTITIES), tmp_path / "identities.parquet")
    for name in ("ann/means.npy", "ann/means.safetensors", "ann/mean_emb.pt", "identities.parquet"):
        means, names = load_eval_means([str(tmp_path / name)], DIM)
        np.testing.assert_allclose(means, unit(vectors), atol=1e-6, err_msg=name)
        assert len(names) == 3
        assert means.dtype == np.float32
    assert names == ["s/0", "s/1", "s/2"]
    assert load_eval_means([str(tmp_path / "ann/means.npy")], DIM)[1] == ["ann"] * 3


def test_eval_means_of_one_vector_and_of_half_precision(tmp_path: Path, vectors: np.ndarray) -> None:
    torch.save(torch.from_numpy(vectors[:1]).half(), tmp_path / "half.pt")
    torch.save(torch.from_numpy(vectors[0]).bfloat16().requires_grad_(), tmp_path / "grad.pt")
    np.save(tmp_path / "one.npy", vectors[0].astype(np.float64))
    for name in ("half.pt", "grad.pt", "one.npy"):
        means, _ = load_eval_means([str(tmp_path / name)], DIM)
        assert means.shape == (1, DIM)
        assert float((means @ unit(vectors[:1]).T)[0, 0]) > 0.999


def test_eval_means_by_globs_and_from_an_object_store(
    tmp_path: Path, vectors: np.ndarray, s3: Callable[[], str]
) -> None:
    for person in ("ann", "bob"):
        (tmp_path / "deep" / person).mkdir(parents=True)
        np.save(tmp_path / "deep" / person / "mean.npy", vectors[0])
    means, names = load_eval_means([f"{tmp_path}/**/mean.npy"], DIM)
    assert names == ["ann", "bob"] and means.shape == (2, DIM)
    remote = Storage(f"{s3()}/eval")
    remote.write_bytes("carl/mean.npy", (tmp_path / "deep/ann/mean.npy").read_bytes())
    means, names = load_eval_means([f"{remote.uri}/carl/mean.npy", f"{tmp_path}/deep/*/mean.npy"], DIM)
    assert names == ["carl", "ann", "bob"]
    assert load_eval_means([], DIM)[0].shape == (0, DIM)


class Malicious:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save(Malicious(tmp_path / "hacked"), tmp_path / "bad.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "hacked")))
    np.save(tmp_path / "bad.npy", np.array([Malicious(tmp_path / "hacked")], dtype=object), allow_pickle=True)
    for name in ("bad.pt", "old.pt", "bad.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_eval_means([str(tmp_path / name)], DIM)
    assert not (tmp_path / "hacked").exists()


def test_all_problems_of_eval_means_at_once(tmp_path: Path, vectors: np.ndarray) -> None:
    np.save(tmp_path / "short.npy", vectors[:, :7])
    np.save(tmp_path / "nan.npy", np.full((2, DIM), np.nan, np.float32))
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, DIM), np.float32))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "empty.npy", np.zeros((0, DIM), np.float32))
    torch.save({"mean": torch.from_numpy(vectors)}, tmp_path / "dict.pt")
    save_file({}, tmp_path / "none.safetensors")
    save_file({"a": np.float32([1])[0:1].reshape(())}, tmp_path / "scalar.safetensors")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    for name in ("cut.npy", "cut.pt", "cut.safetensors", "cut.parquet"):
        (tmp_path / name).write_bytes(b"\x93NUMPY not really")
    (tmp_path / "mean.txt").write_text("1 2 3")
    np.save(tmp_path / "good.npy", vectors)
    files = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError) as problem:
        load_eval_means([str(tmp_path / name) for name in [*files, "nothing.npy"]], DIM)
    text = str(problem.value)
    assert "nothing.npy" in text and "no file matches" in text
    assert "short.npy has embeddings of length 7" in text and f"gives {DIM}" in text
    missing = [name for name in files if name not in text]
    assert missing == ["good.npy"]
