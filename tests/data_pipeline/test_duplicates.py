"""Which picture of several equal ones stays, compared with searches of every pair."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.duplicates import exact_duplicates, near_duplicates_across, near_duplicates_inside
from data_pipeline.identities import unit
from data_pipeline.measures import hamming


def test_the_first_eligible_row_of_equal_bytes_stays() -> None:
    ids = ["a", "b", "a", "c", "a", "b"]
    eligible = np.ones(6, bool)
    assert exact_duplicates(ids, eligible).tolist() == [-1, -1, 0, -1, 0, 1]
    eligible[0] = False
    assert exact_duplicates(ids, eligible).tolist() == [2, -1, -1, -1, 2, 1]
    assert exact_duplicates(ids, np.zeros(6, bool)).tolist() == [-1] * 6
    assert exact_duplicates([], np.zeros(0, bool)).tolist() == []


def test_the_best_picture_of_an_identity_stays() -> None:
    hashes = np.array([0b0, 0b1, 0b111111, 0b0, -1], np.int64)
    assert near_duplicates_inside(hashes, np.array([1.0, 9, 1, 1, 1]), 1).tolist() == [1, -1, -1, 1, -1]
    assert near_duplicates_inside(hashes, np.ones(5), 1).tolist() == [-1, 0, -1, 0, -1]
    assert near_duplicates_inside(hashes, np.ones(5), 0).tolist() == [-1, -1, -1, 0, -1]
    assert near_duplicates_inside(hashes, np.ones(5), 64).tolist() == [-1, 0, 0, 0, 0]
    assert near_duplicates_inside(hashes[:0], np.ones(0), 4).tolist() == []


@pytest.mark.parametrize("seed", range(10))
def test_inside_nothing_like_a_kept_one_is_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(-(2**63), 2**63, 8)
    hashes = rng.choice(base, 60)
    for _ in range(3):  # up to three bits away from one of eight pictures
        hashes = hashes ^ (np.int64(1) << rng.integers(0, 63, 60))
    quality = rng.integers(1, 4, 60).astype(float)
    copy_of = near_duplicates_inside(hashes, quality, 4)
    kept = np.flatnonzero(copy_of < 0)
    for row in range(60):
        bits = hamming(hashes[kept], int(hashes[row]))
        if copy_of[row] < 0:
            assert (bits <= 4).sum() == 1, "only itself"
        else:
            keeper = copy_of[row]
            assert copy_of[keeper] < 0 and quality[keeper] >= quality[row]
            assert hamming(hashes[keeper : keeper + 1], int(hashes[row]))[0] <= 4


def kept_by_hand(vectors: np.ndarray, identity: np.ndarray, quality: np.ndarray, limit: float) -> set[int]:
    """Visit rows by falling quality; keep one unless a kept row of somebody else is as near as `limit`."""
    kept: list[int] = []
    for row in sorted(range(len(vectors)), key=lambda row: (-quality[row], row)):
        rivals = [other for other in kept if identity[other] != identity[row] or identity[row] < 0]
        if not any(vectors[other] @ vectors[row] >= np.float32(limit) for other in rivals):
            kept.append(row)
    return set(kept)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("block", [3, 2048])
def test_across_equals_a_search_of_every_pair(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.choice(rng.normal(size=(12, 8)), 70) + rng.normal(size=(70, 8)) * 0.1)
    identity, quality = rng.integers(-1, 5, 70), rng.integers(1, 4, 70).astype(float)
    copy_of = near_duplicates_across(vectors, identity, quality, 0.98, block)
    assert set(np.flatnonzero(copy_of < 0)) == kept_by_hand(vectors, identity, quality, 0.98)
    for row in np.flatnonzero(copy_of >= 0):
        keeper = copy_of[row]
        assert copy_of[keeper] < 0 and quality[keeper] >= quality[row]
        assert vectors[row] @ vectors[keeper] >= 0.98 - 1e-6
        assert identity[row] != identity[keeper] or identity[row] < 0


def test_across_never_compares_within_one_person() -> None:
    vectors = unit(np.ones((3, 4)))
    same, unknown = np.zeros(3, int), np.full(3, -1)
    assert near_duplicates_across(vectors, same, np.ones(3), 0.9).tolist() == [-1, -1, -1]
    assert near_duplicates_across(vectors, unknown, np.ones(3), 0.9).tolist() == [-1, 0, 0]
    assert near_duplicates_across(vectors[:0], same[:0], np.ones(0), 0.9).tolist() == []
