"""Noise schedule, weights of the loss, sampling."""

import pytest
import torch
from torch import nn

from adaface.miniature.networks.diffusion import draw_timesteps, loss_weights, noise_scheduler, sample


class Ideal(nn.Module):
    """The noise predictor of a world that holds one picture per condition: its value is the first number of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = noise_scheduler().alphas_cumprod

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, states: torch.Tensor):
        a = self.alphas[t]
        clean = states[:, 0, 0].view(-1, 1, 1, 1)
        return type("Output", (), {"sample": (noisy - a.sqrt() * clean) / (1 - a).sqrt()})()


def test_the_schedule_is_that_of_stable_diffusion():
    alphas = noise_scheduler().alphas_cumprod
    # sd-v1-5: the first and the last of its thousand steps
    assert alphas[0].item() == pytest.approx(1 - 0.00085, abs=1e-6)
    assert alphas[-1].item() == pytest.approx(0.00466, abs=1e-5)


def test_sampling_ends_at_the_picture_of_the_condition():
    states = torch.zeros(3, 77, 8)
    states[:, 0, 0] = torch.tensor([-0.5, 0.2, 0.9])
    latents = sample(Ideal(), states, torch.zeros(1, 77, 8), steps=10, guidance=1.0, seed=1)
    for row, value in zip(latents, (-0.5, 0.2, 0.9), strict=True):
        assert row.mean().item() == pytest.approx(value, abs=0.01)
        # as in SD-1.5 the last step ends at the first noise level, not at none: sqrt(0.00085) = 0.029
        assert row.std().item() == pytest.approx(0.029, abs=0.003)


def test_guidance_moves_past_the_condition():
    states = torch.zeros(1, 77, 8)
    states[:, 0, 0] = 0.3
    empty = torch.zeros(1, 77, 8)
    mild, strong = (sample(Ideal(), states, empty, steps=20, guidance=g, seed=1).mean() for g in (1.0, 3.0))
    assert strong > 2 * mild


def test_equal_seeds_and_any_batch_size_give_equal_latents():
    states = torch.zeros(5, 77, 8)
    settings = {"steps": 4, "guidance": 2.0, "seed": 3}
    whole = sample(Ideal(), states, states[:1], **settings)
    torch.testing.assert_close(whole, sample(Ideal(), states, states[:1], batch=2, **settings))
    assert not torch.allclose(whole, sample(Ideal(), states, states[:1], steps=4, guidance=2.0, seed=4))


def test_high_noise_weighs_more_than_min_snr_gives_it():
    scheduler = noise_scheduler()
    weights = loss_weights(scheduler)
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    plain = snr.clamp(max=5) / snr
    assert weights.shape == (1000,) and (weights >= plain).all()
    assert weights[-1] == pytest.approx(5 * plain[-1].item(), rel=1e-5)  # at its cap
    assert weights[0] == pytest.approx(plain[0].item(), rel=0.01)


def test_half_of_the_draws_with_little_noise_are_drawn_again():
    t = draw_timesteps(200_000, torch.Generator().manual_seed(0))
    assert t.min() == 0 and t.max() == 999
    assert (t < 250).float().mean() == pytest.approx(0.125, abs=0.005)
