"""Batches of the tiny networks: made-up samples, plans that have one kind of batch, tasks and trainers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from adaface.distill.plan import KINDS, BatchPlan, IterationPlan, Row
from adaface.distill.plan_settings import PlanSettings
from adaface.distill.stage import Stage
from adaface.distill.task import DistillTask
from adaface.distill.trainer import Trainer
from tests.adaface.distill.conftest import Tiny
from tests.tiny_distill import GRAMMAR, PIXELS, WIDTH

SEED = 5

# kind -> what makes a plan have nothing else
ONLY: dict[str, dict[str, Any]] = {
    "random_id": {"random_id": 1.0},
    "noised_id": {"random_id": 0.0, "noised_id": 1.0},
    "clean_id": {"random_id": 0.0, "noised_id": 0.0},
    "reconstruction": {"distillation": 0.0},
    "compositional": {"compositional_every": 1},
}
assert tuple(ONLY) == KINDS


def samples(first: int, count: int) -> dict[str, Any]:
    """A collated batch of the draws `first`..: draw n is the same in every batch."""
    rows = [_sample(number) for number in range(first, first + count)]
    tensors = ("image", "person_mask", "valid_mask", "id_embedding", "has_person_mask")
    stacked = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in tensors}
    return {**stacked, **{name: [row[name] for row in rows] for name in ("key", "person_type")}}


def _sample(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    embedding = rng.standard_normal(WIDTH).astype(np.float32)
    mask = np.zeros((PIXELS, PIXELS), np.uint8)
    left, top = rng.integers(0, PIXELS // 2, 2)
    mask[top : top + PIXELS // 2, left : left + PIXELS // 2] = 1
    valid = np.ones_like(mask)
    valid[:, :4] = number % 2
    return {
        "key": f"sample-{number}",
        "person_type": ("woman", "man", "child")[number % 3],
        "image": rng.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8),
        "person_mask": mask,
        "has_person_mask": np.bool_(True),
        "valid_mask": valid,
        "id_embedding": embedding / np.linalg.norm(embedding),
    }


def stage_of(kind: str, *, plan: dict[str, Any] | None = None, **changes: Any) -> Stage:
    """A stage with this kind of batch alone; keywords are fields of Stage."""
    settings = PlanSettings(**{"steps": 50, "batch": 2, "accumulate": 1, **ONLY[kind], **(plan or {})})
    return Stage(plan=settings, compositions=GRAMMAR, **changes)


def batch_of(stage: Stage, count: int, first: int = 0, **changes: Any) -> tuple[IterationPlan, BatchPlan, list[Row]]:
    """The plan, its first batch with changes, and the rows of a worker with samples `first`.. ."""
    plan = IterationPlan(SEED, stage.plan)
    batch = dataclasses.replace(plan.step(0).batches[0], **changes)
    return plan, batch, plan.rows(batch, first, count)


def task_of(tiny: Tiny, stage: Stage, **changes: Any) -> DistillTask:
    return DistillTask(tiny.models, tiny.encoder(), stage, seed=SEED, **changes)


def trainer_of(task: DistillTask, next_samples: Callable[[], dict[str, Any]] | None = None) -> Trainer:
    """By default on the same two samples again and again."""
    count = task.stage.plan.batch
    return Trainer(task, next_samples or (lambda: samples(0, count)), count=count)
