"""The teacher's steps, and what the student is shown of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from adaface.distill.draws import normal, torch_generator
from adaface.distill.noise_schedule import NoiseSchedule
from adaface.distill.rollout import sampled_latents, student_steps, teacher_rollout

SCHEDULE = NoiseSchedule.sd15()
SHAPE = (4, 6, 6)


def streams(purpose: str, *slots: int) -> list[torch.Generator]:
    return [torch_generator(purpose, slot) for slot in slots]


def predict(x_t: Tensor, t: Tensor) -> Tensor:
    return 0.5 * torch.tanh(x_t) + t[:, None, None, None] / 2000


def rollout(steps: int, *slots: int):
    count = len(slots)
    t = torch.tensor([700, 650, 999])[list(slots)]
    x, noise = normal(streams("x", *slots), SHAPE), normal(streams("noise", *slots), SHAPE)
    done = teacher_rollout(predict, SCHEDULE, x, t, noise, steps, streams("later", *slots))
    assert len(done) == steps and done[0].x_t.shape == (count, *SHAPE)
    return done, x, noise


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_path_is_denoised_and_noised_again(steps):
    done, x, noise = rollout(steps, 0, 1, 2)
    assert torch.equal(done[0].x_start, x) and torch.equal(done[0].noise, noise)
    for before, after in pairwise(done):
        assert torch.equal(after.x_start, before.denoised) and (after.t < before.t).all()
        assert not torch.equal(after.noise, before.noise)
    for step in done:
        assert torch.equal(step.x_t, SCHEDULE.q_sample(step.x_start, step.t, step.noise))
        assert torch.equal(step.target, predict(step.x_t, step.t))
        torch.testing.assert_close(SCHEDULE.q_sample(step.denoised, step.t, step.target), step.x_t, atol=1e-5, rtol=0)


def test_the_student_sees_the_teachers_own_latents():
    done, _, _ = rollout(5, 0, 1)
    for teacher, student in zip(done, student_steps(done, SCHEDULE), strict=True):
        assert torch.equal(student.x_t, teacher.x_t) and torch.equal(student.target, teacher.target)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_index_slip_changes_the_first_latents_only(steps):
    done, _, _ = rollout(steps, 0, 1)
    slipped = student_steps(done, SCHEDULE, index_slip=True)
    first = slipped[0]
    assert torch.equal(first.x_t, SCHEDULE.q_sample(done[-1].denoised, done[0].t, done[0].noise))
    assert torch.equal(first.target, done[0].target) and torch.equal(first.t, done[0].t)
    assert slipped[1:] == done[1:]
    if steps == 1:  # off by sqrt(1 - ᾱ)·(ε - ε̂), as the original is
        off = SCHEDULE.noise[first.t][:, None, None, None] * (done[0].noise - done[0].target)
        torch.testing.assert_close(first.x_t - done[0].x_t, off, atol=1e-5, rtol=0)


def test_a_sample_does_not_depend_on_its_batch():
    together, _, _ = rollout(3, 0, 1, 2)
    alone, _, _ = rollout(3, 2)
    for all_three, one in zip(together, alone, strict=True):
        assert torch.equal(all_three.x_t[2:], one.x_t) and torch.equal(all_three.t[2:], one.t)


def test_nothing_of_the_teacher_has_a_gradient():
    weight = torch.ones(1, requires_grad=True)
    x = torch.randn(2, *SHAPE, requires_grad=True)
    done = teacher_rollout(
        lambda x_t, t: weight * x_t, SCHEDULE, x, torch.tensor([500, 600]), torch.randn(2, *SHAPE), 1
    )
    assert not any(part.requires_grad for part in (done[0].x_t, done[0].target, done[0].denoised))
    # and its tensors may stand in a loss
    (weight * done[0].x_t - done[0].target).square().mean().backward()
    assert weight.grad is not None


def test_a_perfect_teacher_samples_its_picture():
    picture = normal(streams("picture", 0, 1), SHAPE)

    def knows(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = (table[t][:, None, None, None] for table in (SCHEDULE.signal, SCHEDULE.noise))
        return (x_t - signal * picture) / noise

    for steps in (1, 4):
        found = sampled_latents(knows, SCHEDULE, normal(streams("noise", 0, 1), SHAPE), steps)
        torch.testing.assert_close(found, picture, atol=1e-3, rtol=0)


def test_samplers_go_down_from_the_highest_timestep():
    seen: list[int] = []

    def watch(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return x_t

    sampled_latents(watch, SCHEDULE, torch.zeros(1, *SHAPE), 4)
    assert seen == [999, 749, 500, 250]


def test_too_few_streams_are_refused():
    x = torch.zeros(2, *SHAPE)
    for steps, count in ((0, 2), (3, 1), (3, 0)):
        with pytest.raises(ValueError, match="a generator per sample"):
            teacher_rollout(predict, SCHEDULE, x, torch.tensor([5, 5]), x, steps, streams("later", *range(count)))


def test_it_runs_where_the_latents_are():
    """On "meta", where nothing is computed, a tensor that stayed on the CPU is an error."""
    schedule, x = SCHEDULE.to("meta"), torch.zeros(2, *SHAPE, device="meta")
    done = teacher_rollout(predict, schedule, x, torch.tensor([900, 950]), x, 3, streams("later", 0, 1))
    slipped = student_steps(done, schedule, index_slip=True)
    assert {part.device.type for step in (*done, *slipped) for part in (step.x_t, step.t, step.target)} == {"meta"}
    assert sampled_latents(predict, schedule, x).device.type == "meta"
