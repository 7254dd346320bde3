"""The VAE: how much of a picture, and of a person, survives being encoded and decoded."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.networks.vae import to_images, to_tensor
from adaface.miniature.pictures.rendered import Chunk
from adaface.perception.classes import CLASS_NAMES

_EYES = [CLASS_NAMES.index("l_eye"), CLASS_NAMES.index("r_eye")]
_BATCH = 50


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """uint8 (B, 64, 64, 3) -> the same through the mean of the posterior."""
    device = next(vae.parameters()).device
    parts = [vae.decode(vae.encode(x).latent_dist.mean).sample for x in to_tensor(images, device).split(_BATCH)]
    return to_images(torch.cat(parts))


def reconstruction_rows(vae: AutoencoderKL, pictures: Chunk) -> dict[str, float]:
    """PSNR in dB (mean over pictures), over plain photographs and scenes apart, and the mean error (0..255) on eyes."""
    images = np.asarray(pictures["image"])
    again = reconstruct(vae, images)
    psnr = -10 * np.log10(np.square((images.astype(np.float64) - again) / 255).mean((1, 2, 3)))
    plain = np.asarray(pictures["scene"]).sum(1) == 0
    eyes = np.isin(pictures["classes"], _EYES)
    return {
        "psnr": round(float(psnr.mean()), 3),
        "psnr_plain": round(float(psnr[plain].mean()), 3),
        "psnr_scenes": round(float(psnr[~plain].mean()), 3),
        "eye_error": round(float(np.abs(images.astype(int) - again)[eyes].mean()), 3),
    }


def identity_kept(vae: AutoencoderKL, photos: np.ndarray, reader: FaceReader) -> dict[str, float]:
    """Cosine of one photograph, re-encoded, to another of the same person, as a share of the plain cosine.

    `photos` uint8 (P, 2, 64, 64, 3).
    """
    first, second = photos[:, 0], photos[:, 1]
    known, plain, again = reader.read(second), reader.read(first), reader.read(reconstruct(vae, first))
    out: dict[str, float] = {}
    for name in ("pack", "judge"):
        real = float((plain.of(name) * known.of(name)).sum(1).mean())
        kept = float((again.of(name) * known.of(name)).sum(1).mean())
        out |= {
            f"real_{name}": round(real, 4),
            f"kept_{name}": round(kept, 4),
            f"kept_share_{name}": round(kept / real, 4),
        }
    return out


@torch.inference_mode()
def latent_scale(vae: AutoencoderKL, images: np.ndarray) -> float:
    """One over the standard deviation of the latents: what makes them unit variance for a diffusion model."""
    device = next(vae.parameters()).device
    latents: list[Tensor] = [vae.encode(x).latent_dist.mean for x in to_tensor(images, device).split(_BATCH)]
    return float(1 / torch.cat(latents).std())
