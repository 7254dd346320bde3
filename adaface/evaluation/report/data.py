"""What a report is made of: plain values and one function that loads pictures. No network, no table library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from adaface.evaluation.prompts import Prompt
from adaface.evaluation.reference_faces import ReferenceFaces

# Columns of the scores that say which picture a row is about.
KEYS = ("method", "subject", "prompt_id", "category", "k")
PromptInfo = Prompt  # a report needs all that there is of one
Direction = Literal["higher", "lower", "none"]
Group = Literal["identity", "text", "picture", "guard", "parity", "other"]


@dataclass(frozen=True)
class Column:
    """What a column of the scores, or of the shares derived from them, means to a reader.

    Attributes:
        label: a few words, unique in a report.
        about: what was computed, in plain words.
        direction: which values are the better ones.
        group: under which heading it stands.
        model: what measured it, in words; "" for none.
        short: one word for captions under pictures.
        share: written as a percentage.
        main: stands in the headline table; the others only among all measures.
        enough: values at least as good as this are all equally good; None: there are none such.
    """

    label: str
    about: str
    direction: Direction
    group: Group = "other"
    model: str = ""
    short: str = ""
    share: bool = False
    main: bool = False
    enough: float | None = None


@dataclass(frozen=True)
class MethodInfo:
    """`kind` as in the configuration: class_word, teacher, encoder or entry_point. `provenance`: nested plain values."""

    name: str
    kind: str
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectInfo:
    """Somebody, with reference photos.

    Attributes:
        photos: RGB uint8 (H, W, 3), any size; the first few are enough, and small ones save memory.
        given: which of them the methods were shown; None: all.
        photo_count: of the folder, where `photos` are only some of them.
        ceiling: recogniser -> mean cosine between two different photos of this person.
        faces: what the detector makes of all the photos; None: not known.
    """

    name: str
    class_word: str
    photos: Sequence[np.ndarray] = ()
    given: Sequence[int] | None = None
    photo_count: int | None = None
    ceiling: Mapping[str, float | None] = field(default_factory=dict)
    faces: ReferenceFaces | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    Attributes:
        title: of the page.
        finished: ISO time of the run, or "".
        summary: `Summary.to_dict()`.
        columns: what is known of each column of the summary, in the order of the tables (`describe_columns`).
        methods: those of the summary, with where they come from.
        scores: columns KEYS and those of the summary, all (N,), one row per picture; nan where undefined.
        load: file name as in `plan.Picture.file` -> RGB uint8 (H, W, 3). It may raise OSError or ValueError: the page
            then says that the picture is missing.
        history: rows of `history.history_rows` of all runs, this one too where it is wanted in the curves.
        findings: `history.Finding`s, or anything with `level`, `column`, `text` and `method`.
        warnings: what a reader must know before he trusts the numbers.
        provenance: nested plain values: configuration, hashes, versions, models. Texts of several lines are shown as
            they are.
        protocol: a line for each thing that defines the run ("images per prompt" -> "4"), in order.
        first: the recogniser whose numbers captions and orders use; None: the first one there is.
        run: the name of this run in the history, "" where it is not in it.
        grid_subjects, grid_prompts, cases: how many are shown.
    """

    title: str
    summary: Mapping[str, Any]
    columns: Mapping[str, Column]
    methods: Sequence[MethodInfo]
    subjects: Sequence[SubjectInfo]
    prompts: Sequence[PromptInfo]
    scores: Mapping[str, np.ndarray]
    load: Callable[[str], np.ndarray]
    finished: str = ""
    history: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Any] = ()
    warnings: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    first: str | None = None
    run: str = ""
    grid_subjects: int = 4
    grid_prompts: int = 6
    cases: int = 8

    def __post_init__(self) -> None:
        problems = []
        lengths = {name: len(values) for name, values in self.scores.items()}
        missing = [name for name in KEYS if name not in lengths]
        if missing:
            problems.append(f"scores lack {', '.join(missing)}")
        if len(set(lengths.values())) > 1:
            problems.append(f"columns of the scores differ in length: {lengths}")
        if not missing:
            for key, known in (
                ("method", {method.name for method in self.methods}),
                ("subject", {subject.name for subject in self.subjects}),
                ("prompt_id", {prompt.id for prompt in self.prompts}),
            ):
                if unknown := sorted({str(name) for name in self.scores[key]} - known):
                    problems.append(f"scores name a {key} that is not described: {', '.join(unknown)}")
        if unmeasured := [name for name in self.summary.get("columns", {}) if name not in self.scores]:
            problems.append(f"the summary has columns without scores: {', '.join(unmeasured)}")
        for name in ("grid_subjects", "grid_prompts", "cases"):
            if getattr(self, name) < 0:
                problems.append(f"{name} must not be negative")
        if problems:
            raise ValueError("; ".join(problems))

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.scores["method"])

    @property
    def baseline(self) -> str | None:
        """The method that draws the class word."""
        return self.summary.get("baseline")

    @property
    def teacher(self) -> str | None:
        """The method that counts as all of the identity."""
        return self.summary.get("teacher")

    @property
    def candidates(self) -> list[str]:
        """The methods that are judged, which is to say all but teacher and baseline."""
        return [method.name for method in self.methods if method.name not in (self.baseline, self.teacher)]

    @property
    def recognisers(self) -> list[str]:
        """Names of the face recognisers, in the order of their columns."""
        found: list[str] = []
        for column in self.summary.get("columns", {}):
            if column.startswith("gap_"):
                found.append(column.removeprefix("gap_"))
            elif column.startswith("face_") and column.endswith("_or_0"):
                found.append(column.removeprefix("face_").removesuffix("_or_0"))
        return list(dict.fromkeys(found))

    @property
    def recogniser(self) -> str | None:
        """The one that captions and orders use."""
        known = self.recognisers
        if self.first in known:
            return self.first
        return known[0] if known else None

    def has(self, column: str) -> bool:
        """Whether it was measured, on any picture."""
        return column in self.scores and bool(np.isfinite(np.asarray(self.scores[column], np.float64)).any())

    def values(self, column: str) -> np.ndarray:
        """(N,) float64; all nan where the column does not exist."""
        if column not in self.scores:
            return np.full(len(self), np.nan)
        return np.asarray(self.scores[column], np.float64)
