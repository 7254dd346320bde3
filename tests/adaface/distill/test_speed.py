"""Operations of the UNets as they are counted, against those of a step that is made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adaface.distill.plan import BatchPlan
from adaface.distill.speed import FlopCount, memory_gb, passes_of, peak_flops
from adaface.distill.weights import LossWeights
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import samples, stage_of, task_of

UNCOUNTED: dict[str, Any] = {"guidance": False, "candidates": 2, "teachable": 0.5}


def first_batch(tiny: Tiny, kind: str, **plan: Any) -> tuple[Any, BatchPlan]:
    task = task_of(tiny, stage_of(kind, plan=plan))
    return task, task.plan.step(0).batches[0]


@pytest.mark.parametrize("kind", ["clean_id", "random_id"])
def test_a_step_has_the_operations_that_are_counted(tiny: Tiny, kind: str) -> None:
    plan = {"rollouts": [3], "rollout_shares": [1.0], "shrink": False, "teacher_target": 1.0}
    task, batch = first_batch(tiny, kind, **plan)
    counts = FlopCount(tiny.models)
    with FlopCounterMode(display=False) as counter:
        task(batch, samples(0, 2), 0)[0].backward()
    made = sum(counter.get_flop_counts()["UNet2DConditionModel"].values())
    # the student's first layers, before any text comes in, need no backward pass
    assert made == pytest.approx(counts.of_batch(batch, 2, **UNCOUNTED), rel=0.05)


def test_what_a_batch_costs(tiny: Tiny) -> None:
    counts = FlopCount(tiny.models)
    once = counts.forward
    _, noise = first_batch(tiny, "clean_id", teacher_target=0.0)
    assert counts.of_batch(noise, 4, **UNCOUNTED) == 4 * 2 * once
    taught = dataclasses.replace(noise, target="teacher", rollout=3)
    assert counts.of_batch(taught, 4, **UNCOUNTED) == 4 * 3 * 3 * once
    assert counts.of_batch(taught, 4, **{**UNCOUNTED, "guidance": True}) == 4 * 3 * 4 * once
    _, composed = first_batch(tiny, "compositional")
    assert counts.of_batch(composed, 1, **UNCOUNTED) == (2 * 3 + 0.5 * 8) * once


def test_starts_are_counted_where_they_are_looked_for() -> None:
    inside = stage_of("compositional")
    assert passes_of(inside, {"teachable": 0.5}, filters=True) == {
        "guidance": False,
        "candidates": 2,
        "teachable": 0.5,
    }
    assert passes_of(inside, {}, filters=False) == {"guidance": False, "candidates": 0, "teachable": 1.0}
    outside = stage_of("compositional", losses=LossWeights().without("elastic_matching", "deltas", "cross_layer"))
    assert passes_of(outside, {}, filters=True) == {"guidance": False, "candidates": 0, "teachable": 0.0}


def test_what_is_known_of_the_machine() -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert 0.05 < memory_gb(torch.device("cpu")) < 1000
