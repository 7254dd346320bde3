"""Gaussian diffusion (Ho et al. 2020): how much of a picture and how much noise there is at a timestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = sqrt(ᾱ_t)·x_0 + sqrt(1 - ᾱ_t)·ε, ᾱ_t the product of 1 - β up to t.

    Attributes:
        alphas_cumprod: float64 (T,), ᾱ_t, falling.
        signal: float32 (T,), sqrt(ᾱ_t).
        noise: float32 (T,), sqrt(1 - ᾱ_t).
    """

    alphas_cumprod: Tensor
    signal: Tensor
    noise: Tensor

    @classmethod
    def of(cls, alphas_cumprod: Tensor) -> NoiseSchedule:
        """From ᾱ (T,) of any floating dtype. Raises ValueError unless it falls within (0, 1)."""
        kept = alphas_cumprod.double()
        if kept.ndim != 1 or not len(kept) or not (kept.min() > 0 and kept.max() < 1) or (kept.diff() >= 0).any():
            raise ValueError("alphas_cumprod must be a falling row of numbers between 0 and 1")
        return cls(kept, kept.sqrt().float(), (1 - kept).sqrt().float())

    @classmethod
    def sd15(cls, timesteps: int = 1000, first: float = 0.00085, last: float = 0.012) -> NoiseSchedule:
        """Stable Diffusion 1.5's, Arc2Face's and the miniature's: "scaled linear", sqrt(β) rises evenly."""
        betas = torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64) ** 2
        return cls.of(torch.cumprod(1 - betas, dim=0))

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> NoiseSchedule:
        """From one of diffusers' schedulers. Raises ValueError where its UNet predicts something else than noise."""
        prediction = scheduler.config.get("prediction_type", "epsilon")
        if prediction != "epsilon":
            raise ValueError(
                f"this UNet predicts {prediction!r}; the steps of distillation are written for predicted noise (epsilon)"
            )
        return cls.of(scheduler.alphas_cumprod.cpu())

    @property
    def timesteps(self) -> int:
        """T, 1000 for Stable Diffusion."""
        return len(self.signal)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """With its tables on this device, where the latents are."""
        return NoiseSchedule(self.alphas_cumprod.to(device), self.signal.to(device), self.noise.to(device))

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(ᾱ_t)·x_0 + sqrt(1 - ᾱ_t)·ε.

        Args:
            x_start: (B, ...) clean latents on the schedule's device.
            t: int64 (B,), 0..T-1.
            noise: as `x_start`.

        Returns:
            As `x_start`; float32 at least.
        """
        return _rows(self.signal, t, x_start) * x_start + _rows(self.noise, t, x_start) * noise

    def x_start_of(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x̂_0 = (x_t - sqrt(1 - ᾱ_t)·ε̂) / sqrt(ᾱ_t), not clipped; shapes as in `q_sample`."""
        return (x_t - _rows(self.noise, t, x_t) * noise) / _rows(self.signal, t, x_t)


def _rows(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """(B, 1, 1, ...): the entries of a table at t, one per row of `like`."""
    return table[t].view(-1, *[1] * (like.ndim - 1))
