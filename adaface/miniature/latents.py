"""The latents of the portrait sets: encoded once per VAE, kept beside the pictures."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from adaface.miniature.recipes.vae import to_tensor
from adaface.miniature.rendered import Chunk, rendered_set

_ROWS = 1200  # of one chunk; divides the sizes of the portrait sets


def latents_of(data: Path, weights: Path, name: str) -> np.ndarray:
    """float16 (N, 4, 16, 16), scaled to unit variance: the means of the VAE in `weights` for the set `data / name`."""
    file = weights / "vae" / "diffusion_pytorch_model.safetensors"
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; train the VAE first: python -m adaface.miniature.train vae")
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    rows = len(np.load(data / name / "image.npy", mmap_mode="r"))
    made = rendered_set(data, f"{name}-latents-{key}", partial(_encode, data / name, weights / "vae"), rows // _ROWS)
    return made["latents"]


@torch.inference_mode()
def _encode(pictures: Path, vae_folder: Path, chunk: int) -> Chunk:
    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).eval()
    images = np.load(pictures / "image.npy", mmap_mode="r")[chunk * _ROWS : (chunk + 1) * _ROWS]
    parts = [vae.encode(part).latent_dist.mean for part in to_tensor(images, torch.device("cpu")).split(100)]
    return {"latents": (torch.cat(parts) * vae.config.scaling_factor).numpy().astype(np.float16)}
