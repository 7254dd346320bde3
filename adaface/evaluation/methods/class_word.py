"""The baseline: the base model told no more than the class word, "a photo of a young woman on the beach".

It draws strangers. What a method makes of a face is counted from here, and no method should be better at the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaface.evaluation.methods.base import BasePipe, Person, Request
from adaface.evaluation.methods.sampling import draw

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig
    from adaface.evaluation.subjects import Subject


class ClassWordMethod:
    """A `Method`."""

    def __init__(self, name: str, base: BasePipe, generation: GenerationConfig):
        self.name, self.base, self.generation = name, base, generation
        self._negative = base.negative(generation)

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Person:
        """Nothing of the subject is looked at."""
        return Person()

    def draw(self, prepared: Person, requests: Sequence[Request]) -> list[np.ndarray]:
        """RGB uint8 (H, W, 3) each. Raises ValueError for a prompt that is too long."""
        prompts = [request.prompt.of(request.class_word) for request in requests]
        states = [self.base.states(self.generation, prepared, prompt) for prompt in prompts]
        seeds = [request.seed for request in requests]
        return draw(self.base.pipe, self.generation, states, self._negative, seeds)

    def provenance(self) -> dict[str, Any]:
        return {"kind": "class_word", "base": self.base.base, "files": self.base.files()}
