"""The base's VAE for the latents that are kept beside shards: `ray_jobs/cache_latents.py`."""

from __future__ import annotations

import numpy as np
import torch

from adaface.model_path import model_path
from adaface.models.precision import Precision, autocast
from adaface.models.whole import load_model


class LatentEncoder:
    """Pictures -> means and deviations of the VAE's posterior, which training draws its latents from.

    Args:
        base: a diffusers folder of Stable Diffusion 1.5's kind, or a name of the hub.
        precision: of the matrix products: "bf16" by autocast, "fp32", or "auto".
    """

    def __init__(self, base: str, *, device: torch.device | str = "cpu", precision: Precision = "fp32") -> None:
        from diffusers import AutoencoderKL

        path = model_path(base)
        place = str(path) if path.exists() else base
        vae = load_model(AutoencoderKL, place, "VAE", subfolder="vae", dtype=torch.float32, low_cpu_mem_usage=False)
        self._device, self._precision = torch.device(device), precision
        self._vae = vae.requires_grad_(False).eval().to(self._device)

    @torch.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 RGB -> (B, 8, h, w) float32, not scaled: four channels of means, four of deviations."""
        pixels = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with autocast(self._device, self._precision):
            posterior = self._vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1).float().cpu().numpy()
