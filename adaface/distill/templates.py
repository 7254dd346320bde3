"""Sentences that a subject stands in: what kind of picture it is, and nothing about the scene.

The original's list is the small ImageNet list of CLIP zero-shot work: 81 entries, 57 of them different. The plain "a
photo of ..." ones stand for a photo, an illustration and a depiction, the others three times as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

SUBJECT = "{}"
# Alone, these letters stand for the subject and for its background (subject_prompts.py, background.py).
TAKEN = re.compile(r"(?<!\w)[yz](?!\w)")
_MEDIA = ("a photo", "an illustration", "a depiction")
# with each adjective, "of a ..." and "of the ..."
_WITH_BOTH = ("clean", "cool", "nice", "small")
_NOUNS = ("", *(f"{word} " for word in _WITH_BOTH))
_FURTHER = ("a dirty ", "the weird ", "the large ", "my ", "one ")
_AS_THEY_ARE = (
    *(f"{kind} of {word} {SUBJECT}" for kind in ("a rendition", "a cropped photo", "a close-up photo", "a good photo")
      for word in ("a", "the")),
    f"a rendering of a {SUBJECT}",
    f"the photo of a {SUBJECT}",
    f"a dark photo of the {SUBJECT}",
    f"a bright photo of the {SUBJECT}",
)  # fmt: skip


def original_templates() -> tuple[str, ...]:
    """81 templates with `{}` for the subject; drawing one uniformly draws the photos' variants a third as often."""
    nouns = [f"{article} {noun}" for article, noun in product(("a", "the"), _NOUNS)]
    varied = [f"{medium} of {noun}{SUBJECT}" for medium in _MEDIA for noun in (*nouns, *_FURTHER)]
    return (*varied, *_AS_THEY_ARE * len(_MEDIA))


@dataclass(frozen=True)
class Templates:
    """Those of one run.

    Attributes:
        entries: one is drawn for a sample, and is shared by all of its prompts.
        portrait: the template of most compositional batches: the face fills the picture.

    Raises:
        ValueError: naming the templates in which the subject does not stand once, or other braces or a lone y or z.
    """

    entries: tuple[str, ...] = original_templates()
    portrait: str = f"a face portrait of a {SUBJECT}"

    def __post_init__(self) -> None:
        every = (*self.entries, self.portrait)
        wrong = [text for text in every if not isinstance(text, str) or not _has_one_subject(text)]
        taken = [text for text in every if isinstance(text, str) and TAKEN.search(text)]
        problems = [
            *([] if self.entries else ["there are no templates"]),
            *([f"a template has the subject as {SUBJECT} once, and no other braces, unlike {wrong}"] if wrong else []),
            *([f"y and z alone stand for people and backgrounds; use other words in {taken}"] if taken else []),
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Templates:
        """From the `templates` section of a file of compositions: `entries`, `portrait`; what is missing is the default."""
        if unknown := sorted(set(values) - {"entries", "portrait"}):
            raise ValueError(f"templates: unknown {', '.join(unknown)}; known are entries, portrait")
        usual = cls()
        return cls(tuple(values.get("entries", usual.entries)), values.get("portrait", usual.portrait))

    def draw(self, rng: np.random.Generator) -> str:
        return self.entries[int(rng.integers(len(self.entries)))]


def _has_one_subject(text: str) -> bool:
    return text.count(SUBJECT) == text.count("{") == text.count("}") == 1
