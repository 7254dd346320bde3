"""Noise in, noise out, and the schedules of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from adaface.distill.noise_schedule import NoiseSchedule
from adaface.miniature.networks.diffusion import noise_scheduler

T = torch.tensor([0, 400, 999])


def latents(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_one_of_the_miniature_and_of_diffusers():
    ours, scheduler = NoiseSchedule.sd15(), noise_scheduler()
    torch.testing.assert_close(
        ours.q_sample(latents(0), T, latents(1)), scheduler.add_noise(latents(0), latents(1), T), atol=2e-6, rtol=0
    )
    theirs = NoiseSchedule.from_scheduler(scheduler)
    torch.testing.assert_close(theirs.alphas_cumprod, ours.alphas_cumprod, atol=1e-6, rtol=1e-4)
    assert ours.timesteps == theirs.timesteps == 1000


def test_the_right_noise_leads_back_to_the_picture():
    schedule = NoiseSchedule.sd15()
    x_t = schedule.q_sample(latents(0), T, latents(1))
    torch.testing.assert_close(schedule.x_start_of(x_t, T, latents(1)), latents(0), atol=1e-4, rtol=0)


def test_noise_is_added_in_float32_at_least():
    schedule = NoiseSchedule.sd15()
    assert schedule.q_sample(latents(0).half(), T, latents(1).half()).dtype == torch.float32


def test_other_predictions_and_tables_are_refused():
    with pytest.raises(ValueError, match="predicts 'v_prediction'"):
        NoiseSchedule.from_scheduler(DDPMScheduler(prediction_type="v_prediction"))
    for table in ([0.9, 0.95], [1.0, 0.5], [0.5, 0.0], []):
        with pytest.raises(ValueError, match="falling row"):
            NoiseSchedule.of(torch.tensor(table))
