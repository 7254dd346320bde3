"""Metrics by name, and which of them a configuration allows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from adaface.evaluation.metrics.base import Metric
from adaface.evaluation.metrics.base_disturbance import BaseDisturbance
from adaface.evaluation.metrics.composition import Composition
from adaface.evaluation.metrics.copy_paste import CopyPaste
from adaface.evaluation.metrics.diversity import Diversity
from adaface.evaluation.metrics.face_similarity import FaceSimilarity
from adaface.evaluation.metrics.identity_gap import IdentityGap
from adaface.evaluation.metrics.image_similarity import ImageSimilarity
from adaface.evaluation.metrics.parity import Parity
from adaface.evaluation.metrics.text_alignment import TextAlignment

if TYPE_CHECKING:
    from adaface.evaluation.config import MeasuresConfig
    from adaface.evaluation.prompts import Prompt

# in the order of the report's columns
KNOWN = (
    "face_similarity",
    "identity_gap",
    "text_alignment",
    "image_similarity",
    "base_disturbance",
    "copy_paste",
    "diversity",
    "composition",
    "parity",
)


def metrics_for(
    measures: MeasuresConfig,
    *,
    baseline: bool = True,
    held_back: bool = True,
    prompts: Iterable[Prompt] | None = None,
) -> list[Metric]:
    """The metrics that `measures.metrics` names, or all that can be computed; in the order of `KNOWN`.

    Args:
        baseline: whether the run has a class-word method.
        held_back: whether any subject has photos that the methods are not shown.
        prompts: of the run; what they expect gives the columns of `Composition`. None: not known yet.

    Raises:
        ValueError: with everything that is wrong, one line each: unknown names, metrics that cannot be computed and
            what to set for them, columns that are there twice.
    """
    factors = None if prompts is None else sorted({factor for prompt in prompts for factor in prompt.expects})
    lacking = _lacking(measures, baseline, held_back, factors)
    problems = []
    if measures.metrics is None:
        names = [name for name in KNOWN if name not in lacking]
    else:
        names = [name for name in KNOWN if name in measures.metrics]
        problems += [_unknown(name) for name in measures.metrics if name not in KNOWN]
        problems += [f"metric {name} needs {lacking[name]}" for name in names if name in lacking]
    metrics = [_make(name, measures, factors or []) for name in names]
    columns = [column for metric in metrics for column in metric.columns]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    problems += [f"column {name} is there twice; give recognisers and image encoders other names" for name in twice]
    if problems:
        raise ValueError("\n".join(problems))
    return metrics


def _lacking(
    measures: MeasuresConfig, baseline: bool, held_back: bool, factors: Sequence[str] | None
) -> dict[str, str]:
    """{metric: what is missing for it}, of those that cannot be computed."""
    clip = [] if measures.clip else ["a CLIP (measures.clip)"]
    class_word = [] if baseline else ["a method of kind class_word to compare with"]
    photos = [] if held_back else ["photos that the methods are not shown (subjects.given)"]
    classifier = [] if measures.scene_classifier else ["a classifier (measures.scene_classifier)"]
    expected = [] if factors is None or factors else ["prompts that say what they expect"]
    needs = {
        "text_alignment": clip,
        "image_similarity": [] if measures.image_encoders else clip,
        "base_disturbance": [*clip, *class_word],
        "copy_paste": photos,
        "diversity": clip,
        "composition": [*classifier, *expected],
        "parity": [] if measures.mode == "parity" else ["measures.mode: parity"],
    }
    return {name: " and ".join(missing) for name, missing in needs.items() if missing}


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown metric {name!r}: {hint}known are {', '.join(KNOWN)}"


def _make(name: str, measures: MeasuresConfig, factors: Sequence[str]) -> Metric:
    clip, encoders = ["clip"] * (measures.clip is not None), list(measures.image_encoders)
    makers: dict[str, Callable[[], Metric]] = {
        "face_similarity": lambda: FaceSimilarity(measures.recognisers),
        "identity_gap": lambda: IdentityGap(measures.recognisers),
        "text_alignment": TextAlignment,
        "image_similarity": lambda: ImageSimilarity([*clip, *encoders]),
        "base_disturbance": BaseDisturbance,
        "copy_paste": lambda: CopyPaste(measures.recognisers),
        "diversity": Diversity,
        "composition": lambda: Composition(factors),
        "parity": lambda: Parity(clip=bool(clip), encoders=encoders),
    }
    return makers[name]()
