"""All settings of a stage of training, with the original's values for its two stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from adaface.distill.foreground_start import StartSettings
from adaface.distill.mixing import MixSettings
from adaface.distill.optimizer import OptimizerSettings
from adaface.distill.plan_settings import PlanSettings, stage_settings
from adaface.distill.schedule import ScheduleSettings
from adaface.distill.stage1 import DistillationSettings
from adaface.distill.teacher_filter import FilterSettings
from adaface.distill.weights import LossWeights


@dataclass(frozen=True)
class Stage:
    """What one run of training does; `original_stage` gives those of the original.

    Attributes:
        plan: what steps consist of.
        distillation: how the teacher is asked.
        losses: weights of all terms.
        mix: the compositional teacher's text.
        start: the compositional starts.
        filter: which of them are learned from.
        anchor: share of the frozen encoder in the vectors of compositional batches' single prompts.
        optimizer, schedule: of the learning rate.
        compositions: file of the grammar; None: the package's own.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    plan: PlanSettings = field(default_factory=PlanSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    losses: LossWeights = field(default_factory=LossWeights)
    mix: MixSettings = field(default_factory=MixSettings)
    start: StartSettings = field(default_factory=StartSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    anchor: float = 0.9
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    compositions: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.anchor <= 1:
            raise ValueError(f"anchor must be a share in 0..1, not {self.anchor}")


_WARMUP = {1: 600, 2: 1000}
_D_COEFFICIENT = {1: 1.0, 2: 0.5}


def original_stage(stage: int, **plan: Any) -> Stage:
    """The original's stage 1 or 2, with changes of its plan by name. Raises ValueError for another stage or name."""
    return Stage(
        plan=stage_settings(stage, **plan),
        optimizer=OptimizerSettings(d_coefficient=_D_COEFFICIENT[stage]),
        schedule=ScheduleSettings(warmup=_WARMUP[stage]),
    )
