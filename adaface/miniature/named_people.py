"""The base model told people's names as a method of an evaluation: what it can do with the words that it learned.

Its captions had them (`world/names.py`), of people whom no training saw as well, as a name says what somebody looks like.
What it loses in a prompt against the class word alone is the price of drawing somebody in particular, and no encoder's:

    {name: named, kind: entry_point, entry_point: "adaface.miniature.named_people:NamedPeople"}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from adaface.evaluation.methods.base import BasePipe, Person
from adaface.evaluation.methods.sampling import draw
from adaface.miniature.rendered_people import identity_of
from adaface.miniature.world.names import name_of

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig
    from adaface.evaluation.methods.base import Request
    from adaface.evaluation.subjects import Subject


class NamedPeople:
    """Subjects are folders of an album of `adaface render-faces`; prompts say "NAME CLASS-WORD" in the subject's place."""

    def __init__(self, generation: GenerationConfig):
        self._generation = generation
        self._base = BasePipe.shared(generation.base, generation.device, generation.precision)
        self._negative = self._base.negative(generation)

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> str:
        """The name. Raises ValueError as `identity_of` does."""
        return name_of(identity_of(subject))

    def draw(self, prepared: str, requests: Sequence[Request]) -> list[np.ndarray]:
        """RGB uint8 (64, 64, 3) each. Raises ValueError for a prompt that is too long, with a name of 36 tokens."""
        nobody = Person()  # words alone
        prompts = [request.prompt.of(f"{prepared} {request.class_word}") for request in requests]
        states = [self._base.states(self._generation, nobody, prompt) for prompt in prompts]
        return draw(self._base.pipe, self._generation, states, self._negative, [request.seed for request in requests])
