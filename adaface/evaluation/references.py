"""Reference photos -> features, once per subject and run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from adaface.evaluation.gallery import Gallery
from adaface.evaluation.metrics.base import References
from adaface.evaluation.subjects import Subject, read_references


class Reader(Protocol):
    """What looks at pictures: a `FeatureReader`."""

    def read(self, images: Sequence[np.ndarray], *, photos: bool = False) -> Gallery: ...


def reference_features(subjects: Iterable[Subject], reader: Reader, side: int | None = None) -> dict[str, References]:
    """All photos of each subject, by its name, each read once. The original read them anew for every prompt.

    `side` is the shorter side that photos are scaled down to first, px; see `read_references`.
    """
    return {
        subject.name: References(subject, reader.read(read_references(subject, side), photos=True))
        for subject in subjects
    }
