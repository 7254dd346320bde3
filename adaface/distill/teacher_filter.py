"""Which of several starts a composition is learned from: one that the teacher paints and the student does not yet.

Both paint a picture in one step from each start; CLIP says how well it fits the composition's text. D: shared_step,
teacher filtering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from adaface.distill.problems import count_problems, raise_for


@dataclass(frozen=True)
class FilterSettings:
    """When a start is worth learning from.

    Attributes:
        starts: how many are tried for each composition.
        min_similarity: CLIP cosine of the teacher's picture to the text, at least.
        min_advantage: of the teacher's cosine over the student's; more than this.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    starts: int = 2
    min_similarity: float = 0.22
    min_advantage: float = 0.002

    def __post_init__(self) -> None:
        wrong = []
        if not -1 <= self.min_similarity <= 1:
            wrong.append(f"min_similarity is a cosine, not {self.min_similarity}")
        if not -2 <= self.min_advantage <= 2:
            wrong.append(f"min_advantage is a difference of cosines, not {self.min_advantage}")
        raise_for("the teacher filter", count_problems(self, 1, "starts"), wrong)


class Choice(NamedTuple):
    """teachable: (G, n) bool; best: (G,) int64, the teachable start of the largest advantage, 0 where there is none."""

    teachable: Tensor
    best: Tensor

    @property
    def any(self) -> Tensor:
        """(G,) bool: is there a start to learn from? Its mean is the teachable fraction."""
        return self.teachable.any(1)


def choose(student: Tensor, teacher: Tensor, settings: FilterSettings | None = None) -> Choice:
    """Picks the start of each composition.

    Args:
        student, teacher: (G, n) cosines of the pictures to the composition's text with the class word.
        settings: the original's by default (its 0.28 is 0.5 minus the cosine).
    """
    settings = settings or FilterSettings()
    advantage = teacher - student
    teachable = (teacher >= settings.min_similarity) & (advantage > settings.min_advantage)
    best = advantage.masked_fill(~teachable, -float("inf")).argmax(1)
    return Choice(teachable, best)
