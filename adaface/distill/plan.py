"""What every optimizer step consists of, from a seed alone.

`IterationPlan.step(n)` says the same on every worker, however many there are and whichever steps were run before. What
differs from sample to sample comes from streams of random numbers, `IterationPlan.generator`, that are named after the
sample's place among those of all workers, its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from adaface.distill.anneal import annealed
from adaface.distill.draws import numpy_generator, torch_generator
from adaface.distill.plan_settings import PlanSettings

Kind = Literal["random_id", "noised_id", "clean_id", "reconstruction", "compositional"]
KINDS: tuple[Kind, ...] = ("random_id", "noised_id", "clean_id", "reconstruction", "compositional")


@dataclass(frozen=True)
class BatchPlan:
    """One batch, forward and backward, on every worker.

    Attributes:
        step: the optimizer step that it belongs to.
        number: its place in that step.
        kind: "random_id", "noised_id", "clean_id" (distillation on faces that nobody has, on noised ones, on those of
            the photos), "reconstruction" or "compositional".
        target: what the student's noise is compared with: the "teacher"'s or the true "noise"; "features" where neither is
            and layers are compared.
        rollout: denoising steps of the teacher, 1 where it is not the target.
        progress: of the run, 0..1.
        low: lowest first timestep.
        keep_timesteps: whether timesteps stay as drawn (`draw_timesteps`).
        background: whether prompts have a background token.
        portrait: whether prompts have the portrait template.
        clip_skip: weights of the text encoder's last layers, the last for the last layer; their sum is 1.
        id_level: noise on the ID embedding that teacher and student see.
        student_id_level: noise on the student's alone.
        token_share: probability of noise on each of the subject's vectors.
        normalise: whether the feature-delta loss looks at normalised features (a coin in the original).
    """

    step: int
    number: int
    kind: Kind
    target: Literal["teacher", "noise", "features"]
    rollout: int
    progress: float
    low: int
    keep_timesteps: bool
    background: bool
    portrait: bool
    clip_skip: tuple[float, ...]
    id_level: float
    student_id_level: float
    token_share: float
    normalise: bool

    @property
    def distils(self) -> bool:
        """Whether the prompt is that of distillation: one person, no composition, no background."""
        return self.kind in ("random_id", "noised_id", "clean_id")


@dataclass(frozen=True)
class StepPlan:
    """An optimizer step: the mean of its batches' losses. All of them are compositional, or none is."""

    number: int
    batches: tuple[BatchPlan, ...]

    @property
    def compositional(self) -> bool:
        return self.batches[0].kind == "compositional"


@dataclass(frozen=True)
class Row:
    """A sample that is computed: which one of the worker's batch it is made of, and its slot."""

    source: int
    slot: int


class IterationPlan:
    """The plan of a run.

    Args:
        seed: of everything that is drawn in the run's steps.
        settings: of its stage.
    """

    def __init__(self, seed: int, settings: PlanSettings) -> None:
        self.seed = seed
        self.settings = settings

    def step(self, number: int) -> StepPlan:
        """Optimizer step `number`, from 0. Raises ValueError for a negative one."""
        if number < 0:
            raise ValueError(f"optimizer steps count from 0, there is no {number}")
        return StepPlan(number, tuple(self._batch(number, place) for place in range(self.settings.accumulate)))

    def generator(self, step: int, rank: int, purpose: str, *, batch: int = 0) -> torch.Generator:
        """A stream of random numbers for tensors, at its beginning; every name has its own.

        Args:
            step: the optimizer step.
            rank: the slot of a sample, for what must not depend on the number of workers; or a worker's rank.
            purpose: what is drawn, e.g. "noise".
            batch: `BatchPlan.number`.
        """
        return torch_generator(self.seed, step, batch, rank, purpose)

    def generators(self, batch: BatchPlan, rows: Sequence[Row], purpose: str) -> list[torch.Generator]:
        """`generator` for each of these samples."""
        return [self.generator(batch.step, row.slot, purpose, batch=batch.number) for row in rows]

    def chooser(self, step: int, rank: int, purpose: str, *, batch: int = 0) -> np.random.Generator:
        """`generator` for choices and words: templates, compositions."""
        return numpy_generator(self.seed, step, batch, rank, purpose)

    def rows(self, batch: BatchPlan, first: int, count: int) -> list[Row]:
        """The samples of a worker's batch that are computed, group by group.

        Compositional batches are about the first samples of each group, noised-ID ones may be about the first alone; long
        rollouts leave samples out. As this goes by groups, workers together compute what one with all their groups would.

        Args:
            first: slot of the worker's first sample: its rank times `count`.
            count: samples of its batch.

        Raises:
            ValueError: unless these are whole groups of `settings.batch` samples.
        """
        group = self.settings.batch
        if count < 1 or first % group or count % group:
            raise ValueError(
                f"a worker's batch is made of groups of {group} samples (batch of the plan), which {count} samples "
                f"from slot {first} on are not"
            )
        if batch.kind == "compositional":
            kept = self.settings.compositions or group
        else:
            kept = -(-group // batch.rollout) if self.settings.shrink else group
        copies = batch.kind == "noised_id" and self.settings.noised_copies
        return [
            Row(start if copies else start + place, first + start + place)
            for start in range(0, count, group)
            for place in range(kept)
        ]

    def _batch(self, step: int, place: int) -> BatchPlan:
        settings = self.settings
        rng = numpy_generator(self.seed, step, place, "plan")
        # all are drawn, whatever the kind is, so that changing one share leaves the other draws as they were
        distils, random_id, noised_id, teacher, keeps, background, portrait, noisy, normalise = rng.random(9)
        length, id_share, student_share = rng.random(3)
        clip_skip = rng.dirichlet(settings.clip_skip)

        kind: Kind
        if settings.compositional_every and step % settings.compositional_every == 0:
            kind = "compositional"
        elif distils >= settings.distillation:
            kind = "reconstruction"
        elif random_id < settings.random_id:
            kind = "random_id"
        else:
            kind = "noised_id" if noised_id < settings.noised_id else "clean_id"
        by_teacher = kind in ("random_id", "noised_id") or (kind == "clean_id" and teacher < settings.teacher_target)
        low, may_move = 0, True
        if kind == "random_id" and settings.random_start == "high":
            low, may_move = settings.random_low, False
        elif kind == "compositional":
            low, may_move = settings.compositional_low, False
        progress = min(1.0, step / settings.steps)
        noise = settings.noise
        own_noise = kind != "noised_id" and noisy < noise.student_id_share
        return BatchPlan(
            step=step,
            number=place,
            kind=kind,
            target="teacher" if by_teacher else "features" if kind == "compositional" else "noise",
            rollout=_chosen(settings.rollouts, settings.rollout_shares, length) if by_teacher else 1,
            progress=progress,
            low=low,
            keep_timesteps=not may_move or keeps < annealed(progress, *settings.keep_timesteps),
            background=(kind == "reconstruction" and background < settings.background_reconstruction)
            or (kind == "compositional" and background < settings.background_compositional),
            portrait=kind == "compositional" and portrait < settings.portrait,
            clip_skip=tuple(clip_skip.tolist()),
            id_level=_between(noise.noised_id, id_share) if kind == "noised_id" else 0.0,
            student_id_level=_between(noise.student_id, student_share) if own_noise else 0.0,
            token_share=noise.token_share_compositional if kind == "compositional" else noise.token_share,
            normalise=bool(normalise < 0.5),
        )


def _chosen(values: Sequence[int], shares: Sequence[float], at: float) -> int:
    """The value at this place in [0, 1) of a line that is cut in proportion to the shares."""
    ends = np.cumsum(shares) / sum(shares)
    return values[min(int(np.searchsorted(ends, at, side="right")), len(values) - 1)]


def _between(limits: tuple[float, float], share: float) -> float:
    return float(limits[0] + (limits[1] - limits[0]) * share)
