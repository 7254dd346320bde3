"""The original's way from pictures to one number of a method, for the columns of `metrics.parity`.

From compare_face_folders_fast (evaluation/eval_utils.py) and scripts/gen_subjects_and_eval.py of AdaFace: the pictures of
a prompt give one value, where those without a face are left out, and 0 where no picture has one; a subject has the plain
mean over its prompts; a method the plain mean over subjects, where subjects with a face similarity of 0 or less are left
out. So a method that draws no face at half of its prompts loses half of its similarity, and one that draws none at all
of a person loses nothing.
"""

from __future__ import annotations

import numpy as np

from adaface.evaluation.gallery import PARITY

FACE, NO_FACE = PARITY + "face", PARITY + "no_face"


def is_parity(column: str) -> bool:
    """Whether the original's way is taken."""
    return column.startswith(PARITY)


def subject_means(values: np.ndarray, subjects: np.ndarray, prompts: np.ndarray, size: int) -> np.ndarray:
    """(N,) values with nan, (N,) codes of subjects and of prompts -> (size,) means over prompts of their means.

    A prompt without any value counts as 0; a subject without pictures has nan.
    """
    pairs, of = np.unique(np.stack([subjects, prompts]), axis=1, return_inverse=True)
    of = of.reshape(-1)
    known = ~np.isnan(values)
    pictures = np.bincount(of[known], minlength=pairs.shape[1])
    total = np.bincount(of[known], weights=values[known], minlength=pairs.shape[1])
    each = np.divide(total, pictures, out=np.zeros(pairs.shape[1]), where=pictures > 0)
    asked = np.bincount(pairs[0], minlength=size)
    return np.divide(
        np.bincount(pairs[0], weights=each, minlength=size), asked, out=np.full(size, np.nan), where=asked > 0
    )


def counted(column: str, means: np.ndarray) -> np.ndarray:
    """(S,) means of subjects, with nan for those that the original leaves out of its mean over subjects."""
    return np.where(means > 0, means, np.nan) if column == FACE else means
