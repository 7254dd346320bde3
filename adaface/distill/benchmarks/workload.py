"""Steps to measure: batches of one kind, and samples that nobody took a picture of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from adaface.distill.models import FrozenModels
from adaface.distill.plan_settings import PlanSettings
from adaface.distill.stage import Stage
from adaface.distill.teacher_filter import FilterSettings
from adaface.encoder.model import AdaFaceEncoder

# Changes of a plan, after which it has nothing but this kind of batch.
KINDS: dict[str, dict[str, Any]] = {
    "random_id": {"compositional_every": 0, "distillation": 1.0, "random_id": 1.0},
    "noised_id": {"compositional_every": 0, "distillation": 1.0, "random_id": 0.0, "noised_id": 1.0},
    "clean_id, teacher's noise": {
        "compositional_every": 0, "distillation": 1.0, "random_id": 0.0, "noised_id": 0.0, "teacher_target": 1.0,
    },
    "clean_id, true noise": {
        "compositional_every": 0, "distillation": 1.0, "random_id": 0.0, "noised_id": 0.0, "teacher_target": 0.0,
    },
    "reconstruction": {"compositional_every": 0, "distillation": 0.0, "background_reconstruction": 0.0},
    "reconstruction with background": {
        "compositional_every": 0, "distillation": 0.0, "background_reconstruction": 1.0,
    },
    "compositional": {"compositional_every": 1, "background_compositional": 0.0},
    "compositional with background": {"compositional_every": 1, "background_compositional": 1.0},
}  # fmt: skip


# so that a compositional step is measured whole, whatever its pictures look like
EVERYTHING_TEACHES = FilterSettings(min_similarity=-1, min_advantage=-2)


def everything_teaches(stage: Stage) -> Stage:
    """The stage with its number of starts, all of which pass."""
    return replace(stage, filter=replace(EVERYTHING_TEACHES, starts=stage.filter.starts))


def with_batch(stage: Stage, *, batch: int | None = None, accumulate: int | None = None) -> Stage:
    """The stage with other numbers of samples and of batches; None: as they are.

    A batch keeps no more compositions than it has samples. Raises ValueError for numbers below 1.
    """
    plan = stage.plan
    batch = plan.batch if batch is None else batch
    accumulate = plan.accumulate if accumulate is None else accumulate
    compositions = None if plan.compositions is None else min(plan.compositions, max(batch, 1))
    changed = replace(plan, batch=batch, accumulate=accumulate, compositions=compositions)
    return replace(stage, plan=changed)


def only(kind: str, stage: Stage, **plan: Any) -> Stage:
    """The stage with batches of one of KINDS alone, and other changes of its plan by name."""
    return replace(stage, plan=replace(stage.plan, **KINDS[kind], **plan))


def kinds_of(plan: PlanSettings) -> list[str]:
    """Those of KINDS that batches of a plan may have, in their order."""
    distils, composes = plan.distillation > 0, plan.compositional_every > 0
    others = plan.compositional_every != 1  # steps that are not compositional
    not_random, clean = plan.random_id < 1, plan.random_id < 1 and plan.noised_id < 1
    reconstructs = others and plan.distillation < 1
    share, composed_share = plan.background_reconstruction, plan.background_compositional
    has = {
        "random_id": others and distils and plan.random_id > 0,
        "noised_id": others and distils and not_random and plan.noised_id > 0,
        "clean_id, teacher's noise": others and distils and clean and plan.teacher_target > 0,
        "clean_id, true noise": others and distils and clean and plan.teacher_target < 1,
        "reconstruction": reconstructs and share < 1,
        "reconstruction with background": reconstructs and share > 0,
        "compositional": composes and composed_share < 1,
        "compositional with background": composes and composed_share > 0,
    }
    return [kind for kind in KINDS if has[kind]]


def random_samples(models: FrozenModels, encoder: AdaFaceEncoder, count: int, seed: int = 0) -> dict[str, Any]:
    """A batch as `data_pipeline.stream.collate` makes it: noise for pictures, a person in the middle of each."""
    generator = torch.Generator().manual_seed(seed)
    shrinks = len(models.vae.config.block_out_channels) - 1  # the VAE halves the side so many times
    side = models.unet.config.sample_size << shrinks
    person = torch.zeros(count, side, side, dtype=torch.uint8)
    person[:, side // 4 :, side // 4 : -side // 4] = 1
    ids = F.normalize(torch.randn(count, encoder.config.id_dim, generator=generator), dim=-1)
    return {
        "key": [f"{number:06d}" for number in range(count)],
        "image": torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator),
        "person_mask": person,
        "valid_mask": torch.ones_like(person),
        "has_person_mask": torch.ones(count, dtype=torch.bool),
        "id_embedding": ids,
        "person_type": ["young woman"] * count,
    }
