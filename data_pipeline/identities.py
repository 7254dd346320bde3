"""Who a folder is about: robust mean embeddings, person types, and identities that are one person or an
evaluation's."""

from __future__ import annotations

import glob
import io
import os
import pickle
from dataclasses import dataclass

import numpy as np

from data_pipeline.storage import Storage, is_uri

# Cosine of one image to a mean from which it is this person rather than another: strangers stay below 0.35 with the
# small recogniser of the tests and below 0.2 with antelopev2.
AGREEMENT = 0.5


@dataclass(frozen=True)
class Centre:
    """The mean embedding of one identity."""

    mean: np.ndarray  # (D,) float32, unit norm
    similarity: np.ndarray  # (n,) float32, cosine of every embedding of the identity to it


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)


def plain_centre(embeddings: np.ndarray, usable: np.ndarray) -> Centre:
    """The original's centre: the mean of all usable embeddings, outliers included (filter_faces.py).

    Args:
        embeddings: (n, D) float32, unit norm.
        usable: (n,) bool, images that passed the rules on single images; when none did, all count.
    """
    chosen = embeddings[usable] if usable.any() else embeddings
    mean = unit(chosen.mean(axis=0))
    return Centre(mean, embeddings @ mean)


def robust_centre(embeddings: np.ndarray, usable: np.ndarray) -> Centre:
    """The mean of those who agree.

    It starts from the half of the images nearest to the medoid, so that up to half a folder of strangers cannot pull
    it away, and is then recomputed twice from the images whose cosine to it is at least AGREEMENT. That is lower than
    any sensible limit for
    accepting an image: whoever is this person rather than another takes part, so that one who aged over the photos is
        not reduced to his commonest age.

    Args and returns as `plain_centre`.
    """
    chosen = embeddings[usable] if usable.any() else embeddings
    # All pairs of a few thousand images are enough to find a typical one; a folder of 100,000 must not need 40 GB.
    sample = chosen[:: max(1, len(chosen) // 2000)]
    medoid = sample[int(np.argmax(np.median(sample @ sample.T, axis=1)))]
    nearest = np.argsort(-(chosen @ medoid), kind="stable")[: (len(chosen) + 1) // 2]
    mean = unit(chosen[nearest].mean(axis=0))
    for _ in range(2):
        agree = chosen @ mean >= AGREEMENT
        if not agree.any():
            break
        mean = unit(chosen[agree].mean(axis=0))
    return Centre(mean, embeddings @ mean)


def nearest_other(
    embeddings: np.ndarray, own: np.ndarray, means: np.ndarray, block: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """For every embedding the identity, other than its own, whose mean is nearest.

    Args:
        embeddings: (N, D) float32, unit norm.
        own: (N,) int, row of the own identity in `means`, -1: none.
        means: (K, D) float32, unit norm.

    Returns:
        (N,) int, row in `means`, -1 where there is no other; (N,) float32 cosine, NaN there.
    """
    nearest = np.full(len(embeddings), -1, dtype=np.int64)
    similarity = np.full(len(embeddings), np.nan, dtype=np.float32)
    if not len(means):
        return nearest, similarity
    for start in range(0, len(embeddings), block):
        rows = slice(start, start + block)
        cosine = embeddings[rows] @ means.T
        known = np.flatnonzero(own[rows] >= 0)
        cosine[known, own[rows][known]] = -np.inf
        best = cosine.argmax(axis=1)
        value = cosine[np.arange(len(best)), best]
        there = np.isfinite(value)
        nearest[rows] = np.where(there, best, -1)
        similarity[rows] = np.where(there, value, np.nan)
    return nearest, similarity


def merged_into_larger(means: np.ndarray, sizes: np.ndarray, min_similarity: float) -> np.ndarray:
    """Identities whose mean equals that of a larger one: the same person under two names.

    Args:
        means: (K, D) float32, unit norm.
        sizes: (K,) int, images of each; of two equal sizes the earlier counts as larger.

    Returns:
        (K,) int, the larger identity, or -1.
    """
    into = np.full(len(means), -1, dtype=np.int64)
    order = np.lexsort((np.arange(len(means)), -sizes))
    kept: list[int] = []
    for identity in order:
        if kept:
            cosine = means[kept] @ means[identity]
            best = int(cosine.argmax())
            if cosine[best] >= min_similarity:
                into[identity] = kept[best]
                continue
        kept.append(int(identity))
    return into


def load_eval_means(patterns: list[str], id_dim: int | None) -> tuple[np.ndarray, list[str]]:
    """Mean embeddings of evaluation identities.

    Reads `.npy`, `.safetensors`, `.pt` (tensors only, nothing in it is executed) and the `identities.parquet` of
    another dataset; local names may be globs.

    Returns:
        (K, D) float32, unit norm, and a name for each.

    Raises:
        ValueError: files that are missing, unreadable or of another length than `id_dim`, all at once.
    """
    rows: list[np.ndarray] = []
    names: list[str] = []
    problems: list[str] = []
    for pattern in patterns:
        files = [pattern] if is_uri(pattern) else sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        if not files:
            problems.append(f"data.eval_identities: no file matches {pattern}")
        for file in files:
            try:
                vectors, labels = _read_means(file)
            except (OSError, ValueError, KeyError) as error:
                problems.append(f"data.eval_identities: {file} cannot be read: {error}")
                continue
            if id_dim is not None and vectors.shape[1] != id_dim:
                problems.append(
                    f"data.eval_identities: {file} has embeddings of length {vectors.shape[1]}, the recogniser of "
                    f"perception.pack gives {id_dim}; make them with the same model"
                )
                continue
            rows.append(unit(vectors))
            names += labels
    if problems:
        raise ValueError("\n".join(problems))
    return (np.concatenate(rows) if rows else np.zeros((0, id_dim or 1), np.float32)), names


def _read_means(file: str) -> tuple[np.ndarray, list[str]]:
    folder, _, name = file.rpartition("/")
    storage = Storage(folder or ".")
    if name.endswith(".parquet"):
        table = storage.read_table(name, columns=["identity", "mean_embedding"])
        pairs = [(row["identity"], row["mean_embedding"]) for row in table.to_pylist() if row["mean_embedding"]]
        if not pairs:
            raise ValueError("it holds no mean embedding")
        return np.array([vector for _, vector in pairs], np.float32), [label for label, _ in pairs]
    data = storage.read_bytes(name)
    if name.endswith(".npy"):
        vectors = np.load(io.BytesIO(data), allow_pickle=False)
    elif name.endswith(".safetensors"):
        vectors = _safetensors_rows(data)
    elif name.endswith(".pt"):
        vectors = _torch_rows(data)
    else:
        raise ValueError("known endings are .npy, .safetensors, .pt and .parquet")
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(f"expected finite embeddings of shape (K, D), got {vectors.shape}")
    label = file.rsplit("/", 2)[-2] if "/" in file else name
    return vectors, [label] * len(vectors)


def _safetensors_rows(data: bytes) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if not tensors:
        raise ValueError("it holds no tensor")
    rows = [np.atleast_2d(tensor) for _, tensor in sorted(tensors.items())]
    return np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows])


def _torch_rows(data: bytes) -> np.ndarray:
    """A tensor saved by `torch.save`; files that hold anything else are refused, and nothing in them is executed."""
    import torch

    try:
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # torch's own message advises to switch the protection off.
        raise ValueError("it is damaged, or holds more than one plain tensor") from error
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}, not a tensor")
    return tensor.detach().float().numpy()
