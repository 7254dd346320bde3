"""What a metric is, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from adaface.evaluation.gallery import Gallery

if TYPE_CHECKING:
    from adaface.evaluation.plan import Picture
    from adaface.evaluation.prompts import Prompt
    from adaface.evaluation.subjects import Subject

Direction = Literal["higher", "lower", "none"]
Scores = dict[str, np.ndarray]


@dataclass(eq=False)
class References:
    """What the networks saw in all photos of a subject, in the order of `subject.photos`."""

    subject: Subject
    gallery: Gallery

    @property
    def given(self) -> np.ndarray:
        """Rows of the photos that the methods were shown."""
        return np.array(self.subject.given, dtype=np.int64)

    @property
    def held_back(self) -> np.ndarray:
        """Rows of the others."""
        return np.setdiff1d(np.arange(len(self.gallery)), self.given)

    def faces(self, recogniser: str, rows: np.ndarray | None = None) -> np.ndarray:
        """(P, D) unit embeddings of the photos that show a face, of all photos or of some rows."""
        embeddings = self.gallery.embeddings[recogniser]
        chosen = embeddings if rows is None else embeddings[rows]
        return chosen[has_face(chosen)]


@dataclass(eq=False)
class Table:
    """N pictures of a run with all that is known about them, in any order.

    Attributes:
        features: rows as `pictures`.
        text: (N, D) float32, CLIP's unit features of the class prompt of each picture (`Prompt.of(class_word)`);
            None without CLIP.
        baseline: the name of the class-word method among the pictures, if it is there.

    Raises ValueError for lengths that differ and prompts that are not there.
    """

    pictures: Sequence[Picture]
    prompts: Mapping[str, Prompt]
    features: Gallery
    text: np.ndarray | None = None
    baseline: str | None = None
    _rows: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.features) != len(self) or (self.text is not None and len(self.text) != len(self)):
            raise ValueError(
                f"{len(self)} pictures, but features of {len(self.features)} and texts of "
                f"{'none' if self.text is None else len(self.text)}"
            )
        if unknown := {picture.prompt_id for picture in self.pictures} - self.prompts.keys():
            raise ValueError(f"no such prompts: {', '.join(sorted(unknown))}")
        subjects = np.array([picture.subject for picture in self.pictures], dtype=object)
        self._rows = {name: np.flatnonzero(subjects == name) for name in dict.fromkeys(subjects)}

    def __len__(self) -> int:
        return len(self.pictures)

    def by_subject(self, references: Mapping[str, References]) -> Iterator[tuple[References, np.ndarray]]:
        """The references of each subject and the rows of its pictures. Raises ValueError for one without references."""
        if unknown := self._rows.keys() - references.keys():
            raise ValueError(f"no references of {', '.join(sorted(unknown))}")
        for name, rows in self._rows.items():
            yield references[name], rows

    def nothing(self) -> np.ndarray:
        """(N,) float64 nan, to be filled in where there is a score."""
        return np.full(len(self), np.nan)


class Metric(Protocol):
    """One idea, one or more columns.

    Attributes:
        name: as the configuration has it.
        about: one sentence for the report.
        needs: of "faces", "clip", an image encoder's name, "seen" (scene classifier), "baseline", "held_back", "parity".
        columns: {column: which way is better}; "none" where neither is.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    columns: dict[str, Direction]

    def score(self, table: Table, references: Mapping[str, References]) -> Scores:
        """{column: (N,) float64}, nan where a picture has no such score."""


def has_face(embeddings: np.ndarray) -> np.ndarray:
    """(N, D) -> (N,) bool: rows of pictures without a face are zero."""
    return np.asarray(embeddings.any(axis=1))


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, D) and (P, D), unit rows -> (N, P) float64; 0 for rows without a face."""
    return rows.astype(np.float64) @ others.astype(np.float64).T


def mean_cosine(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, D) and (P, D), unit rows -> (N,) float64: the mean over P; nan when P is 0."""
    if not len(others):
        return np.full(len(rows), np.nan)
    return rows.astype(np.float64) @ others.astype(np.float64).mean(axis=0)


def score_all(metrics: Sequence[Metric], table: Table, references: Mapping[str, References]) -> Scores:
    """The columns of all metrics, in their order. Raises ValueError for a metric that does not give what it says."""
    scores: Scores = {}
    for metric in metrics:
        made = metric.score(table, references)
        if list(made) != list(metric.columns) or any(values.shape != (len(table),) for values in made.values()):
            raise ValueError(f"metric {metric.name} must give ({len(table)},) of each of {', '.join(metric.columns)}")
        scores |= {column: np.asarray(values, dtype=np.float64) for column, values in made.items()}
    return scores
