"""Distillation: who sees which noisy latents, what is learned from, and what is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaface.distill.stage import Stage
from adaface.distill.stage1 import DistillationSettings, snr_weights, teacher_of, teacher_states
from adaface.distill.task import DistillTask
from adaface.distill.weights import LossWeights
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import SEED, samples, stage_of, task_of

KINDS = ["random_id", "noised_id", "clean_id"]
ROLLOUT = {"rollouts": [3], "rollout_shares": [1.0], "shrink": False, "teacher_target": 1.0}


@contextmanager
def seen_by(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(x_t, t) of each call."""
    calls: list[tuple[Tensor, Tensor]] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: calls.append((inputs[0].detach(), inputs[1])))
    try:
        yield calls
    finally:
        hook.remove()


def loss_of(
    task: DistillTask, given: dict[str, Any], first: int = 0, **batch: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    planned = dataclasses.replace(task.plan.step(0).batches[0], **batch)
    return task(planned, given, first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_student_sees_the_teachers_own_latents(tiny: Tiny, kind: str) -> None:
    task = task_of(tiny, stage_of(kind, plan=ROLLOUT))
    with seen_by(tiny.models.teacher) as teacher, seen_by(tiny.models.unet) as student:
        loss_of(task, samples(0, 2))
    assert len(teacher) == 3 and len(student) == 1, "the student answers all steps at once"
    assert torch.equal(student[0][0], torch.cat([x for x, _ in teacher]))
    assert torch.equal(student[0][1], torch.cat([t for _, t in teacher]))
    times = torch.stack([t for _, t in teacher])
    assert bool((times[1:] < times[:-1]).all()), "steps go down"


def test_the_originals_slip_shows_the_student_something_else_first(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("clean_id", plan=ROLLOUT, distillation=DistillationSettings(index_slip=True)))
    with seen_by(tiny.models.teacher) as teacher, seen_by(tiny.models.unet) as student:
        loss_of(task, samples(0, 2))
    first, *rest = student[0][0].chunk(3)
    assert not torch.allclose(first, teacher[0][0])
    assert torch.equal(torch.cat(rest), torch.cat([x for x, _ in teacher[1:]]))


def test_the_true_noise_is_asked_of_the_student_alone(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("clean_id", plan={"teacher_target": 0.0}))
    with seen_by(tiny.models.teacher) as teacher, seen_by(tiny.models.unet) as student:
        loss_of(task, samples(0, 2))
    assert not teacher and len(student) == 1


@pytest.mark.parametrize("start", ["high", "sampled", "anywhere"])
def test_random_faces_start_where_they_should(tiny: Tiny, start: str) -> None:
    task = task_of(tiny, stage_of("random_id", plan={**ROLLOUT, "random_start": start}))
    with seen_by(tiny.models.teacher) as teacher:
        loss_of(task, samples(0, 2))
    times = [t for _, t in teacher]
    assert len(times) == (3 if start != "sampled" else 7), "four steps draw a picture first"
    if start == "high":
        assert int(times[0].min()) >= 950


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_encoder_and_nothing_else(tiny: Tiny, kind: str) -> None:
    task = task_of(tiny, stage_of(kind, plan=ROLLOUT))
    loss, numbers = loss_of(task, samples(0, 2))
    loss.backward()
    assert torch.isfinite(loss) and not any(value.requires_grad for value in numbers.values())
    models = tiny.models
    for network in (models.unet, models.text, models.vae, models.teacher, task.encoder.teacher):
        assert all(parameter.grad is None for parameter in network.parameters())
    without = {name for name, p in task.encoder.named_parameters() if p.requires_grad and p.grad is None}
    assert not without


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_sees_the_same_noise_in_another_layout(tiny: Tiny, kind: str) -> None:
    """Losses of two workers with a group each have the mean that one worker with both groups has."""
    task = task_of(tiny, stage_of(kind, plan=ROLLOUT))
    whole, _ = loss_of(task, samples(0, 4))
    halves = [loss_of(task, samples(first, 2), first)[0] for first in (0, 2)]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-5, atol=0)
    assert not torch.allclose(halves[0], halves[1])


def test_faces_that_nobody_has_do_not_depend_on_the_photo(tiny: Tiny) -> None:
    task = task_of(tiny, stage_of("random_id", plan=ROLLOUT))
    assert torch.equal(loss_of(task, samples(0, 2))[0], loss_of(task, samples(50, 2))[0])
    clean = task_of(tiny, stage_of("clean_id", plan=ROLLOUT))
    assert not torch.equal(loss_of(clean, samples(0, 2))[0], loss_of(clean, samples(50, 2))[0])


def test_only_the_person_of_a_photo_is_learned_from(tiny: Tiny) -> None:
    """Where the mask says background, or border, the student's noise counts nothing."""
    task = task_of(tiny, stage_of("clean_id", plan=ROLLOUT))
    nobody = samples(0, 2)
    nobody["person_mask"] = torch.zeros_like(nobody["person_mask"])
    assert loss_of(task, nobody)[0].item() == 0
    border = samples(0, 2)
    border["valid_mask"] = torch.zeros_like(border["valid_mask"])
    assert loss_of(task, border)[0].item() == 0
    around = task_of(tiny, stage_of("clean_id", plan=ROLLOUT, losses=LossWeights(pixels_of_teacher=0.5)))
    assert loss_of(around, nobody)[0].item() > 0
    everybody = task_of(tiny, stage_of("random_id", plan=ROLLOUT))
    assert loss_of(everybody, nobody)[0].item() > 0, "faces that nobody has fill the picture"


def test_the_teacher_may_be_guided(tiny: Tiny) -> None:
    encoder = tiny.encoder()
    ids = torch.nn.functional.normalize(torch.randn(2, 192, generator=torch.Generator().manual_seed(1)), dim=-1)
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([300, 700])
    with_ = teacher_of(tiny.models, encoder, ids, 1.0)(x, t)
    without = teacher_of(tiny.models, encoder, torch.zeros(2, 192), 1.0)(x, t)
    guided = teacher_of(tiny.models, encoder, ids, 2.5)(x, t)
    torch.testing.assert_close(guided, without + 2.5 * (with_ - without), rtol=1e-4, atol=1e-5)


def test_the_teacher_reads_its_prompt_padded_to_the_window(tiny: Tiny) -> None:
    encoder = tiny.encoder()
    ids = torch.eye(192)[:2]
    tokenizer = tiny.models.tokenizer
    tokens = tokenizer("photo of a id person", padding="max_length", max_length=77, return_tensors="pt").input_ids
    embeddings = encoder.teacher.get_input_embeddings()
    hook = embeddings.register_forward_hook(
        lambda _, inputs, output: torch.where((tokens == tokens[0, 4])[..., None], ids[:, None], output)
    )
    expected = encoder.teacher(tokens.expand(2, -1)).last_hidden_state
    hook.remove()
    torch.testing.assert_close(teacher_states(tiny.models, encoder, ids), expected)


def test_weights_by_signal_to_noise(tiny: Tiny) -> None:
    alphas = tiny.models.schedule.alphas_cumprod
    t = torch.tensor([0, 200, 999])
    snr = (alphas / (1 - alphas))[t].float()
    expected = snr.clamp(max=5) / snr * (1 + 1 / snr).sqrt().clamp(max=5)
    torch.testing.assert_close(snr_weights(tiny.models, t), expected, check_dtype=False)
    assert float(expected[2]) == 5
    even, weighted = (
        loss_of(task_of(tiny, stage_of("clean_id", plan=ROLLOUT, distillation=settings)), samples(0, 2))
        for settings in (DistillationSettings(), DistillationSettings(timestep_weights="snr"))
    )
    assert not torch.equal(even[0], weighted[0])
    assert torch.equal(even[1]["recon"], weighted[1]["recon"]), "what is logged has no weights"


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"(?s)teacher_guidance must be 1 or more.*timestep_weights"):
        DistillationSettings(teacher_guidance=0.5, timestep_weights="odd")  # type: ignore[arg-type]


def test_another_seed_draws_something_else(tiny: Tiny) -> None:
    stage: Stage = stage_of("clean_id", plan=ROLLOUT)
    encoder = tiny.encoder()
    losses = [
        loss_of(DistillTask(tiny.models, encoder, stage, seed=seed), samples(0, 2), rollout=3)[0].item()
        for seed in (SEED, SEED, SEED + 1)
    ]
    assert losses[0] == losses[1] != losses[2]
