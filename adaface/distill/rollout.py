"""Several denoising steps of the teacher, whose predictions the student learns at the very same noisy latents.

The teacher denoises in one go, noise is put back at a lower timestep, and so on (D:2907-2987). Every x_t on this path is
kept and given to the student. The original gives it another x_t in the first step, see `student_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaface.distill.draws import Generators, normal, uniform
from adaface.distill.noise_schedule import NoiseSchedule
from adaface.distill.timesteps import next_timesteps

Predict = Callable[[Tensor, Tensor], Tensor]  # x_t (B, C, H, W), t int64 (B,) -> noise (B, C, H, W)


@dataclass(frozen=True)
class RolloutStep:
    """One step of the teacher; all tensors (B, C, H, W) but t, int64 (B,). Nothing has a gradient.

    Attributes:
        x_t: what the teacher saw, and the student is to see.
        t: its timesteps.
        target: the noise that the teacher predicted.
        noise: the noise that was put in.
        x_start: the clean latents that x_t was made of: the picture, later what the teacher predicted before.
        denoised: the clean latents that follow from `target`.
    """

    x_t: Tensor
    t: Tensor
    target: Tensor
    noise: Tensor
    x_start: Tensor
    denoised: Tensor


@torch.no_grad()
def teacher_rollout(
    predict: Predict,
    schedule: NoiseSchedule,
    x_start: Tensor,
    t: Tensor,
    noise: Tensor,
    steps: int,
    generators: Generators = (),
) -> list[RolloutStep]:
    """Denoise, put fresh noise in at a lower timestep, denoise again, so many times.

    Args:
        predict: the teacher's UNet with its condition.
        schedule: on the device of the latents.
        x_start: (B, C, H, W) clean latents, or pure noise.
        t: int64 (B,) first timesteps, `rollout_start` of those drawn; best on the CPU, where nothing waits for them.
        noise: (B, C, H, W) for the first step.
        generators: one per sample, for the later steps; read only where there are any.

    Returns:
        `steps` steps, the first at `t`.

    Raises:
        ValueError: for no step, or too few generators.
    """
    if steps < 1 or (steps > 1 and len(generators) != len(x_start)):
        raise ValueError(
            f"a rollout takes 1 step or more and a generator per sample, not {steps} steps and {len(generators)} "
            f"generators for {len(x_start)} samples"
        )
    done: list[RolloutStep] = []
    device, at = x_start.device, t.cpu()
    for step in range(steps):
        if step:
            at = next_timesteps(at, steps, uniform(generators))
            noise = normal(generators, x_start.shape[1:], device=device)
        t = at.to(device)
        x_t = schedule.q_sample(x_start, t, noise)
        target = predict(x_t, t).float()
        denoised = schedule.x_start_of(x_t, t, target)
        done.append(RolloutStep(x_t, t, target, noise, x_start, denoised))
        x_start = denoised
    return done


def student_steps(
    steps: Sequence[RolloutStep], schedule: NoiseSchedule, *, index_slip: bool = False
) -> list[RolloutStep]:
    """What the student is shown for each step of the teacher: the same x_t.

    Args:
        index_slip: the original's slip (D:2984): its first x_t is made of the teacher's *last* prediction, by an index
            of -1, while the target belongs to the x_t of the picture. For rollouts of one step that is every step.
    """
    if not index_slip:
        return list(steps)
    first, last = steps[0], steps[-1]
    x_t = schedule.q_sample(last.denoised, first.t, first.noise)
    return [replace(first, x_t=x_t, x_start=last.denoised), *steps[1:]]


@torch.no_grad()
def sampled_latents(predict: Predict, schedule: NoiseSchedule, noise: Tensor, steps: int = 4) -> Tensor:
    """Clean latents from pure noise by a few steps of DDIM (Song et al. 2021, eta 0), float32 as `noise`.

    For people of whom there is no picture: what comes out is a picture as the teacher draws them, to start rollouts
    from at any timestep.
    """
    ladder = torch.linspace(schedule.timesteps - 1, 0, steps + 1).round().long()[:-1].tolist()
    x_t, denoised = noise, noise
    for place, at in enumerate(ladder):
        t = torch.full((len(noise),), at, device=noise.device)
        predicted = predict(x_t, t).float()
        denoised = schedule.x_start_of(x_t, t, predicted)
        if place + 1 < len(ladder):
            x_t = schedule.q_sample(denoised, torch.full_like(t, ladder[place + 1]), predicted)
    return denoised
