"""The learning rate over a run, as a multiple of the optimizer's own, counted in optimizer steps.

By step alone: a resumed run has nothing to restore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from adaface.distill.problems import count_problems, raise_for, share_problems

_ORIGINAL_STRETCH = 1.1  # its decay would reach 0 a tenth after its end
_ORIGINAL_COUNT = 2  # it counts batches where it makes one optimizer step of two, so it ends half way down


@dataclass(frozen=True)
class ScheduleSettings:
    """How the learning rate goes up and down.

    Attributes:
        warmup: optimizer steps over which it rises evenly to 1.
        floor: multiple at the last step.
        shape: of the decay: "linear" or "cosine"; "original" is what the published runs had in effect: no warm-up but
            1 for so many steps, then a decay that ends at 0.55, whatever `floor` says.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    warmup: int = 600
    floor: float = 0.1
    shape: Literal["linear", "cosine", "original"] = "linear"

    def __post_init__(self) -> None:
        shapes = ("linear", "cosine", "original")
        raise_for(
            "the learning rate",
            count_problems(self, 0, "warmup"),
            share_problems(self, "floor"),
            [] if self.shape in shapes else [f"shape must be one of {', '.join(shapes)}, not {self.shape!r}"],
        )


def rate_factor(step: int, steps: int, settings: ScheduleSettings) -> float:
    """The multiple for the optimizer step that follows `step` done ones, in a run of `steps`; above 0.

    It rises by 1/warmup a step up to 1 and falls to `floor` at the last step, where it stays.
    """
    if settings.shape == "original":
        return original_factor(step, _ORIGINAL_COUNT * steps, settings.warmup)
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    left = steps - 1 - settings.warmup
    progress = min(1.0, (step - settings.warmup) / left) if left > 0 else 1.0
    if settings.shape == "cosine":
        progress = 0.5 - 0.5 * math.cos(math.pi * progress)
    return max(1 - (1 - settings.floor) * progress, 1e-6)


def original_factor(step: int, maximum: int, warmup: int) -> float:
    """1 for `warmup` steps, then 1 - (step - warmup) / (1.1·(maximum - warmup)), not below 0 (golden case 7a).

    The published commands give `maximum` in batches, of which an optimizer step takes two.
    """
    if step < warmup:
        return 1.0
    return max(0.0, 1 - (step - warmup) / (_ORIGINAL_STRETCH * (maximum - warmup)))
