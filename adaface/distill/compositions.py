"""What a subject does, wears and is surrounded by: endings of prompts, drawn from the words of a `composition_file`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adaface.distill.templates import Templates
from adaface.model_path import model_path

OWN = Path(__file__).parent / "compositions.yaml"
SUBJECT = "{}"


@dataclass(frozen=True)
class Core:
    """Patterns of one kind, each with all of its phrases; person types that it is not for."""

    name: str
    patterns: tuple[tuple[str, ...], ...]
    not_for: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Extra:
    """What may be added: 1 to `most` of the choices, put into `text`; never after the cores named by `unless`."""

    name: str
    probability: float
    choices: tuple[str, ...]
    text: str
    most: int = 1
    between: str = ", "
    unless: frozenset[str] = frozenset()

    def draw(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(1, self.most + 1))
        chosen = rng.permutation(len(self.choices))[:count]
        return self.text.replace(SUBJECT, self.between.join(self.choices[index] for index in chosen))

    def combinations(self) -> int:
        """Different additions; the order of several counts."""
        return sum(math.perm(len(self.choices), count) for count in range(1, self.most + 1))


@dataclass(frozen=True)
class Compositions:
    """A grammar of compositions; `load` reads one."""

    core: tuple[Core, ...]
    extras: tuple[Extra, ...]
    templates: Templates = field(default_factory=Templates)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Compositions:
        """From a file, also `package://PACKAGE/PATH`; by default the one that comes with this package.

        Raises:
            FileNotFoundError: when it is not there.
            ValueError: naming everything in it that is wrong.
        """
        from adaface.distill.composition_file import read_compositions

        return read_compositions(OWN if path is None else model_path(path))

    def sample(self, rng: np.random.Generator, person_type: str = "person") -> str:
        """An ending such as "wearing a crown, with a harbour as background": follows a template and a blank."""
        patterns = [(core.name, phrases) for core in self._cores(person_type) for phrases in core.patterns]
        name, phrases = patterns[int(rng.integers(len(patterns)))]
        text = phrases[int(rng.integers(len(phrases)))]
        for extra in self.extras:
            wanted = rng.random() < extra.probability
            if wanted and name not in extra.unless:
                text += extra.draw(rng)
        return text

    def combinations(self, person_type: str = "person") -> int:
        """How many different compositions there are."""
        total = 0
        for core in self._cores(person_type):
            ways = sum(len(phrases) for phrases in core.patterns)
            for extra in self.extras:
                if core.name not in extra.unless and extra.probability > 0:
                    ways *= extra.combinations() + (extra.probability < 1)
            total += ways
        return total

    def phrases(self) -> list[str]:
        """Every phrase and every choice, as they stand: what a tokenizer should know."""
        core = [phrase for core in self.core for phrases in core.patterns for phrase in phrases]
        extras = [extra.text.replace(SUBJECT, choice) for extra in self.extras for choice in extra.choices]
        return [*core, *extras]

    def _cores(self, person_type: str) -> list[Core]:
        return [core for core in self.core if person_type not in core.not_for]
