"""Was the photo pasted, or the person understood?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.metrics.base import Direction, References, Scores, Table, cosines, has_face

# A picture shows the person when it has this share of the likeness that real photos of them have.
_RECOGNISABLE = 0.5
# of the scale between a new photo and a copy, in cosine; below, the given photos are copies of those held back
_SHORTEST = 1e-3


class CopyPaste:
    """copy_R: how much nearer a picture is to the photos that the method was given than to those held back, by
    recogniser R, on a scale where a new photo of the person has 0 and a copy of a given one has 1.

    With nearer(x) = the highest cosine of x to a given photo - the mean cosine of x to the photos held back:

        copy(x) = (nearer(x) - nearer(held back)) / (nearer(given) - nearer(held back))

    where nearer(held back) is the mean over the held-back photos, each against the rest of them (0 when there is only
    one), and nearer(given) that of the given photo which x is nearest to: 1 - its mean cosine to those held back.
    After WithAnyone (Xu et al. 2025, arXiv 2510.14975), whose copy-paste score sets the distances to the given and to
    another photo of the person in relation to the distance between these two.

    A method that was given a photo's embedding tends towards that very embedding, so by the recogniser that it came from
    a little above 0 is no wonder; the judge says whether the face itself was copied. nan for pictures that do not show
    the person, as their distances say nothing about copying: without a face, or with a mean cosine to the photos held
    back of less than half of what the given photos have. nan, too, where no photo with a face was given, or none held
    back (`subjects.given`), and for the class-word method, which saw no photo: the few of its pictures that look like
    somebody do so by chance. Models as in `FaceSimilarity`.

    Range -1..1; 0 and less is no copying at all. Where photos of a person are much alike the scale is short, and what
    lies beyond its ends by noise alone, as much as several times its length, is set to them.
    """

    name = "copy_paste"
    about = "How much nearer to the given photos than to others of the person: 0 as a new photo of them, 1 as a copy."
    needs: tuple[str, ...] = ("faces", "held_back")

    def __init__(self, recognisers: Sequence[str]):
        self._recognisers = tuple(recognisers)
        self.columns: dict[str, Direction] = {f"copy_{name}": "lower" for name in self._recognisers}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        scores: Scores = {}
        shown = np.array([picture.method != table.baseline for picture in table.pictures], dtype=bool)
        for name in self._recognisers:
            faces, copied = table.features.embeddings[name], table.nothing()
            for own, rows in table.by_subject(references):
                rows = rows[shown[rows]]
                given, held_back = own.faces(name, own.given), own.faces(name, own.held_back)
                seen = rows[has_face(faces[rows])]
                if len(given) and len(held_back) and len(seen):
                    copied[seen] = _copied(faces[seen], given, held_back)
            scores[f"copy_{name}"] = copied
        return scores


def _copied(faces: np.ndarray, given: np.ndarray, held_back: np.ndarray) -> np.ndarray:
    """(N, D), (G, D), (H, D) -> (N,); nan where the picture is of somebody else, and where the scale has no length."""
    to_given, to_held_back = cosines(faces, given), cosines(faces, held_back).mean(axis=1)
    real = cosines(given, held_back).mean(axis=1)
    of_new = _nearer_of_new(given, held_back)
    length = 1 - real[to_given.argmax(axis=1)] - of_new
    usable = (length > _SHORTEST) & (to_held_back >= _RECOGNISABLE * real.mean())
    nearer = to_given.max(axis=1) - to_held_back
    share = np.divide(nearer - of_new, length, out=np.full(len(faces), np.nan), where=usable)
    return np.clip(share, -1.0, 1.0)


def _nearer_of_new(given: np.ndarray, held_back: np.ndarray) -> float:
    if len(held_back) < 2:
        return 0.0
    among = cosines(held_back, held_back)
    to_rest = (among.sum(axis=1) - np.diagonal(among)) / (len(held_back) - 1)
    return float((cosines(held_back, given).max(axis=1) - to_rest).mean())
