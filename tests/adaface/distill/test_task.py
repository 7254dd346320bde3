"""The module that is trained: its parameters are the encoder's, and a batch goes where its kind says."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adaface.distill.plan import KINDS
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import samples, stage_of, task_of


def test_its_parameters_are_the_encoders(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("compositional"))
    names = {name.removeprefix("encoder.") for name, _ in task.named_parameters()}
    assert names == {name for name, _ in task.encoder.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_repeats_itself(tiny: Tiny, kind: str) -> None:
    """A batch of the plan is the same loss, bit by bit, however often and after whatever else it is asked for."""
    task = task_of(tiny, stage_of(kind))
    batch = task.plan.step(3).batches[0]
    assert batch.kind == kind
    first, numbers = task(batch, samples(0, 2), 0)
    task(task.plan.step(0).batches[0], samples(2, 2), 0)
    torch.rand(7)  # nothing comes from the stream that all share
    again, same_numbers = task(batch, samples(0, 2), 0)
    assert torch.equal(first, again) and torch.isfinite(first) and first.ndim == 0
    assert {name: float(value) for name, value in numbers.items()} == {
        name: float(value) for name, value in same_numbers.items()
    }


@pytest.mark.parametrize("kind", ["reconstruction", "compositional"])
def test_without_features_prompts_have_no_background(tiny: Tiny, kind: str) -> None:
    task = task_of(tiny, stage_of(kind))
    batch = task.plan.step(0).batches[0]
    with_, without = (
        task(dataclasses.replace(batch, background=background), samples(0, 2), 0)[0] for background in (True, False)
    )
    assert torch.equal(with_, without)


def test_a_batch_is_whole_groups(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("clean_id"))
    with pytest.raises(ValueError, match="groups of 2 samples"):
        task(task.plan.step(0).batches[0], samples(0, 3), 0)
