"""What the detector and a recogniser make of the reference photos, subject by subject: is this a person, and one person?

Numbers of identity do not tell: a dog that the detector takes for a face is as like itself as people are. How sure the
detector is does, over several photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adaface.evaluation.metrics.base import References, cosines
from adaface.evaluation.metrics.face_similarity import ceiling

# Below, the median detector score is unlike a person's: the same number as in the rules for data sets
# (`data.min_identity_det_score`), where it takes no person of 12, and both animals.
LEAST_SCORE = 0.70


@dataclass(frozen=True)
class ReferenceFaces:
    """The photos of one subject.

    Attributes:
        photos: how many there are.
        found: how many show a face, or what the detector takes for one.
        score: the detector's median score of those, 0..1; nan without any.
        same: mean cosine between two different photos of the subject; nan with fewer than two faces.
        others: mean cosine to the photos of the other subjects, each of whom counts the same; nan without others.
    """

    photos: int
    found: int
    score: float
    same: float
    others: float

    @property
    def may_be_no_person(self) -> bool:
        return self.found > 0 and self.score < LEAST_SCORE


def reference_faces(references: Mapping[str, References], recogniser: str) -> dict[str, ReferenceFaces]:
    """By subject, in the order of `references`, with similarities by one recogniser."""
    faces = {name: own.faces(recogniser) for name, own in references.items()}
    found = {}
    for name, own in references.items():
        others = [rows for other, rows in faces.items() if other != name and len(rows)]
        gallery = own.gallery
        seen = gallery.scores[gallery.detected & np.isfinite(gallery.scores)]
        found[name] = ReferenceFaces(
            photos=len(gallery),
            found=int(gallery.detected.sum()),
            score=float(np.median(seen)) if len(seen) else float("nan"),
            same=ceiling(own)[recogniser],
            others=float(np.mean([cosines(faces[name], rows).mean() for rows in others]))
            if others and len(faces[name])
            else float("nan"),
        )
    return found
