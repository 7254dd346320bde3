"""One picture is enough: byte-equal files, re-encoded copies of one person, one photo under two names."""

from __future__ import annotations

import numpy as np

from data_pipeline.measures import hamming


def exact_duplicates(image_ids: list[str], eligible: np.ndarray) -> np.ndarray:
    """Rows with the bytes of one that is kept.

    Args:
        image_ids: N content hashes.
        eligible: (N,) bool, rows without another reason; the first such row of equal bytes is the one that is kept.

    Returns:
        (N,) int, the row that is kept instead, or -1.
    """
    kept: dict[str, int] = {}
    for row in np.flatnonzero(eligible):
        kept.setdefault(image_ids[row], int(row))
    keeper = np.array([kept.get(image_id, -1) for image_id in image_ids], dtype=np.int64)
    return np.where(keeper == np.arange(len(image_ids)), -1, keeper)


def near_duplicates_inside(hashes: np.ndarray, quality: np.ndarray, max_bits: int) -> np.ndarray:
    """Re-encoded or resized copies among the images of one identity.

    The best picture of each group is kept: rows are visited by falling quality, and one that differs by at most
    `max_bits` from a kept row is its copy.

    Args:
        hashes: (n,) int64 perceptual hashes.
        quality: (n,) float, e.g. pixels of the source image; ties keep the earlier row.

    Returns:
        (n,) int, the row that is kept instead, or -1.
    """
    copy_of = np.full(len(hashes), -1, dtype=np.int64)
    kept: list[int] = []
    for row in np.lexsort((np.arange(len(hashes)), -quality)):
        if kept:
            bits = hamming(hashes[kept], int(hashes[row]))
            best = int(bits.argmin())
            if bits[best] <= max_bits:
                copy_of[row] = kept[best]
                continue
        kept.append(int(row))
    return copy_of


def near_duplicates_across(
    embeddings: np.ndarray, identity: np.ndarray, quality: np.ndarray, min_similarity: float, block: int = 2048
) -> np.ndarray:
    """One photo filed under two identities, or twice among photos of unknown people.

    Args:
        embeddings: (n, D) float32, unit norm.
        identity: (n,) int, -1: unknown. Two images of one known identity are never compared here.
        quality: (n,) float; the better picture is kept, ties keep the earlier row.
        min_similarity: cosine from which two pictures count as one.

    Returns:
        (n,) int, the row that is kept instead, or -1.
    """
    rank = np.empty(len(embeddings), dtype=np.int64)
    rank[np.lexsort((np.arange(len(embeddings)), -quality))] = np.arange(len(embeddings))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(embeddings), block):
        for other in range(start, len(embeddings), block):
            ours, theirs = identity[start : start + block, None], identity[None, other : other + block]
            close = embeddings[start : start + block] @ embeddings[other : other + block].T >= min_similarity
            # Masked before anything is listed: the photos of one person can be alike in millions of pairs.
            close &= (ours != theirs) | (ours < 0)
            pairs += [(int(a), int(b)) for a, b in np.argwhere(close) + (start, other) if a < b]
    copy_of = np.full(len(embeddings), -1, dtype=np.int64)
    # Better pictures first, so that what a copy points to is itself kept.
    for a, b in sorted(pairs, key=lambda pair: (min(rank[pair[0]], rank[pair[1]]), max(rank[pair[0]], rank[pair[1]]))):
        better, worse = (a, b) if rank[a] < rank[b] else (b, a)
        if copy_of[better] < 0 and copy_of[worse] < 0:
            copy_of[worse] = better
    return copy_of
