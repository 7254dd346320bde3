"""Does the face look like the person's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaface.evaluation.gallery import PARITY
from adaface.evaluation.metrics.base import Direction, References, Scores, Table, cosines, has_face, mean_cosine


class FaceSimilarity:
    """Cosine of the ID embedding of the largest face to those of the person's reference photos, mean over the photos.

    Per recogniser R two columns, for what the original left out of its mean can be most of a run:
        face_R       of pictures with a face, the original's number (compare_face_folders in evaluation/eval_utils.py)
        face_R_or_0  the same, and 0 for a picture without a face
    and `detected`, 1 or 0, and `face_score`, how sure the detector is of the face (0..1, nan without one): what it takes
    for a face and is none, as on a dog, is counted, and tends to have a low score. Photos without a face are left out;
    a subject of which none shows one has no similarity.

    Range -1..1; 1 is the very same face, `ceiling` what photos of the person reach among themselves, and about 0 what
    a stranger does. Models: detector and recogniser of the face pack (ArcFace, Deng et al. 2019, arXiv 1801.07698), and
    the judges.
    """

    name = "face_similarity"
    about = (
        "Cosine of ID embeddings to the reference photos, mean over photos: where a face is found, with 0 where none is, "
        "how often one is found, and how sure the detector is of it."
    )
    needs: tuple[str, ...] = ("faces",)

    def __init__(self, recognisers: Sequence[str]):
        self._recognisers = tuple(recognisers)
        self.columns: dict[str, Direction] = {}
        for name in self._recognisers:
            self.columns |= {f"face_{name}": "higher", f"face_{name}_or_0": "higher"}
        self.columns |= {"detected": "higher", "face_score": "none"}

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        scores: Scores = {}
        for name in self._recognisers:
            faces = table.features.embeddings[name]
            similar = table.nothing()
            for own, rows in table.by_subject(references):
                similar[rows] = mean_cosine(faces[rows], own.faces(name))
            scores[f"face_{name}"] = np.where(has_face(faces), similar, np.nan)
            scores[f"face_{name}_or_0"] = similar  # rows without a face are zero, and so is their cosine
        sure = table.features.scores.astype(np.float64)
        return scores | {"detected": table.features.detected.astype(np.float64), "face_score": sure}


def ceiling(references: References) -> dict[str, float]:
    """What photos of one person reach: by recogniser, the mean cosine over all pairs of different reference photos.

    nan for a recogniser by which fewer than two photos show a face. (The original's `gt_self_compare` counted each
    photo with itself, too.)
    """
    found = {}
    for name in references.gallery.embeddings:
        if name.startswith(PARITY):
            continue
        faces = references.faces(name)
        pairs = cosines(faces, faces)[np.triu_indices(len(faces), k=1)]
        found[name] = float(pairs.mean()) if len(pairs) else float("nan")
    return found
