"""Which pictures a run draws, which seed each has, and in which parts they are drawn.

All of it follows from the configuration, the subjects and the prompts: nothing here depends on what is already done,
on the number of workers, or on the order in which they work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaface.evaluation.config import EvaluationConfig
    from adaface.evaluation.prompts import Prompt
    from adaface.evaluation.subjects import Subject


@dataclass(frozen=True)
class Picture:
    """One picture of a run."""

    method: str
    subject: str
    prompt_id: str
    k: int  # 0 .. images_per_prompt - 1
    seed: int  # of its noise, 0 .. 2**63 - 1

    @property
    def file(self) -> str:
        """Where it lies in the output folder."""
        return f"images/{self.method}/{self.subject}/{self.prompt_id}-{self.k}.png"


@dataclass(frozen=True)
class Part:
    """The unit of work and of resume: pictures that are drawn at once."""

    name: str  # unique in a run, a file name; another composition of the part has another name
    method: str
    subject: str
    pictures: tuple[Picture, ...]


def picture_seed(base_seed: int, subject: str, prompt_id: str, k: int) -> int:
    """The seed of picture `k`, 0 .. 2**63 - 1: equal for all methods, and independent of order and batch."""
    digest = hashlib.sha256(f"{base_seed}/{subject}/{prompt_id}/{k}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**63


def plan_parts(config: EvaluationConfig, subjects: Sequence[Subject], prompts: Sequence[Prompt]) -> list[Part]:
    """Every picture of the run once, in parts of one method and subject and at most `generation.batch` pictures.

    Method by method, so that a worker rarely changes the models it holds; within a subject prompt by prompt.
    """
    return [
        part
        for method in config.methods
        for subject in subjects
        for part in _parts(config, method.name, subject.name, prompts)
    ]


def _parts(config: EvaluationConfig, method: str, subject: str, prompts: Sequence[Prompt]) -> Iterator[Part]:
    generation = config.generation
    pictures = [
        Picture(method, subject, prompt.id, k, picture_seed(generation.seed, subject, prompt.id, k))
        for prompt in prompts
        for k in range(generation.images_per_prompt)
    ]
    for start in range(0, len(pictures), generation.batch):
        chosen = tuple(pictures[start : start + generation.batch])
        contents = "\n".join(f"{picture.file} {picture.seed}" for picture in chosen)
        digest = hashlib.sha256(contents.encode()).hexdigest()[:8]
        yield Part(f"{method}.{subject}.{start:05d}-{digest}", method, subject, chosen)
