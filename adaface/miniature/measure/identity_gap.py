"""How much of a person is in a picture: cosine to the own photograph, minus cosine to other people's.

A ratio of plain cosines flatters noise: pictures without any face agree with everybody a little. The gap does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IdentityGap:
    """Means over people, and the standard error of the gap."""

    own: float
    others: float
    gap: float
    gap_error: float
    top1: float  # share of pictures nearest to their own person among all
    people: int

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        numbers = {
            "own": self.own,
            "others": self.others,
            "gap": self.gap,
            "gap_error": self.gap_error,
            "top1": self.top1,
        }
        return {f"{prefix}{name}": round(value, 4) for name, value in numbers.items()}


def identity_gap(pictures: np.ndarray, references: np.ndarray) -> IdentityGap:
    """Gap of generated pictures.

    Args:
        pictures: (P, K, D) float: ID embeddings of K pictures of each of P people, unit norm; all zero where no face
            was found, which counts as a cosine of 0.
        references: (P, D): the unit embedding of each person's photograph.
    """
    if pictures.ndim != 3 or references.shape != (pictures.shape[0], pictures.shape[2]) or len(pictures) < 2:
        raise ValueError(
            f"need (P, K, D) pictures and (P, D) references, P >= 2; got {pictures.shape}, {references.shape}"
        )
    people = len(references)
    cosine = np.einsum("pkd,qd->pkq", pictures, references)
    nearest = cosine.argmax(axis=2) == np.arange(people)[:, None]
    per_person = cosine.mean(axis=1)
    own = np.diagonal(per_person)
    others = (per_person.sum(axis=1) - own) / (people - 1)
    gap = own - others
    return IdentityGap(
        own=float(own.mean()),
        others=float(others.mean()),
        gap=float(gap.mean()),
        gap_error=float(gap.std(ddof=1) / np.sqrt(people)),
        top1=float(nearest.mean()),
        people=people,
    )
