"""Is it this person rather than anybody?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table, has_face, mean_cosine


class IdentityGap:
    """gap_R: cosine to the own person less the mean cosine to the other subjects of the run, by recogniser R.

    Each person counts by the mean over their reference photos, as in `FaceSimilarity`. A picture without a face has a
    gap of 0. A plain cosine, or a quotient of two, flatters pictures of nobody, which are a little like everybody; the
    gap does not. `summary` sets it in relation to the class-word prompt's and the teacher's.

    Range -2..2; 0 is a stranger, and the most that can be reached is about `ceiling` less the likeness of different
    people. nan for runs of one subject, and for a subject whose photos show no face. Models as in `FaceSimilarity`.
    """

    name = "identity_gap"
    about = "Cosine of ID embeddings to the own person less the mean to the other subjects; 0 where no face is found."
    needs: tuple[str, ...] = ("faces",)

    def __init__(self, recognisers: Sequence[str]):
        self._recognisers = tuple(recognisers)
        self.columns: dict[str, Direction] = {f"gap_{name}": "higher" for name in self._recognisers}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        return {f"gap_{name}": _gap(name, table, references) for name in self._recognisers}


def _gap(recogniser: str, table: Table, references: Mapping[str, References]) -> np.ndarray:
    people = {name: known.faces(recogniser) for name, known in references.items()}
    people = {name: faces for name, faces in people.items() if len(faces)}
    faces, gap = table.features.embeddings[recogniser], table.nothing()
    for own, rows in table.by_subject(references):
        others = [people[name] for name in people if name != own.subject.name]
        if own.subject.name not in people or not others:
            continue
        strangers = np.mean([mean_cosine(faces[rows], photos) for photos in others], axis=0)
        gap[rows] = mean_cosine(faces[rows], people[own.subject.name]) - strangers
        gap[rows[~has_face(faces[rows])]] = 0.0  # and not -0.0
    return gap
