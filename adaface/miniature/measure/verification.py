"""How well embeddings tell people apart."""

from __future__ import annotations

import itertools

import numpy as np

from adaface.miniature.world.identity import CONTINUOUS, DISCRETE

# The data pipeline drops photographs that are less similar than this to the mean of their person.
OUTLIER_COSINE = 0.65
GALLERY = 48


def verify(embeddings: np.ndarray, person: np.ndarray) -> dict[str, float]:
    """Measures over all pairs of unit embeddings (N, D) of people `person` (N,), several pictures of each:

    auc, eer: of telling same from different; same, different: mean cosines; different_p95: the cosine that 95 % of
    pairs of different people stay below; to_mean: cosine of a picture to the mean of its person; outliers: share of
    pictures below the pipeline's threshold; top1: how often a picture is closest to the mean of its person's *other*
    pictures among 48 people.
    """
    cosines = embeddings @ embeddings.T
    upper = np.triu_indices(len(cosines), 1)
    equal = person[upper[0]] == person[upper[1]]
    pairs = cosines[upper]
    same, different = np.sort(pairs[equal]), np.sort(pairs[~equal])
    below = np.searchsorted(different, same, "left")
    ties = np.searchsorted(different, same, "right") - below
    missed, passed = np.arange(len(same)) / len(same), 1 - below / len(different)
    crossing = int(np.argmin(np.abs(missed - passed)))
    to_mean = _to_means(embeddings, person)
    return {
        "auc": float((below + ties / 2).mean() / len(different)),
        "eer": float((missed[crossing] + passed[crossing]) / 2),
        "same": float(same.mean()),
        "different": float(different.mean()),
        "different_p95": float(np.quantile(different, 0.95)),
        "to_mean": float(to_mean.mean()),
        "outliers": float((to_mean < OUTLIER_COSINE).mean()),
        "top1": _top1(embeddings, person),
    }


def probe(embeddings: np.ndarray, factors: np.ndarray, person: np.ndarray) -> dict[str, float]:
    """How well a linear map reads the factors (N, 20) off embeddings (N, D), fitted on two thirds of the people.

    r2 is the mean over the measurements, accuracy over the choices, both on the pictures of the remaining people.
    """
    people = np.unique(person)
    fit = np.isin(person, people[: len(people) * 2 // 3])
    count = len(CONTINUOUS)
    sizes = np.cumsum([0, *DISCRETE.values()])
    columns = [np.eye(size)[factors[:, count + i].astype(int)] for i, size in enumerate(DISCRETE.values())]
    target = np.concatenate([factors[:, :count], *columns], 1).astype(np.float64)
    x = np.concatenate([embeddings, np.ones((len(embeddings), 1))], 1).astype(np.float64)
    ridge = 1e-3 * fit.sum() * np.eye(x.shape[1]) / x.shape[1]
    weights = np.linalg.solve(x[fit].T @ x[fit] + ridge, x[fit].T @ target[fit])
    read, truth = x[~fit] @ weights, target[~fit]
    wrong = ((read - truth)[:, :count] ** 2).mean(0) / truth[:, :count].var(0)
    hits = [
        (read[:, count + a : count + b].argmax(1) == truth[:, count + a : count + b].argmax(1)).mean()
        for a, b in itertools.pairwise(sizes)
    ]
    return {"r2": float(1 - wrong.mean()), "accuracy": float(np.mean(hits))}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _to_means(embeddings: np.ndarray, person: np.ndarray) -> np.ndarray:
    people, index = np.unique(person, return_inverse=True)
    sums = np.zeros((len(people), embeddings.shape[1]), np.float64)
    np.add.at(sums, index, embeddings)
    return (embeddings * _unit(sums)[index]).sum(1)


def _top1(embeddings: np.ndarray, person: np.ndarray) -> float:
    """Over as many disjoint groups of people as there are."""
    people = np.unique(person)
    hits: list[bool] = []
    for start in range(0, len(people) - GALLERY + 1, GALLERY):
        group = people[start : start + GALLERY]
        sums = np.stack([embeddings[person == who].sum(0) for who in group])
        for row, who in enumerate(group):
            for own in embeddings[person == who]:
                means = sums.copy()
                means[row] -= own
                hits.append(bool((_unit(means) @ own).argmax() == row))
    return float(np.mean(hits)) if hits else float("nan")
