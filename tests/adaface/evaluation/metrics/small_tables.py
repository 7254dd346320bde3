"""Tables of a few vectors, for scores that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaface.evaluation.gallery import Gallery
from adaface.evaluation.metrics.base import References, Table
from adaface.evaluation.plan import Picture
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.subjects import Subject

X, Y, Z = np.eye(3, dtype=np.float32)
NOBODY = np.zeros(3, np.float32)


def at(cosine: float) -> np.ndarray:
    """A unit vector at this cosine from X, towards Y."""
    return np.array([cosine, np.sqrt(1 - cosine**2), 0], np.float32)


def gallery(
    faces: Sequence[np.ndarray] | None = None,
    *,
    images: Mapping[str, Sequence[np.ndarray]] | None = None,
    seen: Mapping[str, Sequence[str]] | None = None,
    length: int | None = None,
) -> Gallery:
    """Features by the recogniser "r"; without faces, of pictures of nobody."""
    named = {name: np.array(rows, np.float32) for name, rows in (images or {}).items()}
    count = length or len(faces if faces is not None else next(iter([*named.values(), *(seen or {}).values()])))
    rows = np.array([NOBODY] * count if faces is None else faces, np.float32)
    found = rows.any(axis=1)
    boxes = np.where(found[:, None], np.float32([1, 2, 3, 4]), np.float32(np.nan))
    return Gallery(
        faces=found.astype(np.int32),
        boxes=boxes.astype(np.float32),
        embeddings={"r": rows},
        images=named,
        seen={name: list(words) for name, words in (seen or {}).items()},
        scores=np.where(found, 0.9, np.nan).astype(np.float32),
    )


def picture(subject: str = "a", method: str = "m", prompt: str = "p", k: int = 0) -> Picture:
    return Picture(method, subject, prompt, k, seed=k)


def table(
    pictures: Sequence[Picture],
    features: Gallery,
    *,
    text: np.ndarray | None = None,
    baseline: str | None = None,
    expects: Mapping[str, Mapping[str, str]] | None = None,
) -> Table:
    prompts = {
        shown.prompt_id: Prompt(shown.prompt_id, "place", "a photo of a {}", (expects or {}).get(shown.prompt_id, {}))
        for shown in pictures
    }
    return Table(pictures, prompts, features, text, baseline)


def references(features: Gallery, name: str = "a", given: Sequence[int] | None = None) -> dict[str, References]:
    photos = tuple(Path(f"{index}.jpg") for index in range(len(features)))
    shown = tuple(range(len(photos)) if given is None else given)
    return {name: References(Subject(name, photos, shown, "woman", "woman"), features)}
